"""
Security groups as sets and chains.

Each group has one chain a direction, and in it one look into a set for the
rules about ranges of addresses, and one for each group that its rules are
about.  Each combination of groups that ports here are in has a chain that
jumps to those of its groups; maps lead from a port's address to its
combination.  So what a packet costs does not depend on how many ports, groups
or rules there are, but on the groups of its port alone.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence

from fabric.network.interface import GroupOrder, RuleOrder
from fabric.network.linux.tables import FILTER, Chain, Element, Named, Piece
from fabric.network.linux.traffic import Box, Range, apart, peers, traffic

_IN, _OUT = "in", "out"
_PEER = {_IN: "saddr", _OUT: "daddr"}
_SIDES = "meta l4proto . th sport . th dport"
_SIDE_TYPES = "inet_proto . inet_service . inet_service"
_FAMILIES = ((4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr"))
_PLAIN = re.compile(r"[A-Za-z0-9-]{1,40}\Z")


def combination(groups: Sequence[str]) -> str:
    """
    @return: what the chains of ports in these groups are called, before the
        direction.
    """
    return "port-" + hashlib.sha256(" ".join(sorted(set(groups))).encode()).hexdigest()[:16]


def combined(groups: tuple[str, ...], known: Mapping[str, GroupOrder]) -> tuple[str, ...]:
    """
    @return: those of the groups whose rules are known here, in one order.
    """
    return tuple(sorted({id for id in groups if id in known}))


def combination_piece(groups: tuple[str, ...], source: tuple[object, ...]) -> Piece:
    """
    @param groups: as L{combined} has them.
    @return: the chains of ports that are in these groups.
    """
    return Piece(
        source,
        chains=tuple(
            Chain(
                FILTER,
                f"{combination(groups)}-{way}",
                ("ct state invalid drop", *(f"jump {_plain(id)}-{way}" for id in groups), "drop"),
            )
            for way in (_IN, _OUT)
        ),
    )


def members_piece(group: str, addresses: tuple[str, ...], source: tuple[object, ...]) -> Piece:
    """
    @param addresses: of all members, of both versions.
    @return: sets of the members' addresses, for rules of any group about this one.
    """
    held = set(addresses)
    sixth = {address for address in held if ":" in address}
    by_version = {4: held - sixth, 6: sixth}
    names = {version: f"members{version}-{_plain(group)}" for version in by_version}
    return Piece(
        source,
        named=tuple(Named(FILTER, names[version], "set", f"type {kind};") for version, _, kind in _FAMILIES),
        elements=tuple(
            Element(FILTER, names[version], address) for version, some in by_version.items() for address in some
        ),
    )


def referenced(group: GroupOrder) -> set[str]:
    """@return: the groups that a group's rules are about."""
    return {rule.group for rule in group.rules if rule.group}


Neighbours = tuple[tuple[str, str], ...]
"""Floating addresses that lead to guests of this host, each with the guest's own."""


def group_piece(group: str, rules: Sequence[RuleOrder], neighbours: Neighbours, source: tuple[object, ...]) -> Piece:
    """
    @param group: its id.
    @param neighbours: those that a rule is about: a guest here that asks for
        another by its floating address still has its own when rules are looked
        at, though it is known outside by its floating one.
    @return: the chains of a group's rules, with their sets.
    """
    named: list[Named] = []
    chains: list[Chain] = []
    elements: list[Element] = []
    for way in (_IN, _OUT):
        there = [rule for rule in rules if rule.egress == (way == _OUT)]
        accepts: list[str] = []
        parts = [*_about_ranges(group, way, there), *_about_groups(group, way, there)]
        if way == _IN:
            parts.extend(_about_neighbours(group, there, neighbours))
        for part in parts:
            named.append(part[0])
            elements.extend(part[1])
            accepts.extend(part[2])
        chains.append(Chain(FILTER, f"{_plain(group)}-{way}", tuple(accepts)))
    return Piece(source, tuple(named), tuple(chains), tuple(elements))


_Part = tuple[Named, list[Element], list[str]]
"""A set, what is in it, and the rules that look there."""


def _about_ranges(group: str, way: str, rules: Sequence[RuleOrder]) -> Iterator[_Part]:
    for version, family, kind in _FAMILIES:
        boxes = apart(peers(rules, version))
        if boxes:
            name = f"{_plain(group)}-{way}{version}"
            named = Named(FILTER, name, "set", f"type {_SIDE_TYPES} . {kind}; flags interval;")
            # a floating address that is sent to is one of this host by now
            peer = "ct original ip daddr" if (way, version) == (_OUT, 4) else f"{family} {_PEER[way]}"
            accept = f"{_SIDES} . {peer} @{name} accept"
            elements = [Element(FILTER, name, f"{_sides(box)} . {_addresses(box[3], version)}") for box in boxes]
            yield named, elements, [accept]


def _about_neighbours(group: str, rules: Sequence[RuleOrder], neighbours: Neighbours) -> Iterator[_Part]:
    boxes: list[Box] = []
    for box in (box for box in peers(rules, 4) if box[3] != (0, 2**32 - 1)):
        for public, private in neighbours:
            if box[3][0] <= int(ipaddress.IPv4Address(public)) <= box[3][1]:
                own = int(ipaddress.IPv4Address(private))
                boxes.append((*box[:3], (own, own)))
    if boxes:
        name = f"{_plain(group)}-in-floating"
        named = Named(FILTER, name, "set", f"type {_SIDE_TYPES} . ipv4_addr; flags interval;")
        elements = [Element(FILTER, name, f"{_sides(box)} . {_addresses(box[3], 4)}") for box in apart(boxes)]
        yield named, elements, [f"ct status dnat {_SIDES} . ip saddr @{name} accept"]


def _about_groups(group: str, way: str, rules: Sequence[RuleOrder]) -> Iterator[_Part]:
    for peer in sorted({rule.group for rule in rules if rule.group}):
        name = f"{_plain(group)}-{way}-{_plain(peer)}"
        named = Named(FILTER, name, "set", f"type {_SIDE_TYPES}; flags interval;")
        boxes = apart([traffic(rule) for rule in rules if rule.group == peer])
        accepts = [
            f"{family} {_PEER[way]} @members{version}-{_plain(peer)} {_SIDES} @{name} accept"
            for version, family, _ in _FAMILIES
        ]
        yield named, [Element(FILTER, name, _sides(box)) for box in boxes], accepts


def _sides(box: Box) -> str:
    return " . ".join(map(_range, box[:3]))


def _range(side: Range) -> str:
    return str(side[0]) if side[0] == side[1] else f"{side[0]}-{side[1]}"


def _addresses(side: Range, version: int) -> str:
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    first, last = map(str, map(kind, side))
    return first if first == last else f"{first}-{last}"


def _plain(id: str) -> str:
    """A group's id as part of a name in nftables."""
    return id if _PLAIN.match(id) else "x" + hashlib.sha256(id.encode()).hexdigest()[:20]
