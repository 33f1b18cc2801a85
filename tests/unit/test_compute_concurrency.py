"""
How many machines a host brings up at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from fabric.cloud.interface import ICloudWorker
from fabric.compute.driver import IComputeDriver
from fabric.compute.fake import FakeHypervisor
from fabric.compute.interface import IComputeWorker, MachineOrder
from fabric.compute.service import ComputeService
from fabric.errors import DriverFailure
from fabric.model.codec import encode
from fabric.network.fake import FakeNetwork
from fabric.network.interface import INetworkWorker
from fabric.network.worker import NetworkWorker
from fabric.rpc.interface import Address, Context
from fabric.rpc.local import LocalQueue
from fabric.settings import Fake
from fabric.testing.compute import machine
from tests.unit.test_compute_worker import Controller

ALLOWED = 7
LAUNCHED = 50
SLOWEST = 11.0


@implementer(IComputeDriver)
class Counting(FakeHypervisor):
    """
    A fake hypervisor that counts, and takes as long over each machine as the
    others don't.

    @ivar now, most: spawns in flight.
    @ivar spawned: the machines, in the order in which they were begun.
    @ivar broken: those that fail.
    """

    def __init__(self, directory: str, clock: Clock) -> None:
        super().__init__(directory, clock, Fake(boot_seconds=0, stop_seconds=0))
        self._real_clock = clock
        self.now = self.most = 0
        self.spawned: list[str] = []
        self.broken: set[str] = set()

    def spawn(self, machine: MachineOrder) -> Deferred[None]:
        """Take a while, then do it or fail."""
        self.spawned.append(machine.id)
        self.now += 1
        self.most = max(self.most, self.now)
        begun: Deferred[None] = Deferred()
        self._real_clock.callLater(len(self.spawned) * 3 % SLOWEST, begun.callback, None)
        return begun.addCallback(self._slowly_spawned, machine).addBoth(self._out_of_flight)

    def _slowly_spawned(self, result: None, machine: MachineOrder) -> Deferred[None]:
        if machine.id in self.broken:
            raise DriverFailure(what="as rehearsed")
        return super().spawn(machine)

    def _out_of_flight(self, result: Any) -> Any:
        self.now -= 1
        return result


class ConcurrencyTests(SynchronousTestCase):
    """
    A compute service that is allowed so many, with the real worker and queue.
    """

    def setUp(self) -> None:
        """A host with nothing on it."""
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.queue = LocalQueue(self.clock)
        self.controller = Controller()
        self.queue.listen(Address("cloud"), ICloudWorker, self.controller, 10)
        network = FakeNetwork(self.mktemp(), self.clock)
        network.start()
        self.queue.listen(Address("network", "one"), INetworkWorker, NetworkWorker(network, self.clock), 10)
        self.driver = Counting(self.mktemp(), self.clock)
        service = ComputeService(self.queue, self.driver, "one", "nova", self.clock, concurrency=ALLOWED)
        service.startService()
        self.settle(1.0)

    def settle(self, seconds: float) -> None:
        """Let what is sent arrive, and some time pass."""
        for _ in range(int(seconds * 10)):
            self.clock.advance(0.1)

    def launch(self, messages: Sequence[Sequence[int]]) -> None:
        """Send orders, each about these machines, at once; see them through."""
        for numbers in messages:
            worker = self.queue.caster(IComputeWorker, Address("compute", "one"), Context("req-1"))
            sent = worker.run([encode(machine(number)) for number in numbers])
            sent.addErrback(self._unexpected)
        self.settle(LAUNCHED / ALLOWED * SLOWEST + 60)

    def _unexpected(self, failure: Failure) -> None:
        self.fail(failure.getTraceback())

    def ended(self, state: str) -> set[str]:
        """The machines that were reported so."""
        return {id for id, _, told in self.controller.told() if told == state}

    def test_one_order(self) -> None:
        """Of 50 machines of one launch, as many are spawned at once as are allowed, and all are."""
        self.launch([range(LAUNCHED)])
        self.assertEqual(self.driver.most, ALLOWED)
        self.assertEqual(self.ended("running"), {machine(number).id for number in range(LAUNCHED)})
        self.assertEqual(len(self.driver.spawned), LAUNCHED)

    def test_many_orders(self) -> None:
        """Fifty launches at the same time have no more spawns in flight than one."""
        self.launch([[number] for number in range(LAUNCHED)])
        self.assertEqual(self.driver.most, ALLOWED)
        self.assertEqual(len(self.ended("running")), LAUNCHED)

    def test_failures(self) -> None:
        """Machines that fail make room for the next, once."""
        self.driver.broken = {machine(number).id for number in range(0, LAUNCHED, 3)}
        self.launch([range(20), *([number] for number in range(20, LAUNCHED))])
        self.assertEqual(self.driver.most, ALLOWED)
        self.assertEqual(self.ended("failed"), self.driver.broken)
        self.assertEqual(len(self.ended("running")), LAUNCHED - len(self.driver.broken))
        self.assertEqual(self.driver.now, 0)
