"""
Tests for L{fabric.volume.lending} and L{fabric.compute.copies}: snapshots of volumes that guests write to.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.compute.interface import DiskOrder, IComputeWorker
from fabric.compute.worker import ComputeWorker
from fabric.errors import DriverFailure
from fabric.model.codec import encode
from fabric.rpc.interface import Address, Context
from fabric.settings import Fake
from fabric.testing.compute import machine
from fabric.testing.volume import ONE, SNAPSHOT
from fabric.volume.fake import FakeVolumes
from fabric.volume.interface import IVolumeWorker, Named
from fabric.volume.lending import COPY_SECONDS, SILENT_SECONDS
from fabric.volume.service import VolumeService
from tests.unit.test_compute_worker import CONTEXT, Host

DONE = [(SNAPSHOT.id, 0, "completed")]
FAILED = [(SNAPSHOT.id, 0, "failed")]


class LendingTests(SynchronousTestCase):
    """
    A machine with a volume, whose host can't copy what a guest has.
    """

    def setUp(self):
        """It runs, and has it."""
        self.clock = clock = Clock()
        clock.advance(1_000_000)
        self.host = Host(clock, self.mktemp())
        self.place = self.mktemp()
        self.volumes = FakeVolumes(self.place, clock, Fake(disk_gb=10))
        self.volumes.clones = False
        self.service = VolumeService(self.host.queue, self.volumes, "store", "nova", clock)
        self.service.startService()
        self.addCleanup(self.service.stopService)
        self.host.settle()
        self.successResultOf(self.volumes.create(ONE))
        self.successResultOf(self.host.hypervisor.spawn(machine(1)))
        self.volumes.write(ONE.id, "old")
        self.attach()
        self.listen()
        self.cast = self.host.queue.caster(IVolumeWorker, Address("volume", "store"), Context("req-1", 5.0))

    def listen(self):
        """Have the compute worker answer."""
        listening = self.host.queue.listen(Address("compute", "one"), IComputeWorker, self.host.worker, 4)
        self.listening = self.successResultOf(listening)

    def attach(self, order=1):
        """Have the machine have it."""
        disk = DiskOrder(ONE.id, machine(1).id, "/dev/sdf", "store", order)
        done = self.host.worker.attach_disks([encode(disk)], context=CONTEXT)
        self.host.settle(10)
        self.successResultOf(done)

    def held(self):
        """Copies, as they are begun; each is ended by the test."""
        begun = []

        def copy_disk(id, volume, place):
            begun.append(Deferred())
            return begun[-1]

        self.patch(self.host.hypervisor, "copy_disk", copy_disk)
        return begun

    def snapshot(self, seconds=10):
        """Order one, and let some time pass; what was reported."""
        self.cast.snapshot([encode(SNAPSHOT)])
        self.host.settle(seconds)
        return self.host.controller.snapshots

    def snapshots(self):
        """Those that there are, and the places that are lent."""
        found = self.successResultOf(self.volumes.describe()).snapshots
        return [each.id for each in found], len(self.volumes.lent)

    def test_copied(self):
        """The machine's host copies it; told once more, it is there."""
        self.assertEqual(self.snapshot(), DONE)
        self.assertEqual(self.snapshots(), ([SNAPSHOT.id], 0))
        self.assertEqual(self.snapshot(), DONE * 2)

    def test_stopped(self):
        """Of a machine that does not run the volume's host copies it by itself."""
        self.successResultOf(self.host.hypervisor.shut_down(machine(1).id, True, 3))
        self.assertEqual(self.snapshot(), DONE)

    def test_started_meanwhile(self):
        """A machine that is started before its volume is copied writes to it: it is copied anew, by its host."""
        begun = self.held()
        self.snapshot(1)
        self.attach()
        begun.pop().callback({"state": "quiet"})
        self.host.settle(40)
        self.assertEqual((self.host.controller.snapshots, len(begun)), ([], 1))
        begun.pop().callback({"state": "copied"})
        self.host.settle(40)
        self.assertEqual(self.host.controller.snapshots, DONE)

    def test_coming_up(self):
        """Whether a machine runs is asked when what brings it up is over."""
        begun = self.held()
        turn = self.host.worker._turns.enter({machine(1).id})
        self.snapshot()
        self.assertEqual(begun, [])
        turn.leave_all()
        self.host.settle(10)
        self.assertEqual(len(begun), 1)

    def test_another_size(self):
        """A place is lent of the size that the guest sees."""
        sizes = []

        def copy_disk(id, volume, place):
            sizes.append(int(place["bytes"]))
            return succeed({"state": "copied"} if len(sizes) > 1 else {"state": "size", "bytes": "512"})

        self.patch(self.host.hypervisor, "copy_disk", copy_disk)
        self.assertEqual((self.snapshot(), sizes), (DONE, [1 << 30, 512]))

    def test_passing_failure(self):
        """A copy that failed is tried anew, a few times."""
        outcomes = [fail(DriverFailure("stopped")), fail(ValueError("odd")), succeed({"state": "copied"})]
        self.patch(self.host.hypervisor, "copy_disk", lambda *order: outcomes.pop(0))
        self.assertEqual(self.snapshot(40), DONE)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_lasting_failure(self):
        """One that can't be made is reported so, and no place stays lent."""
        self.host.hypervisor.rehearsal.tell("copy_disk fail always")
        for _ in range(20):
            self.snapshot(10)
        self.assertIn(FAILED[0], self.host.controller.snapshots)
        self.host.settle(100)
        self.assertEqual(self.snapshots(), ([], 0))

    def test_ordered_again(self):
        """While it is copied, orders that come again begin nothing, and nobody's message waits."""
        begun = self.held()
        for _ in range(40):
            self.snapshot(10)
        self.assertEqual((len(begun), self.host.controller.snapshots), (1, []))
        volume = self.host.queue.caller(IVolumeWorker, Address("volume", "store"), Context("req-1", 5.0))
        exported = volume.export(ONE.id, "one", 1)
        self.host.settle(1)
        self.successResultOf(exported)
        begun[0].callback({"state": "copied"})
        self.host.settle(10)
        self.assertEqual(self.host.controller.snapshots, DONE)

    def test_deleted_meanwhile(self):
        """What was deleted while it was copied is not there afterwards, and nothing is told of it."""
        begun = self.held()
        self.snapshot()
        self.cast.delete_snapshots([encode(Named(SNAPSHOT.id, 1))])
        self.host.settle(1)
        begun[0].callback({"state": "copied"})
        self.host.settle(10)
        self.assertEqual(self.host.controller.snapshots, [(SNAPSHOT.id, 1, "gone")])
        self.assertEqual(self.snapshots(), ([], 0))

    def test_host_away(self):
        """A host that is started anew meanwhile is waited for, and begins anew."""
        begun = self.held()
        self.snapshot(1)
        self.successResultOf(self.listening.stop())
        self.host.settle(SILENT_SECONDS / 2)
        host = self.host
        host.worker = ComputeWorker("one", host.hypervisor, host.queue, self.clock)
        self.listen()
        self.host.settle(60)
        begun[-1].callback({"state": "copied"})
        self.host.settle(60)
        self.assertEqual((self.host.controller.snapshots, len(begun)), (DONE, 2))

    def test_restarted(self):
        """A volume service that is started anew has it copied into another place."""
        begun = self.held()
        self.snapshot(1)
        self.service.stopService()
        self.host.settle(30)
        self.volumes = FakeVolumes(self.place, self.clock, Fake(disk_gb=10))
        self.volumes.clones = False
        self.service = VolumeService(self.host.queue, self.volumes, "store", "nova", self.clock)
        self.service.startService()
        self.addCleanup(self.service.stopService)
        self.host.settle()
        self.snapshot()
        self.assertEqual(len(begun), 2)
        begun[0].callback({"state": "copied"})
        self.host.settle(10)
        self.assertEqual(self.snapshots()[0], [])
        begun[1].callback({"state": "copied"})
        self.host.settle(10)
        self.assertIn(DONE[0], self.host.controller.snapshots)
        self.assertEqual(self.snapshots(), ([SNAPSHOT.id], 0))

    def test_host_gone(self):
        """One that does not answer any more is not waited for; the report says which."""
        self.held()
        self.snapshot(1)
        self.successResultOf(self.listening.stop())
        for _ in range(200):
            self.host.settle(10)
        self.assertEqual((self.host.controller.snapshots, self.snapshots()), (FAILED, ([], 0)))

    def test_too_long(self):
        """Nor is one that never gets ready."""
        self.held()
        self.snapshot(1)
        for _ in range(int(COPY_SECONDS / 10) + 10):
            self.host.settle(10)
        self.assertEqual((self.host.controller.snapshots, self.snapshots()), (FAILED, ([], 0)))

    def test_lost_answer(self):
        """That a copy is there is told to each who asks."""
        place = self.successResultOf(self.volumes.lend(SNAPSHOT))
        for _ in range(3):
            self.successResultOf(self.host.worker.copy_disk(ONE.id, place))
            self.host.settle(1)
        told = self.successResultOf(self.host.worker.copy_disk(ONE.id, place))
        self.assertEqual(told, {"state": "copied"})

    def test_unknown(self):
        """Nobody writes to a volume that no machine has."""
        place = {"kind": "fake", "path": "x", "bytes": "1"}
        self.successResultOf(self.host.worker.copy_disk("vol-9", place))
        self.host.settle(1)
        self.assertEqual(self.successResultOf(self.host.worker.copy_disk("vol-9", place)), {"state": "quiet"})
