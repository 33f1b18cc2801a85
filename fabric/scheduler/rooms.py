"""
What all hosts have left while instances are placed on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from fabric.model.flavor import Flavor
from fabric.scheduler.algorithms import Room, fits
from fabric.scheduler.groups import Company
from fabric.scheduler.interface import HostView, Wanted

_Kind = tuple[Flavor, str, str]


@attrs.define
class _Fitting:
    """
    The rooms that an instance of one kind fits in.

    @ivar seen: how many promises had been made when they were looked at.
    """

    rooms: dict[str, Room]
    seen: int


class Rooms:
    """
    The rooms of hosts as they were read, with what was promised since.

    A room only shrinks until hosts are read again.  So the thousands of them
    are looked at once for each kind of instance, and then only those in which
    something was promised.

    @ivar hosts: as they were read.
    """

    def __init__(self, hosts: Sequence[HostView]) -> None:
        self.hosts = hosts
        self._rooms = {host.name: Room.of(host) for host in hosts}
        self._fitting: dict[_Kind, _Fitting] = {}
        self._promised: list[str] = []
        self._reasons: dict[tuple[_Kind, int], dict[str, str]] = {}

    def fitting(self, wanted: Wanted, company: Company) -> list[Room]:
        """
        @return: the rooms of the hosts that are a choice for an instance, in
            the order of the hosts.
        """
        kind = _kind(wanted)
        found = self._fitting.get(kind)
        if found is None:
            rooms = self._rooms
            rooms = {host.name: rooms[host.name] for host in self.hosts if not fits(wanted, host, rooms[host.name])}
            found = self._fitting[kind] = _Fitting(rooms, len(self._promised))
        for name in self._promised[found.seen :]:
            if name in found.rooms and found.rooms[name].lacks(wanted):
                del found.rooms[name]
        found.seen = len(self._promised)
        if wanted.group is None:
            return list(found.rooms.values())
        return [room for name, room in found.rooms.items() if not company.forbids(wanted, name)]

    def take(self, wanted: Wanted, room: Room) -> None:
        """Promise room to an instance."""
        room.take(wanted)
        self._promised.append(room.name)

    def reasons(self, wanted: Wanted, company: Company) -> dict[str, str]:
        """
        @return: why each host is no choice for an instance; for several of one
            kind the same object.
        """
        found = self._reasons.get(self._moment(wanted)) if wanted.group is None else None
        if found is None:
            found = {
                host.name: why
                for host in self.hosts
                if (why := fits(wanted, host, self._rooms[host.name]) or company.forbids(wanted, host.name))
            }
            if wanted.group is None:
                self._reasons = {self._moment(wanted): found}
        return found

    def _moment(self, wanted: Wanted) -> tuple[_Kind, int]:
        return _kind(wanted), len(self._promised)


def _kind(wanted: Wanted) -> _Kind:
    return wanted.flavor, wanted.zone, wanted.architecture
