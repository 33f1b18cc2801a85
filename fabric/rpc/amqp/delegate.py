"""
What a client does when the broker speaks first.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from txamqp.client import Closed, TwistedDelegate
from txamqp.message import Message

from fabric.errors import Unavailable

CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}
"""RabbitMQ only uses its extensions with clients that name them."""


class Delegate(TwistedDelegate):  # type: ignore[misc]
    """
    A method for everything that RabbitMQ may send unasked.
    """

    log = Logger()

    def connection_start(self, ch: Any, msg: Message) -> None:
        """The broker wants to know who this is."""
        ch.connection_start_ok(
            client_properties={"product": self.client.product, "capabilities": CAPABILITIES},
            mechanism=self.client.mechanism,
            response=self.client.response,
            locale=self.client.locale,
        )

    def connection_tune(self, ch: Any, msg: Message) -> None:
        """The broker names its limits."""
        channel_max, frame_max, heartbeat = self.client.tuned(msg.channel_max, msg.frame_max, msg.heartbeat)
        ch.connection_tune_ok(channel_max, frame_max, heartbeat)
        self.client.started.fire()

    def connection_blocked(self, ch: Any, msg: Message) -> None:
        """The broker is short of memory or disk and holds messages up."""
        self.client.blocked = str(msg.reason)
        self.log.warn("the broker takes no messages now: {reason}", reason=msg.reason)

    def connection_unblocked(self, ch: Any, msg: Message) -> None:
        """The broker takes messages again."""
        self.client.blocked = ""
        self.log.info("the broker takes messages again")

    def connection_close(self, ch: Any, msg: Message) -> None:
        """The broker ends the connection, and says why."""
        ch.connection_close_ok()
        self.client.do_close(msg)

    def channel_close(self, ch: Any, msg: Message) -> None:
        """The broker ends a channel, and says why."""
        ch.channel_close_ok()
        ch.do_close(msg)

    def basic_cancel(self, ch: Any, msg: Message) -> None:
        """The queue of a consumer is gone, or moved to another node."""
        why = Unavailable(service=str(msg.consumer_tag), why="the broker cancelled the consumer")
        ch.on_closed(why)

    def close(self, reason: Any) -> None:
        """The client is closed: tell who waits for its start, and hang up."""
        self.client.started.fail_if_not_fired(Closed(reason))
        self.client.transport.loseConnection()


def closed_by_broker(reason: Any) -> tuple[int, str]:
    """
    The broker's reply code and text in a reason for closing, or 0 and a text.
    """
    if isinstance(reason, Closed) and reason.args:
        return closed_by_broker(reason.args[0])
    if isinstance(reason, Message):
        return int(reason.reply_code), str(reason.reply_text)
    reason = getattr(reason, "value", reason)
    return 0, f"{type(reason).__name__}: {reason}"
