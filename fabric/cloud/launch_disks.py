"""
The disks of a launch: its volumes, the root among them, and the scratch disk of
its type; what they need, cost, and where they are to be.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.cloud.attachments import MOST_DISKS, check_device
from fabric.cloud.hosts import Hosts
from fabric.cloud.volumes import checked_size
from fabric.errors import InvalidValue, NotFound, WrongState
from fabric.model.device import bare, root_names
from fabric.model.flavor import Flavor
from fabric.model.image import Image, ImageDisk
from fabric.model.snapshot import Snapshot
from fabric.model.volume import AskedDisk, NewDisk
from fabric.store.interface import Stored, Want

Snapshots = dict[str, Snapshot]

MAPPING = "blockDeviceMapping"
"""The C{name} in an L{InvalidValue} about what is mapped to a device."""

SCRATCH = "/dev/sdb"
"""Where a scratch disk is unless the launch says otherwise, as on EC2."""

SLOW = ("st1", "sc1")
"""Volume types that EC2 boots nothing from."""


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


def merged(
    image: Image, disks: Sequence[AskedDisk], omitted: Sequence[str], scratch: Mapping[str, str]
) -> tuple[NewDisk, ...]:
    """
    An image's volumes but for those that the launch omits, and the launch's:
    one on the same device is the image's with what the launch says of it.

    @param scratch: as L{scratch_device}'s.
    @raise InvalidValue: a device is there twice; or the root can't be so.
    """
    asked = {bare(disk.device): disk for disk in disks}
    left_out = {bare(device) for device in omitted}
    names = [*(bare(disk.device) for disk in disks), *left_out, *map(bare, scratch)]
    for disk in disks:
        if names.count(bare(disk.device)) > 1:
            why = f"The device '{disk.device}' is used in more than one block-device mapping"
            raise InvalidValue(MAPPING, disk.device, why)
    _check_root(image, asked, {*left_out, *map(bare, scratch)})
    found = []
    for base in image.disks:
        over = asked.pop(bare(base.device), None)
        if over is not None:
            found.append(_overlaid(base, over))
        elif bare(base.device) not in names:
            found.append(_overlaid(base, AskedDisk(base.device)))
    return (*found, *(_overlaid(ImageDisk(disk.device), disk) for disk in asked.values()))


def _overlaid(base: ImageDisk, asked: AskedDisk) -> NewDisk:
    """An image's volume with what a launch says of it."""
    size = asked.size_gb or (0 if asked.snapshot else base.size_gb)
    goes = asked.delete_on_termination
    return NewDisk(
        base.device,
        size,
        asked.snapshot or base.snapshot,
        asked.volume_type or base.volume_type,
        base.delete_on_termination if goes is None else goes,
    )


def _check_root(image: Image, asked: Mapping[str, AskedDisk], others: set[str]) -> None:
    """
    @param others: devices that are to be left out, or to be scratch disks.
    @raise InvalidValue: the root can't be left out, nor be of something else;
        and one that is a host's own disk can't be a volume.
    """
    names = root_names(image.root_device)
    for name in sorted(names & others):
        raise InvalidValue(MAPPING, name, f"The root device {name} can't be left out, nor be an instance store volume")
    for name in sorted(names & set(asked)):
        over = asked[name]
        if image.root_type != "ebs":
            why = f"The root device {over.device} of {image.id} is its host's own disk and can't be mapped"
            raise InvalidValue(MAPPING, over.device, why)
        if over.snapshot and over.snapshot not in {disk.snapshot for disk in image.disks if bare(disk.device) == name}:
            raise InvalidValue(MAPPING, over.device, "snapshotId cannot be modified on root device")
        if over.volume_type in SLOW:
            raise InvalidValue(MAPPING, over.device, f"A root device can't be of volume type {over.volume_type}")


def scratch_device(flavor: Flavor, disks: Sequence[NewDisk], scratch: Mapping[str, str], omitted: Sequence[str]) -> str:
    """
    Where an instance has the scratch disk of its type, C{ephemeral0}: where the
    launch maps it, else at L{SCRATCH} unless something else is there.  As on
    EC2, a mapping of a disk that the type has not is of no account.

    @param scratch: C{{device: name}}, as C{{"/dev/sdb": "ephemeral0"}}.
    @return: empty for none.
    @raise InvalidValue: a device can't be; or the disk is mapped twice.
    """
    for device in scratch:
        check_device(device)
    if len(set(scratch.values())) < len(scratch):
        device, name = list(scratch.items())[-1]
        raise InvalidValue(MAPPING, device, f"The virtual name '{name}' is used in more than one block-device mapping")
    if not flavor.ephemeral_gb:
        return ""
    for device, name in scratch.items():
        if name == "ephemeral0":
            return device
    taken = {bare(device) for device in (*(disk.device for disk in disks), *omitted, *scratch)}
    return "" if bare(SCRATCH) in taken else SCRATCH


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
        total += _size(disk, snapshots.get(disk.snapshot))
    return {"volumes": len(disks), "gigabytes": total}


def _size(disk: NewDisk, snapshot: Snapshot | None) -> int:
    if snapshot is not None and 0 < disk.size_gb < snapshot.size_gb:
        why = (
            f"Volume of size {disk.size_gb}GB is smaller than snapshot '{snapshot.id}', "
            f"expect size >= {snapshot.size_gb}GB"
        )
        raise InvalidValue(MAPPING, disk.device, why)
    if snapshot is None and not disk.size_gb:
        why = f"Either snapshot ID or volume size must be provided for: {disk.device}"
        raise InvalidValue(MAPPING, disk.device, why)
    return checked_size(disk.size_gb, disk.volume_type, snapshot)


@inlineCallbacks
def zone_with_volumes(hosts: Hosts, default: str, snapshots: Snapshots) -> Generator[Deferred[Any], Any, str]:
    """
    The zone of a launch that makes volumes and names none: that of the
    snapshots which they begin with, whose copies are there; else one in which
    both instances and volumes can be made, C{default} by preference.
    """
    if snapshots:
        return min(snapshot.zone for snapshot in snapshots.values())
    zones = yield hosts.zones()
    services = yield hosts.volume_services()
    with_volumes = {service.zone for service in services if service.alive and not service.disabled}
    both = [zone.name for zone in zones if zone.available and zone.name in with_volumes]
    return default if default in both or not both else both[0]
