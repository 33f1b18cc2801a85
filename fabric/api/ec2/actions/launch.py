"""
RunInstances.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Generator, Mapping
from typing import Any

import attrs
import orjson
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.launch_disks import HONOURED as ON_DISKS
from fabric.api.ec2.actions.launch_disks import instance_tags, new_disks, omitted, scratch_disks, volume_tags
from fabric.api.ec2.actions.launch_network import HONOURED as ON_NETWORK
from fabric.api.ec2.actions.launch_network import in_subnet, one_interface
from fabric.api.ec2.actions.metadata_options import METADATA_OPTIONS, metadata_asked
from fabric.api.ec2.actions.refusals import (
    check_ids,
    client_token,
    combination,
    invalid,
    invalid_value,
    missing,
    unsupported,
)
from fabric.api.ec2.actions.template_data import TEMPLATE_TAGS, merged
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views, reservation
from fabric.cloud.hosts import Hosts
from fabric.cloud.instances import Instances
from fabric.cloud.launch import LaunchSpec
from fabric.cloud.networks import Networks
from fabric.cloud.templates import Named, Templates
from fabric.model import flavor as flavors

MOST_USER_DATA = 16384
"""Bytes of user data, decoded."""

MOST_AT_ONCE = 10_000
"""Instances of one launch, whatever the quota."""

SHUTDOWN_BEHAVIORS = ("stop", "terminate")

HARMLESS: dict[str, tuple[object, ...]] = {
    "Placement.Tenancy": ("default",),
    "Placement.Affinity": ("", "default"),
    "InstanceMarketOptions.MarketType": ("on-demand",),
    "CapacityReservationSpecification.CapacityReservationPreference": ("open", "none"),
    "HibernationOptions.Configured": (False,),
    "EnclaveOptions.Enabled": (False,),
    "PrivateDnsNameOptions.HostnameType": ("ip-name",),
    "PrivateDnsNameOptions.EnableResourceNameDnsARecord": (False,),
    "PrivateDnsNameOptions.EnableResourceNameDnsAAAARecord": (False,),
    "MaintenanceOptions.AutoRecovery": ("disabled",),
    "NetworkPerformanceOptions.BandwidthWeighting": ("default",),
    "EnablePrimaryIpv6": (False,),
    "Ipv6AddressCount": (0,),
    "AdditionalInfo": ("",),
    "PrivateIpAddress": ("",),
}
"""What is taken only with the values that say what happens anyway."""

_HARMLESS = {
    name: [(path.partition(".")[2], values) for path, values in HARMLESS.items() if path.partition(".")[0] == name]
    for name in {path.partition(".")[0] for path in HARMLESS}
}

HONOURED = (
    *("ImageId", "InstanceType", "MinCount", "MaxCount", "KeyName", "SecurityGroupIds", "SecurityGroups", "UserData"),
    *("TagSpecifications", "Placement.AvailabilityZone", "KernelId", "RamdiskId", "ClientToken", "Monitoring.Enabled"),
    *("DisableApiTermination", "DisableApiStop", "InstanceInitiatedShutdownBehavior", "EbsOptimized"),
    *("Placement.GroupName", "Placement.GroupId", "Placement.PartitionNumber", "LaunchTemplate", *METADATA_OPTIONS),
    *(*ON_NETWORK, *ON_DISKS),
)


class LaunchActions:
    """
    The action that makes instances.
    """

    def __init__(
        self, instances: Instances, hosts: Hosts, templates: Templates, networks: Networks, views: EC2Views
    ) -> None:
        self._instances = instances
        self._networks = networks
        self._hosts = hosts
        self._templates = templates
        self._views = views

    def register(self, registry: Registry) -> None:
        """Add the action, with what it honours."""
        registry.add(Action("RunInstances", self.run_instances, [*HONOURED, *HARMLESS]))

    @inlineCallbacks
    def run_instances(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        Launch C{MinCount} to C{MaxCount} instances.
        """
        parameters, origin = call.parameters, {}
        if parameters.get("LaunchTemplate"):
            parameters, origin = yield self._with_template(call)
        parameters = one_interface(parameters)
        spec = attrs.evolve(launch_spec(parameters), digest_of=_digest_of(call.parameters))
        if origin:
            spec = attrs.evolve(spec, tags=spec.tags | origin)
        if spec.zone:
            yield self._check_zone(spec.zone)
        if parameters.get("SubnetId"):
            spec = yield in_subnet(self._networks, self._hosts, call.caller, parameters["SubnetId"], spec)
        instances = yield self._instances.run(call.caller, spec)
        return {**reservation(instances[0]), "Instances": [self._views.instance(each) for each in instances]}

    @inlineCallbacks
    def _with_template(self, call: Call) -> Generator[Deferred[Any], Any, tuple[dict[str, Any], dict[str, str]]]:
        """
        The request over its launch template, and the tags that tell which
        that is.
        """
        parameters = dict(call.parameters)
        given = parameters.pop("LaunchTemplate")
        named = template_named(given)
        [(template, version)] = yield self._templates.versions(call.caller, named, [given.get("Version") or "$Default"])
        origin = dict(zip(TEMPLATE_TAGS, (template.id, str(version.number)), strict=True))
        return merged(orjson.loads(version.data), parameters), origin

    def _check_zone(self, zone: str) -> Deferred[None]:
        def check(zones: list[Any]) -> None:
            if zone not in [each.name for each in zones]:
                raise invalid(f"Invalid availability zone: [{zone}]")

        return self._hosts.zones().addCallback(check)


def template_named(given: Mapping[str, Any]) -> Named:
    """
    @param given: has C{LaunchTemplateId} or C{LaunchTemplateName}.
    @raise EC2Error: it has both, or neither.
    """
    id, name = given.get("LaunchTemplateId") or "", given.get("LaunchTemplateName") or ""
    if id and name:
        raise combination("The parameter LaunchTemplateId cannot be used with the parameter LaunchTemplateName")
    if not id and not name:
        raise missing("LaunchTemplateId")
    if id:
        check_ids("launch_template", [id])
    return Named(id, name)


def placement(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """
    @return: fields of L{LaunchSpec} for C{Placement}.
    @raise EC2Error: it names a group twice, or a partition of none.
    """
    given: Mapping[str, Any] = parameters.get("Placement") or {}
    name, id, number = given.get("GroupName") or "", given.get("GroupId") or "", given.get("PartitionNumber") or 0
    if name and id:
        raise combination("The parameter GroupId cannot be used with the parameter GroupName")
    if number and not (name or id):
        raise combination("The parameter PartitionNumber cannot be used without a placement group")
    if id:
        check_ids("placement_group", [id])
    return {
        "zone": given.get("AvailabilityZone") or "",
        "placement_group": name,
        "placement_group_id": id,
        "partition": number,
    }


def launch_spec(parameters: Mapping[str, Any]) -> LaunchSpec:
    """
    @return: what the request asks for.
    @raise EC2Error: it asks for what can't be, or is not done here.
    """
    refuse_others(parameters)
    least, most = _counts(parameters)
    monitoring: Mapping[str, bool] = parameters.get("Monitoring") or {}
    return LaunchSpec(
        image=_image(parameters),
        flavor=parameters.get("InstanceType") or flavors.DEFAULT,
        min_count=least,
        max_count=most,
        key_name=parameters.get("KeyName") or "",
        groups=check_ids("group", parameters.get("SecurityGroupIds") or ()),
        group_names=tuple(dict.fromkeys(parameters.get("SecurityGroups") or ())),
        **placement(parameters),
        metadata=metadata_asked(parameters.get("MetadataOptions") or {}),
        user_data=user_data(parameters["UserData"]) if parameters.get("UserData") else "",
        client_token=client_token(parameters),
        tags=instance_tags(parameters),
        disks=new_disks(parameters),
        volume_tags=volume_tags(parameters),
        omitted=omitted(parameters),
        scratch=scratch_disks(parameters),
        shutdown_behavior=shutdown_behavior(parameters.get("InstanceInitiatedShutdownBehavior") or "stop"),
        api_termination_disabled=bool(parameters.get("DisableApiTermination")),
        api_stop_disabled=bool(parameters.get("DisableApiStop")),
        monitoring=bool(monitoring.get("Enabled")),
        kernel=_part("kernel", parameters.get("KernelId")),
        ramdisk=_part("ramdisk", parameters.get("RamdiskId")),
        ebs_optimized=bool(parameters.get("EbsOptimized")),
        digest_of=_digest_of(parameters),
    )


def _digest_of(parameters: Mapping[str, Any]) -> str:
    return digest_text(parameters) if parameters.get("ClientToken") else ""


def digest_text(parameters: Mapping[str, Any]) -> str:
    """
    The request as text in one certain form, without the token itself.
    """
    kept = {name: value for name, value in parameters.items() if name not in ("ClientToken", "DryRun")}
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode()


def refuse_others(parameters: Mapping[str, Any]) -> None:
    """
    @raise EC2Error: a parameter asks for something else than L{HARMLESS} has.
    """
    for name, value in parameters.items():
        for member, harmless in _HARMLESS.get(name, ()):
            if not member:
                _refuse_unless(name, value, harmless)
            elif member in value:
                _refuse_unless(f"{name}.{member}", value[member], harmless)


def _refuse_unless(path: str, value: object, harmless: tuple[object, ...]) -> None:
    if value in harmless:
        return
    raise unsupported(f"{path} can't be '{value}': this cloud does not do that")


def user_data(text: str) -> str:
    """
    @param text: base64, with or without line breaks.
    @return: the same without them.
    @raise EC2Error: C{InvalidUserData.Malformed} or too long.
    """
    text = "".join(text.split())
    try:
        decoded = b64decode(text, validate=True)
    except ValueError:
        raise EC2Error("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data") from None
    if len(decoded) > MOST_USER_DATA:
        raise invalid(f"User data is limited to {MOST_USER_DATA} bytes")
    return text


def shutdown_behavior(text: str) -> str:
    """
    @raise EC2Error: neither C{stop} nor C{terminate}.
    """
    if text not in SHUTDOWN_BEHAVIORS:
        raise invalid_value("InstanceInitiatedShutdownBehavior", text, "Expecting stop or terminate.")
    return text


def _counts(parameters: Mapping[str, Any]) -> tuple[int, int]:
    least, most = parameters["MinCount"], parameters["MaxCount"]
    if least < 1:
        raise invalid_value("minCount", least, "Expecting a value greater than or equal to 1.")
    if not 1 <= most <= MOST_AT_ONCE:
        raise invalid_value("maxCount", most, f"Expecting a value between 1 and {MOST_AT_ONCE}.")
    if least > most:
        raise combination(f"MinCount ({least}) can't be larger than MaxCount ({most})")
    return least, most


def _image(parameters: Mapping[str, Any]) -> str:
    image = parameters.get("ImageId")
    if not image:
        raise missing("ImageId")
    return check_ids("image", [image])[0]


def _part(kind: str, id: str | None) -> str:
    return check_ids(kind, [id])[0] if id else ""
