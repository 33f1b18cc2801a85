"""
A placement group: how far apart, or how close, its instances stand.

Where the members are is kept by counters, C{uses:placed:…}, which a claim of
room on a host checks in the write that makes it; see L{Membership.limits} and
L{Membership.rivals}.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from fabric.model.record import ALL, Derived, Record, tag_facets

STRATEGIES = ("cluster", "spread", "partition")
"""
C{cluster}: all in one zone, and on as few hosts as hold them.  C{spread}: no
two on one host.  C{partition}: no host has members of two partitions.
"""

MOST_PARTITIONS = 7
"""As on EC2."""


@attrs.frozen
class Membership:
    """
    A placement group as it bears on one instance.

    @ivar group: the group's id.
    @ivar partitions: how many the group has; 0 unless it is of partitions.
    @ivar partition: the instance's, from 1; 0 for one that is to be chosen
        with its host, and outside groups of partitions.
    """

    group: str
    name: str
    strategy: str
    partitions: int = 0
    partition: int = 0

    def counters(self, host: str, zone: str) -> tuple[str, ...]:
        """
        What an instance on a host adds one to.
        """
        on_host = members_counter(self.group, host, self.partition)
        if self.strategy == "cluster":
            return (on_host, f"uses:placed:{self.group}@{zone}")
        return (on_host,)

    def limits(self, host: str) -> tuple[tuple[str, int], ...]:
        """
        C{(counter, maximum)} pairs that a claim on a host must keep.
        """
        return ((members_counter(self.group, host, 0), 1),) if self.strategy == "spread" else ()

    def rivals(self, host: str, zone: str, zones: Iterable[str]) -> tuple[str, ...]:
        """
        The ids, of kind C{placed}, that must have no users for a claim on a
        host: the other partitions there, or the group in all other zones.
        """
        if self.strategy == "partition":
            others = (number for number in range(1, self.partitions + 1) if number != self.partition)
            return tuple(f"{self.group}:{host}:{number}" for number in others)
        if self.strategy == "cluster":
            return tuple(f"{self.group}@{other}" for other in zones if other != zone)
        return ()


def members_counter(group: str, host: str, partition: int) -> str:
    """
    The counter of a group's members on a host; of one partition there in a
    group that has partitions, else of partition 0.
    """
    return f"uses:placed:{group}:{host}:{partition}"


def chosen_partition(membership: Membership, hosts: dict[str, dict[int, int]], host: str) -> int:
    """
    The partition of an instance that comes to a host: the one that it asks
    for, else the one that has the host already, else the one with the fewest
    members.

    @param hosts: members by host and partition.
    """
    if membership.strategy != "partition" or membership.partition:
        return membership.partition
    here = [number for number, count in hosts.get(host, {}).items() if count]
    if here:
        return here[0]
    totals = dict.fromkeys(range(1, membership.partitions + 1), 0)
    for partitions in hosts.values():
        for number, count in partitions.items():
            totals[number] = totals.get(number, 0) + count
    return min(totals, key=lambda number: (totals[number], number))


@attrs.frozen
class PlacementGroup(Record):
    """
    @ivar name: unique in the project.
    @ivar strategy: one of L{STRATEGIES}.
    @ivar partitions: 1 to L{MOST_PARTITIONS} with C{partition}, else 0.
    """

    kind = "placement_group"
    taggable = True

    id: str
    project: str
    name: str
    strategy: str
    partitions: int = 0
    created_at: float = 0.0
    tags: dict[str, str] = attrs.field(factory=dict)

    def membership(self, partition: int = 0) -> Membership:
        """
        What an instance in it keeps of it.
        """
        return Membership(self.id, self.name, self.strategy, self.partitions, partition)

    def derived(self) -> Derived:
        """Filed for its project, with its name unique there."""
        return Derived(
            scopes=(self.project, ALL),
            facets=(("id", self.id), ("name", self.name), ("strategy", self.strategy), *tag_facets(self.tags)),
            unique=(unique_name(self.project, self.name),),
            counters={f"quota:{self.project}:placement_groups": 1},
        )


def unique_name(project: str, name: str) -> str:
    """
    The unique name under which the store finds a project's placement group.
    """
    return f"placement_group:{project}:{name}"
