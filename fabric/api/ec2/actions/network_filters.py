"""
Filters by what an instance is connected to, under the names of
DescribeInstances and of DescribeNetworkInterfaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fabric.api.ec2.filters import Facet, Rule, constant, facet, flag, matcher, of_record, own_project
from fabric.api.ec2.network_views import dns_name
from fabric.cloud.access import Caller
from fabric.cloud.associations import KEEPS
from fabric.model.instance import Instance
from fabric.model.vpc import subnet_id, vpc_id

INTERFACE = "network-interface."
"""How those filters of DescribeInstances begin that are about an interface."""


def host_name(domain: str, name: str, read: Callable[[Instance], Iterable[str]]) -> Rule:
    """
    A DNS name, of which the store files as C{name} what stands before the domain.
    """
    suffix = "." + domain
    by_record = of_record(lambda instance: [dns_name(each, domain) for each in read(instance)])

    def rule(caller: Caller, values: tuple[str, ...]) -> object:
        if all(value.endswith(suffix) for value in values):
            return (name, tuple(value.removesuffix(suffix) for value in values))
        return by_record(caller, values)

    return rule  # type: ignore[return-value]


def private_name(domain: str) -> Rule:
    """
    The DNS name of the fixed address.
    """
    return host_name(
        domain, "hostname", lambda each: [port.hostname for port in each.ports if port.hostname and each.live]
    )


def public_name(domain: str) -> Rule:
    """
    The DNS name of the public address.
    """
    return host_name(
        domain, "public-hostname", lambda each: [port.public.hostname for port in each.ports if port.public]
    )


def in_vpc(caller: Caller, values: tuple[str, ...]) -> bool:
    """
    A rule: the project's one VPC.
    """
    return matcher(values)(vpc_id(caller.project))


in_subnet = of_record(
    lambda each: [
        subnet_id(each.project, port.network, each.zone or each.wanted_zone)
        for port in each.ports
        if each.live and (each.zone or each.wanted_zone)
    ]
)
"""A rule: a subnet of an instance."""


def of_instance(prefix: str, name: str = "id") -> Rule:
    """
    An id with the digits of the instance's, as an interface's.
    """

    def rule(caller: Caller, values: tuple[str, ...]) -> Facet:
        return (name, tuple("i-" + each.removeprefix(prefix) if each.startswith(prefix) else each for each in values))

    return rule


def led_to(caller: Caller, values: tuple[str, ...]) -> Facet | bool:
    """A rule: whose the public address is, of those that have one."""
    return ("association", ("*",)) if own_project(caller, values) else False


def interface_rules(domain: str) -> dict[str, Rule]:
    """
    The filters of DescribeNetworkInterfaces that DescribeInstances has too,
    under L{INTERFACE}.
    """
    return {
        "addresses.association.ip-owner-id": led_to,
        "addresses.association.public-dns-name": public_name(domain),
        "addresses.association.public-ip": facet("public"),
        "addresses.primary": constant("true"),
        "addresses.private-dns-name": private_name(domain),
        "addresses.private-ip-address": facet("address"),
        "association.allocation-id": facet("allocation"),
        "association.association-id": facet("association"),
        "association.ip-owner-id": led_to,
        "association.public-dns-name": public_name(domain),
        "association.public-ip": facet("public"),
        "attachment.attach-time": facet("launched"),
        "attachment.attachment-id": of_instance("eni-attach-"),
        "attachment.delete-on-termination": constant("true"),
        "attachment.device-index": constant("0"),
        "attachment.instance-id": facet("id"),
        "attachment.instance-owner-id": own_project,
        "attachment.network-card-index": constant("0"),
        "attachment.status": constant("attached"),
        "availability-zone": facet("zone"),
        "description": constant(""),
        "group-id": facet("group"),
        "group-name": facet("group-name"),
        "ipv6-addresses.ipv6-address": constant(),
        "mac-address": facet("mac"),
        "network-interface-id": of_instance("eni-"),
        "operator.managed": constant("false"),
        "operator.principal": constant(),
        "owner-id": own_project,
        "private-dns-name": private_name(domain),
        "private-ip-address": facet("address"),
        "public-dns-name": public_name(domain),
        "requester-id": constant(),
        "requester-managed": constant("false"),
        "source-dest-check": flag(lambda instance: instance.source_dest_check),
        "status": constant("in-use"),
        "subnet-id": in_subnet,
        "vpc-id": in_vpc,
    }


def of_connected(names: Iterable[str]) -> tuple[Facet, ...]:
    """
    @param names: of the filters that a request has.
    @return: what else must be so of an instance: one that shows no network
        is found by none, and one that shows no interface by nothing of that.
    """
    asked = set(names)
    facets: list[Facet] = [("state", (*KEEPS, "shutting-down"))] if "vpc-id" in asked else []
    if any(name.startswith(INTERFACE) for name in asked):
        facets.append(("address", ("*",)))
    return tuple(facets)


def connection_rules(domain: str) -> dict[str, Rule]:
    """
    The filters of DescribeInstances by what an instance is connected to.
    """
    return {INTERFACE + name: rule for name, rule in interface_rules(domain).items()} | {
        "dns-name": public_name(domain),
        "ip-address": facet("public"),
        "private-dns-name": private_name(domain),
        "private-ip-address": facet("address"),
        "subnet-id": in_subnet,
        "vpc-id": in_vpc,
    }
