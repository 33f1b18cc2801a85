"""
What hosts say, crossed by what is written meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from types import SimpleNamespace
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, FirstError, fail, gatherResults, inlineCallbacks, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from fabric.cloud.addresses import Named
from fabric.cloud.adoption import Adoption
from fabric.cloud.assembly import Rules
from fabric.cloud.controller import CloudWorker
from fabric.cloud.fencing import Fencing, IFence
from fabric.cloud.hosts import Hosts, Zone
from fabric.cloud.launch import LaunchSpec
from fabric.cloud.orders import Orders
from fabric.cloud.reports import Reports
from fabric.cloud.volume_orders import VolumeOrders
from fabric.compute.interface import MachineReport
from fabric.errors import Unavailable
from fabric.faults import IFaults, NoFaults
from fabric.model.address import Address
from fabric.model.codec import encode
from fabric.model.host import Capacity, Service, Stray
from fabric.model.instance import Instance, Migration
from fabric.store.interface import Page, Query, Stored
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, CloudUnderTest, make_cloud
from fabric.testing.store import make_store

Test = Generator[Deferred[Any], Any, None]


class LateStore:
    """
    A store that takes its time to answer a listing of instances: something
    happens between the second one's reading and its answer.
    """

    def __init__(self, store: Any, meanwhile: Callable[[], Deferred[Any]]) -> None:
        self._store = store
        self._meanwhile = meanwhile
        self._listings = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @inlineCallbacks
    def records(self, cls: Any, query: Query) -> Generator[Deferred[Any], Any, Page]:
        """What was the case."""
        page = yield self._store.records(cls, query)
        self._listings += 1
        if self._listings == 2:
            yield self._meanwhile()
        return page  # type: ignore[no-any-return]


class PastStore:
    """
    A store whose answers are from before instances had hosts.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @inlineCallbacks
    def records(self, cls: Any, query: Query) -> Generator[Deferred[Any], Any, Page]:
        """No instance is on any host."""
        page = yield self._store.records(cls, query)
        return Page([], "") if cls is Instance else page

    @inlineCallbacks
    def read(self, cls: Any, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Stored[Any] | None]]:
        """Each is still to be placed."""
        found = yield self._store.read(cls, ids)
        return [each and attrs.evolve(each, record=attrs.evolve(each.record, host="")) for each in found]


class AdoptionTests(TestCase):
    """
    A host that tells all that it has.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Test:
        """One instance runs."""
        self.cloud: CloudUnderTest = yield make_cloud(self, rules=Rules(ready_keys=0, resend_after=0.5))
        self.host = self.cloud.hosts["node1"]
        self.made = yield self.launched()

    @inlineCallbacks
    def launched(self) -> Generator[Deferred[Any], Any, Instance]:
        """Another instance, once it runs."""
        [made] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        [running] = yield self.cloud.until_state("running", made.id)
        return running  # type: ignore[no-any-return]

    def adoption(self, store: Any) -> Adoption:
        """One that sees state by another store."""
        cloud, queue = self.cloud, self.cloud.queue
        orders, enforcement = Orders(queue, cloud.cloud.networks), cloud.assembly.worker._enforcement
        reports = Reports(cloud.store, orders, VolumeOrders(queue), enforcement, cloud.reactor, NoFaults())
        return Adoption(store, queue, orders, reports, cloud.reactor, NoFaults())

    @inlineCallbacks
    def here(self, id: str) -> Generator[Deferred[Any], Any, bool]:
        """Whether the host has a machine when it has done all that was ordered of it."""
        yield self.cloud.cloud.instances.stop(CALLER, [id])
        yield self.cloud.until_state("stopped", id)
        domains = yield self.host.hypervisor.domains()
        return id in {domain.id for domain in domains}

    @inlineCallbacks
    def test_launched_meanwhile(self) -> Test:
        """A machine that is placed and comes up while its host is asked what it has goes on."""
        late: list[Instance] = []
        store = LateStore(self.cloud.store, lambda: self.launched().addCallback(late.append))
        yield self.host.hypervisor.destroy(self.made.id)
        yield self.adoption(store).adopt("test", "node1", [])
        [other] = late
        self.assertTrue((yield self.here(other.id)))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_down_for_a_moment(self) -> Test:
        """A guest that is down for the time of an order is not held to be lost by what its host tells then."""
        self.host.hypervisor.rehearsal.tell("rescue slow 1")
        rescued = self.cloud.cloud.care.rescue(OPERATOR, self.made.id)
        worker = self.host.services[1].worker
        yield self.cloud.until(lambda: worker._turns.busy(self.made.id))
        self.host.hypervisor.kill(self.made.id)  # as drivers do before they boot it anew
        yield worker.adopt()
        yield rescued
        [instance] = yield self.cloud.get(self.made.id)
        self.assertEqual(instance.state, "running")

    @inlineCallbacks
    def test_quiet(self) -> Test:
        """A guest that its host stopped for a while runs for its user, also when the host begins anew and tells all."""
        yield self.host.hypervisor.quiet(self.made.id, self.cloud.reactor.seconds() + 1.5)
        yield self.host.stop()
        host = self.cloud.add_host("node1", directory=self.host.directory)
        yield host.services[1].worker.adopt()
        states = []

        @inlineCallbacks
        def woken() -> Generator[Deferred[Any], Any, bool]:
            [instance] = yield self.cloud.get(self.made.id)
            [domain] = yield host.hypervisor.domains()
            states.append((instance.state, domain.state))
            return domain.state == "running"  # type: ignore[no-any-return]

        yield self.cloud.until(woken)
        self.assertEqual(set(states), {("running", "stopped"), ("running", "running")})

    @inlineCallbacks
    def test_removed_late(self) -> Test:
        """The order to remove an old copy does nothing to what was brought up there since."""
        [domain] = yield self.host.hypervisor.domains()
        yield self.cloud.cloud.instances.reboot(CALLER, [self.made.id])
        yield self.adoption(PastStore(self.cloud.store)).adopt("test", "node1", [domain])
        self.assertTrue((yield self.here(self.made.id)))
        yield self.cloud.sound()


class MoveTests(TestCase):
    """
    An instance that is being moved to a host that does not answer.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Test:
        """It has a floating address, and ends when it shuts itself down."""
        self.cloud: CloudUnderTest = yield make_cloud(self, rules=Rules(ready_keys=0, resend_after=0.5))
        yield self.cloud.cloud.ranges.ensure("public", "203.0.113.0/28")
        spec = LaunchSpec(SAMPLE, "m1.tiny", shutdown_behavior="terminate")
        [self.made] = yield self.cloud.cloud.instances.run(CALLER, spec)
        yield self.cloud.until_state("running", self.made.id)
        self.address = yield self.cloud.cloud.addresses.allocate(CALLER)
        yield self.cloud.cloud.addresses.associate(CALLER, Named(allocation=self.address.id), self.made.id)
        [stored] = yield self.cloud.store.read(Instance, [self.made.id])
        self.order = stored.record.order + 1
        migration = Migration("elsewhere", self.order, self.cloud.reactor.seconds())
        yield self.write(stored, order=self.order, migration=migration, review_at=self.cloud.reactor.seconds() + 3600)

    def write(self, stored: Any, **changes: Any) -> Deferred[Any]:
        """Have it be so."""
        transaction = self.cloud.store.transaction("test")
        transaction.update(stored, attrs.evolve(stored.record, **changes))
        return self.cloud.store.commit(transaction)

    @inlineCallbacks
    def test_ends_when_it_was_not_moved(self) -> Test:
        """That it was not moved, and then shut itself down, may be told at once."""
        reports = [
            MachineReport(self.made.id, self.order, "not_moved"),
            MachineReport(self.made.id, 0, "stopped", "Client.InstanceInitiatedShutdown"),
        ]
        yield self.cloud.assembly.worker.report_machines("node1", [encode(each) for each in reports])
        [instance] = yield self.cloud.until_state("terminated", self.made.id)
        self.assertIsNone(instance.public)
        yield self.cloud.until(self.leads_nowhere)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_ends_where_it_comes_to(self) -> Test:
        """That its guest ended where it came to may be told before that it was moved there."""
        ended = MachineReport(self.made.id, 0, "stopped", "Client.InstanceInitiatedShutdown", after=self.order)
        yield self.cloud.assembly.worker.report_machines("nowhere", [encode(attrs.evolve(ended, after=1))])
        [instance] = yield self.cloud.get(self.made.id)
        self.assertEqual(instance.state, "running")
        yield self.cloud.assembly.worker.report_machines("elsewhere", [encode(ended)])
        [instance] = yield self.cloud.get(self.made.id)
        self.assertEqual((instance.state, instance.host), ("shutting-down", "node1"))

    @inlineCallbacks
    def leads_nowhere(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether the address is on no host, and state knows."""
        [stored] = yield self.cloud.store.read(Address, [self.address.id])
        return stored.record.settled and not (yield self.cloud.hosts["node1"].network.floating())

    @inlineCallbacks
    def test_has_left(self) -> Test:
        """The port of one that has left its host, and of which nobody has said so yet, is not ordered there again."""
        network = self.cloud.hosts["node1"].network
        yield network.unplug([self.made.id])
        yield self.cloud.assembly.worker.adopt_network("node1", [])
        yield self.cloud.until(self.leads_there)
        self.assertEqual((yield network.ports()), [])

    @inlineCallbacks
    def leads_there(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether the host has the floating address, as it was ordered last."""
        return bool((yield self.cloud.hosts["node1"].network.floating()))

    @inlineCallbacks
    def test_is_over_in_time(self) -> Test:
        """One that is terminated while nobody says where it is is terminated for its user when the time is over."""
        host = self.cloud.hosts["node1"]
        yield host.stop()
        yield self.cloud.cloud.instances.terminate(CALLER, [self.made.id])
        [stored] = yield self.cloud.store.read(Instance, [self.made.id])
        long_ago = self.cloud.reactor.seconds() - 3000.0
        yield self.write(stored, changed_at=long_ago, review_at=long_ago)
        [instance] = yield self.cloud.until_state("terminated", self.made.id)
        self.assertTrue(instance.on_host)
        used = yield self.cloud.store.counters([f"quota:{CALLER.project}:instances"])
        self.assertEqual(set(used.values()), {0})
        self.cloud.add_host("node1", directory=host.directory)
        self.cloud.add_host("elsewhere")
        yield self.cloud.until(self.is_gone)
        self.assertEqual((yield self.cloud.hosts["node1"].hypervisor.domains()), [])
        yield self.cloud.sound()

    @inlineCallbacks
    def is_gone(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether no host has anything of it."""
        [instance] = yield self.cloud.get(self.made.id)
        return not instance.on_host


@implementer(IFaults)
class DiesAt:
    """In place of a process that is killed at a point: what follows it is not done."""

    def __init__(self, *points: str) -> None:
        self.points = set(points)

    def reach(self, name: str) -> None:
        """See L{IFaults.reach}."""
        if name in self.points:
            self.points.discard(name)
            raise Killed(name)


class Killed(Exception):
    """Nobody is there to answer any more."""


class RebootTests(TestCase):
    """
    A reboot that was written, and whose order is lost.
    """

    timeout = 300

    @inlineCallbacks
    def test_is_repeated(self) -> Test:
        """It is ordered again, done once, and its state is running all the while."""
        rules, faults = Rules(ready_keys=0, resend_after=0.2), DiesAt("cloud.reboot_written")
        cloud: CloudUnderTest = yield make_cloud(self, rules=rules, faults=faults)
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        yield cloud.until_state("running", made.id)
        yield self.assertFailure(cloud.cloud.instances.reboot(CALLER, [made.id]), Killed)
        [instance] = yield cloud.get(made.id)
        self.assertTrue(instance.rebooting_since)

        @inlineCallbacks
        def confirmed() -> Generator[Deferred[Any], Any, bool]:
            [instance] = yield cloud.get(made.id)
            return instance.state == "running" and not instance.rebooting_since

        yield cloud.until(confirmed)
        console = yield cloud.cloud.instances.console_output(CALLER, made.id)
        self.assertEqual(console.output.count(b"Booting"), 2)
        yield cloud.sound()

    @inlineCallbacks
    def test_guest_ends_meanwhile(self) -> Test:
        """A guest that ended before its reboot was carried out is brought up, also when its host tells all it has."""
        faults = DiesAt("cloud.reboot_written")
        cloud: CloudUnderTest = yield make_cloud(self, rules=Rules(ready_keys=0), faults=faults)
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        yield cloud.until_state("running", made.id)
        yield self.assertFailure(cloud.cloud.instances.reboot(CALLER, [made.id]), Killed)
        host = cloud.hosts["node1"]
        host.hypervisor.halt(made.id)
        yield host.services[1].worker.adopt()

        @inlineCallbacks
        def runs() -> Generator[Deferred[Any], Any, bool]:
            [domain] = yield host.hypervisor.domains()
            return domain.state == "running"

        yield cloud.until(runs)
        yield cloud.until_state("running", made.id)
        yield cloud.sound()


class SweepTests(TestCase):
    """
    A sweep in which something goes wrong.
    """

    @inlineCallbacks
    def test_others_are_looked_at(self) -> Test:
        """What goes wrong with the first kind of records keeps nothing else waiting, and is told."""
        self.addCleanup(self.flushLoggedErrors, ValueError)
        cloud: CloudUnderTest = yield make_cloud(self, rules=Rules(ready_keys=0, resend_after=600.0))
        sweep = cloud.assembly.sweep
        long_ago = cloud.reactor.seconds() - 30.0
        unknown = Stray("node1/lost", "node1", "lost", long_ago, long_ago)
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        [running] = yield cloud.until_state("running", made.id)
        [stored] = yield cloud.store.read(Instance, [made.id])
        writing = cloud.store.transaction("test")
        writing.update(stored, attrs.evolve(running, regrouped=("sg-gone",), regroup_at=long_ago))
        writing.create(unknown)
        sweep._instances = lambda ids: fail(ValueError("a record that nobody thought of"))
        yield cloud.store.commit(writing)
        yield self.assertFailure(sweep.turn(), ValueError)
        [stray] = yield cloud.store.read(Stray, [unknown.id])
        self.assertTrue(stray is None or stray.record.remove_at > long_ago)
        del sweep._instances


@implementer(IFence)
class Switches:
    """Of three hosts one's switch never answers, one's breaks, and one's works."""

    def fence(self, host: str) -> Deferred[bool]:
        """See L{IFence.fence}."""
        if host == "b":
            return fail(ValueError("a bug"))
        return succeed(True) if host == "c" else Deferred()


class Evacuated:
    """In place of an L{Evacuation}: notes which hosts it is asked about."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    def evacuate(self, request_id: str, host: str) -> Deferred[int]:
        """Note it."""
        self.hosts.append(host)
        return succeed(0)


class HostTests(TestCase):
    """
    Several controllers that look at the same.
    """

    @inlineCallbacks
    def test_silent_for_two(self) -> Test:
        """Two controllers that find the same services silent at once both go on to the others."""
        store = yield make_store(self, None)
        clock = Clock()
        hosts = Hosts(store, clock)
        for name in ("a", "b", "c"):
            yield hosts.report("compute", name, "nova", 0.0, Capacity())
        clock.advance(1000.0)
        yield gatherResults([Hosts(store, clock).review(), Hosts(store, clock).review()], consumeErrors=True)
        self.assertEqual((yield hosts.alive()), frozenset())

    @inlineCallbacks
    def test_lost_writes(self) -> Test:
        """A service of which a failed-over store knows nothing is known again after its next report."""
        store = yield make_store(self, None)
        clock = Clock()
        clock.advance(1000.0)
        hosts = Hosts(store, clock)
        yield hosts.report("compute", "a", "nova", 0.0, Capacity(4))
        [stored] = yield store.read(Service, ["compute.a"])
        transaction = store.transaction("failover")
        transaction.delete(stored)
        yield store.commit(transaction)
        clock.advance(10.0)
        yield hosts.review()
        yield hosts.report("compute", "a", "nova", 0.0, Capacity(4))
        self.assertEqual((yield hosts.alive()), {"a"})

    @inlineCallbacks
    def test_piled_up(self) -> Test:
        """Of the reports of a service that waited for a controller, one is noted; one that says something new too."""
        store = yield make_store(self, None)
        clock = Clock()
        clock.advance(1000.0)
        hosts = Hosts(store, clock)
        yield hosts.report("compute", "a", "nova", 0.0, Capacity(4))
        before = store.round_trips
        for _ in range(10):
            yield hosts.report("compute", "a", "nova", 0.0, Capacity(4))
        self.assertEqual(store.round_trips, before)
        yield hosts.report("compute", "a", "nova", 0.0, Capacity(8))
        self.assertEqual((yield hosts.view("a")).capacity, Capacity(8))
        clock.advance(10.0)
        yield hosts.report("compute", "a", "nova", 0.0, Capacity(8))
        self.assertEqual((yield store.beats()), {"compute.a": 1010.0})

    @inlineCallbacks
    def test_zones(self) -> Test:
        """Launches that name a zone do not read all hosts each time; what is new here is known at once."""
        store = yield make_store(self, None)
        clock = Clock()
        hosts, others = Hosts(store, clock), Hosts(store, clock)
        yield hosts.report("compute", "a", "nova", 0.0, Capacity())
        for each in (hosts, others):
            self.assertEqual((yield each.zones()), [Zone("nova", True)])
        before = store.round_trips
        yield hosts.zones()
        self.assertEqual(store.round_trips, before)
        yield hosts.report("compute", "b", "east", 0.0, Capacity())
        east = [Zone("east", True), Zone("nova", True)]
        self.assertEqual((yield hosts.zones()), east)
        clock.advance(1.0)
        self.assertEqual((yield others.zones()), east)
        yield hosts.set_disabled(OPERATOR, "b", None, True)
        self.assertEqual((yield hosts.zones()), [Zone("east", False), Zone("nova", True)])

    @inlineCallbacks
    def test_unnoted(self) -> Test:
        """A heartbeat that comes while the store is away is over: it keeps no place among the messages in work."""
        away: Any = SimpleNamespace(report=lambda *told: fail(Unavailable("redis", "no connection")))
        unused: list[Any] = [None] * 7
        worker = CloudWorker(away, unused[0], unused[1], unused[2], False, *unused[:5])
        self.assertIsNone((yield worker.report_host("compute", "a", "nova", 0.0, encode(Capacity()))))

    @inlineCallbacks
    def test_fences_that_do_not_answer(self) -> Test:
        """A host whose power switch does not answer, or breaks, keeps no other from being fenced."""
        store = yield make_store(self, None)
        clock, evacuated = Clock(), Evacuated()
        hosts = Hosts(store, clock)
        for name in ("a", "b", "c"):
            yield hosts.report("compute", name, "nova", 0.0, Capacity())
        clock.advance(1000.0)
        yield hosts.review()
        going = Fencing(store, hosts, evacuated, Switches(), NoFaults()).turn()
        for _ in range(200):
            yield store.beats()  # as often as the store's answers to it may take
        self.assertEqual(evacuated.hosts, ["c"])
        going.cancel()
        yield self.assertFailure(going, CancelledError, FirstError, ValueError)
