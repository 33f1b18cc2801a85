"""
Disks looked into by C{qemu-img}, in a child process that can't take much.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from fabric.errors import InvalidValue, Unavailable
from fabric.image.header import DISK

SECONDS = 60.0
"""How long it may take."""

LIMITED = 'ulimit -v 2097152; ulimit -t 30; ulimit -f 0; exec qemu-img info --output=json -f "$0" "$1"'
"""Within 2 GiB of memory and 30 s of processor, and writing nothing."""

NOT_THERE = 127
"""The shell's status for a command that is not installed."""

SECTOR = 512
"""Bytes of which disks have a whole number."""

LONGEST = 1 << 20
"""Bytes of what it may say."""


class _Run(ProcessProtocol):
    """
    One run; C{ended} fires with its status, None when it was killed.
    """

    def __init__(self) -> None:
        self.ended: Deferred[int | None] = Deferred()
        self.out = b""
        self.complaint = b""

    def outReceived(self, data: bytes) -> None:
        """What it found."""
        self.out = (self.out + data)[:LONGEST]

    def errReceived(self, data: bytes) -> None:
        """What it complains of."""
        self.complaint = (self.complaint + data)[-500:]

    def processEnded(self, reason: Failure) -> None:
        """It is over."""
        self.ended.callback(reason.value.exitCode)  # type: ignore[union-attr]

    def kill(self) -> None:
        """End it."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")  # type: ignore[union-attr]


class Inspector:
    """
    Asks C{qemu-img} what a guest would see of a disk.
    """

    def __init__(self, reactor: Any, largest: int, seconds: float = SECONDS) -> None:
        """
        @param largest: bytes of a disk that guests may be given.
        """
        self._reactor = reactor
        self._largest = largest
        self._seconds = seconds

    @inlineCallbacks
    def disk_bytes(self, path: str, format: str, size: int) -> Generator[Deferred[Any], Any, int]:
        """
        A raw disk is what it is; of others C{qemu-img} is asked.

        @param format: as L{fabric.image.header.disk_format} has it.
        @param size: bytes of the file.
        @return: how large the disk is for a guest.
        @raise InvalidValue: it is no whole disk of that format, or too large.
        @raise Unavailable: C{qemu-img} is not there.
        """
        if format == "raw":
            return self._allowed(-(-size // SECTOR) * SECTOR, format)
        run = _Run()
        arguments = ["/bin/sh", "-c", LIMITED, format, path]
        self._reactor.spawnProcess(run, arguments[0], arguments, os.environ | {"LC_ALL": "C"})
        limit = self._reactor.callLater(self._seconds, run.kill)
        status = yield run.ended
        if limit.active():
            limit.cancel()
        if status == NOT_THERE:
            raise Unavailable("qemu-img", "it is not installed; it is in Debian's package qemu-utils")
        if status is None:
            raise InvalidValue(DISK, format, "looking into it took too long")
        if status:
            raise InvalidValue(DISK, format, _complaint(run.complaint, path) or f"qemu-img ended with status {status}")
        return self._size(run.out, format)

    def _size(self, out: bytes, format: str) -> int:
        try:
            found = json.loads(out)
            size = int(found["virtual-size"])
        except (ValueError, KeyError, TypeError):
            raise InvalidValue(DISK, format, "qemu-img can't tell what it is") from None
        if found.get("format") != format or _refers(found):
            raise InvalidValue(DISK, format, "it is not whole by itself")
        if found.get("encrypted"):
            raise InvalidValue(DISK, format, "it is encrypted")
        return self._allowed(size, format)

    def _allowed(self, size: int, format: str) -> int:
        if not 0 < size <= self._largest:
            raise InvalidValue(DISK, format, f"guests would see {size} bytes; at most {self._largest} are allowed")
        return size


def _refers(found: dict[str, Any]) -> bool:
    """Whether a disk names another file."""
    specific = found.get("format-specific", {}).get("data", {})
    return "backing-filename" in found or "data-file" in specific


def _complaint(text: bytes, path: str) -> str:
    """C{qemu-img}'s last line without the path, which is the store's own affair."""
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].replace(f"Could not open '{path}': ", "").removeprefix("qemu-img: ") if lines else ""
