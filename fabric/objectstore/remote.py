"""
The image store of another process, asked over HTTP.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import orjson
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.web.client import Agent, readBody
from zope.interface import implementer

from fabric.errors import Unavailable
from fabric.image.interface import IStoreDoor, StoredFile
from fabric.objectstore.links import IMAGES, Signer, image_path

SECONDS = 30.0
"""How long an answer may take, and a link for it is good."""

GONE = (204, 409)
"""Answers to a DELETE: it is done, or the file was used meanwhile."""


@implementer(IStoreDoor)
class StoreDoor:
    """
    See L{IStoreDoor}.
    """

    def __init__(self, reactor: Any, signer: Signer) -> None:
        self._reactor = reactor
        self._signer = signer
        self._agent = Agent(reactor, connectTimeout=SECONDS)

    @inlineCallbacks
    def files(self) -> Generator[Deferred[Any], Any, list[StoredFile]]:
        """See L{IStoreDoor.files}."""
        body = yield self._ask("GET", self._signer.link("GET", IMAGES, SECONDS), (200,))
        return [StoredFile(row["digest"], "", row["size"], 0, row["used_at"]) for row in orjson.loads(body)]

    @inlineCallbacks
    def delete(self, digest: str, unused_since: float) -> Generator[Deferred[Any], Any, None]:
        """See L{IStoreDoor.delete}."""
        link = self._signer.link("DELETE", image_path(digest), SECONDS, unused_since=repr(unused_since))
        yield self._ask("DELETE", link, GONE)

    @inlineCallbacks
    def _ask(self, method: str, link: str, wanted: tuple[int, ...]) -> Generator[Deferred[Any], Any, bytes]:
        try:
            response = yield self._agent.request(method.encode(), link.encode()).addTimeout(SECONDS, self._reactor)
            body = yield readBody(response).addTimeout(SECONDS, self._reactor)
        except Exception as error:
            raise Unavailable("object store", str(error) or type(error).__name__) from error
        if response.code not in wanted:
            raise Unavailable("object store", f"it answered {response.code}")
        return body  # type: ignore[no-any-return]
