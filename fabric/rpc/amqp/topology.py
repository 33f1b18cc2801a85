"""
What must exist in the broker: exchanges, queues and the bindings between them.

Declaring what exists already needs the same permission as making it, so that
an account of a host, which may make nothing but its own queue, only looks
first.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger
from txamqp.client import ChannelClosed

from fabric.rpc.amqp.channel import Channel
from fabric.rpc.amqp.client import Client
from fabric.rpc.amqp.delegate import closed_by_broker

_NOT_FOUND, _PRECONDITION_FAILED = 404, 406

_DEAD_KEPT = 100_000
"""Dead letters kept when nobody takes them; the oldest go first."""


@attrs.frozen
class Topology:
    """
    The names in use, and how queues are made.

    @ivar exchange: the topic exchange that messages are published to.
    @ivar queue_type: C{quorum} or C{classic}; both outlive the broker.
    """

    exchange: str = "fabric"
    queue_type: str = "quorum"
    log = Logger()

    @property
    def dead(self) -> str:
        """The exchange, and the queue, of dead letters."""
        return f"{self.exchange}.dead"

    @inlineCallbacks
    def declare_exchanges(self, client: Client) -> Generator[Deferred[Any], Any, None]:
        """
        Make the exchanges, unless they are there.

        @raise ChannelClosed: the account may not.
        """
        if not (yield self._exists(client, self.exchange)):
            channel = yield client.open_channel()
            yield channel.exchange_declare(exchange=self.exchange, type="topic", durable=True)
            yield client.close_channel(channel)
        if not (yield self._exists(client, self.dead)):
            yield self.declare_dead(client)

    @inlineCallbacks
    def declare_dead(self, client: Client) -> Generator[Deferred[Any], Any, None]:
        """Make the exchange and the queue of dead letters."""
        channel = yield client.open_channel()
        yield channel.exchange_declare(exchange=self.dead, type="fanout", durable=True)
        yield client.close_channel(channel)
        yield self._queue(client, self.dead, {"x-max-length": _DEAD_KEPT}, self.dead, "")

    def declare_place(self, client: Client, routing_key: str) -> Deferred[None]:
        """
        Make the queue of an address, and bind it.

        @raise ChannelClosed: the account may not.
        """
        return self._queue(client, routing_key, {}, self.exchange, routing_key)

    @inlineCallbacks
    def depths(self, client: Client, routing_keys: Iterable[str]) -> Generator[Deferred[Any], Any, dict[str, int]]:
        """
        How many messages wait in each of some queues; none in one that is not
        there.  One channel serves for all, but a new one is needed after each
        that is not there.
        """
        found: dict[str, int] = {}
        channel: Channel | None = None
        try:
            for key in routing_keys:
                if channel is None or channel.closed:
                    channel = yield client.open_channel()
                found[key] = yield self._depth(channel, key)
        finally:
            if channel is not None:
                client.let_go(channel)
        return found

    @inlineCallbacks
    def _depth(self, channel: Channel, routing_key: str) -> Generator[Deferred[Any], Any, int]:
        try:
            answer = yield channel.queue_declare(queue=routing_key, passive=True)
        except ChannelClosed as closed:
            if closed_by_broker(closed)[0] != _NOT_FOUND:
                raise
            return 0
        return int(answer.message_count)

    @inlineCallbacks
    def _exists(self, client: Client, exchange: str) -> Generator[Deferred[Any], Any, bool]:
        channel = yield client.open_channel()
        try:
            yield channel.exchange_declare(exchange=exchange, passive=True)
        except ChannelClosed as closed:
            if closed_by_broker(closed)[0] != _NOT_FOUND:
                raise
            return False
        yield client.close_channel(channel)
        return True

    @inlineCallbacks
    def _queue(
        self, client: Client, name: str, arguments: dict[str, Any], exchange: str, key: str
    ) -> Generator[Deferred[Any], Any, None]:
        """Make a queue and bind it; one that was made otherwise is used as it is."""
        channel = yield client.open_channel()
        try:
            arguments = {"x-queue-type": self.queue_type, **arguments}
            yield channel.queue_declare(queue=name, durable=True, arguments=arguments)
        except ChannelClosed as closed:
            code, text = closed_by_broker(closed)
            if code != _PRECONDITION_FAILED:
                raise
            self.log.warn("queue {queue} is used as it was made before: {text}", queue=name, text=text)
            channel = yield client.open_channel()
        yield channel.queue_bind(queue=name, exchange=exchange, routing_key=key)
        yield client.close_channel(channel)
