"""
Rules as boxes that don't overlap.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.network.interface import RuleOrder
from fabric.network.linux.traffic import Box, apart, peers, traffic

RANGES = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda pair: (min(pair), max(pair)))
BOXES = st.lists(st.tuples(RANGES, RANGES, RANGES), max_size=6)
POINTS = [(x, y, z) for x in range(5) for y in range(5) for z in range(5)]


def holders(boxes: list[Box], point: tuple[int, ...]) -> int:
    """How many boxes a point is in."""
    return sum(all(first <= x <= last for x, (first, last) in zip(point, box, strict=True)) for box in boxes)


class ApartTests(SynchronousTestCase):
    """L{apart}."""

    @settings(deadline=None)
    @given(BOXES)
    def test_same_points(self, boxes: list[Box]) -> None:
        """A point is in one box when it was in any, and else in none."""
        made = apart(boxes)
        for point in POINTS:
            self.assertEqual(holders(made, point), min(holders(boxes, point), 1))

    @settings(deadline=None)
    @given(BOXES)
    def test_again(self, boxes: list[Box]) -> None:
        """What is apart stays as it is."""
        made = apart(boxes)
        self.assertEqual(apart(made), made)

    def test_within(self) -> None:
        """A rule that another holds makes no difference."""
        everything = RuleOrder(False, "-1", -1, -1, "0.0.0.0/0")
        ssh = RuleOrder(False, "tcp", 22, 22, "10.0.0.0/8")
        self.assertEqual(apart(peers([everything, ssh], 4)), apart(peers([everything], 4)))


class TrafficTests(SynchronousTestCase):
    """L{traffic} and L{peers}."""

    def test_kinds(self) -> None:
        """Each sort of rule is one box: protocol, ports, and ICMP's type and code."""
        all_of_it = (0, 65535)
        for protocol, first, last, box in (
            ("-1", -1, -1, ((0, 255), all_of_it, all_of_it)),
            ("tcp", 22, 23, ((6, 6), all_of_it, (22, 23))),
            ("udp", 0, 65535, ((17, 17), all_of_it, all_of_it)),
            ("50", -1, -1, ((50, 50), all_of_it, all_of_it)),
            ("icmp", -1, -1, ((1, 1), all_of_it, all_of_it)),
            ("icmp", 8, -1, ((1, 1), (0x800, 0x8FF), all_of_it)),
            ("icmp", 3, 4, ((1, 1), (0x304, 0x304), all_of_it)),
            ("icmpv6", 128, 0, ((58, 58), (0x8000, 0x8000), all_of_it)),
        ):
            self.assertEqual(traffic(RuleOrder(False, protocol, first, last)), box)

    def test_versions(self) -> None:
        """A range belongs to its version of IP; a rule about a group to none."""
        rules = [
            RuleOrder(False, "tcp", 1, 1, "10.0.0.0/31"),
            RuleOrder(False, "tcp", 1, 1, "::/127"),
            RuleOrder(False, "tcp", 1, 1, "", "sg-1"),
        ]
        self.assertEqual([box[3] for box in peers(rules, 4)], [(0x0A000000, 0x0A000001)])
        self.assertEqual([box[3] for box in peers(rules, 6)], [(0, 1)])
