"""
The contract of L{IVolumeDriver}, as tests that every driver passes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface.verify import verifyObject

from fabric.errors import NoCapacity, WrongState
from fabric.volume.interface import IVolumeDriver, VolumeOrder

Steps = Generator[Deferred[Any], Any, None]

ONE = VolumeOrder("vol-00000000000000001", 1)
TWO = VolumeOrder("vol-00000000000000002", 2)


class VolumeDriverContract:
    """
    Mix with L{twisted.trial.unittest.TestCase} and say how a driver is made.
    """

    driver: IVolumeDriver

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

    @inlineCallbacks
    def setUp(self) -> Steps:
        """Start a driver."""
        self.driver = self.make_driver()
        yield self.driver.start()
        self.addCleanup(lambda: self.driver.stop())  # type: ignore[attr-defined]

    @inlineCallbacks
    def assertVolumes(self, *expected: VolumeOrder) -> Steps:
        """The driver has these and no others."""
        volumes = yield self.driver.volumes()
        self.assertEqual(sorted(volumes, key=lambda v: str(v.id)), list(expected))  # type: ignore[attr-defined]

    def test_interface(self) -> None:
        """The driver provides IVolumeDriver."""
        verifyObject(IVolumeDriver, self.driver)

    @inlineCallbacks
    def test_create(self) -> Steps:
        """A volume that was created is there; twice is as once."""
        for _ in range(2):
            yield self.driver.create(ONE)
            yield self.assertVolumes(ONE)
        yield self.driver.create(TWO)
        yield self.assertVolumes(ONE, TWO)

    @inlineCallbacks
    def test_create_in_another_size(self) -> Steps:
        """A volume is not resized by creating it again: WrongState."""
        yield self.driver.create(ONE)
        yield self.assertFailure(self.driver.create(VolumeOrder(ONE.id, 2)), WrongState)  # type: ignore[attr-defined]
        yield self.assertVolumes(ONE)

    @inlineCallbacks
    def test_no_room(self) -> Steps:
        """More than the host has is NoCapacity, and leaves nothing."""
        size = yield self.driver.capacity_gb()
        huge = VolumeOrder(ONE.id, size + 1)
        yield self.assertFailure(self.driver.create(huge), NoCapacity)  # type: ignore[attr-defined]
        yield self.assertVolumes()

    @inlineCallbacks
    def test_delete(self) -> Steps:
        """A volume that was deleted is gone; others stay; twice is as once."""
        yield self.driver.create(ONE)
        yield self.driver.create(TWO)
        for _ in range(2):
            yield self.driver.delete(ONE.id)
            yield self.assertVolumes(TWO)

    @inlineCallbacks
    def test_restart(self) -> Steps:
        """A driver finds what another one left, stopped properly or not."""
        yield self.driver.create(ONE)
        yield self.driver.stop()
        self.driver = self.make_driver()
        yield self.driver.start()
        yield self.driver.create(TWO)
        self.addCleanup(self.driver.stop)  # type: ignore[attr-defined]
        self.driver = self.make_driver()
        yield self.driver.start()
        yield self.assertVolumes(ONE, TWO)

    @inlineCallbacks
    def test_lost_reply(self) -> Steps:
        """Each verb is repeated safely after its answer was lost."""
        for verb, act, volumes in (
            ("create", lambda: self.driver.create(ONE), [ONE]),
            ("delete", lambda: self.driver.delete(ONE.id), []),
        ):
            self.lose_reply(self.driver, verb)
            yield act().addErrback(lambda failure: None)
            yield act()
            yield self.assertVolumes(*volumes)
