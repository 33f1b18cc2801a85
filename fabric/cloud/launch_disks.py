"""
The volumes that a launch makes: what they need, cost, and where they are to be.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.cloud.attachments import MOST_DISKS, check_device
from fabric.cloud.hosts import Hosts
from fabric.cloud.volumes import checked_size
from fabric.errors import InvalidValue, NotFound, Unsupported, WrongState
from fabric.model.image import Image
from fabric.model.snapshot import Snapshot
from fabric.model.volume import NewDisk
from fabric.store.interface import Stored, Want

Snapshots = dict[str, Snapshot]


def snapshot_wants(disks: Sequence[NewDisk]) -> list[Want]:
    """
    What to gather to know the snapshots that disks begin with.
    """
    return [Want(Snapshot, id=id) for id in dict.fromkeys(disk.snapshot for disk in disks) if id]


def usable(caller: Caller, image: Image, wants: Sequence[Want], found: Sequence[Stored[Snapshot] | None]) -> Snapshots:
    """
    Those snapshots by id.  Who may launch an image may use its snapshots.

    @raise NotFound: one is not the caller's to use.
    @raise WrongState: one is not complete.
    """
    snapshots: Snapshots = {}
    of_image = {disk.snapshot for disk in image.disks}
    for want, stored in zip(wants, found, strict=True):
        if stored is None or not (want.id in of_image or stored.record.usable_by(caller.project)):
            raise NotFound("snapshot", want.id)
        if stored.record.state != "completed":
            raise WrongState("snapshot", want.id, stored.record.state, ["completed"])
        snapshots[want.id] = stored.record
    return snapshots


def merged(image: Image, disks: Sequence[NewDisk], omitted: Sequence[str]) -> tuple[NewDisk, ...]:
    """
    An image's volumes but for those that the launch omits, and the launch's:
    one on the same device is the image's with what the launch says of it.

    @raise InvalidValue: a device is there twice.
    @raise Unsupported: the image's root is a snapshot, which no host boots.
    """
    if image.root_type == "ebs":
        raise Unsupported(f"launching {image.id}, whose root is a snapshot: compute hosts boot from their own disks")
    asked = {_name(disk.device): disk for disk in disks}
    if len(asked) < len(disks):
        raise InvalidValue("blockDeviceMapping", disks[0].device, "A device is there twice.")
    found = []
    for disk in image.disks:
        over = asked.pop(_name(disk.device), None)
        if over is not None:
            size = over.size_gb or (0 if over.snapshot else disk.size_gb)
            found.append(attrs.evolve(over, snapshot=over.snapshot or disk.snapshot, size_gb=size))
        elif _name(disk.device) not in {_name(device) for device in omitted}:
            found.append(
                NewDisk(disk.device, disk.size_gb, disk.snapshot, disk.volume_type, disk.delete_on_termination)
            )
    return (*found, *asked.values())


def _name(device: str) -> str:
    return device.removeprefix("/dev/")


def disk_costs(disks: Sequence[NewDisk], snapshots: Snapshots) -> dict[str, int]:
    """
    What the disks of one instance take of each quota.

    @raise InvalidValue: a device, type or size that can't be.
    """
    if not disks:
        return {}
    if len(disks) > MOST_DISKS:
        raise InvalidValue("blockDeviceMapping", str(len(disks)), f"At most {MOST_DISKS} volumes.")
    total = 0
    for disk in disks:
        check_device(disk.device)
        total += checked_size(disk.size_gb, disk.volume_type, snapshots.get(disk.snapshot))
    return {"volumes": len(disks), "gigabytes": total}


@inlineCallbacks
def zone_with_volumes(hosts: Hosts, default: str) -> Generator[Deferred[Any], Any, str]:
    """
    The zone of a launch that makes volumes and names none: one in which both
    instances and volumes can be made, C{default} by preference.
    """
    zones = yield hosts.zones()
    services = yield hosts.volume_services()
    with_volumes = {service.zone for service in services if service.alive and not service.disabled}
    both = [zone.name for zone in zones if zone.available and zone.name in with_volumes]
    return default if default in both or not both else both[0]
