"""
Tests for L{fabric.volume.worker} and its service.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from fabric.cloud.interface import ICloudWorker
from fabric.errors import NoCapacity, WrongState
from fabric.model.codec import encode
from fabric.rpc.interface import Address, Context
from fabric.rpc.local import LocalQueue
from fabric.settings import Fake
from fabric.testing.volume import ONE, TWO
from fabric.volume.fake import FakeVolumes
from fabric.volume.interface import IVolumeWorker, VolumeOrder
from fabric.volume.service import VolumeService
from tests.unit.test_compute_worker import Controller


class VolumeServiceTests(SynchronousTestCase):
    """
    The service on a queue.
    """

    def setUp(self):
        """A started service with ten GiB."""
        self.clock = Clock()
        self.queue = LocalQueue(self.clock)
        self.controller = Controller()
        self.queue.listen(Address("cloud"), ICloudWorker, self.controller, 1)
        driver = FakeVolumes(self.mktemp(), self.clock, Fake(disk_gb=10))
        self.service = VolumeService(self.queue, driver, "one", "nova", self.clock)
        self.service.startService()
        self.clock.pump([0.1] * 10)
        self.remote = self.queue.caller(IVolumeWorker, Address("volume", "one"), Context())

    def settled(self, deferred):
        """Let time pass."""
        self.clock.pump([0.1] * 10)
        return deferred

    def test_interface(self):
        """The worker provides IVolumeWorker."""
        verifyObject(IVolumeWorker, self.service.worker)

    def test_beats(self):
        """It beats with its room."""
        topic, host, zone, _, capacity = self.controller.beats[0]
        self.assertEqual((topic, host, zone, capacity["disk_gb"]), ("volume", "one", "nova", 10))

    def test_create_and_delete(self):
        """Volumes are made, shown and removed; repeating changes nothing."""
        for _ in range(2):
            self.assertEqual(self.successResultOf(self.settled(self.remote.create(encode(ONE)))), "one")
        self.successResultOf(self.settled(self.remote.create(encode(TWO))))
        for _ in range(2):
            self.successResultOf(self.settled(self.remote.delete(ONE.id)))
        self.assertEqual(self.successResultOf(self.settled(self.remote.describe_volumes())), [encode(TWO)])

    def test_errors(self):
        """The driver's errors are the caller's."""
        self.failureResultOf(self.settled(self.remote.create(encode(VolumeOrder(ONE.id, 11)))), NoCapacity)
        self.successResultOf(self.settled(self.remote.create(encode(ONE))))
        self.failureResultOf(self.settled(self.remote.create(encode(VolumeOrder(ONE.id, 2)))), WrongState)

    def test_stop(self):
        """It goes in peace."""
        self.successResultOf(self.service.stopService())
        self.clock.pump([1] * 30)
        self.assertEqual(len(self.controller.beats), 1)
