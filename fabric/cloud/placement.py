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

from fabric.cloud.attachments import release_disks
from fabric.cloud.followers import follow
from fabric.cloud.hosts import Hosts
from fabric.cloud.launch import RESEND_AFTER
from fabric.cloud.orders import Orders
from fabric.cloud.placement_groups import Members, occupancy, restrict
from fabric.cloud.retry import until_written
from fabric.errors import InUse, LimitExceeded, PoolEmpty
from fabric.faults import IFaults
from fabric.model.address import Address
from fabric.model.host import CLOSED
from fabric.model.instance import Instance, Port, StateReason, moved
from fabric.model.placement_group import Membership, chosen_partition
from fabric.model.record import changed
from fabric.scheduler.algorithms import Room, fits, simple, suits, told
from fabric.scheduler.groups import Company, groups_of
from fabric.scheduler.interface import Claimed, HostView, IPlacement, Wanted
from fabric.store.interface import IStore, Stored, dashed

NO_HOST = "Server.InsufficientInstanceCapacity"
NO_ADDRESS = "Server.InsufficientFreeAddressesInSubnet"

SOON = 2.0
"""Seconds until the next look at an instance that waits for the first host."""


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
        return [_wanted(stored.record) for stored in found]

    def hosts(self) -> Deferred[list[HostView]]:
        """See L{IPlacement.hosts}."""
        return self._hosts.views()

    @inlineCallbacks
    def members(
        self, groups: Sequence[Membership], hosts: Sequence[str]
    ) -> Generator[Deferred[Any], Any, dict[str, Members]]:
        """See L{IPlacement.members}."""
        found: dict[str, Members] = {}
        for group in groups:
            found[group.group] = yield occupancy(self._store, group, list(hosts))
        return found

    @inlineCallbacks
    def claim(self, request_id: str, choice: Mapping[str, Sequence[str]]) -> Generator[Deferred[Any], Any, Claimed]:
        """See L{IPlacement.claim}."""
        placed: list[str] = []
        full: dict[str, str] = {}
        for host, ids in choice.items():
            try:
                records, following = yield self._claim_on(request_id, host, ids)
            except (LimitExceeded, InUse) as error:
                if len(ids) > 1 and _apart(error):
                    for some in (ids[: len(ids) // 2], ids[len(ids) // 2 :]):
                        claimed = yield self.claim(request_id, {host: some})
                        placed += claimed.placed
                        full |= claimed.full
                    continue
                full[host] = _full(error)
                continue
            except PoolEmpty as error:
                claimed = yield self._no_addresses(request_id, host, ids, error)
                placed += claimed.placed
                full |= claimed.full
                continue
            placed += [record.id for record in records]
            self._faults.reach("scheduler.claimed")
            yield self._orders.run(request_id, records)
            if following:
                yield self._orders.addresses(request_id, following)
            self._faults.reach("scheduler.ordered")
        return Claimed(placed, full)

    @inlineCallbacks
    def refuse(
        self, request_id: str, ids: Sequence[str], reasons: Mapping[str, str]
    ) -> Generator[Deferred[Any], Any, None]:
        """See L{IPlacement.refuse}."""
        if not reasons:  # there was no host yet, whether or not there is one now
            yield until_written(lambda: self._wait_once(request_id, ids))
            return
        reason = StateReason(NO_HOST, f"{NO_HOST}: no host has room for this instance")
        yield until_written(lambda: self._refuse_once(request_id, ids, reason, told(reasons)))

    def offer(self, request_id: str, ids: Sequence[str]) -> Deferred[None]:
        """See L{IPlacement.offer}."""
        return self._orders.offer(request_id, list(ids))

    @inlineCallbacks
    def taken(self, request_id: str, host: str, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Instances that the first free worker took: they are its host's where
        that suits them and has room, else another's.
        """
        wanted = yield self.wanted(ids)
        view = yield self._hosts.view(host)
        unfit = {each.id: why for each in wanted if (why := suits(each, view))}
        fit = [each.id for each in wanted if each.id not in unfit]
        claimed = yield self.claim(request_id, {host: fit})
        if claimed.full:
            yield self._elsewhere(request_id, host, fit, claimed.full[host])
        for why in dict.fromkeys(unfit.values()):
            yield self._elsewhere(request_id, host, [id for id in unfit if unfit[id] == why], why)

    @inlineCallbacks
    def _elsewhere(
        self, request_id: str, host: str, ids: Sequence[str], why: str
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Instances that are not to be on a host: end them when no other has
        room, else place them there; offered again, the same might take them.
        """
        views = yield self.hosts()
        found = yield self._unplaced(ids)
        for each in (stored.record for stored in found):
            wanted = _wanted(each)
            members = yield self.members(groups_of([wanted]), [view.name for view in views])
            company = Company.of(members, views)
            reasons = {
                view.name: fits(wanted, view, Room.of(view)) or company.forbids(wanted, view.name) for view in views
            }
            reasons[host] = why
            rooms = [Room.of(view) for view in views if not reasons[view.name]]
            if not rooms:
                yield self.refuse(request_id, [each.id], reasons)
                continue
            best = simple(wanted, company.best(wanted, rooms)).name
            claimed = yield self.claim(request_id, {best: [each.id]})
            if claimed.full:
                yield self.offer(request_id, [each.id])

    @inlineCallbacks
    def _no_addresses(
        self, request_id: str, host: str, ids: Sequence[str], error: PoolEmpty
    ) -> Generator[Deferred[Any], Any, Claimed]:
        """
        Place as many as there are addresses; end the rest.

        @return: the host is among the full ones when it had no room for some.
        """
        if len(ids) > 1:
            middle = len(ids) // 2
            first = yield self.claim(request_id, {host: ids[:middle]})
            second = yield self.claim(request_id, {host: ids[middle:]})
            return Claimed([*first.placed, *second.placed], {**first.full, **second.full})
        reason = StateReason(NO_ADDRESS, f"{NO_ADDRESS}: pool {error.pool} has no free address")
        yield until_written(lambda: self._refuse_once(request_id, ids, reason, {host: "no free address"}))
        return Claimed([], {})

    def _claim_on(
        self, request_id: str, host: str, ids: Sequence[str]
    ) -> Deferred[tuple[list[Instance], list[Address]]]:
        return until_written(lambda: self._claim_once(request_id, host, ids))

    @inlineCallbacks
    def _claim_once(
        self, request_id: str, host: str, ids: Sequence[str]
    ) -> Generator[Deferred[Any], Any, tuple[list[Instance], list[Address]]]:
        """
        @return: the instances as they were written, and the addresses of those
            that come from another host.
        """
        known = [stored for stored in [self._read.pop(id, None) for id in ids] if stored is not None]
        found: list[Stored[Instance]] = known if len(known) == len(ids) else (yield self._unplaced(ids))
        if not found:
            return [], []
        view = yield self._hosts.view(host)
        now = self._clock.seconds()
        members = yield self.members(groups_of([_wanted(stored.record) for stored in found]), self._hosts.names())
        transaction = self._store.transaction(request_id)
        records: list[Instance] = []
        for stored in found:
            instance: Instance = stored.record
            ports = tuple(
                port if port.address else _addressed(port, transaction.take("fixed:" + port.network))
                for port in instance.ports
            )
            placed = changed(
                instance,
                host=host,
                zone=view.zone,
                on_host=True,
                review_at=now + self._resend_after,
                ports=ports,
                placement=self._joined(transaction, instance.placement, members, host, view.zone),
                refusals={},
            )
            records.append(placed)
        following = yield self._follow(transaction, records, now)
        for stored, placed in zip(found, records, strict=True):
            transaction.update(stored, placed)
        for name, most in view.capacity.room().items():
            transaction.limit(f"load:{host}:{name}", most)
        transaction.idle(CLOSED, f"compute.{host}")
        committed = yield self._store.commit(transaction)
        placed_ids = {stored.record.id for stored in found}
        return [each.record for each in committed.records if each.record.id in placed_ids], following

    @inlineCallbacks
    def _follow(
        self, transaction: Any, records: list[Instance], now: float
    ) -> Generator[Deferred[Any], Any, list[Address]]:
        """
        Bring along what those have that ran on another host before.
        """
        before = [record for record in records if record.started]
        if not before:
            return []
        followed, addresses = yield follow(self._store, transaction, before, now, now + self._resend_after)
        by_id = {record.id: record for record in followed}
        records[:] = [by_id.get(record.id, record) for record in records]
        return addresses  # type: ignore[no-any-return]

    def _joined(
        self, transaction: Any, membership: Membership | None, members: dict[str, Members], host: str, zone: str
    ) -> Membership | None:
        """
        The membership of an instance that comes to a host; the write is
        refused if the group does not want it there.
        """
        if membership is None:
            return None
        others = members[membership.group]
        partition = chosen_partition(membership, others, host)
        joined = attrs.evolve(membership, partition=partition)
        on_host = others.setdefault(host, {})
        on_host[partition] = on_host.get(partition, 0) + 1
        restrict(transaction, joined, host, zone, self._hosts.zone_names())
        return joined

    @inlineCallbacks
    def _wait_once(self, request_id: str, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Leave instances pending, to be looked at soon: no host has ever reported,
        as when a cloud is coming up.
        """
        for id in ids:
            self._read.pop(id, None)
        found = yield self._unplaced(ids)
        soon = self._clock.seconds() + min(SOON, self._resend_after)
        transaction = self._store.transaction(request_id)
        for stored in found:
            transaction.update(stored, attrs.evolve(stored.record, review_at=soon))
        if found:
            yield self._store.commit(transaction)

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
        ended = [
            moved(stored.record, "fail_start" if stored.record.started else "fail", now, reason, refusals=reasons)
            for stored in found
        ]
        ended = yield release_disks(self._store, transaction, ended, now)
        for stored, record in zip(found, ended, strict=True):
            transaction.update(stored, record)
        yield self._store.commit(transaction)

    @inlineCallbacks
    def _unplaced(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Stored[Instance]]]:
        found = yield self._store.read(Instance, ids)
        return [
            stored
            for stored in found
            if stored is not None and stored.record.state == "pending" and not stored.record.host
        ]


def _wanted(instance: Instance) -> Wanted:
    return Wanted(instance.id, instance.needs, instance.wanted_zone, instance.architecture, instance.placement)


def _apart(error: LimitExceeded | InUse) -> bool:
    """Whether it was a placement group that said no."""
    if isinstance(error, InUse):
        return error.kind != CLOSED
    return error.counter.startswith("uses:placed:")


def _full(error: LimitExceeded | InUse) -> str:
    """Why a claim on a host was refused."""
    if isinstance(error, InUse) and error.kind == CLOSED:
        return "disabled by an operator"
    if isinstance(error, InUse):
        return "its placement group has other partitions, or its zone, elsewhere"
    if _apart(error):
        return "has an instance of the same spread placement group"
    return f"{error.counter.rsplit(':', 1)[1]}: {error.used} of {error.limit} promised"


def _addressed(port: Port, address: str) -> Port:
    """
    A port with its address to be, and the name C{ip-A-B-C-D} that EC2 gives one.
    """
    return attrs.evolve(port, address=address, hostname="ip-" + dashed(address))
