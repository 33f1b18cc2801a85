"""
The HTTP server of the object store: bodies pass through it in pieces, either way.

The doors of C{fabric.api} take a request whole, which suits their small ones.
Here a request is handed over when its headers are there, and each part of its
body as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from zope.interface import implementer

from fabric.objectstore.interface import IHandler, IRequest

Start = Callable[[Any], IHandler]
"""Makes the handler of an L{IRequest}, when its headers are there."""

IDLE = 60.0
"""Seconds for which a connection may be silent."""

_Request: Any = Request
_HTTPChannel: Any = HTTPChannel
"""Twisted has no types for these."""


@implementer(IProtocolNegotiationFactory)
class Site(ServerFactory):
    """
    The factory of connections.

    @param routes: what answers, by the first part of the path, as C{/_images};
        that of C{""} answers for all others.
    """

    noisy = False

    def __init__(self, reactor: IReactorTime, routes: Mapping[str, Start], idle: float = IDLE) -> None:
        self.reactor = reactor
        self.idle = idle
        self._routes = routes

    def acceptableProtocols(self) -> list[bytes]:
        """See L{IProtocolNegotiationFactory}: a client that asks over TLS, as most do, is not answered by none."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: Any) -> Any:
        """
        @return: a connection.
        """
        channel = _HTTPChannel()
        channel.factory = self
        channel.requestFactory = lambda channel, queued=0: Exchange(channel, self)
        channel.timeOut = self.idle
        channel.callLater = self.reactor.callLater
        return channel

    def log(self, request: Any) -> None:
        """What L{Request.finish} tells; handlers log by themselves."""

    def start(self, request: Any) -> IHandler:
        """
        @return: what answers a request.
        """
        first = "/" + request.place.lstrip("/").partition("/")[0]
        start = self._routes.get(first) or self._routes.get("")
        return start(request) if start is not None else Refusal(request, 404, "nothing is here")


@implementer(IRequest)
class Exchange(_Request):  # type: ignore[misc]
    """
    One request and its answer.
    """

    log = Logger()

    def __init__(self, channel: Any, site: Site) -> None:
        super().__init__(channel)
        self._site = site
        self._handler: IHandler | None = None
        self.verb = self.place = self.asked = ""
        self.length: int | None = None
        self.gone = False

    # What HTTPChannel calls.

    def gotLength(self, length: int | None) -> None:
        """The headers are there."""
        channel: Any = self.channel
        path, _, query = channel._path.partition(b"?")
        self.verb = channel._command.decode("ascii", "replace")
        self.place = path.decode("utf-8", "replace")
        self.asked = query.decode("utf-8", "replace")
        self.length = length
        self._handler = self._site.start(self)

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body."""
        if self._handler is not None:
            self._handler.received(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The request is whole."""
        self.method, self.uri, self.clientproto, self.path = command, path, version, path.partition(b"?")[0]
        if self._handler is not None:
            self._handler.whole()

    def connectionLost(self, reason: Failure) -> None:
        """The client left."""
        self.gone = True
        if self._handler is not None:
            self._handler.lost()
        super().connectionLost(reason)

    # What handlers call.

    def header(self, name: str) -> str:
        """See L{IRequest.header}."""
        return str(self.requestHeaders.getRawHeaders(name.encode(), [b""])[0].decode("utf-8", "replace"))

    def hold(self) -> None:
        """See L{IRequest.hold}."""
        if not self.gone and self.channel is not None:
            self.channel.transport.pauseProducing()

    def go_on(self) -> None:
        """See L{IRequest.go_on}."""
        if not self.gone and self.channel is not None:
            self.channel.resetTimeout()
            self.channel.transport.resumeProducing()

    def unless_idle(self, act: Callable[[], None]) -> IDelayedCall:
        """See L{IRequest.unless_idle}."""
        return self._site.reactor.callLater(self._site.idle, act)

    def loseConnection(self) -> None:
        """See L{IRequest.loseConnection}."""
        if self.channel is not None and not self.gone:
            self.channel.transport.abortConnection()

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """See L{IRequest.begin}."""
        self.setResponseCode(status)
        for name, value in headers.items():
            self.setHeader(name, value)

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """See L{IRequest.reply}."""
        if self.gone:
            return
        self.begin(status, {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body)), **headers})
        if self.verb != "HEAD":
            self.write(body)
        self.finish()


@implementer(IHandler)
class Refusal:
    """
    Says no, once the client has sent what it wants to send; that of one who
    wants to send much is cut off instead.
    """

    PATIENCE = 1 << 24
    """Bytes that are read to no purpose."""

    def __init__(self, request: Any, status: int, why: str) -> None:
        self._request = request
        self._status = status
        self._why = why
        self._seen = 0

    def received(self, data: bytes) -> None:
        """See L{IHandler.received}."""
        self._seen += len(data)
        if self._seen > self.PATIENCE and not self._request.gone:
            self._request.loseConnection()

    def whole(self) -> None:
        """See L{IHandler.whole}."""
        self._request.reply(self._status, self._why.encode() + b"\n", {})

    def lost(self) -> None:
        """See L{IHandler.lost}."""
