"""
Placement groups, obeyed by every scheduler on several hosts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.cloud.launch import LaunchSpec
from fabric.errors import InUse, NoCapacity, NotFound, WrongState
from fabric.model.instance import Instance
from fabric.scheduler.algorithms import NAMES
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, STRANGER, CloudUnderTest, make_cloud

Test = Generator[Deferred[Any], Any, Any]

HOSTS = ("node1", "node2", "node3")


class _Obeyed:
    """
    The promises, for each algorithm.
    """

    algorithm = ""

    @inlineCallbacks
    def setUp(self) -> Test:
        self.under: CloudUnderTest = yield make_cloud(self, HOSTS, algorithm=self.algorithm)
        self.groups = self.under.cloud.placement_groups

    @inlineCallbacks
    def launch(self, count: int, **more: Any) -> Test:
        """Launch, and wait until all run or are refused."""
        spec = LaunchSpec(SAMPLE, "m1.tiny", count, count, **more)
        launched = yield self.under.cloud.instances.run(CALLER, spec)
        ids = [instance.id for instance in launched]

        @inlineCallbacks
        def settled() -> Test:
            found = yield self.under.get(*ids)
            return all(each.state != "pending" for each in found) and found

        return (yield self.under.until(settled))

    def running(self, instances: Sequence[Instance]) -> list[Instance]:
        """Those that run."""
        return [each for each in instances if each.state == "running"]

    @inlineCallbacks
    def test_spread(self) -> Test:
        """No two of a spread group are on one host, launched together or at once; the others are told why."""
        yield self.groups.create(CALLER, "apart", "spread")
        launches = yield gatherResults([self.launch(2, placement_group="apart") for _ in range(3)])
        found = [each for launch in launches for each in launch]
        hosts = [each.host for each in self.running(found)]
        self.assertEqual(sorted(hosts), sorted(HOSTS))
        for each in found:
            if each.state == "terminated":
                self.assertEqual(each.reason.code, "Server.InsufficientInstanceCapacity")
                self.assertEqual(set(each.refusals), set(HOSTS))
                self.assertIn("spread", "".join(each.refusals.values()))
        yield self.under.sound()

    @inlineCallbacks
    def test_spread_when_moved(self) -> Test:
        """A host that is emptied sends no two of a spread group to one host; who has nowhere to go stays."""
        yield self.groups.create(CALLER, "apart", "spread")
        found = yield self.launch(3, placement_group="apart")
        departures = yield self.under.cloud.migrations.evacuate(OPERATOR, found[0].host)
        self.assertEqual([each.destination for each in departures], [""])
        self.assertEqual(len({each.host for each in (yield self.under.get(*[each.id for each in found]))}), 3)
        yield self.under.cloud.instances.terminate(CALLER, [found[1].id])
        yield self.under.until(lambda: self.under.get(found[1].id).addCallback(lambda gone: not gone[0].on_host))
        departure = yield self.under.cloud.migrations.migrate(OPERATOR, found[0].id)
        self.assertEqual(departure.destination, found[1].host)
        yield self.under.until(lambda: self.under.get(found[0].id).addCallback(lambda left: not left[0].migration))
        yield self.under.sound()

    @inlineCallbacks
    def test_spread_again(self) -> Test:
        """What a terminated instance leaves can be taken."""
        yield self.groups.create(CALLER, "apart", "spread")
        found = yield self.launch(3, placement_group="apart")
        yield self.under.cloud.instances.terminate(CALLER, [found[0].id])

        @inlineCallbacks
        def gone() -> Test:
            [instance] = yield self.under.get(found[0].id)
            return not instance.on_host

        yield self.under.until(gone)
        [again] = yield self.launch(1, placement_group="apart")
        self.assertEqual((again.state, again.host), ("running", found[0].host))

    @inlineCallbacks
    def test_partitions(self) -> Test:
        """No host has instances of two partitions; those that say none get one."""
        group = yield self.groups.create(CALLER, "parts", "partition", 3)
        launches = yield gatherResults([self.launch(3, placement_group_id=group.id) for _ in range(3)])
        found = [each for launch in launches for each in launch]
        self.assertEqual(len(self.running(found)), 9)
        of_host: dict[str, set[int]] = {}
        for each in found:
            of_host.setdefault(each.host, set()).add(each.placement.partition)
        self.assertTrue(all(len(numbers) == 1 for numbers in of_host.values()), of_host)
        yield self.under.sound()

    @inlineCallbacks
    def test_named_partition(self) -> Test:
        """A named partition is given, on hosts that no other one has."""
        yield self.groups.create(CALLER, "parts", "partition", 2)
        first = yield self.launch(2, placement_group="parts", partition=1)
        second = yield self.launch(2, placement_group="parts", partition=2)
        self.assertEqual([each.placement.partition for each in first + second], [1, 1, 2, 2])
        self.assertEqual({each.host for each in first} & {each.host for each in second}, set())
        self.assertEqual(len(self.running(first + second)), 4)

    @inlineCallbacks
    def test_in_use(self) -> Test:
        """A group goes when its instances are terminated, and not before."""
        yield self.groups.create(CALLER, "apart", "spread")
        [instance] = yield self.launch(1, placement_group="apart")
        yield self.assertFailure(self.groups.delete(CALLER, "apart"), InUse)
        yield self.assertFailure(self.groups.delete(STRANGER, "apart"), NotFound)
        yield self.under.cloud.instances.terminate(CALLER, [instance.id])
        yield self.under.until_state("terminated", instance.id)
        yield self.groups.delete(CALLER, "apart")
        yield self.under.sound()


class ChanceTests(_Obeyed, TestCase):
    """By chance."""

    algorithm = "chance"


class SimpleTests(_Obeyed, TestCase):
    """By load."""

    algorithm = "simple"

    @inlineCallbacks
    def test_cluster(self) -> Test:
        """A cluster is on one host while that has room, whatever its load."""
        yield self.groups.create(CALLER, "close", "cluster")
        first = yield self.launch(2, placement_group="close")
        second = yield self.launch(3, placement_group="close")
        self.assertEqual(len({each.host for each in first + second}), 1)
        others = yield self.launch(2)
        self.assertEqual({each.host for each in others} & {first[0].host}, set())

    @inlineCallbacks
    def test_move(self) -> Test:
        """A stopped instance is moved into a group that its host suits, and out of it."""
        yield self.groups.create(CALLER, "apart", "spread")
        found = yield self.launch(3, placement_group="apart")
        [other] = yield self.launch(1)
        yield self.assertFailure(self.groups.move(CALLER, other.id, "apart"), WrongState)
        yield self.under.cloud.instances.stop(CALLER, [other.id])
        yield self.under.until_state("stopped", other.id)
        yield self.assertFailure(self.groups.move(CALLER, other.id, "apart"), NoCapacity)
        yield self.assertFailure(self.groups.move(STRANGER, other.id, "apart"), NotFound)
        rival = next(each for each in found if each.host == other.host)
        yield self.under.cloud.instances.stop(CALLER, [rival.id])
        yield self.under.until_state("stopped", rival.id)
        yield self.groups.move(CALLER, rival.id, "")
        yield self.groups.move(CALLER, other.id, "apart")
        [moved] = yield self.under.get(other.id)
        self.assertEqual(moved.placement.name, "apart")
        yield self.under.sound()


class ZoneTests(_Obeyed, TestCase):
    """By zone."""

    algorithm = "zone"


class QueueTests(_Obeyed, TestCase):
    """By who is first."""

    algorithm = "queue"


class AlgorithmTests(TestCase):
    """None is forgotten."""

    def test_all(self) -> None:
        """Each algorithm has its tests."""
        tested = Counter(cls.algorithm for cls in (ChanceTests, SimpleTests, ZoneTests, QueueTests))
        self.assertEqual(sorted(tested), sorted(NAMES))
