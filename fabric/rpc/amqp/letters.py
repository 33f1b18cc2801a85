"""
Dead letters in the broker.

They come in two ways: sent by L{fabric.rpc.amqp.serving.Server}, with the reason;
or by the broker itself, under the policy that etc/rabbitmq has, when a message
keeps killing its workers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric.rpc.amqp.channel import Delivery
from fabric.rpc.amqp.subscription import Held, Subscription
from fabric.rpc.dead import DeadLetter, OnDead
from fabric.rpc.envelope import BadEnvelope, Request, address_of, decode_request

ADDRESS, REASON = "x-fabric-address", "x-fabric-reason"
"""Headers of a dead letter."""


def letter_headers(delivery: Delivery, reason: str) -> dict[str, Any]:
    """The headers under which a message becomes a dead letter."""
    return {ADDRESS: delivery.routing_key, REASON: reason[:1000]}


def read_letter(delivery: Delivery) -> DeadLetter | None:
    """
    @return: the dead letter; C{None} for a call, which has failed at its caller.
    """
    if delivery.properties.reply_to:
        return None
    headers = delivery.properties.headers or {}
    key = headers.get(ADDRESS) or headers.get("x-first-death-queue") or delivery.routing_key
    reason = headers.get(REASON) or f"given up by the broker: {headers.get('x-first-death-reason', 'unknown')}"
    try:
        request = decode_request(delivery.body)
    except BadEnvelope:
        request = Request("", {})
    return DeadLetter(address_of(str(key)), request.method, request.arguments, str(reason))


class Undertaker:
    """
    Gives dead letters to a callback, and keeps those that it does not take.
    """

    log = Logger()

    def __init__(self, callback: OnDead, retry_seconds: float) -> None:
        self._callback = callback
        self._retry_seconds = retry_seconds
        self.subscription: Subscription | None = None

    def work(self, held: Held) -> None:
        """Offer a letter."""
        assert self.subscription is not None
        letter = read_letter(held.delivery)
        if letter is None:
            self.subscription.finish(held)
            return
        taken = maybeDeferred(self._callback, letter.address, letter.method, letter.arguments, letter.reason)
        taken.addCallbacks(partial(self._taken, held), partial(self._not_taken, held))

    def _taken(self, held: Held, _: None) -> None:
        assert self.subscription is not None
        self.subscription.finish(held)

    def _not_taken(self, held: Held, failure: Failure) -> None:
        assert self.subscription is not None
        self.log.failure("a dead letter was not taken", failure=failure)
        self.subscription.retry(held, self._retry_seconds)
