"""
The HTTP server that all doors share: its limits, its routes, its answers.

Twisted's L{HTTPChannel} parses requests and keeps connections.  In place of
C{twisted.web}'s general request and resource tree there is L{Exchange}: a
request whose form is not parsed, whose headers are one dict, and whose answer
is one write.  That halves what a request costs before any door has seen it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.web.http import HTTPChannel, datetimeToString
from zope.interface import implementer

from fabric.api.exchange import Exchange
from fabric.api.interface import IDoor

_HTTPChannel: Any = HTTPChannel
"""Twisted has no types for it."""

_LONGEST_LENGTH = 64
"""Bytes of a header that gives a length."""


@attrs.frozen
class Limits:
    """
    What a client may ask of the server.

    @ivar body: bytes of a request's body.
    @ivar header: bytes of its request line and headers together.
    @ivar headers: how many headers.
    @ivar idle: seconds a connection may be silent.
    @ivar receive: seconds that receiving one request may take in all, so that
        a client that sends a byte now and then is not waited for.
    """

    body: int = 1 << 20
    header: int = 1 << 16
    headers: int = 100
    idle: float = 60.0
    receive: float = 30.0


@implementer(IProtocolNegotiationFactory)
class Site(ServerFactory):
    """
    The factory of connections, with the table of doors.

    @param routes: doors by path.  A path that ends in C{/*} is a prefix: it
        matches the path before it and all below; the longest one wins.  Each
        other path is matched as it is, and with a slash after it.
    """

    noisy = False

    def __init__(self, reactor: IReactorTime, routes: Mapping[str, IDoor], limits: Limits = Limits()) -> None:
        self.reactor = reactor
        self.limits = limits
        self._exact = {path: door for path, door in routes.items() if not path.endswith("/*")}
        self._exact.update({path.rstrip("/") + "/": door for path, door in self._exact.items()})
        prefixes = [(path[:-2], door) for path, door in routes.items() if path.endswith("/*")]
        self._prefixes = sorted(prefixes, key=lambda route: -len(route[0]))
        self._second = -1
        self._date = b""

    def acceptableProtocols(self) -> list[bytes]:
        """See L{IProtocolNegotiationFactory}: a client that asks over TLS, as most do, is not answered by none."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        """
        @return: a connection.
        """
        channel = Channel(self)
        channel.factory = self
        return channel

    def door(self, path: str) -> IDoor | None:
        """
        @return: the door for a path, None where there is none.
        """
        found = self._exact.get(path)
        if found is None:
            for prefix, door in self._prefixes:
                if path == prefix or path.startswith(prefix + "/"):
                    return door
        return found

    def date(self) -> bytes:
        """
        @return: the time as the header Date gives it, written once a second.
        """
        second = int(self.reactor.seconds())
        if second != self._second:
            self._second, self._date = second, datetimeToString(second)
        return self._date


class Channel(_HTTPChannel):  # type: ignore[misc]
    """
    One connection.
    """

    def __init__(self, site: Site) -> None:
        super().__init__()
        limits = site.limits
        self.site = site
        self.requestFactory = self._make_exchange
        self.maxHeaders = limits.headers
        self.totalHeadersSize = limits.header
        self.MAX_LENGTH = limits.header + 1024  # above that a line is not even refused in words
        self.timeOut = limits.idle
        self.callLater = site.reactor.callLater
        self._began: float | None = None

    def _make_exchange(self, channel: Channel, queued: int = 0) -> Exchange:
        return Exchange(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Part of a request; too late a part ends the connection.
        """
        if not self._handlingRequest:
            now = self.site.reactor.seconds()
            if self._began is None:
                self._began = now
            elif now - self._began > self.site.limits.receive:
                self.forceAbortClient()
                return
        super().dataReceived(data)

    def headerReceived(self, line: bytes) -> bool:
        """
        One header.  A length of absurdly many digits is refused here, since
        Python makes no number of it.
        """
        if len(line) > _LONGEST_LENGTH and line[:15].lower() == b"content-length:":
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))

    def allContentReceived(self) -> None:
        """
        The request is whole.
        """
        self._began = None
        super().allContentReceived()
