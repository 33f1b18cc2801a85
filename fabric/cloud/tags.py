"""
Tags, on every kind of thing that has them.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.cloud.listings import Filters
from fabric.cloud.retry import until_written
from fabric.errors import InvalidValue, LimitExceeded, NotFound
from fabric.ids import PREFIXES
from fabric.model.address import Address
from fabric.model.group import SecurityGroup, rule_name
from fabric.model.image import Image
from fabric.model.instance import Instance
from fabric.model.keypair import KeyPair
from fabric.model.pattern import matches
from fabric.model.placement_group import PlacementGroup
from fabric.model.record import Record
from fabric.model.snapshot import Snapshot
from fabric.model.template import LaunchTemplate
from fabric.model.volume import Volume
from fabric.store.interface import IStore, Page, Query, Want

TAGGABLE: tuple[type[Record], ...] = (
    Instance,
    KeyPair,
    Image,
    SecurityGroup,
    Volume,
    Snapshot,
    PlacementGroup,
    LaunchTemplate,
    Address,
)
MOST = 50
"""Tags that one thing may have, besides the cloud's own."""

RESERVED = "aws:"
"""How the keys of tags begin that the cloud gives, and nobody else may give or take away."""

RULE = "rule"
"""The kind of what has its tags in a group's record."""

_BY_PREFIX = {PREFIXES[cls.kind]: cls for cls in TAGGABLE} | {"aki": Image, "ari": Image}
_RULE_PREFIX = PREFIXES[RULE] + "-"

Change = Any


class Tags:
    """
    Writes tags of several things in one write, and lists them.
    """

    def __init__(self, store: IStore) -> None:
        self._store = store

    def create(self, caller: Caller, ids: Sequence[str], tags: Mapping[str, str]) -> Deferred[None]:
        """
        Set tags; a key that is there gets the new value.  All or nothing.

        @raise NotFound: a thing is not there or not the caller's.
        @raise LimitExceeded: a thing would have more than L{MOST} tags.
        """

        def merged(before: Mapping[str, str]) -> dict[str, str]:
            result = dict(before) | dict(tags)
            count = sum(not reserved(key) for key in result)
            if count > MOST:
                raise LimitExceeded("tags", MOST, len(before), count)
            return result

        return until_written(lambda: self._change(caller, ids, merged))

    def delete(self, caller: Caller, ids: Sequence[str], keys: Sequence[tuple[str, str | None]]) -> Deferred[None]:
        """
        Remove tags: those of a key, only with the given value unless it is
        None; all but the cloud's own when C{keys} is empty.  Absent ones are
        no error.

        @raise NotFound: a thing is not there or not the caller's.
        """
        wanted: dict[str, set[str | None]] = {}
        for key, value in keys:
            wanted.setdefault(key, set()).add(value)

        def remaining(before: Mapping[str, str]) -> dict[str, str]:
            if not wanted:
                return {key: value for key, value in before.items() if reserved(key)}
            return {key: value for key, value in before.items() if wanted.get(key, set()).isdisjoint((None, value))}

        return until_written(lambda: self._change(caller, ids, remaining))

    @inlineCallbacks
    def _change(self, caller: Caller, ids: Sequence[str], change: Change) -> Generator[Deferred[Any], Any, None]:
        ids = list(dict.fromkeys(ids))
        found = yield self._store.gather([_want(id) for id in ids])
        changed: dict[str, Record] = {}
        for id, stored in zip(ids, found, strict=True):
            if stored is None or stored.record.project != caller.project:
                raise NotFound(_kind_of(id), id)
            record = changed.get(stored.record.id, stored.record)
            changed[record.id] = _retagged(record, id, change)
        transaction = self._store.transaction(caller.request_id)
        for stored in {stored.record.id: stored for stored in found}.values():
            if changed[stored.record.id] != stored.record:
                transaction.update(stored, changed[stored.record.id])
        if transaction.puts:
            yield self._store.commit(transaction)

    @inlineCallbacks
    def page(
        self, caller: Caller, filters: Filters, cursor: str = "", limit: int | None = None
    ) -> Generator[Deferred[Any], Any, Page]:
        """
        A page of C{(resource id, kind, key, value)}.

        @param filters: of C{resource-id}, C{resource-type} (kinds), C{key}
            and C{value}; wildcards as in every listing.
        """
        wanted = dict(filters)
        places = [*((cls.kind, cls) for cls in TAGGABLE), (RULE, SecurityGroup)]
        kinds = [(kind, cls) for kind, cls in places if kind in wanted.get("resource-type", (kind,))]
        at, offset, store_cursor = _read_cursor(cursor)
        items: list[Any] = []
        while at < len(kinds):
            kind, cls = kinds[at]
            page = yield self._resources(caller, kind, cls, wanted, store_cursor)
            rows = [row for stored in page.items for row in _rows(stored.record, kind, wanted)]
            room = None if limit is None else limit - len(items)
            if room is not None and len(rows) - offset > room:
                items += rows[offset : offset + room]
                return Page(items, f"{at}|{offset + room}|{store_cursor}")
            items += rows[offset:]
            offset, store_cursor = 0, page.cursor
            at += not store_cursor
            if items and limit is None and at < len(kinds) and len(items) >= 1000:
                return Page(items, f"{at}|0|{store_cursor}")
        return Page(items, "")

    def _resources(self, caller: Caller, kind: str, cls: Any, wanted: Any, cursor: str) -> Deferred[Page]:
        prefix = "rule-" if kind == RULE else ""
        facets = [(prefix + "tagged", ("yes",))]
        if "key" in wanted:
            facets.append((prefix + "tag-key", wanted["key"]))
        if "value" in wanted:
            facets.append((prefix + "tag-value", wanted["value"]))
        ids = tuple(id for id in wanted.get("resource-id", ()) if "*" not in id and "?" not in id)
        if "resource-id" in wanted and len(ids) == len(wanted["resource-id"]) and kind != RULE:
            ids = tuple(id for id in ids if _BY_PREFIX.get(id.split("-")[0]) is cls)
            if not ids:
                return _nothing()
            return self._store.records(cls, Query(cls.kind, (caller.project,), tuple(facets), ids))
        return self._store.records(cls, Query(cls.kind, (caller.project,), tuple(facets), cursor=cursor))


def reserved(key: str) -> bool:
    """
    Whether only the cloud itself gives tags of this key.
    """
    return key.lower().startswith(RESERVED)


def _nothing() -> Deferred[Page]:
    done: Deferred[Page] = Deferred()
    done.callback(Page([], ""))
    return done


def _rows(record: Any, kind: str, wanted: Any) -> list[tuple[str, str, str, str]]:
    tagged = [(rule.id, rule.tags) for rule in record.rules] if kind == RULE else [(record.id, record.tags)]
    return [
        (id, kind, key, value)
        for id, tags in tagged
        if _matches(id, wanted.get("resource-id"))
        for key, value in sorted(tags.items())
        if _matches(key, wanted.get("key")) and _matches(value, wanted.get("value"))
    ]


def _matches(text: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(matches(pattern, text) for pattern in patterns)


def _want(id: str) -> Want:
    if id.startswith(_RULE_PREFIX):
        return Want(SecurityGroup, name=rule_name(id))
    return Want(_class_of(id), id=id)


def _kind_of(id: str) -> str:
    return RULE if id.startswith(_RULE_PREFIX) else _class_of(id).kind


def _retagged(record: Any, id: str, change: Change) -> Any:
    """The record after a change of its own tags, or of those of its rule C{id}."""
    if id == record.id:
        return attrs.evolve(record, tags=change(record.tags))
    rules = [attrs.evolve(each, tags=change(each.tags)) if each.id == id else each for each in record.rules]
    return attrs.evolve(record, rules=tuple(rules))


def _class_of(id: str) -> type[Record]:
    cls = _BY_PREFIX.get(id.split("-", 1)[0])
    if cls is None:
        raise InvalidValue("ResourceId", id, "not the id of a thing that has tags")
    return cls


def _read_cursor(cursor: str) -> tuple[int, int, str]:
    if not cursor:
        return 0, 0, ""
    try:
        at, offset, rest = cursor.split("|", 2)
        if not (at.isdecimal() and offset.isdecimal()):
            raise ValueError(cursor)
        return int(at), int(offset), rest
    except ValueError:
        raise InvalidValue("NextToken", cursor, "not a token of this listing") from None
