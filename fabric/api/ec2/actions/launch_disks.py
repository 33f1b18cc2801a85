"""
C{BlockDeviceMapping} of a launch: the volumes that it makes, and where the
scratch disk of its type is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fabric.api.ec2.actions.refusals import combination, missing, unsupported
from fabric.api.ec2.actions.tagging import tags_at_creation
from fabric.api.ec2.errors import EC2Error
from fabric.ids import is_id
from fabric.model.volume import AskedDisk

_MEMBERS = ("DeleteOnTermination", "VolumeSize", "SnapshotId", "VolumeType", "Encrypted")

HONOURED = (
    *(f"BlockDeviceMappings.{name}" for name in ("DeviceName", "NoDevice", "VirtualName")),
    *(f"BlockDeviceMappings.Ebs.{name}" for name in _MEMBERS),
)

_VIRTUAL = re.compile(r"ephemeral(1?[0-9]|2[0-3])")
"""What EC2 calls the disks of a host; there are at most 24."""


def new_disks(parameters: Mapping[str, Any]) -> tuple[AskedDisk, ...]:
    """
    @return: the volumes that the request asks for.
    @raise EC2Error: they can't be, or not be made here.
    """
    mappings = parameters.get("BlockDeviceMappings") or ()
    plain = [mapping for mapping in mappings if "NoDevice" not in mapping and not mapping.get("VirtualName")]
    return tuple(_disk(mapping) for mapping in plain)


def scratch_disks(parameters: Mapping[str, Any]) -> dict[str, str]:
    """
    @return: the disks of its host that the request wants, C{{device: name}}.
    @raise EC2Error: they have a name that is none, or are volumes as well.
    """
    found: dict[str, str] = {}
    for mapping in parameters.get("BlockDeviceMappings") or ():
        name, device = mapping.get("VirtualName"), mapping.get("DeviceName") or ""
        if not name or "NoDevice" in mapping:
            continue
        if not device:
            raise missing("BlockDeviceMapping.DeviceName")
        if mapping.get("Ebs"):
            raise combination("The parameter VirtualName cannot be used with the parameter Ebs")
        if not _VIRTUAL.fullmatch(name):
            raise EC2Error("InvalidBlockDeviceMapping", f"Invalid virtual name '{name}' for the device '{device}'")
        if device in found:
            why = f"The device '{device}' is used in more than one block-device mapping"
            raise EC2Error("InvalidBlockDeviceMapping", why)
        found[device] = name
    return found


def omitted(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """
    @return: the image's devices that the request wants to do without.
    """
    mappings = parameters.get("BlockDeviceMappings") or ()
    return tuple(mapping.get("DeviceName") or "" for mapping in mappings if "NoDevice" in mapping)


def _disk(mapping: Mapping[str, Any]) -> AskedDisk:
    device, ebs = mapping.get("DeviceName") or "", mapping.get("Ebs")
    if not device:
        raise missing("BlockDeviceMapping.DeviceName")
    if not ebs:
        raise missing("BlockDeviceMapping.Ebs")
    if ebs.get("Encrypted"):
        raise unsupported("This cloud does not encrypt volumes")
    snapshot, size = ebs.get("SnapshotId") or "", ebs.get("VolumeSize") or 0
    if snapshot and not is_id("snapshot", snapshot):
        raise EC2Error("InvalidSnapshotID.Malformed", f'Invalid id: "{snapshot}" (expecting "snap-...")')
    return AskedDisk(device, size, snapshot, ebs.get("VolumeType") or "", ebs.get("DeleteOnTermination"))


def instance_tags(parameters: Mapping[str, Any]) -> dict[str, str]:
    """
    The tags of the instances.

    @raise EC2Error: tags are given to what the launch does not make.
    """
    return tags_at_creation(_only(parameters, lambda kind: kind != "volume"), "instance")


def volume_tags(parameters: Mapping[str, Any]) -> dict[str, str]:
    """
    The tags of all volumes that the launch makes, the image's too.
    """
    return tags_at_creation(_only(parameters, lambda kind: kind == "volume"), "volume")


def _only(parameters: Mapping[str, Any], chosen: Any) -> dict[str, Any]:
    given: Iterable[Mapping[str, Any]] = parameters.get("TagSpecifications") or ()
    return {"TagSpecifications": [each for each in given if chosen(each.get("ResourceType"))]}
