"""
Tests for L{fabric.model.rule} and L{fabric.model.group}.
"""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import InvalidValue
from fabric.model.codec import decode, encode
from fabric.model.group import SecurityGroup
from fabric.model.rule import (
    Permission,
    described,
    meant,
    merged,
    network,
    new_rule,
    opening_rules,
    permission,
    protocol_name,
)

ports = st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(lambda pair: tuple(sorted(pair)))
ranges = st.builds(
    lambda number, length: f"{ipaddress.IPv4Address(number)}/{length}", st.integers(0, 2**32 - 1), st.integers(0, 32)
)
ranges6 = st.builds(
    lambda number, length: f"{ipaddress.IPv6Address(number)}/{length}", st.integers(0, 2**128 - 1), st.integers(0, 128)
)
sides = st.one_of(
    st.builds(lambda text: {"cidr": text}, ranges),
    st.builds(lambda text: {"cidr6": text}, ranges6),
    st.builds(lambda n: {"group": f"sg-{n:08x}", "owner": "p", "group_name": f"g{n}"}, st.integers(0, 9)),
)
permissions = st.one_of(
    st.builds(
        lambda egress, protocol, pair, side: permission(egress, protocol, *pair, **side),
        st.booleans(),
        st.sampled_from(["tcp", "udp", "6", "17", "TCP"]),
        ports,
        sides,
    ),
    st.builds(
        lambda egress, number, side: permission(egress, str(number), 5, 6, **side),
        st.booleans(),
        st.sampled_from([-1, 2, 50, 132, 255]),
        sides,
    ),
    st.builds(
        lambda egress, name, kind, code, side: permission(egress, name, kind, -1 if kind == -1 else code, **side),
        st.booleans(),
        st.sampled_from(["icmp", "icmpv6", "1", "58"]),
        st.integers(-1, 255),
        st.integers(-1, 255),
        sides,
    ),
)


class PermissionTests(SynchronousTestCase):
    """
    One form for each meaning.
    """

    @given(permissions)
    def test_form_is_stable(self, made: Permission) -> None:
        """What was given its form once keeps it, over the store too."""
        again = permission(
            made.egress,
            made.protocol,
            made.from_port,
            made.to_port,
            made.cidr,
            made.cidr6,
            made.group,
            made.owner,
            made.group_name,
        )
        self.assertEqual(again, made)
        self.assertEqual(decode(Permission, encode(made)), made)
        self.assertTrue(meant(made, again))

    @given(ranges)
    def test_host_bits(self, text: str) -> None:
        """Host bits are cleared, and the range is the same one."""
        self.assertEqual(network(text, 4), str(ipaddress.ip_network(text, strict=False)))

    def test_ranges_that_are_none(self) -> None:
        """A range has an address of its version and a length."""
        for text, version in (
            ("10.0.0.1", 4),
            ("10.0.0.1/33", 4),
            ("10.0.0.256/8", 4),
            ("10.0.0.0/255.0.0.0", 4),
            ("::/0", 4),
            ("10.0.0.0/8", 6),
            ("fe80::1%eth0/64", 6),
            ("10.0.0.0/8\n", 4),
            ("x", 4),
        ):
            error = self.assertRaises(InvalidValue, network, text, version)
            self.assertTrue(error.why.startswith("CIDR block "), error.why)
        self.assertEqual(network("2001:DB8:0::1/32", 6), "2001:db8::/32")

    def test_protocols(self) -> None:
        """A protocol has one name here."""
        names = [protocol_name(text) for text in ("6", "TCP", "17", "1", "58", "-1", "050", "icmpv6")]
        self.assertEqual(names, ["tcp", "tcp", "udp", "icmp", "icmpv6", "-1", "50", "icmpv6"])
        for text in ("256", "-2", "esp", "", "٣", "1000"):
            self.assertRaises(InvalidValue, protocol_name, text)

    def test_ports(self) -> None:
        """tcp and udp need two ports in order, icmp type and code; others have none."""
        for protocol, first, last, why in (
            ("tcp", None, None, "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange."),
            ("tcp", 80, None, "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange."),
            ("udp", 80, 22, "Invalid TCP/UDP port range (80:22)"),
            ("tcp", -1, -1, "TCP/UDP port (-1) out of range"),
            ("tcp", 0, 65536, "TCP/UDP port (65536) out of range"),
            ("icmp", 256, -1, "ICMP type (256) out of range"),
            ("icmp", 8, 256, "ICMP code (256) out of range"),
            ("icmp", -1, 3, "ICMP code (3) must be -1 when the ICMP type is -1"),
            ("icmp", None, None, "Invalid value 'Must specify both type and code with ICMP.' for portRange."),
        ):
            error = self.assertRaises(InvalidValue, permission, False, protocol, first, last)
            self.assertEqual(error.why, why)
        self.assertEqual(permission(False, "icmpv6").traffic, ("icmpv6", -1, -1))
        self.assertEqual(permission(False, "-1", 22, 22).traffic, ("-1", -1, -1))
        self.assertEqual(permission(False, "50", 22, 22).traffic, ("50", -1, -1))

    def test_message(self) -> None:
        """A permission reads as EC2's messages have it."""
        for made, text in (
            (
                permission(False, "tcp", 22, 22, cidr="0.0.0.0/0"),
                "peer: 0.0.0.0/0, TCP, from port: 22, to port: 22, ALLOW",
            ),
            (permission(True, "-1", cidr="0.0.0.0/0"), "peer: 0.0.0.0/0, ALL, ALLOW"),
            (permission(False, "icmp", 8, -1, cidr6="::/0"), "peer: ::/0, ICMP, type: 8, code: ALL, ALLOW"),
            (permission(False, "50", group="sg-1"), "peer: sg-1, 50, ALLOW"),
        ):
            self.assertEqual(str(made), text)

    def test_groups_are_meant_by_id_or_name(self) -> None:
        """A rule about a group is meant by its id, its name, or with its owner; not by another's."""
        have = permission(False, "-1", group="sg-1", owner="a", group_name="web")
        for wanted, same in (
            ({"group": "sg-1"}, True),
            ({"group_name": "web"}, True),
            ({"group": "sg-1", "owner": "a"}, True),
            ({"group": "sg-1", "owner": "b"}, False),
            ({"group_name": "db"}, False),
            ({}, False),
        ):
            self.assertEqual(meant(permission(False, "-1", **wanted), have), same)
        self.assertFalse(meant(permission(True, "-1", group="sg-1"), have))

    def test_descriptions(self) -> None:
        """Descriptions are short and of EC2's characters."""
        self.assertEqual(described("a-z (1): x;y"), "a-z (1): x;y")
        for text in ("x" * 256, "<b>", "line\n", "é"):
            self.assertRaises(InvalidValue, described, text)


class MergeTests(SynchronousTestCase):
    """
    Rules as a listing shows them.
    """

    @given(st.lists(permissions, max_size=20, unique=True))
    def test_nothing_is_lost(self, wanted: list[Permission]) -> None:
        """Each rule is in one entry of its direction, with those of the same traffic."""
        rules = [new_rule(each) for each in wanted]
        shown = [rule for egress in (False, True) for traffic in merged(rules, egress) for rule in traffic.rules]
        self.assertEqual(sorted(rule.id for rule in shown), sorted(rule.id for rule in rules))
        for egress in (False, True):
            entries = merged(rules, egress)
            self.assertEqual(len({(e.protocol, e.from_port, e.to_port) for e in entries}), len(entries))


class GroupTests(SynchronousTestCase):
    """
    What is filed for a group.
    """

    def test_users(self) -> None:
        """It uses other groups of its project, not itself and not another project's."""
        rules = (
            *opening_rules("sg-1", "a", "default", True),
            new_rule(permission(False, "-1", group="sg-2", owner="a")),
            new_rule(permission(False, "-1", group="sg-3", owner="b")),
        )
        derived = SecurityGroup("sg-1", "a", "default", "d", rules=rules).derived()
        self.assertEqual([name for name in derived.counters if name.startswith("uses:")], ["uses:group:sg-2"])
        self.assertEqual(derived.references, (("group", "sg-2"),))
        self.assertEqual(derived.lists, ("refers:sg-1", "refers:sg-2", "refers:sg-3"))
        self.assertIsNone(derived.due)

    def test_old_records(self) -> None:
        """A record from before there were rules has none."""
        group = decode(SecurityGroup, {"id": "sg-1", "project": "a", "name": "n", "description": "d"})
        self.assertEqual(group.rules, ())
