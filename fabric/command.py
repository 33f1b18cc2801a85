"""
Commands of the host, as child processes that the reactor waits for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Where tools are, also for a service whose PATH has no sbin."""

NOT_THERE = 127
"""The status of a command that is not installed."""

LONGEST = 1 << 20
"""Bytes that are kept of what a command says, and of what it complains of."""


@attrs.frozen
class Finished:
    """
    A command that has ended.

    @ivar status: its exit status; None when it was killed, also for taking
        too long, or when the host had no room for a process.
    @ivar output, complaint: what it wrote; of the latter the end, in words.
    """

    status: int | None
    output: bytes
    complaint: str


class Commands:
    """
    Runs commands; they inherit no descriptors, and speak English.
    """

    def __init__(self, reactor: Any, seconds: float = 60.0) -> None:
        """
        @param reactor: spawns processes and keeps time.
        @param seconds: what runs for longer is killed.
        """
        self._reactor = reactor
        self._seconds = seconds

    def run(self, command: Sequence[str], text: bytes = b"") -> Deferred[Finished]:
        """
        @param command: its name or path, and its arguments.
        @param text: what it reads.
        @return: fires when it has ended, whatever its status; does not fail,
            but when it is cancelled: then the command is killed, so that
            nothing of it comes after what is done next.
        """
        child = _Child(text)
        path = os.environ.get("PATH", "") + ":" + PATH
        environment = os.environ | {"LC_ALL": "C.UTF-8", "PATH": path}
        try:
            self._reactor.spawnProcess(child, "/usr/bin/env", ["env", *command], environment)
        except OSError as error:
            return succeed(Finished(None, b"", f"not started: {error.strerror}"))
        limit = self._reactor.callLater(self._seconds, child.kill)

        def ended(result: Finished | Failure) -> Finished | Failure:
            if limit.active():
                limit.cancel()
            return result

        return child.ended.addBoth(ended)


class _Child(ProcessProtocol):
    """
    @ivar ended: fires when the process has.
    """

    def __init__(self, text: bytes) -> None:
        self.ended: Deferred[Finished] = Deferred(lambda ended: self.kill())
        self._text = text
        self._output = b""
        self._complaint = b""

    def connectionMade(self) -> None:
        """Feed it."""
        assert self.transport is not None
        if self._text:
            self.transport.write(self._text)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Keep what it says."""
        self._output = (self._output + data)[:LONGEST]

    def errReceived(self, data: bytes) -> None:
        """Keep the end of what it complains of."""
        self._complaint = (self._complaint + data)[-LONGEST:]

    def kill(self) -> None:
        """End it, and wait for none that has its output from it."""
        assert self.transport is not None
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")
        self.transport.loseConnection()

    def processEnded(self, reason: Failure) -> None:
        """It is over."""
        if self.ended.called:
            return  # nobody waits for it any more
        status = reason.value.exitCode  # type: ignore[union-attr]
        self.ended.callback(Finished(status, self._output, self._complaint.decode("utf-8", "replace").strip()))
