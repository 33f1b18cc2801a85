"""
C{BlockDeviceMapping} of a launch: the volumes that it makes.

The root disk is the compute host's own, of the size that the instance type
says, and so is the scratch disk; only further volumes can be asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fabric.api.ec2.actions.refusals import missing, unsupported
from fabric.api.ec2.actions.tagging import tags_at_creation
from fabric.api.ec2.errors import EC2Error
from fabric.ids import is_id
from fabric.model.volume import NewDisk

_MEMBERS = ("DeleteOnTermination", "VolumeSize", "SnapshotId", "VolumeType", "Encrypted")

HONOURED = (
    *("BlockDeviceMappings.DeviceName", "BlockDeviceMappings.NoDevice"),
    *(f"BlockDeviceMappings.Ebs.{name}" for name in _MEMBERS),
)

ROOT = frozenset({"sda", "sda1", "xvda", "xvda1", "vda", "vda1", "hda", "hda1"})
"""What a root disk is called."""


def new_disks(parameters: Mapping[str, Any]) -> tuple[NewDisk, ...]:
    """
    @return: the volumes that the request asks for.
    @raise EC2Error: they can't be, or not be made here.
    """
    mappings = parameters.get("BlockDeviceMappings") or ()
    tags = volume_tags(parameters) if mappings else {}
    return tuple(_disk(mapping, tags) for mapping in mappings if "NoDevice" not in mapping)


def omitted(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """
    @return: the image's devices that the request wants to do without.
    """
    mappings = parameters.get("BlockDeviceMappings") or ()
    return tuple(mapping.get("DeviceName") or "" for mapping in mappings if "NoDevice" in mapping)


def _disk(mapping: Mapping[str, Any], tags: dict[str, str]) -> NewDisk:
    device, ebs = mapping.get("DeviceName") or "", mapping.get("Ebs")
    if not device:
        raise missing("BlockDeviceMapping.DeviceName")
    if device.removeprefix("/dev/") in ROOT:
        raise unsupported(f"The root device {device} can't be mapped: it is its host's own disk on this cloud")
    if not ebs:
        raise missing("BlockDeviceMapping.Ebs")
    if ebs.get("Encrypted"):
        raise unsupported("This cloud does not encrypt volumes")
    snapshot, size = ebs.get("SnapshotId") or "", ebs.get("VolumeSize") or 0
    if snapshot and not is_id("snapshot", snapshot):
        raise EC2Error("InvalidSnapshotID.Malformed", f'Invalid id: "{snapshot}" (expecting "snap-...")')
    return NewDisk(
        device, size, snapshot, ebs.get("VolumeType") or "standard", ebs.get("DeleteOnTermination", True), tags
    )


def instance_tags(parameters: Mapping[str, Any]) -> dict[str, str]:
    """
    The tags of the instances.

    @raise EC2Error: tags are given to what the launch does not make.
    """
    if not parameters.get("BlockDeviceMappings"):
        return tags_at_creation(parameters, "instance")
    return tags_at_creation(_only(parameters, lambda kind: kind != "volume"), "instance")


def volume_tags(parameters: Mapping[str, Any]) -> dict[str, str]:
    """
    The tags of the volumes.
    """
    return tags_at_creation(_only(parameters, lambda kind: kind == "volume"), "volume")


def _only(parameters: Mapping[str, Any], chosen: Any) -> dict[str, Any]:
    given: Iterable[Mapping[str, Any]] = parameters.get("TagSpecifications") or ()
    return {"TagSpecifications": [each for each in given if chosen(each.get("ResourceType"))]}
