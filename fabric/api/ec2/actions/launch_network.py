"""
Where in the project's network a launch puts its instances.

A subnet is a network in a zone, so that to name one is to name both; an
instance has one interface, so that to describe one is to say the same of the
instance.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.refusals import combination, invalid_value, unsupported
from fabric.api.ec2.errors import EC2Error
from fabric.cloud.access import Caller
from fabric.cloud.hosts import Hosts
from fabric.cloud.launch import LaunchSpec
from fabric.cloud.networks import Networks
from fabric.model.vpc import subnet_id

_ONLY: dict[str, tuple[object, ...]] = {
    "DeviceIndex": (0,),
    "NetworkCardIndex": (0,),
    "AssociatePublicIpAddress": (False,),
    "AssociateCarrierIpAddress": (False,),
    "DeleteOnTermination": (True,),
    "Description": ("",),
    "InterfaceType": ("", "interface"),
    "Ipv6AddressCount": (0,),
    "SecondaryPrivateIpAddressCount": (0,),
    "PrimaryIpv6": (False,),
}
"""What an interface is taken with: what happens anyway."""

HONOURED = ("SubnetId", *(f"NetworkInterfaces.{name}" for name in ("SubnetId", "Groups", *_ONLY)))


def one_interface(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """
    @return: the request with what it says of its interface said of the instance.
    @raise EC2Error: it asks for another interface than an instance has, or
        says the same twice.
    """
    given = dict(parameters)
    interfaces = given.pop("NetworkInterfaces", None)
    if not interfaces:
        return given
    if len(interfaces) > 1:
        raise unsupported("An instance has one network interface on this cloud")
    [interface] = interfaces
    if given.get("SubnetId"):
        raise combination("Network interfaces and an instance-level subnet ID may not be specified on the same request")
    if given.get("SecurityGroupIds") or given.get("SecurityGroups"):
        raise combination(
            "Network interfaces and instance-level security groups may not be specified on the same request"
        )
    for name, only in _ONLY.items():
        if name in interface and interface[name] not in only:
            raise unsupported(f"NetworkInterfaces.{name} can't be '{interface[name]}': this cloud does not do that")
    if interface.get("SubnetId"):
        given["SubnetId"] = interface["SubnetId"]
    if interface.get("Groups"):
        given["SecurityGroupIds"] = interface["Groups"]
    return given


@inlineCallbacks
def in_subnet(
    networks: Networks, hosts: Hosts, caller: Caller, subnet: str, spec: LaunchSpec
) -> Generator[Deferred[Any], Any, LaunchSpec]:
    """
    @return: the launch in the network and zone that a subnet stands for.
    @raise EC2Error: the project has no such subnet, or another zone is wanted.
    """
    visible = yield networks.visible(caller)
    zones = yield hosts.zones()
    for network in visible:
        for zone in zones:
            if subnet_id(caller.project, network.id, zone.name) != subnet:
                continue
            if spec.zone and spec.zone != zone.name:
                raise invalid_value("availabilityZone", spec.zone, f"The subnet {subnet} is in {zone.name}.")
            return attrs.evolve(spec, network=network.id, zone=zone.name)
    raise EC2Error("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist")
