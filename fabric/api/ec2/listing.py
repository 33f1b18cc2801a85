"""
Long answers, sent page by page.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred

from fabric.api.ec2.call import Listing
from fabric.api.ec2.wire.answers import escape, head, tail
from fabric.store.interface import Page


class Pages:
    """
    The body of a listing's answer.

    @ivar whole: the body, when the first page is all of it; else None, and
        iterating gives the body in chunks: bytes or Deferreds of bytes, each
        to be waited for before the next is asked for.
    """

    def __init__(self, listing: Listing, action: str, request_id: str, version: str) -> None:
        self._listing = listing
        self._opening = f"{head(action, request_id, version)}<{listing.element}>".encode()
        self._closing = f"</{listing.element}>".encode()
        self._tail = tail(action).encode()
        self._state: Any = None
        self._cursor = listing.first.cursor
        self.whole = self._one_page() if not listing.whole or not self._cursor else None

    def _one_page(self) -> bytes:
        first = self._join(self._listing.first.items)
        cursor = self._cursor
        token = b"" if not cursor else f"<nextToken>{escape(cursor)}</nextToken>".encode()
        return b"".join((self._opening, first, self._close(), self._closing, token, self._tail))

    def __iter__(self) -> Iterator[bytes | Deferred[bytes]]:
        yield self._opening + self._join(self._listing.first.items)
        while self._cursor:
            page = self._listing.page(self._cursor)
            yield page.addCallback(self._came)
        yield self._close() + self._closing + self._tail

    def _came(self, page: Page) -> bytes:
        self._cursor = page.cursor
        return self._join(page.items)

    def _join(self, views: list[bytes]) -> bytes:
        if not views:
            return b""
        text, self._state = self._listing.join(views, self._state)
        return text

    def _close(self) -> bytes:
        text, _ = self._listing.join([], self._state)
        return text
