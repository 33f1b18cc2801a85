"""
An image's entry: what a launch may boot, and who may.

C{drawing: doc/lifecycles.rst}
"""

from __future__ import annotations

from typing import Any

import attrs

from fabric.errors import WrongState
from fabric.model.device import bare
from fabric.model.lifecycle import Deadline, Lifecycle
from fabric.model.record import ALL, PUBLIC, Derived, Record, iso_time, tag_facets

LIFECYCLE = Lifecycle(
    kind="image",
    initial="pending",
    final=frozenset({"failed"}),
    moves={
        # What hosts report.
        "finish": {"pending": "available", "available": "available"},
        # What the cloud itself decides, or a host says.
        "fail": {"pending": "failed", "failed": "failed"},
    },
    deadlines={"pending": Deadline(3600.0, "fail")},
)
"""Verbs, states and deadlines of images.  An image that is deregistered is gone at once."""


@attrs.frozen
class ImageDisk:
    """
    A volume that each launch of an image makes.

    @ivar snapshot: an id; empty for an empty volume.
    @ivar size_gb: 0 for the snapshot's.
    """

    device: str
    snapshot: str = ""
    size_gb: int = 0
    volume_type: str = "standard"
    delete_on_termination: bool = True


@attrs.frozen
class ImageFile:
    """
    One file of an image in the image store.

    @ivar role: C{disk}, C{kernel} or C{ramdisk}.
    @ivar digest: SHA-256 of the file, in hex.
    @ivar format: C{raw} or C{qcow2}.
    @ivar size: bytes of the file.
    @ivar disk_bytes: what a guest sees of a disk; 0 for other files.
    """

    role: str
    digest: str
    format: str
    size: int
    disk_bytes: int = 0


def file_counter(digest: str) -> str:
    """How many images and instances have a file."""
    return f"uses:file:{digest}"


@attrs.frozen
class Image(Record):
    """
    @ivar type: C{machine}, C{kernel} or C{ramdisk}.
    @ivar location: where its bytes are, in the image store's terms; empty
        while a host copies them, and when its root is a snapshot.
    @ivar root_device: where its root is, if that is said.
    @ivar disks: the volumes that a launch makes; one of them may be the root.
    @ivar shared_with: projects that may launch it besides its owner.
    @ivar instance: what it was made of, empty for none.
    @ivar host: which compute host copies, or copied, the instance's disk.
    @ivar restart: whether that host is to stop and start the instance for it;
        where that boots from a volume, until it has.
    @ivar reason: why it failed.
    @ivar review_at: when the sweep looks at one that is C{pending}.
    @ivar files: what a machine of it boots from, those of its kernel and
        ramdisk included; none when the image store has nothing of it.
    """

    kind = "image"
    taggable = True

    id: str
    project: str
    name: str
    location: str
    description: str = ""
    type: str = "machine"
    architecture: str = "x86_64"
    kernel: str = ""
    ramdisk: str = ""
    public: bool = False
    shared_with: tuple[str, ...] = ()
    state: str = "available"
    created_at: float = 0.0
    size: int = 0
    tags: dict[str, str] = attrs.field(factory=dict)
    root_device: str = ""
    disks: tuple[ImageDisk, ...] = ()
    instance: str = ""
    host: str = ""
    restart: bool = False
    client_token: str = ""
    source: str = ""
    reason: str = ""
    review_at: float = 0.0
    files: tuple[ImageFile, ...] = ()

    @property
    def shown_location(self) -> str:
        """What users see of where it is."""
        return self.location or f"{self.project}/{self.name}"

    @property
    def root_type(self) -> str:
        """EC2's word for what its root is: C{ebs} or C{instance-store}."""
        return "ebs" if any(bare(disk.device) == bare(self.root_device) for disk in self.disks) else "instance-store"

    @property
    def copying(self) -> bool:
        """Whether a compute host still has to copy a disk, or to stop a machine for the copies of its volumes."""
        owed = self.restart if self.root_type == "ebs" else not self.location
        return self.state == "pending" and owed and bool(self.host)

    def derived(self) -> Derived:
        """Filed for the owner, for those it is shared with, and for all."""
        counters = {f"quota:{self.project}:images": 1}
        counters |= {f"uses:snapshot:{disk.snapshot}": 1 for disk in self.disks if disk.snapshot}
        counters |= {file_counter(file.digest): 1 for file in self.files}
        return Derived(
            scopes=(self.project, ALL, *((PUBLIC,) if self.public else ()), *self.shared_with),
            facets=tuple(self._facets()),
            unique=(
                f"image:{self.project}:{self.name}",
                *((token_name(self.project, self.client_token),) if self.client_token else ()),
            ),
            counters=counters,
            references=tuple(("snapshot", disk.snapshot) for disk in self.disks if disk.snapshot),
            due=self.review_at if self.state in LIFECYCLE.deadlines else None,
            event={"state": self.state},
        )

    def _facets(self) -> list[tuple[str, str]]:
        facets = [
            ("id", self.id),
            ("name", self.name),
            ("description", self.description),
            ("location", self.shown_location),
            ("type", self.type),
            ("architecture", self.architecture),
            ("state", self.state),
            ("owner", self.project),
            ("public", "true" if self.public else "false"),
            ("created", iso_time(self.created_at)),
            ("root-type", self.root_type),
        ]
        for name, value in (
            ("kernel", self.kernel),
            ("ramdisk", self.ramdisk),
            ("root-device", self.root_device),
            ("instance", self.instance),
            ("source", self.source),
            ("reason", self.reason),
        ):
            if value:
                facets.append((name, value))
        for disk in self.disks:
            facets += [
                ("disk.device", disk.device),
                ("disk.snapshot", disk.snapshot),
                ("disk.size", str(disk.size_gb)),
                ("disk.type", disk.volume_type),
                ("disk.delete", "true" if disk.delete_on_termination else "false"),
            ]
        return facets + tag_facets(self.tags)


def token_name(project: str, token: str) -> str:
    """The unique name by which a copy is found again by its client token."""
    return f"image-token:{project}:{token}"


def moved(image: Image, verb: str, reason: str = "", **changes: Any) -> Image:
    """
    @return: the image after a verb.
    @raise WrongState: the table has no such move from its state.
    """
    state = LIFECYCLE.next_state(verb, image.state)
    if state is None:
        raise WrongState("image", image.id, image.state, LIFECYCLE.sources(verb))
    return attrs.evolve(image, state=state, reason=reason, **changes)


def boot_files(image: Image, *parts: Image) -> tuple[ImageFile, ...]:
    """
    What a machine of an image boots from.

    @param parts: kernel and ramdisk that it is to have in place of the image's.
    """
    replaced = {part.type for part in parts}
    kept = [file for file in image.files if file.role not in replaced]
    return (*kept, *(file for part in parts for file in part.files))


def may_use(image: Image, project: str) -> bool:
    """
    Whether an image is a project's to launch and to copy.
    """
    return image.public or image.project == project or project in image.shared_with
