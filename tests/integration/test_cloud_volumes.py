"""
Volumes and snapshots, from the verbs to the hosts and back, over a whole cloud
in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, fail, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from fabric.cloud.assembly import QUOTAS, Rules
from fabric.cloud.launch import LaunchSpec
from fabric.cloud.volumes import VolumeSpec
from fabric.errors import (
    DeadlineExceeded,
    IdempotencyMismatch,
    InUse,
    InvalidValue,
    NoCapacity,
    NotFound,
    QuotaExceeded,
    WrongState,
)
from fabric.faults import IFaults
from fabric.model.instance import Instance
from fabric.model.record import ALL
from fabric.model.snapshot import Snapshot
from fabric.model.volume import NewDisk, Volume
from fabric.store.interface import Query
from fabric.testing.cloud import CALLER, QUICK, SAMPLE, STRANGER, CloudUnderTest, make_cloud

Test = Generator[Deferred[Any], Any, None]

SMALL = attrs.evolve(QUICK, disk_gb=10)
IMPATIENT = Rules(ready_keys=0, resend_after=0.3)


class VolumeCase(TestCase):
    """
    What the tests here do again and again.
    """

    cloud: CloudUnderTest

    @inlineCallbacks
    def begin(self, **options: Any) -> Test:
        """Make the cloud."""
        options.setdefault("rules", IMPATIENT)
        self.cloud = yield make_cloud(self, **options)
        self.volumes = self.cloud.cloud.volumes
        self.snapshots = self.cloud.cloud.snapshots

    @inlineCallbacks
    def volume(self, size: int = 1, **spec: Any) -> Generator[Any, Any, Volume]:
        """A volume that is available."""
        made = yield self.volumes.create(CALLER, VolumeSpec("nova", size, **spec))
        return (yield self.until_volume(made.id, "available"))  # type: ignore[no-any-return]

    @inlineCallbacks
    def machine(self, host: str = "") -> Generator[Any, Any, Instance]:
        """An instance that runs."""
        [made] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        [running] = yield self.cloud.until_state("running", made.id)
        return running  # type: ignore[no-any-return]

    @inlineCallbacks
    def until_volume(self, id: str, state: str, attachment: str | None = None) -> Generator[Any, Any, Volume]:
        """Wait for a volume's state, and its attachment's."""

        @inlineCallbacks
        def there() -> Generator[Any, Any, Any]:
            [stored] = yield self.cloud.store.read(Volume, [id])
            if stored is None or stored.record.state != state:
                return None
            found = stored.record.attachment
            return stored.record if attachment is None or (found and found.state == attachment) else None

        return (yield self.cloud.until(there))  # type: ignore[no-any-return]

    @inlineCallbacks
    def until_gone(self, id: str, cls: Any = Volume) -> Test:
        """Wait until state has forgotten it."""

        @inlineCallbacks
        def gone() -> Generator[Any, Any, bool]:
            [stored] = yield self.cloud.store.read(cls, [id])
            return stored is None

        yield self.cloud.until(gone)

    @inlineCallbacks
    def until_snapshot(self, id: str, state: str = "completed") -> Generator[Any, Any, Snapshot]:
        """Wait for a snapshot's state."""

        @inlineCallbacks
        def there() -> Generator[Any, Any, Any]:
            [stored] = yield self.cloud.store.read(Snapshot, [id])
            return stored is not None and stored.record.state == state and stored.record

        return (yield self.cloud.until(there))  # type: ignore[no-any-return]

    @inlineCallbacks
    def seen(self, instance: Instance) -> Generator[Any, Any, dict[str, str]]:
        """What an instance's host says that it has, by device."""
        domains = yield self.cloud.hosts[instance.host].hypervisor.domains()
        return next((domain.disks for domain in domains if domain.id == instance.id), {})

    @inlineCallbacks
    def exports(self, host: str = "node1") -> Generator[Any, Any, dict[str, str]]:
        """Which compute host may use each volume of a volume host."""
        holdings = yield self.cloud.hosts[host].volumes.describe()
        return {held.id: held.exported_to for held in holdings.volumes}


class LifeTests(VolumeCase):
    """
    Making, growing, deleting.
    """

    @inlineCallbacks
    def test_create_and_delete(self) -> Test:
        """A volume is made on a host with room, and its deletion gives everything back."""
        yield self.begin()
        made = yield self.volumes.create(CALLER, VolumeSpec("nova", 3, tags={"a": "b"}))
        self.assertEqual((made.state, made.size_gb), ("creating", 3))
        volume = yield self.until_volume(made.id, "available")
        self.assertEqual((volume.host, volume.tags), ("node1", {"a": "b"}))
        self.assertEqual((yield self.exports()), {volume.id: ""})
        usage = yield self.cloud.cloud.quotas.usage(CALLER.project)
        self.assertEqual((usage["volumes"], usage["gigabytes"]), (1, 3))
        yield self.volumes.delete(CALLER, volume.id)
        yield self.until_gone(volume.id)
        self.assertEqual((yield self.exports()), {})
        usage = yield self.cloud.cloud.quotas.usage(CALLER.project)
        self.assertEqual((usage["volumes"], usage["gigabytes"]), (0, 0))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_spread(self) -> Test:
        """Volumes go to the host with the most room; none is promised more than it has."""
        yield self.begin(hosts=("node1", "node2"), options=SMALL)
        made = yield gatherResults([self.volumes.create(CALLER, VolumeSpec("nova", 4)) for _ in range(6)])
        states = []
        for each in made:

            @inlineCallbacks
            def settled(id: str = each.id) -> Generator[Any, Any, Any]:
                [volume] = yield self.volumes.get(CALLER, [id])
                return volume.state != "creating" and volume

            states.append((yield self.cloud.until(settled)))
        self.assertEqual(sorted(each.host for each in states), ["", "", "node1", "node1", "node2", "node2"])
        refused = next(each for each in states if not each.host)
        self.assertEqual(refused.state, "error")
        self.assertEqual(set(refused.refusals), {"node1", "node2"})
        yield self.cloud.sound()
        yield self.volumes.delete(CALLER, refused.id)
        yield self.until_gone(refused.id)

    @inlineCallbacks
    def test_refusals(self) -> Test:
        """Zone, size, type and quota are checked before anything is written."""
        yield self.begin(rules=Rules(quotas=QUOTAS | {"volumes": 1, "gigabytes": 5}, ready_keys=0))
        create = self.volumes.create
        yield self.assertFailure(create(CALLER, VolumeSpec("mars", 1)), NotFound)
        yield self.assertFailure(create(CALLER, VolumeSpec("nova", 0)), InvalidValue)
        yield self.assertFailure(create(CALLER, VolumeSpec("nova", 1, volume_type="io2")), InvalidValue)
        yield self.assertFailure(create(CALLER, VolumeSpec("nova", 1, snapshot="snap-00000000")), NotFound)
        yield self.assertFailure(create(CALLER, VolumeSpec("nova", 6)), QuotaExceeded)
        volume = yield self.volume(5)
        yield self.assertFailure(create(CALLER, VolumeSpec("nova", 1)), QuotaExceeded)
        yield self.assertFailure(self.volumes.get(STRANGER, [volume.id]), NotFound)
        yield self.assertFailure(self.volumes.delete(STRANGER, volume.id), NotFound)

    @inlineCallbacks
    def test_client_token(self) -> Test:
        """Many requests with one token make one volume."""
        yield self.begin()
        spec = VolumeSpec("nova", 1, client_token="t", digest_of="same")
        made = yield gatherResults([self.volumes.create(CALLER, spec) for _ in range(10)])
        self.assertEqual(len({each.id for each in made}), 1)
        other = attrs.evolve(spec, digest_of="other")
        yield self.assertFailure(self.volumes.create(CALLER, other), IdempotencyMismatch)

    @inlineCallbacks
    def test_grow(self) -> Test:
        """A volume grows on its host, within quota and room; it does not shrink."""
        yield self.begin(options=SMALL, rules=attrs.evolve(IMPATIENT, quotas=QUOTAS | {"gigabytes": 12}))
        volume = yield self.volume(2)
        yield self.assertFailure(self.volumes.grow(CALLER, volume.id, 1), InvalidValue)
        yield self.assertFailure(self.volumes.grow(CALLER, volume.id, 13), QuotaExceeded)
        yield self.assertFailure(self.volumes.grow(CALLER, volume.id, 11), NoCapacity)
        growing = yield self.volumes.grow(CALLER, volume.id, 5)
        self.assertEqual(growing.modification.state, "modifying")

        @inlineCallbacks
        def grown() -> Generator[Any, Any, Any]:
            [found] = yield self.volumes.get(CALLER, [volume.id])
            return found.modification.state == "completed" and found

        found = yield self.cloud.until(grown)
        self.assertEqual(found.size_gb, 5)
        [held] = (yield self.cloud.hosts["node1"].volumes.describe()).volumes
        self.assertEqual(held.size_gb, 5)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_growth_fails(self) -> Test:
        """A growth that its host can't do is said to have failed, and gives its room back."""
        yield self.begin()
        volume = yield self.volume(2)
        self.cloud.hosts["node1"].volumes.rehearsal.tell("grow fail always")
        yield self.volumes.grow(CALLER, volume.id, 5)

        @inlineCallbacks
        def failed() -> Generator[Any, Any, Any]:
            [found] = yield self.volumes.get(CALLER, [volume.id])
            return found.modification.state == "failed" and found

        found = yield self.cloud.until(failed)
        self.assertEqual((found.size_gb, found.state), (2, "available"))
        usage = yield self.cloud.cloud.quotas.usage(CALLER.project)
        self.assertEqual(usage["gigabytes"], 2)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_creation_fails(self) -> Test:
        """A volume that its host can't make is in error, with the reason, and can be deleted."""
        yield self.begin()
        self.cloud.hosts["node1"].volumes.rehearsal.tell("create fail always")
        made = yield self.volumes.create(CALLER, VolumeSpec("nova", 1))
        volume = yield self.until_volume(made.id, "error")
        self.assertIn("told to fail", volume.reason)
        self.cloud.hosts["node1"].volumes.rehearsal.forget()
        yield self.volumes.delete(CALLER, volume.id)
        yield self.until_gone(volume.id)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_host_away(self) -> Test:
        """What is deleted while its host is away stays deleting, and goes when the host is back."""
        yield self.begin()
        volume = yield self.volume()
        host = self.cloud.hosts["node1"]
        yield host.stop()
        yield self.volumes.delete(CALLER, volume.id)
        yield self.volumes.delete(CALLER, volume.id)
        [found] = yield self.volumes.get(CALLER, [volume.id])
        self.assertEqual(found.state, "deleting")
        self.cloud.add_host("node1", QUICK, host.directory)
        yield self.until_gone(volume.id)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_host_dies_while_making(self) -> Test:
        """A volume whose host ends in the middle is made when the host is back."""
        yield self.begin()
        host = self.cloud.hosts["node1"]
        host.volumes.rehearsal.tell("create hang")
        made = yield self.volumes.create(CALLER, VolumeSpec("nova", 1))
        host.services[2]._grace = 0.1
        yield host.stop()
        self.cloud.add_host("node1", QUICK, host.directory)
        yield self.until_volume(made.id, "available")
        yield self.cloud.sound()


class AttachTests(VolumeCase):
    """
    On one instance at a time.
    """

    @inlineCallbacks
    def test_attach_and_detach(self) -> Test:
        """An attached volume is seen by the machine, and by no other host; then it is free again."""
        yield self.begin()
        volume, machine = (yield self.volume()), (yield self.machine())
        given = yield self.volumes.attach(CALLER, volume.id, machine.id, "/dev/sdf")
        self.assertEqual((given.state, given.attachment.state), ("in-use", "attaching"))
        yield self.until_volume(volume.id, "in-use", "attached")
        self.assertEqual((yield self.seen(machine)), {"/dev/sdf": volume.id})
        self.assertEqual((yield self.exports()), {volume.id: "node1"})
        [instance] = yield self.cloud.get(machine.id)
        [disk] = instance.disks
        self.assertEqual((disk.volume, disk.device, disk.state), (volume.id, "/dev/sdf", "attached"))
        taken = yield self.volumes.detach(CALLER, volume.id)
        self.assertEqual(taken.attachment.state, "detaching")
        yield self.until_volume(volume.id, "available")
        self.assertEqual((yield self.seen(machine)), {})
        self.assertEqual((yield self.exports()), {volume.id: ""})
        [instance] = yield self.cloud.get(machine.id)
        self.assertEqual(instance.disks, ())
        yield self.cloud.sound()

    @inlineCallbacks
    def test_race(self) -> Test:
        """Of a hundred attachments at once exactly one has an effect."""
        yield self.begin(hosts=("node1", "node2"))
        volume = yield self.volume()
        machines = yield gatherResults([self.machine() for _ in range(4)])
        attempts = [
            self.volumes.attach(CALLER, volume.id, machines[n % 4].id, f"/dev/sd{chr(102 + n % 7)}") for n in range(100)
        ]
        outcomes = yield DeferredList(attempts, consumeErrors=True)
        self.assertEqual(sum(success for success, _ in outcomes), 1)
        for success, outcome in outcomes:
            if not success:
                outcome.trap(InUse)
        held = yield self.until_volume(volume.id, "in-use", "attached")
        found = yield self.cloud.get(*[each.id for each in machines])
        self.assertEqual([each.id for each in found if each.disks], [held.attachment.instance])
        seen = yield gatherResults([self.seen(each) for each in machines])
        self.assertEqual(sum(map(len, seen)), 1)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_many_at_once(self) -> Test:
        """All the volumes of an instance are attached at once, and detached at once; none is in the way of another."""
        yield self.begin()
        machine = yield self.machine()
        volumes = yield gatherResults([self.volume() for _ in range(25)])
        devices = {f"/dev/sd{chr(98 + n)}": volume.id for n, volume in enumerate(volumes)}
        yield gatherResults([self.volumes.attach(CALLER, id, machine.id, device) for device, id in devices.items()])
        for volume in volumes:
            yield self.until_volume(volume.id, "in-use", "attached")
        self.assertEqual((yield self.seen(machine)), devices)
        yield gatherResults([self.volumes.detach(CALLER, volume.id) for volume in volumes])
        for volume in volumes:
            yield self.until_volume(volume.id, "available")
        self.assertEqual((yield self.seen(machine)), {})
        yield self.cloud.sound()

    @inlineCallbacks
    def test_refusals(self) -> Test:
        """A taken device, another project's things, and states in which it can't be."""
        yield self.begin()
        one, two, machine = (yield self.volume()), (yield self.volume()), (yield self.machine())
        attach, detach = self.volumes.attach, self.volumes.detach
        yield attach(CALLER, one.id, machine.id, "/dev/sdf")
        error = yield self.assertFailure(attach(CALLER, two.id, machine.id, "sdf"), InvalidValue)
        self.assertIn("already in use", error.why)
        yield self.assertFailure(attach(CALLER, two.id, machine.id, "nonsense"), InvalidValue)
        yield self.assertFailure(attach(CALLER, one.id, machine.id, "/dev/sdg"), InUse)
        yield self.assertFailure(attach(STRANGER, two.id, machine.id, "/dev/sdg"), NotFound)
        yield self.assertFailure(attach(CALLER, two.id, "i-00000000000000009", "/dev/sdg"), NotFound)
        yield self.assertFailure(detach(CALLER, two.id), WrongState)
        yield self.assertFailure(detach(CALLER, one.id, "i-00000000000000009"), NotFound)
        yield self.assertFailure(detach(CALLER, one.id, machine.id, "/dev/sdz"), NotFound)
        yield self.assertFailure(self.volumes.delete(CALLER, one.id), InUse)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_moves(self) -> Test:
        """A volume moves from a machine on one host to one on another, with its content."""
        yield self.begin(hosts=("node1", "node2"))
        volume = yield self.volume()
        machines: dict[str, Instance] = {}
        while len(machines) < 2:
            machine = yield self.machine()
            machines[machine.host] = machine
        for host, machine in machines.items():
            yield self.volumes.attach(CALLER, volume.id, machine.id, "/dev/sdf")
            yield self.until_volume(volume.id, "in-use", "attached")
            self.assertEqual((yield self.exports(volume.host)), {volume.id: host})
            yield self.volumes.detach(CALLER, volume.id)
            yield self.until_volume(volume.id, "available")
        yield self.cloud.sound()

    @inlineCallbacks
    def test_stopped(self) -> Test:
        """With a stopped instance it is at once; the instance has its volumes when it is started."""
        yield self.begin()
        one, two, machine = (yield self.volume()), (yield self.volume()), (yield self.machine())
        instances = self.cloud.cloud.instances
        yield instances.stop(CALLER, [machine.id])
        yield self.cloud.until_state("stopped", machine.id)
        for volume, device in ((one, "/dev/sdf"), (two, "/dev/sdg")):
            given = yield self.volumes.attach(CALLER, volume.id, machine.id, device)
            self.assertEqual(given.attachment.state, "attached")
        yield instances.start(CALLER, [machine.id])
        yield self.cloud.until_state("running", machine.id)
        self.assertEqual((yield self.seen(machine)), {"/dev/sdf": one.id, "/dev/sdg": two.id})
        yield instances.stop(CALLER, [machine.id])
        yield self.cloud.until_state("stopped", machine.id)
        yield self.volumes.detach(CALLER, one.id)
        [free] = yield self.volumes.get(CALLER, [one.id])
        self.assertEqual(free.state, "available")
        yield instances.start(CALLER, [machine.id])
        yield self.cloud.until_state("running", machine.id)
        self.assertEqual((yield self.seen(machine)), {"/dev/sdg": two.id})
        self.assertEqual((yield self.exports()), {one.id: "", two.id: "node1"})
        yield self.cloud.sound()

    @inlineCallbacks
    def test_terminate(self) -> Test:
        """A terminated instance gives its volumes back when its host has let go, and not before."""
        yield self.begin()
        volume, machine = (yield self.volume()), (yield self.machine())
        yield self.volumes.attach(CALLER, volume.id, machine.id, "/dev/sdf")
        yield self.until_volume(volume.id, "in-use", "attached")
        host = self.cloud.hosts["node1"]
        host.hypervisor.rehearsal.tell("destroy fail 6")
        yield self.cloud.cloud.instances.terminate(CALLER, [machine.id])
        [held] = yield self.volumes.get(CALLER, [volume.id])
        self.assertEqual(held.state, "in-use")
        yield self.assertFailure(self.volumes.attach(CALLER, volume.id, machine.id, "/dev/sdg"), InUse)
        host.hypervisor.rehearsal.forget()
        yield self.until_volume(volume.id, "available")
        [gone] = yield self.cloud.get(machine.id)
        self.assertEqual((gone.state, gone.disks), ("terminated", ()))
        self.assertEqual((yield self.exports()), {volume.id: ""})
        yield self.cloud.sound()

    @inlineCallbacks
    def test_attach_fails(self) -> Test:
        """What the hypervisor refuses leaves the volume free, with the reason."""
        yield self.begin()
        volume, machine = (yield self.volume()), (yield self.machine())
        self.cloud.hosts["node1"].hypervisor.rehearsal.tell("attach_disk fail")
        yield self.volumes.attach(CALLER, volume.id, machine.id, "/dev/sdf")
        free = yield self.until_volume(volume.id, "available")
        self.assertIn("told to fail", free.reason)
        self.assertEqual((yield self.exports()), {volume.id: ""})
        yield self.cloud.sound()

    @inlineCallbacks
    def test_lost_answers(self) -> Test:
        """Answers that are lost between the hosts change nothing in the end."""
        yield self.begin()
        volume, machine = (yield self.volume()), (yield self.machine())
        host = self.cloud.hosts["node1"]
        host.hypervisor.rehearsal.tell("detach_disk lose")
        yield self.volumes.attach(CALLER, volume.id, machine.id, "/dev/sdf")
        yield self.until_volume(volume.id, "in-use", "attached")
        host.volumes.rehearsal.tell("unexport lose")
        yield self.volumes.detach(CALLER, volume.id)
        yield self.until_volume(volume.id, "available")
        self.assertEqual((yield self.seen(machine)), {})
        yield self.cloud.sound()

    @inlineCallbacks
    def test_compute_host_dies(self) -> Test:
        """An attachment whose host ends in the middle is finished when the host is back."""
        yield self.begin()
        volume, machine = (yield self.volume()), (yield self.machine())
        host = self.cloud.hosts["node1"]
        host.hypervisor.rehearsal.tell("attach_disk hang")
        yield self.volumes.attach(CALLER, volume.id, machine.id, "/dev/sdf")
        for service in host.services:
            service._grace = 0.1
        yield host.stop()
        self.cloud.add_host("node1", QUICK, host.directory)
        yield self.until_volume(volume.id, "in-use", "attached")
        self.assertEqual((yield self.seen(machine)), {"/dev/sdf": volume.id})
        yield self.cloud.sound()

    @inlineCallbacks
    def test_forced_off_a_dead_host(self) -> Test:
        """A volume is forced off a host that is dead; when that is back, its machine has it no more."""
        yield self.begin(hosts=("node1", "node2"), rules=attrs.evolve(IMPATIENT, down_after=2.0), report_interval=0.2)
        volume = yield self.volume()
        machine = yield self.machine()
        while machine.host == volume.host:
            machine = yield self.machine()
        yield self.volumes.attach(CALLER, volume.id, machine.id, "/dev/sdf")
        yield self.until_volume(volume.id, "in-use", "attached")
        host = self.cloud.hosts[machine.host]
        yield host.stop()
        yield self.volumes.detach(CALLER, volume.id)

        @inlineCallbacks
        def dead() -> Generator[Any, Any, bool]:
            return host.name not in (yield self.cloud.cloud.hosts.alive())

        yield self.cloud.until(dead)
        [held] = yield self.volumes.get(CALLER, [volume.id])
        self.assertEqual(held.attachment.state, "detaching")
        yield self.volumes.detach(CALLER, volume.id, force=True)
        yield self.until_volume(volume.id, "available")
        self.assertEqual((yield self.exports(volume.host)), {volume.id: ""})
        self.cloud.add_host(host.name, QUICK, host.directory)

        @inlineCallbacks
        def without() -> Generator[Any, Any, bool]:
            return not (yield self.seen(machine))

        yield self.cloud.until(without)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_forced_off_when_nobody_answers(self) -> Test:
        """A volume host that does not report is not waited for, volume by volume, while other things wait."""
        yield self.begin(rules=attrs.evolve(IMPATIENT, down_after=2.0), report_interval=0.2)
        volume, machine = (yield self.volume()), (yield self.machine())
        yield self.volumes.attach(CALLER, volume.id, machine.id, "/dev/sdf")
        yield self.until_volume(volume.id, "in-use", "attached")
        yield self.cloud.hosts["node1"].stop()

        @inlineCallbacks
        def dead() -> Generator[Any, Any, bool]:
            services = yield self.cloud.cloud.hosts.records()
            return not any(service.alive for service in services if service.host == "node1")

        yield self.cloud.until(dead)
        asked: list[str] = []

        def fence(request_id: str, volume: Volume) -> Deferred[None]:
            asked.append(volume.id)
            return fail(DeadlineExceeded("unexport", 10.0))

        self.cloud.assembly.sweep._volumes._orders.fence = fence
        yield self.volumes.detach(CALLER, volume.id, force=True)
        before = (yield self.volumes.get(CALLER, [volume.id]))[0].review_at

        @inlineCallbacks
        def looked_at() -> Generator[Any, Any, bool]:
            return (yield self.volumes.get(CALLER, [volume.id]))[0].review_at > before

        yield self.cloud.until(looked_at)
        self.assertEqual(asked, [])

    @inlineCallbacks
    def test_leftover_export(self) -> Test:
        """An export that state does not want is ended when the volume host tells of it."""
        yield self.begin()
        volume = yield self.volume()
        host = self.cloud.hosts["node1"]
        yield host.volumes.export(volume.id, "node9", 1)
        yield host.services[2].worker.adopt()

        @inlineCallbacks
        def ended() -> Generator[Any, Any, bool]:
            return (yield self.exports()) == {volume.id: ""}

        yield self.cloud.until(ended)


class LaunchTests(VolumeCase):
    """
    Volumes that are made together with an instance.
    """

    @inlineCallbacks
    def launch(self, *disks: NewDisk) -> Generator[Any, Any, tuple[Instance, list[Volume]]]:
        """An instance with volumes, as a launch writes it."""
        [made] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        [pattern] = yield self.cloud.until_state("running", made.id)
        transaction = self.cloud.store.transaction("req-test")
        instance = attrs.evolve(
            pattern,
            id=pattern.id[:-1] + ("0" if pattern.id[-1] != "0" else "1"),
            state="pending",
            host="",
            on_host=False,
            started=False,
            zone="",
            wanted_zone="nova",
            ports=(attrs.evolve(pattern.ports[0], mac="02:00:00:00:00:01", address="", hostname=""),),
            changed_at=self.cloud.reactor.seconds(),
            review_at=self.cloud.reactor.seconds(),
        )
        instance, volumes = self.volumes.launched(transaction, instance, disks, QUOTAS, {})
        transaction.create(instance)
        yield self.cloud.store.commit(transaction)
        self.volumes.place("req-test", volumes)
        return instance, volumes

    @inlineCallbacks
    def test_launch(self) -> Test:
        """The volumes are made, attached when it runs, and go with it if they are to."""
        yield self.begin()
        kept = NewDisk("/dev/sdg", 2, delete_on_termination=False)
        instance, [one, two] = yield self.launch(NewDisk("/dev/sdf", 1), kept)
        [running] = yield self.cloud.until_state("running", instance.id)
        yield self.until_volume(one.id, "in-use", "attached")
        yield self.until_volume(two.id, "in-use", "attached")
        self.assertEqual((yield self.seen(running)), {"/dev/sdf": one.id, "/dev/sdg": two.id})
        yield self.cloud.sound()
        yield self.cloud.cloud.instances.terminate(CALLER, [instance.id])
        yield self.until_gone(one.id)
        yield self.until_volume(two.id, "available")
        yield self.cloud.sound()

    @inlineCallbacks
    def test_no_volume(self) -> Test:
        """An instance whose volume can't be made does not run, and nothing is left."""
        yield self.begin(options=SMALL)
        instance, [one] = yield self.launch(NewDisk("/dev/sdf", 100))
        [ended] = yield self.cloud.until_state("terminated", instance.id)
        self.assertIn(one.id, ended.reason.message)
        yield self.until_gone(one.id)
        yield self.cloud.sound()


@implementer(IFaults)
class BreakOnce:
    """
    Breaks off what is being done at one point, once, as its process' end would.

    @ivar broken: whether it has.
    """

    def __init__(self) -> None:
        self.point = ""
        self.broken = False

    def reach(self, name: str) -> None:
        """End it here."""
        if name == self.point and not self.broken:
            self.broken = True
            raise Broken(name)


class Broken(Exception):
    """What was done is done, and nothing after it."""


POINTS = (
    *("cloud.volume_written", "cloud.volume_placed", "volume.created", "volume.reported"),
    *("cloud.volume_report_written", "cloud.attach_written", "compute.exported", "volume.exported"),
    *("compute.disk_attached", "cloud.disk_report_written", "cloud.snapshot_written", "volume.snapshot_made"),
    *("cloud.grow_written", "volume.grown", "cloud.detach_written", "compute.disk_detached"),
    *("cloud.volume_deleted", "volume.deleted", "cloud.snapshot_deleted", "volume.snapshot_deleted"),
)
"""Every point that the life below passes."""


class FaultTests(VolumeCase):
    """
    What is broken off at any step is finished.
    """

    timeout = 300

    @inlineCallbacks
    def tried(self, act: Callable[[], Any]) -> Generator[Any, Any, Any]:
        """Ask; where that breaks off, what was written is to have its effect all the same."""
        try:
            return (yield act())
        except Broken:
            return None

    @inlineCallbacks
    def only(self, cls: Any) -> Generator[Any, Any, Any]:
        """The one record of a kind."""
        page = yield self.cloud.store.records(cls, Query(cls.kind, (ALL,)))
        [stored] = page.items
        return stored.record

    @inlineCallbacks
    def life(self, machine: Instance) -> Test:
        """Made, attached, copied, grown, detached, deleted."""
        yield self.tried(lambda: self.volumes.create(CALLER, VolumeSpec("nova", 1)))
        volume = yield self.only(Volume)
        yield self.until_volume(volume.id, "available")

        @inlineCallbacks
        def attached() -> Generator[Any, Any, bool]:
            [found] = yield self.volumes.get(CALLER, [volume.id])
            if found.state == "available":
                yield self.tried(lambda: self.volumes.attach(CALLER, volume.id, machine.id, "/dev/sdf"))
            return found.attachment is not None and found.attachment.state == "attached"

        yield self.cloud.until(attached)
        self.assertEqual((yield self.seen(machine)), {"/dev/sdf": volume.id})
        yield self.tried(lambda: self.snapshots.create(CALLER, volume.id))
        snapshot = yield self.only(Snapshot)
        yield self.until_snapshot(snapshot.id)
        yield self.tried(lambda: self.volumes.grow(CALLER, volume.id, 2))

        @inlineCallbacks
        def grown() -> Generator[Any, Any, bool]:
            [found] = yield self.volumes.get(CALLER, [volume.id])
            return found.size_gb == 2

        yield self.cloud.until(grown)
        yield self.tried(lambda: self.volumes.detach(CALLER, volume.id))
        yield self.until_volume(volume.id, "available")
        self.assertEqual((yield self.seen(machine)), {})
        yield self.tried(lambda: self.volumes.delete(CALLER, volume.id))
        yield self.until_gone(volume.id)
        yield self.tried(lambda: self.snapshots.delete(CALLER, snapshot.id))
        yield self.until_gone(snapshot.id, Snapshot)

    @inlineCallbacks
    def test_every_point(self) -> Test:
        """Broken off once at each point, every step has its effect, and nothing is left."""
        faults = BreakOnce()
        yield self.begin(faults=faults)
        machine = yield self.machine()
        for point in POINTS:
            faults.point, faults.broken = point, False
            try:
                yield self.life(machine)
            except BaseException as error:
                raise AssertionError(f"{point}: {error!r}") from error
            self.assertTrue(faults.broken, point)
            yield self.cloud.sound()
            holdings = yield self.cloud.hosts["node1"].volumes.describe()
            self.assertEqual((holdings.volumes, holdings.snapshots), ((), ()), point)
        self.flushLoggedErrors()


class SnapshotTests(VolumeCase):
    """
    Copies.
    """

    @inlineCallbacks
    def test_snapshot_and_restore(self) -> Test:
        """A snapshot keeps what was there; a volume of it has that, on the same host."""
        yield self.begin(hosts=("node1", "node2"))
        volume = yield self.volume(2)
        driver = self.cloud.hosts[volume.host].volumes
        driver.write(volume.id, "then")
        made = yield self.snapshots.create(CALLER, volume.id, "before", {"a": "b"})
        self.assertEqual((made.state, made.size_gb), ("pending", 2))
        done = yield self.until_snapshot(made.id)
        self.assertEqual((done.progress, done.description, done.tags), (100, "before", {"a": "b"}))
        driver.write(volume.id, "now")
        yield self.assertFailure(self.volumes.create(CALLER, VolumeSpec("nova", 1, snapshot=made.id)), InvalidValue)
        restored = yield self.volume(0, snapshot=made.id)
        self.assertEqual((restored.host, restored.size_gb), (volume.host, 2))
        self.assertEqual(driver.read(restored.id), "then")
        yield self.cloud.sound()
        yield self.snapshots.delete(CALLER, made.id)
        yield self.assertFailure(self.snapshots.get(CALLER, [made.id]), NotFound)
        yield self.until_gone(made.id, Snapshot)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_lent(self) -> Test:
        """Volumes that their host can't copy while a guest has them are copied by the guest's host."""
        yield self.begin(hosts=("node1", "node2"))
        volume, machine = (yield self.volume()), (yield self.machine())
        while machine.host == volume.host:
            machine = yield self.machine()
        yield self.volumes.attach(CALLER, volume.id, machine.id, "/dev/sdf")
        yield self.until_volume(volume.id, "in-use", "attached")
        driver = self.cloud.hosts[volume.host].volumes
        driver.clones = False
        driver.write(volume.id, "then")
        made = yield self.snapshots.create(CALLER, volume.id)
        yield self.until_snapshot(made.id)
        restored = yield self.volume(0, snapshot=made.id)
        self.assertEqual((driver.read(restored.id), driver.lent), ("then", set()))
        self.cloud.hosts[machine.host].hypervisor.rehearsal.tell("copy_disk lose")
        made = yield self.snapshots.create(CALLER, volume.id)
        yield self.until_snapshot(made.id)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_of_an_instance(self) -> Test:
        """All volumes of an instance are copied by one request."""
        yield self.begin()
        one, two, machine = (yield self.volume()), (yield self.volume(tags={"t": "1"})), (yield self.machine())
        yield self.volumes.attach(CALLER, one.id, machine.id, "/dev/sdf")
        yield self.volumes.attach(CALLER, two.id, machine.id, "/dev/sdg")
        made = yield self.snapshots.create_all(CALLER, machine.id, "both", {"x": "y"}, copy_tags=True)
        self.assertEqual({each.volume for each in made}, {one.id, two.id})
        self.assertEqual(made[1].tags, {"t": "1", "x": "y"})
        for each in made:
            yield self.until_snapshot(each.id)
        [only] = yield self.snapshots.create_all(CALLER, machine.id, exclude=[one.id])
        self.assertEqual(only.volume, two.id)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_sharing(self) -> Test:
        """Others use a snapshot only while it is shared with them, and can copy it then."""
        yield self.begin()
        volume = yield self.volume()
        snapshot = yield self.snapshots.create(CALLER, volume.id)
        yield self.until_snapshot(snapshot.id)
        spec = VolumeSpec("nova", 1, snapshot=snapshot.id)
        yield self.assertFailure(self.volumes.create(STRANGER, spec), NotFound)
        yield self.snapshots.share(CALLER, snapshot.id, add=[STRANGER.project])
        yield self.volumes.create(STRANGER, spec)
        copied = yield self.snapshots.copy(STRANGER, snapshot.id, "mine")
        yield self.until_snapshot(copied.id)
        yield self.assertFailure(self.snapshots.delete(STRANGER, snapshot.id), NotFound)
        yield self.snapshots.share(CALLER, snapshot.id, remove=[STRANGER.project])
        yield self.assertFailure(self.volumes.create(STRANGER, spec), NotFound)
        yield self.snapshots.share(CALLER, snapshot.id, public=True)
        yield self.snapshots.get(STRANGER, [snapshot.id])
        yield self.snapshots.reset_sharing(CALLER, snapshot.id)
        yield self.assertFailure(self.snapshots.get(STRANGER, [snapshot.id]), NotFound)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_in_use(self) -> Test:
        """What is being copied is not deleted before the copy is complete."""
        yield self.begin()
        volume = yield self.volume()
        driver = self.cloud.hosts["node1"].volumes
        driver.rehearsal.tell("snapshot slow 0.5")
        snapshot = yield self.snapshots.create(CALLER, volume.id)
        yield self.assertFailure(self.volumes.delete(CALLER, volume.id), InUse)
        yield self.assertFailure(self.volumes.create(CALLER, VolumeSpec("nova", 1, snapshot=snapshot.id)), WrongState)
        yield self.until_snapshot(snapshot.id)
        driver.rehearsal.tell("create slow 0.5")
        made = yield self.volumes.create(CALLER, VolumeSpec("nova", 1, snapshot=snapshot.id))
        yield self.assertFailure(self.snapshots.delete(CALLER, snapshot.id), InUse)
        yield self.until_volume(made.id, "available")
        yield self.snapshots.delete(CALLER, snapshot.id)
        yield self.volumes.delete(CALLER, volume.id)
        yield self.until_gone(snapshot.id, Snapshot)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_failure(self) -> Test:
        """A copy that can't be made is in error with the reason, and can be deleted."""
        yield self.begin()
        volume = yield self.volume()
        self.cloud.hosts["node1"].volumes.rehearsal.tell("snapshot fail always")
        snapshot = yield self.snapshots.create(CALLER, volume.id)
        failed = yield self.until_snapshot(snapshot.id, "error")
        self.assertIn("told to fail", failed.reason)
        self.cloud.hosts["node1"].volumes.rehearsal.forget()
        yield self.snapshots.delete(CALLER, snapshot.id)
        yield self.until_gone(snapshot.id, Snapshot)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_quota(self) -> Test:
        """Snapshots are counted, and their host's room is."""
        yield self.begin(options=SMALL, rules=attrs.evolve(IMPATIENT, quotas=QUOTAS | {"snapshots": 1}))
        volume = yield self.volume(4)
        yield self.snapshots.create(CALLER, volume.id)
        yield self.assertFailure(self.snapshots.create(CALLER, volume.id), QuotaExceeded)
        other = yield self.volume(2)
        self.assertEqual(other.host, "node1")
        made = yield self.volumes.create(CALLER, VolumeSpec("nova", 1))
        yield self.until_volume(made.id, "error")
        yield self.cloud.sound()
