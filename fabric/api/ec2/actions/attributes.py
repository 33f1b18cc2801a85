"""
Describe-, Modify- and ResetInstanceAttribute.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Generator, Mapping
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.launch import shutdown_behavior, user_data
from fabric.api.ec2.actions.refusals import check_ids, combination, invalid_value, missing, unsupported
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import Shown
from fabric.api.ec2.volume_views import disks
from fabric.cloud.images import Images
from fabric.cloud.instances import Instances
from fabric.cloud.volumes import Volumes
from fabric.model.image import Image
from fabric.model.instance import Instance

Change = dict[str, Any]


def _value(value: object) -> Shown:
    return {} if value == "" else {"Value": value}


SHOWN: dict[str, Callable[[Instance], Shown]] = {
    "blockDeviceMapping": lambda instance: {"BlockDeviceMappings": disks(instance)},
    "disableApiStop": lambda instance: {"DisableApiStop": _value(instance.api_stop_disabled)},
    "disableApiTermination": lambda instance: {"DisableApiTermination": _value(instance.api_termination_disabled)},
    "ebsOptimized": lambda instance: {"EbsOptimized": _value(instance.ebs_optimized)},
    "enaSupport": lambda instance: {"EnaSupport": _value(instance.ena_support)},
    "enclaveOptions": lambda instance: {"EnclaveOptions": {"Enabled": False}},
    "groupSet": lambda instance: {"Groups": [{"GroupId": each.id, "GroupName": each.name} for each in instance.groups]},
    "instanceInitiatedShutdownBehavior": lambda instance: {
        "InstanceInitiatedShutdownBehavior": _value(instance.shutdown_behavior)
    },
    "instanceType": lambda instance: {"InstanceType": _value(instance.flavor.name)},
    "kernel": lambda instance: {"KernelId": _value(instance.kernel)},
    "productCodes": lambda instance: {"ProductCodes": []},
    "ramdisk": lambda instance: {"RamdiskId": _value(instance.ramdisk)},
    "rootDeviceName": lambda instance: {"RootDeviceName": _value(instance.root_device)},
    "sourceDestCheck": lambda instance: {"SourceDestCheck": _value(instance.source_dest_check)},
    "sriovNetSupport": lambda instance: {"SriovNetSupport": {}},
    "userData": lambda instance: {"UserData": _value(instance.user_data)},
}
"""What DescribeInstanceAttribute answers for each attribute."""


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word not in ("true", "false"):
        raise invalid_value(name, value, "Expecting true or false.")
    return word == "true"


def _part(kind: str, value: object) -> str:
    return check_ids(kind, [str(value)])[0] if value else ""


def _encoded(value: object) -> str:
    return user_data(b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value))


CHANGED: dict[str, Callable[[Any], Change]] = {
    "disableApiStop": lambda value: {"api_stop_disabled": _flag("disableApiStop", value)},
    "disableApiTermination": lambda value: {"api_termination_disabled": _flag("disableApiTermination", value)},
    "ebsOptimized": lambda value: {"ebs_optimized": _flag("ebsOptimized", value)},
    "enaSupport": lambda value: {"ena_support": _flag("enaSupport", value)},
    "instanceInitiatedShutdownBehavior": lambda value: {"shutdown_behavior": shutdown_behavior(value)},
    "instanceType": lambda value: {"flavor": value},
    "kernel": lambda value: {"kernel": _part("kernel", value)},
    "ramdisk": lambda value: {"ramdisk": _part("ramdisk", value)},
    "sourceDestCheck": lambda value: {"source_dest_check": _flag("sourceDestCheck", value)},
    "userData": lambda value: {"user_data": _encoded(value)},
}
"""What a new value of each attribute, as text or as botocore types it, changes."""

STRUCTURED = {name[0].upper() + name[1:]: name for name in CHANGED}
"""The parameter in which each attribute is sent by newer clients."""

DISKS = ("BlockDeviceMappings.DeviceName", "BlockDeviceMappings.Ebs.DeleteOnTermination")
"""What can be said of an instance's volumes."""

_FIXED = ("blockDeviceMapping", "enclaveOptions", "groupSet", "productCodes", "rootDeviceName", "sriovNetSupport")
"""Attributes that can be seen; a modification of one is refused by name."""

RESETTABLE = ("kernel", "ramdisk", "sourceDestCheck")


class AttributeActions:
    """
    One attribute of one instance at a time.
    """

    def __init__(self, instances: Instances, images: Images, volumes: Volumes) -> None:
        self._instances = instances
        self._volumes = volumes
        self._images = images

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        registry.add(Action("DescribeInstanceAttribute", self.describe, ("InstanceId", "Attribute")))
        registry.add(Action("ResetInstanceAttribute", self.reset, ("InstanceId", "Attribute")))
        honours = ("InstanceId", "Attribute", "Value", "Groups", *STRUCTURED, *DISKS)
        registry.add(Action("ModifyInstanceAttribute", self.modify, honours))

    def describe(self, call: Call) -> Deferred[Answer]:
        """
        Show one attribute.
        """
        [id] = check_ids("instance", [call.parameters["InstanceId"]])
        show = SHOWN.get(call.parameters["Attribute"])
        if show is None:
            raise _unknown(call.parameters["Attribute"])
        found = self._instances.get(call.caller, [id])
        return found.addCallback(lambda instances: {"InstanceId": id, **show(instances[0])})

    def modify(self, call: Call) -> Deferred[Answer]:
        """
        Change one attribute, in either of the two forms in which clients say
        which.
        """
        [id] = check_ids("instance", [call.parameters["InstanceId"]])
        if "BlockDeviceMappings" in call.parameters:
            return self._volumes.keep(call.caller, id, kept_disks(call.parameters)).addCallback(lambda _: {})
        changes = requested_change(call.parameters)
        return self._instances.modify(call.caller, id, **changes).addCallback(lambda _: {})

    @inlineCallbacks
    def reset(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        Give one attribute the value that it has by itself: kernel and ramdisk
        those of the image.
        """
        [id] = check_ids("instance", [call.parameters["InstanceId"]])
        attribute = call.parameters["Attribute"]
        if attribute not in RESETTABLE:
            if attribute in SHOWN:
                raise unsupported(f"The attribute '{attribute}' can't be reset")
            raise _unknown(attribute)
        if attribute == "sourceDestCheck":
            yield self._instances.modify(call.caller, id, source_dest_check=True)
            return {}
        [instance] = yield self._instances.get(call.caller, [id])
        images: list[Image] = yield self._images.get(call.caller, [instance.image])
        yield self._instances.modify(call.caller, id, **{attribute: getattr(images[0], attribute)})
        return {}


def requested_change(parameters: Mapping[str, Any]) -> Change:
    """
    @return: what C{Instances.modify} is to change.
    @raise EC2Error: no attribute is named, or more than one, or one that is
        not to be changed.
    """
    named = [name for name in ("Attribute", "Groups", *STRUCTURED) if name in parameters]
    if not named:
        raise combination("No attributes specified.")
    if len(named) > 1:
        raise combination(f"Fields for multiple attribute types specified: {', '.join(sorted(named))}")
    [name] = named
    if name == "Groups":
        return {"groups": check_ids("group", parameters["Groups"])}
    if name == "Attribute":
        return _old_form(parameters)
    if "Value" in parameters:
        raise combination("The parameter Value goes with the parameter Attribute")
    if "Value" not in parameters[name]:
        raise missing(f"{name}.Value")
    return CHANGED[STRUCTURED[name]](parameters[name]["Value"])


def kept_disks(parameters: Mapping[str, Any]) -> dict[str, bool]:
    """
    @return: by device, whether its volume is to go with the instance.
    @raise EC2Error: other attributes are named as well, or nothing is said of
        a device.
    """
    named = [name for name in ("Value", "Groups", *STRUCTURED) if name in parameters]
    if parameters.get("Attribute", "blockDeviceMapping") != "blockDeviceMapping":
        named.append("Attribute")
    if named:
        named = ["BlockDeviceMappings", *named]
        raise combination(f"Fields for multiple attribute types specified: {', '.join(named)}")
    wanted: dict[str, bool] = {}
    for mapping in parameters["BlockDeviceMappings"]:
        device, ebs = mapping.get("DeviceName"), mapping.get("Ebs") or {}
        if not device:
            raise missing("BlockDeviceMapping.DeviceName")
        if "DeleteOnTermination" not in ebs:
            raise missing("BlockDeviceMapping.Ebs.DeleteOnTermination")
        wanted[device] = ebs["DeleteOnTermination"]
    return wanted


def _old_form(parameters: Mapping[str, Any]) -> Change:
    attribute = parameters["Attribute"]
    if attribute in _FIXED:
        raise unsupported(f"The attribute '{attribute}' can't be modified in this way on this cloud")
    change = CHANGED.get(attribute)
    if change is None:
        raise _unknown(attribute)
    if "Value" not in parameters:
        raise missing("Value")
    return change(parameters["Value"])


def _unknown(attribute: str) -> EC2Error:
    return invalid_value("attribute", attribute, "Unknown attribute.")
