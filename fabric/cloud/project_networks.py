"""
Networks that belong to projects: each has its own VLAN and its own range,
drained from pools when the project launches for the first time.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from typing import Any

from netaddr import IPNetwork
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.claims import check_free
from fabric.cloud.ranges import ipv4_range
from fabric.errors import AlreadyExists, InvalidValue, MemberTaken, Unavailable
from fabric.ids import new_id
from fabric.model.network import Network, own_network
from fabric.model.project_range import ProjectRange
from fabric.model.record import ALL
from fabric.store.interface import IStore, Query, Stored

ATTEMPTS = 20
"""How often a member is looked for that nobody else takes in the same moment."""


def bridge_of(vlan: int) -> str:
    """
    @return: the bridge of a VLAN's network on hosts.
    """
    return f"br{vlan}"


class ProjectNetworks:
    """
    Makes projects' own networks.
    """

    def __init__(self, store: IStore, clock: IReactorTime) -> None:
        self._store = store
        self._clock = clock

    @inlineCallbacks
    def ensure_range(self, label: str, cidr: str, **options: Any) -> Generator[Deferred[Any], Any, None]:
        """
        Have a range of that label, of which projects get networks; what one is
        there is left as it is.

        @param options: fields of L{ProjectRange}.
        @raise InvalidValue: it can't be meant, or its addresses are others'.
        """
        made = ProjectRange(new_id("project_range"), label, cidr, created_at=self._clock.seconds(), **options)
        _check(made)
        yield check_free(self._store, made)
        transaction = self._store.transaction("first-start")
        transaction.create(made)
        try:
            yield self._store.commit(transaction)
        except AlreadyExists:
            return

    @inlineCallbacks
    def ranges(self) -> Generator[Deferred[Any], Any, Sequence[ProjectRange]]:
        """Every range, oldest first."""
        page = yield self._store.records(ProjectRange, Query("project_range", (ALL,)))
        return [stored.record for stored in page.items]

    @inlineCallbacks
    def every(self) -> Generator[Deferred[Any], Any, list[Network]]:
        """Every network of the cloud, oldest first."""
        found: list[Network] = []
        cursor = ""
        while True:
            page = yield self._store.records(Network, Query("network", (ALL,), cursor=cursor))
            found += [stored.record for stored in page.items]
            cursor = page.cursor
            if not cursor:
                return found

    @inlineCallbacks
    def own(
        self, request_id: str, project: str, vlan: int | None = None, **fields: Any
    ) -> Generator[Deferred[Any], Any, Stored[Network]]:
        """
        Have a project's own network.  The VLAN and the range are taken by the
        write that makes the network, and free again with the one that removes it.

        @param vlan: a free tag of a range; any without it.
        @param fields: of the L{Network}, in place of what the range says.
        @raise Unavailable: there is no range for projects, or nothing of it is free.
        @raise AlreadyExists: C{vlan}, or the label among C{fields}, is another network's.
        """
        for attempt in range(ATTEMPTS):
            try:
                network = yield self._planned(project, vlan, attempt, fields)
                transaction = self._store.transaction(request_id)
                transaction.create(network)
                committed = yield self._store.commit(transaction)
                return committed.records[0]  # type: ignore[no-any-return]
            except (AlreadyExists, Unavailable) as error:  # perhaps another launch of the project was quicker
                [there] = yield self._store.resolve(Network, [own_network(project)])
                if there is not None and not fields and vlan is None:
                    return there  # type: ignore[no-any-return]
                if isinstance(error, Unavailable):
                    raise
                if there is not None or error.name == f"network:{network.label}" or vlan is not None:
                    raise AlreadyExists("network", error.name, error.holder) from None
            except MemberTaken as error:
                if vlan is not None and error.member == str(vlan):
                    raise AlreadyExists("network", f"VLAN {vlan}", error.holder) from None
        raise Unavailable("network", "VLANs are taken faster than they are found; try again")

    @inlineCallbacks
    def _planned(
        self, project: str, vlan: int | None, attempt: int, fields: dict[str, Any]
    ) -> Generator[Deferred[Any], Any, Network]:
        ranges = yield self.ranges()
        if not ranges:
            raise Unavailable("network", "the cloud has no VLANs for projects: see network.manager")
        others = yield self.every()
        vlans, cidrs = {str(other.vlan) for other in others}, {other.cidr for other in others}
        for each in ranges:
            tags = [tag for tag in each.tags if tag not in vlans or tag == str(vlan)]
            free = [cidr for cidr in each.ranges[: len(each.tags)] if cidr not in cidrs]
            if vlan is not None:
                tags = [tag for tag in tags if tag == str(vlan)]
            if tags and free:
                first = not attempt
                tag, cidr = (tags[0], free[0]) if first else (random.choice(tags), random.choice(free))
                return self._network(each, project, int(tag), cidr, fields)
        if vlan is not None:
            raise InvalidValue("vlan", str(vlan), "of no range for projects that has anything free")
        raise Unavailable("network", "no VLAN, or no range of addresses, is free for another project")

    def _network(self, range_: ProjectRange, project: str, tag: int, cidr: str, fields: dict[str, Any]) -> Network:
        values: dict[str, Any] = {
            "label": f"project-{project}",
            "gateway": str(IPNetwork(cidr)[1]),
            "reserved": range_.reserved,
            "dns": range_.dns,
            "bridge": bridge_of(tag),
        } | fields
        return Network(
            new_id("network"),
            cidr=cidr,
            manager="vlan",
            project=project,
            vlan=tag,
            range=range_.id,
            created_at=self._clock.seconds(),
            **values,
        )


def _check(made: ProjectRange) -> None:
    whole = ipv4_range(made.cidr)
    if made.size & (made.size - 1) or not 8 <= made.size <= 65536:
        raise InvalidValue("vlan_network_size", str(made.size), "a power of two from 8 to 65536")
    if made.size > whole.size:
        raise InvalidValue("vlan_network_size", str(made.size), f"no more than {made.cidr} has")
    if not 1 <= made.first_vlan <= 4094:
        raise InvalidValue("vlan_start", str(made.first_vlan), "a tag from 1 to 4094")
    if not 2 <= made.reserved < made.size - 1:
        raise InvalidValue("reserved", str(made.reserved), "at least 2, and fewer than each range has")
