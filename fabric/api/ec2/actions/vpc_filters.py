"""
The filters of the Describes of a project's VPC.

@see: U{https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVpcs.html} and its like.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fabric.api.ec2.filters import FilterTable, Rule, constant, of_record


class Untagged(FilterTable):
    """
    The filters of what can have no tags: by a tag, nothing is found.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        super().__init__({**rules, "tag-key": constant(), "tag-value": constant()}, tagged=False)

    def _rule(self, name: str) -> Rule:
        return constant() if name.startswith("tag:") and len(name) > 4 else super()._rule(name)


def member(path: str) -> Rule:
    """
    The values at a path of botocore's names in what is shown, as
    C{Associations.Main}; lists between are gone through.
    """
    names = path.split(".")
    return of_record(lambda shown: list(_values(shown, names)))


def _values(value: Any, names: list[str]) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _values(part, names)
    elif names:
        found = value.get(names[0])
        if found is not None:
            yield from _values(found, names[1:])
    else:
        yield ("true" if value else "false") if isinstance(value, bool) else str(value)


def _table(known: Mapping[str, str], absent: str = "") -> FilterTable:
    rules: dict[str, Rule] = {name: member(path) for name, path in known.items()}
    rules |= {name: constant() for name in absent.split()}
    return Untagged(rules)


_VPC = {
    "cidr": "CidrBlock",
    "cidrBlock": "CidrBlock",
    "cidr-block-association.cidr-block": "CidrBlockAssociationSet.CidrBlock",
    "cidr-block-association.association-id": "CidrBlockAssociationSet.AssociationId",
    "cidr-block-association.state": "CidrBlockAssociationSet.CidrBlockState.State",
    "dhcp-options-id": "DhcpOptionsId",
    "is-default": "IsDefault",
    "isDefault": "IsDefault",
    "owner-id": "OwnerId",
    "state": "State",
    "vpc-id": "VpcId",
}

_SUBNET = {
    "availability-zone": "AvailabilityZone",
    "availabilityZone": "AvailabilityZone",
    "availability-zone-id": "AvailabilityZoneId",
    "availabilityZoneId": "AvailabilityZoneId",
    "available-ip-address-count": "AvailableIpAddressCount",
    "cidr-block": "CidrBlock",
    "cidr": "CidrBlock",
    "cidrBlock": "CidrBlock",
    "default-for-az": "DefaultForAz",
    "defaultForAz": "DefaultForAz",
    "enable-dns64": "EnableDns64",
    "ipv6-native": "Ipv6Native",
    "map-public-ip-on-launch": "MapPublicIpOnLaunch",
    "owner-id": "OwnerId",
    "private-dns-name-options-on-launch.hostname-type": "PrivateDnsNameOptionsOnLaunch.HostnameType",
    "private-dns-name-options-on-launch.enable-resource-name-dns-a-record": (
        "PrivateDnsNameOptionsOnLaunch.EnableResourceNameDnsARecord"
    ),
    "private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record": (
        "PrivateDnsNameOptionsOnLaunch.EnableResourceNameDnsAAAARecord"
    ),
    "state": "State",
    "subnet-id": "SubnetId",
    "vpc-id": "VpcId",
}

_ROUTE_TABLE = {
    "association.main": "Associations.Main",
    "association.route-table-association-id": "Associations.RouteTableAssociationId",
    "association.route-table-id": "Associations.RouteTableId",
    "association.subnet-id": "Associations.SubnetId",
    "owner-id": "OwnerId",
    "route-table-id": "RouteTableId",
    "route.destination-cidr-block": "Routes.DestinationCidrBlock",
    "route.gateway-id": "Routes.GatewayId",
    "route.origin": "Routes.Origin",
    "route.state": "Routes.State",
    "vpc-id": "VpcId",
}

_ACL = {
    "association.association-id": "Associations.NetworkAclAssociationId",
    "association.network-acl-id": "Associations.NetworkAclId",
    "association.subnet-id": "Associations.SubnetId",
    "default": "IsDefault",
    "entry.cidr": "Entries.CidrBlock",
    "entry.egress": "Entries.Egress",
    "entry.protocol": "Entries.Protocol",
    "entry.rule-action": "Entries.RuleAction",
    "entry.rule-number": "Entries.RuleNumber",
    "network-acl-id": "NetworkAclId",
    "owner-id": "OwnerId",
    "vpc-id": "VpcId",
}

FILTERS: Mapping[str, FilterTable] = {
    "DescribeVpcs": _table(
        _VPC,
        """ipv6-cidr-block-association.ipv6-cidr-block ipv6-cidr-block-association.ipv6-pool
        ipv6-cidr-block-association.association-id ipv6-cidr-block-association.state""",
    ),
    "DescribeSubnets": _table(
        _SUBNET,
        """customer-owned-ipv4-pool enable-lni-at-device-index ipv6-cidr-block-association.ipv6-cidr-block
        ipv6-cidr-block-association.association-id ipv6-cidr-block-association.state
        map-customer-owned-ip-on-launch outpost-arn subnet-arn""",
    ),
    "DescribeRouteTables": _table(
        _ROUTE_TABLE,
        """association.gateway-id route.destination-ipv6-cidr-block route.destination-prefix-list-id
        route.egress-only-internet-gateway-id route.instance-id route.nat-gateway-id route.transit-gateway-id
        route.vpc-peering-connection-id""",
    ),
    "DescribeInternetGateways": _table(
        {
            "attachment.state": "Attachments.State",
            "attachment.vpc-id": "Attachments.VpcId",
            "internet-gateway-id": "InternetGatewayId",
            "owner-id": "OwnerId",
        }
    ),
    "DescribeDhcpOptions": _table(
        {
            "dhcp-options-id": "DhcpOptionsId",
            "key": "DhcpConfigurations.Key",
            "value": "DhcpConfigurations.Values.Value",
            "owner-id": "OwnerId",
        }
    ),
    "DescribeNetworkAcls": _table(
        _ACL, "entry.icmp.code entry.icmp.type entry.ipv6-cidr entry.port-range.from entry.port-range.to"
    ),
    "DescribePrefixLists": _table({}, "prefix-list-id prefix-list-name"),
    "DescribeManagedPrefixLists": _table({}, "owner-id prefix-list-id prefix-list-name"),
    "DescribeNatGateways": _table({}, "nat-gateway-id state subnet-id vpc-id"),
    "DescribeVpcEndpoints": _table(
        {},
        """ip-address-type service-name service-region vpc-id vpc-endpoint-id vpc-endpoint-state
        vpc-endpoint-type""",
    ),
    "DescribeVpcPeeringConnections": _table(
        {},
        """accepter-vpc-info.cidr-block accepter-vpc-info.owner-id accepter-vpc-info.vpc-id expiration-time
        requester-vpc-info.cidr-block requester-vpc-info.owner-id requester-vpc-info.vpc-id status-code
        status-message vpc-peering-connection-id""",
    ),
    "DescribeEgressOnlyInternetGateways": _table({}),
    "DescribeCustomerGateways": _table({}, "bgp-asn customer-gateway-id ip-address state type"),
    "DescribeVpnGateways": _table(
        {}, "amazon-side-asn attachment.state attachment.vpc-id availability-zone state type vpn-gateway-id"
    ),
    "DescribeVpnConnections": _table(
        {},
        """customer-gateway-configuration customer-gateway-id state option.static-routes-only
        route.destination-cidr-block bgp-asn type vpn-connection-id vpn-gateway-id transit-gateway-id""",
    ),
}
"""By action."""
