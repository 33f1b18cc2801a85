"""
Tests for L{fabric.network.groups}.
"""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import DriverFailure
from fabric.faults import NoFaults
from fabric.network.fake import FakeNetwork
from fabric.network.groups import HostGroups, after
from fabric.network.interface import GroupOrder, RuleOrder
from fabric.testing.network import NETWORK, PEERS, WEB, plug


def rules(id: str, order: int) -> GroupOrder:
    """An order about rules that tells by its port when it was given."""
    return GroupOrder(id, order, (RuleOrder(False, "tcp", order, order, "::/0"),))


def members(id: str, order: int) -> GroupOrder:
    """An order about members, likewise."""
    return GroupOrder(id, members_order=order, addresses=(f"10.0.0.{order}",))


orders = st.lists(
    st.builds(
        lambda make, id, order: make(id, order),
        st.sampled_from([rules, members]),
        st.sampled_from("ab"),
        st.integers(1, 9),
    ),
    max_size=8,
)


class AfterTests(SynchronousTestCase):
    """
    Of each thing the newest.
    """

    @given(orders, st.randoms(use_true_random=False))
    def test_any_order(self, told: list[GroupOrder], random) -> None:
        """Orders that come in any order, and twice, leave the same."""
        here: dict[str, GroupOrder] = {}
        for order in told:
            here = after(here, [order], 0)
        again = [*told, *told]
        random.shuffle(again)
        there: dict[str, GroupOrder] = {}
        for order in again:
            there = after(there, [order], 0)
        self.assertEqual(there, here)

    def test_both_things_of_a_group(self) -> None:
        """A group's rules and its members are told apart and kept together."""
        here = after({}, [rules("a", 3)], 0)
        here = after(here, [members("a", 2)], 0)
        self.assertEqual(here["a"], attrs.evolve(rules("a", 3), members_order=2, addresses=("10.0.0.2",)))
        self.assertEqual(after(here, [rules("a", 2), members("a", 1)], 0)["a"].rules_order, 3)

    def test_whole(self) -> None:
        """When all is told, what is older and was not told goes; what is newer stays."""
        here = after({}, [rules("a", 3), rules("b", 3), rules("c", 8), members("d", 3)], 0)
        here = after(here, [members("a", 8), members("b", 3)], 0)
        told = after(here, [rules("b", 5)], 5)
        self.assertEqual(set(told), {"a", "b", "c"})
        self.assertEqual((told["a"].rules_order, told["a"].members_order), (0, 8))
        self.assertEqual((told["b"].rules_order, told["b"].members_order), (5, 0))


class HostGroupsTests(SynchronousTestCase):
    """
    What becomes of orders in a driver.
    """

    def setUp(self) -> None:
        """Over a fake with two ports."""
        self.driver = FakeNetwork(self.mktemp(), Clock())
        self.successResultOf(self.driver.start())
        self.successResultOf(self.driver.express(NETWORK))
        self.successResultOf(self.driver.plug([plug(1), plug(2)]))
        self.groups = HostGroups(self.driver, NoFaults())

    def test_apply(self) -> None:
        """New orders are applied beside what is there; old ones are dropped."""
        self.successResultOf(self.groups.apply([WEB], 0, "r"))
        self.successResultOf(self.groups.apply([PEERS, attrs.evolve(WEB, rules_order=4, rules=())], 0, "r"))
        self.assertEqual(self.successResultOf(self.driver.groups()), [WEB, PEERS])

    def test_failure(self) -> None:
        """What the driver refuses is the caller's, and can be ordered again."""
        self.driver.rehearsal.tell("apply_groups fail")
        self.failureResultOf(self.groups.apply([WEB], 0, "r"), DriverFailure)
        self.successResultOf(self.groups.apply([WEB], 0, "r"))
        self.assertEqual(self.successResultOf(self.driver.groups()), [WEB])

    def test_regroup(self) -> None:
        """A plugged port changes its groups; an older order, or one about others, changes nothing."""
        one, other = plug(1).instance, "i-00000000000000099"
        self.successResultOf(self.groups.regroup({one: (2, ("sg-b",)), other: (1, ("sg-b",))}, "r"))
        self.successResultOf(self.groups.regroup({one: (1, ("sg-a",))}, "r"))
        wanted = attrs.evolve(plug(1), groups=("sg-b",), groups_order=2)
        self.assertEqual(self.successResultOf(self.driver.ports()), [wanted, plug(2)])
        # An order to plug that was made before does not take it back.
        self.assertEqual(self.groups.latest([plug(1), plug(2)]), [wanted, plug(2)])
        self.groups.forget([one])
        self.assertEqual(self.groups.latest([plug(1)]), [plug(1)])
