"""
Images made of files: what launches are told of them, and when files go.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from fabric.cloud.image_files import FilesSpec
from fabric.cloud.launch import LaunchSpec
from fabric.compute.interface import MachineOrder
from fabric.errors import AlreadyExists, InvalidValue, NotFound, QuotaExceeded, Unsupported
from fabric.image.interface import IStoreDoor, StoredFile
from fabric.model.image import Image
from fabric.objectstore.links import IMAGES, Signer, image_path
from fabric.testing.cloud import CALLER, OPERATOR, STRANGER, CloudUnderTest, make_cloud

Steps = Generator[Deferred[Any], Any, None]

_reactor: Any = reactor

FILES = {
    "disk": StoredFile("d" * 64, "qcow2", 4_000_000, 64 << 20),
    "kernel": StoredFile("e" * 64, "raw", 50_000_000),
    "ramdisk": StoredFile("f" * 64, "raw", 1_000_000),
}


@implementer(IStoreDoor)
class Door:
    """
    A store that only knows when files were used.
    """

    def __init__(self) -> None:
        self.used_at: dict[str, float] = {}

    def files(self) -> Deferred[list[StoredFile]]:
        """See L{IStoreDoor.files}."""
        return succeed([StoredFile(digest, "", 0, 0, used) for digest, used in self.used_at.items()])

    def delete(self, digest: str, unused_since: float) -> Deferred[None]:
        """See L{IStoreDoor.delete}."""
        if self.used_at.get(digest, 0) < unused_since:
            self.used_at.pop(digest, None)
        return succeed(None)


class ImageFilesTests(TestCase):
    """
    A cloud with an object store somewhere.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Steps:  # type: ignore[override]
        """One host, whose orders are noted."""
        self.door = Door()
        self.signer = Signer(lambda: b"secret", lambda: "http://store:3333", _reactor)
        self.all: CloudUnderTest = yield make_cloud(self, signer=self.signer, store_door=self.door)
        self.cloud = self.all.cloud
        self.orders: list[MachineOrder] = []
        hypervisor: Any = self.all.hosts["node1"].hypervisor
        spawn = hypervisor.spawn

        def noting(order: MachineOrder) -> Deferred[None]:
            self.orders.append(order)
            return spawn(order)  # type: ignore[no-any-return]

        hypervisor.spawn = noting

    def receipts(self, *roles: str) -> tuple[str, ...]:
        """The store's receipts for some of the files."""
        return tuple(self.signer.receipt(role, FILES[role]) for role in roles or FILES)

    def add(self, name: str, *roles: str, **more: Any) -> Deferred[Image]:
        """Make an image of the caller's project."""
        spec = FilesSpec(name, self.receipts(*roles), **more)
        adding: Deferred[Image] = self.cloud.image_files.add(OPERATOR, spec, CALLER.project)
        return adding

    @inlineCallbacks
    def test_parts(self) -> Steps:
        """An image has its kernel and ramdisk as images, and all of them belong to the project."""
        image = yield self.add("tiny")
        found = yield self.cloud.images.get(CALLER, [image.kernel, image.ramdisk, image.id])
        self.assertEqual(
            [(each.type, each.name) for each in found][:2], [("kernel", "tiny-kernel"), ("ramdisk", "tiny-ramdisk")]
        )
        self.assertEqual([id[:4] for id in (image.id, image.kernel, image.ramdisk)], ["ami-", "aki-", "ari-"])
        yield self.assertFailure(self.cloud.images.get(STRANGER, [image.id]), NotFound)
        listed = yield self.cloud.image_files.all(CALLER.project)
        self.assertEqual({each.id for each in listed}, {image.id, image.kernel, image.ramdisk})
        yield self.all.sound()

    @inlineCallbacks
    def test_public(self) -> Steps:
        """A public image is for all projects, with its parts."""
        image = yield self.add("tiny", public=True)
        found = yield self.cloud.images.get(STRANGER, [image.id, image.kernel, image.ramdisk])
        self.assertEqual(len(found), 3)

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """Without good receipts, a disk among them, or with a name that is taken, nothing is made."""
        yield self.add("taken", "disk")
        forged = tuple(text[:-1] + "x" for text in self.receipts("disk"))
        for receipts in (
            forged,
            (),
            self.receipts("kernel"),
            self.receipts("disk", "disk"),
            self.receipts("disk", "ramdisk"),
        ):
            adding = self.cloud.image_files.add(OPERATOR, FilesSpec("odd", receipts), CALLER.project)
            yield self.assertFailure(adding, InvalidValue)
        yield self.assertFailure(self.add("taken"), AlreadyExists)
        yield self.cloud.quotas.set(OPERATOR, CALLER.project, {"images": 3})
        yield self.assertFailure(self.add("many"), QuotaExceeded)
        listed = yield self.cloud.image_files.all(CALLER.project)
        self.assertEqual([each.name for each in listed], ["taken"])

    @inlineCallbacks
    def test_launch(self) -> Steps:
        """A host is told of each file, by a link that lets it be fetched."""
        image = yield self.add("tiny")
        [instance] = yield self.cloud.instances.run(CALLER, LaunchSpec(image=image.id, flavor="m1.tiny"))
        yield self.all.until_state("running", instance.id)
        told = {file.role: file for file in self.orders[0].files}
        self.assertEqual(set(told), set(FILES))
        for role, file in told.items():
            stored = FILES[role]
            self.assertEqual((file.digest, file.format, file.size), (stored.digest, stored.format, stored.size))
            parts = urlsplit(file.link)
            self.assertEqual((parts.netloc, parts.path), ("store:3333", image_path(file.digest)))
            self.assertEqual(self.signer.check("GET", parts.path, parts.query), {})
        self.assertEqual(told["disk"].disk_bytes, 64 << 20)
        yield self.all.sound()

    @inlineCallbacks
    def test_another_kernel(self) -> Steps:
        """A launch with another kernel, and an instance given one, boot that one's file."""
        image = yield self.add("tiny")
        stored = StoredFile("a" * 64, "raw", 7)
        receipts = (*self.receipts("disk"), self.signer.receipt("kernel", stored))
        other = yield self.cloud.image_files.add(OPERATOR, FilesSpec("other", receipts), CALLER.project)
        spec = LaunchSpec(image=image.id, flavor="m1.tiny", kernel=other.kernel)
        [instance] = yield self.cloud.instances.run(CALLER, spec)
        yield self.all.until_state("running", instance.id)
        yield self.cloud.instances.stop(CALLER, [instance.id], False)
        yield self.all.until_state("stopped", instance.id)
        yield self.cloud.instances.modify(CALLER, instance.id, kernel=image.kernel)
        yield self.cloud.instances.start(CALLER, [instance.id])
        yield self.all.until_state("running", instance.id)
        kernels = [{file.role: file.digest for file in order.files}["kernel"] for order in self.orders]
        self.assertEqual(kernels, [stored.digest, FILES["kernel"].digest])
        self.assertEqual([len(order.files) for order in self.orders], [3, 3])
        yield self.all.sound()

    @inlineCallbacks
    def test_collected(self) -> Steps:
        """A file goes when no image and no instance has it, and it was not used lately."""
        image = yield self.add("tiny")
        [instance] = yield self.cloud.instances.run(CALLER, LaunchSpec(image=image.id, flavor="m1.tiny"))
        yield self.all.until_state("running", instance.id)
        now = _reactor.seconds()
        self.door.used_at = {stored.digest: now - 10_000 for stored in FILES.values()} | {"0" * 64: now - 10_000}
        self.door.used_at["1" * 64] = now
        for id in (image.id, image.kernel, image.ramdisk):
            yield self.cloud.image_files.forget(OPERATOR, id)
        yield self.cloud.image_files.collect()
        self.assertEqual(set(self.door.used_at), {stored.digest for stored in FILES.values()} | {"1" * 64})
        yield self.cloud.instances.terminate(CALLER, [instance.id])
        yield self.all.until(lambda: not self.all.hosts["node1"].hypervisor._guests)
        yield self.all.until_state("terminated", instance.id)

        @inlineCallbacks
        def collected() -> Generator[Deferred[Any], Any, bool]:
            yield self.cloud.image_files.collect()
            return set(self.door.used_at) == {"1" * 64}

        yield self.all.until(collected)

    @inlineCallbacks
    def test_no_store(self) -> Steps:
        """A cloud without an object store says so, and still launches what it had."""
        image = yield self.add("tiny")
        self.signer.__init__(lambda: b"secret", lambda: "", _reactor)  # type: ignore[misc]
        self.assertRaises(Unsupported, self.cloud.image_files.links, "disk", "0" * 64)
        [instance] = yield self.cloud.instances.run(CALLER, LaunchSpec(image=image.id, flavor="m1.tiny"))
        yield self.all.until_state("running", instance.id)
        self.assertEqual([file.link for file in self.orders[0].files], ["", "", ""])

    def test_links(self) -> None:
        """Links let a file be found and put, as what it is, and nothing else."""
        links = self.cloud.image_files.links("disk", "0" * 64)
        found = [urlsplit(links[name]) for name in ("find", "put")]
        path = f"{IMAGES}/{'0' * 64}"
        self.assertEqual([parts.path for parts in found], [path, path])
        self.assertEqual(self.signer.check("HEAD", path, found[0].query), {"role": "disk"})
        self.assertEqual(self.signer.check("PUT", path, found[1].query), {"role": "disk"})
        self.assertRaises(InvalidValue, self.cloud.image_files.links, "floppy", "0" * 64)
