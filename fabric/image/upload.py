"""
A file of this host brought to the image store over HTTP.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IConsumer
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from fabric.errors import DriverFailure, Unavailable
from fabric.image.appender import InThread
from fabric.image.interface import IUploader

PIECE = 1 << 18
"""Bytes that are read at once."""

CONNECT_SECONDS = 10.0

ANSWER_SECONDS = 120.0
"""How long the store may look into a file that it has whole."""


@implementer(IUploader)
class Uploader:
    """
    See L{IUploader}.
    """

    def __init__(self, reactor: Any, in_thread: InThread) -> None:
        self._reactor = reactor
        self._in_thread = in_thread
        self._agent = Agent(reactor, connectTimeout=CONNECT_SECONDS)

    @inlineCallbacks
    def upload(self, link: str, path: str) -> Generator[Deferred[Any], Any, str]:
        """See L{IUploader.upload}."""
        try:
            digest, size = yield self._in_thread(_looked, path)
        except OSError as error:
            raise DriverFailure(f"the copy of the disk can't be read: {error}") from error
        body = FileBody(path, size, self._in_thread)
        try:
            response = yield self._agent.request(b"POST", link.encode(), Headers({"X-Digest": [digest]}), body)
            text = yield readBody(response).addTimeout(ANSWER_SECONDS, self._reactor)
        except Exception as error:
            raise Unavailable("object store", str(error) or type(error).__name__) from error
        if response.code >= 500:
            raise Unavailable("object store", f"it answered {response.code}")
        receipt = str(response.headers.getRawHeaders("X-Receipt", [""])[0])
        if response.code != 200 or not receipt:
            why = text.decode("utf-8", "replace").strip() or f"it answered {response.code}"
            raise DriverFailure(f"the object store does not take the disk: {why}")
        return receipt


@implementer(IBodyProducer)
class FileBody:
    """
    A file as a request's body, read in threads.
    """

    def __init__(self, path: str, length: int, in_thread: InThread) -> None:
        self.length = length
        self._path = path
        self._in_thread = in_thread
        self._at = 0
        self._stopped = False
        self._go: Deferred[None] | None = None

    @inlineCallbacks
    def startProducing(self, consumer: IConsumer) -> Generator[Deferred[Any], Any, None]:
        """See L{IBodyProducer}."""
        while self._at < self.length and not self._stopped:
            data = yield self._in_thread(_part, self._path, self._at, min(PIECE, self.length - self._at))
            if not data:
                raise DriverFailure(f"{self._path} became shorter")
            self._at += len(data)
            consumer.write(data)
            if self._go is not None:
                yield self._go

    def pauseProducing(self) -> None:
        """See L{IBodyProducer}."""
        if self._go is None:
            self._go = Deferred()

    def resumeProducing(self) -> None:
        """See L{IBodyProducer}."""
        go, self._go = self._go, None
        if go is not None:
            go.callback(None)

    def stopProducing(self) -> None:
        """See L{IBodyProducer}."""
        self._stopped = True
        self.resumeProducing()


def _looked(path: str) -> tuple[str, int]:
    """Digest and size."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest(), os.fstat(opened.fileno()).st_size


def _part(path: str, start: int, length: int) -> bytes:
    with open(path, "rb", buffering=0) as opened:
        return os.pread(opened.fileno(), length, start)
