"""
Listings of what a caller's project has, and of what everybody may see.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.errors import NotFound
from fabric.model.image import Image
from fabric.model.network import Network
from fabric.model.record import PUBLIC, Record
from fabric.model.snapshot import Snapshot
from fabric.store.interface import IStore, Page, Query

Filters = tuple[tuple[str, tuple[str, ...]], ...]

_SHARED: tuple[type[Record], ...] = (Image, Network, Snapshot)


class Listings:
    """
    Reads of one page each, in one round trip each.
    """

    def __init__(self, store: IStore) -> None:
        self._store = store

    @inlineCallbacks
    def views(
        self,
        caller: Caller,
        cls: type[Record],
        filters: Filters = (),
        ids: Sequence[str] = (),
        cursor: str = "",
        limit: int | None = None,
    ) -> Generator[Deferred[Any], Any, Page]:
        """
        A page of EC2's views.

        @raise NotFound: some of C{ids} are not the caller's to see; C{id}
            names them all, joined by C{", "}.
        """
        page: Page = yield self._store.views("ec2", _query(caller, cls, filters, ids, cursor, limit))
        return _whole(cls, page)

    @inlineCallbacks
    def records(
        self,
        caller: Caller,
        cls: type[Record],
        filters: Filters = (),
        ids: Sequence[str] = (),
        cursor: str = "",
        limit: int | None = None,
    ) -> Generator[Deferred[Any], Any, Page]:
        """
        A page of L{fabric.store.interface.Stored}; errors as of L{views}.
        """
        page: Page = yield self._store.records(cls, _query(caller, cls, filters, ids, cursor, limit))
        return _whole(cls, page)


def _query(
    caller: Caller, cls: type[Record], filters: Filters, ids: Sequence[str], cursor: str, limit: int | None
) -> Query:
    scopes = (caller.project, PUBLIC) if cls in _SHARED else (caller.project,)
    return Query(cls.kind, scopes, tuple(filters), tuple(ids), cursor, limit)


def _whole(cls: type[Record], page: Page) -> Page:
    if page.missing:
        raise NotFound(cls.kind, ", ".join(page.missing))
    return page
