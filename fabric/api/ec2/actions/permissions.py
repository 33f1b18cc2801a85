"""
Permissions in requests: the form of today, C{IpPermissions}, and the one before
it, C{IpProtocol}, C{FromPort}, C{ToPort}, C{CidrIp}, C{SourceSecurityGroupName},
C{SourceSecurityGroupOwnerId}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fabric.api.ec2.actions.refusals import check_ids, combination, missing, unsupported
from fabric.api.ec2.errors import EC2Error
from fabric.cloud.rules import Wanted
from fabric.model.rule import permission

OLD_FORM = (*("IpProtocol", "FromPort", "ToPort", "CidrIp", "SourceSecurityGroupName", "SourceSecurityGroupOwnerId"),)

_PAIR = ("UserId", "GroupName", "GroupId", "Description")

PERMISSION_MEMBERS = (
    "IpPermissions.IpProtocol",
    "IpPermissions.FromPort",
    "IpPermissions.ToPort",
    *(f"IpPermissions.UserIdGroupPairs.{name}" for name in _PAIR),
    "IpPermissions.IpRanges",
    "IpPermissions.Ipv6Ranges",
    "IpPermissions.PrefixListIds",
)
"""The members of C{IpPermissions} that are honoured; prefix lists are refused, as there are none."""

Parameters = Mapping[str, Any]


def wanted_rules(parameters: Parameters, egress: bool) -> list[Wanted]:
    """
    @return: what a request names, in either form; nothing when it names none.
    @raise EC2Error: both forms, or a member that is missing.
    @raise InvalidValue: a rule that can't be meant.
    """
    listed = parameters.get("IpPermissions")
    old = [name for name in OLD_FORM if parameters.get(name) is not None]
    if listed and old:
        raise combination(
            f"The parameter {old[0][:1].lower()}{old[0][1:]} cannot be used with the parameter ipPermissions"
        )
    if old:
        return [_old(parameters, egress)]
    return [wanted for each in listed or () for wanted in _several(each, egress)]


def _old(given: Parameters, egress: bool) -> Wanted:
    cidr, name = given.get("CidrIp") or "", given.get("SourceSecurityGroupName") or ""
    owner = given.get("SourceSecurityGroupOwnerId") or ""
    if cidr and name:
        raise combination("The parameter cidrIp cannot be used with the parameter sourceSecurityGroupName")
    if not cidr and not name:
        raise missing("cidrIp")
    protocol = given.get("IpProtocol")
    if not protocol:
        # With a group and no more, all traffic from its members.
        if not name or given.get("FromPort") is not None or given.get("ToPort") is not None:
            raise missing("ipProtocol")
        protocol = "-1"
    return Wanted(
        permission(
            egress, protocol, given.get("FromPort"), given.get("ToPort"), cidr=cidr, owner=owner, group_name=name
        )
    )


def _several(given: Parameters, egress: bool) -> Iterator[Wanted]:
    protocol = given.get("IpProtocol")
    if not protocol:
        raise missing("ipProtocol")
    if given.get("PrefixListIds"):
        raise unsupported("Prefix lists are not supported by this cloud: it has none")
    common = (egress, protocol, given.get("FromPort"), given.get("ToPort"))
    sides = list(_sides(given))
    permission(*common)  # wrong ports are told before a missing side
    if not sides:
        raise EC2Error(
            "InvalidPermission.Malformed", "The permission must have an IP range or a security group on its other side"
        )
    for side, description in sides:
        yield Wanted(permission(*common, **side), description)


def _sides(given: Parameters) -> Iterator[tuple[dict[str, Any], str]]:
    for each in given.get("IpRanges") or ():
        yield {"cidr": _named(each, "CidrIp")}, each.get("Description") or ""
    for each in given.get("Ipv6Ranges") or ():
        yield {"cidr6": _named(each, "CidrIpv6")}, each.get("Description") or ""
    for each in given.get("UserIdGroupPairs") or ():
        id, name = each.get("GroupId") or "", each.get("GroupName") or ""
        if not id and not name:
            raise missing("groupId")
        if id:
            check_ids("group", [id])
        side = {"group": id, "group_name": "" if id else name, "owner": each.get("UserId") or ""}
        yield side, each.get("Description") or ""


def _named(given: Parameters, name: str) -> str:
    text = given.get(name)
    if not text:
        raise missing(name[:1].lower() + name[1:])
    return str(text)
