"""
Images of instances: a copy of the instance's own disk, which its host makes, and
snapshots of its volumes.  Where it boots from one of these, its host only stops
and starts it, and has the snapshots made meanwhile.

The entry is C{pending} until all of them are complete.  What was not sent or not
answered is ordered again by the sweep, and what takes too long fails.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.cloud.access import Caller
from fabric.cloud.attachments import ROOT
from fabric.cloud.image_files import FileLinks
from fabric.cloud.images import SOON, Images
from fabric.cloud.launch import RESEND_AFTER
from fabric.cloud.launch_disks import MAPPING
from fabric.cloud.orders import WAIT
from fabric.cloud.retry import until_written
from fabric.cloud.snapshots import Snapshots
from fabric.cloud.volume_orders import snapshot_order
from fabric.compute.interface import IComputeWorker
from fabric.errors import Conflict, FabricError, InvalidValue, NotFound, WrongState
from fabric.faults import IFaults
from fabric.ids import new_id
from fabric.image.interface import CaptureOrder, ImageReport
from fabric.model.codec import encode
from fabric.model.device import bare
from fabric.model.image import LIFECYCLE, Image, ImageDisk, moved
from fabric.model.instance import Disk, Instance
from fabric.model.snapshot import Snapshot
from fabric.rpc.interface import Address, Context, IQueue
from fabric.store.interface import IStore, Stored
from fabric.volume.interface import AwaitedSnapshot


@attrs.frozen
class CaptureSpec:
    """
    What one CreateImage asks for.

    @ivar restart: whether the instance is stopped for it and started again.
    @ivar left_out: devices whose volumes are not to be in the image.
    @ivar deleted: by device, whether the volume that a launch makes of it is to
        go with its instance; as with this instance for those not named.
    """

    instance: str
    name: str
    description: str = ""
    restart: bool = True
    left_out: tuple[str, ...] = ()
    deleted: Mapping[str, bool] = attrs.field(factory=dict)
    tags: dict[str, str] = attrs.field(factory=dict)


class Captures:
    """
    Makes images of instances, and finishes those that wait for copies.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        queue: IQueue,
        images: Images,
        snapshots: Snapshots,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
        links: FileLinks | None = None,
    ) -> None:
        """
        @param links: by which copies of disks come into the object store.
        """
        self._links = links or FileLinks(None)
        self._store = store
        self._queue = queue
        self._images = images
        self._snapshots = snapshots
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def create(self, caller: Caller, spec: CaptureSpec) -> Generator[Deferred[Any], Any, Image]:
        """
        Begin to make an image of an instance.

        @raise NotFound: the instance is not the caller's.
        @raise WrongState: it neither runs nor is stopped; of kind L{ROOT}: it
            has no volume to boot from.
        @raise InvalidValue: its root is to be left out.
        @raise AlreadyExists: the project has an image of that name.
        @raise QuotaExceeded: the project has as many images, or snapshots, as
            it may.
        @raise NoCapacity: a volume's host has no room for its snapshot.
        """
        [stored] = yield self._store.read(Instance, [spec.instance])
        if stored is None or stored.record.project != caller.project:
            raise NotFound("instance", spec.instance)
        instance: Instance = stored.record
        if instance.state not in ("running", "stopped") or not instance.host:
            raise WrongState("instance", instance.id, instance.state, ["running", "stopped"])
        _check_root(instance, spec)
        yield self._images.check_name(caller, spec.name)
        disks = yield self._copied(caller, instance, spec)
        image = self._image(caller, instance, spec, disks)
        try:
            yield self._images.write_new(caller, image)
        except FabricError:
            yield self._images.drop_snapshots(caller, disks)
            raise
        self._faults.reach("cloud.image_written")
        if image.copying:
            yield self._order(caller.request_id, image)
        return image

    @inlineCallbacks
    def take(self, request_id: str, host: str, reports: Sequence[ImageReport]) -> Generator[Deferred[Any], Any, None]:
        """
        Note what became of machines' disks.  Repeating is safe; an image that
        was deregistered meanwhile stays gone.
        """
        for report in reports:
            yield until_written(lambda report=report: self._take(request_id, host, report))  # type: ignore[misc]
        self._faults.reach("cloud.image_reported")

    @inlineCallbacks
    def review(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Look at images that wait for something: the sweep's part.
        """
        found = yield self._store.read(Image, ids)
        for stored in found:
            if stored is None or (stored.record.derived().due or self._clock.seconds() + 1) > self._clock.seconds():
                continue
            try:
                yield self._review(stored)
            except (Conflict, NotFound):
                continue  # somebody moved it meanwhile; it will be due again if it must

    def _image(self, caller: Caller, instance: Instance, spec: CaptureSpec, disks: tuple[ImageDisk, ...]) -> Image:
        now = self._clock.seconds()
        restart = spec.restart and instance.state == "running"
        again = SOON if instance.boots_volume and not restart else self._resend_after
        return Image(
            new_id("image"),
            caller.project,
            spec.name,
            "",
            description=spec.description,
            architecture=instance.architecture,
            kernel=instance.kernel,
            ramdisk=instance.ramdisk,
            files=tuple(file for file in instance.files if file.role != "disk" and not instance.boots_volume),
            state="pending",
            created_at=now,
            tags=dict(spec.tags),
            root_device=instance.root_device,
            disks=disks,
            instance=instance.id,
            host=instance.host,
            restart=restart,
            review_at=now + min(again, self._resend_after),
        )

    @inlineCallbacks
    def _copied(
        self, caller: Caller, instance: Instance, spec: CaptureSpec
    ) -> Generator[Deferred[Any], Any, tuple[ImageDisk, ...]]:
        """Snapshots of the volumes that are to be in the image."""
        left_out = {bare(device) for device in spec.left_out}
        wanted = [disk for disk in instance.disks if bare(disk.device) not in left_out and disk.state == "attached"]
        others = [disk.volume for disk in instance.disks if disk not in wanted]
        if not wanted:
            return ()
        why = f"Created by CreateImage({instance.id})"
        held = instance.boots_volume and spec.restart and instance.state == "running"
        made = yield self._snapshots.create_all(caller, instance.id, why, exclude=others, held=held)
        by_volume = {snapshot.volume: snapshot for snapshot in made}
        return tuple(_disk(disk, by_volume[disk.volume], spec) for disk in wanted if disk.volume in by_volume)

    @inlineCallbacks
    def _order(self, request_id: str, image: Image) -> Generator[Deferred[Any], Any, None]:
        """Ask the instance's host for a copy; the sweep asks again if this fails."""
        copies = (yield self._copies(image)) if image.root_type == "ebs" else ()
        order = CaptureOrder(image.instance, image.id, image.restart, copies, "" if copies else self._links.upload())
        remote: IComputeWorker = self._queue.caster(
            IComputeWorker, Address("compute", image.host), Context(request_id, WAIT)
        )

        def unsent(failure: Any) -> None:
            failure.trap(FabricError)
            self.log.warn("{request_id}: {id} was not ordered: {why}", request_id=request_id, id=image.id, why=failure)

        remote.capture([encode(order)]).addErrback(unsent)

    @inlineCallbacks
    def _copies(self, image: Image) -> Generator[Deferred[Any], Any, tuple[AwaitedSnapshot, ...]]:
        """Its snapshots, to be made while its instance is stopped."""
        found = yield self._store.read(Snapshot, [disk.snapshot for disk in image.disks if disk.snapshot])
        snapshots = [stored.record for stored in found if stored is not None]
        return tuple(AwaitedSnapshot(snapshot.host, snapshot_order(snapshot)) for snapshot in snapshots)

    @inlineCallbacks
    def _take(self, request_id: str, host: str, report: ImageReport) -> Generator[Deferred[Any], Any, None]:
        [stored] = yield self._store.read(Image, [report.image])
        if stored is None or stored.record.host != host or not stored.record.copying:
            return
        image: Image = stored.record
        if image.root_type == "ebs":
            yield self._snapshots.release(request_id, [disk.snapshot for disk in image.disks if disk.snapshot])
        if report.state == "made":
            image = attrs.evolve(image, location=report.location, review_at=self._clock.seconds() + SOON)
            image = attrs.evolve(image, restart=image.restart and image.root_type != "ebs")
            if report.receipt:
                try:
                    disk = self._links.redeemed(report.receipt)
                except InvalidValue:
                    return  # it waited too long; the sweep orders it again
                image = attrs.evolve(image, files=(disk, *image.files), size=disk.size)
            image = yield self._settled(image)
        else:
            image = moved(image, "fail", report.message or "its host could not copy the disk")
        yield self._write(request_id, stored, image)

    @inlineCallbacks
    def _review(self, stored: Stored[Image]) -> Generator[Deferred[Any], Any, None]:
        now, image = self._clock.seconds(), stored.record
        deadline = LIFECYCLE.deadlines[image.state]
        if now - image.created_at > deadline.seconds:
            yield self._write("sweep", stored, moved(image, deadline.verb, "it was not complete in time"))
        elif image.copying:
            later = attrs.evolve(image, review_at=now + self._resend_after)
            yield self._write("sweep", stored, later)
            yield self._order("sweep", later)
        else:
            later = attrs.evolve(image, review_at=now + SOON)
            yield self._write("sweep", stored, (yield self._settled(later)))

    @inlineCallbacks
    def _settled(self, image: Image) -> Generator[Deferred[Any], Any, Image]:
        """The image as its snapshots have it."""
        ids = [disk.snapshot for disk in image.disks if disk.snapshot]
        found = yield self._store.read(Snapshot, ids)
        states = {stored.record.state if stored else "gone" for stored in found}
        if states - {"pending", "completed"}:
            return moved(image, "fail", "a snapshot of it failed")
        return image if "pending" in states else moved(image, "finish")

    @inlineCallbacks
    def _write(self, request_id: str, stored: Stored[Image], image: Image) -> Generator[Deferred[Any], Any, None]:
        transaction = self._store.transaction(request_id)
        transaction.update(stored, image)
        yield self._store.commit(transaction)


def _check_root(instance: Instance, spec: CaptureSpec) -> None:
    if not instance.bootable:
        raise WrongState(ROOT, instance.id, instance.root_device, ["attached"])
    root = instance.root
    if root is not None and bare(root.device) in {bare(device) for device in spec.left_out}:
        raise InvalidValue(MAPPING, root.device, f"The root device {root.device} can't be left out of an image")


def _disk(disk: Disk, snapshot: Snapshot, spec: CaptureSpec) -> ImageDisk:
    deleted = spec.deleted.get(disk.device, disk.delete_on_termination)
    return ImageDisk(disk.device, snapshot.id, snapshot.size_gb, delete_on_termination=deleted)
