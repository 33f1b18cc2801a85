"""
A project's VPC and what belongs to it, by the names of botocore's shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from fabric.model.network import Network
from fabric.model.vpc import part_id, subnet_id, vpc_id

Shown = dict[str, Any]

ANYWHERE = "0.0.0.0/0"
LOCAL = "local"
LAST_RULE = 32767


@attrs.frozen
class Picture:
    """
    What a project's VPC is made of.

    @ivar networks: those that it may use, the default one first.
    @ivar free: how many addresses of each network, by id, are free.
    @ivar domain: of DNS names.
    """

    project: str
    networks: tuple[Network, ...]
    zones: tuple[str, ...]
    free: Mapping[str, int]
    domain: str

    def subnets(self) -> list[tuple[str, Network, str]]:
        """Every subnet: id, network, zone."""
        return [
            (subnet_id(self.project, network.id, zone), network, zone)
            for network in self.networks
            for zone in self.zones
        ]

    def part(self, prefix: str) -> str:
        """The id of a part that there is one of."""
        return part_id(prefix, self.project)


def vpc(picture: Picture) -> Shown:
    """
    The VPC: all networks that the project may use.
    """
    ranges = [network.cidr for network in picture.networks]
    return {
        "VpcId": vpc_id(picture.project),
        "OwnerId": picture.project,
        "State": "available",
        "CidrBlock": ranges[0] if ranges else None,
        "CidrBlockAssociationSet": [
            {
                "AssociationId": part_id("vpc-cidr-assoc", network.id),
                "CidrBlock": network.cidr,
                "CidrBlockState": {"State": "associated"},
            }
            for network in picture.networks
        ],
        "DhcpOptionsId": picture.part("dopt"),
        "InstanceTenancy": "default",
        "IsDefault": True,
    }


def subnet(picture: Picture) -> list[Shown]:
    """
    The subnets: each network in each zone.  A network is one range in all zones.
    """
    return [
        {
            "SubnetId": id,
            "VpcId": vpc_id(picture.project),
            "OwnerId": picture.project,
            "State": "available",
            "CidrBlock": network.cidr,
            "AvailabilityZone": zone,
            "AvailabilityZoneId": zone,
            "AvailableIpAddressCount": picture.free.get(network.id, 0),
            "DefaultForAz": network is picture.networks[0],
            "MapPublicIpOnLaunch": False,
            "AssignIpv6AddressOnCreation": False,
            "Ipv6Native": False,
            "EnableDns64": False,
            "Ipv6CidrBlockAssociationSet": [],
            "PrivateDnsNameOptionsOnLaunch": {
                "HostnameType": "ip-name",
                "EnableResourceNameDnsARecord": False,
                "EnableResourceNameDnsAAAARecord": False,
            },
        }
        for id, network, zone in picture.subnets()
    ]


def route_table(picture: Picture) -> Shown:
    """
    The one route table, which is the main one.
    """
    table = picture.part("rtb")
    routes = [
        {
            "DestinationCidrBlock": network.cidr,
            "GatewayId": LOCAL,
            "Origin": "CreateRouteTable",
            "State": "active",
        }
        for network in picture.networks
    ]
    way_out = {
        "DestinationCidrBlock": ANYWHERE,
        "GatewayId": picture.part("igw"),
        "Origin": "CreateRoute",
        "State": "active",
    }
    return {
        "RouteTableId": table,
        "VpcId": vpc_id(picture.project),
        "OwnerId": picture.project,
        "Associations": [
            {
                "Main": True,
                "RouteTableAssociationId": picture.part("rtbassoc"),
                "RouteTableId": table,
                "AssociationState": {"State": "associated"},
            }
        ],
        "PropagatingVgws": [],
        "Routes": [*routes, way_out],
    }


def gateway(picture: Picture) -> Shown:
    """
    The internet gateway: by it guests get out, and are reached at floating addresses.
    """
    return {
        "InternetGatewayId": picture.part("igw"),
        "OwnerId": picture.project,
        "Attachments": [{"State": "available", "VpcId": vpc_id(picture.project)}],
    }


def dhcp_options(picture: Picture) -> Shown:
    """
    What guests are told by DHCP.
    """
    servers = list(dict.fromkeys(server for network in picture.networks for server in network.dns))
    options = {"domain-name": [picture.domain], "domain-name-servers": servers or ["AmazonProvidedDNS"]}
    return {
        "DhcpOptionsId": picture.part("dopt"),
        "OwnerId": picture.project,
        "DhcpConfigurations": [
            {"Key": key, "Values": [{"Value": value} for value in values]} for key, values in options.items()
        ],
    }


def acl(picture: Picture) -> Shown:
    """
    The network ACL, which lets everything through: security groups decide.
    """
    id = picture.part("acl")
    return {
        "NetworkAclId": id,
        "VpcId": vpc_id(picture.project),
        "OwnerId": picture.project,
        "IsDefault": True,
        "Associations": [
            {
                "NetworkAclAssociationId": part_id("aclassoc", subnet),
                "NetworkAclId": id,
                "SubnetId": subnet,
            }
            for subnet, _, _ in picture.subnets()
        ],
        "Entries": [
            {"CidrBlock": ANYWHERE, "Egress": egress, "Protocol": "-1", "RuleAction": action, "RuleNumber": number}
            for egress in (True, False)
            for number, action in ((100, "allow"), (LAST_RULE, "deny"))
        ],
    }
