"""
Tests for L{fabric.compute.disks}: volumes given to a host's machines and taken away, in copies.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.compute.interface import DiskOrder
from fabric.model.codec import encode
from fabric.settings import Fake
from fabric.testing.compute import machine
from fabric.testing.volume import ONE
from fabric.volume.fake import FakeVolumes
from fabric.volume.service import VolumeService
from tests.unit.test_compute_worker import CONTEXT, Host

IN_USE = {"/dev/sdf": ONE.id}


class DiskTests(SynchronousTestCase):
    """
    A host with a machine and a volume.
    """

    def setUp(self):
        """Both are there, and not connected."""
        clock = Clock()
        clock.advance(1_000_000)
        self.host = Host(clock, self.mktemp())
        self.volumes = FakeVolumes(self.mktemp(), clock, Fake(disk_gb=10))
        service = VolumeService(self.host.queue, self.volumes, "store", "nova", clock)
        service.startService()
        self.addCleanup(service.stopService)
        self.host.settle()
        self.successResultOf(self.volumes.create(ONE))
        self.successResultOf(self.host.hypervisor.spawn(machine(1)))

    def order(self, verb, order):
        """Give an order, and see it through; how often it was reported, and as what."""
        before = len(self.host.controller.disks)
        disk = DiskOrder(ONE.id, machine(1).id, "/dev/sdf", "store", order)
        done = getattr(self.host.worker, verb)([encode(disk)], context=CONTEXT)
        self.host.settle(60)
        self.successResultOf(done)
        return self.host.controller.disks[before:]

    def disks(self):
        """What the machine has."""
        [domain] = self.successResultOf(self.host.hypervisor.domains())
        return domain.disks

    def test_attached_and_detached(self):
        """A volume is given and taken, each also twice; an order from before does nothing."""
        for _ in range(2):
            self.assertEqual(self.order("attach_disks", 1), [(ONE.id, 1, "attached")])
        self.assertEqual(self.disks(), IN_USE)
        for _ in range(2):
            self.assertEqual(self.order("detach_disks", 2), [(ONE.id, 2, "detached")])
        self.assertEqual((self.disks(), self.order("attach_disks", 1), self.disks()), ({}, [], {}))

    def test_not_exported(self):
        """One that its host does not give is not attached."""
        self.volumes.rehearsal.tell("export fail always")
        self.assertEqual(self.order("attach_disks", 1), [(ONE.id, 1, "not_attached")])

    def test_given_back_at_once(self):
        """Terminating does not wait for one silent volume host after the other."""
        self.volumes.rehearsal.tell("unexport hang 9")
        disks = [DiskOrder(f"vol-{number:017x}", machine(1).id, f"/dev/sd{number}", "store", 1) for number in range(9)]
        brief = {"id": machine(1).id, "order": 2, "disks": [encode(disk) for disk in disks]}
        done = self.host.worker.terminate([brief], context=CONTEXT)
        self.host.settle(40)
        self.successResultOf(done)
        self.assertEqual(self.host.controller.told(), [(machine(1).id, 2, "gone")])

    def test_in_use_stays(self):
        """An order that comes again while the volume's host gives nothing does not take from a guest what it has."""
        self.order("attach_disks", 1)
        self.volumes.rehearsal.tell("export fail always")
        self.assertEqual(self.order("attach_disks", 1), [(ONE.id, 1, "attached")])
        self.assertEqual(self.disks(), IN_USE)
