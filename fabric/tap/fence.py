"""
Fencing by an operator's command.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface import implementer

from fabric.cloud.fencing import IFence
from fabric.command import Commands
from fabric.errors import DriverFailure


@implementer(IFence)
class CommandFence:
    """
    Runs a command with the host's name as its last argument: its status 0 says
    that the host is dead for sure.
    """

    def __init__(self, commands: Commands, command: Sequence[str]) -> None:
        self._commands = commands
        self._command = tuple(command)

    @inlineCallbacks
    def fence(self, host: str) -> Generator[Deferred[Any], Any, bool]:
        """See L{IFence.fence}."""
        finished = yield self._commands.run([*self._command, host])
        if finished.status == 0:
            return True
        called = " ".join([*self._command, host])
        if finished.status is None:
            raise DriverFailure(f"{called}: killed, perhaps for taking too long")
        raise DriverFailure(f"{called}: status {finished.status}: {finished.complaint[-500:]}")
