"""
A volume: its lifecycle, that of its attachment, its record, and what is filed.

An attachment is in two records, the volume's C{attachment} and one of the
instance's C{disks}; both are always written by one script, so a volume is
never on two instances, nor on one that does not know of it.

C{drawing: doc/lifecycles.rst}
"""

from __future__ import annotations

from typing import Any

import attrs

from fabric.errors import WrongState
from fabric.model.instance import Disk
from fabric.model.lifecycle import Deadline, Lifecycle
from fabric.model.record import ALL, Derived, Record, iso_time, tag_facets

LIFECYCLE = Lifecycle(
    kind="volume",
    initial="creating",
    final=frozenset({"deleted"}),
    moves={
        # What a user asks for.
        "attach": {"available": "in-use"},
        "delete": {"available": "deleting", "error": "deleting", "deleting": "deleting"},
        # What a volume host reports.
        "make": {"creating": "available"},
        "make_attached": {"creating": "in-use"},
        "vanish": {"deleting": "deleted"},
        # What the cloud itself decides.
        "release": {"in-use": "available", "creating": "creating", "error": "error"},
        "fail": {"creating": "error"},
        "discard": {"creating": "deleting", "available": "deleting", "error": "deleting"},
        "keep_deleting": {"deleting": "deleting"},
    },
    deadlines={"creating": Deadline(600.0, "fail"), "deleting": Deadline(300.0, "keep_deleting")},
)
"""Verbs, states and deadlines of volumes; a deleted one is forgotten."""

ATTACHMENT = Lifecycle(
    kind="attachment",
    initial="attaching",
    final=frozenset({"detached"}),
    moves={
        "confirm": {"attaching": "attached", "attached": "attached"},
        "detach": {"attaching": "detaching", "attached": "detaching", "detaching": "detaching", "busy": "busy"},
        "let_go": {"attaching": "detached", "attached": "detached", "detaching": "detached", "busy": "detached"},
        "give_up": {"attaching": "detaching"},
        "linger": {"detaching": "busy", "busy": "busy"},
    },
    deadlines={
        "attaching": Deadline(180.0, "give_up"),
        "detaching": Deadline(180.0, "linger"),
        "busy": Deadline(180.0, "linger"),
    },
)
"""
Verbs, states and deadlines of attachments.  A guest, or a host, that does not
let go is asked again and again; the attachment shows C{busy} meanwhile.
"""

TYPES = ("standard", "gp2", "gp3", "st1", "sc1")
"""Types that are accepted; they are names only, nothing promises a rate."""

LARGEST = 16384
"""GiB."""


@attrs.frozen
class Attachment:
    """
    That a volume is on an instance, or on its way to or from one.

    @ivar device: the name under which the user knows it there, C{/dev/sdf}.
    @ivar state: of L{ATTACHMENT}.
    @ivar order: the volume's when it was attached or detached; orders to hosts
        and their reports carry it, and a report about an older one is dropped.
    @ivar host: the instance's compute host, empty before it has one.
    @ivar changed_at: when the state was entered.
    @ivar force: whether the guest is not asked when it is detached.
    """

    instance: str
    device: str
    state: str
    attached_at: float
    changed_at: float
    order: int
    delete_on_termination: bool = False
    host: str = ""
    force: bool = False


@attrs.frozen
class Modification:
    """
    The last growth of a volume.

    @ivar state: C{modifying}, C{completed} or C{failed}.
    """

    state: str
    original_gb: int
    target_gb: int
    started_at: float
    order: int = 0
    ended_at: float = 0.0
    message: str = ""


@attrs.frozen
class Volume(Record):
    """
    One block device, on one volume host.

    @ivar order: grows with each verb; what hosts are told carries it.
    @ivar review_at: when the sweep looks at it next.
    @ivar reason: why it is in its state; for operators and users.
    @ivar host: the volume host, empty before one was chosen.
    @ivar snapshot: what it was made from, empty for nothing.
    @ivar auto_enable_io: EC2's C{autoEnableIO}, kept as it was set.
    @ivar token_digest: of the request that made it, beside its client token.
    """

    kind = "volume"
    taggable = True

    id: str
    project: str
    size_gb: int
    zone: str
    created_at: float
    changed_at: float
    state: str = "creating"
    order: int = 1
    review_at: float = 0.0
    reason: str = ""
    host: str = ""
    attachment: Attachment | None = None
    snapshot: str = ""
    volume_type: str = "standard"
    auto_enable_io: bool = False
    client_token: str = ""
    token_digest: str = ""
    modification: Modification | None = None
    refusals: dict[str, str] = attrs.field(factory=dict)
    tags: dict[str, str] = attrs.field(factory=dict)

    @property
    def growing(self) -> bool:
        """Whether its host was asked to make it larger and has not answered."""
        return self.modification is not None and self.modification.state == "modifying"

    @property
    def claimed_gb(self) -> int:
        """GiB that it takes of quota and host: the size to be, while it grows."""
        return self.modification.target_gb if self.modification and self.growing else self.size_gb

    @property
    def waits(self) -> bool:
        """Whether a host still owes an answer about it."""
        attached = self.attachment is not None and self.attachment.state in ATTACHMENT.deadlines
        return self.state in LIFECYCLE.deadlines or self.growing or attached

    def derived(self) -> Derived:
        """What is filed: listing and facets, quota, its host's room, its token."""
        return Derived(
            scopes=(self.project, ALL),
            lists=("volume-host:" + self.host,) if self.host else (),
            facets=tuple(self._facets()),
            unique=(token_name(self.project, self.client_token),) if self.client_token else (),
            counters=self._counters(),
            due=self.review_at if self.waits else None,
            references=self._references(),
            event={"state": self.state, "host": self.host},
        )

    def _counters(self) -> dict[str, int]:
        counters = {
            f"quota:{self.project}:volumes": 1,
            f"quota:{self.project}:gigabytes": self.claimed_gb,
        }
        if self.host:
            counters[room_counter(self.host)] = self.claimed_gb
        if self.snapshot and self.state == "creating":
            counters[f"uses:snapshot:{self.snapshot}"] = 1
        return counters

    def _references(self) -> tuple[tuple[str, str], ...]:
        return (("instance", self.attachment.instance),) if self.attachment else ()

    def _facets(self) -> list[tuple[str, str]]:
        facets = [
            ("id", self.id),
            ("state", self.state),
            ("size", str(self.size_gb)),
            ("zone", self.zone),
            ("type", self.volume_type),
            ("created", iso_time(self.created_at)),
        ]
        if self.snapshot:
            facets.append(("snapshot", self.snapshot))
        if self.host:
            facets.append(("host", self.host))
        if self.modification:
            facets += [("modified", "yes"), ("modification-state", self.modification.state)]
        if self.attachment:
            attachment = self.attachment
            facets += [
                ("attachment.instance", attachment.instance),
                ("attachment.device", attachment.device),
                ("attachment.status", attachment.state),
                ("attachment.attached", iso_time(attachment.attached_at)),
                ("attachment.delete", "true" if attachment.delete_on_termination else "false"),
            ]
        return facets + tag_facets(self.tags)


@attrs.frozen
class NewDisk:
    """
    A volume that a launch makes for an instance.

    @ivar snapshot: an id; empty for an empty volume.
    """

    device: str
    size_gb: int
    snapshot: str = ""
    volume_type: str = "standard"
    delete_on_termination: bool = True
    tags: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class AskedDisk:
    """
    A volume as a launch asks for it; what it leaves open is as the image says
    of that device, or else as usual.

    @ivar size_gb: 0 for the image's, or the snapshot's.
    @ivar snapshot: an id; empty for the image's, or none.
    @ivar volume_type: empty for the image's, or the usual one.
    @ivar delete_on_termination: None for as the image says, or else with it.
    """

    device: str
    size_gb: int = 0
    snapshot: str = ""
    volume_type: str = ""
    delete_on_termination: bool | None = None


def token_name(project: str, token: str) -> str:
    """The unique name by which a volume is found again by its client token."""
    return f"volume-token:{project}:{token}"


def room_counter(host: str) -> str:
    """The counter of the GiB that are promised of a volume host."""
    return f"load:volume.{host}:gigabytes"


def moved(volume: Volume, verb: str, now: float, reason: str = "", **changes: Any) -> Volume:
    """
    @return: the volume after a verb of L{LIFECYCLE}.
    @raise WrongState: the table has no such move from its state.
    """
    state = LIFECYCLE.next_state(verb, volume.state)
    if state is None:
        raise WrongState("volume", volume.id, volume.state, LIFECYCLE.sources(verb))
    if state != volume.state:
        changes |= {"state": state, "changed_at": now}
    return attrs.evolve(volume, reason=reason, **changes)


def attachment_moved(volume: Volume, verb: str, now: float, **changes: Any) -> Volume:
    """
    @return: the volume with its attachment after a verb of L{ATTACHMENT};
        without one, and so released, when it ends.
    @raise WrongState: the table has no such move.
    """
    attachment = volume.attachment
    state = None if attachment is None else ATTACHMENT.next_state(verb, attachment.state)
    if attachment is None or state is None:
        found = attachment.state if attachment else "detached"
        raise WrongState("attachment", volume.id, found, ATTACHMENT.sources(verb))
    if state in ATTACHMENT.final:
        return moved(volume, "release", now, volume.reason if volume.state == "error" else "", attachment=None)
    changed_at = attachment.changed_at if state == attachment.state else now
    return attrs.evolve(volume, attachment=attrs.evolve(attachment, state=state, changed_at=changed_at, **changes))


def disk_of(volume: Volume) -> Disk:
    """
    @return: what the instance's record says of a volume that is attached.
    """
    attachment = volume.attachment
    assert attachment is not None, volume.id
    return Disk(
        volume.id,
        attachment.device,
        attachment.state,
        attachment.attached_at,
        attachment.delete_on_termination,
        volume.host,
        attachment.order,
    )
