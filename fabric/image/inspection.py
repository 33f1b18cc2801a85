"""
Disks looked into by C{qemu-img}, in a child process that can't take much.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.command import NOT_THERE, Commands
from fabric.errors import InvalidValue, Unavailable
from fabric.image.header import DISK

SECONDS = 60.0
"""How long it may take."""

LIMITED = 'ulimit -v 2097152; ulimit -t 30; ulimit -f 0; exec qemu-img info --output=json -f "$0" "$1"'
"""Within 2 GiB of memory and 30 s of processor, and writing nothing."""

SECTOR = 512
"""Bytes of which disks have a whole number."""


class Inspector:
    """
    Asks C{qemu-img} what a guest would see of a disk.
    """

    def __init__(self, reactor: Any, largest: int, seconds: float = SECONDS) -> None:
        """
        @param largest: bytes of a disk that guests may be given.
        """
        self._commands = Commands(reactor, seconds)
        self._largest = largest

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
        finished = yield self._commands.run(["sh", "-c", LIMITED, format, path])
        status = finished.status
        if status == NOT_THERE:
            raise Unavailable("qemu-img", "it is not installed; it is in Debian's package qemu-utils")
        if status is None:
            raise InvalidValue(DISK, format, "looking into it took too long")
        if status:
            raise InvalidValue(
                DISK, format, _complaint(finished.complaint, path) or f"qemu-img ended with status {status}"
            )
        return self._size(finished.output, format)

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


def _complaint(text: str, path: str) -> str:
    """C{qemu-img}'s last line without the path, which is the store's own affair."""
    lines = text.splitlines()
    return lines[-1].replace(f"Could not open '{path}': ", "").removeprefix("qemu-img: ") if lines else ""
