"""
RegisterImage, CreateImage, CopyImage and DeregisterImage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from fabric.api.ec2.actions.refusals import (
    check_ascii,
    check_ids,
    client_token,
    combination,
    invalid,
    invalid_value,
    missing,
    unsupported,
)
from fabric.api.ec2.actions.tagging import tags_at_creation
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.registry import Action, Registry
from fabric.cloud.captures import Captures, CaptureSpec
from fabric.cloud.images import Images, ImageSpec
from fabric.model.image import Image, ImageDisk
from fabric.model.volume import TYPES

LONGEST_LOCATION = 1024
"""Characters of where an image's file is."""

ARCHITECTURES = ("i386", "x86_64", "arm64")

ROOT_DEVICE = "/dev/sda1"
"""The root device where the request names none."""

_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")
_DEVICE = re.compile(r"/dev/[a-z0-9]{1,20}|[a-z0-9]{1,20}")


class ImageMakingActions:
    """
    Entries that come and go.

    @param region: the name of the one region.
    """

    def __init__(self, images: Images, captures: Captures, region: str) -> None:
        self._images = images
        self._captures = captures
        self._region = region

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        made = ("Name", "Description", "TagSpecifications")
        disks = ("DeviceName", "Ebs.SnapshotId", "Ebs.VolumeSize", "Ebs.VolumeType", "Ebs.DeleteOnTermination")
        registered = (
            *("ImageLocation", "Architecture", "KernelId", "RamdiskId", "RootDeviceName", "VirtualizationType"),
            "EnaSupport",
        )
        captured = ("DeviceName", "NoDevice", "Ebs.DeleteOnTermination")
        for action in (
            Action(
                "RegisterImage",
                self.register_image,
                (*made, *registered, *(f"BlockDeviceMappings.{name}" for name in (*disks, "Ebs.Encrypted"))),
            ),
            Action(
                "CreateImage",
                self.create,
                (*made, "InstanceId", "NoReboot", *(f"BlockDeviceMappings.{name}" for name in captured)),
            ),
            Action(
                "CopyImage",
                self.copy,
                (*made, "SourceImageId", "SourceRegion", "ClientToken", "CopyImageTags", "Encrypted"),
            ),
            Action("DeregisterImage", self.deregister, ("ImageId",)),
        ):
            registry.add(action)

    def register_image(self, call: Call) -> Deferred[Answer]:
        """
        Make an entry for what is at a location, or in snapshots.
        """
        given = call.parameters
        location = given.get("ImageLocation") or ""
        if len(location) > LONGEST_LOCATION:
            raise invalid_value("ImageLocation", location[:300], f"Length exceeds maximum of {LONGEST_LOCATION}.")
        disks = tuple(_disk(mapping) for mapping in given.get("BlockDeviceMappings") or ())
        _check_devices(disks)
        root = given.get("RootDeviceName") or (ROOT_DEVICE if disks or not location else "")
        if root and not _DEVICE.fullmatch(root):
            raise invalid_value("RootDeviceName", root)
        of_root = next((disk for disk in disks if disk.device == root), None)
        if not location and of_root is None:
            raise missing("ImageLocation or a block device mapping of the root device")
        if location and of_root is not None:
            raise combination("An image has its root at ImageLocation, or in a snapshot, not both.")
        if of_root is not None and not of_root.snapshot:
            raise invalid("The root device's mapping must name a snapshot.")
        spec = ImageSpec(
            checked_name(given["Name"]),
            location,
            checked_description(given.get("Description")) or "",
            _one_of("Architecture", given.get("Architecture") or "x86_64", ARCHITECTURES),
            _part("kernel", given.get("KernelId")),
            _part("ramdisk", given.get("RamdiskId")),
            root,
            disks,
            tags_at_creation(given, "image"),
        )
        if given.get("VirtualizationType") not in (None, "hvm"):
            raise unsupported("Images of this cloud are of virtualization type hvm")
        if given.get("EnaSupport") is False:
            raise unsupported("Instances of this cloud have enhanced networking, whatever their image")
        return self._images.register(call.caller, spec).addCallback(_id_of)

    def create(self, call: Call) -> Deferred[Answer]:
        """
        Make an image of an instance, which is stopped and started for it
        unless C{NoReboot}.
        """
        given = call.parameters
        mappings: Iterable[Mapping[str, Any]] = given.get("BlockDeviceMappings") or ()
        left_out, deleted = [], {}
        for mapping in mappings:
            device = mapping.get("DeviceName")
            if not device:
                raise missing("BlockDeviceMapping.DeviceName")
            if mapping.get("NoDevice") is not None:
                left_out.append(device)
            elif (mapping.get("Ebs") or {}).get("DeleteOnTermination") is not None:
                deleted[device] = mapping["Ebs"]["DeleteOnTermination"]
        spec = CaptureSpec(
            check_ids("instance", [given["InstanceId"]])[0],
            checked_name(given["Name"]),
            checked_description(given.get("Description")) or "",
            not given.get("NoReboot"),
            tuple(left_out),
            deleted,
            tags_at_creation(given, "image"),
        )
        return self._captures.create(call.caller, spec).addCallback(_id_of)

    def copy(self, call: Call) -> Deferred[Answer]:
        """
        Copy an image within the one region.
        """
        given = call.parameters
        if given["SourceRegion"] != self._region:
            raise invalid_value("SourceRegion", given["SourceRegion"], f"This cloud is one region, {self._region}.")
        if given.get("Encrypted"):
            raise unsupported("This cloud does not encrypt images")
        [source] = check_ids("image", [given["SourceImageId"]])
        made = self._images.copy(
            call.caller,
            source,
            checked_name(given["Name"]),
            checked_description(given.get("Description")),
            tags_at_creation(given, "image"),
            bool(given.get("CopyImageTags")),
            client_token(given),
        )
        return made.addCallback(_id_of)

    def deregister(self, call: Call) -> Deferred[Answer]:
        """
        Forget an image; machines that were launched from it run on.
        """
        [id] = check_ids("image", [call.parameters["ImageId"]])
        return self._images.deregister(call.caller, id).addCallback(lambda _: {"Return": True})


def checked_name(name: str) -> str:
    """
    @raise EC2Error: no image may have that name.
    """
    if not _NAME.fullmatch(name):
        raise EC2Error(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, "
            "'(', ')', '[', ']', ' ', '.', '/', '-', ''', '@' and '_'",
        )
    return name


def checked_description(text: str | None) -> str | None:
    """
    @raise EC2Error: it is too long, or not of ASCII.
    """
    return None if text is None else check_ascii("description", text)


def _disk(mapping: Mapping[str, Any]) -> ImageDisk:
    device, ebs = mapping.get("DeviceName"), mapping.get("Ebs") or {}
    if not device:
        raise missing("BlockDeviceMapping.DeviceName")
    if not _DEVICE.fullmatch(device):
        raise invalid_value("BlockDeviceMapping.DeviceName", device)
    if ebs.get("Encrypted"):
        raise unsupported("This cloud does not encrypt volumes")
    snapshot, size = ebs.get("SnapshotId") or "", ebs.get("VolumeSize") or 0
    if snapshot:
        check_ids("snapshot", [snapshot])
    elif size < 1:
        raise missing("BlockDeviceMapping.Ebs.SnapshotId or VolumeSize")
    kind = _one_of("VolumeType", ebs.get("VolumeType") or "standard", tuple(TYPES))
    return ImageDisk(device, snapshot, size, kind, ebs.get("DeleteOnTermination", True))


def _check_devices(disks: tuple[ImageDisk, ...]) -> None:
    devices = [disk.device for disk in disks]
    for device in devices:
        if devices.count(device) > 1:
            raise EC2Error("InvalidBlockDeviceMapping", f"The device '{device}' is used in more than one mapping.")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise invalid_value(name, value, f"Expecting one of {', '.join(choices)}.")
    return value


def _part(kind: str, id: str | None) -> str:
    return check_ids(kind, [id])[0] if id else ""


def _id_of(image: Image) -> Answer:
    return {"ImageId": image.id}
