"""
What is so for everybody, and that clients ask about all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed

from fabric.api.ec2.actions.refusals import invalid_value
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.pagination import Bounds, token, window
from fabric.api.ec2.registry import Action, Registry

LONG_IDS = (
    *("bundle", "conversion-task", "customer-gateway", "dhcp-options", "elastic-ip-allocation"),
    *("elastic-ip-association", "export-task", "flow-log", "image", "import-task", "instance", "internet-gateway"),
    *("network-acl", "network-acl-association", "network-interface", "network-interface-attachment", "prefix-list"),
    *("reservation", "route-table", "route-table-association", "security-group", "snapshot", "subnet"),
    *("subnet-cidr-block-association", "volume", "vpc", "vpc-cidr-block-association", "vpc-endpoint"),
    *("vpc-peering-connection", "vpn-connection", "vpn-gateway"),
)
"""Kinds of ids that EC2 has in two lengths; all that are made here are long."""


class DefaultActions:
    """
    Answers that need no state.
    """

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        for name, answer in (
            ("GetSerialConsoleAccessStatus", {"SerialConsoleAccessEnabled": False, "ManagedBy": "account"}),
            ("GetEbsEncryptionByDefault", {"EbsEncryptionByDefault": False}),
            ("GetSnapshotBlockPublicAccessState", {"State": "unblocked", "ManagedBy": "account"}),
            ("GetImageBlockPublicAccessState", {"ImageBlockPublicAccessState": "unblocked", "ManagedBy": "account"}),
        ):
            registry.add(Action(name, _always(answer), ()))
        registry.add(Action("DescribeIdFormat", self.formats, ("Resource",)))
        registry.add(Action("DescribeIdentityIdFormat", self.formats, ("Resource", "PrincipalArn")))
        registry.add(Action("DescribeAggregateIdFormat", self.aggregate, ()))
        listed = ("Resources", "MaxResults", "NextToken")
        registry.add(Action("DescribePrincipalIdFormat", self.principals, listed))

    def formats(self, call: Call) -> Deferred[Answer]:
        """
        The lengths of ids, which no identity can have otherwise.
        """
        asked = call.parameters.get("Resource")
        return succeed({"Statuses": _statuses([asked] if asked else ())})

    def aggregate(self, call: Call) -> Deferred[Answer]:
        """
        Ids are long for everybody.
        """
        return succeed({"UseLongIdsAggregated": True, "Statuses": _statuses(())})

    def principals(self, call: Call) -> Deferred[Answer]:
        """
        The one principal that is known here: the caller's project.
        """
        wanted = window(call.action, call.parameters, Bounds(1, 1000))
        statuses = _statuses(call.parameters.get("Resources") or ())
        arn = f"arn:aws:iam::{call.caller.project}:root"
        principals: list[Any] = [] if wanted.cursor else [{"Arn": arn, "Statuses": statuses}]
        return succeed({"Principals": principals, "NextToken": token(call.action, "") or None})


def _always(answer: dict[str, Any]) -> Any:
    return lambda call: succeed(answer)


def _statuses(asked: Sequence[str]) -> list[dict[str, Any]]:
    for name in asked:
        if name not in LONG_IDS:
            raise invalid_value("Resource", name, "Not a kind of resource whose ids have formats.")
    return [{"Resource": name, "UseLongIds": True} for name in (asked or LONG_IDS)]
