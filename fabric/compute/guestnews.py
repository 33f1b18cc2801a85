"""
What guests do by themselves, reported by the compute worker.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger
from zope.interface import implementer

from fabric.compute.driver import IComputeDriver, IDomainWatcher
from fabric.compute.interface import Domain, MachineReport
from fabric.compute.machines import Machines
from fabric.turns import Turns

INTERNAL = "Server.InternalError"


@implementer(IDomainWatcher)
class GuestNews:
    """
    Tells what orders did not lead to.
    """

    log = Logger()

    def __init__(
        self,
        host: str,
        driver: IComputeDriver,
        turns: Turns,
        machines: Machines,
        tell: Callable[[MachineReport], None],
    ) -> None:
        """
        @param tell: takes what is to be reported.
        """
        self._host = host
        self._driver = driver
        self._turns = turns
        self._machines = machines
        self._tell = tell
        self._unsaid: dict[str, tuple[Domain, str, bool]] = {}

    def domain_changed(self, domain: Domain, reason: str, own: bool) -> None:
        """
        See L{IDomainWatcher.domain_changed}.  While orders to it are carried
        out this waits: they may lead to something else, which is reported then.
        """
        if not self._turns.busy(domain.id):
            self._changed(domain, reason, own)
            return
        if domain.id not in self._unsaid:
            waiting = self._turns.run(domain.id, partial(self._say, domain.id))
            waiting.addErrback(lambda failure: self.log.failure("{id}: not looked at", failure, id=domain.id))
        self._unsaid[domain.id] = (domain, reason, own)

    @inlineCallbacks
    def _say(self, id: str) -> Generator[Deferred[Any], Any, None]:
        """Report what was heard of a guest while it had orders, if it is so still and they did not make it so."""
        heard, reason, own = self._unsaid.pop(id)
        known = self._machines.get(id)
        if known is None or _runs(known) == _runs(heard):
            return
        domains = yield self._driver.domains()
        found = next((domain for domain in domains if domain.id == id), attrs.evolve(known, state="stopped"))
        if _runs(found) == _runs(heard):
            self._changed(found, reason, own)

    def _changed(self, domain: Domain, reason: str, own: bool) -> None:
        """Report what a guest did by itself."""
        self.log.info(
            "{host}: {id} is {state}: {reason}", host=self._host, id=domain.id, state=domain.state, reason=reason
        )
        known = self._machines.get(domain.id)
        if known is not None and known.order > domain.order:  # as of one that is not there any more
            domain = attrs.evolve(domain, order=known.order)
        report = self._machines.put(domain)
        if domain.condition == "suspended":
            return  # it goes on where it was when somebody resumes it
        code = "" if domain.state == "running" else INTERNAL
        if domain.state == "stopped" and own:
            code = "Client.InstanceInitiatedShutdown"
        report = attrs.evolve(report, code=code, message=reason)
        if known is not None and _runs(known) and not _runs(domain):
            self._machines.remember(report)  # the order that brought it up has had its effect
        self._tell(attrs.evolve(report, order=0, after=domain.order))


def _runs(domain: Domain) -> bool:
    return domain.state == "running"
