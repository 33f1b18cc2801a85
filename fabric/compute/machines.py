"""
What a compute worker remembers of its machines, to know old orders from new.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import attrs

from fabric.compute.interface import Domain, MachineReport

PAST_KEPT = 10_000
"""Machines that failed or are gone, of which the last report is remembered."""


class Machines:
    """
    The domains as this worker last left or found them, and the last reports of
    those that failed or are gone.  All of it can be lost: then an old order that comes
    once more may do something, and the controller undoes it.

    @ivar changes: grows with every change.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._here: dict[str, Domain] = {}
        self._past: OrderedDict[str, MachineReport] = OrderedDict()
        self._expected: dict[str, int] = {}

    def get(self, id: str) -> Domain | None:
        """The machine, None when it is not here."""
        return self._here.get(id)

    def refresh(self, found: list[Domain], still: bool) -> None:
        """
        Learn what the driver found.

        @param still: nothing changed since it looked, so these are all that
            there are; else only those are believed that nobody knew.
        """
        here = {domain.id: domain for domain in found}
        for id in self._expected.keys() & here.keys():
            del self._expected[id]
        self._here = here if still else here | self._here

    def expect(self, id: str, order: int) -> None:
        """
        It may come from another host at any time, by this order: until then
        only the driver knows whether it is here.
        """
        if id not in self._here:
            self._expected[id] = max(order, self._expected.get(id, 0))

    def expected(self, ids: Iterable[str]) -> bool:
        """Whether one of these may have come, and the driver was not asked since."""
        return not self._expected.keys().isdisjoint(ids)

    def comes_later(self, id: str, order: int) -> bool:
        """Whether it may come by a newer order than this one."""
        return self._expected.get(id, 0) > order

    def forget(self, id: str) -> None:
        """It does not come."""
        self._expected.pop(id, None)

    def runs(self, id: str, order: int, addresses: tuple[str, ...]) -> MachineReport:
        """It was brought up: what is to be reported of it."""
        return self.put(Domain(id, "running", order, addresses))

    def put(self, domain: Domain) -> MachineReport:
        """It is so now: what is to be reported of it."""
        self.changes += 1
        self._here[domain.id] = domain
        state = "running" if domain.state == "running" else "stopped"
        return MachineReport(domain.id, domain.order, state, addresses=domain.addresses)

    def stopped(self, id: str, order: int) -> MachineReport:
        """It was shut down, or is not here: what is to be reported of it."""
        domain = self._here.get(id)
        if domain is None:
            return MachineReport(id, order, "stopped")
        return self.put(attrs.evolve(domain, state="stopped", order=order))

    def ended(self, report: MachineReport) -> MachineReport:
        """It is not here any more, and C{report} is the last that is told of it."""
        self.changes += 1
        self.forget(report.id)
        here = self._here.pop(report.id, None)
        past = self._past.get(report.id)
        # What an old order finds must not make the last one forgotten.
        if past is None or report.order >= past.order:
            self.remember(attrs.evolve(report, order=max(report.order, here.order if here else 0)))
        return report

    def failed(self, report: MachineReport) -> MachineReport:
        """
        An order to run it failed, and it or a rest of it is here still: what
        is to be reported, of this order now and for ever.
        """
        here = self._here.get(report.id) or Domain(report.id, "crashed", addresses=report.addresses)
        self.put(attrs.evolve(here, state="stopped" if here.state == "running" else here.state, order=report.order))
        self.remember(report)
        return report

    def remember(self, report: MachineReport) -> None:
        """This is what is told of its last order from now on: it is not carried out again."""
        self._past[report.id] = report
        self._past.move_to_end(report.id)
        if len(self._past) > PAST_KEPT:
            self._past.popitem(last=False)

    def outdated(self, id: str, order: int) -> bool:
        """Whether a newer order than this one was carried out."""
        here = self._here.get(id)
        if here is not None:
            return order < here.order
        past = self._past.get(id)
        return past is not None and (order < past.order or (order == past.order and past.state == "gone"))

    def done(self, id: str, order: int) -> MachineReport | None:
        """
        @return: what is to be reported again when this very order to run it
            was carried out already, also if its guest ended since, or had
            failed; else None.
        """
        here = self._here.get(id)
        if here is not None and here.order == order and here.state == "running":
            return self.put(here)  # also when it had failed before, and was brought up at a second try
        past = self._past.get(id)
        if past is not None and past.order == order:
            return past
        return None
