"""
The command C{nft}, as a child process that the reactor waits for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric.errors import DriverFailure

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the tools are, also for a service whose PATH has no sbin."""


class Tool:
    """
    A command that is fed with a text and says nothing when all is well.
    """

    log = Logger()

    def __init__(self, reactor: Any, command: Sequence[str], seconds: float = 60.0) -> None:
        """
        @param reactor: provides L{IReactorProcess} and L{IReactorTime}.
        @param command: its name, looked for in C{PATH} and in the sbin
            directories, and the arguments of every call.
        @param seconds: one that runs for longer is killed.
        """
        self._processes: IReactorProcess = reactor
        self._clock: IReactorTime = reactor
        self._command = tuple(command)
        self._seconds = seconds

    def run(self, arguments: Sequence[str] = (), text: str = "", quiet: bool = False) -> Deferred[None]:
        """
        Run it once.

        @param text: what it reads.
        @param quiet: whether the exit status does not matter.
        @return: fires when it has ended; L{DriverFailure} with its own words
            when it failed or is not there.
        """
        command = [*self._command, *arguments]
        child = _Child(" ".join(command), text.encode(), quiet)
        environment = {"PATH": os.environ.get("PATH", "") + ":" + PATH, "LC_ALL": "C.UTF-8"}
        process = self._processes.spawnProcess(child, "/usr/bin/env", ["env", *command], environment)
        late = self._clock.callLater(self._seconds, process.signalProcess, "KILL")

        def ended(result: Any) -> Any:
            if late.active():
                late.cancel()
            return result

        return child.ended.addBoth(ended)


class Nft:
    """
    Applies texts as transactions, one after the other.
    """

    def __init__(self, reactor: Any, command: Sequence[str] = ("nft",)) -> None:
        """
        @param command: what runs C{nft}.
        """
        self._tool = Tool(reactor, command)
        self._one_by_one = DeferredLock()

    def apply(self, text: str) -> Deferred[None]:
        """
        Apply all of a text, or nothing of it.

        @return: fires when it is applied; L{DriverFailure} with nft's words.
        """
        return self._one_by_one.run(self._tool.run, ("-f", "-"), text)

    def check(self, text: str) -> Deferred[None]:
        """
        Whether a text could be applied; nothing is changed.

        @return: fires when it could; else L{DriverFailure} with nft's words.
        """
        return self._one_by_one.run(self._tool.run, ("-c", "-f", "-"), text)


class _Child(ProcessProtocol):
    """
    @ivar ended: fires when the process has.
    """

    def __init__(self, name: str, text: bytes, quiet: bool) -> None:
        self.ended: Deferred[None] = Deferred()
        self._name = name
        self._text = text
        self._quiet = quiet
        self._said: list[bytes] = []

    def connectionMade(self) -> None:
        """Feed it."""
        assert self.transport is not None
        if self._text:
            self.transport.write(self._text)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """What it says goes into the error, should there be one."""
        self._said.append(data)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """Tell whoever waits."""
        if reason.check(ProcessDone) or self._quiet:
            self.ended.callback(None)
            return
        said = b"".join(self._said).decode(errors="replace").strip()[:2000]
        status = reason.getErrorMessage().strip()
        self.ended.errback(DriverFailure(what=f"{self._name}: {said or status}"))
