"""
The queue: calls and casts to the workers behind a topic.

An address is a topic (the first free worker takes the message) or a topic and a
host.  What a worker answers is a zope interface; callers hold a remote that
provides the same interface.  Arguments and answers are JSON values (None, bool,
int, float, str, list, dict with str keys); they pass through the same codec in
every implementation, so that nothing works in one process that would not
between two.

Delivery is at least once: a message is acknowledged after the work, so workers
are idempotent.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface
from zope.interface.interface import InterfaceClass


@attrs.frozen
class Address:
    """
    Where a message goes: C{topic}, or C{topic.host}.
    """

    topic: str
    host: str = ""

    @property
    def routing_key(self) -> str:
        """The AMQP routing key and queue name."""
        return f"{self.topic}.{self.host}" if self.host else self.topic


@attrs.frozen
class Context:
    """
    What travels with every message besides its arguments.

    @ivar request_id: of the user's request that caused it, for the logs.
    @ivar seconds: how long the caller waits; the work is not begun later.
    @ivar sender: filled in on delivery: the broker account that sent it,
        which the broker vouches for; empty in-process.
    """

    request_id: str = ""
    seconds: float = 30.0
    sender: str = ""


class IListener(Interface):
    """
    A worker's place on a queue.
    """

    def stop() -> Deferred[None]:
        """
        Take no more messages; fires when those held are finished.
        """


class IQueue(Interface):
    """
    A connection to the queue; reconnects by itself and sets up again all that
    was set up through it.
    """

    def caller(interface: InterfaceClass, address: Address, context: Context) -> Any:
        """
        @return: a provider of C{interface}.  Each method sends a call and
            returns a Deferred of the worker's answer, which fails with the
            worker's typed error; L{fabric.errors.DeadlineExceeded} when no
            answer came in time; L{fabric.errors.Unavailable} when the broker
            was lost meanwhile or nobody listens at the address;
            L{fabric.errors.UnknownMethod} where the worker is older.
        """

    def caster(interface: InterfaceClass, address: Address, context: Context) -> Any:
        """
        @return: a provider of C{interface}.  Each method sends a cast and
            returns a Deferred that fires with None when the broker has
            confirmed it; L{fabric.errors.Unavailable} when it could not.
            Casts have no deadline, whatever the context's C{seconds}: they wait
            in the queue for a worker, also where none has ever listened.  One
            that fails for no declared reason, or for a passing one, is tried
            again some times and then becomes a dead letter.
        """

    def listen(address: Address, interface: InterfaceClass, worker: Any, prefetch: int) -> Deferred[IListener]:
        """
        Serve C{worker}, a provider of C{interface}, at an address.  Each of
        its methods takes the message's L{Context} as the keyword argument
        C{context} besides what the interface lists, and may return a Deferred.
        At most C{prefetch} messages are in work at once.
        """

    def depths() -> Deferred[dict[str, int]]:
        """
        How many messages wait at each address that this connection knows: a
        question for each of them.
        """

    def ping() -> Deferred[None]:
        """
        Ask the queue something small.

        @return: fires when it has answered; fails with
            L{fabric.errors.Unavailable} when there is no connection, or when
            the broker takes no messages now.
        """

    def stop() -> Deferred[None]:
        """
        Stop every listener gracefully, then close.
        """
