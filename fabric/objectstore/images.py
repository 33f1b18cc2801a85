"""
Image files over HTTP: GET and HEAD with ranges, PUT, DELETE, each by a link of its
own; and POST, for those who get a link before they know the digest, which is
then the header C{X-Digest}.

Nobody looked into a file that was brought as a kernel: it is not found as a disk.

The answer to HEAD, PUT and POST carries the header C{X-Receipt}, by which the
cloud's logic believes that the file is here and what it is.

@see: U{https://www.rfc-editor.org/rfc/rfc9110#name-range-requests}
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import orjson
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.errors import Denied, InvalidValue, NotFound, Unavailable
from fabric.image.interface import IImageStore, IIncoming, StoredFile
from fabric.objectstore.interface import IHandler
from fabric.objectstore.links import IMAGES, Signer
from fabric.objectstore.site import Refusal

PIECE = 1 << 18
"""Bytes that are read at once."""

FULL = 1 << 22
"""Bytes that may wait to be written before the client has to."""


class Images:
    """
    Answers below C{/_images}: a file at C{/_images/DIGEST}, all of them at
    C{/_images}.
    """

    log = Logger()

    def __init__(self, store: IImageStore, signer: Signer, largest: int) -> None:
        """
        @param largest: bytes of a file.
        """
        self._store = store
        self._signer = signer
        self._largest = largest

    def start(self, request: Any) -> IHandler:
        """
        The handler of a request.
        """
        try:
            fields = self._signer.check(request.verb, request.place, request.asked)
            return self._handler(request, fields)
        except Denied as error:
            return Refusal(request, 403, f"{error.who} may not {error.what}")
        except InvalidValue as error:
            return Refusal(request, 400, f"{error.name}: {error.why}")

    def _handler(self, request: Any, fields: dict[str, str]) -> IHandler:
        digest = request.place.removeprefix(IMAGES).strip("/")
        if request.verb == "PUT":
            return self._upload(request, digest, fields)
        if request.verb in ("GET", "HEAD") and digest:
            return Answer(request, lambda: self._send(request, digest, fields.get("role", "")))
        if request.verb == "GET":
            return Answer(request, lambda: self._send_list(request))
        if request.verb == "DELETE":
            return Answer(request, lambda: self._delete(request, digest, fields.get("unused_since", "")))
        if request.verb == "POST" and not digest:
            return self._upload(request, request.header("x-digest"), fields)
        return Refusal(request, 405, "only GET, HEAD, PUT, POST and DELETE are answered here")

    def _upload(self, request: Any, digest: str, fields: dict[str, str]) -> IHandler:
        if request.length is not None and request.length > self._largest:
            return Refusal(request, 413, f"a file may have at most {self._largest} bytes")
        role = fields.get("role", "")
        return Upload(request, self._store.receive(digest, role), role, self._signer)

    @inlineCallbacks
    def _send(self, request: Any, digest: str, role: str) -> Generator[Deferred[Any], Any, None]:
        stored = yield self._store.find(digest, True)
        if role == "disk" and not stored.disk_bytes:
            raise NotFound("disk", digest)
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{digest}"', "X-Receipt": self._signer.receipt(role, stored)}
        wanted = chosen(request.header("range"), stored.size)
        if wanted is None:
            request.reply(416, b"no such range\n", {"Content-Range": f"bytes */{stored.size}"})
            return
        start, end = wanted
        status = 200
        if request.header("range") and (start, end) != (0, stored.size):
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{stored.size}"
        if request.gone:
            return
        headers |= {"Content-Length": str(end - start), "Content-Type": "application/octet-stream"}
        request.begin(status, headers)
        if request.verb == "HEAD" or start == end:
            request.write(b"")
            request.finish()
        else:
            yield Download(request, self._store, digest, start, end).run()

    @inlineCallbacks
    def _send_list(self, request: Any) -> Generator[Deferred[Any], Any, None]:
        found = yield self._store.files()
        rows = [{"digest": each.digest, "size": each.size, "used_at": each.used_at} for each in found]
        request.reply(200, orjson.dumps(rows), {"Content-Type": "application/json"})

    @inlineCallbacks
    def _delete(self, request: Any, digest: str, unused_since: str) -> Generator[Deferred[Any], Any, None]:
        gone = yield self._store.delete(digest, float(unused_since or "inf"))
        if gone:
            self.log.info("{digest} is removed from the store", digest=digest)
        request.reply(*((204, b"", {}) if gone else (409, b"it was used lately\n", {})))


def chosen(header: str, size: int) -> tuple[int, int] | None:
    """
    What part of a file is asked for.

    @param header: the request's C{Range}.
    @return: from, and up to but not including; all of it without a header, or
        with one that is to be ignored: of another unit, or of several parts.
        None when there is nothing there.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip())
    if match is None or match[1] == match[2] == "":
        return 0, size
    if not match[1]:
        return (max(0, size - int(match[2])), size) if int(match[2]) and size else None
    start = int(match[1])
    end = int(match[2]) + 1 if match[2] else size
    if match[2] and end <= start:
        return 0, size
    return (start, min(end, size)) if start < size else None


@implementer(IHandler)
class Answer:
    """
    Of a request without a body: what begins when it is whole.
    """

    log = Logger()

    def __init__(self, request: Any, act: Any) -> None:
        self._request = request
        self._act = act

    def received(self, data: bytes) -> None:
        """See L{IHandler.received}."""

    def whole(self) -> None:
        """See L{IHandler.whole}."""
        self._act().addErrback(self._failed)

    def lost(self) -> None:
        """See L{IHandler.lost}."""

    def _failed(self, failure: Failure) -> None:
        fail(self._request, failure, self.log)


def fail(request: Any, failure: Failure, log: Logger) -> None:
    """
    Answer with what went wrong; break off when the answer has begun.
    """
    status, why = 500, "the store failed; its log says how"
    error = failure.value
    if isinstance(error, NotFound):
        status, why = 404, f"there is no {error.kind} {error.id}"
    elif isinstance(error, Unavailable):
        status, why = 503, f"{error.service}: {error.why}"
    elif isinstance(error, InvalidValue):
        status, why = 400, f"{error.name} {error.value}: {error.why}"
    else:
        log.failure("{verb} {place} failed", failure, verb=request.verb, place=request.place)
    if request.startedWriting and not request.gone:
        request.loseConnection()
    else:
        request.reply(status, why.encode() + b"\n", {})


@implementer(IPushProducer)
class Download:
    """
    Sends a part of a file, as fast as the client takes it.
    """

    def __init__(self, request: Any, store: IImageStore, digest: str, start: int, end: int) -> None:
        self._request = request
        self._store = store
        self._digest = digest
        self._at = start
        self._end = end
        self._go: Deferred[None] | None = None
        self._stalled: IDelayedCall | None = None

    @inlineCallbacks
    def run(self) -> Generator[Deferred[Any], Any, None]:
        """
        @return: fires when all is sent, or the client left.
        """
        request = self._request
        request.registerProducer(self, True)
        while self._at < self._end and not request.gone:
            data = yield self._store.read(self._digest, self._at, min(PIECE, self._end - self._at))
            if request.gone:
                break
            if not data:
                raise NotFound("rest of", self._digest)
            self._at += len(data)
            request.write(data)
            if self._go is not None:
                yield self._go
        if not request.gone:
            request.unregisterProducer()
            request.finish()

    def pauseProducing(self) -> None:
        """The client is slow."""
        if self._go is None:
            self._go = Deferred()
            self._stalled = self._request.unless_idle(self._cut_off)

    def resumeProducing(self) -> None:
        """The client takes more."""
        stalled, self._stalled = self._stalled, None
        if stalled is not None and stalled.active():
            stalled.cancel()
        go, self._go = self._go, None
        if go is not None:
            go.callback(None)

    def stopProducing(self) -> None:
        """The client left."""
        self.resumeProducing()

    def _cut_off(self) -> None:
        """The client has taken nothing for as long as one may be idle."""
        self._request.loseConnection()


@implementer(IHandler)
class Upload:
    """
    Takes a file.
    """

    log = Logger()

    def __init__(self, request: Any, incoming: IIncoming, role: str, signer: Signer) -> None:
        self._request = request
        self._incoming = incoming
        self._role = role
        self._signer = signer
        self._waiting = 0
        self._unwanted = 0
        self._refused: Failure | None = None
        self._finishing = False

    def received(self, data: bytes) -> None:
        """See L{IHandler.received}."""
        if self._refused is not None:
            self._unwanted += len(data)
            if self._unwanted > Refusal.PATIENCE:
                self._request.loseConnection()
            return
        try:
            writing = self._incoming.write(data)
        except InvalidValue:
            self._refuse(Failure())
            return
        self._waiting += len(data)
        if self._waiting > FULL:
            self._request.hold()
        writing.addCallbacks(lambda _: self._wrote(len(data)), self._refuse)

    def whole(self) -> None:
        """See L{IHandler.whole}."""
        self._finishing = True
        if self._refused is not None:
            fail(self._request, self._refused, self.log)
        else:
            self._incoming.finish().addCallback(self._kept).addErrback(self._failed)

    def lost(self) -> None:
        """See L{IHandler.lost}."""
        if not self._finishing:
            self._incoming.abandon().addErrback(self._not_removed)

    def _wrote(self, length: int) -> None:
        held = self._waiting > FULL
        self._waiting -= length
        if held and self._waiting <= FULL:
            self._request.go_on()

    def _refuse(self, failure: Failure) -> None:
        """Nothing more is kept; the client is told when it has sent all."""
        if self._refused is None:
            self._refused = failure
            self._request.go_on()
            self._incoming.abandon().addErrback(self._not_removed)

    def _kept(self, stored: StoredFile) -> None:
        headers = {"X-Receipt": self._signer.receipt(self._role, stored)}
        self._request.reply(200, orjson.dumps({"digest": stored.digest, "size": stored.size}), headers)

    def _failed(self, failure: Failure) -> None:
        fail(self._request, failure, self.log)

    def _not_removed(self, failure: Failure) -> None:
        self.log.failure("what came of an upload was not removed", failure)
