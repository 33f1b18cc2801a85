"""
The instance's lifecycle table, and what is filed for an instance.
"""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import WrongState
from fabric.model.flavor import BUILT_IN
from fabric.model.group import address_facet
from fabric.model.instance import (
    CODES,
    LIFECYCLE,
    GroupName,
    Instance,
    Migration,
    Port,
    StateReason,
    is_overdue,
    moved,
)

VERBS = sorted(LIFECYCLE.moves)
STATES = LIFECYCLE.states()


def instance(**changes: object) -> Instance:
    """An instance on a host, with an address."""
    made = Instance(
        id="i-0",
        project="p",
        reservation="r-0",
        launch_index=0,
        image="ami-0",
        flavor=BUILT_IN["m1.small"],
        launched_at=0.0,
        changed_at=0.0,
        host="h",
        on_host=True,
        groups=(GroupName("sg-0", "default"),),
        ports=(Port("net-0", "02:00:00:00:00:01", "10.0.0.5", "ip-10-0-0-5"),),
    )
    return attrs.evolve(made, **changes)


class LifecycleTests(SynchronousTestCase):
    """
    The table as a whole.
    """

    def test_states_are_ec2s(self) -> None:
        """The table has the states that EC2 has a code for, and no others."""
        self.assertEqual(set(STATES), set(CODES))

    def test_final_states_are_final(self) -> None:
        """Nothing leads out of a final state."""
        for final in LIFECYCLE.final:
            for verb, row in LIFECYCLE.moves.items():
                self.assertIn(row.get(final), (None, final), verb)

    def test_every_state_but_resting_ones_has_a_deadline(self) -> None:
        """Only running, stopped and terminated may last."""
        self.assertEqual(set(STATES) - set(LIFECYCLE.deadlines), {"running", "stopped", "terminated"})

    def test_deadlines_lead_out(self) -> None:
        """What follows a passed deadline leaves the state."""
        for state, deadline in LIFECYCLE.deadlines.items():
            self.assertNotEqual(LIFECYCLE.next_state(deadline.verb, state), state)
            self.assertIsNotNone(LIFECYCLE.next_state(deadline.verb, state))

    def test_terminated_is_reached_from_everywhere(self) -> None:
        """A user can end an instance from any state."""
        for state in STATES:
            after = LIFECYCLE.next_state("terminate", state)
            self.assertIn(after, ("shutting-down", "terminated"), state)

    def test_every_move_is_the_tables(self) -> None:
        """C{moved} does what the table says for each verb in each state."""
        for verb in VERBS:
            for state in STATES:
                before = instance(state=state)
                expected = LIFECYCLE.next_state(verb, state)
                if expected is None:
                    error = self.assertRaises(WrongState, moved, before, verb, 1.0)
                    self.assertEqual(error.wanted, LIFECYCLE.sources(verb))
                else:
                    self.assertEqual(moved(before, verb, 1.0).state, expected)


class MovedTests(SynchronousTestCase):
    """
    One move.
    """

    def test_change_notes_time_and_reason(self) -> None:
        """A change of state sets when and why."""
        reason = StateReason("Client.UserInitiatedShutdown", "by the user")
        after = moved(instance(state="running"), "stop", 7.0, reason)
        self.assertEqual((after.changed_at, after.reason), (7.0, reason))
        self.assertEqual(after.reason_text, "User initiated (1970-01-01 00:00:07 GMT)")

    def test_no_change_keeps_time(self) -> None:
        """A verb that leads nowhere leaves the time of the last change."""
        self.assertEqual(moved(instance(state="stopping"), "stop", 7.0).changed_at, 0.0)

    def test_overdue_only_after_the_deadline(self) -> None:
        """A transitional state is overdue when its deadline has passed, not before."""
        seconds = LIFECYCLE.deadlines["pending"].seconds
        self.assertFalse(is_overdue(instance(state="pending"), seconds))
        self.assertTrue(is_overdue(instance(state="pending"), seconds + 1))
        self.assertFalse(is_overdue(instance(state="running"), 1e9))


class DerivedTests(SynchronousTestCase):
    """
    What is filed.
    """

    @given(st.sampled_from(STATES), st.booleans())
    def test_room_and_address_are_held_while_the_host_may_have_it(self, state: str, on_host: bool) -> None:
        """An address and room are given back only when the host has nothing of the instance."""
        derived = instance(state=state, on_host=on_host).derived()
        held = state != "terminated" or on_host
        self.assertEqual(bool(derived.pools), held)
        self.assertEqual("load:h:vcpus" in derived.counters, held)

    def test_addresses_of_group(self) -> None:
        """Of its groups' members it has all addresses, of IPv6 too where its network has any, once it is on a host."""
        sixth = instance(ports=(Port("net-0", "02:00:00:00:00:01", "10.0.0.5", cidr_v6="fd00:1::/64"),))
        expected = {"10.0.0.5", "fd00:1::ff:fe00:1", "fe80::ff:fe00:1"}
        for which, known in ((instance(), {"10.0.0.5"}), (sixth, expected), (attrs.evolve(sixth, host=""), set())):
            found = {value for name, value in which.derived().facets if name == address_facet("sg-0")}
            self.assertEqual(found, known)

    def test_gpus(self) -> None:
        """GPUs are claimed of the host, of both hosts while it moves; what has none claims none."""
        plain = instance(state="stopped", migration=Migration("there", 2, 0.0))
        self.assertFalse([name for name in plain.derived().counters if name.endswith(":gpus")])
        derived = attrs.evolve(plain, flavor=attrs.evolve(plain.flavor, gpus=2)).derived()
        claimed = {name: most for name, most in derived.counters.items() if name.endswith(":gpus")}
        self.assertEqual(claimed, {"load:h:gpus": 2, "load:there:gpus": 2})

    @given(st.sampled_from(STATES), st.booleans())
    def test_quota_is_held_until_terminated(self, state: str, on_host: bool) -> None:
        """Quota is given back when the instance is terminated for its user."""
        derived = instance(state=state, on_host=on_host).derived()
        self.assertEqual("quota:p:instances" in derived.counters, state != "terminated")

    @given(st.sampled_from(STATES), st.booleans())
    def test_whatever_waits_is_due(self, state: str, on_host: bool) -> None:
        """Only what may stay as it is for ever is never looked at."""
        derived = instance(state=state, on_host=on_host).derived()
        self.assertEqual(derived.due is None, state in ("running", "stopped"))
