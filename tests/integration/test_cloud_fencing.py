"""
Hosts that die: what is shown of their instances, and how these are started elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from fabric.cloud.addresses import Named
from fabric.cloud.assembly import Rules
from fabric.cloud.fencing import IFence, NoFence
from fabric.cloud.images import ImageSpec
from fabric.cloud.launch import LaunchSpec
from fabric.cloud.volumes import VolumeSpec
from fabric.command import Commands
from fabric.errors import DriverFailure
from fabric.model.address import Address
from fabric.model.image import ImageDisk
from fabric.model.instance import Instance, Migration
from fabric.model.snapshot import Snapshot
from fabric.model.volume import Volume
from fabric.tap.fence import CommandFence
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, CloudUnderTest, make_cloud

Test = Generator[Deferred[Any], Any, None]
QUICK = Rules(down_after=2.0, ready_keys=0, resend_after=0.5)


@implementer(IFence)
class Switch:
    """A fence that a test turns: C{dead} are the hosts whose power it says is off."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.asked: list[str] = []

    @inlineCallbacks
    def fence(self, host: str) -> Generator[Deferred[Any], Any, bool]:
        """See L{IFence.fence}."""
        yield from ()
        self.asked.append(host)
        if host not in self.dead:
            raise DriverFailure("no answer from its power switch")
        return True


class FencingTests(TestCase):
    """
    Two hosts, one of which goes silent.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Test:
        """A cloud with one instance, which has an address and a volume, on a host that was then cut off."""
        self.switch = Switch()
        self.cloud: CloudUnderTest = yield make_cloud(self, ("a",), rules=QUICK, fence=self.switch, report_interval=0.2)
        yield self.cloud.cloud.ranges.ensure("public", "203.0.113.0/28")
        [self.made] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        [running] = yield self.cloud.until_state("running", self.made.id)
        self.fixed = running.ports[0].address
        self.cloud.add_host("b")
        yield self.cloud.until(self.both_report)
        self.address = yield self.cloud.cloud.addresses.allocate(CALLER)
        yield self.cloud.cloud.addresses.associate(CALLER, Named(allocation=self.address.id), self.made.id)

    @inlineCallbacks
    def both_report(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether both hosts are there."""
        alive = yield self.cloud.cloud.hosts.alive()
        return {"a", "b"} <= alive

    @inlineCallbacks
    def cut_off(self) -> Test:
        """End host C{a}, and wait until it counts as silent."""
        yield self.cloud.hosts["a"].stop()
        yield self.cloud.until(self.is_silent)

    @inlineCallbacks
    def is_silent(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether host C{a} is known to be silent."""
        silent = yield self.cloud.cloud.hosts.silent()
        return "a" in silent

    @inlineCallbacks
    def moved(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether the instance is on host C{b}."""
        [instance] = yield self.cloud.get(self.made.id)
        return instance.host == "b"

    @inlineCallbacks
    def placed_nowhere(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether the instance is on no host."""
        [instance] = yield self.cloud.get(self.made.id)
        return not instance.host

    @inlineCallbacks
    def leads_to_b(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether host C{b} has the floating address, and state knows."""
        floating = yield self.cloud.hosts["b"].network.floating()
        [stored] = yield self.cloud.store.read(Address, [self.address.id])
        return [each.public for each in floating] == [self.address.public_ip] and stored.record.settled

    @inlineCallbacks
    def has_nothing(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether host C{a} has no machine and no floating address."""
        host = self.cloud.hosts["a"]
        return not (yield host.hypervisor.domains()) and not (yield host.network.floating())

    @inlineCallbacks
    def volume_is(self, id: str, state: str) -> Generator[Deferred[Any], Any, Volume | None]:
        """The volume, once it is in a state."""
        [stored] = yield self.cloud.store.read(Volume, [id])
        return stored.record if stored.record.state == state else None

    @inlineCallbacks
    def attached(self, id: str) -> Generator[Deferred[Any], Any, bool]:
        """Whether a volume is on the instance, as its host said."""
        volume = yield self.volume_is(id, "in-use")
        return volume is not None and volume.attachment.state == "attached"

    @inlineCallbacks
    def test_waits_for_fence(self) -> Test:
        """What a silent host had stays its own while nobody knows whether it is dead."""
        yield self.cut_off()
        yield self.cloud.until(lambda: len(self.switch.asked) >= 2)
        [instance] = yield self.cloud.get(self.made.id)
        self.assertEqual((instance.state, instance.host), ("running", "a"))
        self.assertEqual((yield self.cloud.hosts["b"].hypervisor.domains()), [])

    @inlineCallbacks
    def test_restarted_elsewhere(self) -> Test:
        """An instance of a fenced host runs on another, with its address, and its floating address leads there."""
        self.switch.dead.add("a")
        yield self.cut_off()
        yield self.cloud.until(self.moved)
        [instance] = yield self.cloud.until_state("running", self.made.id)
        [port] = instance.ports
        self.assertEqual((port.address, port.public.address), (self.fixed, self.address.public_ip))
        yield self.cloud.until(self.leads_to_b)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_back_again(self) -> Test:
        """A fenced host that is back loses what runs elsewhere now, and may be used again."""
        self.switch.dead.add("a")
        yield self.cut_off()
        yield self.cloud.until(self.moved)
        directory = self.cloud.hosts["a"].directory
        self.cloud.add_host("a", directory=directory)
        yield self.cloud.until(self.both_report)
        yield self.cloud.until(self.has_nothing)
        [service] = [each for each in (yield self.cloud.cloud.hosts.records()) if each.id == "compute.a"]
        self.assertFalse(service.fenced)
        [instance] = yield self.cloud.until_state("running", self.made.id)
        self.assertEqual(instance.host, "b")
        yield self.cloud.sound()

    @inlineCallbacks
    def test_stopped_starts_elsewhere(self) -> Test:
        """An instance that was stopped on a host that died is placed anew when it is started."""
        yield self.cloud.cloud.instances.stop(CALLER, [self.made.id])
        yield self.cloud.until_state("stopped", self.made.id)
        self.switch.dead.add("a")
        yield self.cut_off()
        yield self.cloud.until(self.placed_nowhere)
        yield self.cloud.cloud.instances.start(CALLER, [self.made.id])
        [instance] = yield self.cloud.until_state("running", self.made.id)
        self.assertEqual(instance.host, "b")
        yield self.cloud.sound()

    @inlineCallbacks
    def test_address_of_one_that_is_nowhere(self) -> Test:
        """An address given to an instance that no host has is led nowhere till that runs, and is not lost."""
        yield self.cloud.cloud.instances.stop(CALLER, [self.made.id])
        yield self.cloud.until_state("stopped", self.made.id)
        self.switch.dead.add("a")
        yield self.cut_off()
        yield self.cloud.until(self.placed_nowhere)
        addresses = self.cloud.cloud.addresses
        yield addresses.release(CALLER, (yield self.parted()))
        self.address = yield addresses.allocate(CALLER)
        named = Named(allocation=self.address.id)
        yield addresses.associate(CALLER, named, self.made.id)
        [stored] = yield self.cloud.store.read(Address, [self.address.id])
        self.assertTrue(stored.record.settled)
        yield self.cloud.cloud.instances.start(CALLER, [self.made.id])
        yield self.cloud.until_state("running", self.made.id)
        yield self.cloud.until(self.leads_to_b)
        yield addresses.disassociate(CALLER, named)
        yield addresses.release(CALLER, named)
        yield self.cloud.until(self.is_free)
        yield self.cloud.sound()

    @inlineCallbacks
    def parted(self) -> Generator[Deferred[Any], Any, Named]:
        """The address's name, when it leads nowhere."""
        named = Named(allocation=self.address.id)
        yield self.cloud.cloud.addresses.disassociate(CALLER, named)
        return named

    @inlineCallbacks
    def is_free(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether nothing is left of the address's record."""
        [stored] = yield self.cloud.store.read(Address, [self.address.id])
        return stored is None

    @inlineCallbacks
    def crossed(self) -> Generator[Deferred[Any], Any, Migration]:
        """It was moved from host C{a} to C{b}, and nobody has said so yet; there is a host C{c}."""
        self.cloud.add_host("c")
        yield self.cloud.until(lambda: self.cloud.cloud.hosts.alive().addCallback(lambda alive: "c" in alive))
        [stored] = yield self.cloud.store.read(Instance, [self.made.id])
        going = Migration("b", stored.record.order + 1, self.cloud.reactor.seconds())
        leaving = self.cloud.store.transaction("test")
        review_at = self.cloud.reactor.seconds() + 2.0
        leaving.update(stored, attrs.evolve(stored.record, order=going.order, migration=going, review_at=review_at))
        yield self.cloud.store.commit(leaving)
        connection = yield self.cloud.hosts["b"].hypervisor.receive(stored.record)
        yield self.cloud.hosts["a"].hypervisor.migrate(self.made.id, connection, going.order)
        self.assertEqual(len((yield self.cloud.hosts["b"].hypervisor.domains())), 1)
        return going

    @inlineCallbacks
    def runs_on(self, host: str) -> Generator[Deferred[Any], Any, bool]:
        """Whether it runs on a host, and on no other that is not dead, and is not being moved."""
        [instance] = yield self.cloud.get(self.made.id)
        found = set()
        for name in set(self.cloud.hosts) - self.switch.dead:
            domains = yield self.cloud.hosts[name].hypervisor.domains()
            found |= {(name, domain.state) for domain in domains}
        settled = (instance.host, instance.state, instance.migration) == (host, "running", None)
        return settled and found == {(host, "running")}

    @inlineCallbacks
    def test_died_when_it_had_moved(self) -> Test:
        """One that its host had just moved away, and died before it said so, runs on where it came to."""
        going = yield self.crossed()
        yield self.cloud.cloud.hosts.set_disabled(OPERATOR, "b", "compute", True)
        self.switch.dead.add("a")
        yield self.cut_off()
        yield self.cloud.until(lambda: self.runs_on("b"))
        [domain] = yield self.cloud.hosts["b"].hypervisor.domains()
        self.assertEqual(domain.order, going.order)
        yield self.cloud.until(self.leads_to_b)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_died_before_it_moved(self) -> Test:
        """One that had not left its host when that died runs elsewhere, and nothing is left where it was to go."""
        going = yield self.crossed()
        connection = yield self.cloud.hosts["a"].hypervisor.receive(self.made)
        yield self.cloud.hosts["b"].hypervisor.migrate(self.made.id, connection, going.order - 1)
        yield self.cloud.cloud.hosts.set_disabled(OPERATOR, "b", "compute", True)
        self.switch.dead.add("a")
        yield self.cut_off()
        yield self.cloud.until(lambda: self.runs_on("c"))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_died_where_it_came_to(self) -> Test:
        """One whose new host died before anybody heard that it was there is started elsewhere."""
        yield self.crossed()
        yield self.cloud.cloud.hosts.set_disabled(OPERATOR, "c", "compute", True)
        self.switch.dead.add("b")
        yield self.cloud.hosts["b"].stop()
        yield self.cloud.until(lambda: self.runs_on("a"))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_both_died(self) -> Test:
        """One that was on its way from one host that died to another that did is started on a third."""
        yield self.crossed()
        self.switch.dead |= {"a", "b"}
        yield self.cloud.hosts["b"].stop()
        yield self.cut_off()
        yield self.cloud.until(lambda: self.runs_on("c"))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_nobody_knows(self) -> Test:
        """One that may run on a host which does not answer is not started elsewhere; when that is back, it is there."""
        yield self.crossed()
        yield self.cloud.hosts["b"].stop()
        self.switch.dead.add("a")
        yield self.cut_off()
        yield self.cloud.until(lambda: self.switch.asked.count("b") > 2)
        [instance] = yield self.cloud.get(self.made.id)
        self.assertEqual((instance.host, instance.migration.destination), ("a", "b"))
        self.assertEqual((yield self.cloud.hosts["c"].hypervisor.domains()), [])
        self.cloud.add_host("b", directory=self.cloud.hosts["b"].directory)
        yield self.cloud.until(lambda: self.runs_on("b"))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_volume_of_one_that_is_nowhere(self) -> Test:
        """A volume that was being attached when the host of an instance on its way down died can be used again."""
        yield self.cloud.cloud.hosts.set_disabled(OPERATOR, "a", "volume", True)
        volume = yield self.cloud.cloud.volumes.create(CALLER, VolumeSpec(size_gb=1, zone="nova"))
        yield self.cloud.until(lambda: self.volume_is(volume.id, "available"))
        yield self.cloud.hosts["a"].stop()
        yield self.cloud.cloud.volumes.attach(CALLER, volume.id, self.made.id, "/dev/sdf")
        yield self.cloud.cloud.instances.stop(CALLER, [self.made.id])
        self.switch.dead.add("a")
        yield self.cloud.until(self.placed_nowhere)
        yield self.cloud.until(lambda: self.attached(volume.id))
        yield self.cloud.cloud.volumes.detach(CALLER, volume.id)
        yield self.cloud.until(lambda: self.volume_is(volume.id, "available"))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_one_service_is_not_the_host(self) -> Test:
        """A host of which another service still reports is not fenced."""
        self.switch.dead.add("a")
        _, compute, _ = self.cloud.hosts["a"].services
        yield compute.stopService()
        yield self.cloud.until(self.is_silent)
        yield self.cloud.assembly.fencing.turn()
        self.assertEqual(self.switch.asked, [])

    @inlineCallbacks
    def test_volume_follows(self) -> Test:
        """A volume of another host is on the instance again when that runs elsewhere."""
        yield self.cloud.cloud.hosts.set_disabled(OPERATOR, "a", "volume", True)
        volume = yield self.cloud.cloud.volumes.create(CALLER, VolumeSpec(size_gb=1, zone="nova"))
        yield self.cloud.until(lambda: self.volume_is(volume.id, "available"))
        yield self.cloud.cloud.volumes.attach(CALLER, volume.id, self.made.id, "/dev/sdf")
        yield self.cloud.until(lambda: self.attached(volume.id))
        self.switch.dead.add("a")
        yield self.cut_off()
        yield self.cloud.until(self.moved)
        yield self.cloud.until_state("running", self.made.id)
        [domain] = yield self.cloud.hosts["b"].hypervisor.domains()
        self.assertEqual(domain.disks, {"/dev/sdf": volume.id})
        yield self.cloud.sound()

    @inlineCallbacks
    def test_root_volume_follows(self) -> Test:
        """An instance that boots from a volume of another host runs elsewhere from that, nothing being lost."""
        only_b = self.cloud.cloud.hosts.set_disabled
        yield only_b(OPERATOR, "a", "volume", True)
        volume = yield self.cloud.cloud.volumes.create(CALLER, VolumeSpec(size_gb=1, zone="nova"))
        yield self.cloud.until(lambda: self.volume_is(volume.id, "available"))
        snapshot = yield self.cloud.cloud.snapshots.create(CALLER, volume.id)
        yield self.cloud.until(lambda: self.complete(snapshot.id))
        root = ImageDisk("/dev/sda1", snapshot.id, 1, delete_on_termination=True)
        image = yield self.cloud.cloud.images.register(
            CALLER, ImageSpec("rooted", disks=(root,), root_device="/dev/sda1")
        )
        yield only_b(OPERATOR, "b", "compute", True)
        [made] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(image.id, "m1.tiny"))
        [running] = yield self.cloud.until_state("running", made.id)
        self.assertEqual(running.host, "a")
        yield only_b(OPERATOR, "b", "compute", False)
        self.switch.dead.add("a")
        yield self.cut_off()

        @inlineCallbacks
        def there() -> Generator[Deferred[Any], Any, bool]:
            [instance] = yield self.cloud.get(made.id)
            return (instance.host, instance.state) == ("b", "running")

        yield self.cloud.until(there)
        domains = yield self.cloud.hosts["b"].hypervisor.domains()
        [disks] = [domain.disks for domain in domains if domain.id == made.id]
        self.assertEqual(disks, {"/dev/sda1": running.root.volume})
        yield self.cloud.sound()

    @inlineCallbacks
    def complete(self, id: str) -> Generator[Deferred[Any], Any, bool]:
        """Whether a snapshot is complete."""
        [stored] = yield self.cloud.store.read(Snapshot, [id])
        return stored.record.state == "completed"


class CommandTests(TestCase):
    """
    An operator's command.
    """

    def fence(self, script: str, seconds: float = 30.0) -> Deferred[bool]:
        """Run a line of Python as the command."""
        from twisted.internet import reactor

        fence = CommandFence(Commands(reactor, seconds), (sys.executable, "-c", script))
        verifyObject(IFence, fence)
        return fence.fence("node1")

    @inlineCallbacks
    def test_dead(self) -> Test:
        """Status 0 says that the host, which is the last argument, is dead."""
        dead = yield self.fence("import sys; sys.exit(sys.argv[-1] != 'node1')")
        self.assertTrue(dead)

    @inlineCallbacks
    def test_fails(self) -> Test:
        """Any other status is a failure, with what the command said."""
        error = yield self.assertFailure(self.fence("raise SystemExit('no such switch')"), DriverFailure)
        self.assertIn("no such switch", str(error))

    def test_too_slow(self) -> Deferred[Any]:
        """What takes too long is killed, and a failure."""
        return self.assertFailure(self.fence("import time; time.sleep(600)", 0.2), DriverFailure)

    def test_missing(self) -> Deferred[Any]:
        """A command that is not there is a failure."""
        from twisted.internet import reactor

        return self.assertFailure(CommandFence(Commands(reactor), ("/no/such/fence",)).fence("a"), DriverFailure)

    @inlineCallbacks
    def test_none(self) -> Test:
        """Without a command nobody can tell."""
        self.assertFalse((yield NoFence().fence("a")))
