"""
Casts on their way: kept until the broker has confirmed them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric.errors import Unavailable
from fabric.rpc.amqp.calls import MessageIds, Tally
from fabric.rpc.amqp.channel import Channel, Delivery
from fabric.rpc.amqp.client import Client
from fabric.rpc.amqp.content import Properties
from fabric.rpc.amqp.delegate import closed_by_broker
from fabric.rpc.deadlines import Deadlines

Declare = Callable[[Client], Deferred[None]]


@attrs.define(eq=False)
class Cast:
    """
    A message that the broker has not confirmed.

    @ivar declare: makes the queue that it is for, when there is none.
    """

    exchange: str
    routing_key: str
    body: bytes
    declare: Declare
    headers: dict[str, Any] | None = None
    declared: bool = False
    returned: bool = False
    refused: bool = False
    deferred: Deferred[None] = attrs.field(factory=Deferred)


REFUSED_AGAIN = 0.2
"""Seconds until a message that the broker refused is sent again."""


class Casts:
    """
    The casts of one queue.  When the connection is lost, those without a
    confirmation are sent again over the next one, unless that comes too late.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, account: str, patience: float, tally: Tally) -> None:
        """
        @param patience: seconds for which a cast waits for its confirmation.
        """
        self._account = account
        self._patience = patience
        self._tally = tally
        self._ids = MessageIds()
        self._casts: dict[str, Cast] = {}
        self._deadlines: Deadlines[str] = Deadlines(clock, self._expired)
        self._channel: Channel | None = None
        self._client: Client | None = None
        self._waiting: list[Deferred[None]] = []
        self._clock = clock
        self._refused: list[str] = []
        self._again: IDelayedCall | None = None

    @inlineCallbacks
    def up(self, client: Client) -> Generator[Deferred[Any], Any, None]:
        """There is a connection: send what waits, and again what may be lost."""
        channel = yield client.open_channel()
        channel.on_return = self._returned
        channel.on_confirm = self._confirmed
        channel.on_closed = lambda reason: self._down(client)
        yield channel.confirm_select()
        self._channel, self._client = channel, client
        for id, cast in list(self._casts.items()):
            self._publish(id, cast)

    def send(self, cast: Cast) -> Deferred[None]:
        """
        @return: fires when the broker has the message.
        @raise Unavailable: it has not, as far as is known.
        """
        id = self._ids.next()
        self._casts[id] = cast
        self._deadlines.add(self._patience, id)
        if self._channel is not None:
            self._publish(id, cast)
        return cast.deferred

    def finished(self) -> Deferred[None]:
        """Fires when nothing waits for a confirmation."""
        deferred: Deferred[None] = Deferred()
        self._waiting.append(deferred)
        self._tell_finished()
        return deferred

    def stop(self) -> None:
        """Fail what is not confirmed."""
        self._channel = self._client = None
        self._deadlines.stop()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for id in list(self._casts):
            self._fail(id, "the queue is stopped")

    def _publish(self, id: str, cast: Cast) -> None:
        assert self._channel is not None
        properties = Properties(headers=cast.headers, delivery_mode=2, message_id=id, user_id=self._account)
        self._tally.sent += 1
        try:
            self._channel.publish(cast.exchange, cast.routing_key, properties, cast.body, mandatory=True, key=id)
        except (TypeError, ValueError) as wrong:
            self._fail(id, str(wrong))

    def _returned(self, delivery: Delivery) -> None:
        """No queue took a message; its confirmation comes next."""
        cast = self._casts.get(delivery.properties.message_id)
        if cast is not None:
            cast.returned = True

    def _confirmed(self, id: str, taken: bool) -> None:
        cast = self._casts.get(id)
        if cast is None:
            return
        if not taken:  # as a queue does of which the members have not chosen a leader yet
            cast.refused = True
            self._refused.append(id)
            if self._again is None:
                self._again = self._clock.callLater(REFUSED_AGAIN, self._send_again)
        elif not cast.returned:
            self._finish(id, None)
        elif cast.declared or self._client is None:
            self._fail(id, "nobody listens")
        else:
            cast.declared, cast.returned = True, False
            self._make_place(self._client, id, cast)

    def _send_again(self) -> None:
        """Try once more what the broker refused, for as long as there is patience."""
        self._again = None
        ids, self._refused = self._refused, []
        for id in ids:
            if id in self._casts and self._channel is not None:
                self._publish(id, self._casts[id])

    def _make_place(self, client: Client, id: str, cast: Cast) -> None:
        """No worker has ever listened there: make its queue, so that the cast can wait for it."""

        def made(_: None) -> None:
            if self._channel is not None and id in self._casts:
                self._publish(id, cast)

        def refused(failure: Failure) -> None:
            code, text = closed_by_broker(failure.value)
            if code or client is self._client:
                self._fail(id, f"nobody listens, and no queue could be made: {text}")

        cast.declare(client).addCallbacks(made, refused)

    def _down(self, client: Client) -> None:
        """The channel is lost; alone only by a fault, and then the connection goes too."""
        self._channel = self._client = None
        for cast in self._casts.values():
            cast.returned = False
        if not client.closed:
            client.transport.loseConnection()

    def _expired(self, id: str) -> None:
        refused = self._casts[id].refused if id in self._casts else False
        kept = "the broker refused it" if refused else "the broker did not confirm it"
        self._fail(id, "no connection to the broker" if self._channel is None else kept)

    def _fail(self, id: str, why: str) -> None:
        cast = self._casts.get(id)
        if cast is not None:
            self._finish(id, Failure(Unavailable(service=cast.routing_key, why=why)))

    def _finish(self, id: str, result: Any) -> None:
        cast = self._casts.pop(id)
        cast.deferred.callback(result)
        self._tell_finished()

    def _tell_finished(self) -> None:
        if not self._casts:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)
