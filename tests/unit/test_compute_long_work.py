"""
Moves and copies, which take a driver minutes: so few at once that the host still answers all else.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.compute import captures, migrations
from fabric.compute.fake import FakeHypervisor
from fabric.compute.interface import IComputeWorker, MigrationOrder
from fabric.compute.worker import ComputeWorker
from fabric.model.codec import encode
from fabric.network.fake import FakeNetwork
from fabric.network.interface import INetworkWorker
from fabric.network.worker import NetworkWorker
from fabric.rpc.interface import Address
from fabric.settings import Fake
from fabric.testing.compute import machine
from tests.unit.test_compute_worker import CONTEXT, Host

MACHINES = range(10)


class LongWorkTests(SynchronousTestCase):
    """
    A host with many machines, and another one.
    """

    def setUp(self):
        """All run; each move and each copy takes a minute."""
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.host = Host(self.clock, self.mktemp())
        for number in MACHINES:
            self.successResultOf(self.host.hypervisor.spawn(machine(number)))
        self.successResultOf(self.host.worker.learn())
        self.now = self.most = 0
        for verb in ("migrate", "capture"):
            self.host.hypervisor.rehearsal.tell(f"{verb} slow 60")
            self.count(verb)

    def count(self, verb):
        """Count how many of a driver's deeds are done at once."""
        act = getattr(self.host.hypervisor, verb)

        def counted(*args):
            self.now += 1
            self.most = max(self.now, self.most)
            return act(*args).addBoth(ended)

        def ended(result):
            self.now -= 1
            return result

        setattr(self.host.hypervisor, verb, counted)

    def see(self, orders):
        """All orders are carried out; meanwhile the machines that wait can have others."""
        self.host.settle(10)
        stopped = self.host.worker.stop([{"id": machine(9).id, "order": 9}], True, context=CONTEXT)
        self.host.settle(1)
        self.successResultOf(stopped)
        for _ in MACHINES:
            self.host.settle(61)
        for order in orders:
            self.successResultOf(order)

    def test_moves(self):
        """A host that is evacuated moves a few at a time."""
        other = FakeHypervisor(self.mktemp(), self.clock, Fake(boot_seconds=0, stop_seconds=0))
        network = FakeNetwork(self.mktemp(), self.clock)
        network.start()
        worker = ComputeWorker("two", other, self.host.queue, self.clock)
        other.start(worker)
        self.host.queue.listen(Address("compute", "two"), IComputeWorker, worker, 10)
        self.host.queue.listen(Address("network", "two"), INetworkWorker, NetworkWorker(network, self.clock), 10)
        orders = [encode(MigrationOrder(machine(number, 2), "two", 2)) for number in MACHINES]
        self.see([self.host.worker.migrate([order], context=CONTEXT) for order in orders])
        self.assertEqual(self.most, migrations.AT_ONCE)
        self.assertEqual(len(self.successResultOf(other.domains())), len(MACHINES) - 1)

    def test_copies(self):
        """Many images are made a few at a time."""
        orders = [{"id": machine(number).id, "image": f"ami-{number}"} for number in MACHINES]
        self.see([self.host.worker.capture([order], context=CONTEXT) for order in orders])
        self.assertEqual(self.most, captures.AT_ONCE)
        self.assertEqual({state for _, state, _ in self.host.controller.images}, {"made"})

    def test_again(self):
        """Orders that are sent again and again while they are carried out do not pile up."""
        copy = {"id": machine(1).id, "image": "ami-1"}
        move = encode(MigrationOrder(machine(2, 2), "nowhere", 2))
        for verb, order in (("capture", copy), ("migrate", move)):
            for _ in range(100):
                again = getattr(self.host.worker, verb)([order], context=CONTEXT)
            self.successResultOf(again)
        self.host.settle(2000)
        self.assertEqual(len(self.host.controller.images), 1)

    def test_plain_orders_again(self):
        """Nor do those to run, reboot, stop or terminate a machine; each is told once."""
        whole, brief = encode(machine(9, 4)), {"id": machine(9).id, "order": 5}
        worker = self.host.worker
        for mishap, order in (
            ("spawn slow 100", lambda: worker.run([encode(machine(20, 1))], context=CONTEXT)),
            ("reboot slow 100", lambda: worker.reboot([whole], False, context=CONTEXT)),
            ("shut_down slow 100", lambda: worker.stop([brief], False, context=CONTEXT)),
            ("destroy slow 100", lambda: worker.terminate([brief | {"order": 6}], context=CONTEXT)),
        ):
            self.host.hypervisor.rehearsal.tell(mishap)
            self.host.controller.casts.clear()
            first, *more = [order() for _ in range(100)]
            for again in more:
                self.successResultOf(again)
            self.assertNoResult(first)
            self.host.settle(200)
            self.successResultOf(first)
            self.assertEqual(len(self.host.controller.told()), 1)

    def test_no_room(self):
        """More moves than may wait come again later."""
        self.patch(migrations, "HELD", 6)
        orders = [encode(MigrationOrder(machine(number, 2), "nowhere", 2)) for number in MACHINES]
        done = [self.host.worker.migrate([order], context=CONTEXT).called for order in orders]
        self.assertEqual(done, [False] * 6 + [True] * 4)
        self.host.settle(2000)
