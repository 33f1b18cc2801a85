"""
Tests for L{fabric.compute.worker} over the in-process queue.
"""

from __future__ import annotations

import base64

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from fabric.cloud.interface import ICloudWorker
from fabric.compute.driver import IDomainWatcher
from fabric.compute.fake import FakeHypervisor
from fabric.compute.interface import Domain, IComputeWorker
from fabric.compute.service import ComputeService
from fabric.compute.worker import ComputeWorker
from fabric.errors import NotFound, Unavailable
from fabric.faults import IFaults
from fabric.model.codec import encode
from fabric.network.fake import FakeNetwork
from fabric.network.interface import INetworkWorker
from fabric.network.worker import NetworkWorker
from fabric.rpc.interface import Address, Context
from fabric.rpc.local import LocalQueue
from fabric.settings import Fake
from fabric.testing.compute import machine

CONTEXT = Context(request_id="req-1")


@implementer(ICloudWorker)
class Controller:
    """
    An L{ICloudWorker} that remembers what it is told.

    @ivar casts: the reports of each C{report_machines}, with its request id.
    """

    def __init__(self):
        self.casts = []
        self.beats = []
        self.adopted = []
        self.placed = []
        self.addresses = []
        self.networks = []
        self.ported = []
        self.disks = []
        self.volumes = []
        self.snapshots = []
        self.images = []
        self.image_reports = []
        self.holdings = []

    def report_disks(self, host, reports, context):
        """Remember it."""
        self.disks += [(each["volume"], each["order"], each["state"]) for each in reports]

    def report_volumes(self, host, reports, context):
        """Remember it."""
        self.volumes += [(each["id"], each["order"], each["state"]) for each in reports]

    def report_images(self, host, reports, context):
        """Remember it."""
        self.image_reports += reports
        self.images += [(each["image"], each["state"], each["location"]) for each in reports]

    def report_snapshots(self, host, reports, context):
        """Remember it."""
        self.snapshots += [(each["id"], each["order"], each["state"]) for each in reports]

    def adopt_volumes(self, host, holdings, context):
        """Remember it."""
        self.holdings.append(holdings)

    def report_machines(self, host, reports, context):
        """Remember it."""
        self.casts.append((context.request_id, reports))

    def report_host(self, topic, host, zone, started_at, capacity, context):
        """Remember it."""
        self.beats.append((topic, host, zone, started_at, capacity))

    def adopt(self, host, domains, context):
        """Remember it."""
        self.adopted.append(domains)

    def report_addresses(self, host, reports, context):
        """Remember it."""
        self.addresses.append(reports)

    def adopt_network(self, host, floating, context):
        """Remember it."""
        self.networks.append((host, floating))

    def report_ports(self, host, instances, context):
        """Remember it."""
        self.ported.append((host, instances))

    def place(self, host, instances, context):
        """Remember it."""
        self.placed.append((host, instances))

    def told(self):
        """C{(id, order, state)} of each report so far."""
        return [(report["id"], report["order"], report["state"]) for _, cast in self.casts for report in cast]

    def last(self):
        """The last report."""
        return self.casts[-1][1][-1]


@implementer(IFaults)
class Steps:
    """
    An L{IFaults} that remembers how far it went.
    """

    def __init__(self):
        self.names = []

    def reach(self, name):
        """Remember it."""
        self.names.append(name)


class Host:
    """
    One compute host with its network worker, on a queue.
    """

    def __init__(self, clock, directory, options=None, network=True):
        self.clock = clock
        self.queue = LocalQueue(clock)
        self.controller = Controller()
        self.steps = Steps()
        self.hypervisor = FakeHypervisor(directory, clock, options or Fake(boot_seconds=0, stop_seconds=0))
        self.network = FakeNetwork(directory + "-network", clock)
        self.network.start()
        self.queue.listen(Address("cloud"), ICloudWorker, self.controller, 10)
        if network:
            self.plug_in()
        self.worker = ComputeWorker("one", self.hypervisor, self.queue, clock, self.steps, concurrency=4)
        self.hypervisor.start(self.worker)
        self.worker.adopt()

    def plug_in(self):
        """Have a network worker."""
        self.queue.listen(Address("network", "one"), INetworkWorker, self.network_worker(), 10)

    def network_worker(self):
        """A new process's worker."""
        return NetworkWorker(self.network, self.clock, self.steps)

    def settle(self, seconds=0.1):
        """Let all that is sent arrive, and some time pass."""
        for _ in range(20):
            self.clock.advance(seconds / 20)


class ComputeWorkerTests(SynchronousTestCase):
    """
    Orders, whole and repeated; each test says what the host does and reports.
    """

    def setUp(self):
        """A host with nothing on it."""
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.directory = self.mktemp()
        self.use(Host(self.clock, self.directory))

    def use(self, host):
        """Have the tests be about C{host}."""
        self.host, self.worker, self.controller = host, host.worker, host.controller
        host.settle()

    def run_machines(self, *orders):
        """Order machines to be run, and see it through."""
        return self.see(self.worker.run([encode(order) for order in orders], context=CONTEXT))

    def stop_machine(self, order, number=1):
        """Order a machine to be stopped, and see it through."""
        brief = {"id": machine(number).id, "order": order}
        return self.see(self.worker.stop([brief], False, context=CONTEXT))

    def terminate(self, order, number=1):
        """Order a machine to be removed, and see it through."""
        return self.see(self.worker.terminate([{"id": machine(number).id, "order": order}], context=CONTEXT))

    def see(self, deferred):
        """Settle, and have it done."""
        self.host.settle()
        self.successResultOf(deferred)

    def states(self):
        """C{(id, state, order)} of what is really there."""
        domains = self.successResultOf(self.host.hypervisor.domains())
        return [(domain.id, domain.state, domain.order) for domain in domains]

    def plugged(self):
        """The instances that have ports."""
        return [port.instance for port in self.successResultOf(self.host.network.ports())]

    def test_interfaces(self):
        """The worker provides IComputeWorker and IDomainWatcher."""
        verifyObject(IComputeWorker, self.worker)
        verifyObject(IDomainWatcher, self.worker)

    def test_run(self):
        """A machine is connected, booted, and reported with its addresses."""
        self.run_machines(machine(1))
        self.assertEqual(self.states(), [(machine(1).id, "running", 1)])
        self.assertEqual(self.plugged(), [machine(1).id])
        expected = {"id": machine(1).id, "order": 1, "state": "running", "code": "", "message": "", "after": 0}
        self.assertEqual(self.controller.casts, [("req-1", [expected | {"addresses": ["10.0.0.3"]}])])

    def test_steps(self):
        """Each step is a fault point, in order."""
        self.run_machines(machine(1))
        run = ["compute.received", "network.expressed", "network.plugged"]
        run += ["compute.attached", "compute.spawned", "compute.reported"]
        self.assertEqual(self.host.steps.names, run)
        self.host.steps.names.clear()
        self.stop_machine(2)
        self.assertEqual(self.host.steps.names, ["compute.received", "compute.stopped", "compute.reported"])
        self.host.steps.names.clear()
        self.terminate(3)
        gone = ["compute.received", "compute.destroyed", "network.unplugged", "compute.detached", "compute.reported"]
        self.assertEqual(self.host.steps.names, gone)

    def test_run_many(self):
        """A hundred machines take one call to the network and one report."""
        sent = self.host.queue.sent
        self.run_machines(*[machine(number) for number in range(100)])
        self.assertEqual(len(self.controller.casts), 1)
        self.assertEqual(len(self.controller.told()), 100)
        self.assertEqual(self.host.queue.sent - sent, 3)  # the call, its answer, the cast

    def test_reports_gather(self):
        """Orders that are done at about the same time are reported in one cast, which names their requests."""
        ran = [
            self.worker.run([encode(machine(number))], context=Context(request_id=f"req-{number}"))
            for number in (1, 2, 3)
        ]
        self.host.settle()
        for deferred in ran:
            self.successResultOf(deferred)
        self.assertEqual([requests for requests, _ in self.controller.casts], ["req-1,req-2,req-3"])

    def test_bounded(self):
        """No more machines are booted at once than the host may."""
        self.use(Host(self.clock, self.mktemp(), Fake(boot_seconds=10)))
        ran = self.worker.run([encode(machine(number)) for number in range(10)], context=CONTEXT)
        self.host.settle()
        for running in (4, 8, 10):
            self.clock.advance(10)
            self.host.settle()
            self.assertEqual(len(self.states()), running)
        self.successResultOf(ran)

    def test_acknowledged_after_report(self):
        """An order is not done with before its report is confirmed; reports are sent until they are."""
        confirmations = [fail(NotFound(kind="broker", id="")), Deferred()]

        class Slow:
            """A queue whose casts are confirmed when the test says so."""

            def __init__(self, queue):
                self.caller = queue.caller

            def caster(self, interface, address, context):
                """Confirm what the test says."""
                return self

            def report_machines(self, host, reports):
                """Be confirmed late."""
                return confirmations.pop(0)

        last = confirmations[1]
        worker = ComputeWorker("one", self.host.hypervisor, Slow(self.host.queue), self.clock)
        ran = worker.run([encode(machine(1))])
        self.host.settle(1)
        self.assertEqual(confirmations, [])
        self.assertNoResult(ran)
        last.callback(None)
        self.successResultOf(ran)

    def test_repeated(self):
        """An order that was carried out is reported again, and nothing else."""
        self.run_machines(machine(1))
        self.host.steps.names.clear()
        self.run_machines(machine(1))
        self.assertEqual(self.controller.told(), 2 * [(machine(1).id, 1, "running")])
        self.assertNotIn("compute.spawned", self.host.steps.names)

    def test_repeated_after_restart(self):
        """So it is by a worker that was started in between."""
        self.run_machines(machine(1))
        self.use(Host(self.clock, self.directory))
        self.run_machines(machine(1))
        self.assertEqual(self.controller.told(), [(machine(1).id, 1, "running")])
        self.assertNotIn("compute.spawned", self.host.steps.names)

    def test_outdated(self):
        """An order older than what was done is dropped without a report."""
        self.run_machines(machine(1))
        self.stop_machine(3)
        self.controller.casts.clear()
        self.run_machines(machine(1, 2))
        self.terminate(2)
        self.assertEqual(self.states(), [(machine(1).id, "stopped", 3)])
        self.assertEqual(self.controller.told(), [])

    def test_outdated_by_its_end(self):
        """A machine that was terminated isn't brought back by an order from before."""
        self.run_machines(machine(1))
        self.terminate(2)
        self.run_machines(machine(1))
        self.run_machines(machine(1, 2))
        self.assertEqual(self.states(), [])

    def test_late_terminate(self):
        """A terminate from before, coming after the last one, doesn't let orders in between revive the machine."""
        self.terminate(4)
        self.terminate(1)
        self.run_machines(machine(1, 3))
        self.assertEqual(self.states(), [])

    def test_terminate(self):
        """A machine is destroyed, disconnected and reported gone; also twice."""
        self.run_machines(machine(1), machine(2))
        for _ in range(2):
            self.terminate(2)
            self.assertEqual(self.states(), [(machine(2).id, "running", 1)])
            self.assertEqual(self.plugged(), [machine(2).id])
        self.assertEqual(self.controller.told()[2:], 2 * [(machine(1).id, 2, "gone")])

    def test_terminate_unknown(self):
        """What was never here is gone."""
        self.terminate(5)
        self.assertEqual(self.controller.told(), [(machine(1).id, 5, "gone")])

    def test_terminate_stray(self):
        """Order 0 removes a machine whatever was done with it."""
        self.run_machines(machine(1, 7))
        self.terminate(0)
        self.assertEqual(self.states(), [])

    def test_terminate_while_booting(self):
        """Terminating a machine that boots waits for it, then removes it."""
        self.use(Host(self.clock, self.mktemp(), Fake(boot_seconds=10)))
        ran = self.worker.run([encode(machine(1))], context=CONTEXT)
        self.host.settle()
        ended = self.worker.terminate([{"id": machine(1).id, "order": 2}], context=CONTEXT)
        self.host.settle()
        self.assertNoResult(ended)
        self.clock.advance(10)
        self.host.settle()
        self.successResultOf(ran)
        self.successResultOf(ended)
        self.assertEqual(self.states(), [])
        self.assertEqual(self.controller.told(), [(machine(1).id, 1, "running"), (machine(1).id, 2, "gone")])

    def test_others_do_not_wait(self):
        """One machine's long boot holds up nothing but itself."""
        self.use(Host(self.clock, self.mktemp(), Fake(boot_seconds=10)))
        self.worker.run([encode(machine(1)), encode(machine(2))], context=CONTEXT)
        self.host.settle()
        self.terminate(2, number=3)
        self.assertEqual(self.controller.told(), [(machine(3).id, 2, "gone")])

    def test_long_line(self):
        """A thousand orders to one machine wait for each other without harm."""
        self.use(Host(self.clock, self.mktemp(), Fake(boot_seconds=10)))
        ran = [self.worker.run([encode(machine(1, order))], context=CONTEXT) for order in range(1000)]
        self.host.settle(20)
        for _ in range(1100):
            self.clock.advance(0.01)
        self.host.settle()
        for deferred in ran:
            self.successResultOf(deferred)

    def test_stop_and_start(self):
        """A stopped machine keeps its disk and is started from it."""
        self.run_machines(machine(1))
        self.stop_machine(2)
        self.assertEqual(self.states(), [(machine(1).id, "stopped", 2)])
        self.run_machines(machine(1, 3))
        self.assertEqual(self.states(), [(machine(1).id, "running", 3)])
        told = [(machine(1).id, 1, "running"), (machine(1).id, 2, "stopped"), (machine(1).id, 3, "running")]
        self.assertEqual(self.controller.told(), told)

    def test_reboot(self):
        """A machine is rebooted once for each order, and reported; one that is not here is brought up."""

        def reboot(order):
            machines = [encode(machine(1, order)), encode(machine(2, order))]
            self.see(self.worker.reboot(machines, False, context=CONTEXT))

        self.run_machines(machine(1))
        for order in (2, 2, 3):
            reboot(order)
        console = self.successResultOf(self.host.hypervisor.console_output(machine(1).id))
        self.assertEqual(console.count(b"Booting"), 3)
        self.assertEqual(self.states(), [(machine(1).id, "running", 3), (machine(2).id, "running", 3)])
        self.assertEqual(len(self.controller.told()), 7)

    def test_reboot_fails(self):
        """A machine whose reboot fails is left running when it can be, else reported stopped with the reason."""
        self.run_machines(machine(1))
        for order, mishaps, state in ((2, ["reboot fail"], "running"), (3, ["reboot lose"], "running")):
            for mishap in mishaps:
                self.host.hypervisor.rehearsal.tell(mishap)
            self.see(self.worker.reboot([encode(machine(1, order))], False, context=CONTEXT))
            self.assertEqual(self.states(), [(machine(1).id, state, order)])
        self.host.hypervisor.rehearsal.tell("reboot fail")
        self.host.hypervisor.rehearsal.tell("spawn fail")
        self.see(self.worker.reboot([encode(machine(1, 4))], False, context=CONTEXT))
        self.assertEqual(self.states(), [(machine(1).id, "stopped", 4)])
        report = self.controller.last()
        self.assertEqual((report["state"], report["code"]), ("stopped", "Server.InternalError"))

    def test_reboot_without_network(self):
        """What could not be rebooted since the network is away runs on, and that is told again; what was down stays."""
        self.run_machines(machine(1), machine(2))
        self.host.network.rehearsal.tell("plug fail 4")
        self.host.hypervisor.halt(machine(2).id)
        self.host.settle()
        orders = [encode(machine(number, 2)) for number in (1, 2)]
        for _ in range(2):
            self.controller.casts.clear()
            self.worker.reboot(orders, False, context=CONTEXT)
            self.host.settle(100)
            told = [(machine(1).id, 2, "failed"), (machine(2).id, 2, "stopped")]
            self.assertEqual(self.controller.told(), told)
            self.assertEqual([state for _, state, _ in self.states()], ["running", "stopped"])
        self.host.network.rehearsal.forget()
        self.see(self.worker.reboot([encode(machine(1, 3))], False, context=CONTEXT))
        self.assertEqual(self.controller.told()[-1], (machine(1).id, 3, "running"))

    def test_reboot_in_hand(self):
        """A reboot that is ordered again while it is carried out is done once, and told once."""
        self.run_machines(machine(1))
        self.controller.casts.clear()
        self.host.hypervisor.rehearsal.tell("reboot slow 5")
        first, second = [self.worker.reboot([encode(machine(1, 2))], False, context=CONTEXT) for _ in range(2)]
        self.successResultOf(second)
        self.host.settle(10)
        self.successResultOf(first)
        self.assertEqual(self.controller.told(), [(machine(1).id, 2, "running")])

    def test_run_after_it_ended(self):
        """An order to run it that comes once more after its guest ended is answered, and starts nothing."""
        self.run_machines(machine(1))
        self.host.hypervisor.halt(machine(1).id)
        self.run_machines(machine(1))
        self.assertEqual(self.states(), [(machine(1).id, "stopped", 1)])
        self.assertEqual(self.controller.told()[-1], (machine(1).id, 1, "stopped"))
        self.run_machines(machine(1, 2))
        self.assertEqual(self.states(), [(machine(1).id, "running", 2)])

    def test_spawn_fails(self):
        """A machine that does not come up is reported failed, says why, and leaves nothing."""
        self.host.hypervisor.rehearsal.tell(f"spawn fail 1 {machine(1).id}")
        self.run_machines(machine(1), machine(2))
        self.assertEqual(self.states(), [(machine(2).id, "running", 1)])
        self.assertEqual(self.plugged(), [machine(2).id])
        report = next(report for report in self.controller.casts[0][1] if report["id"] == machine(1).id)
        self.assertEqual((report["state"], report["code"]), ("failed", "Server.InternalError"))
        self.assertIn("told to fail", report["message"])
        self.assertEqual(report["addresses"], [])

    def test_spawn_answer_lost(self):
        """A boot whose answer is lost is taken back."""
        self.host.hypervisor.rehearsal.tell("spawn lose")
        self.run_machines(machine(1))
        self.assertEqual((self.states(), self.plugged()), ([], []))
        self.assertEqual(self.controller.told(), [(machine(1).id, 1, "failed")])

    def test_failed_is_told_again(self):
        """An order that failed is not tried again by its repetition, only reported."""
        self.host.hypervisor.rehearsal.tell("spawn fail")
        self.run_machines(machine(1))
        self.run_machines(machine(1))
        self.assertEqual(self.controller.told(), 2 * [(machine(1).id, 1, "failed")])
        self.terminate(1)
        self.assertEqual(self.controller.told()[-1], (machine(1).id, 1, "gone"))

    def test_spawn_hangs(self):
        """A driver that never answers is given up, and the machine reported failed."""
        self.host.hypervisor.rehearsal.tell("spawn hang")
        ran = self.worker.run([encode(machine(1))], context=CONTEXT)
        self.host.settle()
        self.assertNoResult(ran)
        self.clock.advance(301)
        self.host.settle()
        self.successResultOf(ran)
        self.assertEqual(self.controller.told(), [(machine(1).id, 1, "failed")])

    def test_arrival_keeps_its_disk(self):
        """A machine that came from another host, and fails to start here, keeps its disk."""
        other = FakeHypervisor(self.mktemp(), self.clock, Fake(boot_seconds=0, stop_seconds=0))
        other.start(self.worker)
        self.successResultOf(other.spawn(machine(1)))
        self.successResultOf(other.shut_down(machine(1).id, True, 2))
        ready = self.worker.receive(encode(machine(1, 2)), context=CONTEXT)
        self.host.settle()
        self.successResultOf(other.migrate(machine(1).id, self.successResultOf(ready), 2))
        self.host.hypervisor.rehearsal.tell("spawn fail")
        self.run_machines(machine(1, 3))
        self.assertEqual(self.controller.told(), [(machine(1).id, 3, "failed")])
        self.assertEqual(self.states(), [(machine(1).id, "stopped", 3)])

    def test_arrival_unseen(self):
        """While the driver does not say whether it came, its orders wait."""
        self.worker.receive(encode(machine(1, 2)), context=CONTEXT)
        self.host.settle()
        self.host.hypervisor.rehearsal.tell("domains fail")
        self.failureResultOf(self.worker.run([encode(machine(1, 3))], context=CONTEXT), Unavailable)
        self.run_machines(machine(1, 3))
        self.assertEqual(self.states(), [(machine(1).id, "running", 3)])

    def test_start_fails(self):
        """A stopped machine that does not start keeps its disk."""
        self.run_machines(machine(1))
        self.stop_machine(2)
        self.host.hypervisor.rehearsal.tell("spawn fail")
        self.run_machines(machine(1, 3))
        self.assertEqual(self.states(), [(machine(1).id, "stopped", 3)])
        self.assertEqual(self.controller.last()["state"], "failed")
        self.assertEqual(self.controller.last()["addresses"], ["10.0.0.3"])

    def test_cannot_clean_up(self):
        """What can't be taken back is reported with the addresses that may still be in use."""
        self.host.hypervisor.rehearsal.tell("spawn lose")
        self.host.hypervisor.rehearsal.tell("destroy fail always")
        ran = self.worker.run([encode(machine(1))], context=CONTEXT)
        self.host.settle(10)
        self.successResultOf(ran)
        self.assertEqual(self.controller.last()["state"], "failed")
        self.assertEqual(self.controller.last()["addresses"], ["10.0.0.3"])

    def test_destroy_is_repeated(self):
        """A removal that fails is tried again."""
        self.run_machines(machine(1))
        self.host.hypervisor.rehearsal.tell("destroy fail 2")
        ended = self.worker.terminate([{"id": machine(1).id, "order": 2}], context=CONTEXT)
        self.host.settle(10)
        self.successResultOf(ended)
        self.assertEqual(self.controller.told()[-1], (machine(1).id, 2, "gone"))

    def test_cannot_terminate(self):
        """A machine that can't be removed is reported failed, with its addresses."""
        self.run_machines(machine(1))
        self.host.hypervisor.rehearsal.tell("destroy fail always")
        ended = self.worker.terminate([{"id": machine(1).id, "order": 2}], context=CONTEXT)
        self.host.settle(10)
        self.successResultOf(ended)
        self.assertEqual(self.controller.told()[-1], (machine(1).id, 2, "failed"))
        self.assertEqual(self.controller.last()["addresses"], ["10.0.0.3"])

    def test_waits_for_network(self):
        """A network worker that comes up late is waited for."""
        self.use(Host(self.clock, self.mktemp(), network=False))
        ran = self.worker.run([encode(machine(1))], context=CONTEXT)
        self.host.settle(3)
        self.assertNoResult(ran)
        self.host.plug_in()
        self.host.settle(10)
        self.successResultOf(ran)
        self.assertEqual(self.controller.told(), [(machine(1).id, 1, "running")])

    def test_no_network(self):
        """Without a network worker the machines fail in the end, all of them."""
        self.use(Host(self.clock, self.mktemp(), network=False))
        ran = self.worker.run([encode(machine(1)), encode(machine(2))], context=CONTEXT)
        self.host.settle(400)
        self.successResultOf(ran)
        self.assertEqual(self.controller.told(), [(machine(1).id, 1, "failed"), (machine(2).id, 1, "failed")])
        self.assertEqual(self.controller.last()["addresses"], ["10.0.0.4"])

    def test_network_refuses(self):
        """A network that the host can't make fails the machine at once, and leaves nothing."""
        port = attrs.evolve(machine(1).ports[0], manager="vlan")
        self.run_machines(attrs.evolve(machine(1), ports=(port,)))
        self.assertEqual((self.states(), self.plugged()), ([], []))
        self.assertIn("vlan", self.controller.last()["message"])
        self.assertEqual(self.controller.last()["addresses"], [])

    def test_no_ports(self):
        """A machine without ports needs no network."""
        self.use(Host(self.clock, self.mktemp(), network=False))
        self.run_machines(attrs.evolve(machine(1), ports=()))
        self.assertEqual(self.controller.told(), [(machine(1).id, 1, "running")])

    def test_unexpected_error(self):
        """A driver's bug is logged whole, and fails the machine without showing users the details."""

        def spawn(machine):
            return fail(ValueError("secret"))

        self.host.hypervisor.spawn = spawn
        self.run_machines(machine(1))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.controller.last()["state"], "failed")
        self.assertNotIn("secret", self.controller.last()["message"])

    def test_guest_halts(self):
        """A guest that shuts itself down is reported stopped, by its own doing."""
        self.run_machines(machine(1))
        self.host.hypervisor.halt(machine(1).id)
        self.host.settle()
        self.assertEqual(self.controller.told()[-1], (machine(1).id, 0, "stopped"))
        self.assertEqual(self.controller.last()["code"], "Client.InstanceInitiatedShutdown")

    def test_slow_end(self):
        """Of machines that end together each is told of as it ends, and those that end at once in one go."""
        ids = [machine(number).id for number in range(1, 5)]
        self.run_machines(*[machine(number) for number in range(1, 5)])
        self.controller.casts.clear()
        self.host.hypervisor.rehearsal.tell(f"destroy slow 60 {ids[1]}")
        ended = self.worker.terminate([{"id": id, "order": 2} for id in ids], context=CONTEXT)
        self.host.settle(5)
        self.assertNoResult(ended)
        quick = [(id, 2, "gone") for id in ids if id != ids[1]]
        self.assertEqual((self.controller.told(), len(self.controller.casts)), (quick, 1))
        self.assertEqual(self.plugged(), [ids[1]])
        self.assertEqual(self.host.steps.names.count("compute.detached"), 1)
        self.run_machines(machine(1, 3))
        self.host.settle(60)
        self.successResultOf(ended)
        self.assertEqual(self.controller.told()[-1], (ids[1], 2, "gone"))

    def test_news_has_a_number(self):
        """News says after which order it happened, also when the guest itself is gone and can't say it."""
        self.run_machines(machine(1))
        self.host.hypervisor.halt(machine(1).id)
        self.run_machines(machine(1, 7))
        self.worker.domain_changed(Domain(machine(1).id, "stopped"), "The guest was removed.", False)
        self.host.settle()
        news = [report for _, cast in self.controller.casts for report in cast if not report["order"]]
        self.assertEqual([each["after"] for each in news], [1, 7])
        self.stop_machine(6)
        self.assertEqual(self.states(), [(machine(1).id, "running", 7)])

    def test_guest_is_killed(self):
        """A guest that somebody stopped on the host is reported stopped, and not by its own doing."""
        self.run_machines(machine(1))
        self.host.hypervisor.kill(machine(1).id)
        self.host.settle()
        report = self.controller.last()
        self.assertEqual((report["state"], report["order"], report["code"]), ("stopped", 0, "Server.InternalError"))
        self.assertIn("from outside", report["message"])

    def test_suspended_from_outside(self):
        """A guest that somebody suspended on the host goes on when it is resumed: nothing is reported."""
        self.run_machines(machine(1))
        told = self.controller.told()
        suspended = Domain(machine(1).id, "stopped", 1, condition="suspended")
        self.worker.domain_changed(suspended, "The guest was suspended from outside of the cloud.", False)
        self.host.settle()
        self.assertEqual(self.controller.told(), told)

    def test_guest_crashes(self):
        """A guest that crashes is reported stopped, as an error."""
        self.run_machines(machine(1))
        self.host.hypervisor.crash(machine(1).id)
        self.host.settle()
        self.assertEqual(self.controller.told()[-1], (machine(1).id, 0, "stopped"))
        self.assertEqual(self.controller.last()["code"], "Server.InternalError")

    def test_guest_ends_during_order(self):
        """A guest that ends while an order is carried out that says nothing of it is reported afterwards, once."""
        for deed, code in (("halt", "Client.InstanceInitiatedShutdown"), ("crash", "Server.InternalError")):
            self.run_machines(machine(1, 1 if deed == "halt" else 2))
            self.controller.casts.clear()
            self.host.hypervisor.rehearsal.tell("capture slow 3")
            order = {"id": machine(1).id, "image": "ami-" + deed, "restart": False}
            copied = self.worker.capture([order], context=CONTEXT)
            self.host.settle(1)
            self.host.hypervisor.rehearsal.tell(f"{deed} {machine(1).id}")
            self.host.settle(10)
            self.successResultOf(copied)
            self.assertEqual(self.controller.told(), [(machine(1).id, 0, "stopped")])
            self.assertEqual(self.controller.last()["code"], code)
            self.host.hypervisor.rehearsal.forget()

    def test_guest_ends_before_order(self):
        """A guest that ended while orders to it waited is reported as what they make of it."""
        self.run_machines(machine(1))
        self.host.hypervisor.rehearsal.tell("capture slow 3")
        self.worker.capture([{"id": machine(1).id, "image": "ami-1", "restart": False}], context=CONTEXT)
        self.worker.run([encode(machine(1, 2))], context=CONTEXT)
        self.host.settle(1)
        self.controller.casts.clear()
        self.host.hypervisor.halt(machine(1).id)
        self.host.settle(10)
        self.assertEqual(self.controller.told(), [(machine(1).id, 2, "running")])

    def test_claim(self):
        """Claimed instances are asked to be placed here."""
        self.see(self.worker.claim(["i-1", "i-2"], context=CONTEXT))
        self.assertEqual(self.controller.placed, [("one", ["i-1", "i-2"])])

    def test_console_output(self):
        """The console comes in base64 with its time; NotFound for what is not here."""
        self.run_machines(machine(1))
        found = self.successResultOf(self.worker.console_output(machine(1).id, context=CONTEXT))
        self.assertIn(b"Booting", base64.b64decode(found["output"]))
        self.assertEqual(found["timestamp"], self.clock.seconds())
        self.failureResultOf(self.worker.console_output("i-none", context=CONTEXT), NotFound)

    def test_capture(self):
        """A machine's disk is copied once, and told again; what is not here, or can't be copied, failed."""
        self.run_machines(machine(1))
        order = {"id": machine(1).id, "image": "ami-1", "restart": True}
        for _ in range(2):
            self.worker.capture([order], context=CONTEXT)
            self.host.settle()
        self.assertEqual(self.controller.images, [("ami-1", "made", "captured/ami-1")] * 2)
        self.worker.capture([order | {"id": "i-none", "image": "ami-2"}], context=CONTEXT)
        self.host.settle()
        for mishap, image in (("capture fail 2", "ami-3"), ("capture lose", "ami-4")):
            self.host.hypervisor.rehearsal.tell(mishap)
            self.worker.capture([order | {"image": image}], context=CONTEXT)
            self.host.settle(3.0)
        self.assertEqual([state for _, state, _ in self.controller.images[2:]], ["failed", "failed", "made"])

    def test_describe_machines(self):
        """Operators are told what is really here."""
        self.run_machines(machine(1))
        found = self.successResultOf(self.worker.describe_machines(context=CONTEXT))
        expected = {"id": machine(1).id, "state": "running", "order": 1, "addresses": ("10.0.0.3",)}
        expected |= {"disks": {}, "condition": "", "quiet_until": 0.0}
        self.assertEqual([item | {"addresses": tuple(item["addresses"])} for item in found], [expected])


class ComputeServiceTests(SynchronousTestCase):
    """
    The service: how it comes up, beats and goes.
    """

    def setUp(self):
        """A service that is not started, and a controller."""
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.queue = LocalQueue(self.clock)
        self.controller = Controller()
        self.queue.listen(Address("cloud"), ICloudWorker, self.controller, 10)
        self.hypervisor = FakeHypervisor(self.mktemp(), self.clock, Fake(boot_seconds=5, vcpus=3))
        self.service = ComputeService(self.queue, self.hypervisor, "one", "nova", self.clock)

    def pass_time(self, seconds):
        """Let time pass in small steps."""
        for _ in range(int(seconds * 10)):
            self.clock.advance(0.1)

    def run_machine(self):
        """Order a machine without ports by cast."""
        remote = self.queue.caster(IComputeWorker, Address("compute", "one"), CONTEXT)
        remote.run([encode(attrs.evolve(machine(1), ports=()))])

    def test_nothing_before_start(self):
        """Constructing a service does nothing."""
        self.pass_time(30)
        self.assertEqual((self.controller.adopted, self.controller.beats), ([], []))

    def test_start(self):
        """It tells what it has, then beats at each interval with its capacity."""
        started = self.clock.seconds()
        self.service.startService()
        self.pass_time(25)
        self.assertEqual(self.controller.adopted, [[]])
        self.assertEqual(len(self.controller.beats), 3)
        topic, host, zone, started_at, capacity = self.controller.beats[0]
        self.assertEqual((topic, host, zone, started_at), ("compute", "one", "nova", started))
        self.assertEqual((capacity["vcpus"], capacity["hypervisor"]), (3, "fake"))

    def test_beats_on(self):
        """A beat that fails ends nothing."""
        self.service.startService()
        self.pass_time(5)
        self.hypervisor.rehearsal.tell("capacity fail 3")
        self.pass_time(20)
        self.assertTrue(len(self.controller.beats) >= 2)
        self.assertEqual(len(self.flushLoggedErrors()), 3)

    def test_driver_comes_late(self):
        """A hypervisor that can't be opened at first is tried again."""
        self.hypervisor.rehearsal.tell("start fail 2")
        self.service.startService()
        self.pass_time(1)
        self.assertEqual(self.controller.adopted, [])
        self.pass_time(3)
        self.assertEqual(self.controller.adopted, [[]])

    def test_knows_before_it_serves(self):
        """An order that waits for a new process, and fails, leaves the disk of a machine that was there before."""
        self.service.startService()
        self.pass_time(1)
        self.run_machine()
        self.pass_time(6)
        remote = self.queue.caster(IComputeWorker, Address("compute", "one"), CONTEXT)
        remote.stop([{"id": machine(1).id, "order": 2}], True)
        self.pass_time(1)
        self.successResultOf(self.service.stopService())
        self.service = ComputeService(self.queue, self.hypervisor, "one", "nova", self.clock)
        remote.run([encode(attrs.evolve(machine(1, 3), ports=()))])
        for mishap in ("domains slow 1", "spawn fail"):
            self.hypervisor.rehearsal.tell(mishap)
        self.service.startService()
        self.pass_time(20)
        self.assertEqual(self.controller.told()[-1], (machine(1).id, 3, "failed"))
        found = self.hypervisor.domains()
        self.pass_time(1.2)
        self.assertEqual([domain.state for domain in self.successResultOf(found)], ["stopped"])

    def test_serves(self):
        """It takes orders at its host's address and at the topic's."""
        self.service.startService()
        self.pass_time(1)
        self.run_machine()
        self.queue.caster(IComputeWorker, Address("compute"), CONTEXT).claim(["i-1"])
        self.pass_time(6)
        self.assertEqual(self.controller.told(), [(machine(1).id, 1, "running")])
        self.assertEqual(self.controller.placed, [("one", ["i-1"])])

    def test_adopts_again(self):
        """Now and then it tells all that it has again."""
        self.service.startService()
        self.pass_time(1)
        self.run_machine()
        self.pass_time(305)
        self.assertEqual([len(domains) for domains in self.controller.adopted], [0, 1])

    def test_graceful_stop(self):
        """Stopping finishes what is in hand, and reports it, before the driver is let go."""
        self.service.startService()
        self.pass_time(1)
        self.run_machine()
        self.pass_time(1)
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.pass_time(5)
        self.successResultOf(stopped)
        self.assertEqual(self.controller.told(), [(machine(1).id, 1, "running")])
        beats = len(self.controller.beats)
        self.pass_time(30)
        self.assertEqual(len(self.controller.beats), beats)

    def test_impatient_stop(self):
        """What does not finish in the grace time is left to come again."""
        self.service.startService()
        self.pass_time(1)
        self.hypervisor.rehearsal.tell("spawn hang")
        self.run_machine()
        self.pass_time(1)
        stopped = self.service.stopService()
        self.pass_time(21)
        self.successResultOf(stopped)

    def test_stop_while_coming_up(self):
        """It can be stopped before it is up."""
        self.hypervisor.rehearsal.tell("start fail always")
        self.service.startService()
        self.pass_time(1)
        self.successResultOf(self.service.stopService())
        self.pass_time(60)
        self.assertEqual(self.controller.beats, [])

    def test_start_again(self):
        """A stopped service can be started again."""
        for _ in range(2):
            self.service.startService()
            self.pass_time(1)
            self.successResultOf(self.service.stopService())
        self.assertEqual(len(self.controller.adopted), 2)
        self.assertEqual(len(self.controller.beats), 2)
