"""
The packet filters of a host: a pure function of what its network is to be.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from socket import inet_aton
from typing import Any

import attrs

from fabric.errors import InvalidValue
from fabric.network.interface import Floating, GroupOrder
from fabric.network.linux import filtering, guards, translation
from fabric.network.linux.groups import (
    Neighbours,
    combination,
    combination_piece,
    combined,
    group_piece,
    members_piece,
    referenced,
)
from fabric.network.linux.host import HostNetwork
from fabric.network.linux.plan import Uplinks, is_gateway, uplink
from fabric.network.linux.tables import Element, Piece, Pieces, Ruleset, Section


@attrs.frozen
class Outside:
    """
    What is around the networks of a host, which orders don't say.

    @ivar public_interface: by which packets leave to the outside; empty for any.
    @ivar snat: the address that guests without a floating one have there;
        empty for that of C{public_interface}, or for their own when that is
        empty too.
    @ivar metadata_port: where this host answers for the metadata, at the
        address of each gateway.
    @ivar uplinks: how bridges are joined to those of other hosts.
    @ivar doors: what else of this host its guests may reach.
    """

    public_interface: str = ""
    snat: str = ""
    metadata_port: int = 8775
    uplinks: Uplinks = Uplinks()
    doors: tuple[filtering.Door, ...] = ()


Source = tuple[object, ...]
Make = Callable[[Source], Piece]
"""Makes a piece of what it is made of."""


def ruleset(host: HostNetwork, outside: Outside, before: Ruleset | None = None) -> Ruleset:
    """
    @param before: what an earlier call gave; what would be made of the same
        is taken from it.
    @return: what our tables are to hold.  A port whose network is not there,
        or whose address a newer one has, has nothing and may send nothing.
    @raise InvalidValue: a name can't be that of an interface.
    """
    known = {} if before is None else before.sections
    sections = {}
    for name, source, make in (
        ("fixed", (outside,), _fixed),
        ("networks", (outside, host.networks), _networks),
        ("ports", (host.ports, host.networks, set(host.groups)), _ports),
        ("groups", (host.groups, host.floating, _used(host)), _groups),
        ("floating", (host.floating, _awaited(host)), _floating),
    ):
        section = known.get(name)
        if section is None or section.source != source:
            pieces = _Pieces({} if section is None else section.pieces)
            make(host, outside, pieces)
            section = Section(source, pieces.made)
        sections[name] = section
    return Ruleset(sections)


class _Pieces:
    """
    @ivar made: the pieces of a section, as they are made or found again.
    """

    def __init__(self, known: Pieces) -> None:
        self._known = known
        self.made: dict[str, Piece] = {}

    def add(self, key: str, source: Source, make: Make) -> None:
        """Have a piece."""
        piece = self._known.get(key)
        self.made[key] = piece if piece is not None and piece.source == source else make(source)


class _Public:
    """
    The floating addresses that guests here are seen by, in order.
    """

    def __init__(self, floating: Mapping[str, Floating]) -> None:
        first: dict[str, str] = {}
        for public, each in floating.items():
            first[each.private] = min(public, first.get(each.private, public))
        led = sorted((inet_aton(public), public, private) for private, public in first.items())
        self._packed = [each[0] for each in led]
        self._led = [each[1:] for each in led]

    def within(self, group: GroupOrder) -> Neighbours:
        """
        @return: those that a range is about in which not everybody is.
        """
        found: set[tuple[str, str]] = set()
        for rule in group.rules:
            if rule.peer and not rule.egress and not rule.peer.endswith("/0") and ":" not in rule.peer:
                network = ip_network(rule.peer, strict=False)
                first = bisect_left(self._packed, network[0].packed)
                found.update(self._led[first : bisect_right(self._packed, network[-1].packed)])
        return tuple(sorted(found))


def _fixed(host: HostNetwork, outside: Outside, pieces: _Pieces) -> None:
    _checked(outside.public_interface)
    named = (*guards.NAMED, *filtering.NAMED, *translation.NAMED)
    chains = (
        *guards.CHAINS,
        *filtering.chains(outside.metadata_port, outside.doors),
        *translation.chains(outside.public_interface, outside.snat),
    )
    pieces.add("fixed", (), lambda source: Piece(source, named, chains))


def _networks(host: HostNetwork, outside: Outside, pieces: _Pieces) -> None:
    elements: dict[tuple[str, ...], Element] = {}
    for network in host.networks.values():
        _checked(network.bridge)
        joint = uplink(network, outside.uplinks) if is_gateway(network) else None
        for element in (
            *filtering.network_elements(network),
            *translation.network_elements(network, outside.metadata_port),
            *(guards.uplink_elements(network, _checked(joint.name)) if joint else ()),
        ):
            elements.setdefault(element[:3], element)
    ranges = translation.range_elements(host.networks.values())
    all_of_them = (*elements.values(), *ranges)
    pieces.add("networks", all_of_them, lambda source: Piece(source, elements=all_of_them))


def _ports(host: HostNetwork, outside: Outside, pieces: _Pieces) -> None:
    holders = {(port.network, port.address): mac for mac, port in host.ports.items()}
    combinations = {groups: combined(groups, host.groups) for groups in {port.groups for port in host.ports.values()}}
    for (network_id, _), mac in holders.items():
        network = host.networks.get(network_id)
        if network is not None:
            port = host.ports[mac]
            pieces.add(mac, (port, network, combinations[port.groups]), _port)
    for groups in set(combinations.values()):
        pieces.add(combination(groups), (groups,), _combination)


def _port(source: Any) -> Piece:
    port, network, groups = source
    elements = (*guards.port_elements(port, network), *filtering.port_elements(port, network, groups))
    return Piece(source, elements=elements)


def _combination(source: Any) -> Piece:
    return combination_piece(source[0], source)


def _groups(host: HostNetwork, outside: Outside, pieces: _Pieces) -> None:
    peers: set[str] = set()
    public = _Public(host.floating)
    for id in sorted(_used(host) & host.groups.keys()):
        group = host.groups[id]
        peers |= referenced(group)
        pieces.add("group " + id, (id, group.rules, public.within(group)), _group)
    for id in peers:
        known = host.groups.get(id)
        pieces.add("members " + id, (id, known.addresses if known else ()), _members)


def _used(host: HostNetwork) -> frozenset[str]:
    """@return: the groups that ports here are in: of others nothing is left when their last port goes."""
    return frozenset(group for port in host.ports.values() for group in port.groups)


def _group(source: Any) -> Piece:
    return group_piece(source[0], source[1], source[2], source)


def _members(source: Any) -> Piece:
    return members_piece(source[0], source[1], source)


def _floating(host: HostNetwork, outside: Outside, pieces: _Pieces) -> None:
    led: dict[str, tuple[str, ...]] = {}
    for public, floating in host.floating.items():
        led[floating.private] = (*led.get(floating.private, ()), public)
    for each in led.items():
        pieces.add(each[0], each, _led)

    for private, public in _awaited(host):
        if private not in led:
            pieces.add(private, (private, public), _seen)


def _awaited(host: HostNetwork) -> tuple[tuple[str, str], ...]:
    """@return: who is seen by a floating address that has not followed yet."""
    return tuple((port.address, port.public) for port in host.ports.values() if port.public)


def _led(source: Any) -> Piece:
    return Piece(source, elements=tuple(translation.floating_elements(*source)))


def _seen(source: Any) -> Piece:
    return Piece(source, elements=(translation.public_element(*source),))


def _checked(device: str) -> str:
    if any(character in '"\\*' or not character.isprintable() for character in device):
        raise InvalidValue(name="interface", value=device, why="has characters that no packet filter can name")
    return device
