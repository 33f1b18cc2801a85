"""
What every stored value says of itself.

A record is an immutable attrs value.  All that the store keeps besides the
record itself (indexes, unique names, counters, pool ownership, deadlines) is
I{derived}: a pure function of the record, returned by L{Record.derived}.  The
store files what it is told and C{cloud-manage check} computes it again, so the
two can be compared and repaired.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

import attrs

PUBLIC = "*public"
"""The scope in which everybody finds a record, as public images."""

ALL = "*all"
"""The scope in which operators and sweeps find every record of a kind."""


@attrs.frozen
class Derived:
    """
    All that is filed for a record.

    @ivar scopes: scopes whose listings have the record, with every facet.  A
        project's name is a scope.
    @ivar lists: scopes that list the record without facets, as C{host:NAME}.
    @ivar facets: C{(name, value)} pairs that a listing may ask for.
    @ivar unique: names that only one record may have, as
        C{key_pair:PROJECT:NAME}; a name resolves to the record's id.
    @ivar counters: what the record adds to each counter.
    @ivar pools: C{(pool, member)} pairs that the record holds.
    @ivar due: seconds since the epoch at which a sweep must look at the
        record; None for never.
    @ivar references: C{(kind, id)} pairs that must exist while this one does.
    @ivar event: what the event stream says of the record, beside kind and id.
    """

    scopes: tuple[str, ...]
    lists: tuple[str, ...] = ()
    facets: tuple[tuple[str, str], ...] = ()
    unique: tuple[str, ...] = ()
    counters: dict[str, int] = attrs.field(factory=dict)
    pools: tuple[tuple[str, str], ...] = ()
    due: float | None = None
    references: tuple[tuple[str, str], ...] = ()
    event: dict[str, str] = attrs.field(factory=dict)


class Record:
    """
    The base of stored values.

    Subclasses are C{attrs.frozen} with at least the fields C{id} and
    C{project} (empty for what belongs to the cloud itself), and optionally
    C{tags}.  C{generation} is not a field of the record: the store keeps it,
    see L{fabric.store.interface.Stored}.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    taggable: ClassVar[bool] = False
    id: str
    project: str

    def derived(self) -> Derived:
        """
        @return: all that is to be filed for this record; pure.
        """
        raise NotImplementedError

    def pool_members(self) -> dict[str, tuple[str, ...]]:
        """
        @return: the pools that exist because of this record, with all their
            members, free and held, as C{{pool: members}}.
        """
        return {}


def changed(record: Any, **changes: Any) -> Any:
    """
    @return: the same record with some fields changed; what L{attrs.evolve}
        does, for classes without slots, at a tenth of its cost.
    @raise TypeError: there is no such field.
    """
    state = record.__dict__
    if not changes.keys() <= state.keys():
        raise TypeError(f"{type(record).__name__} has no field {sorted(changes.keys() - state.keys())}")
    made = object.__new__(type(record))
    made.__dict__.update(state)
    made.__dict__.update(changes)
    return made


def tag_facets(tags: dict[str, str]) -> list[tuple[str, str]]:
    """
    The facets of a record's tags: C{tag:KEY} with the value, C{tag-key},
    C{tag-value}, and C{tagged} on one that has any.
    """
    facets: list[tuple[str, str]] = [("tagged", "yes")] if tags else []
    for key, value in tags.items():
        facets += [("tag:" + key, value), ("tag-key", key), ("tag-value", value)]
    return facets


def iso_time(seconds: float) -> str:
    """
    @return: seconds since the epoch as text of ISO 8601 in UTC,
        C{2026-11-21T10:00:00.000Z}, which a facet can be searched by.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:23] + "Z"
