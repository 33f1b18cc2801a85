"""
The store: one write path, and reads that cost what they answer.

A L{Transaction} is checked and applied as a whole by one script on the server,
or refused as a whole with a typed error.  Callers never check a thing in one
round trip and act on it in the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

from fabric.model.record import Record

R = TypeVar("R", bound=Record)


class IViews(Interface):
    """
    Renders what is stored beside a record, so that a read only concatenates.
    """

    def render(record: Record) -> dict[str, bytes]:
        """
        @return: the record's views by name, as C{{"ec2": b"<item>…"}}; empty
            for kinds that no door lists.  Pure.  Must not contain anything
            that depends on another record.
        """


@attrs.frozen
class Stored(Generic[R]):
    """
    A record as read, with the generation that a write of it must name.
    """

    record: R
    generation: int


@attrs.define
class Transaction:
    """
    What one write does, gathered before it is sent.

    @ivar puts: C{(record, expected generation)}; 0 for one that must be new.
    @ivar deletes: C{(kind, id, expected generation)}.
    @ivar limits: C{(counter, maximum)}: refused when, after the write, the
        counter would have grown above the maximum.
    @ivar takes: C{(placeholder, pool)}: a free member is popped and every
        occurrence of the placeholder, in every put record and its views, is
        replaced by it.  The record must hold it (C{Derived.pools}).
    @ivar needs: C{(kind, id)} that must exist at the moment of the write.
    @ivar unused: C{(kind, id)} that nothing may use: refused unless counter
        C{uses:KIND:ID} is zero.
    @ivar request_id: goes into the event stream.
    """

    request_id: str = ""
    puts: list[tuple[Record, int]] = attrs.field(factory=list)
    deletes: list[tuple[str, str, int]] = attrs.field(factory=list)
    limits: list[tuple[str, int]] = attrs.field(factory=list)
    takes: list[tuple[str, str]] = attrs.field(factory=list)
    needs: list[tuple[str, str]] = attrs.field(factory=list)
    unused: list[tuple[str, str]] = attrs.field(factory=list)

    def create(self, record: Record) -> None:
        """Write a record whose id must not exist."""
        self.puts.append((record, 0))

    def update(self, stored: Stored[Any], record: Record) -> None:
        """Write C{record} over what was read as C{stored}."""
        self.puts.append((record, stored.generation))

    def delete(self, stored: Stored[Any]) -> None:
        """Remove what was read, with all that is filed for it."""
        self.deletes.append((stored.record.kind, stored.record.id, stored.generation))

    def limit(self, counter: str, maximum: int) -> None:
        """Refuse the whole write if the counter would pass the maximum."""
        self.limits.append((counter, maximum))

    def take(self, pool: str) -> str:
        """
        Pop a free member of a pool.

        @return: a placeholder to put into records where the member is to
            stand; unguessable, so that no text of a user's is replaced.  See
            also L{dashed}.
        """
        raise NotImplementedError("made by IStore.transaction")

    def need(self, kind: str, id: str) -> None:
        """Refuse the whole write if that record does not exist."""
        self.needs.append((kind, id))

    def idle(self, kind: str, id: str) -> None:
        """Refuse the whole write if any record counts itself a user of that one."""
        self.unused.append((kind, id))


@attrs.frozen
class Want:
    """
    One record that L{IStore.gather} is to read: by id, or by unique name.
    """

    cls: type[Record]
    id: str = ""
    name: str = ""


@attrs.frozen
class Committed:
    """
    @ivar taken: C{{placeholder: member}}.
    @ivar records: every put record as it was written, members in place of
        placeholders, with its new generation, in the order of C{puts}.
    """

    taken: dict[str, str]
    records: list[Stored[Any]]


def dashed(placeholder: str) -> str:
    """
    @return: the placeholder for the same member with C{.} and C{:} written as
        C{-}, for names made of addresses.
    """
    return placeholder + "-"


@attrs.frozen
class Query:
    """
    A listing: the records of a kind that any of the scopes lists and for
    which every filter has one of its values.

    @ivar filters: C{((facet, (value, …)), …)}: values are alternatives,
        filters are joined.  A value may have C{*} and C{?} wildcards, and
        C{\\} before one takes it literally.
    @ivar cursor: where the page before ended, "" for the start.
    @ivar limit: most records a page; None for the store's chunk size.
    """

    kind: str
    scopes: tuple[str, ...]
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ids: tuple[str, ...] = ()
    cursor: str = ""
    limit: int | None = None


@attrs.frozen
class Page:
    """
    @ivar items: views as bytes, or L{Stored} records.
    @ivar cursor: for the next page; "" when this was the last.
    @ivar missing: those of the query's ids that no scope has.
    """

    items: list[Any]
    cursor: str
    missing: tuple[str, ...] = ()


@attrs.frozen
class Values:
    """
    @ivar at: the store's time when they were read, in microseconds since the
        epoch: of two reads the later has the greater one.
    @ivar found: for each place asked for, its values.
    """

    at: int
    found: list[list[str]]


@attrs.frozen
class Finding:
    """
    One disagreement that C{check} found.

    @ivar what: C{pool}, C{index}, C{counter}, C{unique}, C{reference},
        C{derived}, C{due}.
    @ivar repaired: whether it was set right.
    """

    what: str
    key: str
    detail: str
    repaired: bool = False


class IStore(Interface):
    """
    All state of a cell.  Every method is bounded in time and fails with
    L{fabric.errors.Unavailable} when the server does not answer; after that
    failure a write may or may not have happened, and repeating it with the
    same generations is safe.

    Listings are in the order in which records were created; the records of
    one transaction stand together, in the order of its puts.
    """

    def transaction(request_id: str) -> Transaction:
        """
        @return: an empty transaction.
        """

    def commit(transaction: Transaction) -> Deferred[Committed]:
        """
        Apply all of it, or nothing.

        @raise Conflict: a generation is not the expected one.
        @raise NotFound: an updated, deleted or needed record does not exist.
        @raise AlreadyExists: a created id, or a unique name, is taken.
        @raise LimitExceeded: a limit would be passed.
        @raise PoolEmpty: a pool has no free member.
        @raise MemberTaken: a pool member that a record names is held by
            another, or is not a member.
        @raise InUse: a deleted record's pool still has held members, or a
            record that must be unused has users.
        """

    def read(cls: type[R], ids: Sequence[str]) -> Deferred[list[Stored[R] | None]]:
        """
        Records by id, in one round trip; None for each that does not exist.
        Never makes a record.  Callers check the project.
        """

    def resolve(cls: type[R], names: Sequence[str]) -> Deferred[list[Stored[R] | None]]:
        """
        Records by unique name (C{Derived.unique}), in one round trip.
        """

    def gather(wants: Sequence[Want]) -> Deferred[list[Stored[Any] | None]]:
        """
        Records of several kinds, by id or unique name, in one round trip;
        None for each that does not exist.
        """

    def records(cls: type[R], query: Query) -> Deferred[Page]:
        """
        A page of L{Stored} records, in one round trip.
        """

    def views(name: str, query: Query) -> Deferred[Page]:
        """
        A page of rendered views, in one round trip, whose cost is
        proportional to the page whatever else is stored.
        """

    def values(kind: str, places: Sequence[tuple[str, str]]) -> Deferred[Values]:
        """
        The values that facets have in listings, in one round trip: for each
        C{(scope, facet)} those of all records of a kind that the scope lists
        with their facets.
        """

    def counters(names: Sequence[str]) -> Deferred[dict[str, int]]:
        """
        Values of counters; 0 for one that nothing adds to.
        """

    def due(now: float, limit: int) -> Deferred[list[tuple[str, str]]]:
        """
        C{(kind, id)} of records whose C{Derived.due} has passed, oldest first.
        """

    def beat(service: str, now: float) -> Deferred[None]:
        """
        Note a heartbeat of service C{TOPIC.HOST}.
        """

    def beats() -> Deferred[dict[str, float]]:
        """
        The last heartbeat of every service.
        """

    def pools() -> Deferred[dict[str, tuple[int, int]]]:
        """
        C{{pool: (free, members in all)}}.
        """

    def events(after: str, limit: int, project: str | None) -> Deferred[list[tuple[str, dict[str, str]]]]:
        """
        The event stream of a project, or of all with None, after a position
        ("" for the oldest kept, C{MILLISECONDS-0} for those since a time):
        C{[(position, {kind, id, request, what, …})]} where C{what} is C{created}, C{changed} or C{deleted}.
        """

    def check(repair: bool) -> Deferred[list[Finding]]:
        """
        Compare everything that is filed with what the records derive, prove
        that pools conserve and that references point at something.  Safe
        while the cloud works: a disagreement counts only when it is still
        there on a second look at the same generation.
        """
