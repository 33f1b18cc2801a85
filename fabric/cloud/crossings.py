"""
Crossings: instances that were on their way from one host to another when one of
the two died.

Such an instance is on the other one, or was lost with the host that is dead for
sure.  The host that is left is asked, since nobody else knows; while that does not
answer it may run there, and nothing is done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger

from fabric.cloud.reports import Reports
from fabric.compute.interface import IComputeWorker, MachineReport
from fabric.errors import FabricError
from fabric.model.host import Service
from fabric.model.instance import Instance, Migration
from fabric.rpc.interface import Address, Context, IQueue
from fabric.store.interface import IStore, Query

ASK_SECONDS = 20.0
"""How long the other host may take to say what it has."""

PAGE = 500


class Crossings:
    """
    Finds out on which host they are.
    """

    log = Logger()

    def __init__(self, store: IStore, queue: IQueue, reports: Reports) -> None:
        self._store = store
        self._queue = queue
        self._reports = reports

    @inlineCallbacks
    def settle(self, request_id: str, host: str) -> Generator[Deferred[Any], Any, frozenset[tuple[str, int]]]:
        """
        Have those that left a dead host be where they came to; those that did
        not leave for it are told of by the host that they are on.  Repeating
        is safe.

        @param host: is dead for sure.
        @return: those that were lost with it, each with the order of its
            migration.
        """
        lost: set[tuple[str, int]] = set()
        for other, crossing in (yield self._crossing(host)).items():
            there = yield self._there(request_id, other)
            if there is None:
                continue
            lost |= {(each.id, migration.order) for each, migration in crossing if each.id not in there}
            arrived = [
                MachineReport(each.id, migration.order, "moved")
                for each, migration in crossing
                if each.id in there and each.host == host
            ]
            if arrived:
                yield self._reports.take(request_id, host, arrived)
        return frozenset(lost)

    @inlineCallbacks
    def _crossing(self, host: str) -> Generator[Deferred[Any], Any, dict[str, list[tuple[Instance, Migration]]]]:
        """Those that left a host, or left for it, by the other host."""
        found: dict[str, list[tuple[Instance, Migration]]] = defaultdict(list)
        for way in ("host", "arriving"):
            cursor = ""
            while True:
                query = Query("instance", (f"{way}:{host}",), cursor=cursor, limit=PAGE)
                page = yield self._store.records(Instance, query)
                for instance in (stored.record for stored in page.items):
                    if instance.migration is not None:
                        other = instance.migration.destination if instance.host == host else instance.host
                        found[other].append((instance, instance.migration))
                cursor = page.cursor
                if not cursor:
                    break
        return found

    @inlineCallbacks
    def _there(self, request_id: str, host: str) -> Generator[Deferred[Any], Any, frozenset[str] | None]:
        """
        @return: what a host has: nothing when it is dead for sure; None while
            nobody can tell.
        """
        [stored] = yield self._store.read(Service, [f"compute.{host}"])
        if stored is None or stored.record.fenced:
            return frozenset()
        if not stored.record.alive:
            return None
        remote = self._queue.caller(IComputeWorker, Address("compute", host), Context(request_id, ASK_SECONDS))
        try:
            answer = yield remote.describe_machines()
        except FabricError as error:
            self.log.warn("{host} does not say what it has of those that came to it: {error}", host=host, error=error)
            return None
        return frozenset(each["id"] for each in answer)
