"""
Tests for L{fabric.rpc.amqp.subscription}: messages that come more than once.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.rpc.amqp.channel import Delivery
from fabric.rpc.amqp.content import Properties
from fabric.rpc.amqp.subscription import Held, Subscription


class FakeChannel:
    """
    Remembers which messages are finished with.
    """

    def __init__(self) -> None:
        self.acked: list[int] = []
        self.closed = False
        self.on_delivery: Any = None

    def ack(self, tag: int) -> None:
        self.acked.append(tag)

    def basic_cancel(self, consumer_tag: str) -> Deferred[None]:
        return succeed(None)

    def basic_qos(self, prefetch_count: int) -> Deferred[None]:
        return succeed(None)

    def basic_consume(self, queue: str) -> Deferred[Any]:
        return succeed(SimpleNamespace(consumer_tag="c"))

    def come(self, tag: int, id: str) -> None:
        """A message comes."""
        self.on_delivery(Delivery(tag, False, "fabric", "cloud", properties=Properties(message_id=id)))


class SubscriptionTests(SynchronousTestCase):
    """
    A subscription to a queue in which one message is twice, or comes again.
    """

    def setUp(self) -> None:
        self.held: list[Held] = []
        self.gone: list[Subscription] = []
        self.subscription = Subscription(
            Clock(), "cloud", 2, lambda client: succeed(None), self.held.append, self.gone.append
        )

    def close(self, channel: FakeChannel) -> Deferred[None]:
        """What is not acknowledged on a closed channel, the broker delivers again."""
        channel.closed = True
        return succeed(None)

    def connect(self) -> FakeChannel:
        """Open the subscription over a new connection."""
        channel = FakeChannel()
        client: Any = SimpleNamespace(
            open_channel=lambda: succeed(channel), closed=False, close_channel=self.close, let_go=self.close
        )
        self.subscription.open(client)
        return channel

    def test_sent_twice(self) -> None:
        """
        Of a message that its sender sent again while the first copy is in work, each copy is acknowledged once: none
        keeps one of the places for messages in work.
        """
        channel = self.connect()
        channel.come(1, "a")
        channel.come(2, "a")
        self.assertEqual(len(self.held), 1)
        self.assertEqual(channel.acked, [1])
        self.subscription.finish(self.held[0])
        self.assertEqual(channel.acked, [1, 2])

    def test_delivered_again(self) -> None:
        """A message that comes again over the next connection is acknowledged there, when the work is done."""
        first = self.connect()
        first.come(1, "a")
        second = self.connect()
        second.come(7, "a")
        self.assertEqual((first.acked, second.acked), ([], []))
        self.subscription.finish(self.held[0])
        self.assertEqual((len(self.held), first.acked, second.acked), (1, [], [7]))

    def test_stopped(self) -> None:
        """A stop waits for what is in work."""
        channel = self.connect()
        channel.come(1, "a")
        stopped = self.subscription.stop()
        self.assertNoResult(stopped)
        self.subscription.finish(self.held[0])
        self.successResultOf(stopped)
        self.assertEqual((channel.acked, channel.closed), ([1], True))

    def test_given_up(self) -> None:
        """
        Once a stop that waits for what is in work is cancelled, that is over: no later stop, as that of the whole
        queue, waits for it again, and the broker has it back.
        """
        channel = self.connect()
        channel.come(1, "a")
        stopped = self.subscription.stop()
        stopped.cancel()
        self.failureResultOf(stopped, CancelledError)
        self.assertEqual((self.gone, channel.closed), ([self.subscription], True))
        self.successResultOf(self.subscription.stop())
        self.subscription.finish(self.held[0])
