"""
Volumes of guests copied while these run, into places that volume hosts lend.

Who asks for a copy is answered at once how far it is, and asks again: so one that
is not known here, as after a restart, is begun anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric.compute.driver import IComputeDriver
from fabric.compute.orders import sentence
from fabric.errors import DriverFailure, FabricError
from fabric.turns import Turns

REMEMBERED = 1000
"""Copies of which it is remembered how they ended: an answer may be lost."""

COPYING = {"state": "copying"}

QUIET = {"state": "quiet"}


class Copies:
    """
    Has volumes copied.
    """

    log = Logger()

    def __init__(self, driver: IComputeDriver, turns: Turns, user_of: Callable[[str], str]) -> None:
        """
        @param turns: those of machines.
        @param user_of: the machine for which a volume was last exported to this
            host; empty for none since the service was started.
        """
        self._driver = driver
        self._turns = turns
        self._user_of = user_of
        self._known: OrderedDict[tuple[str, str], dict[str, str] | DriverFailure] = OrderedDict()

    def copy(self, volume: str, place: dict[str, str]) -> dict[str, str]:
        """See L{fabric.compute.interface.IComputeWorker.copy_disk}."""
        key = (volume, place["path"])
        if key not in self._known:
            self._known[key] = COPYING
            self._forget_old()
            self._copy(volume, place).addErrback(self._failed, volume).addCallback(partial(self._ended, key))
        found = self._known[key]
        if isinstance(found, DriverFailure):
            raise found
        return found

    def _ended(self, key: tuple[str, str], outcome: dict[str, str] | DriverFailure) -> None:
        self._known[key] = outcome

    def _failed(self, failure: Failure, volume: str) -> DriverFailure:
        if not isinstance(failure.value, FabricError):
            self.log.failure("{volume} was not copied", failure, volume=volume)
        return DriverFailure(what=sentence(failure.value))

    def _forget_old(self) -> None:
        for key in [key for key, found in self._known.items() if found is not COPYING]:
            if len(self._known) <= REMEMBERED:
                return
            del self._known[key]

    @inlineCallbacks
    def _copy(self, volume: str, place: dict[str, str]) -> Generator[Deferred[Any], Any, dict[str, str]]:
        """
        Once what brings its machine up, or down, is over: a volume is exported
        before its machine is brought up, so one that does not run then has it
        exported again before it does.
        """
        machine = self._user_of(volume) or (yield self._found(volume))
        if not machine:
            return QUIET
        yield self._turns.run(machine, lambda: succeed(None))
        return (yield self._driver.copy_disk(machine, volume, place))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _found(self, volume: str) -> Generator[Deferred[Any], Any, str]:
        """A machine that has a volume; empty for none."""
        domains = yield self._driver.domains()
        return next((domain.id for domain in domains if volume in domain.disks.values()), "")
