"""
One side of a queue round trip, in a process of its own.

C{python -m fabric.testing.bench.queue_peer IMPLEMENTATION SIDE PORT} with the
sides C{serve} and C{drive}.  The serving side prints C{ready}.  The driving
side then takes lines C{COUNT IN_FLIGHT} and answers each with a line of JSON:
C{{"seconds", "cpu", "latencies"}}.  The implementations:

  - C{fabric}: this project's calls, whole: declared interface, envelope, JSON,
    deadline, request id;
  - C{pika}: pika's Twisted adapter, as one would use it by hand: a topic
    exchange, prefetch, acknowledgement after the work, direct reply-to, bodies
    sent as they are.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver
from zope.interface import Interface, implementer

from fabric.rpc.amqp.queue import AMQPQueue
from fabric.rpc.interface import Address, Context
from fabric.testing.rabbitmq import ACCOUNT, PASSWORD

BODY = "x" * 200
PREFETCH = 64

reactor: Any = installed_reactor

Call = Callable[[], Deferred[Any]]


class IEcho(Interface):
    """
    The least worker there can be.
    """

    def echo(body: str) -> Deferred[str]:
        """Answers what it was given."""


@implementer(IEcho)
class Echo:
    """
    Serves L{IEcho} on this project's queue.
    """

    def echo(self, body: str, context: Any = None) -> Any:
        """Give it back."""
        return body


def _fabric_queue(port: int) -> AMQPQueue:
    return AMQPQueue(reactor, f"tcp:127.0.0.1:{port}", ACCOUNT, PASSWORD, exchange="bench")


@inlineCallbacks
def fabric_serve(port: int) -> Generator[Deferred[Any], Any, None]:
    """Listen with this project's queue."""
    queue = _fabric_queue(port)
    yield queue.start()
    yield queue.listen(Address("bench"), IEcho, Echo(), PREFETCH)


@inlineCallbacks
def fabric_drive(port: int) -> Generator[Deferred[Any], Any, Call]:
    """Call with this project's queue."""
    queue = _fabric_queue(port)
    yield queue.start()
    remote = queue.caller(IEcho, Address("bench"), Context("bench", 30.0))
    return lambda: remote.echo(BODY)


@inlineCallbacks
def _pika_channel(port: int) -> Generator[Deferred[Any], Any, Any]:
    import pika
    from pika.adapters.twisted_connection import TwistedProtocolConnection

    account = pika.PlainCredentials(ACCOUNT, PASSWORD)
    connection = TwistedProtocolConnection(pika.ConnectionParameters(credentials=account, heartbeat=20))
    yield connectProtocol(clientFromString(reactor, f"tcp:127.0.0.1:{port}"), connection)
    yield connection.ready
    channel = yield connection.channel()
    yield channel.exchange_declare("bench-pika", exchange_type="topic", durable=True)
    return channel


@inlineCallbacks
def pika_serve(port: int) -> Generator[Deferred[Any], Any, None]:
    """Listen with pika."""
    import pika

    channel = yield _pika_channel(port)
    yield channel.basic_qos(prefetch_count=PREFETCH)
    yield channel.queue_declare("bench-pika", durable=True, arguments={"x-queue-type": "quorum"})
    yield channel.queue_bind("bench-pika", "bench-pika", "bench")
    queue, _tag = yield channel.basic_consume("bench-pika")

    def serve(item: Any) -> None:
        _channel, method, properties, body = item
        reply = pika.BasicProperties(correlation_id=properties.correlation_id)
        channel.basic_publish("", properties.reply_to, body, reply)
        channel.basic_ack(method.delivery_tag)
        queue.get().addCallback(serve)

    queue.get().addCallback(serve)


@inlineCallbacks
def pika_drive(port: int) -> Generator[Deferred[Any], Any, Call]:
    """Call with pika."""
    import pika

    channel = yield _pika_channel(port)
    queue, _tag = yield channel.basic_consume("amq.rabbitmq.reply-to", auto_ack=True)
    waiting: dict[str, Deferred[Any]] = {}

    def take(item: Any) -> None:
        _channel, _method, properties, body = item
        waiting.pop(properties.correlation_id).callback(body)
        queue.get().addCallback(take)

    queue.get().addCallback(take)
    serial = iter(range(1 << 60))

    def call() -> Deferred[Any]:
        name = str(next(serial))
        answer: Deferred[Any] = Deferred()
        waiting[name] = answer
        properties = pika.BasicProperties(
            correlation_id=name, reply_to="amq.rabbitmq.reply-to", content_type="application/json", delivery_mode=1
        )
        channel.basic_publish("bench-pika", "bench", BODY.encode(), properties, mandatory=True)
        return answer

    return call


@inlineCallbacks
def measure(call: Call, count: int, in_flight: int) -> Generator[Deferred[Any], Any, dict[str, Any]]:
    """
    Make C{count} calls, so many at a time.
    """
    latencies: list[float] = []
    left = iter(range(count))

    def one(_ignored: Any, begun: float) -> Deferred[Any] | None:
        latencies.append(time.perf_counter() - begun)
        return go()

    def go() -> Deferred[Any] | None:
        if next(left, None) is None:
            return None
        return call().addCallback(one, time.perf_counter())

    begun, cpu = time.perf_counter(), time.process_time()
    lanes = [lane for lane in (go() for _ in range(in_flight)) if lane is not None]
    yield DeferredList(lanes, fireOnOneErrback=True)
    return {
        "seconds": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "latencies": latencies,
    }


class Orders(LineReceiver):
    """
    Takes orders from standard input.
    """

    delimiter = b"\n"

    def __init__(self, call: Call) -> None:
        self._call = call

    def lineReceived(self, line: bytes) -> None:
        """Measure, then answer."""
        count, in_flight = line.split()
        measured = measure(self._call, int(count), int(in_flight))
        measured.addErrback(lambda failure: {"error": failure.getTraceback()})
        measured.addCallback(lambda result: self.sendLine(json.dumps(result).encode()))

    def connectionLost(self, reason: Any = None) -> None:
        """The bench is done."""
        if reactor.running:
            reactor.stop()


SIDES: dict[tuple[str, str], Callable[[int], Deferred[Any]]] = {
    ("fabric", "serve"): fabric_serve,
    ("fabric", "drive"): fabric_drive,
    ("pika", "serve"): pika_serve,
    ("pika", "drive"): pika_drive,
}


def _ready(call: Call | None) -> None:
    orders = Orders(call or (lambda: Deferred()))
    StandardIO(orders)
    orders.sendLine(b"ready")


def _broken(failure: Any) -> None:
    failure.printTraceback(sys.stderr)
    reactor.stop()


def _main() -> None:
    implementation, side, port = sys.argv[1:4]
    reactor.callWhenRunning(lambda: SIDES[implementation, side](int(port)).addCallback(_ready).addErrback(_broken))
    reactor.run()


if __name__ == "__main__":
    _main()
