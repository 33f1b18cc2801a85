"""
Host networks as Hypothesis makes them, and a model of what C{nft -f -} does.
"""

from __future__ import annotations

import re

from hypothesis import strategies as st

from fabric.network.interface import Floating, GroupOrder, NetworkOrder, Plug, RuleOrder
from fabric.network.linux.host import HostNetwork

NETWORKS = (
    NetworkOrder("net-1", "10.0.0.0/24", "10.0.0.1", "flatdhcp", "br100", cidr_v6="fd00:1::/64"),
    NetworkOrder("net-2", "10.0.1.0/24", "10.0.1.1", "vlan", "br200", vlan=200),
    NetworkOrder("net-3", "10.0.0.0/16", "10.0.2.1", "flat", "br0"),
)
GROUPS = ("sg-a", "sg-b", "sg-c", "not plain; drop")

_some_groups = st.lists(st.sampled_from(GROUPS), max_size=3, unique=True).map(tuple)
_rules = st.builds(
    RuleOrder,
    st.booleans(),
    st.sampled_from(("tcp", "udp")),
    st.integers(0, 30),
    st.integers(30, 60),
    st.sampled_from(("0.0.0.0/0", "10.0.0.0/8", "192.0.2.7/32", "203.0.113.0/30", "::/0", "fd00::/16")),
) | st.builds(
    RuleOrder,
    st.booleans(),
    st.sampled_from(("-1", "icmp", "icmpv6", "50")),
    st.just(-1),
    st.just(-1),
    st.just(""),
    st.sampled_from(GROUPS),
)
_addresses = st.lists(st.sampled_from(("10.0.0.2", "10.0.1.3", "fd00:1::2")), max_size=3, unique=True).map(tuple)


@st.composite
def hosts(draw: st.DrawFn) -> HostNetwork:
    """Any host; ports may be of networks and groups that are not there, or have the same address."""
    networks = draw(st.lists(st.sampled_from(NETWORKS), unique=True))
    numbers = draw(st.lists(st.integers(2, 9), max_size=5, unique=True))
    ports = [
        Plug(
            "i",
            draw(st.sampled_from(NETWORKS)).id,
            f"02:00:00:00:00:{n:02x}",
            f"10.0.0.{n // 2}",
            "",
            draw(_some_groups),
        )
        for n in numbers
    ]
    groups = [
        GroupOrder(id, 1, tuple(draw(st.lists(_rules, max_size=4))), 1, draw(_addresses))
        for id in draw(st.lists(st.sampled_from(GROUPS), unique=True))
    ]
    floating = [
        Floating(f"203.0.113.{n}", f"10.0.0.{draw(st.integers(2, 4))}", "i", "net-1", "")
        for n in draw(st.lists(st.integers(1, 5), max_size=3, unique=True))
    ]
    return HostNetwork(
        {each.id: each for each in networks},
        {each.mac: each for each in ports},
        {each.id: each for each in groups},
        {each.public: each for each in floating},
    )


class Tables:
    """
    What texts make of tables, as strictly as the kernel would take them.

    @ivar sets: the elements of each, with its definition.
    @ivar chains: the rules of each, with its hook.
    """

    def __init__(self) -> None:
        self.sets: dict[str, tuple[str, dict[str, str]]] = {}
        self.chains: dict[str, tuple[str, list[str]]] = {}

    def apply(self, text: str) -> None:
        """
        @raise AssertionError: the kernel would refuse it.
        """
        table = place = ""
        for line in text.splitlines():
            words = line.split()
            match words:
                case []:
                    pass
                case ["add", "table", *_]:
                    pass
                case ["delete", "table", family, name]:
                    self._drop_table(f"{family} {name} ")
                case ["table", family, name, "{"]:
                    table = f"{family} {name}"
                case ["set" | "map", name, "{", *definition]:
                    place = self._new_set(f"{table} {name}", " ".join(definition))
                case ["chain", name, "{", *hook]:
                    place = self._new_chain(f"{table} {name}", " ".join(hook))
                case ["elements", "=", "{", *_]:
                    self._add(place, line.split("{", 1)[1])
                case ["}"]:
                    pass
                case ["add", "set" | "map", family, name, set_name, "{", *definition, "}"]:
                    self._new_set(f"{family} {name} {set_name}", " ".join(definition))
                case ["add", "chain", family, name, chain, *hook]:
                    self._new_chain(f"{family} {name} {chain}", " ".join(hook).strip("{} "))
                case ["add", "element", family, name, set_name, *_]:
                    self._add(f"{family} {name} {set_name}", line.split("{", 1)[1])
                case ["delete", "element", family, name, set_name, *_]:
                    self._remove(f"{family} {name} {set_name}", line.split("{", 1)[1])
                case ["add", "rule", family, name, chain, *_]:
                    self._rule(f"{family} {name} {chain}", line.split(" ", 5)[5])
                case ["flush", "chain", family, name, chain]:
                    self.chains[f"{family} {name} {chain}"][1].clear()
                case ["delete", "chain", family, name, chain]:
                    self._drop_chain(f"{family} {name} {chain}")
                case ["delete", "set" | "map", family, name, set_name]:
                    self._drop_set(f"{family} {name} {set_name}")
                case _:
                    self._rule(place, line)
        self._whole()

    def _new_set(self, place: str, definition: str) -> str:
        assert place not in self.sets, place
        self.sets[place] = (definition, {})
        return place

    def _new_chain(self, place: str, hook: str) -> str:
        assert place not in self.chains, place
        self.chains[place] = (hook, [])
        return place

    def _rule(self, place: str, rule: str) -> None:
        self.chains[place][1].append(rule)

    def _add(self, place: str, listed: str) -> None:
        for key, data in _elements(listed):
            assert self.sets[place][1].setdefault(key, data) == data, (place, key)

    def _remove(self, place: str, listed: str) -> None:
        for key, data in _elements(listed):
            assert self.sets[place][1].pop(key) == data, (place, key)

    def _drop_chain(self, place: str) -> None:
        assert not self.chains.pop(place)[1], place

    def _drop_table(self, start: str) -> None:
        self.sets = {place: held for place, held in self.sets.items() if not place.startswith(start)}
        self.chains = {place: held for place, held in self.chains.items() if not place.startswith(start)}

    def _drop_set(self, place: str) -> None:
        self.sets.pop(place)

    def _whole(self) -> None:
        """Everything that is spoken of is there."""
        for place, (_, rules) in self.chains.items():
            table = place.rsplit(" ", 1)[0]
            for rule in rules:
                for name in re.findall(r"@([A-Za-z][\w-]*)", rule):
                    assert name == "th" or f"{table} {name}" in self.sets, rule
                for name in re.findall(r"(?:goto|jump) (\S+)", rule):
                    assert f"{table} {name}" in self.chains, rule
        for place, (_, elements) in self.sets.items():
            table = place.rsplit(" ", 1)[0]
            for data in elements.values():
                if data.startswith("goto "):
                    assert f"{table} {data[5:]}" in self.chains, data


def _elements(listed: str) -> list[tuple[str, str]]:
    found = []
    for element in listed.strip().rstrip("}").strip().split(", "):
        key, _, data = element.partition(" : ")
        found.append((key, data))
    return found
