"""
The contract of L{IVolumeDriver}, as tests that every driver passes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface.verify import verifyObject

from fabric.errors import NoCapacity, NotFound, WrongState
from fabric.volume.interface import HeldSnapshot, HeldVolume, IVolumeDriver, SnapshotOrder, VolumeOrder

Steps = Generator[Deferred[Any], Any, None]

ONE = VolumeOrder("vol-00000000000000001", 1)
TWO = VolumeOrder("vol-00000000000000002", 2)
COPY = VolumeOrder("vol-00000000000000003", 1, snapshot="snap-00000000000000001")
SNAPSHOT = SnapshotOrder("snap-00000000000000001", ONE.id, 1)
COPIED = SnapshotOrder("snap-00000000000000002", ONE.id, 1, source=SNAPSHOT.id)


class VolumeDriverContract:
    """
    Mix with L{twisted.trial.unittest.TestCase} and say how a driver is made.
    """

    driver: IVolumeDriver
    assertEqual: Callable[..., None]
    assertFailure: Callable[..., Deferred[Any]]
    addCleanup: Callable[..., None]

    def make_driver(self) -> IVolumeDriver:
        """
        @return: a driver that is not started, over this test's one place:
            called again, it gives one that finds what the first left.
        """
        raise NotImplementedError

    def lose_reply(self, driver: IVolumeDriver, verb: str) -> None:
        """
        Have the driver do C{verb} once without an answer.  Where that can't be
        had, do nothing: then the verb is merely repeated.
        """

    def kill(self, driver: IVolumeDriver) -> None:
        """What becomes of a driver when its process is killed, if that is more than that it does nothing more."""

    def write(self, driver: IVolumeDriver, id: str, content: str) -> Any:
        """Write a short text to a volume's beginning, as a guest would; may return a Deferred."""
        raise NotImplementedError

    def read(self, driver: IVolumeDriver, id: str) -> Any:
        """
        @return: what was written, or a Deferred of it; empty for zeros.
        """
        raise NotImplementedError

    @inlineCallbacks
    def setUp(self) -> Steps:
        """Start a driver."""
        self.driver = self.make_driver()
        yield self.driver.start()
        self.addCleanup(lambda: self.driver.stop())

    @inlineCallbacks
    def volumes(self) -> Generator[Deferred[Any], Any, dict[str, HeldVolume]]:
        """The driver's volumes by id."""
        holdings = yield self.driver.describe()
        return {held.id: held for held in holdings.volumes}

    @inlineCallbacks
    def assertVolumes(self, *expected: VolumeOrder) -> Steps:
        """The driver has these and no others."""
        found = yield self.volumes()
        sizes = {id: held.size_gb for id, held in found.items()}
        self.assertEqual(sizes, {volume.id: volume.size_gb for volume in expected})

    @inlineCallbacks
    def assertSnapshots(self, *expected: SnapshotOrder) -> Steps:
        """The driver has these and no others."""
        holdings = yield self.driver.describe()
        wanted = {HeldSnapshot(snapshot.id, snapshot.size_gb) for snapshot in expected}
        self.assertEqual(set(holdings.snapshots), wanted)

    @inlineCallbacks
    def assertContent(self, id: str, content: str) -> Steps:
        """A volume begins with a text."""
        found = self.read(self.driver, id)
        if isinstance(found, Deferred):
            found = yield found
        self.assertEqual(found, content)

    def test_interface(self) -> None:
        """The driver provides IVolumeDriver."""
        verifyObject(IVolumeDriver, self.driver)

    @inlineCallbacks
    def test_create(self) -> Steps:
        """A volume that was created is there, empty; twice is as once."""
        for _ in range(2):
            yield self.driver.create(ONE)
            yield self.assertVolumes(ONE)
        yield self.driver.create(TWO)
        yield self.assertVolumes(ONE, TWO)
        yield self.assertContent(ONE.id, "")

    @inlineCallbacks
    def test_create_again_keeps_content(self) -> Steps:
        """An order to create that comes once more does not touch what was written."""
        yield self.driver.create(ONE)
        yield self.write(self.driver, ONE.id, "kept")
        yield self.driver.create(ONE)
        yield self.assertContent(ONE.id, "kept")

    @inlineCallbacks
    def test_create_in_another_size(self) -> Steps:
        """A volume is not resized by creating it again: WrongState."""
        yield self.driver.create(ONE)
        yield self.assertFailure(self.driver.create(attrs.evolve(ONE, size_gb=2)), WrongState)
        yield self.assertVolumes(ONE)

    @inlineCallbacks
    def test_no_room(self) -> Steps:
        """More than the host has is NoCapacity, and leaves nothing."""
        size = yield self.driver.capacity_gb()
        huge = VolumeOrder(ONE.id, size + 1)
        yield self.assertFailure(self.driver.create(huge), NoCapacity)
        yield self.assertVolumes()

    @inlineCallbacks
    def test_grow(self) -> Steps:
        """A volume grows with its content, exported or not; twice is as once, and it never shrinks."""
        yield self.driver.create(ONE)
        yield self.write(self.driver, ONE.id, "kept")
        yield self.driver.export(ONE.id, "a", 2)
        for _ in range(2):
            yield self.driver.grow(attrs.evolve(ONE, size_gb=2))
            yield self.assertVolumes(attrs.evolve(ONE, size_gb=2))
        yield self.driver.grow(ONE)
        yield self.assertVolumes(attrs.evolve(ONE, size_gb=2))
        yield self.assertContent(ONE.id, "kept")

    @inlineCallbacks
    def test_grow_refusals(self) -> Steps:
        """What is not there is NotFound; more than the host has is NoCapacity."""
        yield self.assertFailure(self.driver.grow(TWO), NotFound)
        yield self.driver.create(ONE)
        size = yield self.driver.capacity_gb()
        yield self.assertFailure(self.driver.grow(VolumeOrder(ONE.id, size + 2)), NoCapacity)
        yield self.assertVolumes(ONE)

    @inlineCallbacks
    def test_delete(self) -> Steps:
        """A volume that was deleted is gone; others stay; twice is as once."""
        yield self.driver.create(ONE)
        yield self.driver.create(TWO)
        yield self.driver.export(ONE.id, "a", 2)
        for _ in range(2):
            yield self.driver.delete(ONE.id)
            yield self.assertVolumes(TWO)

    @inlineCallbacks
    def test_room_comes_back(self) -> Steps:
        """A deleted volume's room is free, and nothing of it can be read."""
        size = yield self.driver.capacity_gb()
        yield self.driver.create(attrs.evolve(ONE, size_gb=size))
        yield self.write(self.driver, ONE.id, "secret")
        yield self.driver.delete(ONE.id)
        yield self.driver.create(attrs.evolve(TWO, size_gb=size))
        yield self.assertContent(TWO.id, "")

    @inlineCallbacks
    def test_export(self) -> Steps:
        """An export names the host that may use the volume; twice is as once."""
        yield self.driver.create(ONE)
        first = yield self.driver.export(ONE.id, "a", 2)
        again = yield self.driver.export(ONE.id, "a", 2)
        self.assertEqual(first, again)
        self.assertEqual(bool(first["kind"]), True)
        held = yield self.volumes()
        self.assertEqual((held[ONE.id].exported_to, held[ONE.id].order), ("a", 2))
        yield self.assertFailure(self.driver.export(TWO.id, "a", 2), NotFound)

    @inlineCallbacks
    def test_export_is_one(self) -> Steps:
        """An export to another host ends the first; what is older is refused and changes nothing."""
        yield self.driver.create(ONE)
        yield self.driver.export(ONE.id, "a", 2)
        yield self.driver.export(ONE.id, "b", 4)
        yield self.assertFailure(self.driver.export(ONE.id, "a", 2), WrongState)
        yield self.driver.unexport(ONE.id, "b", 3)
        held = yield self.volumes()
        self.assertEqual((held[ONE.id].exported_to, held[ONE.id].order), ("b", 4))

    @inlineCallbacks
    def test_unexport(self) -> Steps:
        """An export ends, twice is as once; and what was ordered before can't bring it back."""
        yield self.driver.create(ONE)
        yield self.driver.export(ONE.id, "a", 2)
        for _ in range(2):
            yield self.driver.unexport(ONE.id, "a", 3)
            held = yield self.volumes()
            self.assertEqual(held[ONE.id].exported_to, "")
        yield self.assertFailure(self.driver.export(ONE.id, "a", 2), WrongState)
        yield self.driver.unexport(TWO.id, "a", 3)

    @inlineCallbacks
    def test_unexport_of_another(self) -> Steps:
        """A host that has lost the volume to another one takes nothing from that."""
        yield self.driver.create(ONE)
        yield self.driver.export(ONE.id, "b", 2)
        yield self.driver.unexport(ONE.id, "a", 2)
        held = yield self.volumes()
        self.assertEqual(held[ONE.id].exported_to, "b")

    @inlineCallbacks
    def test_snapshot(self) -> Steps:
        """A snapshot keeps the content of its moment; a volume of it begins with that."""
        yield self.driver.create(ONE)
        yield self.write(self.driver, ONE.id, "then")
        for _ in range(2):
            yield self.driver.snapshot(SNAPSHOT)
            yield self.assertSnapshots(SNAPSHOT)
            yield self.write(self.driver, ONE.id, "now")
        yield self.driver.create(COPY)
        yield self.assertContent(COPY.id, "then")
        yield self.assertContent(ONE.id, "now")

    @inlineCallbacks
    def test_snapshot_outlives_its_volume(self) -> Steps:
        """Volume, snapshot and what was made of it go in any order."""
        yield self.driver.create(ONE)
        yield self.write(self.driver, ONE.id, "then")
        yield self.driver.snapshot(SNAPSHOT)
        yield self.driver.delete(ONE.id)
        yield self.driver.create(COPY)
        for _ in range(2):
            yield self.driver.delete_snapshot(SNAPSHOT.id)
            yield self.assertSnapshots()
        yield self.assertContent(COPY.id, "then")

    @inlineCallbacks
    def test_snapshot_of_snapshot(self) -> Steps:
        """A copy of a snapshot is one of its own."""
        yield self.driver.create(ONE)
        yield self.write(self.driver, ONE.id, "then")
        yield self.driver.snapshot(SNAPSHOT)
        yield self.driver.snapshot(COPIED)
        yield self.driver.delete_snapshot(SNAPSHOT.id)
        yield self.assertSnapshots(COPIED)
        yield self.driver.create(attrs.evolve(COPY, snapshot=COPIED.id))
        yield self.assertContent(COPY.id, "then")

    @inlineCallbacks
    def test_larger_than_its_snapshot(self) -> Steps:
        """A volume may be larger than what it is made of."""
        yield self.driver.create(ONE)
        yield self.driver.snapshot(SNAPSHOT)
        larger = attrs.evolve(COPY, size_gb=2)
        yield self.driver.create(larger)
        yield self.assertVolumes(ONE, larger)

    @inlineCallbacks
    def test_nothing_to_copy(self) -> Steps:
        """What is to be copied must be here."""
        yield self.assertFailure(self.driver.snapshot(SNAPSHOT), NotFound)
        yield self.assertFailure(self.driver.snapshot(COPIED), NotFound)
        yield self.assertFailure(self.driver.create(COPY), NotFound)
        yield self.assertVolumes()
        yield self.assertSnapshots()

    @inlineCallbacks
    def test_restart(self) -> Steps:
        """A driver finds what another one left, stopped properly or not."""
        yield self.driver.create(ONE)
        yield self.driver.snapshot(SNAPSHOT)
        yield self.driver.export(ONE.id, "a", 2)
        yield self.driver.stop()
        self.driver = self.make_driver()
        yield self.driver.start()
        yield self.driver.create(TWO)
        self.addCleanup(self.driver.stop)
        self.kill(self.driver)
        self.driver = self.make_driver()
        yield self.driver.start()
        yield self.assertVolumes(ONE, TWO)
        yield self.assertSnapshots(SNAPSHOT)
        held = yield self.volumes()
        self.assertEqual((held[ONE.id].exported_to, held[ONE.id].order), ("a", 2))

    @inlineCallbacks
    def test_lost_reply(self) -> Steps:
        """Each verb is repeated safely after its answer was lost."""
        larger = attrs.evolve(ONE, size_gb=2)
        for verb, act, volumes, snapshots in (
            ("create", lambda: self.driver.create(ONE), [ONE], []),
            ("export", lambda: self.driver.export(ONE.id, "a", 2), [ONE], []),
            ("unexport", lambda: self.driver.unexport(ONE.id, "a", 3), [ONE], []),
            ("snapshot", lambda: self.driver.snapshot(SNAPSHOT), [ONE], [SNAPSHOT]),
            ("grow", lambda: self.driver.grow(larger), [larger], [SNAPSHOT]),
            ("delete", lambda: self.driver.delete(ONE.id), [], [SNAPSHOT]),
            ("delete_snapshot", lambda: self.driver.delete_snapshot(SNAPSHOT.id), [], []),
        ):
            self.lose_reply(self.driver, verb)
            yield act().addErrback(lambda failure: None)
            yield act()
            yield self.assertVolumes(*volumes)
            yield self.assertSnapshots(*snapshots)
