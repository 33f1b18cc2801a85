"""
Tests for L{fabric.volume.worker} and its service.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from fabric.cloud.interface import ICloudWorker
from fabric.errors import DriverFailure, NotFound, WrongState
from fabric.model.codec import encode
from fabric.rpc.interface import Address, Context
from fabric.rpc.local import LocalQueue
from fabric.settings import Fake
from fabric.testing.volume import ONE, SNAPSHOT, TWO
from fabric.volume.fake import FakeVolumes
from fabric.volume.interface import IVolumeWorker, Named, VolumeOrder
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
        self.place = self.mktemp()
        self.start()

    def start(self):
        """Another process over the same directory."""
        self.driver = FakeVolumes(self.place, self.clock, Fake(disk_gb=10))
        self.service = VolumeService(self.queue, self.driver, "node1", "nova", self.clock)
        self.service.startService()
        self.addCleanup(self.service.stopService)
        self.settle(0.0)
        self.cast = self.queue.caster(IVolumeWorker, Address("volume", "node1"), Context("req-1", 5.0))
        self.call = self.queue.caller(IVolumeWorker, Address("volume", "node1"), Context("req-1", 5.0))

    def settle(self, seconds):
        """Let time pass in small steps."""
        for _ in range(20):
            self.clock.advance(0.0)
        if seconds:
            self.clock.pump([seconds / 20] * 20)
        for _ in range(20):
            self.clock.advance(0.0)

    def order(self, method, *orders):
        """Cast orders, and let them be carried out."""
        getattr(self.cast, method)([encode(order) for order in orders])
        self.settle(0.0)

    def held(self):
        """What the driver has: sizes by id."""
        holdings = self.successResultOf(self.driver.describe())
        return {volume.id: volume.size_gb for volume in holdings.volumes}

    def test_interface(self):
        """The worker provides IVolumeWorker."""
        verifyObject(IVolumeWorker, self.service.worker)

    def test_create(self):
        """An order is carried out and reported; once more, it is reported once more."""
        for times in (1, 2):
            self.order("create", ONE, TWO)
            self.assertEqual(self.controller.volumes, [(ONE.id, 0, "made"), (TWO.id, 0, "made")] * times)
        self.assertEqual(self.held(), {ONE.id: 1, TWO.id: 2})

    def test_create_fails(self):
        """One that there is no room for is reported as failed; others of the order are made."""
        self.order("create", VolumeOrder("vol-00000000000000009", 11, 1), ONE)
        self.assertEqual(self.controller.volumes, [("vol-00000000000000009", 1, "failed"), (ONE.id, 0, "made")])

    def test_passing_failure(self):
        """A tool that fails once is tried again before anything is reported."""
        for verb, method, order in (
            ("create", "create", ONE),
            ("grow", "grow", VolumeOrder(ONE.id, 2, 2)),
            ("delete", "delete", Named(ONE.id, 3)),
        ):
            self.driver.rehearsal.tell(f"{verb} lose")
            self.order(method, order)
            self.settle(4.0)
        self.assertEqual([state for _, _, state in self.controller.volumes], ["made", "made", "gone"])
        self.assertEqual(self.held(), {})

    def test_lasting_failure(self):
        """What can't be done is reported with the order's number."""
        self.order("create", ONE)
        self.order("grow", VolumeOrder(ONE.id, 20, 2))
        self.driver.rehearsal.tell("delete fail always")
        self.order("delete", Named(ONE.id, 3))
        self.settle(4.0)
        self.assertEqual(self.controller.volumes[1:], [(ONE.id, 2, "not_grown"), (ONE.id, 3, "not_gone")])

    def test_late_create(self):
        """An order to create that comes after the one to delete does nothing."""
        self.order("delete", Named(ONE.id, 2))
        self.order("create", VolumeOrder(ONE.id, 1, 1))
        self.assertEqual(self.held(), {})
        self.assertEqual(self.controller.volumes, [(ONE.id, 2, "gone")])

    def test_late_create_waits(self):
        """One that comes while it is deleted, and so waits, does nothing either."""
        self.order("create", ONE)
        self.driver.rehearsal.tell("delete slow 1")
        self.order("delete", Named(ONE.id, 2))
        self.order("create", VolumeOrder(ONE.id, 1, 1))
        self.settle(2.0)
        self.assertEqual(self.held(), {})
        self.assertEqual(self.controller.volumes[1:], [(ONE.id, 2, "gone")])

    def test_snapshot_deleted_before_its_turn(self):
        """A snapshot that waits for its volume and is deleted meanwhile is not left over."""
        self.driver.rehearsal.tell("create slow 1")
        self.order("create", ONE)
        self.order("snapshot", SNAPSHOT)
        self.order("delete_snapshots", Named(SNAPSHOT.id, 2))
        self.settle(2.0)
        self.assertEqual(self.controller.snapshots, [(SNAPSHOT.id, 0, "completed"), (SNAPSHOT.id, 2, "gone")])
        self.assertEqual(self.successResultOf(self.driver.describe()).snapshots, ())

    def test_ordered_again_and_again(self):
        """Orders that come again while they are carried out don't keep others waiting."""
        self.order("create", ONE)
        self.driver.rehearsal.tell("snapshot slow 4")
        for _ in range(20):
            self.order("snapshot", SNAPSHOT)
        self.order("create", TWO)
        self.assertEqual(self.held(), {ONE.id: 1, TWO.id: 2})
        self.settle(5.0)
        self.assertEqual(self.controller.snapshots, [(SNAPSHOT.id, 0, "completed")])

    def test_one_after_the_other(self):
        """Orders about one volume are carried out in turn."""
        self.driver.rehearsal.tell("create slow 1")
        self.order("create", ONE)
        self.order("snapshot", SNAPSHOT)
        self.order("delete", Named(ONE.id, 2))
        self.settle(2.0)
        self.assertEqual(sorted(self.controller.volumes), [(ONE.id, 0, "made"), (ONE.id, 2, "gone")])
        self.assertEqual(self.controller.snapshots, [(SNAPSHOT.id, 0, "completed")])
        self.assertEqual(self.held(), {})

    def test_export(self):
        """A compute host is told how to reach a volume; an older order is refused."""
        self.order("create", ONE)
        connection = self.call.export(ONE.id, "node7", 2)
        self.settle(0.0)
        self.assertEqual(self.successResultOf(connection)["kind"], "fake")
        ended = self.call.unexport(ONE.id, "node7", 3)
        self.settle(0.0)
        self.successResultOf(ended)
        late = self.call.export(ONE.id, "node7", 2)
        self.settle(0.0)
        self.failureResultOf(late, WrongState)
        nothing = self.call.export(TWO.id, "node7", 2)
        self.settle(0.0)
        self.failureResultOf(nothing, NotFound)

    def test_snapshot(self):
        """A snapshot is made, and removed, and reported."""
        self.order("snapshot", SNAPSHOT)
        self.order("create", ONE)
        self.order("snapshot", SNAPSHOT)
        self.order("delete_snapshots", Named(SNAPSHOT.id, 2))
        states = [state for _, _, state in self.controller.snapshots]
        self.assertEqual(states, ["failed", "completed", "gone"])

    def test_restart(self):
        """At its start it tells all that is there."""
        self.order("create", ONE)
        self.service.stopService()
        self.settle(1.0)
        self.start()
        [volume] = self.controller.holdings[-1]["volumes"]
        self.assertEqual(volume["id"], ONE.id)
        described = self.call.describe()
        self.settle(0.0)
        self.assertEqual(self.successResultOf(described)["volumes"], [volume])

    def test_heartbeat(self):
        """Its room is in its heartbeat; a driver that can't say it misses the beat."""
        self.assertEqual(self.controller.beats[-1][:3], ("volume", "node1", "nova"))
        self.assertEqual(self.controller.beats[-1][4]["disk_gb"], 10)
        before = len(self.controller.beats)
        self.driver.rehearsal.tell("capacity_gb fail")
        self.clock.advance(10.0)
        self.assertEqual(len(self.controller.beats), before)
        self.assertEqual(len(self.flushLoggedErrors(DriverFailure)), 1)
