"""
The command C{nft}, as a child process that the reactor waits for.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, inlineCallbacks

from fabric.command import Commands, Finished
from fabric.errors import DriverFailure


class Tool:
    """
    A command that is fed with a text and says nothing when all is well.
    """

    def __init__(self, reactor: Any, command: Sequence[str], seconds: float = 60.0) -> None:
        """
        @param command: its name, looked for in C{PATH} and in the sbin
            directories, and the arguments of every call.
        @param seconds: one that runs for longer is killed.
        """
        self._commands = Commands(reactor, seconds)
        self._command = tuple(command)

    @inlineCallbacks
    def run(self, arguments: Sequence[str] = (), text: str = "") -> Generator[Deferred[Any], Any, None]:
        """
        Run it once.

        @param text: what it reads.
        @return: fires when it has ended; L{DriverFailure} with its own words
            when it failed or is not there.
        """
        command = [*self._command, *arguments]
        finished: Finished = yield self._commands.run(command, text.encode())
        if finished.status != 0:
            status = "killed" if finished.status is None else f"status {finished.status}"
            said = finished.output.decode(errors="replace") + finished.complaint
            raise DriverFailure(what=f"{' '.join(command)}: {said.strip()[:2000] or status}")


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
