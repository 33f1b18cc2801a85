"""
The project's network as clients of today expect one: a default VPC, with a
subnet for each network in each zone, and what belongs to it.

It is a picture, made anew of what is there each time, and can't be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.addresses import interface_owner, unknown_interface
from fabric.api.ec2.actions.listing import Describe
from fabric.api.ec2.actions.network_filters import interface_rules, led_to
from fabric.api.ec2.actions.refusals import invalid_value
from fabric.api.ec2.actions.vpc_filters import FILTERS, Untagged
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.filters import Narrowing, Rule, constant, facet
from fabric.api.ec2.pagination import Bounds, token, window
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views, Shown
from fabric.api.ec2.vpc_views import Picture, acl, dhcp_options, gateway, route_table, subnet, vpc
from fabric.cloud.access import Caller
from fabric.cloud.associations import KEEPS
from fabric.cloud.hosts import Hosts
from fabric.cloud.listings import Listings
from fabric.cloud.networks import Networks
from fabric.errors import NotFound
from fabric.model.instance import Instance
from fabric.model.vpc import interface_id, vpc_id

BOUNDS = Bounds(5, 1000)


@attrs.frozen
class Kind:
    """
    One kind of thing in the picture.

    @ivar action: the Describe of it.
    @ivar output: the list's name in botocore's output shape.
    @ivar id: the name of its id in each item.
    @ivar ids: the input member that names some.
    @ivar code: of the error when one is not there.
    @ivar what: what the error calls it.
    @ivar make: the items of a project's picture.
    """

    action: str
    output: str
    id: str
    ids: str
    code: str
    what: str
    make: Callable[[Picture], list[Shown]]


KINDS = (
    Kind("DescribeVpcs", "Vpcs", "VpcId", "VpcIds", "InvalidVpcID", "vpc ID", lambda p: [vpc(p)]),
    Kind("DescribeSubnets", "Subnets", "SubnetId", "SubnetIds", "InvalidSubnetID", "subnet ID", subnet),
    Kind(
        *("DescribeRouteTables", "RouteTables", "RouteTableId", "RouteTableIds"),
        *("InvalidRouteTableID", "routeTable ID", lambda p: [route_table(p)]),
    ),
    Kind(
        *("DescribeInternetGateways", "InternetGateways", "InternetGatewayId", "InternetGatewayIds"),
        *("InvalidInternetGatewayID", "internetGateway ID", lambda p: [gateway(p)]),
    ),
    Kind(
        *("DescribeDhcpOptions", "DhcpOptions", "DhcpOptionsId", "DhcpOptionsIds"),
        *("InvalidDhcpOptionsID", "dhcpOption ID", lambda p: [dhcp_options(p)]),
    ),
    Kind(
        *("DescribeNetworkAcls", "NetworkAcls", "NetworkAclId", "NetworkAclIds"),
        *("InvalidNetworkAclID", "networkAcl ID", lambda p: [acl(p)]),
    ),
)
"""What there is."""


def _none(action: str, output: str, ids: str, code: str, what: str) -> Kind:
    return Kind(action, output, "", ids, code, what, lambda picture: [])


ABSENT = (
    _none("DescribePrefixLists", "PrefixLists", "PrefixListIds", "InvalidPrefixListID", "prefix list ID"),
    _none("DescribeManagedPrefixLists", "PrefixLists", "PrefixListIds", "InvalidPrefixListID", "prefix list ID"),
    _none("DescribeNatGateways", "NatGateways", "NatGatewayIds", "NatGatewayNotFound", "NatGateway"),
    _none("DescribeVpcEndpoints", "VpcEndpoints", "VpcEndpointIds", "InvalidVpcEndpointId", "Vpc Endpoint Id"),
    _none(
        *("DescribeVpcPeeringConnections", "VpcPeeringConnections", "VpcPeeringConnectionIds"),
        *("InvalidVpcPeeringConnectionID", "vpcPeeringConnection ID"),
    ),
    _none(
        *("DescribeEgressOnlyInternetGateways", "EgressOnlyInternetGateways", "EgressOnlyInternetGatewayIds"),
        *("InvalidGatewayID", "egress-only internet gateway ID"),
    ),
    _none(
        *("DescribeCustomerGateways", "CustomerGateways", "CustomerGatewayIds"),
        *("InvalidCustomerGatewayID", "customerGateway ID"),
    ),
    _none("DescribeVpnGateways", "VpnGateways", "VpnGatewayIds", "InvalidVpnGatewayID", "vpnGateway ID"),
    _none(
        *("DescribeVpnConnections", "VpnConnections", "VpnConnectionIds"),
        *("InvalidVpnConnectionID", "vpnConnection ID"),
    ),
)
"""What clients ask for, and there is none of."""

UNPAGED = ("DescribeCustomerGateways", "DescribeVpnGateways", "DescribeVpnConnections")
"""Describes whose input has no C{MaxResults}."""

_ONLY_HERE: dict[str, Rule] = {
    "addresses.association.owner-id": led_to,
    "availability-zone-id": facet("zone"),
    "interface-type": constant("interface"),
}
"""Filters of interfaces that those of instances do not have."""

ATTRIBUTES = {
    "enableDnsSupport": {"EnableDnsSupport": {"Value": True}},
    "enableDnsHostnames": {"EnableDnsHostnames": {"Value": True}},
    "enableNetworkAddressUsageMetrics": {"EnableNetworkAddressUsageMetrics": {"Value": False}},
}
"""Of the VPC."""


class VpcActions:
    """
    The picture's Describes.
    """

    def __init__(self, networks: Networks, hosts: Hosts, listings: Listings, views: EC2Views) -> None:
        self._networks = networks
        self._hosts = hosts
        rules = interface_rules(views.domain)
        self._interfaces = Describe(
            listings,
            Instance,
            "networkInterfaceSet",
            Untagged(rules | _ONLY_HERE),
            views.render_interface,
            always=True,
            bounds=BOUNDS,
        )
        self._domain = views.domain

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        for kind in (*KINDS, *ABSENT):
            filters = "Filter" if kind.action == "DescribeNatGateways" else "Filters"
            pages = () if kind.action in UNPAGED else ("MaxResults", "NextToken")
            registry.add(Action(kind.action, self._describer(kind), (kind.ids, filters, *pages)))
        registry.add(Action("DescribeVpcAttribute", self.vpc_attribute, ("VpcId", "Attribute")))
        listed = ("NetworkInterfaceIds", "Filters", "MaxResults", "NextToken", "IncludeManagedResources")
        registry.add(Action("DescribeNetworkInterfaces", self.interfaces, listed))

    def _describer(self, kind: Kind) -> Callable[[Call], Deferred[Answer]]:
        return lambda call: self._describe(kind, call)

    @inlineCallbacks
    def _describe(self, kind: Kind, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        given = call.parameters
        narrowing = FILTERS[kind.action].narrow(call.caller, given.get("Filters") or given.get("Filter"))
        wanted = window(call.action, given, BOUNDS)
        items = [] if kind in ABSENT else kind.make((yield self.picture(call.caller)))
        asked = given.get(kind.ids) or ()
        absent = [id for id in asked if id not in [item[kind.id] for item in items]]
        if absent:
            raise _unknown(kind, absent)
        items = _chosen(items, kind.id, asked, narrowing)
        start = _start(wanted.cursor)
        end = len(items) if wanted.limit is None else start + wanted.limit
        answer = {kind.output: items[start:end]}
        return answer if end >= len(items) else {**answer, "NextToken": token(call.action, str(end))}

    @inlineCallbacks
    def picture(self, caller: Caller) -> Generator[Deferred[Any], Any, Picture]:
        """
        What a project's picture is made of.
        """
        networks = yield self._networks.visible(caller)
        free = yield self._networks.free()
        zones = yield self._hosts.zones()
        return Picture(caller.project, tuple(networks), tuple(zone.name for zone in zones), free, self._domain)

    def vpc_attribute(self, call: Call) -> Deferred[Answer]:
        """
        One attribute of the VPC.
        """
        id, attribute = call.parameters["VpcId"], call.parameters["Attribute"]
        if id != vpc_id(call.caller.project):
            raise EC2Error("InvalidVpcID.NotFound", f"The vpc ID '{id}' does not exist")
        if attribute not in ATTRIBUTES:
            raise invalid_value("attribute", attribute, f"Expecting one of {', '.join(ATTRIBUTES)}.")
        answer: Deferred[Answer] = Deferred()
        answer.callback({"VpcId": id, **ATTRIBUTES[attribute]})
        return answer

    def interfaces(self, call: Call) -> Deferred[Answer]:
        """
        The interfaces of the project's instances: one each.
        """
        asked = call.parameters.get("NetworkInterfaceIds") or ()
        owners = tuple(dict.fromkeys(map(interface_owner, asked)))
        narrowing = self._interfaces.narrow(call)
        narrowing.add(("state", (*KEEPS, "shutting-down")))
        narrowing.add(("address", ("*",)))
        listed = self._interfaces.listing(call, narrowing, owners)
        return listed.addErrback(_unknown_instances)


def _unknown_instances(failure: Any) -> Any:
    if failure.check(NotFound):
        raise unknown_interface(", ".join(interface_id(id) for id in failure.value.id.split(", ")))
    return failure


def _chosen(items: Iterable[Shown], id: str, asked: Sequence[str], narrowing: Narrowing) -> list[Shown]:
    return [item for item in items if (not asked or item[id] in asked) and narrowing.passes(item)]


def _start(cursor: str) -> int:
    return int(cursor) if cursor.isdigit() else 0


def _unknown(kind: Kind, ids: Sequence[str]) -> EC2Error:
    code = kind.code if kind.code == "NatGatewayNotFound" else f"{kind.code}.NotFound"
    return EC2Error(code, f"The {kind.what} '{', '.join(ids)}' does not exist")
