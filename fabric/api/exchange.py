"""
One request and its answer, between a connection and a door.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from socket import AF_INET6, IP_TTL, IPPROTO_IP, IPPROTO_IPV6, IPV6_UNICAST_HOPS, socket
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.api.interface import IExchange
from fabric.ids import new_request_id

if TYPE_CHECKING:
    from fabric.api.site import Channel

SERVER = b"cloud-fabric"

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_DRAINED = 8
"""A body of up to so many times the limit is read off and refused politely."""


class Headers:
    """
    A request's headers, as L{HTTPChannel} adds them and doors read them.
    """

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def addRawHeader(self, name: bytes, value: bytes) -> None:
        """
        Add one; a further one of the same name is joined with a comma.
        """
        key = name.decode("ascii").lower()
        text = value.decode("utf-8", "surrogateescape")
        values = self.values
        values[key] = f"{values[key]},{text}" if key in values else text

    def getRawHeaders(self, name: bytes, default: Any = None) -> Any:
        """
        @return: C{[value]}, or C{default}.
        """
        value = self.values.get(name.decode("ascii").lower())
        return default if value is None else [value.encode("utf-8", "surrogateescape")]


class _AnswerHeaders:
    """
    Where L{HTTPChannel} says that the connection will be closed; L{Exchange}
    says it by itself.
    """

    def setRawHeaders(self, name: Any, values: Any) -> None:
        """Nothing."""


_ANSWER_HEADERS = _AnswerHeaders()


@implementer(IExchange)
class Exchange:
    """
    One request and its answer, between L{Channel} and a door.
    """

    responseHeaders = _ANSWER_HEADERS

    def __init__(self, channel: Channel) -> None:
        self.channel: Channel | None = channel
        self.site = channel.site
        self.requestHeaders = Headers()
        self.headers = self.requestHeaders.values
        self.method = self.path = ""
        self.query = self.body = b""
        self.request_id = ""
        self.status = 0
        self.gone = False
        self._parts: list[bytes] = []
        self._received = 0
        self._old = False
        self._when_gone: Callable[[], None] | None = None

    # What HTTPChannel calls.

    def parseCookies(self) -> None:
        """Nothing: no door has cookies."""

    def gotLength(self, length: int | None) -> None:
        """
        All headers came.  A body far too long is refused before it is sent.
        """
        if length is not None and length > self.site.limits.body:
            asks_first = self.headers.pop("expect", None) is not None
            if asks_first or length > self.site.limits.body * _DRAINED:
                self._refuse_and_close()

    def handleContentChunk(self, data: bytes) -> None:
        """
        A part of the body, kept unless the whole is too long.
        """
        self._received += len(data)
        if self._received <= self.site.limits.body:
            self._parts.append(data)
        elif self._received > self.site.limits.body * _DRAINED and not self.gone:
            self._refuse_and_close()

    def requestReceived(self, method: bytes, uri: bytes, version: bytes) -> None:
        """
        The request is whole: pass it on to its door.
        """
        if self.gone or self.channel is None:
            return
        self.method = method.decode("ascii", "replace")
        path, _, self.query = uri.partition(b"?")
        self.path = path.decode("utf-8", "surrogateescape")
        self.body = b"".join(self._parts)
        self._parts = []
        self._old = version != b"HTTP/1.1"
        self.request_id = new_request_id()
        door = self.site.door(self.path)
        if door is None:
            self.answer(404, b"Nothing is here.\n", b"text/plain")
        elif self._received > self.site.limits.body:
            door.refuse(self, 413, "The request is too long")
        else:
            door.handle(self)

    def connectionLost(self, reason: Failure) -> None:
        """
        The client left.
        """
        self.gone = True
        self.channel = None
        act, self._when_gone = self._when_gone, None
        if act is not None:
            act()

    # What doors call.

    def when_gone(self, act: Callable[[], None]) -> None:
        """See L{IExchange.when_gone}."""
        self._when_gone = act

    @property
    def peer(self) -> str:
        """The client's address."""
        address = self.channel.getPeer() if self.channel is not None else None
        return address.host if isinstance(address, IPv4Address | IPv6Address) else str(address)

    def limit_hops(self, hops: int) -> None:
        """See L{IExchange.limit_hops}."""
        transport: Any = self.channel.transport if self.channel is not None else None
        handle = transport.getHandle() if _has_socket(transport) else None
        if isinstance(handle, socket):
            if handle.family == AF_INET6:
                handle.setsockopt(IPPROTO_IPV6, IPV6_UNICAST_HOPS, hops)
            handle.setsockopt(IPPROTO_IP, IP_TTL, hops)

    def answer(
        self, status: int, body: bytes, content_type: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        """See L{IExchange.answer}."""
        channel = self.channel
        if channel is None or self.status:
            return
        head = self._head(status, content_type, b"Content-Length: %d" % len(body), headers)
        channel.transport.write(head if self.method == "HEAD" else head + body)
        self._done(channel)

    def stream(self, status: int, chunks: Iterator[Any], content_type: bytes) -> Deferred[None]:
        """See L{IExchange.stream}."""
        channel = self.channel
        if channel is None or self.status:
            return _fired()
        framing = b"Connection: close" if self._old else b"Transfer-Encoding: chunked"
        channel.transport.write(self._head(status, content_type, framing, ()))
        return Stream(self, channel, chunks, chunked=not self._old).start()

    def _head(
        self, status: int, content_type: bytes, framing: bytes, headers: tuple[tuple[bytes, bytes], ...]
    ) -> bytes:
        self.status = status
        more = b"".join([b"%b: %b\r\n" % header for header in headers])
        if not self.channel.persistent and framing != b"Connection: close":  # type: ignore[union-attr]
            more += b"Connection: close\r\n"
        start = b"HTTP/1.1 %d %b\r\nServer: %b\r\nDate: %b\r\n" % (
            status,
            _REASONS.get(status, b"Unknown"),
            SERVER,
            self.site.date(),
        )
        request_id = self.request_id.encode()
        return b"%bContent-Type: %b\r\nx-amzn-RequestId: %b\r\n%b\r\n%b\r\n" % (
            start,
            content_type,
            request_id,
            framing,
            more,
        )

    def _done(self, channel: Channel) -> None:
        self.channel = None
        self._when_gone = None
        channel.requestDone(self)

    def _refuse_and_close(self) -> None:
        channel, self.channel = self.channel, None
        self.gone = True
        if channel is not None:
            channel.transport.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            channel.loseConnection()


@implementer(IPushProducer)
class Stream:
    """
    Sends chunks while the transport takes them, one a turn of the reactor.  A
    client that takes nothing for as long as a connection may be idle is cut off.
    """

    def __init__(self, exchange: Exchange, channel: Channel, chunks: Iterator[Any], chunked: bool) -> None:
        self._exchange = exchange
        self._channel = channel
        self._chunks = chunks
        self._chunked = chunked
        self._finished: Deferred[None] = Deferred()
        self._paused = False
        self._waiting = False
        self._ended = False
        self._stalled: IDelayedCall | None = None

    def start(self) -> Deferred[None]:
        """
        @return: see L{IExchange.stream}.
        """
        self._exchange.when_gone(self._client_left)
        self._channel.registerProducer(self, True)
        self._pull()
        return self._finished

    def pauseProducing(self) -> None:
        """The client is slow."""
        self._paused = True
        if self._stalled is None and not self._ended:
            site = self._exchange.site
            self._stalled = site.reactor.callLater(site.limits.idle, self._cut_off)

    def resumeProducing(self) -> None:
        """The client takes more."""
        self._forget_stall()
        if self._paused:
            self._paused = False
            self._pull_soon()

    def stopProducing(self) -> None:
        """The connection ends; L{_client_left} follows."""

    def _forget_stall(self) -> None:
        stalled, self._stalled = self._stalled, None
        if stalled is not None:
            stalled.cancel()

    def _cut_off(self) -> None:
        self._stalled = None
        self._channel.transport.abortConnection()

    def _pull_soon(self) -> None:
        if not self._waiting and not self._ended:
            self._waiting = True
            self._exchange.site.reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._waiting = False
        if not self._paused:
            self._pull()

    def _pull(self) -> None:
        if self._ended:
            return
        try:
            chunk = next(self._chunks, None)
        except Exception:
            self._fail(Failure())
            return
        if chunk is None:
            self._end()
        elif isinstance(chunk, Deferred):
            self._waiting = True
            chunk.addCallbacks(self._came, self._fail)
        else:
            self._send(chunk)

    def _came(self, data: bytes) -> None:
        self._waiting = False
        self._send(data)

    def _send(self, data: bytes) -> None:
        if self._ended:
            return
        if data:
            parts = (b"%x\r\n" % len(data), data, b"\r\n") if self._chunked else (data,)
            self._channel.transport.writeSequence(parts)
        if not self._paused:
            self._pull_soon()

    def _end(self) -> None:
        self._ended = True
        self._forget_stall()
        if self._chunked:
            self._channel.transport.write(b"0\r\n\r\n")
        self._channel.unregisterProducer()
        self._exchange._done(self._channel)
        self._finished.callback(None)

    def _fail(self, failure: Failure) -> None:
        if not self._ended:
            self._ended = True
            self._forget_stall()
            self._channel.unregisterProducer()
            self._channel.transport.abortConnection()
            self._finished.errback(failure)

    def _client_left(self) -> None:
        if not self._ended:
            self._ended = True
            self._forget_stall()
            self._channel.unregisterProducer()
            self._chunks = iter(())
            self._finished.callback(None)


def _fired() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    done.callback(None)
    return done


def _has_socket(transport: Any) -> bool:
    return bool(ITCPTransport.providedBy(transport))
