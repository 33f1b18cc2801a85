"""
What the example definitions for RabbitMQ allow, and what they refuse.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

import fabric
from fabric.errors import Denied, Unavailable
from fabric.rpc.amqp.content import Properties
from fabric.rpc.amqp.queue import AMQPQueue
from fabric.rpc.envelope import encode_request
from fabric.rpc.interface import Address, Context
from fabric.testing.echo import EchoWorker, IEchoWorker, Letters
from fabric.testing.rabbitmq import ACCOUNT, PASSWORD, SharedRabbitMQ

BROKER = SharedRabbitMQ()
DEFINITIONS = Path(fabric.__file__).parent.parent / "etc" / "rabbitmq" / "definitions.json"
HOST = "host.node1"


class AccountTests(TestCase):
    """
    A controller, and a host with an account of its own.
    """

    timeout = 300
    loaded = False

    @inlineCallbacks
    def setUp(self) -> Generator[Deferred[Any], Any, None]:
        self.broker = yield BROKER.get(reactor)
        if not AccountTests.loaded:
            yield self.broker.load(DEFINITIONS)
            yield self.broker.control("change_password", HOST, PASSWORD)
            AccountTests.loaded = True
        self.controller = yield self._queue(ACCOUNT)
        self.host = yield self._queue(HOST)

    @inlineCallbacks
    def _queue(self, account: str) -> Generator[Deferred[Any], Any, AMQPQueue]:
        queue = AMQPQueue(reactor, self.broker.endpoint, account, PASSWORD, retry_seconds=0.01, max_deliveries=3)
        self.addCleanup(queue.stop)
        yield queue.start()
        return queue

    @inlineCallbacks
    def test_host_serves(self) -> Generator[Deferred[Any], Any, None]:
        """A host listens at its own address, is called by the controller, and knows who called."""
        worker = EchoWorker()
        for address in (Address("compute", "node1"), Address("compute")):
            yield self.host.listen(address, IEchoWorker, worker, 1)
            yield self.controller.caller(IEchoWorker, address, Context()).echo("a")
        self.assertEqual([context.sender for context in worker.contexts], [ACCOUNT, ACCOUNT])

    @inlineCallbacks
    def test_host_reports(self) -> Generator[Deferred[Any], Any, None]:
        """A host calls and casts to the controllers, and the broker vouches for it."""
        worker = EchoWorker()
        yield self.controller.listen(Address("cloud"), IEchoWorker, worker, 1)
        yield self.host.caster(IEchoWorker, Address("cloud"), Context()).echo("a")
        yield self.host.caller(IEchoWorker, Address("cloud"), Context()).echo("b")
        self.assertEqual([context.sender for context in worker.contexts], [HOST, HOST])

    @inlineCallbacks
    def test_host_itself(self) -> Generator[Deferred[Any], Any, None]:
        """A host's services call each other: without its network's no instance starts."""
        worker = EchoWorker()
        for topic in ("network", "volume", "compute"):
            yield self.host.listen(Address(topic, "node1"), IEchoWorker, worker, 1)
            yield self.host.caller(IEchoWorker, Address(topic, "node1"), Context()).echo("a")
        self.assertEqual([context.sender for context in worker.contexts], [HOST] * 3)

    @inlineCallbacks
    def test_host_confined(self) -> Generator[Deferred[Any], Any, None]:
        """A host may not listen at another's address, nor send to it."""
        yield self.assertFailure(self.host.listen(Address("compute", "node2"), IEchoWorker, EchoWorker(), 1), Denied)
        worker = EchoWorker()
        yield self.controller.listen(Address("compute", "node2"), IEchoWorker, worker, 1)
        remote = self.host.caster(IEchoWorker, Address("compute", "node2"), Context())
        yield self.assertFailure(remote.echo("a"), Unavailable)
        self.assertEqual(worker.seen, [])

    @inlineCallbacks
    def test_back_door(self) -> Generator[Deferred[Any], Any, None]:
        """A message through the default exchange, or without a sender, is dropped and not worked on."""
        worker = EchoWorker()
        yield self.controller.listen(Address("volume", "node2"), IEchoWorker, worker, 1)
        body = encode_request("echo", {"value": "a"}, "", None)
        for queue, exchange in ((self.host, ""), (self.controller, "fabric")):
            channel = yield queue._client.open_channel()
            channel.publish(exchange, "volume.node2", Properties(message_id=exchange), body)
        yield deferLater(reactor, 0.3, bool)
        while (yield self.controller.depths())["volume.node2"]:
            yield deferLater(reactor, 0.05, bool)
        self.assertEqual(worker.seen, [])

    @inlineCallbacks
    def test_borrowed_name(self) -> Generator[Deferred[Any], Any, None]:
        """The broker does not let a host put another's name on a message."""
        channel = yield self.host._client.open_channel()
        channel.publish("fabric", "cloud", Properties(message_id="m", user_id=ACCOUNT), b"{}")
        while not channel.closed:
            yield deferLater(reactor, 0.05, bool)

    @inlineCallbacks
    def test_wrong_password(self) -> Generator[Deferred[Any], Any, None]:
        """A refused login is not the end: calls fail with Unavailable, and the log has the broker's words."""
        queue = AMQPQueue(reactor, self.broker.endpoint, HOST, "wrong", patience=1.0)
        self.addCleanup(queue.stop)
        yield self.assertFailure(queue.caller(IEchoWorker, Address("cloud"), Context()).echo("a"), Unavailable)

    @inlineCallbacks
    def test_killer(self) -> Generator[Deferred[Any], Any, None]:
        """A message that ends each process that takes it becomes a dead letter."""
        address = Address("network", "node1")
        yield self.controller.caster(IEchoWorker, address, Context()).hold()
        letters = Letters(0)
        yield self.controller.listen_dead(letters.take)
        buried = letters.get(address)
        for _ in range(4):
            victim = AMQPQueue(
                reactor, self.broker.endpoint, ACCOUNT, PASSWORD, max_deliveries=3, max_reconnect_seconds=9.0
            )
            self.addCleanup(victim.stop)
            worker = EchoWorker()
            yield victim.listen(address, IEchoWorker, worker, 1)
            begun = worker.until(1)
            yield DeferredList([begun, buried], fireOnOneCallback=True)
            if not begun.called:
                break
            victim._client.transport.abortConnection()
            yield victim._client.disconnected.wait()
            worker.held[0].callback("the process is gone")
            yield victim._link.stop()
        letter = yield buried
        self.assertEqual(letter[:3], (address, "hold", {}))
