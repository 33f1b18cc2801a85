"""
Machines that are stopped while snapshots are made of their volumes, and a process that is
killed meanwhile: L{fabric.compute.captures}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface, implementer

from fabric.compute.captures import SNAPSHOT_SECONDS
from fabric.image.interface import CaptureOrder
from fabric.model.codec import encode
from fabric.rpc.interface import Address
from fabric.testing.compute import machine
from fabric.volume.interface import AwaitedSnapshot, SnapshotOrder
from tests.unit.test_compute_worker import CONTEXT, Host

ID = machine(1).id
COPIES = tuple(AwaitedSnapshot("disks", SnapshotOrder(f"snap-{n}", f"vol-{n}", 1)) for n in (1, 2))
ORDER = encode(CaptureOrder(ID, "ami-1", True, COPIES))


class IMakesSnapshots(Interface):
    """
    What of L{fabric.volume.interface.IVolumeWorker} is asked for.
    """

    def snapshot(snapshots):
        """Make them."""


@implementer(IMakesSnapshots)
class Volumes:
    """
    Makes snapshots when it is told to.
    """

    def __init__(self):
        self.asked = []

    def snapshot(self, snapshots, context):
        """See L{IMakesSnapshots.snapshot}."""
        done = Deferred()
        self.asked.append(done)
        return done

    def answer(self):
        """They are made."""
        while self.asked:
            self.asked.pop().callback(None)


class QuietTests(SynchronousTestCase):
    """
    A machine that runs, brought up by order 3, and is to be copied.
    """

    def setUp(self):
        """Begin to copy it."""
        self.directory = self.mktemp()
        self.begin(1_000_000)
        self.host.worker.run([encode(machine(1, 3))], context=CONTEXT)
        self.host.settle()
        self.host.controller.casts.clear()
        self.copied = self.copy()

    def begin(self, now):
        """A new process, over what the last one left."""
        clock = Clock()
        clock.advance(now)
        self.host, self.volumes = Host(clock, self.directory), Volumes()
        self.host.queue.listen(Address("volume", "disks"), IMakesSnapshots, self.volumes, 10)
        self.host.settle()

    def copy(self):
        """The order comes."""
        copied = self.host.worker.capture([ORDER], context=CONTEXT)
        self.host.settle()
        return copied

    def kill(self):
        """The process ends without a word; the next one tells all that is there, and is believed to have it run."""
        self.host.network.stop()
        self.host.hypervisor.stop()
        self.begin(self.host.clock.seconds() + 1)
        [domain] = self.host.controller.adopted[-1]
        self.assertEqual((domain["state"], domain["quiet_until"] > self.host.clock.seconds()), ("stopped", True))

    def finish(self):
        """All snapshots are made, one after the other."""
        for _ in COPIES:
            self.volumes.answer()
            self.host.settle(3)
        self.assertEqual(self.host.controller.images, [("ami-1", "made", "")])

    def state(self):
        """The machine's state and number."""
        [domain] = self.successResultOf(self.host.hypervisor.domains())
        return domain.state, domain.order

    def test_quiet(self):
        """It is stopped until all are made, then it runs, and nobody is told otherwise."""
        self.assertEqual(self.state(), ("stopped", 3))
        self.finish()
        self.successResultOf(self.copied)
        self.assertEqual((self.state(), self.host.controller.told()), (("running", 3), []))

    def test_killed(self):
        """Killed while they are made, the next process has them made when the order comes again, then it runs."""
        self.kill()
        copied = self.copy()
        self.host.settle(SNAPSHOT_SECONDS - 10)
        self.assertEqual(self.state(), ("stopped", 3))
        self.finish()
        self.successResultOf(copied)
        self.host.settle(2 * SNAPSHOT_SECONDS)
        self.assertEqual((self.state(), self.host.controller.told()), (("running", 3), []))

    def test_order_is_lost(self):
        """When the order does not come again it runs when nobody can be making a snapshot any more."""
        self.kill()
        self.host.settle(SNAPSHOT_SECONDS - 10)
        self.assertEqual(self.state(), ("stopped", 3))
        self.host.settle(20)
        self.assertEqual((self.state(), self.host.controller.told()), (("running", 3), []))
        self.host.worker.run([encode(machine(1, 3))], context=CONTEXT)
        self.host.settle()
        self.assertEqual(self.host.controller.told(), [(ID, 3, "running")])

    def test_stopped_meanwhile(self):
        """One that its user stops or terminates meanwhile is not started again."""
        brief = [{"id": ID, "order": 4}]
        self.kill()
        self.host.worker.stop(brief, False, context=CONTEXT)
        self.host.settle(2 * SNAPSHOT_SECONDS)
        self.assertEqual(self.state(), ("stopped", 4))
        self.copy()
        self.finish()
        self.assertEqual(self.state(), ("stopped", 4))

    def test_terminated_meanwhile(self):
        """Nor is one that is terminated."""
        self.kill()
        self.host.worker.terminate([{"id": ID, "order": 4}], context=CONTEXT)
        self.host.settle(2 * SNAPSHOT_SECONDS)
        self.assertEqual(self.successResultOf(self.host.hypervisor.domains()), [])

    def test_does_not_come_up(self):
        """One that can't be woken is reported as stopped, and not tried by the process after."""
        self.host.hypervisor.rehearsal.tell("wake fail always")
        self.finish()
        self.host.settle(10)
        self.assertEqual(self.host.controller.told(), [(ID, 3, "stopped")])
        self.host.network.stop()
        self.host.hypervisor.stop()
        self.begin(self.host.clock.seconds() + 1000)
        self.host.settle(10)
        self.assertEqual(self.state(), ("stopped", 3))
