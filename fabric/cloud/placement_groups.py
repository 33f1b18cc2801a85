"""
Placement groups: names and ids, and moving instances in and out.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.hosts import Hosts
from fabric.cloud.quotas import Quotas, counter, quota_error
from fabric.cloud.retry import until_written
from fabric.errors import AlreadyExists, InUse, InvalidValue, LimitExceeded, NoCapacity, NotFound, WrongState
from fabric.ids import new_id
from fabric.model.instance import Instance
from fabric.model.placement_group import (
    Membership,
    PlacementGroup,
    chosen_partition,
    members_counter,
    unique_name,
)
from fabric.store.interface import IStore, Stored, Want

Members = dict[str, dict[int, int]]
"""A group's members by host and partition."""


class PlacementGroups:
    """
    Makes, finds and removes groups.
    """

    def __init__(self, store: IStore, quotas: Quotas, hosts: Hosts, clock: IReactorTime) -> None:
        self._store = store
        self._quotas = quotas
        self._hosts = hosts
        self._clock = clock

    @inlineCallbacks
    def create(
        self, caller: Caller, name: str, strategy: str, partitions: int = 0, tags: Mapping[str, str] | None = None
    ) -> Generator[Deferred[Any], Any, PlacementGroup]:
        """
        @raise AlreadyExists: the project has a placement group of that name.
        @raise QuotaExceeded: it has as many as it may.
        """
        group = PlacementGroup(
            new_id("placement_group"),
            caller.project,
            name,
            strategy,
            partitions,
            self._clock.seconds(),
            dict(tags or {}),
        )
        limits = yield self._quotas.limits(caller.project)
        transaction = self._store.transaction(caller.request_id)
        transaction.create(group)
        if "placement_groups" in limits:
            transaction.limit(counter(caller.project, "placement_groups"), limits["placement_groups"])
        try:
            yield self._store.commit(transaction)
        except AlreadyExists as error:
            raise AlreadyExists("placement_group", name, error.holder) from None
        except LimitExceeded as error:
            raise quota_error(error) from None
        return group

    def delete(self, caller: Caller, name: str) -> Deferred[PlacementGroup]:
        """
        Remove a group that no instance is in.

        @param name: its name or its id.
        @raise NotFound: the project has no such group.
        @raise InUse: an instance that is not terminated is in it.
        """
        return until_written(lambda: self._delete(caller, name))

    @inlineCallbacks
    def _delete(self, caller: Caller, name: str) -> Generator[Deferred[Any], Any, PlacementGroup]:
        stored = yield self._find(caller, name)
        transaction = self._store.transaction(caller.request_id)
        transaction.delete(stored)
        transaction.idle("placement_group", stored.record.id)
        try:
            yield self._store.commit(transaction)
        except InUse as error:
            raise InUse("placement_group", name, error.by) from None
        return stored.record  # type: ignore[no-any-return]

    def move(self, caller: Caller, id: str, name: str, partition: int = 0, group_id: str = "") -> Deferred[None]:
        """
        Put a stopped instance into a group, named by C{name} or C{group_id},
        or with neither into none.  It stays on its host, which must suit the group.

        @raise NotFound: the instance or the group is not the caller's.
        @raise WrongState: the instance is not stopped.
        @raise NoCapacity: its host does not suit.
        """
        return until_written(lambda: self._move(caller, id, name, group_id, partition))

    @inlineCallbacks
    def _move(
        self, caller: Caller, id: str, name: str, group_id: str, partition: int
    ) -> Generator[Deferred[Any], Any, None]:
        stored, *groups = yield self._store.gather([Want(Instance, id=id), *placement_want(caller, name, group_id)])
        if stored is None or stored.record.project != caller.project:
            raise NotFound("instance", id)
        instance: Instance = stored.record
        if instance.state != "stopped":
            raise WrongState("instance", id, instance.state, ["stopped"])
        membership = joined(caller, name or group_id, partition, groups[0]) if groups else None
        transaction = self._store.transaction(caller.request_id)
        if membership is not None:
            transaction.need("placement_group", membership.group)
            views = yield self._hosts.views()
            members = yield occupancy(self._store, membership, [view.name for view in views])
            number = chosen_partition(membership, members, instance.host)
            membership = attrs.evolve(membership, partition=number)
            restrict(transaction, membership, instance.host, instance.zone, [view.zone for view in views])
        transaction.update(stored, attrs.evolve(instance, placement=membership))
        try:
            yield self._store.commit(transaction)
        except (LimitExceeded, InUse):
            raise NoCapacity({instance.host: f"does not suit placement group {name or group_id}"}) from None

    @inlineCallbacks
    def _find(self, caller: Caller, name: str) -> Generator[Deferred[Any], Any, Stored[PlacementGroup]]:
        [stored] = yield self._store.gather(placement_want(caller, name, ""))
        if stored is None and name.startswith("pg-"):
            [stored] = yield self._store.gather(placement_want(caller, "", name))
        if stored is None or stored.record.project != caller.project:
            raise NotFound("placement_group", name)
        return stored  # type: ignore[no-any-return]


def placement_want(caller: Caller, name: str, id: str) -> list[Want]:
    """
    What to gather to know a group; nothing when neither name nor id is given.
    """
    if name:
        return [Want(PlacementGroup, name=unique_name(caller.project, name))]
    return [Want(PlacementGroup, id=id)] if id else []


def joined(caller: Caller, name: str, partition: int, stored: Stored[PlacementGroup] | None) -> Membership:
    """
    The membership of an instance in a group that was read.

    @raise NotFound: there is none, or it is not the caller's.
    @raise InvalidValue: it has no such partition.
    """
    if stored is None or stored.record.project != caller.project:
        raise NotFound("placement_group", name)
    group = stored.record
    if partition and not 1 <= partition <= group.partitions:
        why = f"Expecting 1 to {group.partitions}." if group.partitions else "The placement group has no partitions."
        raise InvalidValue("PartitionNumber", str(partition), why)
    return group.membership(partition)


@inlineCallbacks
def occupancy(store: IStore, membership: Membership, hosts: list[str]) -> Generator[Deferred[Any], Any, Members]:
    """
    Where a group's members are, in one round trip.
    """
    numbers = range(1, membership.partitions + 1) if membership.partitions else (0,)
    names = {members_counter(membership.group, host, number): (host, number) for host in hosts for number in numbers}
    values = (yield store.counters(list(names))) if names else {}
    members: Members = {}
    for name, (host, number) in names.items():
        if values[name]:
            members.setdefault(host, {})[number] = values[name]
    return members


def restrict(transaction: Any, membership: Membership, host: str, zone: str, zones: list[str]) -> None:
    """
    Have a write refused that would put a member where it must not be.
    """
    for name, most in membership.limits(host):
        transaction.limit(name, most)
    for id in membership.rivals(host, zone, sorted(set(zones))):
        transaction.idle("placed", id)
