"""
Serving a worker from a subscription: which messages are taken, and what becomes
of each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed

from fabric.errors import UnknownMethod
from fabric.rpc.amqp.calls import Tally
from fabric.rpc.amqp.channel import Delivery
from fabric.rpc.amqp.content import Properties
from fabric.rpc.amqp.subscription import Held, Subscription
from fabric.rpc.dispatch import Dispatcher, Verdict
from fabric.rpc.envelope import BadEnvelope, Request, decode_request, encode_error
from fabric.rpc.interface import Context

Bury = Callable[[Delivery, str], Deferred[None]]

_LONGEST_WAIT = 30.0


class Server:
    """
    Gives a subscription's messages to a dispatcher.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        exchange: str,
        account: str,
        dispatcher: Dispatcher,
        bury: Bury,
        tally: Tally,
        max_deliveries: int,
        retry_seconds: float,
    ) -> None:
        """
        @param bury: sends a message, with a reason, to the dead letters.
        """
        self._clock = clock
        self._exchange = exchange
        self._account = account
        self._dispatcher = dispatcher
        self._bury = bury
        self._tally = tally
        self._max_deliveries = max_deliveries
        self._retry_seconds = retry_seconds
        self.subscription: Subscription | None = None

    def work(self, held: Held) -> None:
        """Work on a message."""
        delivery = held.delivery
        if not self._is_ours(delivery):
            self._finish(held)
        elif held.failures >= self._max_deliveries and not delivery.properties.reply_to:
            self._dead(held, f"delivered {held.failures} times and never finished")
        else:
            self._begin(held)

    def _begin(self, held: Held) -> None:
        delivery = held.delivery
        reply_to = delivery.properties.reply_to
        done = partial(self._done, held)
        try:
            request = decode_request(delivery.body)
        except BadEnvelope as bad:
            error = UnknownMethod(interface="", method="", why=str(bad))
            done(Verdict.DONE if reply_to else Verdict.DEAD, encode_error(error), str(bad))
            return
        context = self._context(request, delivery)
        if context.seconds <= 0:
            self.log.info(
                "{method} came too late and is not begun (request {request_id})",
                method=request.method,
                request_id=request.request_id,
            )
            self._finish(held)
            return
        self._dispatcher.handle(request, context, bool(reply_to), done)

    def _context(self, request: Request, delivery: Delivery) -> Context:
        sender = delivery.properties.user_id
        if request.deadline is None:
            return Context(request_id=request.request_id, sender=sender)
        left = request.deadline - self._clock.seconds()
        return Context(request_id=request.request_id, seconds=left, sender=sender)

    def _is_ours(self, delivery: Delivery) -> bool:
        """
        Whether a message came through our exchange, where the broker checks
        which topics an account may write to, and names its sender.
        """
        if delivery.exchange == self._exchange and delivery.properties.user_id:
            return True
        self.log.error(
            "dropped a message for {key} by {user!r} through exchange {exchange!r}",
            key=delivery.routing_key,
            user=delivery.properties.user_id,
            exchange=delivery.exchange,
        )
        return False

    def _done(self, held: Held, verdict: Verdict, reply: bytes, reason: str) -> None:
        reply_to = held.delivery.properties.reply_to
        if reply_to:
            self._reply(held, reply_to, reply)
            self._finish(held)
        elif verdict is Verdict.DONE:
            self._finish(held)
        elif verdict is Verdict.RETRY and held.failures + 1 < self._max_deliveries:
            self._retry(held)
        else:
            self._dead(held, reason)

    def _reply(self, held: Held, reply_to: str, reply: bytes) -> None:
        """Answer, unless the connection over which the answer has to go is lost."""
        properties = Properties(
            delivery_mode=1, correlation_id=held.delivery.properties.message_id, user_id=self._account
        )
        try:
            held.channel.publish("", reply_to, properties, reply)
        except (Closed, ValueError):
            return
        self._tally.sent += 1

    def _dead(self, held: Held, reason: str) -> None:
        self.log.error(
            "cast to {key} is dead after {count} deliveries: {reason}",
            key=held.delivery.routing_key,
            count=held.failures + 1,
            reason=reason,
        )

        def failed(failure: Failure) -> None:
            self.log.error("it could not be kept as a dead letter: {error}", error=failure.getErrorMessage())
            self._retry(held)

        self._bury(held.delivery, reason).addCallbacks(lambda _: self._finish(held), failed)

    def _retry(self, held: Held) -> None:
        assert self.subscription is not None
        self.subscription.retry(held, min(self._retry_seconds * 2.0 ** min(held.failures, 16), _LONGEST_WAIT))

    def _finish(self, held: Held) -> None:
        assert self.subscription is not None
        self.subscription.finish(held)
