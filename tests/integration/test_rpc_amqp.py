"""
The queue over a real RabbitMQ.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from fabric.errors import Unavailable
from fabric.rpc.amqp.queue import AMQPQueue
from fabric.rpc.interface import Address, Context
from fabric.testing.echo import EchoWorker, IEchoWorker
from fabric.testing.rabbitmq import ACCOUNT, PASSWORD, SharedRabbitMQ
from fabric.testing.rpc import QueueContract, QueueFixtures

BROKER = SharedRabbitMQ()


class AMQPTestCase(TestCase):
    """
    Has a broker, and makes queues over it.
    """

    timeout = 300
    queue_type = "quorum"

    @inlineCallbacks
    def setUp(self) -> Generator[Deferred[Any], Any, None]:
        self.broker = yield BROKER.get(reactor)

    @inlineCallbacks
    def make_queue(
        self, metrics: Any = None, account: str = ACCOUNT, password: str = PASSWORD, **settings: Any
    ) -> Generator[Deferred[Any], Any, AMQPQueue]:
        """A connected queue."""
        known = {
            "queue_type": self.queue_type,
            "max_deliveries": 3,
            "retry_seconds": 0.01,
            "max_reconnect_seconds": 1.0,
            "exchange": self.queue_type,
        }
        queue = AMQPQueue(reactor, self.broker.endpoint, account, password, metrics=metrics, **{**known, **settings})
        self.addCleanup(queue.stop)
        yield queue.start()
        return queue

    def pass_time(self, seconds: float) -> Deferred[None]:
        """Fires after some time."""
        return deferLater(reactor, seconds, lambda: None)


class QuorumQueueContractTests(AMQPTestCase, QueueContract):
    """
    The contract, over quorum queues.
    """


class ClassicQueueContractTests(AMQPTestCase, QueueContract):
    """
    The contract, over classic queues.
    """

    queue_type = "classic"


class LossTests(AMQPTestCase, QueueFixtures):
    """
    What becomes of messages when the broker is lost.
    """

    @inlineCallbacks
    def test_call_lost(self) -> Generator[Deferred[Any], Any, None]:
        """A call in work when the broker is killed fails with Unavailable; after a restart everything resumes."""
        queue, worker, address = yield self.serve()
        answer = queue.caller(IEchoWorker, address, Context()).hold()
        yield worker.until(1)
        yield self.broker.settle()
        yield self.broker.kill()
        yield self.fails(Unavailable, answer)
        worker.held[0].callback("nobody hears this")
        restarted = self.broker.restart()
        cast = queue.caster(IEchoWorker, address, Context(request_id="during")).echo("a")
        cast.addErrback(lambda failure: failure.trap(Unavailable))
        yield restarted
        yield queue.start()
        self.assertEqual((yield queue.caller(IEchoWorker, address, Context()).echo("b")), ["b"])
        yield cast
        for redelivered in worker.held[1:]:
            redelivered.callback("nobody hears this either")

    @inlineCallbacks
    def test_casts_survive(self) -> Generator[Deferred[Any], Any, None]:
        """Every cast that was confirmed before the broker was killed is worked on after it is back."""
        queue = yield self.make_queue(patience=60.0)
        address, worker = self.topic(), EchoWorker()
        casts = [queue.caster(IEchoWorker, address, Context()).echo(number) for number in range(50)]
        yield gatherResults(casts)
        yield self.broker.settle()
        yield self.broker.kill()
        waiting = queue.caster(IEchoWorker, address, Context()).echo(50)
        listening = queue.listen(address, IEchoWorker, worker, 5)
        yield self.broker.restart()
        yield gatherResults([waiting, listening])
        yield worker.until(51)
        self.assertEqual(sorted(set(worker.values)), list(range(51)))

    @inlineCallbacks
    def test_work_survives(self) -> Generator[Deferred[Any], Any, None]:
        """A cast in work when the connection is lost is not begun a second time by the same worker."""
        queue, worker, address = yield self.serve()
        yield queue.caster(IEchoWorker, address, Context()).hold()
        yield worker.until(1)
        lost = queue._client.disconnected.wait()
        yield self.broker.control("close_all_connections", "test")
        yield lost
        yield queue.start()
        yield queue.caller(IEchoWorker, address, Context()).echo("a")
        worker.held[0].callback("done")
        self.assertEqual([method for method, _ in worker.seen], ["hold", "echo"])
        yield self.emptied(queue, address)

    @inlineCallbacks
    def test_silent_broker(self) -> Generator[Deferred[Any], Any, None]:
        """A broker that hangs is given up after two heartbeats, and used again when it is back."""
        queue, _, address = yield self.serve_with(heartbeat=1)
        self.broker.pause()
        answer = queue.caller(IEchoWorker, address, Context(seconds=30.0)).echo("a")
        try:
            yield self.fails(Unavailable, answer)
        finally:
            self.broker.resume()
        self.assertEqual((yield queue.caller(IEchoWorker, address, Context(seconds=60.0)).echo("b")), ["b"])

    @inlineCallbacks
    def test_idle_connection(self) -> Generator[Deferred[Any], Any, None]:
        """An idle connection stays, kept alive by heartbeats."""
        queue, _, address = yield self.serve_with(heartbeat=2)
        yield self.pass_time(7.0)
        self.assertEqual((yield queue.caller(IEchoWorker, address, Context()).echo("b")), ["b"])
        self.assertEqual(queue.connections, 1)

    @inlineCallbacks
    def test_queue_deleted(self) -> Generator[Deferred[Any], Any, None]:
        """A listener whose queue an operator deletes makes it again."""
        queue, _, address = yield self.serve()
        yield self.broker.control("delete_queue", address.routing_key)
        while True:
            try:
                answer = yield queue.caller(IEchoWorker, address, Context()).echo("b")
                break
            except Unavailable:
                yield self.pass_time(0.1)
        self.assertEqual(answer, ["b"])

    @inlineCallbacks
    def test_no_broker(self) -> Generator[Deferred[Any], Any, None]:
        """Without a broker, calls and casts fail with Unavailable when patience is over, and stop() ends."""
        queue = AMQPQueue(reactor, "tcp:127.0.0.1:1", ACCOUNT, PASSWORD, patience=0.2)
        self.addCleanup(queue.stop)
        address = self.topic()
        call = queue.caller(IEchoWorker, address, Context()).echo("a")
        cast = queue.caster(IEchoWorker, address, Context()).echo("a")
        for error in ((yield self.fails(Unavailable, call)), (yield self.fails(Unavailable, cast))):
            self.assertEqual(error.why, "no connection to the broker")

    @inlineCallbacks
    def emptied(self, queue: AMQPQueue, address: Address) -> Generator[Deferred[Any], Any, None]:
        """Fires when the broker has no message for an address, in work or waiting."""
        while (yield queue.depths())[address.routing_key]:
            yield self.pass_time(0.05)

    @inlineCallbacks
    def serve_with(self, **settings: Any) -> Generator[Deferred[Any], Any, tuple[AMQPQueue, EchoWorker, Address]]:
        """A queue made so, and a worker that listens through it."""
        queue = yield self.make_queue(**settings)
        worker, address = EchoWorker(), self.topic()
        yield queue.listen(address, IEchoWorker, worker, 5)
        return queue, worker, address
