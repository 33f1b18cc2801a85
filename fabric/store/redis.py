"""
The store, on Redis.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from time import monotonic
from typing import Any, TypeVar

import orjson
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.python.failure import Failure
from txredisapi import ResponseError
from zope.interface import implementer

from fabric.errors import FabricError, InvalidValue
from fabric.model.record import Record
from fabric.store import scope, scripts
from fabric.store.connection import Command, RedisPool
from fabric.store.filing import facet_key, load, scope_key, wanted
from fabric.store.interface import Committed, Finding, IStore, IViews, Page, Query, Stored, Transaction, Values, Want
from fabric.store.plan import Taking, committed, plan
from fabric.store.scripts import Script

R = TypeVar("R", bound=Record)

CHUNK = 256
"""Records a page, where a query names no limit."""

BUDGET = 6000
"""
How much looking one run of the list script may do, in comparisons, before it
lets others work: some milliseconds.
"""

_POSITION = re.compile(r"^[0-9]{1,20}-[0-9]{1,20}$")
_CURSOR = re.compile(r"^[0-9]{1,16}(\.[0-9]{1,9})?$")


@implementer(IStore)
class RedisStore:
    """
    All state of a cell in one Redis; see L{IStore} for what it promises and
    L{fabric.store.filing} for the keys.
    """

    def __init__(
        self, pool: RedisPool, views: IViews, kinds: Mapping[str, type[Record]], metrics: Any = None, chunk: int = CHUNK
    ) -> None:
        """
        @param kinds: the class of each kind of record, for L{check}.
        @param metrics: L{fabric.metrics.Metrics}, or None.
        """
        self._pool = pool
        self._views = views
        self._kinds = kinds
        self._metrics = metrics
        self._chunk = chunk

    @property
    def round_trips(self) -> int:
        """How often something was sent to the server."""
        return self._pool.round_trips

    # Writing.

    def transaction(self, request_id: str) -> Transaction:
        """See L{IStore.transaction}."""
        return Taking(request_id)

    def commit(self, transaction: Transaction) -> Deferred[Committed]:
        """See L{IStore.commit}."""
        try:
            sent = plan(transaction, self._views)
        except FabricError as reason:
            return fail(reason)
        reply = self._run("commit", scripts.COMMIT, *sent.arguments)
        return reply.addCallback(lambda reply: committed(transaction, sent, reply))

    # Reading.

    def read(self, cls: type[R], ids: Sequence[str]) -> Deferred[list[Stored[R] | None]]:
        """See L{IStore.read}."""
        if not ids:
            return succeed([])
        commands = [("HMGET", f"o:{cls.kind}:{id}", "g", "r") for id in ids]
        return self._several("read", commands).addCallback(lambda rows: [_stored(cls, *row) for row in rows])

    def resolve(self, cls: type[R], names: Sequence[str]) -> Deferred[list[Stored[R] | None]]:
        """See L{IStore.resolve}."""
        return self.gather([Want(cls, name=name) for name in names])

    def gather(self, wants: Sequence[Want]) -> Deferred[list[Stored[Any] | None]]:
        """See L{IStore.gather}."""
        if not wants:
            return succeed([])
        arguments: list[str] = []
        for want in wants:
            arguments += (want.cls.kind, "name", want.name) if want.name else (want.cls.kind, "id", want.id)
        reply = self._run("gather", scripts.GATHER, *arguments)
        return reply.addCallback(
            lambda reply: [_stored(want.cls, reply[2 * n], reply[2 * n + 1]) for n, want in enumerate(wants)]
        )

    def records(self, cls: type[R], query: Query) -> Deferred[Page]:
        """See L{IStore.records}."""
        if query.ids and not query.filters:
            return self._by_ids("records", query, ("g", "r"), lambda row: _stored(cls, *row))
        return self._listing("records", query, None).addCallback(_load_page, cls)

    def views(self, name: str, query: Query) -> Deferred[Page]:
        """See L{IStore.views}."""
        if query.ids and not query.filters:
            return self._by_ids("views", query, ("v:" + name,), _first)
        if not query.ids and not query.filters and len(query.scopes) == 1:
            return self._whole_scope(query, name)
        return self._listing("views", query, name)

    @inlineCallbacks
    def _whole_scope(self, query: Query, view: str) -> Generator[Deferred[Any], Any, Page]:
        """
        A page of all that a scope lists; see L{fabric.store.scope}.
        """
        _after(query.cursor)
        place, rank = scope.split(query.cursor)
        limit = query.limit or self._chunk
        where = scope_key(query.scopes[0])
        while True:
            replies = yield self._several("views", scope.commands(query.kind, where, view, place, rank, limit))
            found = scope.page(replies[-1], rank, limit)
            if isinstance(found, Page):
                return found
            rank = found

    def _by_ids(
        self, operation: str, query: Query, fields: tuple[str, ...], item: Callable[[list[Any]], Any]
    ) -> Deferred[Page]:
        """
        Records by id that one of the scopes lists: each record says itself
        which scopes list it, and at which place.
        """
        try:
            after = _after(query.cursor)
        except InvalidValue as reason:
            return fail(reason)
        scopes = ["s:" + scope_key(scope) for scope in query.scopes]
        count, kind = len(scopes), query.kind
        ids = query.ids if len(query.ids) == 1 else tuple(dict.fromkeys(query.ids))
        commands = [("HMGET", f"o:{kind}:{id}", *scopes, *fields) for id in ids]

        def page(rows: list[list[Any]]) -> Page:
            found, missing = [], []
            for id, row in zip(ids, rows, strict=True):
                place = row[0] or next(filter(None, row[:count]), None)
                if place is None:
                    missing.append(id)
                elif row[count] is not None and int(place) > after:
                    found.append((int(place), row))
            found.sort(key=_first)
            cursor = ""
            if query.limit is not None and len(found) > query.limit:
                del found[query.limit :]
                cursor = str(found[-1][0])
            return Page([item(row[count:]) for _, row in found], cursor, tuple(missing))

        return self._several(operation, commands).addCallback(page)

    @inlineCallbacks
    def _listing(self, operation: str, query: Query, view: str | None) -> Generator[Deferred[Any], Any, Page]:
        """
        A page by the list script, which is asked again only when much had to
        be looked at for little that was found.
        """
        data, limit = self._question(query, view), query.limit or self._chunk
        items: list[Any] = []
        width = 2 if view is None else 1
        while True:
            cursor, unfinished, missing, *found = yield self._run(operation, scripts.LIST, orjson.dumps(data))
            items += found
            if not unfinished:
                return Page(items, cursor.decode(), tuple(id.decode() for id in missing))
            if len(items) >= limit * width:
                return Page(items, cursor.decode())
            data["after"] = cursor.decode()
            data["limit"] = limit - len(items) // width

    def _question(self, query: Query, view: str | None) -> dict[str, Any]:
        data: dict[str, Any] = {
            "kind": query.kind,
            "scopes": [scope_key(scope) for scope in query.scopes],
            "filters": [_filter(facet, values) for facet, values in query.filters],
            "after": str(_after(query.cursor)),
            "limit": query.limit or (len(query.ids) if query.ids else self._chunk),
            "budget": BUDGET,
        }
        if view is not None:
            data["view"] = view
        if query.ids:
            data["ids"] = list(dict.fromkeys(query.ids))
        return data

    def values(self, kind: str, places: Sequence[tuple[str, str]]) -> Deferred[Values]:
        """See L{IStore.values}."""
        keys = [f"w:{kind}:{scope_key(scope)}:{facet_key(facet)}" for scope, facet in places]
        commands: list[Command] = [("MULTI",), ("TIME",), *(("ZRANGE", key, 0, -1) for key in keys), ("EXEC",)]

        def read(replies: list[Any]) -> Values:
            (seconds, micros), *found = replies[-1]
            at = int(seconds) * 1_000_000 + int(micros)
            return Values(at, [[value.decode() for value in values] for values in found])

        return self._several("values", commands).addCallback(read)

    def counters(self, names: Sequence[str]) -> Deferred[dict[str, int]]:
        """See L{IStore.counters}."""
        if not names:
            return succeed({})
        reply = self._ask("counters", "HMGET", "c", *names)
        return reply.addCallback(lambda values: {n: int(v or 0) for n, v in zip(names, values, strict=True)})

    def due(self, now: float, limit: int) -> Deferred[list[tuple[str, str]]]:
        """See L{IStore.due}."""
        reply = self._ask("due", "ZRANGEBYSCORE", "due", "-inf", repr(float(now)), "LIMIT", 0, limit)
        return reply.addCallback(lambda refs: [_ref(ref) for ref in refs])

    def beat(self, service: str, now: float) -> Deferred[None]:
        """See L{IStore.beat}."""
        return self._ask("beat", "HSET", "beats", service, repr(float(now))).addCallback(lambda _: None)

    def beats(self) -> Deferred[dict[str, float]]:
        """See L{IStore.beats}."""
        return self._ask("beats", "HGETALL", "beats").addCallback(
            lambda reply: {key.decode(): float(value) for key, value in _pairs(reply)}
        )

    def pools(self) -> Deferred[dict[str, tuple[int, int]]]:
        """See L{IStore.pools}."""
        return self._run("pools", scripts.LEVELS).addCallback(
            lambda reply: {
                reply[n].decode(): (reply[n + 1], reply[n + 1] + reply[n + 2]) for n in range(0, len(reply), 3)
            }
        )

    def events(self, after: str, limit: int, project: str | None) -> Deferred[list[tuple[str, dict[str, str]]]]:
        """
        See L{IStore.events}; fails with L{InvalidValue} if C{after} is no
        position.
        """
        if after and not _POSITION.match(after):
            return fail(InvalidValue("after", after, "not a position in the event stream"))
        key = "ev" if project is None else "ev:" + project
        reply = self._ask("events", "XRANGE", key, "(" + after if after else "-", "+", "COUNT", limit)
        return reply.addCallback(
            lambda rows: [
                (position.decode(), {name.decode(): value.decode() for name, value in _pairs(fields)})
                for position, fields in rows
            ]
        )

    def check(self, repair: bool) -> Deferred[list[Finding]]:
        """See L{IStore.check}."""
        from fabric.store.check import Checker

        return Checker(self._pool, self._views, self._kinds, self._run).check(repair)

    # Sending.

    def _ask(self, operation: str, *command: str | bytes | int) -> Deferred[Any]:
        return self._timed(operation, self._pool.call(*command))

    def _several(self, operation: str, commands: Sequence[Command]) -> Deferred[list[Any]]:
        if len(commands) == 1:
            return self._ask(operation, *commands[0]).addCallback(_alone)
        reply = self._pool.batch(commands).addCallback(_all_good)
        return self._timed(operation, reply)

    def _run(self, operation: str, script: Script, *arguments: str | bytes) -> Deferred[Any]:
        reply = self._pool.call("EVALSHA", script.sha, 0, *arguments)
        return self._timed(operation, reply.addErrback(self._unknown_script, script, arguments))

    def _unknown_script(self, failure: Failure, script: Script, arguments: tuple[str | bytes, ...]) -> Deferred[Any]:
        """A server that was started anew does not know the script."""
        failure.trap(ResponseError)
        if not str(failure.value).startswith("NOSCRIPT"):
            failure.raiseException()
        return self._pool.call("EVAL", script.text, 0, *arguments)

    def _timed(self, operation: str, reply: Deferred[Any]) -> Deferred[Any]:
        if self._metrics is not None:
            reply.addBoth(self._note, operation, monotonic())
        return reply

    def _note(self, result: Any, operation: str, start: float) -> Any:
        outcome = "ok"
        if isinstance(result, Failure):
            outcome = type(result.value).__name__ if isinstance(result.value, FabricError) else "failed"
        self._metrics.store(operation, outcome, monotonic() - start)
        return result


def _first(row: Sequence[Any]) -> Any:
    return row[0]


def _alone(row: Any) -> list[Any]:
    return [row]


def _all_good(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _stored(cls: type[R], generation: bytes | None, text: bytes | None) -> Stored[R] | None:
    if generation is None or text is None:
        return None
    return Stored(load(cls, text), int(generation))


def _load_page(page: Page, cls: type[Record]) -> Page:
    rows = page.items
    return Page([_stored(cls, rows[n], rows[n + 1]) for n in range(0, len(rows), 2)], page.cursor, page.missing)


def _after(cursor: str) -> int:
    if not cursor:
        return 0
    if not _CURSOR.match(cursor):
        raise InvalidValue("cursor", cursor, "not where a page ended")
    return scope.split(cursor)[0]


def _filter(facet: str, values: tuple[str, ...]) -> tuple[str, list[str], list[Any]]:
    read = [wanted(value) for value in values]
    return (
        facet_key(facet),
        [value for value in read if isinstance(value, str)],
        [value for value in read if not isinstance(value, str)],
    )


def _ref(text: bytes) -> tuple[str, str]:
    kind, _, id = text.decode().partition(":")
    return kind, id


def _pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
