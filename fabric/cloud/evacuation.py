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
        self, store: IStore, orders: Orders, clock: IReactorTime, faults: IFaults, resend_after: float
    ) -> None:
        self._store = store
        self._orders = orders
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def evacuate(self, request_id: str, host: str) -> Generator[Deferred[Any], Any, int]:
        """
        Free everything that instances hold of a host, and have those that
        should run started on others, from their image or their root volume:
        what was on the host's own disks is lost.  Those that were stopped are
        placed when they are started.  Repeating is safe.

        @return: how many instances it had.
        """
        total = 0
        while True:
            left: list[Instance] = yield until_written(lambda: self._some(request_id, host))
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
    def _some(self, request_id: str, host: str) -> Generator[Deferred[Any], Any, list[Instance]]:
        page = yield self._store.records(Instance, Query("instance", ("host:" + host,), limit=PAGE))
        if not page.items:
            return []
        now = self._clock.seconds()
        review_at = now + self._resend_after
        transaction = self._store.transaction(request_id)
        records = [_left(stored.record, now, review_at) for stored in page.items]
        records = yield release_disks(self._store, transaction, records, now)
        records, freed = yield end_associations(self._store, transaction, records, review_at)
        living = [record for record in records if record.live]
        followed, _ = yield follow(self._store, transaction, living, now, review_at)
        by_id = {record.id: record for record in (*records, *followed)}
        for stored in page.items:
            transaction.update(stored, by_id[stored.record.id])
        yield self._store.commit(transaction)
        yield self._clear(request_id, [stored.record for stored in page.items])
        yield self._orders.addresses(request_id, freed)
        return list(by_id.values())

    @inlineCallbacks
    def _clear(self, request_id: str, instances: Sequence[Instance]) -> Generator[Deferred[Any], Any, None]:
        """
        Order away what may have come of those that were just being moved to
        other hosts: they are begun anew, and are never to run twice.
        """
        coming: dict[str, dict[str, int]] = defaultdict(dict)
        for instance in instances:
            if instance.migration is not None:
                coming[instance.migration.destination][instance.id] = instance.migration.order
        for host, found in coming.items():
            yield self._orders.remove(request_id, host, found)

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
