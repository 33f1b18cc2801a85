"""
The rules of security groups.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.listing import paged
from fabric.api.ec2.actions.permissions import OLD_FORM, PERMISSION_MEMBERS, wanted_rules
from fabric.api.ec2.actions.refusals import check_ids, combination, missing, unsupported
from fabric.api.ec2.actions.tagging import tags_at_creation
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.filters import FilterTable, Narrowing, facet, matcher, of_record
from fabric.api.ec2.group_views import revoked_rule, security_group_rule, stale_permissions
from fabric.api.ec2.pagination import Bounds, window
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views
from fabric.cloud.rules import Named, Row, Rules, Wanted
from fabric.model.group import SecurityGroup
from fabric.model.rule import Permission, Rule, permission
from fabric.model.vpc import vpc_id
from fabric.store.interface import Page

BOUNDS = Bounds(5, 1000, ids="securityGroupRuleIds")

_FILTERS = FilterTable(
    {"group-id": facet("id"), "security-group-rule-id": of_record(lambda row: (row[1].id,))}, tagged=False
)

Handled = Generator[Deferred[Any], Any, Answer]


class RuleActions:
    """
    Adds, changes, lists and removes rules.
    """

    def __init__(self, rules: Rules, views: EC2Views) -> None:
        self._rules = rules
        self._views = views

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        both = (*OLD_FORM, *PERMISSION_MEMBERS)
        for name, egress in (("Ingress", False), ("Egress", True)):
            named = ("GroupId",) if egress else ("GroupId", "GroupName")
            add = ("TagSpecifications", *named, *both)
            registry.add(Action("AuthorizeSecurityGroup" + name, partial(self.authorize, egress), add))
            remove = ("SecurityGroupRuleIds", *named, *both)
            registry.add(Action("RevokeSecurityGroup" + name, partial(self.revoke, egress), remove))
            told = ("GroupId", "GroupName", "SecurityGroupRuleDescriptions", *PERMISSION_MEMBERS)
            describe = partial(self.update_descriptions, egress)
            registry.add(Action("UpdateSecurityGroupRuleDescriptions" + name, describe, told))
        registry.add(Action("ModifySecurityGroupRules", self.modify, ("GroupId", "SecurityGroupRules")))
        listed = ("Filters", "SecurityGroupRuleIds", "MaxResults", "NextToken")
        registry.add(Action("DescribeSecurityGroupRules", self.describe, listed))
        registry.add(Action("DescribeSecurityGroupReferences", self.references, ("GroupId",)))
        registry.add(Action("DescribeStaleSecurityGroups", self.stale, ("VpcId",)))

    @inlineCallbacks
    def authorize(self, egress: bool, call: Call) -> Handled:
        """
        Add rules to a group.
        """
        wanted = wanted_rules(call.parameters, egress)
        if not wanted:
            raise missing("ipPermissions")
        tags = tags_at_creation(call.parameters, "security-group-rule")
        group, new = yield self._rules.authorize(call.caller, _named(call), wanted, tags)
        return {"Return": True, "SecurityGroupRules": [security_group_rule(group, rule) for rule in new]}

    @inlineCallbacks
    def revoke(self, egress: bool, call: Call) -> Handled:
        """
        Remove rules of a group: those named by what they let pass, or by ids.
        """
        wanted = [each.permission for each in wanted_rules(call.parameters, egress)]
        ids = check_ids("rule", call.parameters.get("SecurityGroupRuleIds") or ())
        if ids and wanted:
            raise combination("The parameter securityGroupRuleIds cannot be used with the parameter ipPermissions")
        if not ids and not wanted:
            raise missing("ipPermissions")
        group, gone = yield self._rules.revoke(call.caller, _named(call), egress, wanted, ids)
        return {"Return": True, "RevokedSecurityGroupRules": [revoked_rule(group, rule) for rule in gone]}

    @inlineCallbacks
    def update_descriptions(self, egress: bool, call: Call) -> Handled:
        """
        Give rules other descriptions, or none.
        """
        wanted = wanted_rules(call.parameters, egress)
        texts: dict[str, str] = {}
        for each in call.parameters.get("SecurityGroupRuleDescriptions") or ():
            texts[each.get("SecurityGroupRuleId") or ""] = each.get("Description") or ""
        check_ids("rule", texts)
        if wanted and texts:
            why = "The parameter securityGroupRuleDescriptions cannot be used with the parameter ipPermissions"
            raise combination(why)
        if not wanted and not texts:
            raise missing("ipPermissions")
        yield self._rules.describe(call.caller, _named(call), egress, wanted, texts)
        return {"Return": True}

    @inlineCallbacks
    def modify(self, call: Call) -> Handled:
        """
        Put other rules in place of some; ids and tags stay.
        """
        changes: dict[str, Wanted] = {}
        for each in call.parameters["SecurityGroupRules"]:
            id = each["SecurityGroupRuleId"]
            check_ids("rule", [id])
            if id in changes:
                raise EC2Error("InvalidParameterValue", f"The security group rule ID '{id}' is given more than once")
            changes[id] = _changed(each.get("SecurityGroupRule") or {})
        if not changes:
            raise missing("SecurityGroupRule")
        yield self._rules.modify(call.caller, _named(call), changes)
        return {"Return": True}

    @inlineCallbacks
    def describe(self, call: Call) -> Handled:
        """
        Rules of all groups, or those named.
        """
        narrowing = self._narrow(call)
        ids = check_ids("rule", call.parameters.get("SecurityGroupRuleIds") or ())
        wanted = window(call.action, call.parameters, BOUNDS, bool(ids))
        if ids:
            rows = yield self._rules.get(call.caller, ids)
            passed = [row for row in rows if _passes(row, narrowing)]
            return {"SecurityGroupRules": [security_group_rule(*row) for row in passed]}

        def page(cursor: str) -> Deferred[Page]:
            passes: Callable[[Row], bool] = narrowing.passes
            found = self._rules.page(call.caller, narrowing.facets, passes, cursor, wanted.limit)
            return found.addCallback(self._rendered)

        return (yield paged(call.action, wanted, "securityGroupRuleSet", page))  # type: ignore[no-any-return]

    @inlineCallbacks
    def references(self, call: Call) -> Handled:
        """
        Which other projects' networks have rules about groups.
        """
        ids = check_ids("group", call.parameters["GroupId"])
        pairs = yield self._rules.referring(call.caller, ids)
        shown = [{"GroupId": id, "ReferencingVpcId": vpc_id(project)} for id, project in pairs]
        return {"SecurityGroupReferenceSet": shown}

    @inlineCallbacks
    def stale(self, call: Call) -> Handled:
        """
        Groups with rules about groups that are gone.
        """
        own_vpc(call, call.parameters["VpcId"])
        found = yield self._rules.stale(call.caller)
        return {"StaleSecurityGroupSet": [_stale(group, rules) for group, rules in found]}

    def _narrow(self, call: Call) -> Narrowing:
        plain: list[Mapping[str, Any]] = []
        narrowing = Narrowing()
        for each in call.parameters.get("Filters") or ():
            name, values = each.get("Name") or "", tuple(each.get("Values") or ())
            if name.startswith("tag:") and len(name) > 4 and values:
                narrowing.add(("rule-tag:" + name[4:], values))
                narrowing.add(_tagged(name[4:], values))
            else:
                plain.append(each)
        others = _FILTERS.narrow(call.caller, plain)
        return Narrowing(
            (*narrowing.facets, *others.facets), (*narrowing.tests, *others.tests), others.nothing or narrowing.nothing
        )

    def _rendered(self, page: Page) -> Page:
        return Page([self._views.render_rule(*row) for row in page.items], page.cursor)


def own_vpc(call: Call, id: str) -> None:
    """
    @raise EC2Error: it is not the caller's network.
    """
    if id != vpc_id(call.caller.project):
        raise EC2Error("InvalidVpcID.NotFound", f"The vpc ID '{id}' does not exist")


def _named(call: Call) -> Named:
    id, name = call.parameters.get("GroupId") or "", call.parameters.get("GroupName") or ""
    if not id and not name:
        raise missing("groupId")
    if id and name:
        raise combination("The parameter groupName cannot be used with the parameter groupId")
    if id:
        check_ids("group", [id])
    return Named(id, name)


def _changed(given: Mapping[str, Any]) -> Wanted:
    """A rule as C{ModifySecurityGroupRules} wants it, of either direction."""
    if given.get("PrefixListId"):
        raise unsupported("Prefix lists are not supported by this cloud: it has none")
    cidr, cidr6 = given.get("CidrIpv4") or "", given.get("CidrIpv6") or ""
    group = given.get("ReferencedGroupId") or ""
    if sum(map(bool, (cidr, cidr6, group))) != 1:
        raise EC2Error(
            "InvalidParameterCombination",
            "You must specify exactly one of CidrIpv4, CidrIpv6, PrefixListId or ReferencedGroupId",
        )
    if group:
        check_ids("group", [group])
    if not given.get("IpProtocol"):
        raise missing("ipProtocol")
    ports = given.get("FromPort"), given.get("ToPort")
    made: Permission = permission(False, given["IpProtocol"], *ports, cidr=cidr, cidr6=cidr6, group=group)
    return Wanted(made, given.get("Description") or "")


def _tagged(key: str, values: tuple[str, ...]) -> Callable[[Row], bool]:
    fits = matcher(values)
    return lambda row: key in row[1].tags and fits(row[1].tags[key])


def _passes(row: Row, narrowing: Narrowing) -> bool:
    """As of L{Narrowing.passes}, with the facets that it asks the store for."""
    wanted = {"id": lambda: [row[0].id]}
    for name, values in narrowing.facets:
        if name in wanted and not any(map(matcher(values), wanted[name]())):
            return False
    return narrowing.passes(row)


def _stale(group: SecurityGroup, rules: tuple[Rule, ...]) -> dict[str, Any]:
    return {
        "Description": group.description,
        "GroupId": group.id,
        "GroupName": group.name,
        "VpcId": vpc_id(group.project),
        "StaleIpPermissions": stale_permissions(rules, False),
        "StaleIpPermissionsEgress": stale_permissions(rules, True),
    }
