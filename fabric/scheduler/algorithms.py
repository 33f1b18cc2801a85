"""
How a host is chosen: one pure function an algorithm, by name.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import attrs

from fabric.scheduler.interface import HostView, Wanted

MOST_TOLD = 50
"""Hosts whose reasons are kept with an instance that none of them took."""

Choose = Callable[[Wanted, Sequence["Room"]], "Room"]


@attrs.define
class Room:
    """
    What is left of a host while a batch is placed.
    """

    name: str
    zone: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    instances: int
    gpus: int = 0

    @classmethod
    def of(cls, host: HostView) -> Room:
        """The room of a host, its promises taken off."""
        capacity, load = host.capacity, host.load
        return cls(
            host.name,
            host.zone,
            capacity.vcpus - load.get("vcpus", 0),
            capacity.memory_mb - load.get("memory_mb", 0),
            capacity.disk_gb - load.get("disk_gb", 0),
            load.get("instances", 0),
            capacity.gpus - load.get("gpus", 0),
        )

    def lacks(self, wanted: Wanted) -> str:
        """Why an instance does not fit; empty when it does."""
        flavor = wanted.flavor
        for have, need, name in (
            (self.vcpus, flavor.vcpus, "vcpus"),
            (self.memory_mb, flavor.memory_mb, "MiB of memory"),
            (self.disk_gb, flavor.disk_gb, "GiB of disk"),
            (self.gpus, flavor.gpus, "GPUs"),
        ):
            if need and have < need:
                return f"{max(have, 0)} {name} free, {need} wanted"
        return ""

    def take(self, wanted: Wanted) -> None:
        """Promise room to an instance."""
        self.vcpus -= wanted.flavor.vcpus
        self.memory_mb -= wanted.flavor.memory_mb
        self.disk_gb -= wanted.flavor.disk_gb
        self.gpus -= wanted.flavor.gpus
        self.instances += 1


def chance(wanted: Wanted, rooms: Sequence[Room]) -> Room:
    """Any host that fits, at random."""
    return random.choice(rooms)


def simple(wanted: Wanted, rooms: Sequence[Room]) -> Room:
    """The host with the fewest promised processors, then instances."""
    return max(rooms, key=lambda room: (room.vcpus, -room.instances))


def zone(wanted: Wanted, rooms: Sequence[Room]) -> Room:
    """
    The least loaded zone first, then the least loaded host in it: spreads a
    launch without a zone over all of them.
    """
    totals: dict[str, int] = {}
    for room in rooms:
        totals[room.zone] = totals.get(room.zone, 0) + room.instances
    best = min(totals, key=lambda name: (totals[name], name))
    return simple(wanted, [room for room in rooms if room.zone == best])


ALGORITHMS: Mapping[str, Choose] = {"chance": chance, "simple": simple, "zone": zone}
"""Those that choose.  C{queue} does not: the first free worker takes it."""

NAMES = ("queue", *ALGORITHMS)


def fits(wanted: Wanted, host: HostView, room: Room) -> str:
    """
    Why a host is no choice for an instance; empty when it is one.
    """
    if not host.alive:
        return "not alive: no report from it"
    if host.disabled:
        return "disabled by an operator"
    return suits(wanted, host) or room.lacks(wanted)


def suits(wanted: Wanted, host: HostView) -> str:
    """
    Why an instance can't be on a host however much room that has; empty when it can.
    """
    if wanted.zone and host.zone != wanted.zone:
        return f"in zone {host.zone}, {wanted.zone} wanted"
    if wanted.architecture != host.capacity.architecture:
        return f"{host.capacity.architecture} processors, {wanted.architecture} wanted"
    missing = host.capacity.lacks(wanted.flavor)
    return f"has no {missing}" if missing else ""


def told(reasons: Mapping[str, str]) -> dict[str, str]:
    """
    @param reasons: why hosts are no choice.
    @return: those of some of them, each reason once at least, and how many
        others there are: a large cloud has more than people read.
    """
    if len(reasons) <= MOST_TOLD:
        return dict(reasons)
    different = {why: host for host, why in reasons.items()}
    some = list(dict.fromkeys([*different.values(), *reasons]))[:MOST_TOLD]
    return {host: reasons[host] for host in some} | {f"{len(reasons) - MOST_TOLD} other hosts": "as these"}
