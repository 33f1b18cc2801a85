"""
Images made of files in the image store, and what becomes of files that no
image has any more.

The store is another service: its door takes and gives files by links that are
signed here, and gives receipts for what it has, so that nobody has to be believed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.cloud.access import Caller
from fabric.cloud.quotas import Quotas, counter, quota_error
from fabric.cloud.retry import until_written
from fabric.errors import AlreadyExists, InvalidValue, LimitExceeded, NotFound, Unsupported
from fabric.ids import new_id
from fabric.image.interface import FileOrder, IStoreDoor
from fabric.model.image import Image, ImageFile, file_counter
from fabric.model.record import ALL
from fabric.objectstore.links import IMAGES, RECEIPT_SECONDS, Signer, image_path
from fabric.store.interface import IStore, Query

UPLOAD_SECONDS = 3600.0
"""How long an upload may wait to begin."""

LINK_SECONDS = 6 * 3600.0
"""How long a host may try to fetch a file, an order's wait in a queue included; another order brings another link."""

UNUSED_SECONDS = 2 * RECEIPT_SECONDS
"""
How long a file stays that no image has: longer than a receipt is good for, so
that none is removed while an image is made of it.
"""

PAGE = 500

ROLES = ("disk", "kernel", "ramdisk")


@attrs.frozen
class FilesSpec:
    """
    @ivar receipts: the store's, one of each role at most.
    """

    name: str
    receipts: tuple[str, ...]
    architecture: str = "x86_64"
    description: str = ""
    public: bool = False


class FileLinks:
    """
    What hosts are told of files.
    """

    def __init__(self, signer: Signer | None) -> None:
        """
        @param signer: None for a cloud without an object store.
        """
        self.signer = signer

    def orders(self, files: Iterable[ImageFile]) -> tuple[FileOrder, ...]:
        """
        The files with links that are good for a while.
        """
        return tuple(
            FileOrder(file.role, file.digest, file.format, file.size, file.disk_bytes, self._link(file))
            for file in files
        )

    def upload(self) -> str:
        """
        A link by which a host may bring a disk (POST); empty without an object store.
        """
        try:
            return self.required.link("POST", IMAGES, LINK_SECONDS, role="disk")
        except Unsupported:
            return ""

    def redeemed(self, receipt: str) -> ImageFile:
        """
        The file that the store gave a receipt for.

        @raise InvalidValue: it is not good.
        """
        role, stored = self.required.redeem(receipt)
        return ImageFile(role, stored.digest, stored.format, stored.size, stored.disk_bytes)

    def _link(self, file: ImageFile) -> str:
        try:
            return self.required.link("GET", image_path(file.digest), LINK_SECONDS)
        except Unsupported:
            return ""

    @property
    def required(self) -> Signer:
        """
        @raise Unsupported: this cloud has no object store.
        """
        if self.signer is None:
            raise Unsupported("image files: no object store is set up")
        return self.signer


class ImageFiles:
    """
    Verbs on images and their files, for operators of the cloud.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        quotas: Quotas,
        links: FileLinks,
        clock: IReactorTime,
        door: IStoreDoor | None = None,
    ) -> None:
        """
        @param door: by which files are removed; None for not at all.
        """
        self._store = store
        self._quotas = quotas
        self._links = links
        self._clock = clock
        self._door = door

    def links(self, role: str, digest: str) -> dict[str, str]:
        """
        @return: C{{"find", "put"}}: links for HEAD and PUT of a file.
        @raise InvalidValue: there is no such role.
        @raise Unsupported: this cloud has no object store.
        """
        if role not in ROLES:
            raise InvalidValue("role", role, "must be " + ", ".join(ROLES))
        signer, path = self._links.required, image_path(digest)
        methods = {"find": "GET", "put": "PUT"}
        return {name: signer.link(method, path, UPLOAD_SECONDS, role=role) for name, method in methods.items()}

    @inlineCallbacks
    def all(self, project: str = "") -> Generator[Deferred[Any], Any, list[Image]]:
        """
        Every image, or a project's own.
        """
        images: list[Image] = []
        cursor = ""
        while True:
            query = Query(Image.kind, (project or ALL,), cursor=cursor, limit=PAGE)
            page = yield self._store.records(Image, query)
            images += [stored.record for stored in page.items if project in ("", stored.record.project)]
            cursor = page.cursor
            if not cursor:
                return images

    @inlineCallbacks
    def add(self, caller: Caller, spec: FilesSpec, project: str) -> Generator[Deferred[Any], Any, Image]:
        """
        Make a project's image of files that the store has; its kernel and
        ramdisk are images by themselves.

        @return: the image of type C{machine}.
        @raise InvalidValue: a receipt is not good, or no disk is among the files.
        @raise AlreadyExists: the project has an image of that name.
        @raise QuotaExceeded: the project has as many as it may.
        """
        files: dict[str, ImageFile] = {}
        for receipt in spec.receipts:
            file = self._links.redeemed(receipt)
            files[file.role] = file
        if "disk" not in files or len(files) != len(spec.receipts):
            raise InvalidValue("receipts", "", "one file of each role, and a disk")
        if "ramdisk" in files and "kernel" not in files:
            raise InvalidValue("receipts", "", "a ramdisk needs a kernel")
        if not project or not spec.name:
            raise InvalidValue("name", spec.name, "an image needs a name, and a project")
        images = self._images(spec, project, files)
        yield until_written(lambda: self._write(caller, images))
        return images[-1]

    def forget(self, caller: Caller, id: str) -> Deferred[None]:
        """
        Deregister an image of any project.

        @raise NotFound: there is none.
        """
        return until_written(lambda: self._forget(caller, id))

    @inlineCallbacks
    def collect(self, unused: float = UNUSED_SECONDS) -> Generator[Deferred[Any], Any, None]:
        """
        Have files removed that no image and no instance has.

        @param unused: seconds since one was last put or asked for.
        """
        if self._door is None:
            return
        before = self._clock.seconds() - unused
        try:
            found = yield self._door.files()
        except Unsupported:
            return
        old = [file.digest for file in found if file.used_at < before]
        counters = yield self._store.counters([file_counter(digest) for digest in old])
        for digest in old:
            if not counters.get(file_counter(digest)):
                yield self._door.delete(digest, before)
                self.log.info("{digest} is of no image and no instance", digest=digest)

    def _images(self, spec: FilesSpec, project: str, files: dict[str, ImageFile]) -> list[Image]:
        """The parts, and last the image."""
        made: dict[str, Image] = {}
        for role in ("kernel", "ramdisk"):
            if role in files:
                made[role] = self._image(spec, project, f"{spec.name}-{role}", role, (files[role],))
        image = self._image(spec, project, spec.name, "machine", tuple(files.values()))
        ids = {role: part.id for role, part in made.items()}
        kernel, ramdisk = ids.get("kernel", ""), ids.get("ramdisk", "")
        image = attrs.evolve(image, description=spec.description, kernel=kernel, ramdisk=ramdisk)
        return [*made.values(), image]

    def _image(self, spec: FilesSpec, project: str, name: str, type: str, files: Sequence[ImageFile]) -> Image:
        return Image(
            new_id("image" if type == "machine" else type),
            project,
            name,
            f"{project}/{name}",
            type=type,
            architecture=spec.architecture,
            public=spec.public,
            created_at=self._clock.seconds(),
            size=sum(file.size for file in files),
            files=tuple(files),
        )

    @inlineCallbacks
    def _write(self, caller: Caller, images: Sequence[Image]) -> Generator[Deferred[Any], Any, None]:
        project = images[-1].project
        limits = yield self._quotas.limits(project)
        transaction = self._store.transaction(caller.request_id)
        for image in images:
            transaction.create(image)
        transaction.limit(counter(project, "images"), limits["images"])
        try:
            yield self._store.commit(transaction)
        except LimitExceeded as error:
            raise quota_error(error) from None
        except AlreadyExists as error:
            raise AlreadyExists("image", images[-1].name, error.holder) from None

    @inlineCallbacks
    def _forget(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        [stored] = yield self._store.read(Image, [id])
        if stored is None:
            raise NotFound("image", id)
        transaction = self._store.transaction(caller.request_id)
        transaction.delete(stored)
        yield self._store.commit(transaction)
