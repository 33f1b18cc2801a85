"""
The way from a Describe's parameters to its pages of stored views.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks, succeed

from fabric.api.ec2.call import Answer, Call, Listing
from fabric.api.ec2.filters import FilterTable, Narrowing
from fabric.api.ec2.pagination import ALL, Bounds, Window, token, window
from fabric.api.ec2.views import Join, join_items
from fabric.cloud.listings import Listings
from fabric.model.record import Record
from fabric.store.interface import Page, Stored

View = Callable[[Any], bytes]


@attrs.frozen
class Describe:
    """
    How one Describe lists.

    @ivar cls: of the records.
    @ivar element: the XML element around the items.
    @ivar filters: those that it knows.
    @ivar view: renders one record as the store's view has it.
    @ivar always: whether C{view} shows something else than the store's view,
        and so is always asked.
    @ivar bounds: of C{MaxResults}; None for a Describe without pages.
    """

    listings: Listings
    cls: type[Record]
    element: str
    filters: FilterTable
    view: View
    always: bool = False
    bounds: Bounds | None = None

    def narrow(self, call: Call) -> Narrowing:
        """What the request's filters come to."""
        return self.filters.narrow(call.caller, call.parameters.get("Filters"))

    def listing(
        self, call: Call, narrowing: Narrowing, ids: tuple[str, ...] = (), join: Join = join_items
    ) -> Deferred[Answer]:
        """
        @raise NotFound: C{ids} that are not the caller's.
        @raise EC2Error: a wrong C{MaxResults} or C{NextToken}.
        """
        wanted = ALL if self.bounds is None else window(call.action, call.parameters, self.bounds, bool(ids))

        def page(cursor: str) -> Deferred[Page]:
            return self._page(call, narrowing, ids, cursor, wanted.limit)

        return paged(call.action, wanted, self.element, page, join)

    def _page(
        self, call: Call, narrowing: Narrowing, ids: tuple[str, ...], cursor: str, limit: int | None
    ) -> Deferred[Page]:
        if narrowing.nothing:
            return self._nothing(call, ids)
        if narrowing.tests or self.always:
            found = self.listings.records(call.caller, self.cls, narrowing.facets, ids, cursor, limit)
            return found.addCallback(self._rendered, narrowing)
        return self.listings.views(call.caller, self.cls, narrowing.facets, ids, cursor, limit)

    def _nothing(self, call: Call, ids: tuple[str, ...]) -> Deferred[Page]:
        empty = Page([], "")
        if not ids:
            return succeed(empty)
        return self.listings.views(call.caller, self.cls, (), ids).addCallback(lambda _: empty)

    def _rendered(self, page: Page, narrowing: Narrowing) -> Page:
        records = (stored.record for stored in page.items)
        return Page([self.view(record) for record in records if narrowing.passes(record)], page.cursor)


def paged(
    action: str, wanted: Window, element: str, page: Callable[[str], Deferred[Page]], join: Join = join_items
) -> Deferred[Answer]:
    """
    Read the first page that a request wants.

    @return: a listing that goes on from there, or that ends with the token
        for the next request.
    """

    def answer(first: Page) -> Answer:
        if not wanted.whole:
            first = Page(first.items, token(action, first.cursor))
        return Listing(element, page, first, wanted.whole, join)

    return page(wanted.cursor).addCallback(answer)


@inlineCallbacks
def all_records(
    page: Callable[[str], Deferred[Page]],
) -> Generator[Deferred[Any], Any, list[Stored[Any]]]:
    """
    Every page of a listing that is known to be short, as one list.
    """
    found: list[Stored[Any]] = []
    cursor = ""
    while True:
        part = yield page(cursor)
        found += part.items
        cursor = part.cursor
        if not cursor:
            return found
