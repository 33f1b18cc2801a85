"""
A subscription: messages from one queue of the broker, held until finished with.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import ChannelClosed, Closed
from zope.interface import implementer

from fabric.errors import Unavailable
from fabric.rpc.amqp.channel import Channel, Delivery
from fabric.rpc.amqp.client import Client
from fabric.rpc.amqp.delegate import closed_by_broker
from fabric.rpc.interface import IListener

_REOPEN_SECONDS = 1.0


@attrs.define(eq=False)
class Held:
    """
    A message that is in work here.  When the connection is lost meanwhile, the
    broker delivers it again; then the channel and the delivery change under it.

    @ivar failures: how often it failed before, as far as is known.
    """

    channel: Channel
    delivery: Delivery
    failures: int
    timer: IDelayedCall | None = None


@implementer(IListener)
class Subscription:
    """
    Takes messages from a queue, also over later connections.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: str,
        prefetch: int,
        declare: Callable[[Client], Deferred[None]],
        work: Callable[[Held], None],
        gone: Callable[[Subscription], None],
    ) -> None:
        """
        @param declare: makes the queue, when there is none.
        @param work: called with each message; has to call C{finish} or C{retry}
            with it some time.
        @param gone: called when the subscription is stopped.
        """
        self._clock = clock
        self.queue = queue
        self._prefetch = prefetch
        self._declare = declare
        self._work = work
        self._gone = gone
        self._client: Client | None = None
        self._channel: Channel | None = None
        self._tag = ""
        self._held: dict[str, Held] = {}
        self._failures: dict[str, int] = {}
        self._stopping = False
        self._idle: list[Deferred[None]] = []
        self._reopening: IDelayedCall | None = None

    @inlineCallbacks
    def open(self, client: Client) -> Generator[Deferred[Any], Any, None]:
        """
        Begin to take messages over a connection.

        @raise Unavailable: the broker does not allow it.
        @raise Closed: the connection was lost.
        """
        self._client = client
        try:
            yield self._declare(client)
            channel = yield client.open_channel()
            channel.on_delivery = lambda delivery: self._delivered(channel, delivery)
            channel.on_closed = lambda reason: self._lost(channel, reason)
            yield channel.basic_qos(prefetch_count=self._prefetch)
            if self._stopping:
                return
            self._channel = channel
            answer = yield channel.basic_consume(queue=self.queue)
        except ChannelClosed as closed:
            raise Unavailable(service=self.queue, why=closed_by_broker(closed)[1]) from closed
        self._tag = answer.consumer_tag

    def reopen_later(self, client: Client) -> None:
        """Try to open it again after a while."""
        self._reopening = self._clock.callLater(_REOPEN_SECONDS, self._reopen, client)

    def finish(self, held: Held) -> None:
        """The message is done with: take it off the queue."""
        self._failures.pop(held.delivery.properties.message_id, None)
        held.channel.ack(held.delivery.tag)
        self._release(held)

    def retry(self, held: Held, seconds: float) -> None:
        """The message failed: give it back to the queue after some time, or now when stopping."""
        id = held.delivery.properties.message_id
        self._failures[id] = held.failures + 1
        while len(self._failures) > 10_000:
            del self._failures[next(iter(self._failures))]
        if self._stopping:
            self._give_back(held)
        else:
            held.timer = self._clock.callLater(seconds, self._give_back, held)

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """See L{IListener.stop}."""
        self._stopping = True
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        channel, self._channel = self._channel, None
        if channel is not None and not channel.closed:
            with suppress(Closed):
                yield channel.basic_cancel(consumer_tag=self._tag)
        for held in list(self._held.values()):
            if held.timer is not None and held.timer.active():
                held.timer.cancel()
                self._give_back(held)
        yield self._until_idle()
        if channel is not None and self._client is not None:
            yield self._client.close_channel(channel)
        self._gone(self)

    def _delivered(self, channel: Channel, delivery: Delivery) -> None:
        id = delivery.properties.message_id
        if id in self._held:
            self._held[id].channel, self._held[id].delivery = channel, delivery
            return
        if self._stopping:
            channel.nack(delivery.tag)
            return
        headers = delivery.properties.headers or {}
        counted = headers.get("x-delivery-count", 0)
        failures = max(self._failures.get(id, 0), counted if isinstance(counted, int) else 0)
        held = Held(channel, delivery, failures)
        self._held[id] = held
        self._work(held)

    def _give_back(self, held: Held) -> None:
        held.channel.nack(held.delivery.tag)
        self._release(held)

    def _release(self, held: Held) -> None:
        self._held.pop(held.delivery.properties.message_id, None)
        if not self._held:
            waiting, self._idle = self._idle, []
            for deferred in waiting:
                deferred.callback(None)

    def _until_idle(self) -> Deferred[None]:
        if not self._held:
            return succeed(None)
        deferred: Deferred[None] = Deferred()
        self._idle.append(deferred)
        return deferred

    def _lost(self, channel: Channel, reason: Any) -> None:
        """
        The channel is closed, or the broker sends no more over it.  With the
        connection gone the next one opens the subscription again.
        """
        if channel is not self._channel:
            return
        self._channel = None
        client = self._client
        if client is None or client.closed or self._stopping:
            return
        self.log.warn("queue {queue} was lost: {reason}", queue=self.queue, reason=closed_by_broker(reason)[1])
        client.close_channel(channel).addErrback(lambda _: None)
        self.reopen_later(client)

    def _reopen(self, client: Client) -> None:
        self._reopening = None
        if client.closed or client is not self._client:
            return

        def failed(failure: Failure) -> None:
            if not client.closed and not self._stopping:
                self.log.error("queue {queue}: {error}", queue=self.queue, error=failure.getErrorMessage())
                self.reopen_later(client)

        self.open(client).addErrback(failed)
