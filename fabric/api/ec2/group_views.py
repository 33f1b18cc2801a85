"""
Security groups and their rules by botocore's names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fabric.model.group import SecurityGroup
from fabric.model.rule import Rule, Traffic, merged
from fabric.model.vpc import vpc_id

Shown = dict[str, Any]


def group(record: SecurityGroup) -> Shown:
    """
    A security group by the names of botocore's C{SecurityGroup}.
    """
    return {
        "OwnerId": record.project,
        "GroupId": record.id,
        "GroupName": record.name,
        "Description": record.description,
        "VpcId": vpc_id(record.project),
        "IpPermissions": permissions(record.rules, False),
        "IpPermissionsEgress": permissions(record.rules, True),
        "Tags": _tags(record.tags) if record.tags else None,
    }


def permissions(rules: Iterable[Rule], egress: bool) -> list[Shown]:
    """
    The rules of one direction by the names of botocore's C{IpPermission}:
    those of the same traffic are one.
    """
    return [_permission(traffic) for traffic in merged(rules, egress)]


def stale_permissions(rules: Iterable[Rule], egress: bool) -> list[Shown]:
    """
    Rules about groups, by the names of botocore's C{StaleIpPermission}.
    """
    return [
        {**_ports(traffic), "UserIdGroupPairs": [_pair(rule) for rule in traffic.rules]}
        for traffic in merged(rules, egress)
    ]


def security_group_rule(record: SecurityGroup, rule: Rule) -> Shown:
    """
    A rule by the names of botocore's C{SecurityGroupRule}.
    """
    permission = rule.permission
    return {
        **_plain(record, rule),
        "GroupOwnerId": record.project,
        "ReferencedGroupInfo": {
            "GroupId": permission.group,
            "UserId": permission.owner,
            "VpcId": vpc_id(permission.owner),
        }
        if permission.group
        else None,
        "Tags": _tags(rule.tags),
    }


def revoked_rule(record: SecurityGroup, rule: Rule) -> Shown:
    """
    A rule by the names of botocore's C{RevokedSecurityGroupRule}.
    """
    return {**_plain(record, rule), "ReferencedGroupId": rule.permission.group or None}


def group_for_vpc(record: SecurityGroup) -> Shown:
    """
    A security group by the names of botocore's C{SecurityGroupForVpc}.
    """
    return {
        "Description": record.description,
        "GroupName": record.name,
        "OwnerId": record.project,
        "GroupId": record.id,
        "Tags": _tags(record.tags) if record.tags else None,
        "PrimaryVpcId": vpc_id(record.project),
    }


def _plain(record: SecurityGroup, rule: Rule) -> Shown:
    permission = rule.permission
    return {
        "SecurityGroupRuleId": rule.id,
        "GroupId": record.id,
        "IsEgress": permission.egress,
        "IpProtocol": permission.protocol,
        "FromPort": permission.from_port,
        "ToPort": permission.to_port,
        "CidrIpv4": permission.cidr or None,
        "CidrIpv6": permission.cidr6 or None,
        "Description": rule.description or None,
    }


def _permission(traffic: Traffic) -> Shown:
    return {
        **_ports(traffic),
        "UserIdGroupPairs": [_pair(rule) for rule in traffic.rules if rule.permission.group],
        "IpRanges": [
            {"CidrIp": rule.permission.cidr, "Description": rule.description or None}
            for rule in traffic.rules
            if rule.permission.cidr
        ],
        "Ipv6Ranges": [
            {"CidrIpv6": rule.permission.cidr6, "Description": rule.description or None}
            for rule in traffic.rules
            if rule.permission.cidr6
        ],
        "PrefixListIds": [],
    }


def _ports(traffic: Traffic) -> Shown:
    known = traffic.protocol in ("tcp", "udp", "icmp", "icmpv6")
    return {
        "IpProtocol": traffic.protocol,
        "FromPort": traffic.from_port if known else None,
        "ToPort": traffic.to_port if known else None,
    }


def _pair(rule: Rule) -> Shown:
    permission = rule.permission
    return {
        "UserId": permission.owner,
        "GroupId": permission.group,
        "GroupName": permission.group_name,
        "Description": rule.description or None,
    }


def _tags(record_tags: dict[str, str]) -> list[Shown]:
    return [{"Key": key, "Value": value} for key, value in record_tags.items()]
