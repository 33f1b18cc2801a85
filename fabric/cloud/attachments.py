"""
Attaching: a volume and an instance are always changed by one script.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.retry import until_written
from fabric.cloud.volume_orders import RESEND_AFTER, VolumeOrders
from fabric.errors import InUse, InvalidValue, NotFound, WrongState
from fabric.faults import IFaults
from fabric.model.instance import Instance, with_disk, without_disk
from fabric.model.volume import Attachment, Volume, attachment_moved, disk_of, moved
from fabric.store.interface import IStore, Stored, Transaction, Want

DEVICE = re.compile(r"^(/dev/)?(sd|xvd|vd|hd)[a-z]{1,2}[0-9]{0,2}$")
"""What a user may call a device, as on EC2."""

ATTEMPTS = 100
"""How often to try, since all of an instance's volumes may be attached at once."""

MOST_DISKS = 40
"""Volumes that one instance may have."""


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
    name = device.removeprefix("/dev/")
    if any(disk.device.removeprefix("/dev/") == name for disk in instance.disks):
        raise InvalidValue("device", device, f"{device} is already in use")
    if len(instance.disks) >= MOST_DISKS:
        raise InvalidValue("device", device, f"the instance has {MOST_DISKS} volumes already")
