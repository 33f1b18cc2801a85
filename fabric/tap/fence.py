"""
Fencing by an operator's command.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.cloud.fencing import IFence
from fabric.errors import DriverFailure

SHOWN = 500
"""Bytes of what the command wrote that are shown when it fails."""


class _Run(ProcessProtocol):
    """
    One run; C{ended} fires with its exit status, None when it was killed.
    """

    def __init__(self) -> None:
        self.ended: Deferred[int | None] = Deferred()
        self.written = b""

    def outReceived(self, data: bytes) -> None:
        """Keep the end of what it says."""
        self.written = (self.written + data)[-SHOWN:]

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """It is over."""
        self.ended.callback(reason.value.exitCode)  # type: ignore[union-attr]

    def kill(self) -> None:
        """End it."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")  # type: ignore[union-attr]


@implementer(IFence)
class CommandFence:
    """
    Runs a command with the host's name as its last argument: its status 0 says
    that the host is dead for sure.
    """

    def __init__(self, reactor: Any, command: Sequence[str], seconds: float) -> None:
        """
        @param seconds: how long it may take; then it is killed.
        """
        self._reactor = reactor
        self._command = tuple(command)
        self._seconds = seconds

    @inlineCallbacks
    def fence(self, host: str) -> Generator[Deferred[Any], Any, bool]:
        """See L{IFence.fence}."""
        run = _Run()
        arguments = [*self._command, host]
        called = " ".join(arguments)
        try:
            self._reactor.spawnProcess(run, arguments[0], arguments, os.environ)
        except OSError as error:
            raise DriverFailure(f"{called}: {error}") from error
        limit = self._reactor.callLater(self._seconds, run.kill)
        status = yield run.ended
        if limit.active():
            limit.cancel()
        if status is None:
            raise DriverFailure(f"{called}: killed, perhaps since it took longer than {self._seconds:g} s")
        if status:
            raise DriverFailure(f"{called}: status {status}: {run.written.decode(errors='replace').strip()}")
        return True
