"""
Attaching: a volume and an instance are always changed by one script.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.retry import until_written
from fabric.cloud.volume_orders import RESEND_AFTER, VolumeOrders
from fabric.errors import Conflict, InUse, InvalidValue, NotFound, Protected, WrongState
from fabric.faults import IFaults
from fabric.model.device import bare, root_names
from fabric.model.instance import Disk, Instance, with_disk, without_disk
from fabric.model.volume import Attachment, Volume, attachment_moved, disk_of, moved
from fabric.store.interface import IStore, Stored, Transaction, Want

DEVICE = re.compile(r"^(/dev/)?(sd|xvd|vd|hd)[a-z]{1,2}[0-9]{0,2}$")
"""What a user may call a device, as on EC2."""

ATTEMPTS = 100
"""How often to try, since all of an instance's volumes may be attached at once."""

MOST_DISKS = 40
"""Volumes that one instance may have."""


ROOT = "root"
"""The kind in errors about the volume that an instance boots from."""


class Attachments:
    """
    Puts volumes on instances, and takes them away.
    """

    def __init__(
        self,
        store: IStore,
        orders: VolumeOrders,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._orders = orders
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def attach(
        self, caller: Caller, volume_id: str, instance_id: str, device: str
    ) -> Generator[Deferred[Any], Any, Volume]:
        """
        Put a volume on an instance: at once when that is stopped, else as
        soon as its host says so.

        @return: the volume, with its attachment.
        @raise NotFound: the volume or the instance is not the caller's.
        @raise InUse: the volume is on an instance already.
        @raise WrongState: the volume is not available, or the instance is
            neither running nor stopped.
        @raise InvalidValue: the device's name is none, or taken; or the
            volume is in another zone (then C{name} is C{zone}).
        """
        check_device(device)
        volume = yield until_written(lambda: self._attach_once(caller, volume_id, instance_id, device), ATTEMPTS)
        self._faults.reach("cloud.attach_written")
        if volume.attachment.state == "attaching":
            self._orders.attach(caller.request_id, [volume])
        return volume  # type: ignore[no-any-return]

    @inlineCallbacks
    def detach(
        self, caller: Caller, volume_id: str, instance_id: str = "", device: str = "", force: bool = False
    ) -> Generator[Deferred[Any], Any, Volume]:
        """
        Take a volume from its instance: at once when that is stopped, else
        when its host says so.  Repeating is safe.

        @param force: do not wait for the guest to let go.
        @return: the volume as it was, its attachment C{detaching}.
        @raise NotFound: the volume is not the caller's; of kind C{attachment}
            when it is not on that instance, or not there.
        @raise WrongState: the volume is on no instance, or that is being
            started or stopped.
        @raise Protected: of kind L{ROOT}: an instance boots from it, and is not
            stopped; C{attribute} is the instance's id.
        """
        was, now = yield until_written(
            lambda: self._detach_once(caller, volume_id, instance_id, device, force), ATTEMPTS
        )
        self._faults.reach("cloud.detach_written")
        if now.attachment is not None:
            self._orders.detach(caller.request_id, [now])
        elif was.attachment.host:
            self._orders.unexport(caller.request_id, now.host, now.id, was.attachment.host, now.order)
        shown = attrs.evolve(was.attachment, state="detaching")
        return attrs.evolve(was, attachment=shown)  # type: ignore[no-any-return]

    def keep(self, caller: Caller, instance_id: str, wanted: Mapping[str, bool]) -> Deferred[None]:
        """
        Say of volumes of an instance whether they are to go with it.  Repeating
        is safe.

        @param wanted: C{{device: whether it is to be deleted}}.
        @raise NotFound: the instance is not the caller's; of kind C{device}:
            it has no volume there.
        """
        return until_written(lambda: self._keep_once(caller, instance_id, wanted), ATTEMPTS)

    @inlineCallbacks
    def _attach_once(
        self, caller: Caller, volume_id: str, instance_id: str, device: str
    ) -> Generator[Deferred[Any], Any, Volume]:
        stored_volume, stored_instance = yield self._both(caller, volume_id, instance_id)
        volume: Volume = stored_volume.record
        instance: Instance = stored_instance.record
        now = self._clock.seconds()
        if volume.attachment is not None:
            raise InUse("volume", volume.id, volume.attachment.instance)
        if instance.state not in ("running", "stopped"):
            raise WrongState("instance", instance.id, instance.state, ["running"])
        if instance.migration is not None:
            raise WrongState("instance", instance.id, "being moved to another host", ["running"])
        taken = moved(volume, "attach", now)
        check_free(instance, device)
        if instance.zone != volume.zone:
            raise InvalidValue("zone", volume.id, f"the instance {instance.id} is in another zone")
        order = volume.order + 1
        state = "attached" if instance.state == "stopped" else "attaching"
        taken = attrs.evolve(
            taken,
            order=order,
            review_at=now + self._resend_after,
            attachment=Attachment(instance.id, device, state, now, now, order, host=instance.host),
        )
        yield self._write(caller, stored_volume, taken, stored_instance, with_disk(instance, disk_of(taken)))
        return taken

    @inlineCallbacks
    def _detach_once(
        self, caller: Caller, volume_id: str, instance_id: str, device: str, force: bool
    ) -> Generator[Deferred[Any], Any, tuple[Volume, Volume]]:
        [stored_volume] = yield self._store.read(Volume, [volume_id])
        if stored_volume is None or stored_volume.record.project != caller.project:
            raise NotFound("volume", volume_id)
        volume: Volume = stored_volume.record
        attachment = volume.attachment
        if attachment is None or volume.state != "in-use":
            raise WrongState("volume", volume.id, volume.state, ["in-use"])
        if instance_id not in ("", attachment.instance) or device not in ("", attachment.device):
            raise NotFound("attachment", f"{volume.id} {instance_id or device}")
        _, stored_instance = yield self._both(caller, volume_id, attachment.instance)
        instance: Instance = stored_instance.record
        now = self._clock.seconds()
        if attachment.state in ("detaching", "busy") and force <= attachment.force:
            return volume, volume
        root = instance.root
        if root is not None and root.volume == volume.id and instance.state != "stopped":
            raise Protected(ROOT, volume.id, instance.id)
        if instance.state not in ("running", "stopped", "shutting-down"):
            raise WrongState("instance", instance.id, instance.state, ["running"])
        order = volume.order + 1
        if instance.state == "stopped":
            free = attrs.evolve(attachment_moved(volume, "let_go", now), order=order)
            yield self._write(caller, stored_volume, free, stored_instance, without_disk(instance, volume.id))
            return volume, free
        leaving = attachment_moved(volume, "detach", now, force=force or attachment.force, order=order)
        leaving = attrs.evolve(leaving, order=order, review_at=now + self._resend_after)
        yield self._write(caller, stored_volume, leaving, stored_instance, with_disk(instance, disk_of(leaving)))
        return volume, leaving

    @inlineCallbacks
    def _both(
        self, caller: Caller, volume_id: str, instance_id: str
    ) -> Generator[Deferred[Any], Any, tuple[Stored[Volume], Stored[Instance]]]:
        volume, instance = yield self._store.gather([Want(Volume, id=volume_id), Want(Instance, id=instance_id)])
        for kind, id, stored in (("volume", volume_id, volume), ("instance", instance_id, instance)):
            if stored is None or stored.record.project != caller.project:
                raise NotFound(kind, id)
        return volume, instance

    @inlineCallbacks
    def _keep_once(
        self, caller: Caller, instance_id: str, wanted: Mapping[str, bool]
    ) -> Generator[Deferred[Any], Any, None]:
        [holder] = yield self._store.read(Instance, [instance_id])
        if holder is None or holder.record.project != caller.project:
            raise NotFound("instance", instance_id)
        instance: Instance = holder.record
        there = {bare(disk.device): disk.volume for disk in instance.disks}
        for device in wanted:
            if bare(device) not in there:
                raise NotFound("device", device)
        going = {there[bare(device)]: gone for device, gone in wanted.items()}
        found = yield self._store.read(Volume, list(going))
        transaction = self._store.transaction(caller.request_id)
        for id, stored in zip(going, found, strict=True):
            attachment = stored.record.attachment if stored is not None else None
            if attachment is None or attachment.instance != instance_id:
                raise Conflict("volume", id)
            attachment = attrs.evolve(attachment, delete_on_termination=going[id])
            volume = attrs.evolve(stored.record, attachment=attachment)
            transaction.update(stored, volume)
            instance = with_disk(instance, disk_of(volume))
        transaction.update(holder, instance)
        yield self._store.commit(transaction)

    def _write(
        self,
        caller: Caller,
        stored_volume: Stored[Volume],
        volume: Volume,
        stored_instance: Stored[Instance],
        instance: Instance,
    ) -> Deferred[Any]:
        transaction = self._store.transaction(caller.request_id)
        transaction.update(stored_volume, volume)
        transaction.update(stored_instance, instance)
        return self._store.commit(transaction)


@inlineCallbacks
def release_disks(
    store: IStore, transaction: Transaction, records: Sequence[Instance], now: float
) -> Generator[Deferred[Any], Any, list[Instance]]:
    """
    Let go of the volumes of instances that are over, in the write that says
    so: those that go with it are to be deleted, the others are available.

    @param records: instances as they are about to be written.
    @return: the same, without volumes where one is terminated and nothing of
        it is left on its host.
    """
    over = {each.id for each in records if each.disks and not each.live and not each.on_host}
    if not over:
        return list(records)
    found = yield store.read(Volume, [disk.volume for each in records if each.id in over for disk in each.disks])
    for stored in found:
        if stored is None or stored.record.attachment is None or stored.record.attachment.instance not in over:
            continue
        transaction.update(stored, released(stored.record, now))
    return [attrs.evolve(each, disks=()) if each.id in over else each for each in records]


@inlineCallbacks
def confirm_roots(
    store: IStore, transaction: Transaction, records: Sequence[Instance], now: float
) -> Generator[Deferred[Any], Any, list[Instance]]:
    """
    Have the volumes that instances boot from attached, in the write that says
    that these run: what runs has its root, and is never asked for it again.

    @param records: instances as they are about to be written.
    @return: the same, with their roots C{attached}.
    """
    roots = [each.root for each in records if each.state == "running"]
    arriving = [root.volume for root in roots if root is not None and root.state == "attaching"]
    if not arriving:
        return list(records)
    found = yield store.read(Volume, arriving)
    there: dict[str, Disk] = {}
    for stored in found:
        attachment = stored.record.attachment if stored is not None else None
        if attachment is not None and attachment.state == "attaching":
            volume = attachment_moved(stored.record, "confirm", now)
            transaction.update(stored, volume)
            there[attachment.instance] = disk_of(volume)
    return [with_disk(each, there[each.id]) if each.id in there else each for each in records]


def released(volume: Volume, now: float) -> Volume:
    """
    A volume whose instance is over.
    """
    attachment = volume.attachment
    assert attachment is not None, volume.id
    free = attrs.evolve(attachment_moved(volume, "let_go", now), order=volume.order + 1, review_at=now)
    if attachment.delete_on_termination:
        return moved(free, "discard", now)
    return free


def check_device(device: str) -> None:
    """
    @raise InvalidValue: nothing can be called so.
    """
    if not DEVICE.match(device):
        raise InvalidValue("device", device, f"{device} is not a valid EBS device name.")


def check_free(instance: Instance, device: str) -> None:
    """
    @raise InvalidValue: the instance has something there, or no room.
    """
    taken = {bare(disk.device) for disk in instance.disks}
    taken |= {bare(instance.scratch_device), *(() if instance.boots_volume else root_names(instance.root_device))}
    if bare(device) in taken:
        raise InvalidValue("device", device, f"{device} is already in use")
    if len(instance.disks) >= MOST_DISKS:
        raise InvalidValue("device", device, f"the instance has {MOST_DISKS} volumes already")
