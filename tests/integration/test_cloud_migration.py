"""
Instances that are moved from one host to another.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.cloud.addresses import Named
from fabric.cloud.assembly import Rules
from fabric.cloud.launch import LaunchSpec
from fabric.cloud.orders import Orders
from fabric.cloud.volumes import VolumeSpec
from fabric.errors import InvalidValue, LimitExceeded, NotFound, WrongState
from fabric.model.address import Address
from fabric.model.instance import Instance
from fabric.settings import Fake
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, CloudUnderTest, make_cloud

Test = Generator[Deferred[Any], Any, None]
QUICK = Rules(ready_keys=0, resend_after=0.5)


class MigrationTests(TestCase):
    """
    One instance on host C{a}, and a host C{b}.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Test:
        """Launch it."""
        self.cloud: CloudUnderTest = yield make_cloud(self, ("a",), rules=QUICK)
        yield self.cloud.cloud.ranges.ensure("public", "203.0.113.0/28")
        self.migrations = self.cloud.cloud.migrations
        [self.made] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        yield self.cloud.until_state("running", self.made.id)

    @inlineCallbacks
    def second_host(self, options: Fake | None = None) -> Test:
        """Add host C{b}."""
        self.cloud.add_host("b", options or Fake(boot_seconds=0.0, stop_seconds=0.0))
        yield self.cloud.until(lambda: self.cloud.cloud.hosts.alive().addCallback(lambda alive: "b" in alive))

    @inlineCallbacks
    def settled(self) -> Generator[Deferred[Any], Any, Instance | None]:
        """The instance once it is not being moved."""
        [instance] = yield self.cloud.get(self.made.id)
        return None if instance.migration else instance

    @inlineCallbacks
    def has(self, host: str) -> Generator[Deferred[Any], Any, tuple[list[str], list[str]]]:
        """The machines and the ports' instances that a host has."""
        domains = yield self.cloud.hosts[host].hypervisor.domains()
        ports = yield self.cloud.hosts[host].network.ports()
        return [domain.id for domain in domains], [port.instance for port in ports]

    @inlineCallbacks
    def test_moves(self) -> Test:
        """It runs on the other host with its address, and the first has nothing of it; room adds up."""
        yield self.second_host()
        departure = yield self.migrations.migrate(OPERATOR, self.made.id)
        self.assertEqual(departure.destination, "b")
        instance = yield self.cloud.until(self.settled)
        self.assertEqual((instance.state, instance.host), ("running", "b"))
        self.assertEqual((yield self.has("a")), ([], []))
        self.assertEqual((yield self.has("b")), ([self.made.id], [self.made.id]))
        load = yield self.cloud.store.counters(["load:a:instances", "load:b:instances", "load:b:vcpus"])
        self.assertEqual(load, {"load:a:instances": 0, "load:b:instances": 1, "load:b:vcpus": 1})
        yield self.cloud.sound()

    @inlineCallbacks
    def test_address_follows(self) -> Test:
        """Its floating address leads to the new host, and to the old one no more."""
        address = yield self.cloud.cloud.addresses.allocate(CALLER)
        yield self.cloud.cloud.addresses.associate(CALLER, Named(allocation=address.id), self.made.id)
        yield self.second_host()
        yield self.migrations.migrate(OPERATOR, self.made.id)
        yield self.cloud.until(self.settled)

        @inlineCallbacks
        def followed() -> Generator[Deferred[Any], Any, bool]:
            [stored] = yield self.cloud.store.read(Address, [address.id])
            there = yield self.cloud.hosts["b"].network.floating()
            here = yield self.cloud.hosts["a"].network.floating()
            return bool(there) and not here and stored.record.settled

        yield self.cloud.until(followed)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_resized_meanwhile(self) -> Test:
        """One that is being moved gets no type for which there is no room where it goes."""
        yield self.second_host(Fake(vcpus=1, boot_seconds=0.0, stop_seconds=0.0))
        yield self.cloud.cloud.instances.stop(CALLER, [self.made.id])
        yield self.cloud.until_state("stopped", self.made.id)
        self.cloud.hosts["a"].hypervisor.rehearsal.tell("migrate slow 0.5")
        yield self.migrations.migrate(OPERATOR, self.made.id)
        resized = self.cloud.cloud.instances.modify(CALLER, self.made.id, flavor="m1.large")
        yield self.assertFailure(resized, InvalidValue)
        instance = yield self.cloud.until(self.settled)
        self.assertEqual((instance.host, instance.flavor.name), ("b", "m1.tiny"))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_driver_fails(self) -> Test:
        """A move that fails leaves it where it was, running, and nothing on the other host."""
        yield self.second_host()
        self.cloud.hosts["a"].hypervisor.rehearsal.tell("migrate fail")
        yield self.migrations.migrate(OPERATOR, self.made.id)
        instance = yield self.cloud.until(self.settled)
        self.assertEqual((instance.state, instance.host), ("running", "a"))
        self.assertEqual((yield self.has("b")), ([], []))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_answer_is_lost(self) -> Test:
        """A move of which the driver's answer is lost is found out to have happened."""
        yield self.second_host()
        self.cloud.hosts["a"].hypervisor.rehearsal.tell("migrate lose")
        yield self.migrations.migrate(OPERATOR, self.made.id)
        instance = yield self.cloud.until(self.settled)
        self.assertEqual((instance.state, instance.host), ("running", "b"))
        yield self.cloud.sound()

    @inlineCallbacks
    def ordered(self, destination: str) -> Generator[Deferred[Any], Any, dict[str, Any]]:
        """Have it moved, and be asked for once more later: the order."""
        yield self.migrations.migrate(OPERATOR, self.made.id, destination)
        [instance] = yield self.cloud.get(self.made.id)
        described = Orders(self.cloud.queue, self.cloud.cloud.networks).described
        machine = yield described(instance)
        return {"machine": machine, "destination": destination, "order": instance.migration.order}

    @inlineCallbacks
    def comes_late(self, order: dict[str, Any]) -> Test:
        """An order comes to host C{a} once more, also when that host's worker remembers nothing; nothing changes."""
        for _ in range(2):
            yield self.cloud.hosts["a"].services[1].worker.migrate([order])
            yield self.cloud.hosts["a"].services[1].worker.adopt()
            instance = yield self.cloud.until(self.settled)
            self.assertEqual((instance.state, instance.host), ("running", "a"))
            self.assertEqual((yield self.has("a")), ([self.made.id], [self.made.id]))
            self.assertEqual((yield self.has("b")), ([], []))
            yield self.cloud.hosts["a"].stop()
            self.cloud.add_host("a", directory=self.cloud.hosts["a"].directory)
            yield self.cloud.until(lambda: self.cloud.hosts["a"].services[1].worker._machines.get(self.made.id))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_comes_late(self) -> Test:
        """An order that comes once more when the machine was moved, and has come back, moves it no more."""
        yield self.second_host()
        order = yield self.ordered("b")
        yield self.cloud.until(self.settled)
        yield self.migrations.migrate(OPERATOR, self.made.id, "a")
        yield self.cloud.until(self.settled)
        yield self.comes_late(order)

    @inlineCallbacks
    def test_comes_late_that_failed(self) -> Test:
        """An order that comes once more when it was said that the machine was not moved does not move it."""
        yield self.second_host()
        self.cloud.hosts["b"].hypervisor.rehearsal.tell("receive fail")
        order = yield self.ordered("b")
        yield self.cloud.until(self.settled)
        yield self.comes_late(order)

    @inlineCallbacks
    def test_comes_late_and_crosses(self) -> Test:
        """An order that comes once more while the machine comes back undoes nothing that is ready for it."""
        yield self.second_host()
        order = yield self.ordered("b")
        yield self.cloud.until(self.settled)
        self.cloud.hosts["b"].hypervisor.rehearsal.tell("migrate slow 0.3")
        self.cloud.hosts["a"].hypervisor.rehearsal.tell("receive slow 0.01")
        yield self.migrations.migrate(OPERATOR, self.made.id, "a")
        yield self.cloud.until(lambda: self.has("a").addCallback(lambda has: has[1]))
        yield self.cloud.hosts["a"].services[1].worker.migrate([order])
        yield self.comes_late(order)

    @inlineCallbacks
    def test_not_kept(self) -> Test:
        """While a host can't keep that a machine is not to be moved, nobody is told so, and it is moved later."""
        yield self.second_host()
        for mishap in ("migrate fail", "number fail"):
            self.cloud.hosts["a"].hypervisor.rehearsal.tell(mishap)
        yield self.migrations.migrate(OPERATOR, self.made.id)
        instance = yield self.cloud.until(self.settled)
        self.assertEqual((instance.state, instance.host), ("running", "b"))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_terminated_meanwhile(self) -> Test:
        """One that its user ends while it is moved ends where it comes to, and leaves nothing."""
        yield self.second_host()
        self.cloud.hosts["a"].hypervisor.rehearsal.tell("migrate slow 0.3")
        yield self.migrations.migrate(OPERATOR, self.made.id)
        yield self.cloud.cloud.instances.terminate(CALLER, [self.made.id])
        yield self.cloud.until_state("terminated", self.made.id)
        self.assertEqual((yield self.has("a")), ([], []))
        self.assertEqual((yield self.has("b")), ([], []))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_refused(self) -> Test:
        """What can't be moved is refused with the reason, and nothing is changed."""
        yield self.assertFailure(self.migrations.migrate(OPERATOR, self.made.id), LimitExceeded)
        yield self.assertFailure(self.migrations.migrate(OPERATOR, self.made.id, "nowhere"), NotFound)
        yield self.assertFailure(self.migrations.migrate(OPERATOR, "i-0123456789abcdef0"), NotFound)
        yield self.second_host(Fake(vcpus=0))
        yield self.assertFailure(self.migrations.migrate(OPERATOR, self.made.id, "b"), LimitExceeded)
        yield self.cloud.cloud.instances.terminate(CALLER, [self.made.id])
        yield self.cloud.until_state("terminated", self.made.id)
        yield self.assertFailure(self.migrations.migrate(OPERATOR, self.made.id), WrongState)
        yield self.cloud.sound()

    @inlineCallbacks
    def stopped(self) -> Test:
        """The instance is stopped, and there is a second host."""
        yield self.cloud.cloud.instances.stop(CALLER, [self.made.id])
        yield self.cloud.until_state("stopped", self.made.id)
        yield self.second_host()

    @inlineCallbacks
    def test_stopped_moves(self) -> Test:
        """One that is stopped is moved, stays stopped, and is started where it came to."""
        yield self.stopped()
        yield self.migrations.migrate(OPERATOR, self.made.id)
        instance = yield self.cloud.until(self.settled)
        self.assertEqual((instance.state, instance.host), ("stopped", "b"))
        self.assertEqual((yield self.has("a")), ([], []))
        [domain] = yield self.cloud.hosts["b"].hypervisor.domains()
        self.assertEqual((domain.id, domain.state), (self.made.id, "stopped"))
        yield self.cloud.cloud.instances.start(CALLER, [self.made.id])
        yield self.cloud.until_state("running", self.made.id)
        self.assertEqual((yield self.has("a")), ([], []))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_started_meanwhile(self) -> Test:
        """One that its user starts while it is moved runs where it comes to, and nowhere else."""
        yield self.stopped()
        self.cloud.hosts["a"].hypervisor.rehearsal.tell("migrate slow 0.3")
        yield self.migrations.migrate(OPERATOR, self.made.id)
        yield self.cloud.cloud.instances.start(CALLER, [self.made.id])
        [instance] = yield self.cloud.until_state("running", self.made.id)
        self.assertEqual(instance.host, "b")
        self.assertEqual((yield self.has("a")), ([], []))
        self.assertEqual((yield self.has("b")), ([self.made.id], [self.made.id]))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_rebooted_meanwhile(self) -> Test:
        """One that its user reboots while it is moved is rebooted where it comes to, and runs nowhere else."""
        yield self.second_host()
        self.cloud.hosts["a"].hypervisor.rehearsal.tell("migrate slow 0.3")
        yield self.migrations.migrate(OPERATOR, self.made.id)
        yield self.cloud.cloud.instances.reboot(CALLER, [self.made.id])
        instance = yield self.cloud.until(self.settled)

        @inlineCallbacks
        def rebooted() -> Generator[Deferred[Any], Any, bool]:
            domains = yield self.cloud.hosts["b"].hypervisor.domains()
            return [domain.order for domain in domains] == [instance.order]

        yield self.cloud.until(rebooted)
        self.assertEqual((yield self.has("a")), ([], []))

    @inlineCallbacks
    def test_stopped_driver_fails(self) -> Test:
        """A move of a stopped one that fails leaves it where it was, and its operator is told why."""
        yield self.stopped()
        self.cloud.hosts["a"].hypervisor.rehearsal.tell("migrate fail")
        yield self.migrations.migrate(OPERATOR, self.made.id)
        instance = yield self.cloud.until(self.settled)
        self.assertEqual((instance.state, instance.host), ("stopped", "a"))
        self.assertEqual((yield self.has("b")), ([], []))
        self.assertEqual(list((yield self.cloud.cloud.hosts.explain(self.made.id))), ["b"])
        yield self.cloud.sound()

    @inlineCallbacks
    def test_stopped_answer_is_lost(self) -> Test:
        """A move of a stopped one of which the driver's answer is lost is found out to have happened."""
        yield self.stopped()
        self.cloud.hosts["a"].hypervisor.rehearsal.tell("migrate lose")
        yield self.migrations.migrate(OPERATOR, self.made.id)
        instance = yield self.cloud.until(self.settled)
        self.assertEqual((instance.state, instance.host), ("stopped", "b"))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_stopped_host_ends(self) -> Test:
        """A host whose services end while it moves a stopped one finds out where it is when they begin anew."""
        yield self.stopped()
        host = self.cloud.hosts["a"]
        host.hypervisor.rehearsal.tell("migrate slow 0.2")
        yield self.migrations.migrate(OPERATOR, self.made.id)
        yield host.stop()
        self.cloud.add_host("a", Fake(boot_seconds=0.0, stop_seconds=0.0), host.directory)
        instance = yield self.cloud.until(self.settled)
        self.assertEqual((instance.state, instance.host), ("stopped", "b"))
        self.assertEqual((yield self.has("a")), ([], []))
        self.assertEqual((yield self.has("b")), ([self.made.id], [self.made.id]))
        yield self.cloud.sound()

    @inlineCallbacks
    def with_volume(self) -> Generator[Deferred[Any], Any, str]:
        """The instance has a volume, and is stopped."""
        volume = yield self.cloud.cloud.volumes.create(CALLER, VolumeSpec(size_gb=1, zone="nova"))
        attach = self.cloud.cloud.volumes.attach
        yield self.cloud.until(lambda: attach(CALLER, volume.id, self.made.id, "/dev/sdf").addErrback(lambda _: None))
        yield self.cloud.until(
            lambda: self.cloud.get(self.made.id).addCallback(lambda found: found[0].disks[0].state == "attached")
        )
        yield self.stopped()
        return volume.id

    @inlineCallbacks
    def test_stopped_with_volume(self) -> Test:
        """A stopped one's volume follows it: it has it when it is started, and its old host may not use it."""
        volume = yield self.with_volume()
        yield self.migrations.migrate(OPERATOR, self.made.id)
        yield self.cloud.until(self.settled)
        yield self.cloud.cloud.instances.start(CALLER, [self.made.id])
        yield self.cloud.until_state("running", self.made.id)
        [domain] = yield self.cloud.hosts["b"].hypervisor.domains()
        self.assertEqual(domain.disks, {"/dev/sdf": volume})
        holdings = yield self.cloud.hosts["a"].volumes.describe()
        self.assertEqual([held.exported_to for held in holdings.volumes], ["b"])
        yield self.cloud.sound()

    @inlineCallbacks
    def test_volume_stays(self) -> Test:
        """One whose volume can't be had on the other host stays, and its operator is told why."""
        yield self.with_volume()
        self.cloud.hosts["a"].volumes.rehearsal.tell("export fail")
        yield self.migrations.migrate(OPERATOR, self.made.id)
        instance = yield self.cloud.until(self.settled)
        self.assertEqual((instance.state, instance.host), ("stopped", "a"))
        self.assertIn("export", (yield self.cloud.cloud.hosts.explain(self.made.id))["b"])
        yield self.cloud.cloud.instances.start(CALLER, [self.made.id])
        yield self.cloud.until_state("running", self.made.id)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_evacuate(self) -> Test:
        """A host is emptied, takes nothing new, and says what stays and why."""
        [other] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        yield self.cloud.until_state("running", other.id)
        self.cloud.hosts["a"].hypervisor.rehearsal.tell("shut_down slow 2")
        yield self.cloud.cloud.instances.stop(CALLER, [other.id])
        yield self.second_host()
        departures = yield self.migrations.evacuate(OPERATOR, "a")
        found = {each.instance: (each.destination, each.why) for each in departures}
        self.assertEqual(found, {self.made.id: ("b", ""), other.id: ("", "it is stopping")})
        yield self.cloud.until_state("stopped", other.id)
        instance = yield self.cloud.until(self.settled)
        self.assertEqual(instance.host, "b")
        views = yield self.cloud.cloud.hosts.views()
        self.assertEqual({view.name: view.disabled for view in views}, {"a": True, "b": False})

    @inlineCallbacks
    def test_with_volume(self) -> Test:
        """One that has a volume is not moved, and gets none while it is moved."""
        yield self.second_host()
        volume = yield self.cloud.cloud.volumes.create(CALLER, VolumeSpec(size_gb=1, zone="nova"))
        self.cloud.hosts["a"].hypervisor.rehearsal.tell("migrate slow 0.5")
        yield self.migrations.migrate(OPERATOR, self.made.id)
        attach = self.cloud.cloud.volumes.attach
        yield self.assertFailure(attach(CALLER, volume.id, self.made.id, "/dev/sdf"), WrongState)
        yield self.cloud.until(self.settled)
        yield self.cloud.until(lambda: attach(CALLER, volume.id, self.made.id, "/dev/sdf").addErrback(lambda _: None))
        yield self.assertFailure(self.migrations.migrate(OPERATOR, self.made.id), WrongState)
