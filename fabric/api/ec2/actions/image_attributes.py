"""
Describe-, Modify- and ResetImageAttribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from fabric.api.ec2.actions.image_making import checked_description
from fabric.api.ec2.actions.refusals import check_ids, combination, invalid_value, missing, unsupported
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import Shown, image_disks
from fabric.cloud.images import Images
from fabric.model.image import Image

PERMISSION = "launchPermission"

Grants = tuple[list[str], list[str]]


def _permissions(image: Image) -> Shown:
    everybody = [{"Group": "all"}] if image.public else []
    return {"LaunchPermissions": [*everybody, *({"UserId": project} for project in image.shared_with)]}


SHOWN: dict[str, Callable[[Image], Shown]] = {
    "blockDeviceMapping": lambda image: {"BlockDeviceMappings": image_disks(image)},
    "description": lambda image: {"Description": {"Value": image.description} if image.description else {}},
    "kernel": lambda image: {"KernelId": {"Value": image.kernel} if image.kernel else {}},
    PERMISSION: _permissions,
    "productCodes": lambda image: {"ProductCodes": []},
    "ramdisk": lambda image: {"RamdiskId": {"Value": image.ramdisk} if image.ramdisk else {}},
    "sriovNetSupport": lambda image: {"SriovNetSupport": {}},
}
"""What DescribeImageAttribute answers for each attribute."""

ELSEWHERE = ("bootMode", "deregistrationProtection", "imdsSupport", "lastLaunchedTime", "tpmSupport", "uefiData")
"""Attributes that EC2's images have besides."""


class ImageAttributeActions:
    """
    What is said of an image, and who may launch it.
    """

    def __init__(self, images: Images) -> None:
        self._images = images

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        granted = [f"LaunchPermission.{verb}.{whom}" for verb in ("Add", "Remove") for whom in ("Group", "UserId")]
        changed = ("ImageId", "Attribute", "OperationType", "UserIds", "UserGroups", "Value", "Description.Value")
        for action in (
            Action("DescribeImageAttribute", self.describe, ("ImageId", "Attribute")),
            Action("ModifyImageAttribute", self.modify, (*changed, *granted)),
            Action("ResetImageAttribute", self.reset, ("ImageId", "Attribute")),
        ):
            registry.add(action)

    def describe(self, call: Call) -> Deferred[Answer]:
        """
        One attribute of an image of the caller's own.
        """
        attribute = call.parameters["Attribute"]
        shown = SHOWN.get(attribute)
        if shown is None and attribute not in ELSEWHERE:
            raise invalid_value("attribute", attribute, "Unknown attribute.")
        if shown is None:
            raise unsupported(f"Images of this cloud have no attribute '{attribute}'")
        return self._images.own(call.caller, _id(call)).addCallback(lambda image: {"ImageId": image.id, **shown(image)})

    def modify(self, call: Call) -> Deferred[Answer]:
        """
        Share it, or no longer, or describe it otherwise, each in either of the
        two forms of the request.
        """
        given = call.parameters
        if given.get("Attribute") not in (None, "", PERMISSION, "description"):
            raise unsupported(f"The attribute '{given['Attribute']}' can't be modified")
        text = _new_description(given)
        add, remove = _granted(given)
        shares = any((*add, *remove))
        if (text is not None) + shares != 1:
            why = "No attributes specified." if not shares else "Only one attribute can be modified at a time."
            raise combination(why)
        if text is not None:
            done = self._images.describe_as(call.caller, _id(call), text)
        else:
            public = True if "all" in add[1] else False if "all" in remove[1] else None
            done = self._images.share(call.caller, _id(call), add[0], remove[0], public)
        return done.addCallback(lambda _: {})

    def reset(self, call: Call) -> Deferred[Answer]:
        """
        Let nobody but the owner launch it.
        """
        attribute = call.parameters["Attribute"]
        if attribute != PERMISSION:
            raise invalid_value("attribute", attribute, f"Expecting {PERMISSION}.")
        return self._images.reset_sharing(call.caller, _id(call)).addCallback(lambda _: {})


def _new_description(given: Mapping[str, Any]) -> str | None:
    structured = given.get("Description")
    if structured is not None:
        return checked_description(structured.get("Value") or "")
    if given.get("Attribute") == "description":
        if given.get("Value") is None:
            raise missing("Value")
        return checked_description(given["Value"])
    if given.get("Value") is not None:
        raise combination("A value goes with the attribute description only.")
    return None


def _granted(given: Mapping[str, Any]) -> tuple[Grants, Grants]:
    """
    @return: C{(projects, groups)} to be added, and to be removed.
    """
    structured: Mapping[str, Any] = given.get("LaunchPermission") or {}
    add, remove = _grants(structured.get("Add") or ()), _grants(structured.get("Remove") or ())
    users, groups = given.get("UserIds") or (), given.get("UserGroups") or ()
    operation = given.get("OperationType")
    if operation:
        if operation not in ("add", "remove"):
            raise invalid_value("OperationType", operation, "Expecting add or remove.")
        target = add if operation == "add" else remove
        target[0].extend(users)
        target[1].extend(groups)
    elif users or groups:
        raise missing("OperationType")
    for group in (*add[1], *remove[1]):
        if group != "all":
            raise invalid_value("UserGroup", group, "Expecting all.")
    return add, remove


def _grants(items: Iterable[Mapping[str, str]]) -> Grants:
    users: list[str] = []
    groups: list[str] = []
    for item in items:
        if item.get("Group"):
            groups.append(item["Group"])
        if item.get("UserId"):
            users.append(item["UserId"])
    return users, groups


def _id(call: Call) -> str:
    return check_ids("image", [call.parameters["ImageId"]])[0]
