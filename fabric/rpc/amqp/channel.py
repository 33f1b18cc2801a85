"""
A channel: one sequence of publishes, deliveries and answers on a connection.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from struct import Struct
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from txamqp.client import Closed
from txamqp.connection import Frame
from txamqp.connection import Method as MethodPayload
from txamqp.protocol import AMQChannel

from fabric.rpc.amqp.content import Properties, pack_header, short, unpack_header
from fabric.rpc.amqp.frames import BODY, HEADER, METHOD, pack_frame

_PUBLISH = b"\x00\x3c\x00\x28\x00\x00"  # class basic, method publish, reserved
_ACKNOWLEDGE = Struct("!BHIHHQBB")  # a whole frame of basic.ack, or of basic.nack
_TAG = Struct("!QB")


@attrs.define
class Delivery:
    """
    A message as it came from the broker.

    @ivar reply_text: why the broker returned it; empty for a delivery.
    """

    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    reply_text: str = ""
    properties: Properties = attrs.field(factory=Properties)
    body: bytes = b""


class Channel(AMQChannel):  # type: ignore[misc]
    """
    txamqp's channel, with a way of its own for messages, which are most of the
    traffic: packed and unpacked here, without the generic codec.

    Whoever opens a channel sets the C{on_…} attributes that it needs.

    @ivar on_delivery: takes each L{Delivery}.
    @ivar on_return: takes each that no queue took, as a L{Delivery}.
    @ivar on_confirm: takes the key of a publish, and whether the broker took it.
    @ivar on_closed: takes the reason, when the channel or the connection is
        lost but not when L{Client.close_channel} closed it.
    """

    log = Logger()

    def __init__(self, id: int, outgoing: Any, client: Any) -> None:
        AMQChannel.__init__(self, id, outgoing, client)
        self.on_delivery: Callable[[Delivery], None] = _ignore
        self.on_return: Callable[[Delivery], None] = _ignore
        self.on_confirm: Callable[[str, bool], None] = _ignore
        self.on_closed: Callable[[Any], None] = _ignore
        self._unconfirmed: dict[int, str] = {}
        self._published = 0
        self._closing = False
        self._coming: Delivery | None = None
        self._missing = 0
        self._chunks: list[bytes] = []

    def invoke(self, method: Any, args: tuple[Any, ...], content: Any = None) -> Deferred[Any]:
        """
        Send a method and return its answer.

        @raise TypeError, ValueError: in the Deferred, when an argument can't be
            said in AMQP; nothing was sent then.
        """
        if method.content:
            return fail(TypeError("messages are sent by publish()"))
        answer: Deferred[Any] = AMQChannel.invoke(self, method, args)
        return answer

    def publish(
        self,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        mandatory: bool = False,
        key: str | None = None,
    ) -> None:
        """
        Send a message, whole or not at all.

        @param key: given to C{on_confirm} later; for a channel in confirm mode.
        @raise Closed: the channel is closed.
        @raise TypeError, ValueError: a property can't be said in AMQP.
        """
        if self.closed:
            self._raise_closed(self.reason)
        method = b"".join((_PUBLISH, short(exchange), short(routing_key), b"\1" if mandatory else b"\0"))
        parts = [
            pack_frame(METHOD, self.id, method),
            pack_frame(HEADER, self.id, pack_header(len(body), properties)),
        ]
        step = self.client.body_limit
        for at in range(0, len(body), step):
            parts.append(pack_frame(BODY, self.id, body[at : at + step]))
        if key is not None:
            self._published += 1
            self._unconfirmed[self._published] = key
        self.client.write(b"".join(parts))

    def ack(self, tag: int) -> None:
        """Tell the broker that a message is finished with; nothing when the channel is closed."""
        if not self.closed:
            self.client.write(_ACKNOWLEDGE.pack(METHOD, self.id, 13, 60, 80, tag, 0, 0xCE))

    def nack(self, tag: int) -> None:
        """Give a message back to its queue; nothing when the channel is closed."""
        if not self.closed:
            self.client.write(_ACKNOWLEDGE.pack(METHOD, self.id, 13, 60, 120, tag, 2, 0xCE))

    def deliver(self, payload: bytes) -> None:
        """A C{basic.deliver} came: a message begins."""
        at = 5 + payload[4]
        tag, redelivered = _TAG.unpack_from(payload, at)
        exchange, at = _short(payload, at + 9)
        self._coming = Delivery(tag, bool(redelivered), exchange, _short(payload, at)[0])

    def returned(self, payload: bytes) -> None:
        """A C{basic.return} came: a message of ours comes back."""
        reply_text, at = _short(payload, 6)
        exchange, at = _short(payload, at)
        self._coming = Delivery(0, False, exchange, _short(payload, at)[0], reply_text or "returned")

    def header(self, payload: bytes) -> None:
        """The header of the message that began."""
        if self._coming is None:
            raise ValueError("a content header without a method")
        self._missing, self._coming.properties = unpack_header(payload)
        if not self._missing:
            self._complete(b"")

    def content(self, payload: bytes) -> None:
        """A piece of the body of the message that began."""
        self._missing -= len(payload)
        if self._missing:
            self._chunks.append(payload)
        elif self._chunks:
            self._chunks.append(payload)
            self._complete(b"".join(self._chunks))
            self._chunks = []
        else:
            self._complete(payload)

    def confirmed(self, payload: bytes, taken: bool) -> None:
        """The broker took, or refused, one of our messages, or all up to one."""
        tag, flags = _TAG.unpack_from(payload, 4)
        if flags & 1:
            tags = list(takewhile(lambda published: published <= tag, self._unconfirmed))
        else:
            tags = [tag]
        for published in tags:
            key = self._unconfirmed.pop(published, None)
            if key is not None:
                self.on_confirm(key, taken)

    def receive(self, payload: MethodPayload) -> None:
        """An answer to C{invoke}."""
        self.responses.put(Frame(self.id, payload))

    def do_close(self, reason: Any) -> None:
        """
        The channel is lost: fail who waits for an answer, and tell the owner.
        """
        if self.closed:
            return
        silent: bool = self._closing
        self._closing = True  # txamqp's own notice comes too early for us
        AMQChannel.do_close(self, reason)
        if self.client.channels.get(self.id) is self and self.id:
            del self.client.channels[self.id]
        if not silent:
            self.on_closed(reason)

    def close(self, reason: Any) -> None:
        """The connection is lost."""
        self.do_close(reason)

    def closed_by_us(self) -> None:
        """The broker has agreed to close the channel."""
        self._closing = True
        self.do_close(Closed("closed here"))

    def _complete(self, body: bytes) -> None:
        delivery, self._coming = self._coming, None
        if delivery is None:
            raise ValueError("a body without a method")
        delivery.body = body
        (self.on_return if delivery.reply_text else self.on_delivery)(delivery)


def _ignore(*_: Any) -> None:
    """For a channel whose owner does not care."""


def _short(payload: bytes, at: int) -> tuple[str, int]:
    """The short string at a place, and the place behind it."""
    end = at + 1 + payload[at]
    return payload[at + 1 : end].decode("utf-8", "surrogateescape"), end
