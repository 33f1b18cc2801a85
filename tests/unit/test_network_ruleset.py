"""
The packet filters of a host as a pure function, and the texts that make them.
"""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import InvalidValue
from fabric.network.interface import GroupOrder, NetworkOrder, Plug, RuleOrder
from fabric.network.linux.changes import associated
from fabric.network.linux.host import HostNetwork
from fabric.network.linux.plan import Uplinks
from fabric.network.linux.ruleset import Outside, ruleset
from fabric.network.linux.tables import TABLES, Element, Ruleset, change, none, whole
from fabric.testing.hostnetworks import crowd, joined
from tests.unit.network_hosts import Tables, hosts

OUTSIDE = Outside("eth0", "198.51.100.1", uplinks=Uplinks(vlan_interface="eth1"))


def elements(rules: Ruleset, name: str) -> set[tuple[str, str]]:
    """The keys of a set or map, of whichever table, with what they lead to."""
    return {(each.key, each.data) for piece in rules.pieces() for each in piece.elements if each.set == name}


class ChangeTests(SynchronousTestCase):
    """L{change} and L{whole}."""

    @settings(deadline=None)
    @given(hosts(), hosts())
    def test_any(self, before: HostNetwork, after: HostNetwork) -> None:
        """A change makes of what was there what the whole text would."""
        first = ruleset(before, OUTSIDE)
        second = ruleset(after, OUTSIDE, first)
        changed, loaded = Tables(), Tables()
        changed.apply(whole(first))
        changed.apply(change(first, second))
        loaded.apply(whole(ruleset(after, OUTSIDE)))
        self.assertEqual(changed.sets, loaded.sets)
        self.assertEqual(changed.chains, loaded.chains)

    @settings(deadline=None)
    @given(hosts())
    def test_whole_again(self, host: HostNetwork) -> None:
        """The whole text may come on top of anything, of ours too."""
        tables, text = Tables(), whole(ruleset(host, OUTSIDE))
        tables.apply(text)
        once = (tables.sets, tables.chains)
        tables.apply(text)
        self.assertEqual((tables.sets, tables.chains), once)

    @settings(deadline=None)
    @given(hosts())
    def test_nothing(self, host: HostNetwork) -> None:
        """Nothing to do is no text."""
        first = ruleset(host, OUTSIDE)
        self.assertEqual(change(first, ruleset(attrs.evolve(host), OUTSIDE, first)), "")

    def test_small(self) -> None:
        """One more instance among many is a few elements: no chain, no set, no rule."""
        host = crowd(200)
        before = ruleset(host, OUTSIDE)
        text = change(before, ruleset(joined(host, [200]), OUTSIDE, before))
        self.assertEqual({line.split(" ", 2)[0:2][1] for line in text.splitlines()}, {"element"})
        self.assertLess(len(text), 1000)

    def test_other_shape(self) -> None:
        """What base chains do can only be changed as a whole."""
        host = crowd(2)
        before, after = ruleset(host, OUTSIDE), ruleset(host, Outside())
        tables = Tables()
        tables.apply(whole(before))
        tables.apply(change(before, after))
        loaded = Tables()
        loaded.apply(whole(after))
        self.assertEqual(tables.chains, loaded.chains)

    def test_none(self) -> None:
        """Our tables, and no others, are removed."""
        self.assertEqual(
            [line.split(" ", 2) for line in none().splitlines()],
            [[verb, "table", table] for table in TABLES for verb in ("add", "delete")],
        )


class RulesetTests(SynchronousTestCase):
    """L{ruleset}."""

    def test_reused(self) -> None:
        """Pieces about what is the same are the same."""
        host = crowd(50)
        before = ruleset(host, OUTSIDE)
        known = {id(piece) for piece in before.pieces()}
        new = [piece for piece in ruleset(joined(host, [50]), OUTSIDE, before).pieces() if id(piece) not in known]
        self.assertEqual(len(new), 3)  # the port, its floating address, and the members of a group that rules are about

    def test_one_holder(self) -> None:
        """Of two ports with one address, the newer has it, and the other nothing."""
        network = NetworkOrder("n", "10.0.0.0/24", "10.0.0.1")
        old, new = (Plug(f"i-{n}", "n", f"02:00:00:00:00:0{n}", "10.0.0.5") for n in (1, 2))
        rules = ruleset(HostNetwork({"n": network}, {port.mac: port for port in (old, new)}), OUTSIDE)
        self.assertEqual(elements(rules, "holders"), {('"tap020000000002" . 02:00:00:00:00:02 . 10.0.0.5', "")})
        self.assertEqual(elements(rules, "senders"), {('"tap020000000002" . 02:00:00:00:00:02', "")})

    def test_network_missing(self) -> None:
        """A port of a network that is not there has nothing."""
        port = Plug("i", "n", "02:00:00:00:00:01", "10.0.0.5")
        self.assertEqual(elements(ruleset(HostNetwork(ports={port.mac: port}), OUTSIDE), "senders"), set())

    def test_ipv6(self) -> None:
        """A guest has the IPv6 addresses that it makes of its MAC, where the network has a range."""
        network = NetworkOrder("n", "10.0.0.0/24", "10.0.0.1", "flatdhcp", cidr_v6="fd00:1::/64")
        port = Plug("i", "n", "02:16:3e:00:00:01", "10.0.0.5")
        rules = ruleset(HostNetwork({"n": network}, {port.mac: port}), OUTSIDE)
        held = {key.rsplit(" ", 1)[1] for key, _ in elements(rules, "holders6")}
        self.assertEqual(held, {"fd00:1::16:3eff:fe00:1", "fe80::16:3eff:fe00:1"})

    def test_unknown_members(self) -> None:
        """A rule about a group that is not here lets nothing pass, and is no error."""
        group = GroupOrder("sg-1", 1, (RuleOrder(False, "-1", -1, -1, "", "sg-2"),))
        rules = ruleset(HostNetwork(groups={"sg-1": group}), OUTSIDE)
        self.assertEqual(elements(rules, "members4-sg-2"), set())
        Tables().apply(whole(rules))

    def test_several_publics(self) -> None:
        """Of several floating addresses of one guest, all lead in, and one leads out."""
        host = crowd(1)
        [floating] = host.floating.values()
        more = attrs.evolve(floating, public="198.51.100.9")
        rules = ruleset(attrs.evolve(host, floating=host.floating | {more.public: more}), OUTSIDE)
        self.assertEqual(elements(rules, "floating"), {("203.0.0.2", "10.0.0.2"), ("198.51.100.9", "10.0.0.2")})
        self.assertEqual(elements(rules, "public"), {("10.0.0.2", "198.51.100.9")})

    def test_address_that_follows(self) -> None:
        """A guest whose floating address is still elsewhere is seen as that, and not led to by it."""
        host = crowd(1)
        [port] = host.ports.values()
        here = attrs.evolve(host, floating={}, ports={port.mac: attrs.evolve(port, public="198.51.100.9")})
        rules = ruleset(here, OUTSIDE)
        self.assertEqual(elements(rules, "public"), {("10.0.0.2", "198.51.100.9")})
        self.assertEqual(elements(rules, "floating") | elements(rules, "led"), set())
        [floating] = host.floating.values()
        arrived = associated([attrs.evolve(floating, public="198.51.100.9", mac=port.mac)])(here)
        self.assertEqual(arrived.ports, {port.mac: port})
        self.assertEqual(elements(ruleset(arrived, OUTSIDE, rules), "public"), {("10.0.0.2", "198.51.100.9")})

    def test_seen_by_floating(self) -> None:
        """A rule about a range is also about guests here whose floating addresses are in it, but for all of IPv4."""
        host = crowd(3)
        rules = (
            RuleOrder(False, "tcp", 80, 80, "203.0.0.3/32"),
            RuleOrder(False, "tcp", 22, 22, "0.0.0.0/0"),
            RuleOrder(True, "tcp", 23, 23, "203.0.0.0/24"),
        )
        member = {mac: attrs.evolve(port, groups=("sg-1",)) for mac, port in host.ports.items()}
        host = attrs.evolve(host, ports=member, groups=host.groups | {"sg-1": GroupOrder("sg-1", 1, rules)})
        self.assertEqual(elements(ruleset(host, OUTSIDE), "sg-1-in-floating"), {("6 . 0-65535 . 80 . 10.0.0.3", "")})

    def test_group_without_ports(self) -> None:
        """Of a group that no port here is in there is nothing."""
        host = attrs.evolve(crowd(1), ports={})
        self.assertTrue(host.groups)
        named = [each.name for piece in ruleset(host, OUTSIDE).pieces() for each in (*piece.named, *piece.chains)]
        self.assertEqual([name for name in named if any(id in name for id in host.groups)], [])

    def test_bad_name(self) -> None:
        """A bridge whose name would end its string is refused."""
        network = NetworkOrder("n", "10.0.0.0/24", "10.0.0.1", bridge='br"; drop')
        self.assertRaises(InvalidValue, ruleset, HostNetwork({"n": network}), OUTSIDE)

    def test_uplinks(self) -> None:
        """Only a network whose gateway every host is keeps it from its uplink."""
        networks = [
            NetworkOrder("v", "10.0.1.0/24", "10.0.1.1", "vlan", "br7", vlan=7),
            NetworkOrder("f", "10.0.2.0/24", "10.0.2.1", "flat", "br8"),
        ]
        uplinks = Uplinks(flat_interface="eth2", vlan_interface="eth1")
        host = HostNetwork({each.id: each for each in networks})
        rules = ruleset(host, attrs.evolve(OUTSIDE, uplinks=uplinks))
        self.assertEqual(elements(rules, "uplinks"), {('"vlan7"', "")})

    def test_elements_once(self) -> None:
        """Two networks on one bridge say of it once what is the same."""
        networks = [NetworkOrder(f"n{n}", f"10.0.{n}.0/24", f"10.0.{n}.1") for n in (1, 2)]
        rules = ruleset(HostNetwork({each.id: each for each in networks}), OUTSIDE)
        held = [each for piece in rules.pieces() for each in piece.elements]
        self.assertEqual(len(held), len({Element(*each[:3]) for each in held}))
