"""
How much talking a launch takes, counted between real servers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.cloud.assembly import Rules, assemble
from fabric.cloud.events import EventReader
from fabric.cloud.launch import LaunchSpec
from fabric.cloud.service import ControllerService
from fabric.compute.fake import FakeHypervisor
from fabric.compute.service import ComputeService
from fabric.faults import NoFaults
from fabric.model.instance import Instance
from fabric.network.fake import FakeNetwork
from fabric.network.service import NetworkService
from fabric.rpc.amqp.queue import AMQPQueue
from fabric.scheduler.service import SchedulerService
from fabric.settings import Fake
from fabric.store.redis import RedisStore
from fabric.testing.cloud import CALLER
from fabric.testing.rabbitmq import ACCOUNT, PASSWORD, RabbitMQServer
from fabric.testing.samples import KINDS, PlainViews
from fabric.testing.store import make_store

SELDOM = 3600.0
"""Seconds between all that happens without a request, so that it does not."""

HOPS, ROUND_TRIPS = 6, 8
"""What one launch may take, from the request until it runs."""

TELLING = 3
"""Round trips for telling hosts of the new member of its groups, once it runs."""

reactor: Any = installed_reactor


class LaunchCostTests(TestCase):
    """
    All services over one connection each to RabbitMQ and Redis, which count.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Generator[Deferred[Any], Any, None]:
        """Bring everything up, and launch once so that all is warm."""
        rabbitmq = RabbitMQServer(reactor)
        self.addCleanup(rabbitmq.stop)
        yield rabbitmq.start()
        self.store = yield make_store(self)
        pool = self.redis.connect()
        self.addCleanup(pool.stopService)
        self.onlooker = RedisStore(pool, PlainViews(), KINDS)
        telling = self.redis.connect()
        self.addCleanup(telling.stopService)
        self.teller = RedisStore(telling, PlainViews(), KINDS)
        self.queue = AMQPQueue(reactor, rabbitmq.endpoint, ACCOUNT, PASSWORD)
        self.addCleanup(self.queue.stop)
        yield self.queue.start()
        self.cloud = assemble(self.store, self.queue, reactor, deferToThread, Rules(ready_keys=0), teller=self.teller)
        yield self.cloud.cloud.networks.ensure("private", "10.0.0.0/24")
        yield self.cloud.cloud.images.ensure_samples(0.0)
        for service in self._services():
            service.startService()
            self.addCleanup(service.stopService)
        yield self._until(self._reported)
        yield self._launch(1)

    def _services(self) -> list[Any]:
        parts, queue, options = self.cloud, self.queue, Fake(boot_seconds=0.0)
        events = EventReader(self.store, lambda event: None, 0.0)
        events.turn = lambda: succeed(0)  # type: ignore[method-assign]  # it reads by the clock, whoever launches
        control = ControllerService(
            queue,
            parts.worker,
            parts.sweep,
            parts.cloud.hosts,
            events,
            parts.dead_letters,
            "control",
            "nova",
            reactor,
            SELDOM,
            SELDOM,
            SELDOM,
        )
        hypervisor = FakeHypervisor(self.mktemp(), reactor, options)
        network = FakeNetwork(self.mktemp(), reactor)
        return [
            control,
            SchedulerService(
                queue, parts.placement, "simple", "control", "nova", reactor, NoFaults(), report_interval=SELDOM
            ),
            NetworkService(queue, network, "node1", "nova", reactor, report_interval=SELDOM),
            ComputeService(queue, hypervisor, "node1", "nova", reactor, report_interval=SELDOM),
        ]

    @inlineCallbacks
    def _reported(self) -> Generator[Deferred[Any], Any, bool]:
        views = yield self.cloud.cloud.hosts.views()
        return any(view.name == "node1" and view.alive for view in views)

    @inlineCallbacks
    def _until(self, probe: Callable[[], Any]) -> Generator[Deferred[Any], Any, None]:
        while not (yield probe()):
            yield deferLater(reactor, 0.02)

    @inlineCallbacks
    def _running(self, ids: list[str]) -> Generator[Deferred[Any], Any, bool]:
        """Looked up beside the store that counts."""
        found = yield self.onlooker.read(Instance, ids)
        return all(stored.record.state == "running" for stored in found)

    @inlineCallbacks
    def _quiet(self) -> Generator[Deferred[Any], Any, tuple[int, int, int]]:
        """The counts, once they have not moved for a second."""
        seen, still = (0, 0, 0), 0
        while still < 10:
            now = (self.queue.sent, self.store.round_trips, self.teller.round_trips)
            seen, still = now, still + 1 if now == seen else 0
            yield deferLater(reactor, 0.1)
        return seen

    @inlineCallbacks
    def _launch(self, count: int) -> Generator[Deferred[Any], Any, tuple[int, int, int]]:
        """What a launch takes till all is quiet: queue hops, round trips, and those of telling hosts of groups."""
        before = yield self._quiet()
        launched = yield self.cloud.cloud.instances.run(
            CALLER, LaunchSpec("ami-00000000000000001", "m1.tiny", count, count)
        )
        yield self._until(lambda: self._running([instance.id for instance in launched]))
        after = yield self._quiet()
        return after[0] - before[0], after[1] - before[1], after[2] - before[2]

    @inlineCallbacks
    def test_one(self) -> Generator[Deferred[Any], Any, None]:
        """Launching one takes at most six messages and eight round trips to Redis, and three to tell of its groups."""
        hops, round_trips, telling = yield self._launch(1)
        self.assertLessEqual(hops, HOPS)
        self.assertLessEqual(round_trips, ROUND_TRIPS)
        self.assertLessEqual(telling, TELLING)

    @inlineCallbacks
    def test_many_share(self) -> Generator[Deferred[Any], Any, None]:
        """Launching twenty in one call takes less than four times what one takes."""
        hops, round_trips, _ = yield self._launch(20)
        self.assertLess(hops, 4 * HOPS)
        self.assertLess(round_trips, 4 * ROUND_TRIPS)
