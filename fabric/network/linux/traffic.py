"""
What rules let pass, as boxes that don't overlap: sets of concatenated ranges
hold nothing else.

A box has four sides: the peer's address, the protocol's number, and the first
two pairs of bytes of what the protocol carries: the ports of tcp and udp, and
of ICMP its type and code (the first pair) and its checksum (the second).
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Sequence

from fabric.network.interface import RuleOrder

Range = tuple[int, int]
"""The first and the last."""

Box = tuple[Range, ...]
"""A range for each side: protocol, first pair, second pair, and then perhaps the peer."""

_PAIR = (0, 65535)
_NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}


def traffic(rule: RuleOrder) -> Box:
    """
    @return: what passes, whoever is on the other side.
    """
    if rule.protocol == "-1":
        return ((0, 255), _PAIR, _PAIR)
    number = _NUMBERS.get(rule.protocol)
    if number is None:
        number = int(rule.protocol)
    proto = (number, number)
    if rule.protocol in ("tcp", "udp"):
        return (proto, _PAIR, (max(rule.from_port, 0), rule.to_port if rule.to_port >= 0 else 65535))
    if rule.protocol in ("icmp", "icmpv6") and rule.from_port >= 0:
        kind = rule.from_port << 8
        return (proto, (kind | max(rule.to_port, 0), kind | (rule.to_port if rule.to_port >= 0 else 255)), _PAIR)
    return (proto, _PAIR, _PAIR)


def peers(rules: Iterable[RuleOrder], version: int) -> list[Box]:
    """
    @return: boxes of the rules whose other side is a range of this version of
        IP, with that range as the last side.
    """
    found = ((rule, ipaddress.ip_network(rule.peer, strict=False)) for rule in rules if rule.peer)
    return [
        (*traffic(rule), (int(network[0]), int(network[-1]))) for rule, network in found if network.version == version
    ]


def apart(boxes: Sequence[Box]) -> list[Box]:
    """
    @return: boxes that hold the same points, none of which is in two.
    """
    if not boxes:
        return []
    if len(boxes[0]) == 1:
        return [(each,) for each in _united(box[0] for box in boxes)]
    cuts = sorted({edge for box in boxes for edge in (box[0][0], box[0][1] + 1)})
    slabs: list[tuple[Range, list[Box]]] = []
    for first, beyond in itertools.pairwise(cuts):
        rest = apart([box[1:] for box in boxes if box[0][0] <= first and beyond <= box[0][1] + 1])
        if slabs and slabs[-1][1] == rest and slabs[-1][0][1] + 1 == first:
            slabs[-1] = ((slabs[-1][0][0], beyond - 1), rest)
        else:
            slabs.append(((first, beyond - 1), rest))
    return [(side, *box) for side, rest in slabs for box in rest]


def _united(ranges: Iterable[Range]) -> list[Range]:
    united: list[Range] = []
    for first, last in sorted(ranges):
        if united and first <= united[-1][1] + 1:
            united[-1] = (united[-1][0], max(last, united[-1][1]))
        else:
            united.append((first, last))
    return united
