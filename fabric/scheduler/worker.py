"""
The scheduler: reads, chooses, claims; a lost race is another round.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from fabric.faults import IFaults
from fabric.rpc.interface import Context
from fabric.scheduler.algorithms import ALGORITHMS, Choose, told
from fabric.scheduler.groups import NOBODY, Company, groups_of
from fabric.scheduler.interface import IPlacement, ISchedulerWorker, Wanted
from fabric.scheduler.rooms import Rooms

NO_CONTEXT = Context()

ROUNDS = 200
"""How often those that lost a race for room are tried elsewhere; the sweep has the rest scheduled again."""

HOSTS_KEPT = 1.0
"""Seconds for which a reading of all hosts serves, own claims taken off."""


@implementer(ISchedulerWorker)
class SchedulerWorker:
    """
    Places instances by one algorithm.
    """

    log = Logger()

    def __init__(self, placement: IPlacement, algorithm: str, clock: IReactorTime, faults: IFaults) -> None:
        self._placement = placement
        self._algorithm = algorithm
        self._clock = clock
        self._faults = faults
        self._rooms = Rooms(())
        self._read_at = float("-inf")

    @inlineCallbacks
    def schedule(self, instances: list[str], context: Context = NO_CONTEXT) -> Generator[Deferred[Any], Any, None]:
        """
        See L{ISchedulerWorker.schedule}.
        """
        self._faults.reach("scheduler.received")
        if self._algorithm == "queue":
            yield self._placement.offer(context.request_id, instances)
            return
        wanted = yield self._placement.wanted(instances)
        for _ in range(ROUNDS):
            if not wanted:
                return
            fresh = yield self._read_hosts()
            company = yield self._company(wanted)
            choice, refused = self._choose(wanted, ALGORITHMS[self._algorithm], company)
            left = yield self._claim(context, choice, wanted)
            if refused and not fresh:  # what was read some seconds ago is good enough to place by, not to refuse by
                self._read_at = float("-inf")
                left = left + [each for each in wanted if each.id in refused]
                refused = {}
            for ids, reasons in _together(refused):
                yield self._refuse(context, ids, reasons)
            wanted = left
        self.log.warn("{count} instances lost every race for room: left for later", count=len(wanted))

    @inlineCallbacks
    def _claim(
        self, context: Context, choice: dict[str, list[str]], wanted: Sequence[Wanted]
    ) -> Generator[Deferred[Any], Any, list[Wanted]]:
        """
        @return: those that lost a race and are to be tried elsewhere.
        """
        if not choice:
            return []
        self._faults.reach("scheduler.chosen")
        claimed = yield self._placement.claim(context.request_id, choice)
        if not claimed.full:
            return []
        self._read_at = float("-inf")
        lost = {id for host in claimed.full for id in choice[host]} - set(claimed.placed)
        return [each for each in wanted if each.id in lost]

    @inlineCallbacks
    def _refuse(
        self, context: Context, ids: Sequence[str], reasons: dict[str, str]
    ) -> Generator[Deferred[Any], Any, None]:
        self.log.info(
            "{request_id}: no host for {ids}: {reasons}",
            request_id=context.request_id,
            ids=", ".join(ids),
            reasons=told(reasons),
        )
        yield self._placement.refuse(context.request_id, ids, reasons)

    @inlineCallbacks
    def _read_hosts(self) -> Generator[Deferred[Any], Any, bool]:
        """
        @return: whether they were read now, and not some seconds ago.
        """
        now = self._clock.seconds()
        if now - self._read_at < HOSTS_KEPT:
            return False
        self._rooms = Rooms((yield self._placement.hosts()))
        self._read_at = now
        return True

    @inlineCallbacks
    def _company(self, wanted: Sequence[Wanted]) -> Generator[Deferred[Any], Any, Company]:
        """
        Where the others of the instances' placement groups are now.
        """
        groups = groups_of(wanted)
        if not groups:
            return NOBODY
        members = yield self._placement.members(groups, [host.name for host in self._rooms.hosts])
        return Company.of(members, self._rooms.hosts)

    def _choose(
        self, wanted: Sequence[Wanted], choose: Choose, company: Company
    ) -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
        """
        @return: ids for each host, and each refused id's reasons by host.
        """
        choice: dict[str, list[str]] = defaultdict(list)
        refused: dict[str, dict[str, str]] = {}
        for each in wanted:
            rooms = self._rooms.fitting(each, company)
            if rooms:
                room = choose(each, company.best(each, rooms))
                self._rooms.take(each, room)
                company.take(each, room.name)
                choice[room.name].append(each.id)
            else:
                refused[each.id] = self._rooms.reasons(each, company)
        return choice, refused


def _together(refused: dict[str, dict[str, str]]) -> list[tuple[list[str], dict[str, str]]]:
    """
    @return: those that are refused for the very same reasons, and these.
    """
    found: dict[int, tuple[list[str], dict[str, str]]] = {}
    for each, reasons in refused.items():
        found.setdefault(id(reasons), ([], reasons))[0].append(each)
    return list(found.values())
