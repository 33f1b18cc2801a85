"""
Tests for L{fabric.model.volume} and L{fabric.model.snapshot}.
"""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import WrongState
from fabric.model import snapshot as snapshots
from fabric.model.codec import decode, encode
from fabric.model.instance import Instance
from fabric.model.lifecycle import Lifecycle
from fabric.model.record import ALL, PUBLIC
from fabric.model.snapshot import Snapshot
from fabric.model.volume import (
    ATTACHMENT,
    LIFECYCLE,
    Attachment,
    Modification,
    Volume,
    attachment_moved,
    disk_of,
    moved,
)

VOLUME = Volume("vol-1", "p", 3, "nova", 1.0, 1.0, host="node1", review_at=9.0)
SNAPSHOT = Snapshot("snap-1", "p", "vol-1", 3, "node1", "nova", 1.0, 1.0)


def attached(state: str, volume: Volume = VOLUME) -> Volume:
    """A volume that is in use."""
    given = Attachment("i-1", "/dev/sdf", state, 1.0, 1.0, volume.order, host="node2")
    return attrs.evolve(volume, state="in-use", attachment=given)


class TableTests(SynchronousTestCase):
    """
    The tables, exhaustively.
    """

    def test_transitional_states_have_deadlines(self) -> None:
        """Every state that waits for somebody has a deadline, and its verb is lawful there."""
        waiting = (
            (LIFECYCLE, {"creating", "deleting"}),
            (ATTACHMENT, {"attaching", "detaching", "busy"}),
            (snapshots.LIFECYCLE, {"pending", "deleting"}),
        )
        for table, states in waiting:
            self.assertEqual(set(table.deadlines), states)
            for state, deadline in table.deadlines.items():
                self.assertIsNotNone(table.next_state(deadline.verb, state), (table.kind, state))

    def test_final_states_are_left_by_nothing(self) -> None:
        """What is over stays over."""
        for table in (LIFECYCLE, ATTACHMENT, snapshots.LIFECYCLE):
            for verb, moves in table.moves.items():
                self.assertEqual(set(moves) & table.final, set(), (table.kind, verb))

    def test_moves(self) -> None:
        """A volume, and a snapshot, follow their tables and refuse all else."""
        for state in LIFECYCLE.states():
            for verb in LIFECYCLE.moves:
                self.follow(LIFECYCLE, verb, state, lambda v, s: moved(attrs.evolve(VOLUME, state=s), v, 2.0))
        table = snapshots.LIFECYCLE
        for state in table.states():
            for verb in table.moves:
                self.follow(table, verb, state, lambda v, s: snapshots.moved(attrs.evolve(SNAPSHOT, state=s), v, 2.0))

    def follow(self, table: Lifecycle, verb: str, state: str, move: object) -> None:
        """One cell of a table."""
        wanted = table.next_state(verb, state)
        if wanted is None:
            self.assertRaises(WrongState, move, verb, state)
        else:
            found = move(verb, state)  # type: ignore[operator]
            self.assertEqual(found.state, wanted)
            self.assertEqual(found.changed_at, 1.0 if wanted == state else 2.0)

    def test_attachment_moves(self) -> None:
        """An attachment follows its table; its end releases the volume."""
        for state in sorted(set(ATTACHMENT.states()) - ATTACHMENT.final):
            for verb in ATTACHMENT.moves:
                wanted = ATTACHMENT.next_state(verb, state)
                if wanted is None:
                    self.assertRaises(WrongState, attachment_moved, attached(state), verb, 2.0)
                    continue
                found = attachment_moved(attached(state), verb, 2.0)
                if wanted == "detached":
                    self.assertEqual((found.state, found.attachment), ("available", None))
                else:
                    self.assertEqual(found.attachment.state, wanted)
        self.assertRaises(WrongState, attachment_moved, VOLUME, "detach", 2.0)


class HistoryTests(SynchronousTestCase):
    """
    Whatever happens in whatever order.
    """

    @given(st.lists(st.sampled_from([*LIFECYCLE.moves, *(f"a {verb}" for verb in ATTACHMENT.moves)]), max_size=40))
    def test_consistent(self, verbs: list[str]) -> None:
        """A volume is in use when it has an attachment and only then; what waits is looked at again."""
        volume = VOLUME
        for verb in verbs:
            before = volume
            try:
                if verb.startswith("a "):
                    volume = attachment_moved(volume, verb[2:], 2.0)
                elif verb == "attach":
                    volume = attached("attaching", moved(volume, "attach", 2.0))
                elif verb not in ("release", "make_attached"):
                    volume = moved(volume, verb, 2.0)
            except WrongState:
                self.assertIs(volume, before)
                continue
            self.assertEqual(volume.state == "in-use", volume.attachment is not None)
            derived = volume.derived()
            self.assertEqual(derived.due is not None, volume.waits)
            self.assertEqual(derived.counters["load:volume.node1:gigabytes"], 3)
            self.assertEqual(bool(derived.references), volume.attachment is not None)
            self.assertEqual(decode(Volume, encode(volume)), volume)


class FilingTests(SynchronousTestCase):
    """
    What is filed.
    """

    def test_growing_claims_the_size_to_be(self) -> None:
        """Quota and room are claimed when it begins to grow, and given back when that fails."""
        growing = attrs.evolve(VOLUME, state="available", modification=Modification("modifying", 3, 5, 2.0))
        self.assertEqual(growing.derived().counters["quota:p:gigabytes"], 5)
        self.assertEqual(growing.derived().due, 9.0)
        failed = attrs.evolve(growing, modification=attrs.evolve(growing.modification, state="failed"))
        self.assertEqual(failed.derived().counters["load:volume.node1:gigabytes"], 3)
        self.assertEqual(failed.derived().due, None)

    def test_restoring_uses_the_snapshot(self) -> None:
        """A snapshot is in use until the volume of it is made, not longer."""
        making = attrs.evolve(VOLUME, snapshot="snap-1")
        self.assertEqual(making.derived().counters["uses:snapshot:snap-1"], 1)
        self.assertNotIn("uses:snapshot:snap-1", moved(making, "make", 2.0).derived().counters)

    def test_disk(self) -> None:
        """The instance's side of an attachment says the same."""
        volume = attached("attached")
        disk = disk_of(volume)
        self.assertEqual((disk.volume, disk.device, disk.state, disk.host), ("vol-1", "/dev/sdf", "attached", "node1"))
        self.assertEqual(Instance.__attrs_attrs__.disks.default, ())

    def test_deleted_snapshot_is_seen_by_nobody(self) -> None:
        """A snapshot that is being deleted is the operator's only, and counts for its host only."""
        shared = attrs.evolve(SNAPSHOT, state="completed", public=True, shared_with=("q",))
        self.assertEqual(shared.derived().scopes, ("p", PUBLIC, "q", ALL))
        self.assertTrue(shared.usable_by("q") and shared.usable_by("anybody"))
        gone = snapshots.moved(shared, "delete", 2.0)
        self.assertEqual(gone.derived().scopes, (ALL,))
        self.assertEqual(gone.derived().counters, {"load:volume.node1:gigabytes": 3})
        self.assertFalse(gone.usable_by("p"))
