"""
Security groups: names and ids.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.listing import Describe, all_records
from fabric.api.ec2.actions.refusals import check_ascii, check_ids, combination, invalid, invalid_value, missing
from fabric.api.ec2.actions.rules import own_vpc
from fabric.api.ec2.actions.tagging import tags_at_creation
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.filters import FilterTable, Rule, constant, facet, literal, matcher, own_project
from fabric.api.ec2.pagination import Bounds
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views, tags
from fabric.cloud.access import Caller
from fabric.cloud.groups import DEFAULT, Groups
from fabric.cloud.listings import Listings
from fabric.errors import NotFound
from fabric.model.group import SecurityGroup
from fabric.model.rule import CHARACTERS, spelt
from fabric.model.vpc import vpc_id

_OF_RULES = ("cidr", "from-port", "group-id", "group-name", "ipv6-cidr", "protocol", "to-port", "user-id")


def _filters() -> FilterTable:
    rules: dict[str, Rule] = {
        "description": facet("description"),
        "group-id": facet("id"),
        "group-name": facet("name"),
        "owner-id": own_project,
        "vpc-id": _own_vpc,
    }
    for direction in ("ip-permission.", "egress.ip-permission."):
        rules |= {direction + name: facet(direction + name) for name in _OF_RULES}
        rules[direction + "prefix-list-id"] = constant()
    return FilterTable(rules)


def _own_vpc(caller: Caller, values: tuple[str, ...]) -> bool:
    return matcher(values)(vpc_id(caller.project))


def _filters_for_vpc() -> FilterTable:
    return FilterTable(
        {
            "description": facet("description"),
            "group-id": facet("id"),
            "group-name": facet("name"),
            "owner-id": own_project,
            "primary-vpc-id": _own_vpc,
        }
    )


class GroupActions:
    """
    Makes, lists and removes groups.
    """

    def __init__(self, groups: Groups, listings: Listings, views: EC2Views) -> None:
        self._groups = groups
        self._listings = listings
        self._list = Describe(
            listings, SecurityGroup, "securityGroupInfo", _filters(), views.render_one, bounds=Bounds(5, 1000)
        )
        self._for_vpc = Describe(
            listings,
            SecurityGroup,
            "securityGroupForVpcSet",
            _filters_for_vpc(),
            views.render_group_for_vpc,
            always=True,
            bounds=Bounds(5, 1000),
        )
        self._have_default: set[str] = set()

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        registry.add(
            Action("CreateSecurityGroup", self.create, ("GroupName", "Description", "VpcId", "TagSpecifications"))
        )
        listed = ("GroupIds", "GroupNames", "Filters", "MaxResults", "NextToken")
        registry.add(Action("DescribeSecurityGroups", self.describe, listed))
        for_vpc = ("VpcId", "Filters", "MaxResults", "NextToken")
        registry.add(Action("GetSecurityGroupsForVpc", self.for_vpc, for_vpc))
        registry.add(Action("DeleteSecurityGroup", self.delete, ("GroupId", "GroupName")))

    def create(self, call: Call) -> Deferred[Answer]:
        """
        Make a group.  The default one makes itself, with rules of its own.
        Spaces at the end of a name are not part of it.
        """
        name = _text("GroupName", call.parameters["GroupName"].rstrip(" "), "name. Valid names")
        description = _text("GroupDescription", call.parameters["Description"], "description. Valid descriptions")
        if name == DEFAULT:
            raise EC2Error("InvalidGroup.Reserved", f"The security group '{name}' is reserved")
        if name.startswith("sg-"):
            raise invalid_value("GroupName", name, "Group names may not be in the format sg-*.")
        if call.parameters.get("VpcId"):
            own_vpc(call, call.parameters["VpcId"])
        given = tags_at_creation(call.parameters, "security-group")
        made = self._groups.create(call.caller, name, description, given)
        return made.addCallback(lambda group: {"GroupId": group.id, "Tags": tags(group.tags) if group.tags else None})

    @inlineCallbacks
    def describe(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        All groups, or those named.  Each project has a default group, which
        is made when somebody first looks.
        """
        caller = call.caller
        narrowing = self._list.narrow(call)
        ids = check_ids("group", call.parameters.get("GroupIds") or ())
        names = tuple(dict.fromkeys(call.parameters.get("GroupNames") or ()))
        yield self._ensure_default(caller)
        if names:
            yield self._check_names(caller, names)
            narrowing.add(("name", tuple(map(literal, names))))
        return (yield self._list.listing(call, narrowing, ids))  # type: ignore[no-any-return]

    @inlineCallbacks
    def for_vpc(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        The groups that instances in the project's network may be in: all.
        """
        own_vpc(call, call.parameters["VpcId"])
        narrowing = self._for_vpc.narrow(call)
        yield self._ensure_default(call.caller)
        return (yield self._for_vpc.listing(call, narrowing))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _ensure_default(self, caller: Caller) -> Generator[Deferred[Any], Any, None]:
        if caller.project not in self._have_default:
            yield self._groups.ensure_default(caller)
            self._have_default.add(caller.project)

    @inlineCallbacks
    def _check_names(self, caller: Caller, names: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        wanted = (("name", tuple(map(literal, names))),)
        found = yield all_records(lambda cursor: self._listings.records(caller, SecurityGroup, wanted, cursor=cursor))
        there = {stored.record.name for stored in found}
        absent = [name for name in names if name not in there]
        if absent:
            raise NotFound("group", ", ".join(absent))

    def delete(self, call: Call) -> Deferred[Answer]:
        """
        Remove a group, by id or name.
        """
        id, name = call.parameters.get("GroupId") or "", call.parameters.get("GroupName") or ""
        if not id and not name:
            raise missing("GroupId")
        if id and name:
            raise combination("The parameter GroupName cannot be used with the parameter GroupId")
        if id:
            check_ids("group", [id])
        gone = self._groups.delete(call.caller, id=id, name=name)
        return gone.addCallback(lambda group: {"Return": True, "GroupId": group.id})


def _text(name: str, text: str, what: str) -> str:
    if not text:
        raise missing(name)
    if not spelt(check_ascii(name, text)):
        raise invalid(
            f"Invalid security group {what} are strings less than 256 characters from the following set:  {CHARACTERS}"
        )
    return text
