"""
A cloud that comes up: what is asked for before any host has reported waits;
what reports first counts as alive at once.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from fabric.cloud.assembly import Rules
from fabric.cloud.hosts import Hosts
from fabric.cloud.launch import LaunchSpec
from fabric.cloud.placement import Placement
from fabric.cloud.retry import until_written
from fabric.cloud.volume_placement import VolumePlacement
from fabric.model.host import Capacity
from fabric.model.instance import Instance
from fabric.model.volume import AskedDisk
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, CloudUnderTest, make_cloud
from fabric.testing.store import make_store

Test = Generator[Deferred[Any], Any, None]

NO_HOST = "Server.InsufficientInstanceCapacity"


class FirstHostTests(TestCase):
    """
    Launches before there is any host.
    """

    @inlineCallbacks
    def begin(self, *hosts: str, algorithm: str = "simple") -> Test:
        """Make the cloud."""
        rules = Rules(ready_keys=0, resend_after=0.3)
        self.cloud: CloudUnderTest = yield make_cloud(self, hosts, rules=rules, algorithm=algorithm)

    @inlineCallbacks
    def launch(self, **more: Any) -> Generator[Any, Any, Instance]:
        """Launch one."""
        [made] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny", **more))
        return made  # type: ignore[no-any-return]

    @inlineCallbacks
    def looked_at(self, id: str) -> Test:
        """Wait until the sweep looked at it twice."""
        seen: set[float] = set()

        @inlineCallbacks
        def twice() -> Generator[Any, Any, bool]:
            [record] = yield self.cloud.get(id)
            self.assertEqual(record.state, "pending", record.reason)
            seen.add(record.review_at)
            return len(seen) > 3

        yield self.cloud.until(twice)

    @inlineCallbacks
    def _waits(self, algorithm: str) -> Test:
        yield self.begin(algorithm=algorithm)
        made = yield self.launch()
        yield self.looked_at(made.id)
        self.cloud.add_host("node1")
        [record] = yield self.cloud.until_state("running", made.id)
        self.assertEqual(record.host, "node1")
        yield self.cloud.sound()

    def test_waits(self) -> Any:
        """A launch before any host has reported runs when one has."""
        return self._waits("simple")

    def test_waits_in_the_queue(self) -> Any:
        """So it does where the first free host takes it."""
        return self._waits("queue")

    @inlineCallbacks
    def test_volumes_wait(self) -> Test:
        """So do volumes that are launched with it."""
        yield self.begin()
        made = yield self.launch(disks=(AskedDisk("/dev/sdf", 1),))
        yield self.looked_at(made.id)
        self.cloud.add_host("node1")

        @inlineCallbacks
        def attached() -> Generator[Any, Any, bool]:
            [record] = yield self.cloud.get(made.id)
            return record.state == "running" and [disk.state for disk in record.disks] == ["attached"]

        yield self.cloud.until(attached)

    @inlineCallbacks
    def test_reports_meanwhile(self) -> Test:
        """So do those for which hosts were looked for just before the first one reported."""

        def late(cls: type[Placement] | type[VolumePlacement]) -> None:
            original, looks = cls.hosts, [0, 0]
            self.patch(cls, "hosts", lambda self: succeed([]) if looks and not looks.pop() else original(self))

        yield self.begin("node1")
        late(Placement)
        late(VolumePlacement)
        made = yield self.launch(disks=(AskedDisk("/dev/sdf", 1),))
        yield self.cloud.until_state("running", made.id)

    @inlineCallbacks
    def test_deadline(self) -> Test:
        """When its time is over, it ends for want of a host."""
        yield self.begin()
        made = yield self.launch()

        @inlineCallbacks
        def aged() -> Test:
            [stored] = yield self.cloud.store.read(Instance, [made.id])
            transaction = self.cloud.store.transaction("test")
            transaction.update(stored, attrs.evolve(stored.record, changed_at=1.0, review_at=1.0))
            yield self.cloud.store.commit(transaction)

        yield until_written(aged)
        [ended] = yield self.cloud.until_state("terminated", made.id)
        self.assertEqual(ended.reason.code, NO_HOST)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_known_hosts(self) -> Test:
        """Where hosts are known and none takes it, it ends at once."""
        yield self.begin("node1")
        yield self.cloud.cloud.hosts.set_disabled(OPERATOR, "node1", "compute", True)
        made = yield self.launch()
        [ended] = yield self.cloud.until_state("terminated", made.id)
        self.assertEqual((ended.reason.code, set(ended.refusals)), (NO_HOST, {"node1"}))


class _Held:
    """
    A store whose heartbeats wait.

    @ivar asked: fires when one is to be written; C{go} has it written.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: Deferred[None] = Deferred()
        self.go: Deferred[None] = Deferred()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def beat(self, service: str, now: float) -> Deferred[None]:
        """Later."""
        self.asked.callback(None)
        return self.go.addCallback(lambda _: self._store.beat(service, now))


class FirstReportTests(TestCase):
    """
    The first report of a service, and the first after it was silent.
    """

    @inlineCallbacks
    def test_looked_at_meanwhile(self) -> Test:
        """A service that just reports is not held to be silent by who looks before all of that is written."""
        store = yield make_store(self, None)
        clock = Clock()
        for _ in range(2):
            clock.advance(1000.0)
            yield Hosts(store, clock).review()
            held = _Held(store)
            reporting = Hosts(held, clock).report("compute", "a", "nova", clock.seconds(), Capacity())  # type: ignore[arg-type]
            yield held.asked
            yield Hosts(store, clock).review()
            held.go.callback(None)
            yield reporting
            self.assertEqual((yield Hosts(store, clock).alive()), {"a"})
