"""
Placing: room on a host and addresses are claimed in the write that says where
an instance is.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from fabric.cloud.hosts import Hosts
from fabric.cloud.launch import RESEND_AFTER
from fabric.cloud.orders import Orders
from fabric.cloud.retry import until_written
from fabric.errors import LimitExceeded, PoolEmpty
from fabric.faults import IFaults
from fabric.model.instance import Instance, Port, StateReason, moved
from fabric.scheduler.algorithms import Room, fits
from fabric.scheduler.interface import Claimed, HostView, IPlacement, Wanted
from fabric.store.interface import IStore, Stored, dashed

NO_HOST = "Server.InsufficientInstanceCapacity"
NO_ADDRESS = "Server.InsufficientFreeAddressesInSubnet"


@implementer(IPlacement)
class Placement:
    """
    What schedulers may do to state, and nothing else.
    """

    def __init__(
        self,
        store: IStore,
        hosts: Hosts,
        orders: Orders,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._orders = orders
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after
        self._read: dict[str, Stored[Instance]] = {}

    @inlineCallbacks
    def wanted(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Wanted]]:
        """See L{IPlacement.wanted}."""
        found = yield self._unplaced(ids)
        self._read.update((stored.record.id, stored) for stored in found)
        return [Wanted(each.id, each.flavor, each.wanted_zone, each.architecture) for each in (s.record for s in found)]

    def hosts(self) -> Deferred[list[HostView]]:
        """See L{IPlacement.hosts}."""
        return self._hosts.views()

    @inlineCallbacks
    def claim(self, request_id: str, choice: Mapping[str, Sequence[str]]) -> Generator[Deferred[Any], Any, Claimed]:
        """See L{IPlacement.claim}."""
        placed: list[str] = []
        full: dict[str, str] = {}
        for host, ids in choice.items():
            try:
                records = yield self._claim_on(request_id, host, ids)
            except LimitExceeded as error:
                full[host] = f"{error.counter.rsplit(':', 1)[1]}: {error.used} of {error.limit} promised"
                continue
            except PoolEmpty as error:
                yield self._no_addresses(request_id, host, ids, error)
                continue
            placed += [record.id for record in records]
            self._faults.reach("scheduler.claimed")
            yield self._orders.run(request_id, records)
            self._faults.reach("scheduler.ordered")
        return Claimed(placed, full)

    @inlineCallbacks
    def refuse(
        self, request_id: str, ids: Sequence[str], reasons: Mapping[str, str]
    ) -> Generator[Deferred[Any], Any, None]:
        """See L{IPlacement.refuse}."""
        message = f"{NO_HOST}: no host has room for this instance"
        reason = StateReason(NO_HOST, message if reasons else f"{NO_HOST}: no compute host has reported yet")
        yield until_written(lambda: self._refuse_once(request_id, ids, reason, dict(reasons)))

    def offer(self, request_id: str, ids: Sequence[str]) -> Deferred[None]:
        """See L{IPlacement.offer}."""
        return self._orders.offer(request_id, list(ids))

    @inlineCallbacks
    def elsewhere(
        self, request_id: str, host: str, ids: Sequence[str], why: str
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Instances that the first free worker had no room for: end them when no
        host has room, else offer them again.
        """
        views = yield self.hosts()
        found = yield self._unplaced(ids)
        for each in (stored.record for stored in found):
            wanted = Wanted(each.id, each.flavor, each.wanted_zone, each.architecture)
            reasons = {view.name: fits(wanted, view, Room.of(view)) for view in views} | {host: why}
            if all(reasons.values()):
                yield self.refuse(request_id, [each.id], reasons)
            else:
                yield self.offer(request_id, [each.id])

    @inlineCallbacks
    def _no_addresses(
        self, request_id: str, host: str, ids: Sequence[str], error: PoolEmpty
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Place as many as there are addresses; end the rest.
        """
        if len(ids) > 1:
            middle = len(ids) // 2
            yield self.claim(request_id, {host: ids[:middle]})
            yield self.claim(request_id, {host: ids[middle:]})
            return
        reason = StateReason(NO_ADDRESS, f"{NO_ADDRESS}: pool {error.pool} has no free address")
        yield until_written(lambda: self._refuse_once(request_id, ids, reason, {host: "no free address"}))

    def _claim_on(self, request_id: str, host: str, ids: Sequence[str]) -> Deferred[list[Instance]]:
        return until_written(lambda: self._claim_once(request_id, host, ids))

    @inlineCallbacks
    def _claim_once(
        self, request_id: str, host: str, ids: Sequence[str]
    ) -> Generator[Deferred[Any], Any, list[Instance]]:
        known = [stored for stored in [self._read.pop(id, None) for id in ids] if stored is not None]
        found: list[Stored[Instance]] = known if len(known) == len(ids) else (yield self._unplaced(ids))
        if not found:
            return []
        view = yield self._hosts.view(host)
        now = self._clock.seconds()
        transaction = self._store.transaction(request_id)
        for stored in found:
            instance: Instance = stored.record
            ports = tuple(_addressed(port, transaction.take("fixed:" + port.network)) for port in instance.ports)
            placed = attrs.evolve(
                instance,
                host=host,
                zone=view.zone,
                on_host=True,
                review_at=now + self._resend_after,
                ports=ports,
                refusals={},
            )
            transaction.update(stored, placed)
        for name, most in view.capacity.room().items():
            transaction.limit(f"load:{host}:{name}", most)
        committed = yield self._store.commit(transaction)
        return [stored.record for stored in committed.records]

    @inlineCallbacks
    def _refuse_once(
        self, request_id: str, ids: Sequence[str], reason: StateReason, reasons: dict[str, str]
    ) -> Generator[Deferred[Any], Any, None]:
        for id in ids:
            self._read.pop(id, None)
        found = yield self._unplaced(ids)
        if not found:
            return
        now = self._clock.seconds()
        transaction = self._store.transaction(request_id)
        for stored in found:
            transaction.update(stored, moved(stored.record, "fail", now, reason, refusals=reasons))
        yield self._store.commit(transaction)

    @inlineCallbacks
    def _unplaced(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Stored[Instance]]]:
        found = yield self._store.read(Instance, ids)
        return [
            stored
            for stored in found
            if stored is not None and stored.record.state == "pending" and not stored.record.host
        ]


def _addressed(port: Port, address: str) -> Port:
    """
    A port with its address to be, and the name C{ip-A-B-C-D} that EC2 gives one.
    """
    return attrs.evolve(port, address=address, hostname="ip-" + dashed(address))
