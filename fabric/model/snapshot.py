"""
A snapshot: a copy of a volume as it was at one time.

C{drawing: doc/lifecycles.rst}
"""

from __future__ import annotations

from typing import Any

import attrs

from fabric.errors import WrongState
from fabric.model.lifecycle import Deadline, Lifecycle
from fabric.model.record import ALL, PUBLIC, Derived, Record, iso_time, tag_facets
from fabric.model.volume import room_counter

LIFECYCLE = Lifecycle(
    kind="snapshot",
    initial="pending",
    final=frozenset({"deleted"}),
    moves={
        # What a user asks for.
        "delete": {"pending": "deleting", "completed": "deleting", "error": "deleting", "deleting": "deleting"},
        # What a volume host reports.
        "complete": {"pending": "completed", "completed": "completed"},
        "vanish": {"deleting": "deleted"},
        # What the cloud itself decides.
        "fail": {"pending": "error"},
        "keep_deleting": {"deleting": "deleting"},
    },
    deadlines={"pending": Deadline(3600.0, "fail"), "deleting": Deadline(300.0, "keep_deleting")},
)
"""
Verbs, states and deadlines of snapshots.  One that is deleted is the user's no
more from that moment; the record stays until its host has none of it.
"""


@attrs.frozen
class Snapshot(Record):
    """
    A copy, on the volume host where its volume was.

    @ivar volume: what it was made of; may be gone.
    @ivar source: the snapshot that it is a copy of, empty for a volume's.
    @ivar size_gb: of the volume when it was made.
    @ivar progress: percent.
    @ivar reason: why it is in its state.
    @ivar shared_with: projects that may make volumes of it.
    @ivar order, review_at: as of L{fabric.model.volume.Volume}.
    """

    kind = "snapshot"
    taggable = True

    id: str
    project: str
    volume: str
    size_gb: int
    host: str
    zone: str
    created_at: float
    changed_at: float
    state: str = "pending"
    order: int = 1
    review_at: float = 0.0
    progress: int = 0
    reason: str = ""
    description: str = ""
    source: str = ""
    completed_at: float = 0.0
    public: bool = False
    shared_with: tuple[str, ...] = ()
    tags: dict[str, str] = attrs.field(factory=dict)

    @property
    def shown(self) -> bool:
        """Whether users still see it."""
        return self.state != "deleting"

    def usable_by(self, project: str) -> bool:
        """Whether a project may see it and make volumes of it."""
        return self.shown and (self.public or self.project == project or project in self.shared_with)

    def derived(self) -> Derived:
        """What is filed: listings of its owner and those it is shared with, quota, room."""
        seers = (self.project, *((PUBLIC,) if self.public else ()), *self.shared_with) if self.shown else ()
        return Derived(
            scopes=(*dict.fromkeys(seers), ALL),
            lists=("volume-host:" + self.host,),
            facets=tuple(self._facets()),
            counters=self._counters(),
            due=self.review_at if self.state in LIFECYCLE.deadlines else None,
            event={"state": self.state, "host": self.host},
        )

    def _counters(self) -> dict[str, int]:
        counters = {room_counter(self.host): self.size_gb}
        if self.shown:
            counters[f"quota:{self.project}:snapshots"] = 1
        if self.state == "pending":
            what = f"uses:snapshot:{self.source}" if self.source else f"uses:volume:{self.volume}"
            counters[what] = 1
        return counters

    def _facets(self) -> list[tuple[str, str]]:
        return [
            ("id", self.id),
            ("state", self.state),
            ("volume", self.volume),
            ("size", str(self.size_gb)),
            ("description", self.description),
            ("owner", self.project),
            ("progress", f"{self.progress}%"),
            ("started", iso_time(self.created_at)),
            ("public", "true" if self.public else "false"),
            *tag_facets(self.tags),
        ]


def moved(snapshot: Snapshot, verb: str, now: float, reason: str = "", **changes: Any) -> Snapshot:
    """
    @return: the snapshot after a verb.
    @raise WrongState: the table has no such move from its state.
    """
    state = LIFECYCLE.next_state(verb, snapshot.state)
    if state is None:
        raise WrongState("snapshot", snapshot.id, snapshot.state, LIFECYCLE.sources(verb))
    if state != snapshot.state:
        changes |= {"state": state, "changed_at": now}
    return attrs.evolve(snapshot, reason=reason, **changes)
