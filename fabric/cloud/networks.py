"""
Networks: ranges of fixed addresses, and which one a launch gets.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from ipaddress import ip_address, ip_network
from itertools import count
from typing import Any

from netaddr import INET_PTON, AddrFormatError, IPAddress, IPNetwork, valid_ipv4, valid_ipv6
from twisted.internet.defer import Deferred, fail, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.claims import check_free
from fabric.cloud.project_networks import ProjectNetworks, bridge_of
from fabric.cloud.ranges import check_label
from fabric.errors import AlreadyExists, InvalidValue, NotFound, Unavailable
from fabric.ids import new_id
from fabric.model.network import Network, own_network
from fabric.model.record import PUBLIC
from fabric.store.interface import IStore, Query, Stored, Want

MANAGERS = ("flat", "flatdhcp", "vlan")
FIRST_BRIDGE = 100
"""The number of the first network's bridge, unless another is named."""
LARGEST = 16
"""The shortest prefix that a network may have: its pool is a set of 65,000."""

_BRIDGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")


class Networks:
    """
    @ivar default: the label of the network that launches use.
    """

    def __init__(
        self,
        store: IStore,
        clock: IReactorTime,
        default: str = "private",
        memo_seconds: float = 5.0,
        own: bool = False,
    ) -> None:
        """
        @param own: whether each project launches in a network of its own
            instead, which it is given when it has none.
        """
        self._store = store
        self._clock = clock
        self.default = default
        self._memo_seconds = memo_seconds
        self._own = own
        self._memo: dict[str, tuple[float, Network]] = {}
        self.projects = ProjectNetworks(store, clock)

    def default_want(self, project: str) -> Want:
        """
        What to gather to know the network that a project's launches use.
        """
        return Want(Network, name=own_network(project) if self._own else _unique(self.default))

    def missing(self, caller: Caller) -> Deferred[Stored[Network]]:
        """
        What launches use when what they want is not there.

        @raise Unavailable: nothing.
        """
        if self._own:
            return self.projects.own(caller.request_id, caller.project)
        return fail(Unavailable("network", f"the cloud has no network {self.default!r}"))

    @inlineCallbacks
    def by_id(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, dict[str, Network]]:
        """
        Networks by id.  What orders need of a network never changes, so
        answers are kept for some seconds.

        @raise NotFound: one does not exist.
        """
        horizon = self._clock.seconds() - self._memo_seconds
        unknown = [id for id in set(ids) if self._memo.get(id, (horizon,))[0] <= horizon]
        if unknown:
            found = yield self._store.read(Network, unknown)
            for id, stored in zip(unknown, found, strict=True):
                if stored is None:
                    self._memo.pop(id, None)
                    raise NotFound("network", id)
                self._memo[id] = (self._clock.seconds(), stored.record)
        return {id: self._memo[id][1] for id in ids}

    @inlineCallbacks
    def create(
        self,
        caller: Caller,
        label: str,
        cidr: str = "",
        gateway: str | None = None,
        bridge: str = "",
        reserved: int = 2,
        dns: Sequence[str] = (),
        project: str = "",
        manager: str = "flat",
        vlan: int | None = None,
        cidr_v6: str = "",
    ) -> Generator[Deferred[Any], Any, Network]:
        """
        Make a network.  One of manager C{vlan} takes VLAN and range of the
        projects' ones unless both are said.

        @raise InvalidValue: it can't be meant, or its addresses are others'.
        @raise AlreadyExists: a network of that label, or VLAN, exists, or the
            project has its own.
        @raise Unavailable: nothing is free of which it could be made.
        """
        check_label(label)
        prefix = _checked(manager, vlan, cidr, project, cidr_v6)
        _check_host_words(bridge, dns)
        yield self._alone_by_v6(label, prefix)
        if manager == "vlan" and not (cidr and vlan):
            if cidr or gateway:
                raise InvalidValue("vlan", "", "with a range or gateway, the VLAN is to be said too")
            fields = {"label": label, "cidr_v6": prefix} | ({"bridge": bridge} if bridge else {})
            stored = yield self.projects.own(caller.request_id, project, vlan, **fields)
            return stored.record  # type: ignore[no-any-return]
        range_ = _range(cidr, reserved)
        network = Network(
            new_id("network"),
            label,
            str(range_),
            str(_gateway(range_, gateway)),
            manager,
            project,
            reserved,
            (yield self._bridge(bridge, vlan)),
            vlan,
            tuple(dns),
            created_at=self._clock.seconds(),
            cidr_v6=prefix,
        )
        if vlan:
            yield self._apart(network)
        yield check_free(self._store, network)
        transaction = self._store.transaction(caller.request_id)
        transaction.create(network)
        try:
            yield self._store.commit(transaction)
        except AlreadyExists as error:
            name = label if error.name == _unique(label) else error.name
            raise AlreadyExists("network", name, error.holder) from None
        return network

    @inlineCallbacks
    def _bridge(self, wanted: str, vlan: int | None) -> Generator[Deferred[Any], Any, str]:
        """
        @return: a bridge that no other network has: a host has one for each.
        @raise AlreadyExists: the wanted one is another's.
        """
        others = yield self.projects.every()
        taken = {other.bridge for other in others}
        if wanted and wanted in taken:
            raise AlreadyExists("network", f"with bridge {wanted}", "")
        chosen = next(name for name in (bridge_of(n) for n in count(FIRST_BRIDGE)) if name not in taken)
        return wanted or (bridge_of(vlan) if vlan else chosen)

    @inlineCallbacks
    def _alone_by_v6(self, label: str, cidr_v6: str) -> Generator[Deferred[Any], Any, None]:
        """
        @raise InvalidValue: another network has this range of IPv6.
        """
        others = (yield self.projects.every()) if cidr_v6 else ()
        for other in others:
            if other.cidr_v6 == cidr_v6 and other.label != label:
                raise InvalidValue("cidr_v6", cidr_v6, f"it is network {other.label}'s")

    @inlineCallbacks
    def _apart(self, network: Network) -> Generator[Deferred[Any], Any, None]:
        """
        @raise InvalidValue: its VLAN is kept for projects.
        """
        ranges = yield self.projects.ranges()
        for each in ranges:
            if str(network.vlan) in each.tags:
                raise InvalidValue("vlan", str(network.vlan), f"kept for projects, by {each.label}")

    @inlineCallbacks
    def ensure(self, label: str, cidr: str, **options: Any) -> Generator[Deferred[Any], Any, None]:
        """
        Have a network of that label; what one is there is left as it is.
        """
        try:
            yield self.create(Caller("cloud", "", request_id="first-start"), label, cidr, **options)
        except AlreadyExists:
            return

    @inlineCallbacks
    def delete(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        """
        @raise NotFound: no such network.
        @raise InUse: an address of it is held.
        """
        [stored] = yield self._store.read(Network, [id])
        if stored is None:
            raise NotFound("network", id)
        transaction = self._store.transaction(caller.request_id)
        transaction.delete(stored)
        transaction.idle("network", id)
        yield self._store.commit(transaction)
        self._memo.pop(id, None)

    @inlineCallbacks
    def visible(self, caller: Caller) -> Generator[Deferred[Any], Any, Sequence[Network]]:
        """
        The networks that the caller's project may use: the one that launches
        use first, then the others, oldest first.
        """
        found: list[Network] = []
        cursor = ""
        while True:
            page = yield self._store.records(Network, Query("network", (caller.project, PUBLIC), cursor=cursor))
            found += [stored.record for stored in page.items]
            cursor = page.cursor
            if not cursor:
                return sorted(found, key=lambda network: not self._first(network))

    def _first(self, network: Network) -> bool:
        """Whether launches use this one, of those that a project may use."""
        if self._own:
            return bool(network.project) and network.vlan is not None
        return network.label == self.default

    @inlineCallbacks
    def free(self) -> Generator[Deferred[Any], Any, dict[str, int]]:
        """
        How many addresses of each network, by id, nobody holds.
        """
        pools = yield self._store.pools()
        return {name.removeprefix("fixed:"): free for name, (free, _) in pools.items() if name.startswith("fixed:")}

    def list(self, caller: Caller) -> Deferred[list[Network]]:
        """
        Every network of the cloud, for operators.
        """
        return self.projects.every()


def _unique(label: str) -> str:
    return f"network:{label}"


def _checked(manager: str, vlan: int | None, cidr: str, project: str, cidr_v6: str) -> str:
    """
    @return: the range of IPv6, as it is written.
    @raise InvalidValue: these don't go together.
    """
    if manager not in MANAGERS:
        raise InvalidValue("manager", manager, f"one of {', '.join(MANAGERS)}")
    if vlan is not None and manager != "vlan":
        raise InvalidValue("vlan", str(vlan), f"a VLAN is of manager vlan, not of {manager}")
    if vlan is not None and not 1 <= vlan <= 4094:
        raise InvalidValue("vlan", str(vlan), "a tag from 1 to 4094")
    if manager == "vlan" and not project and not (vlan and cidr):
        raise InvalidValue("project", "", "whose the VLAN is to be, or its tag and range")
    if manager != "vlan" and not cidr:
        raise InvalidValue("cidr", "", "an IPv4 range, as 10.0.0.0/16")
    if not cidr_v6:
        return ""
    if manager == "flat":
        raise InvalidValue("cidr_v6", cidr_v6, "manager flat leaves addresses to others")
    try:
        range_ = IPNetwork(cidr_v6)
    except (AddrFormatError, ValueError):
        raise InvalidValue("cidr_v6", cidr_v6, "an IPv6 range, as fd00:10::/64") from None
    if range_.version != 6 or range_.prefixlen != 64 or range_.ip != range_.network:
        raise InvalidValue("cidr_v6", cidr_v6, "a /64 of IPv6 that begins at its own address")
    if _special(range_):
        raise InvalidValue("cidr_v6", cidr_v6, "a range for hosts; that of a link, or of groups, is none")
    return str(range_)


def _check_host_words(bridge: str, dns: Sequence[str]) -> None:
    """
    @raise InvalidValue: no host could be told so: Linux has no such link, or
        guests can't ask there.
    """
    if bridge and not _BRIDGE.fullmatch(bridge):
        raise InvalidValue("bridge", bridge, "up to 15 letters, digits, dots, dashes and underscores")
    for server in dns:
        if not valid_ipv4(server, INET_PTON) and not valid_ipv6(server):
            raise InvalidValue("dns", server, "the address of a name server")


def _range(cidr: str, reserved: int) -> IPNetwork:
    try:
        range_ = IPNetwork(cidr)
    except (AddrFormatError, ValueError):
        raise InvalidValue("cidr", cidr, "an IPv4 range, as 10.0.0.0/16") from None
    if range_.version != 4 or range_.ip != range_.network:
        raise InvalidValue("cidr", cidr, "an IPv4 range that begins at its own address")
    if _special(range_):
        raise InvalidValue("cidr", cidr, "a range for hosts; that of a link, of one host, or of groups, is none")
    if not LARGEST <= range_.prefixlen <= 29:
        raise InvalidValue("cidr", cidr, f"a prefix from /{LARGEST} to /29")
    if not 2 <= reserved < range_.size - 1:
        raise InvalidValue("reserved", str(reserved), "at least 2, and fewer than the range has")
    return range_


def _special(range_: IPNetwork) -> bool:
    """Whether no host could have its addresses, or each has them for itself, as that of the metadata door."""
    first = ip_address(str(range_.network))
    return first.is_link_local or first.is_loopback or first.is_multicast or first in ip_network("0.0.0.0/8")


def _gateway(range_: IPNetwork, gateway: str | None) -> IPAddress:
    if gateway is None:
        return range_[1]
    try:
        address = IPAddress(gateway)
    except (AddrFormatError, ValueError):
        raise InvalidValue("gateway", gateway, "an IPv4 address") from None
    if address not in range_ or address in (range_.network, range_.broadcast):
        raise InvalidValue("gateway", gateway, f"an address of {range_}, neither the first nor the last")
    return address
