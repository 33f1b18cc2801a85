"""
Evacuation: what a host had that is dead for sure is started elsewhere.

Only a host that was fenced is dead for sure (L{fabric.cloud.fencing}); of any
other the guests may still run, and a second copy of one would be worse than none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.cloud.associations import end_associations
from fabric.cloud.attachments import release_disks
from fabric.cloud.crossings import Crossings
from fabric.cloud.followers import follow
from fabric.cloud.orders import Orders
from fabric.cloud.retry import until_written
from fabric.faults import IFaults
from fabric.model.address import Address, told
from fabric.model.instance import Instance, StateReason, moved
from fabric.store.interface import IStore, Query, Stored

LOST = StateReason("Server.HostFailure", "Server.HostFailure: its host failed")
"""What a user sees of an instance whose host was lost while it was on its way down."""

PAGE = 50


class Evacuation:
    """
    Takes instances off hosts that are dead for sure.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        orders: Orders,
        crossings: Crossings,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float,
    ) -> None:
        self._store = store
        self._orders = orders
        self._crossings = crossings
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def evacuate(self, request_id: str, host: str) -> Generator[Deferred[Any], Any, int]:
        """
        Free everything that instances hold of a host, and have those that
        should run started on others, from their image or their root volume:
        what was on the host's own disks is lost.  Those that were stopped are
        placed when they are started.  Those that were being moved, from there
        or to there, are on the other host if that has them; they stay as they
        are while it does not say so.  Repeating is safe.

        @return: how many instances it had.
        """
        total = 0
        lost = yield self._crossings.settle(request_id, host)
        while True:
            left: list[Instance] = yield until_written(lambda: self._some(request_id, host, lost))
            if not left:
                break
            total += len(left)
            self._faults.reach("cloud.evacuation_written")
            yield self._orders.schedule(request_id, [each for each in left if each.state == "pending"])
        yield until_written(lambda: self._forget_addresses(request_id, host))
        if total:
            self.log.warn(
                "{request_id}: {count} instances of {host} go elsewhere", request_id=request_id, count=total, host=host
            )
        return total

    @inlineCallbacks
    def _some(
        self, request_id: str, host: str, lost: frozenset[tuple[str, int]]
    ) -> Generator[Deferred[Any], Any, list[Instance]]:
        found: list[Stored[Instance]] = yield self._lost_with(host, lost)
        if not found:
            return []
        now = self._clock.seconds()
        review_at = now + self._resend_after
        transaction = self._store.transaction(request_id)
        records = [_left(stored.record, now, review_at) for stored in found]
        records = yield release_disks(self._store, transaction, records, now)
        records, freed = yield end_associations(self._store, transaction, records, review_at)
        living = [record for record in records if record.live]
        followed, _ = yield follow(self._store, transaction, living, now, review_at)
        by_id = {record.id: record for record in (*records, *followed)}
        for stored in found:
            transaction.update(stored, by_id[stored.record.id])
        yield self._store.commit(transaction)
        yield self._clear(request_id, host, [stored.record for stored in found])
        yield self._orders.addresses(request_id, freed)
        return list(by_id.values())

    @inlineCallbacks
    def _lost_with(
        self, host: str, lost: frozenset[tuple[str, int]]
    ) -> Generator[Deferred[Any], Any, list[Stored[Instance]]]:
        """
        Some of those that a host had.

        @param lost: those of them that were being moved.
        """
        found: list[Stored[Instance]] = []
        for way in ("host", "arriving"):
            cursor = ""
            while len(found) < PAGE:
                query = Query("instance", (f"{way}:{host}",), cursor=cursor, limit=PAGE)
                page = yield self._store.records(Instance, query)
                found += [stored for stored in page.items if _is_lost(stored.record, lost)]
                cursor = page.cursor
                if not cursor:
                    break
        return found[:PAGE]

    @inlineCallbacks
    def _clear(self, request_id: str, host: str, instances: Sequence[Instance]) -> Generator[Deferred[Any], Any, None]:
        """
        Order away what another host may have of those that were just being
        moved: they are begun anew, and are never to run twice.
        """
        rests: dict[str, dict[str, int]] = defaultdict(dict)
        for instance in instances:
            if instance.migration is not None:
                other = instance.migration.destination if instance.host == host else instance.host
                rests[other][instance.id] = instance.migration.order
        for other, found in rests.items():
            yield self._orders.remove(request_id, other, found)

    @inlineCallbacks
    def _forget_addresses(self, request_id: str, host: str) -> Generator[Deferred[Any], Any, None]:
        """
        A host that is dead for sure leads no address anywhere.
        """
        page = yield self._store.records(Address, Query("address", ("host:" + host,), limit=1000))
        transaction = self._store.transaction(request_id)
        for stored in page.items:
            self._forget(transaction, stored, told(stored.record, host, stored.record.order, False))
        if transaction.puts or transaction.deletes:
            yield self._store.commit(transaction)

    def _forget(self, transaction: Any, stored: Stored[Address], address: Address) -> None:
        if address.released and address.settled:
            transaction.delete(stored)
        elif address != stored.record:
            transaction.update(stored, address)


def _is_lost(instance: Instance, lost: frozenset[tuple[str, int]]) -> bool:
    """Whether nobody can have it any more; of one that is being moved another host can."""
    return instance.migration is None or (instance.id, instance.migration.order) in lost


def _left(instance: Instance, now: float, review_at: float) -> Instance:
    """
    An instance after its host was lost: pending where it should run, stopped
    where it should not, gone where it was to go; on no host.
    """
    instance = attrs.evolve(instance, migration=None)
    changes: dict[str, Any] = {"host": "", "on_host": False, "order": instance.order + 1, "review_at": review_at}
    if instance.state in ("pending", "running"):
        return attrs.evolve(moved(instance, "relocate", now), **changes)
    if instance.state in ("stopping", "stopped"):
        return attrs.evolve(moved(instance, "halt", now, instance.reason or LOST), **changes)
    if instance.state == "shutting-down":
        return attrs.evolve(moved(instance, "vanish", now, instance.reason), on_host=False)
    return attrs.evolve(instance, on_host=False)
