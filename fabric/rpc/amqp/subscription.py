"""
A subscription: messages from one queue of the broker, held until finished with.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed
from zope.interface import implementer

from fabric.errors import Denied, Unavailable
from fabric.rpc.amqp.channel import Channel, Delivery
from fabric.rpc.amqp.client import Client
from fabric.rpc.amqp.delegate import closed_by_broker
from fabric.rpc.interface import IListener

_OPEN_SECONDS = 15.0
_REOPEN_SECONDS = 1.0
_ACCESS_REFUSED = 403


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

    @ivar ready: fires with the subscription when it takes messages for the
        first time; fails with L{Denied} when the broker does not allow it.
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
        self.ready: Deferred[IListener] = Deferred()
        self._client: Client | None = None
        self._channel: Channel | None = None
        self._tag = ""
        self._held: dict[str, Held] = {}
        self._failures: dict[str, int] = {}
        self._stopping = False
        self._idle: list[Deferred[None]] = []
        self._reopening: IDelayedCall | None = None

    def open(self, client: Client) -> None:
        """
        Begin to take messages over a connection; tried again while it lasts.
        """
        if self._stopping:
            return
        self._client = client
        opening = self._open(client).addTimeout(_OPEN_SECONDS, self._clock)
        opening.addCallbacks(self._opened, partial(self._failed, client)).addErrback(self._broken)

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
        """
        See L{IListener.stop}.  When it is cancelled, nobody waits any more for
        what is in work: the broker delivers that again.
        """
        self._stopping = True
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        channel, self._channel = self._channel, None
        try:
            yield self._wind_up(channel)
        finally:
            self._held.clear()
            if channel is not None and self._client is not None:
                self._client.let_go(channel)
            self._gone(self)
        if not self.ready.called:
            self.ready.errback(Unavailable(service=self.queue, why="stopped before it was connected"))

    @inlineCallbacks
    def _wind_up(self, channel: Channel | None) -> Generator[Deferred[Any], Any, None]:
        """Take no more messages, and see those in work to their end."""
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

    def _delivered(self, channel: Channel, delivery: Delivery) -> None:
        id = delivery.properties.message_id
        held = self._held.get(id)
        if held is not None:
            if held.channel is channel:
                # Not delivered again but sent again, by one who missed its confirmation: both copies are in
                # the queue.  One is enough, and the other must not keep its place among those in work.
                channel.ack(held.delivery.tag)
            held.channel, held.delivery = channel, delivery
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

    @inlineCallbacks
    def _open(self, client: Client) -> Generator[Deferred[Any], Any, None]:
        channel: Channel | None = None
        try:
            yield self._declare(client)
            channel = yield client.open_channel()
            channel.on_delivery = partial(self._delivered, channel)
            channel.on_closed = partial(self._lost, channel)
            yield channel.basic_qos(prefetch_count=self._prefetch)
            answer = yield channel.basic_consume(queue=self.queue)
        except BaseException:
            if channel is not None:
                client.close_channel(channel).addErrback(self._broken)
            raise
        if self._stopping:
            yield client.close_channel(channel)
            return
        self._channel, self._tag = channel, answer.consumer_tag

    def _opened(self, _: None) -> None:
        if not self.ready.called:
            self.ready.callback(self)

    def _failed(self, client: Client, failure: Failure) -> None:
        """Who asked is told when it is not allowed; anything else is tried again."""
        code, text = closed_by_broker(failure.value)
        if code == _ACCESS_REFUSED and not self.ready.called:
            self._stopping = True
            self._gone(self)
            self.ready.errback(Denied(who="this broker account", what=text))
        elif not client.closed and not self._stopping:
            self.log.error("queue {queue} can't be used now: {text}", queue=self.queue, text=text)
            self._reopening = self._clock.callLater(_REOPEN_SECONDS, self._reopen, client)

    def _reopen(self, client: Client) -> None:
        self._reopening = None
        if not client.closed and client is self._client:
            self.open(client)

    def _broken(self, failure: Failure) -> None:
        self.log.failure("queue {queue}", failure=failure, queue=self.queue)

    def _lost(self, channel: Channel, reason: Any) -> None:
        """
        The channel is closed, or the broker sends no more over it.  With the
        connection gone the next one opens the subscription again.
        """
        client = self._client
        if channel is not self._channel or client is None:
            return
        self._channel = None
        if not client.closed and not self._stopping:
            client.close_channel(channel).addErrback(self._broken)
            self._failed(client, Failure(Closed(reason)))
