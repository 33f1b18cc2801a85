"""
Records and views for tests of the store.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from zope.interface import implementer

from fabric.model.address import Address, FloatingRange
from fabric.model.flavor import InstanceType
from fabric.model.group import SecurityGroup
from fabric.model.host import Service, Stray
from fabric.model.image import Image
from fabric.model.instance import Instance
from fabric.model.keypair import KeyPair
from fabric.model.metadata_options import MetadataDefaults
from fabric.model.network import Network
from fabric.model.placement_group import PlacementGroup
from fabric.model.project_range import ProjectRange
from fabric.model.quota import Quota
from fabric.model.record import ALL, Derived, Record, tag_facets
from fabric.model.reservation import Reservation
from fabric.model.secret import Secret
from fabric.model.snapshot import Snapshot
from fabric.model.template import LaunchTemplate, LaunchTemplateVersion
from fabric.model.volume import Volume
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


KINDS: Mapping[str, type[Record]] = {
    cls.kind: cls
    for cls in (
        Instance,
        Reservation,
        KeyPair,
        Image,
        SecurityGroup,
        Network,
        ProjectRange,
        Service,
        Stray,
        Quota,
        InstanceType,
        PlacementGroup,
        LaunchTemplate,
        LaunchTemplateVersion,
        MetadataDefaults,
        Volume,
        Secret,
        Snapshot,
        Address,
        FloatingRange,
        Sample,
    )
}
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
