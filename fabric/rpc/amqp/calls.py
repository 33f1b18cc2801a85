"""
Calls on their way: sent with RabbitMQ's direct reply-to, and answered or failed.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric.errors import DeadlineExceeded, FabricError, Unavailable
from fabric.rpc.amqp.channel import Channel, Delivery
from fabric.rpc.amqp.client import Client
from fabric.rpc.amqp.content import Properties
from fabric.rpc.deadlines import Deadlines
from fabric.rpc.envelope import decode_reply, encode_request
from fabric.rpc.interface import Address, Context
from fabric.rpc.measure import QueueMetrics

REPLY_TO = "amq.rabbitmq.reply-to"


@attrs.define
class Tally:
    """
    How many messages were sent, replies included.
    """

    sent: int = 0


class MessageIds:
    """
    Ids that no other message has.
    """

    def __init__(self) -> None:
        self._prefix = os.urandom(9).hex()
        self._count = 0

    def next(self) -> str:
        """A fresh id."""
        self._count += 1
        return f"{self._prefix}.{self._count:x}"


class _Call:
    """A call whose answer is awaited."""

    __slots__ = ("address", "began", "body", "context", "deferred", "method", "sent")

    def __init__(self, address: Address, context: Context, method: str, body: bytes, began: float) -> None:
        self.address = address
        self.context = context
        self.method = method
        self.body = body
        self.began = began
        self.sent = False
        self.deferred: Deferred[Any] = Deferred()


class Calls:
    """
    The calls of one queue.  One that is sent when the broker is lost fails; one
    that waits for a connection is sent when there is one, if that is soon.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        exchange: str,
        account: str,
        patience: float,
        tally: Tally,
        metrics: QueueMetrics | None,
    ) -> None:
        """
        @param patience: seconds for which a call waits for a connection.
        """
        self._clock = clock
        self._exchange = exchange
        self._account = account
        self._patience = patience
        self._tally = tally
        self._metrics = metrics
        self._ids = MessageIds()
        self._calls: dict[str, _Call] = {}
        self._deadlines: Deadlines[str] = Deadlines(clock, self._expired)
        self._channel: Channel | None = None

    @inlineCallbacks
    def up(self, client: Client) -> Generator[Deferred[Any], Any, None]:
        """There is a connection: listen for replies and send what waits."""
        channel = yield client.open_channel()
        channel.on_delivery = self._reply
        channel.on_return = self._returned
        channel.on_closed = lambda reason: self._down(client)
        yield channel.basic_consume(queue=REPLY_TO, no_ack=True)
        self._channel = channel
        for id, call in list(self._calls.items()):
            if not call.sent:
                self._send(id, call)

    def call(self, address: Address, context: Context, method: str, arguments: dict[str, Any]) -> Deferred[Any]:
        """Make a call; see L{fabric.rpc.interface.IQueue.caller}."""
        began = self._clock.seconds()
        body = encode_request(method, arguments, context.request_id, began + context.seconds)
        call = _Call(address, context, method, body, began)
        id = self._ids.next()
        self._calls[id] = call
        self._deadlines.add(context.seconds, id)
        if self._channel is not None:
            self._send(id, call)
        elif self._patience < context.seconds:
            self._deadlines.add(self._patience, id)
        return call.deferred

    def stop(self) -> None:
        """Fail what is still awaited."""
        self._channel = None
        self._deadlines.stop()
        for id, call in list(self._calls.items()):
            self._fail(id, Unavailable(service=call.address.routing_key, why="the queue is stopped"))

    def _send(self, id: str, call: _Call) -> None:
        assert self._channel is not None
        left = call.began + call.context.seconds - self._clock.seconds()
        properties = Properties(
            delivery_mode=1,
            reply_to=REPLY_TO,
            expiration=str(max(1, int(left * 1000))),
            message_id=id,
            user_id=self._account,
        )
        call.sent = True
        self._tally.sent += 1
        try:
            self._channel.publish(self._exchange, call.address.routing_key, properties, call.body, mandatory=True)
        except ValueError as wrong:
            self._fail(id, Unavailable(service=call.address.routing_key, why=str(wrong)))

    def _reply(self, delivery: Delivery) -> None:
        id = delivery.properties.correlation_id
        if id not in self._calls:
            self.log.debug("late reply dropped: {id}", id=id)
            return
        try:
            answer = decode_reply(delivery.body)
        except FabricError as error:
            self._fail(id, error)
        else:
            self._finish(id, "ok", answer)

    def _returned(self, delivery: Delivery) -> None:
        self._fail(delivery.properties.message_id, Unavailable(service=delivery.routing_key, why="nobody listens"))

    def _expired(self, id: str) -> None:
        """A call's time is over, or its patience when it is not sent."""
        call = self._calls.get(id)
        if call is None:
            return
        seconds = call.context.seconds
        if not call.sent:
            self._fail(id, Unavailable(service=call.address.routing_key, why="no connection to the broker"))
        elif self._clock.seconds() - call.began >= seconds:
            self._fail(id, DeadlineExceeded(what=f"{call.address.routing_key} {call.method}", seconds=seconds))

    def _down(self, client: Client) -> None:
        """
        The channel is lost, and with it the answers to all that was sent.  The
        channel alone is lost only by a fault; then the connection goes too.
        """
        self._channel = None
        for id, call in list(self._calls.items()):
            if call.sent:
                self._fail(id, Unavailable(service=call.address.routing_key, why="the broker was lost"))
        if not client.closed:
            client.transport.loseConnection()

    def _fail(self, id: str, error: FabricError) -> None:
        self._finish(id, type(error).__name__, Failure(error))

    def _finish(self, id: str, outcome: str, result: Any) -> None:
        call = self._calls.pop(id, None)
        if call is None:
            return
        if self._metrics is not None:
            self._metrics.call(call.address.topic, call.method, outcome, self._clock.seconds() - call.began)
        call.deferred.callback(result)
