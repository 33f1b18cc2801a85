"""
Images as entries: made of locations, snapshots and other images, shared, and
forgotten.  L{fabric.cloud.captures} makes them of instances.

An entry's bytes are the image store's.  Deregistering removes the entry, at
once and whatever uses it: machines that were launched from it run on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.listings import Listings
from fabric.cloud.quotas import Quotas, counter, quota_error
from fabric.cloud.retry import until_written
from fabric.cloud.sharing import shared
from fabric.cloud.snapshots import Snapshots
from fabric.errors import (
    AlreadyExists,
    FabricError,
    IdempotencyMismatch,
    InvalidValue,
    LimitExceeded,
    NotFound,
    WrongState,
)
from fabric.ids import new_id
from fabric.model.image import Image, ImageDisk, may_use, token_name
from fabric.model.snapshot import Snapshot
from fabric.store.interface import IStore, Stored

SAMPLE_OWNER = "cloud"
"""The project that owns the sample images."""

OTHERS = "others_image"
"""The kind in a L{NotFound} for an image that the caller may launch, and no more."""

SOON = 2.0
"""Seconds until the next look at an image that waits for its snapshots."""


@attrs.frozen
class ImageSpec:
    """
    What one registration asks for.

    @ivar location: where the bytes are; empty for an image whose root is one
        of C{disks}.
    @ivar root_device: which of C{disks} is the root.
    """

    name: str
    location: str = ""
    description: str = ""
    architecture: str = "x86_64"
    kernel: str = ""
    ramdisk: str = ""
    root_device: str = ""
    disks: tuple[ImageDisk, ...] = ()
    tags: dict[str, str] = attrs.field(factory=dict)


class Images:
    """
    Verbs on entries; each is one write.
    """

    def __init__(
        self, store: IStore, listings: Listings, quotas: Quotas, snapshots: Snapshots, clock: IReactorTime
    ) -> None:
        self._store = store
        self._listings = listings
        self._quotas = quotas
        self._snapshots = snapshots
        self._clock = clock

    @inlineCallbacks
    def get(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Image]]:
        """
        Images that the caller may launch.

        @raise NotFound: one is not there, or not the caller's to use.
        """
        page = yield self._listings.records(caller, Image, ids=ids)
        return [stored.record for stored in page.items]

    @inlineCallbacks
    def own(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, Image]:
        """
        An image of the caller's project.

        @raise NotFound: it is not there; of kind L{OTHERS}: the caller may
            launch it, but it is another project's.
        """
        stored = yield self._own(caller, id)
        return stored.record  # type: ignore[no-any-return]

    @inlineCallbacks
    def register(self, caller: Caller, spec: ImageSpec) -> Generator[Deferred[Any], Any, Image]:
        """
        Make an entry for bytes at a location, or for snapshots.

        @raise AlreadyExists: the project has an image of that name.
        @raise NotFound: a snapshot, kernel or ramdisk is not the caller's to use.
        @raise WrongState: a snapshot is not complete.
        @raise InvalidValue: a disk is smaller than its snapshot.
        @raise QuotaExceeded: the project has as many as it may.
        """
        yield self._parts(caller, spec)
        disks = yield self._of_snapshots(caller, spec.disks)
        now = self._clock.seconds()
        image = Image(
            new_id("image"),
            caller.project,
            spec.name,
            spec.location,
            description=spec.description,
            architecture=spec.architecture,
            kernel=spec.kernel,
            ramdisk=spec.ramdisk,
            created_at=now,
            tags=dict(spec.tags),
            root_device=spec.root_device,
            disks=disks,
        )
        yield self.write_new(caller, image)
        return image

    def deregister(self, caller: Caller, id: str) -> Deferred[None]:
        """
        Forget an image.

        @raise NotFound: as L{own}.
        """
        return until_written(lambda: self._deregister(caller, id))

    @inlineCallbacks
    def copy(
        self,
        caller: Caller,
        source: str,
        name: str,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        copy_tags: bool = False,
        client_token: str = "",
    ) -> Generator[Deferred[Any], Any, Image]:
        """
        Make an image of the caller's own out of one that it may use; repeating
        with the same client token gives the same image.  Its snapshots are
        copied, too; the copy is C{pending} until they are complete.

        @param description: None for the source's.
        @param copy_tags: whether to take the source's tags, if it is the caller's.
        @raise NotFound: the source, or one of its snapshots, is not the
            caller's to use.
        @raise WrongState: the source is not available.
        @raise AlreadyExists: the project has an image of that name.
        @raise QuotaExceeded: the project has as many images, or snapshots, as
            it may.
        @raise IdempotencyMismatch: the token was used for another copy.
        """
        wanted = (source, name)
        repeated = yield self._repeated(caller, client_token, wanted)
        if repeated is not None:
            return repeated  # type: ignore[no-any-return]
        [stored] = yield self._store.read(Image, [source])
        if stored is None or not may_use(stored.record, caller.project):
            raise NotFound("image", source)
        before: Image = stored.record
        if before.state != "available":
            raise WrongState("image", source, before.state, ["available"])
        yield self.check_name(caller, name)
        disks = yield self._copied(caller, before)
        own_tags = before.tags if copy_tags and before.project == caller.project else {}
        image = attrs.evolve(
            self._copy_of(before, disks),
            project=caller.project,
            name=name,
            description=before.description if description is None else description,
            tags={**own_tags, **(tags or {})},
            client_token=client_token,
        )
        try:
            yield self.write_new(caller, image)
        except FabricError as error:
            yield self.drop_snapshots(caller, disks)
            if not isinstance(error, AlreadyExists):
                raise
            repeated = yield self._repeated(caller, client_token, wanted)
            if repeated is None:
                raise
            return repeated  # type: ignore[no-any-return]
        return image

    def _copy_of(self, before: Image, disks: tuple[ImageDisk, ...]) -> Image:
        """
        The same image once more, not yet anybody's, with these disks.
        """
        now = self._clock.seconds()
        return attrs.evolve(
            before,
            id=new_id(before.type if before.type in ("kernel", "ramdisk") else "image"),
            public=False,
            shared_with=(),
            state="pending" if any(disk.snapshot for disk in disks) else "available",
            created_at=now,
            review_at=now + SOON,
            disks=disks,
            source=before.id,
            instance="",
            host="",
        )

    def share(
        self,
        caller: Caller,
        id: str,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        public: bool | None = None,
    ) -> Deferred[None]:
        """
        Let projects launch an image, or no longer.  Repeating is safe.

        @param public: whether everybody may; None to leave that.
        @raise NotFound: as L{own}.
        @raise InvalidValue, LimitExceeded: as L{shared}.
        """

        def changed(image: Image) -> Image:
            seen = image.public if public is None else public
            return attrs.evolve(image, shared_with=shared(image.project, image.shared_with, add, remove), public=seen)

        return self._change(caller, id, changed)

    def reset_sharing(self, caller: Caller, id: str) -> Deferred[None]:
        """
        Let nobody but the owner launch it.

        @raise NotFound: as L{own}.
        """
        return self._change(caller, id, lambda image: attrs.evolve(image, shared_with=(), public=False))

    def describe_as(self, caller: Caller, id: str, description: str) -> Deferred[None]:
        """
        Give an image another description.

        @raise NotFound: as L{own}.
        """
        return self._change(caller, id, lambda image: attrs.evolve(image, description=description))

    @inlineCallbacks
    def check_name(self, caller: Caller, name: str) -> Generator[Deferred[Any], Any, None]:
        """
        Refuse early what L{write_new} would refuse.

        @raise AlreadyExists: the project has an image of that name.
        """
        [stored] = yield self._store.resolve(Image, [f"image:{caller.project}:{name}"])
        if stored is not None:
            raise AlreadyExists("image", name, stored.record.id)

    def write_new(self, caller: Caller, image: Image) -> Deferred[None]:
        """
        Write a new entry within the quota, its snapshots being there.

        @raise AlreadyExists: the project has an image of that name, or token.
        @raise NotFound: a snapshot is gone.
        @raise QuotaExceeded: the project has as many as it may.
        """
        return until_written(lambda: self._write_new(caller, image))

    @inlineCallbacks
    def _write_new(self, caller: Caller, image: Image) -> Generator[Deferred[Any], Any, None]:
        limits = yield self._quotas.limits(caller.project)
        ids = list(dict.fromkeys(disk.snapshot for disk in image.disks if disk.snapshot))
        found = yield self._store.read(Snapshot, ids)
        transaction = self._store.transaction(caller.request_id)
        for id, stored in zip(ids, found, strict=True):
            if stored is None or not stored.record.shown:
                raise NotFound("snapshot", id)
            # Written again as it is, so that it can't be deleted meanwhile.
            transaction.update(stored, stored.record)
        transaction.create(image)
        transaction.limit(counter(caller.project, "images"), limits["images"])
        try:
            yield self._store.commit(transaction)
        except LimitExceeded as error:
            raise quota_error(error) from None
        except AlreadyExists as error:
            raise AlreadyExists("image", image.name, error.holder) from None

    @inlineCallbacks
    def drop_snapshots(self, caller: Caller, disks: Sequence[ImageDisk]) -> Generator[Deferred[Any], Any, None]:
        """
        Remove what was copied for an image that is not to be.
        """
        for disk in disks:
            if disk.snapshot:
                yield self._snapshots.delete(caller, disk.snapshot)

    @inlineCallbacks
    def _parts(self, caller: Caller, spec: ImageSpec) -> Generator[Deferred[Any], Any, None]:
        named = {kind: id for kind, id in (("kernel", spec.kernel), ("ramdisk", spec.ramdisk)) if id}
        found = yield self._store.read(Image, list(named.values()))
        for (kind, id), stored in zip(named.items(), found, strict=True):
            if stored is None or stored.record.type != kind or not may_use(stored.record, caller.project):
                raise NotFound(kind, id)

    @inlineCallbacks
    def _of_snapshots(
        self, caller: Caller, disks: Sequence[ImageDisk]
    ) -> Generator[Deferred[Any], Any, tuple[ImageDisk, ...]]:
        """The disks with their sizes, their snapshots being usable."""
        ids = list(dict.fromkeys(disk.snapshot for disk in disks if disk.snapshot))
        found: list[Snapshot] = (yield self._snapshots.get(caller, ids)) if ids else []
        snapshots = dict(zip(ids, found, strict=True))
        sized = []
        for disk in disks:
            snapshot = snapshots.get(disk.snapshot)
            if snapshot is not None:
                if snapshot.state != "completed":
                    raise WrongState("snapshot", snapshot.id, snapshot.state, ["completed"])
                if disk.size_gb and disk.size_gb < snapshot.size_gb:
                    why = f"smaller than its snapshot, of {snapshot.size_gb} GiB"
                    raise InvalidValue("VolumeSize", str(disk.size_gb), why)
            sized.append(attrs.evolve(disk, size_gb=disk.size_gb or (snapshot.size_gb if snapshot else 0)))
        return tuple(sized)

    @inlineCallbacks
    def _copied(self, caller: Caller, image: Image) -> Generator[Deferred[Any], Any, tuple[ImageDisk, ...]]:
        """
        The disks with copies of their snapshots, which are the caller's.
        """
        disks = []
        for disk in image.disks:
            if disk.snapshot:
                why = f"Copied for the copy of {image.id}"
                copy = yield self._snapshots.copy(caller, disk.snapshot, why)
                disk = attrs.evolve(disk, snapshot=copy.id)
            disks.append(disk)
        return tuple(disks)

    @inlineCallbacks
    def _repeated(
        self, caller: Caller, token: str, wanted: tuple[str, str]
    ) -> Generator[Deferred[Any], Any, Image | None]:
        if not token:
            return None
        [stored] = yield self._store.resolve(Image, [token_name(caller.project, token)])
        if stored is not None and (stored.record.source, stored.record.name) != wanted:
            raise IdempotencyMismatch(token)
        return stored and stored.record  # type: ignore[no-any-return]

    @inlineCallbacks
    def _deregister(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        stored = yield self._own(caller, id)
        transaction = self._store.transaction(caller.request_id)
        transaction.delete(stored)
        yield self._store.commit(transaction)

    def _change(self, caller: Caller, id: str, changed: Callable[[Image], Image]) -> Deferred[None]:
        return until_written(lambda: self._change_once(caller, id, changed))

    @inlineCallbacks
    def _change_once(
        self, caller: Caller, id: str, changed: Callable[[Image], Image]
    ) -> Generator[Deferred[Any], Any, None]:
        stored = yield self._own(caller, id)
        record = changed(stored.record)
        if record != stored.record:
            transaction = self._store.transaction(caller.request_id)
            transaction.update(stored, record)
            yield self._store.commit(transaction)

    @inlineCallbacks
    def _own(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, Stored[Image]]:
        [stored] = yield self._store.read(Image, [id])
        if stored is None or not may_use(stored.record, caller.project):
            raise NotFound("image", id)
        if stored.record.project != caller.project:
            raise NotFound(OTHERS, id)
        return stored  # type: ignore[no-any-return]

    @inlineCallbacks
    def ensure_samples(self, now: float) -> Generator[Deferred[Any], Any, None]:
        """
        Make the public sample images that every new cloud has.  Safe to repeat
        and to run on several controllers at once.
        """
        for images in _samples(now):
            transaction = self._store.transaction("first-start")
            for image in images:
                transaction.create(image)
            try:
                yield self._store.commit(transaction)
            except AlreadyExists:
                continue


def _samples(now: float) -> list[list[Image]]:
    kernel, ramdisk = "aki-00000000000000001", "ari-00000000000000001"
    parts = [
        Image(kernel, SAMPLE_OWNER, "sample-kernel", "sample/vmlinuz", type="kernel", public=True, created_at=now),
        Image(ramdisk, SAMPLE_OWNER, "sample-ramdisk", "sample/initrd", type="ramdisk", public=True, created_at=now),
    ]
    tiny = Image(
        "ami-00000000000000001",
        SAMPLE_OWNER,
        "sample-tiny",
        "sample/tiny.img",
        description="A tiny sample image with its own kernel and ramdisk",
        kernel=kernel,
        ramdisk=ramdisk,
        public=True,
        created_at=now,
    )
    server = Image(
        "ami-00000000000000002",
        SAMPLE_OWNER,
        "sample-server",
        "sample/server.qcow2",
        description="A sample whole-disk server image",
        public=True,
        created_at=now,
    )
    return [[*parts, tiny], [server]]
