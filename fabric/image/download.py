"""
A file fetched over HTTP, from where an earlier attempt was cut off.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http_headers import Headers

from fabric.errors import DriverFailure
from fabric.image.appender import Appender, InThread

FULL = 1 << 22
"""Bytes that may wait to be written before no more is read."""

CONNECT_SECONDS = 10.0


class Cut(Exception):
    """
    It came to nothing, or to a part; trying again may bring the rest.
    """


class NotWritten(Exception):
    """
    What came could not be written, as to a disk that is full.
    """


class Downloader:
    """
    Fetches files.
    """

    def __init__(self, reactor: Any, in_thread: InThread, idle: float) -> None:
        """
        @param idle: seconds for which a server may send nothing.
        """
        self._reactor = reactor
        self._in_thread = in_thread
        self._idle = idle
        self._agent = Agent(reactor, connectTimeout=CONNECT_SECONDS)

    @inlineCallbacks
    def fetch(self, link: str, path: str, have: int, size: int) -> Generator[Deferred[Any], Any, None]:
        """
        Append to a file what it lacks.

        @param have: bytes of it that are there.
        @param size: bytes of the whole.
        @raise Cut: not all of it came.
        @raise NotWritten: this host has no room for it, or can't write.
        @raise DriverFailure: the server does not give it, or gives something else.
        """
        headers = Headers({"Range": [f"bytes={have}-"]} if have else {})
        asking = self._agent.request(b"GET", link.encode(), headers)
        asking.addTimeout(self._idle, self._reactor)
        try:
            response = yield asking
        except Exception as error:
            raise Cut(str(error) or type(error).__name__) from error
        offered = response.length if isinstance(response.length, int) else -1
        if response.code != (206 if have else 200) or offered != size - have:
            response.deliverBody(_Dropped())
            raise _refused(response.code, offered)
        body = _Body(Appender(path, self._in_thread), self._reactor, self._idle)
        response.deliverBody(body)
        yield body.ended


def _refused(code: int, offered: int) -> Exception:
    """What an answer means that is not the file."""
    if code == 403:
        return DriverFailure("the link to the image file has expired, or is not of this cloud")
    if code == 404:
        return DriverFailure("the object store does not have the image file")
    if code >= 500:
        return Cut(f"the object store answered {code}")
    return DriverFailure(f"the object store answered {code} with {offered} bytes, not as was asked for")


class _Dropped(Protocol):
    """
    Wants nothing of a body.
    """

    def connectionMade(self) -> None:
        """Break off."""
        self.transport.loseConnection()  # type: ignore[union-attr]


class _Body(Protocol):
    """
    Takes the body no faster than it is written.
    """

    def __init__(self, appender: Appender, clock: Any, idle: float) -> None:
        self.ended: Deferred[None] = Deferred()
        self._appender = appender
        self._clock = clock
        self._idle = idle
        self._waiting = 0
        self._watch: IDelayedCall | None = None
        self._why: Exception | None = None

    def connectionMade(self) -> None:
        """It begins."""
        self._watch = self._clock.callLater(self._idle, self._break, Cut("the object store sends nothing"))

    def dataReceived(self, data: bytes) -> None:
        """A part."""
        if self._watch is not None:
            self._watch.reset(self._idle)
        self._waiting += len(data)
        if self._waiting > FULL:
            self.transport.pauseProducing()  # type: ignore[union-attr]
        writing = self._appender.write(data)
        writing.addCallbacks(lambda _: self._wrote(len(data)), self._not_written)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """That was all, or the connection is cut."""
        watch, self._watch = self._watch, None
        if watch is not None and watch.active():
            watch.cancel()
        if self._why is None and not (reason is not None and reason.check(ResponseDone)):
            self._why = Cut("the connection was cut")
        closing = self._appender.close(True)
        closing.addErrback(self._not_written)
        closing.addCallback(lambda _: self.ended.errback(self._why) if self._why else self.ended.callback(None))

    def _wrote(self, length: int) -> None:
        held = self._waiting > FULL
        self._waiting -= length
        if held and self._waiting <= FULL and self._watch is not None:
            self._watch.reset(self._idle)
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def _not_written(self, failure: Failure) -> None:
        self._break(NotWritten(f"the image file can't be written: {failure.getErrorMessage()}"))

    def _break(self, why: Exception) -> None:
        if self._why is None or isinstance(self._why, Cut):
            self._why = why
        if self._watch is not None:
            self.transport.loseConnection()  # type: ignore[union-attr]
