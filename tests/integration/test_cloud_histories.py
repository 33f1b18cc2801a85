"""
Random histories of a cloud: launches, volumes, moves from host to host, operators' care, hosts
that die and are fenced, workers that are killed, messages that come once more, drivers that fail.
An instance never runs twice, and when all is quiet the hosts have what the state says.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase

from fabric.cloud.launch import LaunchSpec
from fabric.cloud.volumes import VolumeSpec
from fabric.model.instance import Instance
from fabric.model.volume import Volume
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE
from fabric.testing.store import make_store
from tests.integration.cloud_history import HOSTS, World

HISTORIES = int(os.environ.get("FABRIC_HISTORIES", "15"))
"""How many random histories one run tries."""

ADOPTED = 330.0
"""Seconds after which each host has told all that it has."""

LONGEST = 30
"""Minutes after which everything must be at rest."""

PHASES = (Phase.explicit, Phase.generate, Phase.shrink)

DEVICES = ("/dev/sdf", "/dev/sdg")
MISHAPS = (
    *("hypervisor migrate", "hypervisor receive", "hypervisor spawn", "hypervisor shut_down", "hypervisor destroy"),
    *("hypervisor number", "hypervisor domains", "hypervisor attach_disk", "hypervisor detach_disk"),
    *("volumes export", "volumes unexport", "network plug", "network unplug"),
)

CASTS = ("migrate", "migrate", "run", "stop", "terminate", "reboot", "attach_disks", "detach_disks")
CASTS += ("report_machines", "report_disks", "adopt", "adopt_volumes", "adopt_network", "schedule", "unexport")
"""Messages that may come once more."""

machines = st.integers(0, 1)
hosts = st.sampled_from(HOSTS)
step = st.one_of(
    st.tuples(st.just("order"), machines, st.sampled_from(["start", "stop", "reboot", "terminate"])),
    st.tuples(st.just("order"), machines, st.sampled_from(["start", "stop"])),
    st.tuples(st.just("disk"), machines, st.integers(0, 1), st.sampled_from(["attach", "attach", "detach", "force"])),
    st.tuples(st.just("move"), machines, hosts),
    st.tuples(st.just("move"), machines, hosts),
    st.tuples(st.just("empty"), hosts),
    st.tuples(
        st.just("care"),
        machines,
        st.sampled_from(["pause", "unpause", "suspend", "resume", "rescue", "unrescue"]),
    ),
    st.tuples(st.just("mishap"), hosts, st.sampled_from(MISHAPS), st.sampled_from(["fail", "lose", "slow 7"])),
    st.tuples(st.just("guest"), hosts, machines, st.sampled_from(["crash", "halt", "kill"])),
    st.tuples(st.just("kill"), hosts),
    st.tuples(st.just("begin"), hosts),
    st.tuples(st.just("again"), st.sampled_from(CASTS), st.integers(0, 2)),
    st.tuples(st.just("again"), st.sampled_from(CASTS), st.integers(0, 2)),
    st.tuples(st.just("switches"), st.booleans()),
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("pass"), st.sampled_from([0.01, 1.0, 5.0, 30.0, 100.0])),
    st.tuples(st.just("pass"), st.sampled_from([0.01, 1.0, 5.0, 30.0, 100.0])),
)

movement = st.one_of(
    st.tuples(st.just("move"), st.just(0), hosts),
    st.tuples(st.just("move"), st.just(0), hosts),
    st.tuples(st.just("again"), st.sampled_from(("migrate", "report_machines")), st.integers(0, 3)),
    st.tuples(st.just("again"), st.just("migrate"), st.integers(0, 3)),
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("kill"), hosts),
    st.tuples(st.just("begin"), hosts),
    st.tuples(
        st.just("mishap"),
        hosts,
        st.sampled_from(["hypervisor migrate", "hypervisor receive", "hypervisor number"]),
        st.sampled_from(["fail", "lose", "slow 7"]),
    ),
    st.tuples(st.just("order"), st.just(0), st.sampled_from(["start", "stop", "reboot"])),
    st.tuples(st.just("pass"), st.sampled_from([5.0, 30.0, 200.0])),
    st.tuples(st.just("pass"), st.sampled_from([5.0, 30.0, 200.0])),
)
"""What happens to one that is moved again and again."""

storage = st.one_of(
    st.tuples(st.just("order"), st.just(0), st.sampled_from(["start", "start", "stop", "stop", "reboot"])),
    st.tuples(st.just("disk"), st.just(0), st.integers(0, 1), st.sampled_from(["attach", "attach", "detach", "force"])),
    st.tuples(st.just("disk"), st.just(1), st.just(0), st.sampled_from(["attach", "detach"])),
    st.tuples(st.just("move"), st.just(0), hosts),
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("kill"), hosts),
    st.tuples(st.just("begin"), hosts),
    st.tuples(
        st.just("again"),
        st.sampled_from(["attach_disks", "detach_disks", "migrate", "run", "report_disks", "unexport"]),
        st.integers(0, 3),
    ),
    st.tuples(
        st.just("mishap"),
        hosts,
        st.sampled_from([each for each in MISHAPS if "disk" in each or "export" in each or "migrate" in each]),
        st.sampled_from(["fail", "lose", "slow 7"]),
    ),
    st.tuples(st.just("pass"), st.sampled_from([0.01, 5.0, 30.0, 200.0])),
    st.tuples(st.just("pass"), st.sampled_from([0.01, 5.0, 30.0, 200.0])),
)
"""What happens to one whose volumes come and go while it is moved, started and stopped."""

COMES_BACK = [("move", 0, "c"), ("pass", 5.0), ("move", 0, "a"), ("pass", 5.0), ("again", "migrate", 1), ("pass", 5.0)]
LEFT_UNSAID = [("hold", True), ("move", 0, "c"), ("pass", 5.0)]
UNTIL_FENCED = [("pass", 200.0), ("hold", False), ("pass", 30.0)]

histories = st.one_of(st.lists(step, min_size=5, max_size=40), st.lists(movement, min_size=5, max_size=25))
histories |= st.lists(storage, min_size=5, max_size=30)


class History:
    """
    What happens to a cloud of three hosts, two instances and two volumes.
    """

    def __init__(self, test: TestCase, world: World) -> None:
        self._test = test
        self.world = world
        self.machines: list[str] = []
        self.volumes: list[str] = []

    @inlineCallbacks
    def begin(self, state: str, attached: bool) -> Generator[Deferred[Any], Any, None]:
        """
        All is well, and everything is there.

        @param state: of the first instance; the second one runs.
        @param attached: whether that first has the first volume.
        """
        yield self.world.start()
        for number in range(2):
            zone = VolumeSpec(size_gb=1, zone="nova")
            self.world.ask(lambda: self.world.cloud.volumes.create(CALLER, zone).addCallback(self._made))  # noqa: B023
            yield self.world.passes(0.1)
            assert len(self.volumes) == number + 1, self.world.unexpected
        run = partial(self.world.cloud.instances.run, CALLER, LaunchSpec(SAMPLE, "m1.tiny", 2, 2))
        self.world.ask(lambda: run().addCallback(lambda made: self.machines.extend(each.id for each in made)))
        yield self.world.passes(10.0)
        if attached:
            self.do_disk(0, 0, "attach")
            yield self.world.passes(5.0)
        if state == "stopped":
            self.do_order(0, "stop")
            yield self.world.passes(5.0)
        for host in self.world.hosts.values():
            host.mark()
        found = yield self.world.read(Instance, self.machines)
        assert [each.state for each in found] == [state, "running"], found
        assert [disk.state for disk in found[0].disks] == ["attached"] * attached, found

    def _made(self, volume: Volume) -> None:
        self.volumes.append(volume.id)

    @inlineCallbacks
    def act(self, step: tuple[Any, ...]) -> Generator[Deferred[Any], Any, None]:
        """Do one step, and see that nothing runs twice."""
        yield getattr(self, "do_" + step[0])(*step[1:])
        yield self.world.idle()
        self.look()

    def look(self) -> None:
        """No machine runs on two hosts, nor does one of two machines that run have a volume of the other."""
        running = [guest for host in self.world.hosts.values() for guest in host.guests().values()]
        running = [guest for guest in running if guest.state == "running"]
        for count in (
            Counter(guest.id for guest in running),
            Counter(volume for guest in running for volume in guest.disks.values()),
        ):
            self._test.assertEqual({id: number for id, number in count.items() if number > 1}, {})
        self._test.assertEqual(self.world.unexpected, [])

    def do_order(self, number: int, verb: str) -> None:
        """A user orders something."""
        self.world.ask(lambda: getattr(self.world.cloud.instances, verb)(CALLER, [self.machines[number]]))

    def do_disk(self, number: int, which: int, verb: str) -> None:
        """A user wants a volume on an instance, or not any more."""
        volumes, volume, machine = self.world.cloud.volumes, self.volumes[which], self.machines[number]
        if verb == "attach":
            self.world.ask(lambda: volumes.attach(CALLER, volume, machine, DEVICES[which]))
        else:
            self.world.ask(lambda: volumes.detach(CALLER, volume, force=verb == "force"))

    def do_move(self, number: int, host: str) -> None:
        """An operator moves an instance."""
        self.world.ask(lambda: self.world.cloud.migrations.migrate(OPERATOR, self.machines[number], host))

    def do_empty(self, host: str) -> None:
        """An operator empties a host, and lets it have new instances again."""
        hosts = self.world.cloud.hosts
        self.world.ask(lambda: self.world.cloud.migrations.evacuate(OPERATOR, host))
        self.world.ask(lambda: hosts.set_disabled(OPERATOR, host, "compute", False))

    def do_care(self, number: int, verb: str) -> None:
        """An operator does something to a guest."""
        self.world.ask(lambda: getattr(self.world.cloud.care, verb)(OPERATOR, self.machines[number]))

    def do_mishap(self, host: str, what: str, kind: str) -> None:
        """Something will go wrong."""
        driver, verb = what.split()
        getattr(self.world.hosts[host], driver).rehearsal.tell(f"{verb} {kind}")

    def do_guest(self, host: str, number: int, deed: str) -> None:
        """A guest does something by itself."""
        if self.world.hosts[host].up:
            getattr(self.world.hosts[host].hypervisor, deed)(self.machines[number])

    def do_kill(self, host: str) -> None:
        """The services of a host end without a word."""
        self.world.hosts[host].kill()

    def do_begin(self, host: str) -> None:
        """They are started, killed before if they run."""
        self.world.hosts[host].kill()
        self.world.hosts[host].start()

    def do_again(self, method: str, back: int) -> None:
        """A message comes once more."""
        self.world.queue.again(method, back)

    def do_hold(self, up: bool) -> None:
        """What hosts say of orders is held up, or comes."""
        self.world.queue.hold(up)

    def do_switches(self, work: bool) -> None:
        """Power switches work, or not any more."""
        self.world.switches.work = work

    def do_pass(self, seconds: float) -> Deferred[None]:
        """Time passes."""
        return self.world.passes(seconds)

    @inlineCallbacks
    def finish(self) -> Generator[Deferred[Any], Any, None]:
        """Nothing goes wrong any more, and time passes until everything must be at rest."""
        self.world.switches.work = True
        self.world.queue.hold(False)
        for host in self.world.hosts.values():
            host.calm()
            if not host.up:
                host.start()
            self.world.ask(partial(self.world.cloud.hosts.set_disabled, OPERATOR, host.name, "compute", False))
        yield self.world.passes(ADOPTED)
        for _ in range(LONGEST):
            yield self.world.passes(60.0)
            self.look()
            if (yield self.at_rest()):
                return

    @inlineCallbacks
    def at_rest(self) -> Generator[Deferred[Any], Any, bool]:
        """Whether nothing waits for anything."""
        instances = yield self.world.read(Instance, self.machines)
        volumes = yield self.world.read(Volume, self.volumes)
        return not any(each.waits or each.migration for each in instances) and not any(
            each.state not in ("available", "in-use") or (each.attachment and each.attachment.state != "attached")
            for each in volumes
        )

    @inlineCallbacks
    def check(self) -> Generator[Deferred[Any], Any, None]:
        """Hosts have what the state says, nothing waits, and the store is sound."""
        test = self._test
        instances = {each.id: each for each in (yield self.world.read(Instance, self.machines))}
        volumes = {each.id: each for each in (yield self.world.read(Volume, self.volumes))}
        for instance in instances.values():
            test.assertIsNone(instance.migration, instance)
            test.assertFalse(instance.waits, instance)
            test.assertIn(instance.state, ("running", "stopped", "terminated"))
        yield self.world.queue.depths()
        for host in self.world.hosts.values():
            yield self.check_host(host, instances, volumes)
        for volume in volumes.values():
            attachment = volume.attachment
            wanted = ("available", "") if attachment is None else ("in-use", "attached")
            test.assertEqual((volume.state, attachment.state if attachment else ""), wanted, volume)
        test.assertEqual((yield self.world.store.check(False)), [])

    @inlineCallbacks
    def check_host(
        self, host: Any, instances: dict[str, Instance], volumes: dict[str, Volume]
    ) -> Generator[Deferred[Any], Any, None]:
        """What is on a host is what should be."""
        test = self._test
        guests = host.guests()
        own = {id: each for id, each in instances.items() if each.host == host.name and each.live}
        test.assertEqual(set(guests) - set(own), set(), f"on {host.name}: {instances}")
        for id, instance in own.items():
            guest = guests.get(id)
            runs = guest is not None and (guest.state == "running" or guest.condition == "suspended")
            test.assertEqual((id, runs), (id, instance.state == "running"), f"{guest} of {instance}")
            if runs:
                test.assertEqual(guest.disks, {disk.device: disk.volume for disk in instance.disks}, instance)
        own_disks = set(own) - self.world.switches.lost
        test.assertEqual(own_disks - host.marked(), set(), f"begun anew on {host.name}, nothing being lost: {own}")
        ports = yield host.network.ports()
        test.assertEqual({port.instance for port in ports} - set(own), set(), f"ports on {host.name}")
        for held in (yield host.volumes.describe()).volumes:
            attachment = volumes[held.id].attachment
            test.assertIn(held.exported_to, ("", attachment.host if attachment else ""), volumes[held.id])


class HistoryTests(TestCase):
    """
    What holds in every history.
    """

    timeout = 600

    @inlineCallbacks
    def test_histories(self) -> Generator[Deferred[Any], Any, None]:
        """No instance ever runs twice, and in the end all is as the state says."""
        self.redis_store = yield make_store(self)

        @settings(
            max_examples=HISTORIES, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=PHASES
        )
        @given(st.sampled_from(["running", "stopped"]), st.booleans(), histories)
        @example("running", False, COMES_BACK)
        @example("running", False, [*LEFT_UNSAID, ("kill", "a"), *UNTIL_FENCED])
        @example("running", False, [*LEFT_UNSAID, ("kill", "c"), *UNTIL_FENCED])
        @example("running", False, [("kill", "a"), ("move", 0, "b")])
        def live(state: str, attached: bool, steps: list[tuple[Any, ...]]) -> None:
            blockingCallFromThread(reactor, self.live, state, attached, steps)  # type: ignore[arg-type]

        yield deferToThread(live)

    @inlineCallbacks
    def live(self, state: str, attached: bool, steps: Sequence[tuple[Any, ...]]) -> Generator[Deferred[Any], Any, None]:
        """One history, from an empty cloud on."""
        yield self.redis_store._pool.call(b"FLUSHDB")
        with tempfile.TemporaryDirectory() as directory:
            world = World(self.redis_store, directory)
            try:
                history = History(self, world)
                yield history.begin(state, attached)
                for each in steps:
                    yield history.act(each)
                yield history.finish()
                yield history.check()
            except Exception as error:
                raise AssertionError(f"{state!r}, {attached}, {steps}: {error}") from error
            finally:
                world.stop()
                yield world.idle()
