"""
The metadata door: an HTTP server that knows a machine by its address.

C{https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html}
"""

from __future__ import annotations

from collections.abc import Generator
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.api.interface import IDoor
from fabric.api.metadata import sessions
from fabric.api.metadata.tree import MACHINES, Place, Tree, dynamic, listing, machines, metadata, user_data
from fabric.api.metadata.versions import LATEST, VERSIONS
from fabric.cloud.sources import Guest, Sources
from fabric.errors import DeadlineExceeded, Unavailable
from fabric.metrics import Metrics

PATH = "/*"
TOKEN = "x-aws-ec2-metadata-token"
TOKEN_SECONDS = "x-aws-ec2-metadata-token-ttl-seconds"
FORWARDED = "x-forwarded-for"
NETWORK = "x-network"
"""Header by which a trusted proxy says from which network a request came."""

_TEXT = b"text/plain"
_BYTES = b"application/octet-stream"
_TOKEN_PATH = ["latest", "api", "token"]


class _No(Exception):
    """
    A request that is not answered as it wished.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@attrs.frozen
class Answer:
    """
    @ivar headers: of the answer, besides its type.
    @ivar hops: how many hops it may go; 0 for any number.
    """

    body: bytes
    type: bytes = _TEXT
    headers: tuple[tuple[bytes, bytes], ...] = ()
    hops: int = 0


@implementer(IDoor)
class MetadataDoor:
    """
    Answers machines about themselves.
    """

    log = Logger()

    def __init__(
        self,
        sources: Sources,
        place: Place,
        clock: IReactorTime,
        metrics: Metrics | None = None,
        trust_forwarded: bool = False,
    ) -> None:
        """
        @param trust_forwarded: whether a request from this host itself is by a
            proxy that says truly for whom it asks.
        """
        self._sources = sources
        self._place = place
        self._clock = clock
        self._metrics = metrics
        self._trust_forwarded = trust_forwarded

    def handle(self, exchange: Any) -> None:
        """See L{IDoor.handle}."""
        started = self._clock.seconds()
        path = [unquote(part) for part in exchange.path.split("/") if part]
        done = self._decide(exchange, path)
        done.addCallbacks(self._answer, self._failed, (exchange,), {}, (exchange,))
        done.addCallback(lambda _: self._note(path, exchange.status, started))
        done.addErrback(lambda failure: self.log.failure("an answer was not sent", failure))

    def refuse(self, exchange: Any, status: int, why: str) -> None:
        """See L{IDoor.refuse}."""
        exchange.answer(status, why.encode() + b"\n", _TEXT)

    @inlineCallbacks
    def _decide(self, exchange: Any, path: list[str]) -> Generator[Deferred[Any], Any, Answer]:
        asks_token = exchange.method == "PUT"
        if not asks_token and exchange.method not in ("GET", "HEAD"):
            raise _No(405)
        address, network, forwarded = self._source(exchange)
        guest = yield self._sources.find(address, network)
        if guest is None:
            raise _No(404)
        if guest.instance.metadata_options.endpoint != "enabled":
            raise _No(403)
        if asks_token:
            return (yield self._token(exchange, path, guest, forwarded))  # type: ignore[no-any-return]
        yield self._check_token(exchange, guest)
        return (yield self._look(guest, path))  # type: ignore[no-any-return]

    def _source(self, exchange: Any) -> tuple[str, str, bool]:
        """
        @return: the address that a request came from, its network if that is
            said, and whether a trusted proxy said so.
        """
        peer = exchange.peer.removeprefix("::ffff:")
        said = exchange.headers.get(FORWARDED)
        if not self._trust_forwarded or said is None or not _is_here(peer):
            return peer, "", False
        return said.rpartition(",")[2].strip(), exchange.headers.get(NETWORK, ""), True

    @inlineCallbacks
    def _token(
        self, exchange: Any, path: list[str], guest: Guest, forwarded: bool
    ) -> Generator[Deferred[Any], Any, Answer]:
        said = exchange.headers.get(FORWARDED)
        if path != _TOKEN_PATH or (said is not None and (not forwarded or "," in said)):
            raise _No(403)
        seconds = sessions.seconds_asked(exchange.headers.get(TOKEN_SECONDS))
        if seconds is None:
            raise _No(400)
        secret = yield self._sources.secret()
        token = sessions.issue(secret, guest.instance.id, self._clock.seconds(), seconds)
        headers = ((TOKEN_SECONDS.encode(), str(seconds).encode()),)
        return Answer(token.encode(), _TEXT, headers, 0 if forwarded else guest.instance.metadata_options.hops)

    @inlineCallbacks
    def _check_token(self, exchange: Any, guest: Guest) -> Generator[Deferred[Any], Any, None]:
        token = exchange.headers.get(TOKEN)
        if token is None:
            if guest.instance.metadata_options.tokens == "required":
                raise _No(401)
            return
        secret = yield self._sources.secret()
        if not sessions.good(secret, guest.instance.id, self._clock.seconds(), token):
            raise _No(401)

    @inlineCallbacks
    def _look(self, guest: Guest, path: list[str]) -> Generator[Deferred[Any], Any, Answer]:
        if not path:
            return Answer("\n".join((*VERSIONS, LATEST)).encode())
        version, *rest = path
        if version != LATEST and version not in VERSIONS:
            raise _No(404)
        if rest == ["user-data"]:
            data = user_data(guest.instance)
            if data is None:
                raise _No(404)
            return Answer(data, _BYTES)
        text = None
        if rest == ["meta-data", MACHINES]:
            together = yield self._sources.launched_with(guest.instance)
            text = machines(together)
        return Answer(_found(self._tree(guest, version, rest, text), rest))

    def _tree(self, guest: Guest, version: str, rest: list[str], text: bytes | None) -> Tree:
        """As much of the tree as a path needs."""
        instance, place = guest.instance, self._place
        if rest[:1] == ["dynamic"]:
            return {"dynamic": dynamic(instance, place, version)}
        if rest[:1] == ["meta-data"]:
            return {"meta-data": metadata(guest, place, version, text)}
        tree = {"dynamic": b"-"} if dynamic(instance, place, version) else {}
        data = {"user-data": b"-"} if instance.user_data else {}
        return {**tree, "meta-data": b"-", **data} if not rest else {}

    def _answer(self, answer: Answer, exchange: Any) -> None:
        if answer.hops:
            exchange.limit_hops(answer.hops)
        exchange.answer(200, answer.body, answer.type, answer.headers)

    def _failed(self, failure: Failure, exchange: Any) -> None:
        error = failure.value
        if isinstance(error, _No):
            self.refuse(exchange, error.status, HTTPStatus(error.status).phrase)
        elif failure.check(Unavailable, DeadlineExceeded):
            self.log.warn("{why}", why=failure.getErrorMessage(), request_id=exchange.request_id)
            self.refuse(exchange, 503, "Service Unavailable")
        else:
            self.log.failure("{path} failed", failure, path=exchange.path, request_id=exchange.request_id)
            self.refuse(exchange, 500, "Internal Server Error")

    def _note(self, path: list[str], status: int, started: float) -> None:
        if self._metrics is not None:
            action = path[1] if len(path) > 1 and path[1] in _ACTIONS else "other"
            self._metrics.request("metadata", action, str(status), self._clock.seconds() - started)


_ACTIONS = frozenset({"meta-data", "user-data", "dynamic", "api"})


def _found(tree: Tree, path: list[str]) -> bytes:
    """
    A leaf's text, or a directory's listing.

    @raise _No: there is nothing, or nothing in it.
    """
    node: Any = tree
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    if not node:
        raise _No(404)
    return listing(node) if isinstance(node, dict) else node


def _is_here(peer: str) -> bool:
    return peer == "::1" or peer.startswith("127.")
