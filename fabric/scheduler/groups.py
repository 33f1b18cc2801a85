"""
Placement groups, as every algorithm obeys them: which hosts a member may go
to, and which of these are best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fabric.model.placement_group import Membership, chosen_partition
from fabric.scheduler.algorithms import Room
from fabric.scheduler.interface import HostView, Wanted

Members = dict[str, dict[int, int]]


class Company:
    """
    Where the members of placement groups are, while a batch is placed.

    @param members: by group, host and partition.
    @param zones: of every host.
    """

    def __init__(self, members: Mapping[str, Members], zones: Mapping[str, str]) -> None:
        self._members = members
        self._zones = zones

    @classmethod
    def of(cls, members: Mapping[str, Members], hosts: Sequence[HostView]) -> Company:
        """The company of some groups on hosts."""
        return cls(members, {host.name: host.zone for host in hosts})

    def forbids(self, wanted: Wanted, host: str) -> str:
        """
        Why an instance's group keeps it from a host; empty when it does not.
        """
        group = wanted.group
        if group is None:
            return ""
        members = self._members.get(group.group, {})
        if group.strategy == "spread" and members.get(host):
            return f"has an instance of spread placement group {group.name}"
        if group.strategy == "cluster":
            zones = {self._zones.get(name, "") for name in members}
            if zones and self._zones.get(host) not in zones:
                return f"not in zone {min(zones)}, where cluster placement group {group.name} is"
        if group.partition:
            others = [number for number in members.get(host, {}) if number != group.partition]
            if others:
                return f"is of partition {others[0]} of placement group {group.name}, {group.partition} wanted"
        return ""

    def best(self, wanted: Wanted, rooms: Sequence[Room]) -> Sequence[Room]:
        """
        Those of the hosts that serve the group best: where most members are
        in a cluster, where the fewest are in partitions.
        """
        group = wanted.group
        if group is None or group.strategy == "spread":
            return rooms
        members = self._members.get(group.group, {})
        if group.strategy == "cluster":
            return _least(rooms, lambda room: -sum(members.get(room.name, {}).values()))
        totals = _totals(members)
        return _least(rooms, lambda room: totals.get(chosen_partition(group, members, room.name), 0))

    def take(self, wanted: Wanted, host: str) -> None:
        """Have an instance on a host."""
        group = wanted.group
        if group is not None and group.group in self._members:
            members = self._members[group.group]
            number = chosen_partition(group, members, host)
            on_host = members.setdefault(host, {})
            on_host[number] = on_host.get(number, 0) + 1


NOBODY = Company({}, {})


def groups_of(wanted: Sequence[Wanted]) -> list[Membership]:
    """
    One membership of each group that any of the instances is in.
    """
    return list({each.group.group: each.group for each in wanted if each.group is not None}.values())


def _totals(members: Members) -> dict[int, int]:
    totals: dict[int, int] = {}
    for partitions in members.values():
        for number, count in partitions.items():
            totals[number] = totals.get(number, 0) + count
    return totals


def _least(rooms: Sequence[Room], cost: Callable[[Room], int]) -> Sequence[Room]:
    costs = [cost(room) for room in rooms]
    least = min(costs)
    return [room for room, each in zip(rooms, costs, strict=True) if each == least]
