"""
The security groups that a host enforces: what comes of orders that may come
twice, late, or in another order than they were given.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredLock, inlineCallbacks
from twisted.logger import Logger

from fabric.faults import IFaults
from fabric.network.interface import GroupOrder, INetworkDriver, Plug

Regrouped = tuple[int, tuple[str, ...]]
"""An order's number, and the ids of an instance's groups."""


class HostGroups:
    """
    Keeps the newest of each thing that it is told, in the driver.
    """

    log = Logger()

    def __init__(self, driver: INetworkDriver, faults: IFaults) -> None:
        self._driver = driver
        self._faults = faults
        self._one_by_one = DeferredLock()
        self._regrouped: dict[str, Regrouped] = {}

    def apply(self, groups: Sequence[GroupOrder], whole: int, request_id: str) -> Deferred[None]:
        """
        See L{fabric.network.interface.INetworkWorker.apply_groups}.
        """
        return self._one_by_one.run(self._apply, groups, whole, request_id)

    def regroup(self, orders: Mapping[str, Regrouped], request_id: str) -> Deferred[None]:
        """
        See L{fabric.network.interface.INetworkWorker.regroup}.

        @param orders: by instance.  Nobody may plug or unplug their ports
            meanwhile, since they are looked at and then plugged.
        """
        return self._one_by_one.run(self._regroup, orders, request_id)

    def latest(self, ports: Iterable[Plug]) -> list[Plug]:
        """
        @return: ports as they were ordered, or in the groups that a newer
            order put them into.
        """
        return [_in_groups(port, self._regrouped.get(port.instance)) for port in ports]

    def forget(self, instances: Iterable[str]) -> None:
        """These are unplugged."""
        for instance in instances:
            self._regrouped.pop(instance, None)

    @inlineCallbacks
    def _apply(self, groups: Sequence[GroupOrder], whole: int, request_id: str) -> Generator[Deferred[Any], Any, None]:
        here = {group.id: group for group in (yield self._driver.groups())}
        wanted = after(here, groups, whole)
        # Also when they are the same: the driver may know them, and have failed to enforce them.
        yield self._driver.apply_groups(list(wanted.values()))
        self._faults.reach("network.groups_applied")
        self.log.debug("{request_id}: {count} security groups", request_id=request_id, count=len(wanted))

    @inlineCallbacks
    def _regroup(self, orders: Mapping[str, Regrouped], request_id: str) -> Generator[Deferred[Any], Any, None]:
        present = yield self._driver.ports()
        here = [port for port in present if port.instance in orders]
        for instance in {port.instance for port in here}:
            self._regrouped[instance] = max(orders[instance], self._regrouped.get(instance, orders[instance]))
        if here:
            yield self._driver.plug(self.latest(here))
        self._faults.reach("network.regrouped")
        self.log.debug("{request_id}: {count} ports told their groups", request_id=request_id, count=len(here))


def after(here: Mapping[str, GroupOrder], groups: Iterable[GroupOrder], whole: int) -> dict[str, GroupOrder]:
    """
    @param here: what a host has, by id.
    @param groups: what it is told.
    @param whole: the order's number when C{groups} are all, else 0.
    @return: what it is to have: of each thing the newest.
    """
    told = {group.id: group for group in groups}
    kept = {id: group for id, group in here.items() if id in told or _newest(group) >= whole or not whole}
    if whole:  # what a group no longer is to a host goes as well
        kept = {id: _without(group, told.get(id), whole) for id, group in kept.items()}
    return kept | {id: _newer(group, kept.get(id)) for id, group in told.items()}


def _newest(group: GroupOrder) -> int:
    return max(group.rules_order, group.members_order)


def _newer(group: GroupOrder, here: GroupOrder | None) -> GroupOrder:
    if here is None:
        return group
    if here.rules_order > group.rules_order:
        group = attrs.evolve(group, rules_order=here.rules_order, rules=here.rules)
    if here.members_order > group.members_order:
        group = attrs.evolve(group, members_order=here.members_order, addresses=here.addresses)
    return group


def _without(group: GroupOrder, told: GroupOrder | None, whole: int) -> GroupOrder:
    if not (told and told.rules_order) and group.rules_order < whole:
        group = attrs.evolve(group, rules_order=0, rules=())
    if not (told and told.members_order) and group.members_order < whole:
        group = attrs.evolve(group, members_order=0, addresses=())
    return group


def _in_groups(port: Plug, known: Regrouped | None) -> Plug:
    if known is None or known[0] <= port.groups_order:
        return port
    return attrs.evolve(port, groups=known[1], groups_order=known[0])
