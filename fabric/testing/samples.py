"""
Records and views for tests of the store.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from zope.interface import implementer

from fabric.model import kinds
from fabric.model.record import ALL, Derived, Record, tag_facets
from fabric.store.interface import IViews


@attrs.frozen
class Sample(Record):
    """
    A record that files whatever its fields say.

    @ivar name: unique in the project; empty for none.
    @ivar weight: what it adds to C{weight:PROJECT}.
    @ivar holds: members of the pool C{of} that it holds.
    @ivar makes: members of the pool C{made:ID}; none for no pool.
    """

    kind = "sample"
    taggable = True

    id: str
    project: str = "p"
    name: str = ""
    state: str = "new"
    weight: int = 0
    of: str = ""
    holds: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    host: str = ""
    due: float | None = None
    refers: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    shown: bool = True
    tags: dict[str, str] = attrs.field(factory=dict)

    def derived(self) -> Derived:
        """What the fields say."""
        return Derived(
            scopes=(self.project, ALL, *self.shared),
            lists=("host:" + self.host,) if self.host else (),
            facets=(("state", self.state), *(("holds", m) for m in self.holds), *tag_facets(self.tags)),
            unique=(f"sample:{self.project}:{self.name}",) if self.name else (),
            counters={f"weight:{self.project}": self.weight} if self.weight else {},
            pools=tuple((self.of, member) for member in self.holds),
            due=self.due,
            references=tuple(("sample", id) for id in self.refers),
            event={"state": self.state},
        )

    def pool_members(self) -> dict[str, tuple[str, ...]]:
        """One pool, if it has members."""
        return {"made:" + self.id: self.makes} if self.makes else {}


KINDS: Mapping[str, type[Record]] = {**kinds.KINDS, Sample.kind: Sample}
"""Every kind of record that there is, and L{Sample}."""


@implementer(IViews)
@attrs.frozen
class PlainViews:
    """
    Views that show the whole record, for tests that look at no door's.
    """

    def render(self, record: Record) -> dict[str, bytes]:
        """See L{IViews.render}."""
        if isinstance(record, Sample) and not record.shown:
            return {}
        return {"ec2": f"<{record.kind} {record.id} {record!r}>".encode()}
