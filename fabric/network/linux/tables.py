"""
Packet filters as values: named sets, maps and chains of our own nftables
tables, and the texts by which C{nft -f -} makes them so.

A L{Ruleset} is made of pieces, one for each thing on the host that rules are
about (a port, a group, a floating address), in sections, one for each kind.
What is the same object before and after needs no look at what is in it, so the
text of a small change is made in a time that hardly grows with the host.

@see: U{https://wiki.nftables.org/wiki-nftables/index.php/Atomic_rule_replacement}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import attrs

LINK = "bridge fabric_link"
FILTER = "inet fabric_filter"
NAT = "ip fabric_nat"
TABLES = (LINK, FILTER, NAT)
"""All tables that are ours, each as its family and name."""


class Element(NamedTuple):
    """
    @ivar table: of L{TABLES}.
    @ivar set: the set's or map's name.
    @ivar data: what a map leads to; empty in a set.
    """

    table: str
    set: str
    key: str
    data: str = ""


class Named(NamedTuple):
    """
    A set or a map.

    @ivar kind: C{set} or C{map}.
    @ivar definition: as C{type ipv4_addr; flags interval;}.
    """

    table: str
    name: str
    kind: str
    definition: str


class Chain(NamedTuple):
    """
    @ivar hook: of a base chain, as C{type filter hook input priority filter;
        policy accept;}; empty for one that is jumped to.
    """

    table: str
    name: str
    rules: tuple[str, ...]
    hook: str = ""


@attrs.frozen(eq=False)
class Piece:
    """
    What one thing adds to the rules.

    @ivar source: what it was made of; one of an equal source is the same.
    """

    source: tuple[Any, ...]
    named: tuple[Named, ...] = ()
    chains: tuple[Chain, ...] = ()
    elements: tuple[Element, ...] = ()


Pieces = Mapping[str, Piece]
"""By names of their own."""


@attrs.frozen(eq=False)
class Section:
    """
    The pieces about one kind of thing.

    @ivar source: as of a piece.
    """

    source: tuple[Any, ...]
    pieces: Pieces


@attrs.frozen(eq=False)
class Ruleset:
    """
    Everything that our tables hold.  No two pieces share a set's name, a
    chain's name or an element's key.

    @ivar sections: by name.
    """

    sections: Mapping[str, Section] = attrs.field(factory=dict)

    def pieces(self) -> Iterator[Piece]:
        """@return: all of them."""
        return (piece for section in self.sections.values() for piece in section.pieces.values())


def none() -> str:
    """
    @return: the text that removes our tables, also when there are none.
    """
    return "".join(f"add table {table}\ndelete table {table}\n" for table in TABLES)


def presence() -> str:
    """
    @return: a text that is refused when one of our tables is gone.  To be
        checked, and never to be applied.
    """
    return "".join(f"add chain {table} presence\n" for table in TABLES)


def whole(ruleset: Ruleset) -> str:
    """
    @return: the text that puts our tables in place of what they were, in one
        transaction.
    """
    content = _Content(ruleset.pieces())
    filled = _by_set(content.elements)
    lines = [none()]
    for table in TABLES:
        lines.append(f"table {table} {{")
        for named in (each for each in content.named.values() if each.table == table):
            lines.append(f"{named.kind} {named.name} {{ {named.definition}")
            if held := filled.get((table, named.name)):
                lines.append(f"elements = {{ {_listed(held)} }}")
            lines.append("}")
        for chain in (each for each in content.chains.values() if each.table == table):
            lines.append(f"chain {chain.name} {{ {chain.hook}")
            lines.extend(chain.rules)
            lines.append("}")
        lines.append("}")
    return "\n".join(lines) + "\n"


def change(before: Ruleset, after: Ruleset) -> str:
    """
    @return: the text that makes C{after} of C{before} in one transaction:
        the elements and chains that differ.  Empty for nothing to do; L{whole}
        when what a set or a base chain is made for differs.
    """
    gone, new = _Content(_only(before, after)), _Content(_only(after, before))
    if _reshaped(gone.named, new.named) or _reshaped(_hooks(gone), _hooks(new)):
        return whole(after)
    lines = [*_first(gone, new), *_moved(gone.elements, new.elements), *_last(gone, new)]
    return "\n".join(lines) + "\n" if lines else ""


class _Content:
    """
    What some pieces hold.

    @ivar named, chains: by table and name.
    """

    def __init__(self, pieces: Iterable[Piece]) -> None:
        held = list(pieces)
        self.named = {each[:2]: each for piece in held for each in piece.named}
        self.chains = {each[:2]: each for piece in held for each in piece.chains}
        self.elements = {each for piece in held for each in piece.elements}


def _only(one: Ruleset, other: Ruleset) -> Iterator[Piece]:
    """@return: the pieces of one that are not of the other."""
    for name, section in one.sections.items():
        counterpart = other.sections.get(name)
        if counterpart is not section:
            pieces: Pieces = {} if counterpart is None else counterpart.pieces
            yield from (piece for key, piece in section.pieces.items() if pieces.get(key) is not piece)


def _first(gone: _Content, new: _Content) -> Iterator[str]:
    """Have what elements and rules may speak of, and no rule of chains that change or go."""
    sets, before, after = gone.named, gone.chains, new.chains
    for place, named in new.named.items():
        if place not in sets:
            yield f"add {named.kind} {named.table} {named.name} {{ {named.definition} }}"
    for place, chain in after.items():
        if place not in before:
            yield f"add chain {chain.table} {chain.name}" + (f" {{ {chain.hook} }}" if chain.hook else "")
    for place, chain in before.items():
        if chain != after.get(place):
            yield f"flush chain {chain.table} {chain.name}"


def _moved(gone: set[Element], new: set[Element]) -> Iterator[str]:
    for verb, elements in (("delete", gone - new), ("add", new - gone)):
        for (table, name), held in _by_set(sorted(elements)).items():
            yield f"{verb} element {table} {name} {{ {_listed(held)} }}"


def _last(gone: _Content, new: _Content) -> Iterator[str]:
    """Have the rules, and then nothing of what they no longer speak of."""
    sets, before, after = new.named, gone.chains, new.chains
    for place, chain in after.items():
        if chain != before.get(place):
            yield from (f"add rule {chain.table} {chain.name} {rule}" for rule in chain.rules)
    for place, chain in before.items():
        if place not in after:
            yield f"delete chain {chain.table} {chain.name}"
    for place, named in gone.named.items():
        if place not in sets:
            yield f"delete {named.kind} {named.table} {named.name}"


def _hooks(content: _Content) -> dict[tuple[str, str], str]:
    return {place: chain.hook for place, chain in content.chains.items()}


def _reshaped(gone: Mapping[Any, Any], new: Mapping[Any, Any]) -> bool:
    return any(gone[place] != new[place] for place in gone.keys() & new.keys())


def _by_set(elements: Iterable[Element]) -> dict[tuple[str, str], list[Element]]:
    filled: dict[tuple[str, str], list[Element]] = {}
    for place, held in groupby(elements, lambda element: element[:2]):
        filled.setdefault(place, []).extend(held)
    return filled


def _listed(elements: Iterable[Element]) -> str:
    return ", ".join(f"{key} : {data}" if data else key for _, _, key, data in elements)
