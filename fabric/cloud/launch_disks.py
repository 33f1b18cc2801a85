"""
The volumes that a launch makes: what they need, cost, and where they are to be.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.cloud.attachments import MOST_DISKS, check_device
from fabric.cloud.hosts import Hosts
from fabric.cloud.volumes import checked_size
from fabric.errors import InvalidValue, NotFound, WrongState
from fabric.model.snapshot import Snapshot
from fabric.model.volume import NewDisk
from fabric.store.interface import Stored, Want

Snapshots = dict[str, Snapshot]


def snapshot_wants(disks: Sequence[NewDisk]) -> list[Want]:
    """
    What to gather to know the snapshots that disks begin with.
    """
    return [Want(Snapshot, id=id) for id in dict.fromkeys(disk.snapshot for disk in disks) if id]


def usable(caller: Caller, wants: Sequence[Want], found: Sequence[Stored[Snapshot] | None]) -> Snapshots:
    """
    Those snapshots by id.

    @raise NotFound: one is not the caller's to use.
    @raise WrongState: one is not complete.
    """
    snapshots: Snapshots = {}
    for want, stored in zip(wants, found, strict=True):
        if stored is None or not stored.record.usable_by(caller.project):
            raise NotFound("snapshot", want.id)
        if stored.record.state != "completed":
            raise WrongState("snapshot", want.id, stored.record.state, ["completed"])
        snapshots[want.id] = stored.record
    return snapshots


def disk_costs(disks: Sequence[NewDisk], snapshots: Snapshots) -> dict[str, int]:
    """
    What the disks of one instance take of each quota.

    @raise InvalidValue: a device, type or size that can't be.
    """
    if not disks:
        return {}
    if len(disks) > MOST_DISKS:
        raise InvalidValue("blockDeviceMapping", str(len(disks)), f"At most {MOST_DISKS} volumes.")
    names: set[str] = set()
    total = 0
    for disk in disks:
        check_device(disk.device)
        name = disk.device.removeprefix("/dev/")
        if name in names:
            raise InvalidValue("blockDeviceMapping", disk.device, "The device is there twice.")
        names.add(name)
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
