"""
Tests for L{fabric.api.ec2.actions.rules}, over a real store.
"""

from __future__ import annotations

from collections.abc import Generator
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.model.vpc import vpc_id
from tests.unit.ec2_stage import ANN, BOB, EC2Case

Steps = Generator[Deferred[Any], Any, Any]

HERE = {"CidrIp": "192.0.2.0/24"}
V6 = {"CidrIpv6": "2001:db8::/32"}


def tcp(port: int, **sides: Any) -> dict[str, Any]:
    """One permission about one port."""
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **(sides or {"IpRanges": [HERE]})}


def by(name: str, *values: str) -> dict[str, Any]:
    """One filter."""
    return {"Filters": [{"Name": name, "Values": list(values)}]}


class RuleCase(EC2Case):
    """
    A project with a group.
    """

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        self.web = yield self.group("web")

    @inlineCallbacks
    def group(self, name: str, caller: Any = ANN) -> Steps:
        """Make a group; its id."""
        return (yield self.ask("CreateSecurityGroup", caller, GroupName=name, Description=name))["GroupId"]

    @inlineCallbacks
    def shown(self, id: str = "", **parameters: Any) -> Steps:
        """A group as it is listed."""
        answer = yield self.ask("DescribeSecurityGroups", GroupIds=[id or self.web], **parameters)
        return answer["SecurityGroups"][0]

    @inlineCallbacks
    def allow(self, *permissions: Any, **parameters: Any) -> Steps:
        """Authorise ingress; the rules' ids."""
        answer = yield self.ask(
            "AuthorizeSecurityGroupIngress", GroupId=self.web, IpPermissions=list(permissions), **parameters
        )
        self.assertTrue(answer["Return"])
        return [rule["SecurityGroupRuleId"] for rule in answer["SecurityGroupRules"]]

    @inlineCallbacks
    def rules(self, caller: Any = ANN, **parameters: Any) -> Steps:
        """What DescribeSecurityGroupRules lists."""
        answer = yield self.ask("DescribeSecurityGroupRules", caller, **parameters)
        return answer["SecurityGroupRules"]


class AuthorizeTests(RuleCase):
    """
    AuthorizeSecurityGroupIngress and -Egress.
    """

    @inlineCallbacks
    def test_default_group(self) -> Steps:
        """A project's default group takes rules before anybody looked at it or launched in it."""
        yield self.ask("AuthorizeSecurityGroupIngress", BOB, GroupName="default", IpPermissions=[tcp(22)])
        [default] = (yield self.ask("DescribeSecurityGroups", BOB, GroupNames=["default"]))["SecurityGroups"]
        self.assertIn(22, [each.get("FromPort") for each in default["IpPermissions"]])

    @inlineCallbacks
    def test_new_groups(self) -> Steps:
        """A group's members may send anything; a default group's also take anything from each other."""
        shown = yield self.shown()
        self.assertEqual(shown["IpPermissions"], [])
        [sends] = shown["IpPermissionsEgress"]
        self.assertEqual((sends["IpProtocol"], sends["IpRanges"]), ("-1", [{"CidrIp": "0.0.0.0/0"}]))
        [default] = (yield self.ask("DescribeSecurityGroups", GroupNames=["default"]))["SecurityGroups"]
        [takes] = default["IpPermissions"]
        pair = {"UserId": "alpha", "GroupId": default["GroupId"], "GroupName": "default"}
        self.assertEqual(takes["UserIdGroupPairs"], [pair])

    @inlineCallbacks
    def test_answer_and_listings(self) -> Steps:
        """The answer has each new rule; the group's listing has those of the same traffic as one."""
        other = yield self.group("db")
        pairs = [{"GroupId": other, "Description": "the db"}]
        answer = yield self.ask(
            "AuthorizeSecurityGroupIngress",
            GroupId=self.web,
            IpPermissions=[
                tcp(22, IpRanges=[{"CidrIp": "192.0.2.77/24", "Description": "us"}], Ipv6Ranges=[V6]),
                tcp(22, UserIdGroupPairs=pairs),
            ],
        )
        four, six, peer = answer["SecurityGroupRules"]
        self.assertEqual(
            {key: four[key] for key in four if key not in ("SecurityGroupRuleId", "Tags")},
            {
                "GroupId": self.web,
                "GroupOwnerId": "alpha",
                "IsEgress": False,
                "IpProtocol": "tcp",
                "FromPort": 22,
                "ToPort": 22,
                "CidrIpv4": "192.0.2.0/24",
                "Description": "us",
            },
        )
        self.assertEqual(six["CidrIpv6"], "2001:db8::/32")
        self.assertEqual(peer["ReferencedGroupInfo"], {"GroupId": other, "UserId": "alpha", "VpcId": vpc_id("alpha")})
        self.assertEqual(
            (yield self.shown())["IpPermissions"],
            [
                {
                    "IpProtocol": "tcp",
                    "FromPort": 22,
                    "ToPort": 22,
                    "IpRanges": [{"CidrIp": "192.0.2.0/24", "Description": "us"}],
                    "Ipv6Ranges": [V6],
                    "UserIdGroupPairs": [
                        {"UserId": "alpha", "GroupId": other, "GroupName": "db", "Description": "the db"}
                    ],
                    "PrefixListIds": [],
                }
            ],
        )

    @inlineCallbacks
    def test_old_form(self) -> Steps:
        """The form that euca2ools of old and boto's simple calls send."""
        old = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 81, "CidrIp": "0.0.0.0/0"}
        yield self.ask("AuthorizeSecurityGroupIngress", GroupName="web", **old)
        [rule] = yield self._ingress()
        self.assertEqual((rule["FromPort"], rule["ToPort"], rule["CidrIpv4"]), (80, 81, "0.0.0.0/0"))
        yield self.ask("RevokeSecurityGroupIngress", GroupName="web", **old)
        source = {"SourceSecurityGroupName": "web", "SourceSecurityGroupOwnerId": "alpha"}
        yield self.ask("AuthorizeSecurityGroupIngress", GroupName="web", **source)
        [rule] = yield self._ingress()
        self.assertEqual((rule["IpProtocol"], rule["ReferencedGroupInfo"]["GroupId"]), ("-1", self.web))
        yield self.ask("RevokeSecurityGroupIngress", GroupName="web", **source)
        self.assertEqual((yield self._ingress()), [])
        refused = {"IpPermissions": [tcp(1)], "GroupName": "web", **old}
        yield self.refused("InvalidParameterCombination", "AuthorizeSecurityGroupIngress", **refused)
        yield self.refused("MissingParameter", "AuthorizeSecurityGroupIngress", GroupName="web", IpProtocol="tcp")

    @inlineCallbacks
    def _ingress(self) -> Steps:
        found = yield self.rules(**by("group-id", self.web))
        return [rule for rule in found if not rule["IsEgress"]]

    @inlineCallbacks
    def test_duplicates(self) -> Steps:
        """A rule is there once, however it is written; all of a request, or nothing."""
        yield self.allow(tcp(22))
        again = tcp(22, IpRanges=[{"CidrIp": "192.0.2.1/24"}]) | {"IpProtocol": "6"}
        message = yield self.refused(
            "InvalidPermission.Duplicate",
            "AuthorizeSecurityGroupIngress",
            GroupId=self.web,
            IpPermissions=[tcp(23), again],
        )
        self.assertEqual(
            message,
            'the specified rule "peer: 192.0.2.0/24, TCP, from port: 22, to port: 22, ALLOW" already exists',
        )
        message = yield self.refused(
            "InvalidParameterValue", "AuthorizeSecurityGroupIngress", GroupId=self.web, IpPermissions=[tcp(25), tcp(25)]
        )
        self.assertEqual(message, "The same permission must not appear multiple times")
        self.assertEqual(len((yield self.shown())["IpPermissions"]), 1)
        # The other direction is another rule.
        yield self.ask("AuthorizeSecurityGroupEgress", GroupId=self.web, IpPermissions=[tcp(22)])

    @inlineCallbacks
    def test_refusals(self) -> Steps:
        """What can't be meant is refused in AWS's words."""
        everyone = {"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        for code, permission in (
            ("InvalidParameterValue", tcp(70000)),
            ("InvalidParameterValue", {"IpProtocol": "tcp", **everyone}),
            ("InvalidParameterValue", {"IpProtocol": "gopher", **everyone}),
            ("InvalidParameterValue", tcp(1, IpRanges=[{"CidrIp": "10.0.0.0"}])),
            ("InvalidParameterValue", tcp(1, IpRanges=[{**HERE, "Description": "<b>"}])),
            ("InvalidPermission.Malformed", tcp(1, IpRanges=[])),
            ("UnsupportedOperation", tcp(1, PrefixListIds=[{"PrefixListId": "pl-12345678"}])),
            ("InvalidGroup.NotFound", tcp(1, UserIdGroupPairs=[{"GroupId": "sg-12345678"}])),
            ("InvalidGroup.NotFound", tcp(1, UserIdGroupPairs=[{"GroupName": "nope"}])),
            ("InvalidGroupId.Malformed", tcp(1, UserIdGroupPairs=[{"GroupId": "web"}])),
            ("MissingParameter", {"FromPort": 1, "ToPort": 1, **everyone}),
        ):
            yield self.refused(code, "AuthorizeSecurityGroupIngress", GroupId=self.web, IpPermissions=[permission])
        yield self.refused("MissingParameter", "AuthorizeSecurityGroupIngress", GroupId=self.web)
        yield self.refused("MissingParameter", "AuthorizeSecurityGroupIngress", IpPermissions=[tcp(1)])
        self.assertEqual((yield self.shown())["IpPermissions"], [])

    @inlineCallbacks
    def test_limit(self) -> Steps:
        """Sixty rules a direction."""
        yield self.allow(*[tcp(port) for port in range(60)])
        message = yield self.refused(
            "RulesPerSecurityGroupLimitExceeded",
            "AuthorizeSecurityGroupIngress",
            GroupId=self.web,
            IpPermissions=[tcp(60)],
        )
        self.assertEqual(message, "The maximum number of rules per security group has been reached.")
        yield self.ask("AuthorizeSecurityGroupEgress", GroupId=self.web, IpPermissions=[tcp(60)])

    @inlineCallbacks
    def test_tenancy(self) -> Steps:
        """Another project's group isn't there; a rule about one needs its owner's name."""
        theirs = yield self.group("theirs", BOB)
        for action in ("AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"):
            yield self.refused("InvalidGroup.NotFound", action, BOB, GroupId=self.web, IpPermissions=[tcp(1)])
        pair = {"GroupId": theirs}
        refused = {"GroupId": self.web, "IpPermissions": [tcp(1, UserIdGroupPairs=[pair])]}
        yield self.refused("InvalidGroup.NotFound", "AuthorizeSecurityGroupIngress", **refused)
        yield self.allow(tcp(1, UserIdGroupPairs=[{**pair, "UserId": "beta"}]))
        answer = yield self.ask("DescribeSecurityGroupReferences", BOB, GroupId=[theirs])
        self.assertEqual(
            answer["SecurityGroupReferenceSet"], [{"GroupId": theirs, "ReferencingVpcId": vpc_id("alpha")}]
        )
        yield self.refused("InvalidGroup.NotFound", "DescribeSecurityGroupReferences", GroupId=[theirs])
        yield self.ask("DeleteSecurityGroup", BOB, GroupId=theirs)
        [stale] = (yield self.ask("DescribeStaleSecurityGroups", VpcId=vpc_id("alpha")))["StaleSecurityGroupSet"]
        [permission] = stale["StaleIpPermissions"]
        self.assertEqual((stale["GroupId"], permission["UserIdGroupPairs"][0]["GroupId"]), (self.web, theirs))
        yield self.refused("InvalidVpcID.NotFound", "DescribeStaleSecurityGroups", VpcId=vpc_id("beta"))
        yield self.ask("RevokeSecurityGroupIngress", GroupId=self.web, IpPermissions=[tcp(1, UserIdGroupPairs=[pair])])
        answer = yield self.ask("DescribeStaleSecurityGroups", VpcId=vpc_id("alpha"))
        self.assertEqual(answer["StaleSecurityGroupSet"], [])

    @inlineCallbacks
    def test_dependency(self) -> Steps:
        """A group that another one's rule is about stays; one that is only about itself goes."""
        db = yield self.group("db")
        yield self.allow(tcp(1, UserIdGroupPairs=[{"GroupId": db}]), tcp(2, UserIdGroupPairs=[{"GroupId": self.web}]))
        message = yield self.refused("DependencyViolation", "DeleteSecurityGroup", GroupId=db)
        self.assertEqual(message, f"resource {db} has a dependent object")
        yield self.ask("DeleteSecurityGroup", GroupId=self.web)
        yield self.ask("DeleteSecurityGroup", GroupId=db)


class RevokeTests(RuleCase):
    """
    RevokeSecurityGroupIngress and -Egress.
    """

    @inlineCallbacks
    def test_by_permission(self) -> Steps:
        """What it had is gone, and shown; what it had not is an error and changes nothing."""
        [id, _] = yield self.allow(tcp(22), tcp(23))
        message = yield self.refused(
            "InvalidPermission.NotFound",
            "RevokeSecurityGroupIngress",
            GroupId=self.web,
            IpPermissions=[tcp(22), tcp(24)],
        )
        self.assertEqual(message, "The specified rule does not exist in this security group.")
        answer = yield self.ask("RevokeSecurityGroupIngress", GroupId=self.web, IpPermissions=[tcp(22)])
        [gone] = answer["RevokedSecurityGroupRules"]
        self.assertEqual((gone["SecurityGroupRuleId"], gone["CidrIpv4"]), (id, "192.0.2.0/24"))
        [left] = (yield self.shown())["IpPermissions"]
        self.assertEqual(left["FromPort"], 23)

    @inlineCallbacks
    def test_by_id(self) -> Steps:
        """By rule ids, of the right direction only."""
        [id] = yield self.allow(tcp(22))
        both = {"GroupId": self.web, "SecurityGroupRuleIds": [id]}
        yield self.refused("InvalidSecurityGroupRuleId.NotFound", "RevokeSecurityGroupEgress", **both)
        yield self.refused("InvalidGroup.NotFound", "RevokeSecurityGroupIngress", BOB, **both)
        refused = {**both, "IpPermissions": [tcp(22)]}
        yield self.refused("InvalidParameterCombination", "RevokeSecurityGroupIngress", **refused)
        malformed = {**both, "SecurityGroupRuleIds": ["rule"]}
        yield self.refused("InvalidSecurityGroupRuleId.Malformed", "RevokeSecurityGroupIngress", **malformed)
        yield self.ask("RevokeSecurityGroupIngress", **both)
        message = yield self.refused("InvalidSecurityGroupRuleId.NotFound", "RevokeSecurityGroupIngress", **both)
        self.assertEqual(message, f"The security group rule ID '{id}' does not exist")

    @inlineCallbacks
    def test_all_egress(self) -> Steps:
        """The rule that a group begins with can be taken away, as everybody's first step is."""
        everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        yield self.ask("RevokeSecurityGroupEgress", GroupId=self.web, IpPermissions=everything)
        self.assertEqual((yield self.shown())["IpPermissionsEgress"], [])

    sides = st.sampled_from(
        [{"IpRanges": [HERE]}, {"IpRanges": [{"CidrIp": "10.1.2.3/8"}]}, {"Ipv6Ranges": [V6]}, {"own": True}]
    )
    traffic = st.one_of(
        st.builds(
            lambda name, a, b: {"IpProtocol": name, "FromPort": min(a, b), "ToPort": max(a, b)},
            st.sampled_from(["tcp", "17"]),
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        st.sampled_from(
            [{"IpProtocol": "-1"}, {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1}, {"IpProtocol": "47"}]
        ),
    )

    def test_what_was_given_can_be_taken(self) -> Any:
        """What a group shows, whatever it was given in any order, is what revokes it all."""
        cases: list[Any] = []

        @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.tuples(self.traffic, self.sides), min_size=1, max_size=6), st.randoms(use_true_random=False))
        def collect(pairs: Any, random: Any) -> None:
            cases.append((pairs, random.random()))

        collect()
        return self._take_all(cases)

    @inlineCallbacks
    def _take_all(self, cases: list[Any]) -> Steps:
        for pairs, shuffle in cases:
            there: set[str] = set()
            for traffic, side in pairs:
                shown = {"UserIdGroupPairs": [{"GroupName": "web"}]} if "own" in side else side
                asked = self.ask("AuthorizeSecurityGroupIngress", GroupId=self.web, IpPermissions=[traffic | shown])
                name = repr((sorted(traffic.items()), sorted(side)[0], side))
                if name in there:
                    yield self.assertFailure(asked, Exception)
                else:
                    yield asked
                there.add(name)
            listed = (yield self.shown())["IpPermissions"]
            self.assertEqual(sum(_sides(each) for each in listed), len(there))
            Random(shuffle).shuffle(listed)
            yield self.ask("RevokeSecurityGroupIngress", GroupId=self.web, IpPermissions=listed)
            self.assertEqual((yield self.shown())["IpPermissions"], [])


def _sides(permission: Any) -> int:
    return sum(len(permission[name]) for name in ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs"))


class RulesTests(RuleCase):
    """
    Rules by themselves: listed, changed, described, tagged.
    """

    @inlineCallbacks
    def test_listing(self) -> Steps:
        """By id, group and tag; in pages; only one's own."""
        ids = yield self.allow(
            *[tcp(port) for port in range(6)],
            TagSpecifications=[{"ResourceType": "security-group-rule", "Tags": [{"Key": "a", "Value": "b"}]}],
        )
        [one] = yield self.rules(SecurityGroupRuleIds=[ids[3]])
        self.assertEqual((one["FromPort"], one["Tags"]), (3, [{"Key": "a", "Value": "b"}]))
        self.assertEqual(len((yield self.rules(**by("tag:a", "b")))), 6)
        self.assertEqual((yield self.rules(**by("tag:a", "c"))), [])
        self.assertEqual(len((yield self.rules(**by("group-id", self.web)))), 7)
        self.assertEqual(len((yield self.rules(**by("security-group-rule-id", ids[0], ids[1])))), 2)
        self.assertEqual((yield self.rules(BOB)), [])
        yield self.refused(
            "InvalidSecurityGroupRuleId.NotFound", "DescribeSecurityGroupRules", BOB, SecurityGroupRuleIds=ids[:1]
        )
        yield self.refused("InvalidParameterValue", "DescribeSecurityGroupRules", **by("colour", "red"))
        seen: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = yield self.ask("DescribeSecurityGroupRules", MaxResults=5, **token)
            self.assertLessEqual(len(page["SecurityGroupRules"]), 5)
            seen += [rule["SecurityGroupRuleId"] for rule in page["SecurityGroupRules"]]
            if not page.get("NextToken"):
                break
            token = {"NextToken": page["NextToken"]}
        self.assertEqual((len(seen), len(set(seen))), (7, 7))

    @inlineCallbacks
    def test_modify(self) -> Steps:
        """A rule becomes another, with the id and tags that it had."""
        [one, two] = yield self.allow(tcp(1), tcp(2))
        yield self.ask("CreateTags", Resources=[one], Tags=[{"Key": "k", "Value": "v"}])
        wanted = {"IpProtocol": "udp", "FromPort": 9, "ToPort": 9, "CidrIpv6": "::/0", "Description": "new"}
        change = {"SecurityGroupRuleId": one, "SecurityGroupRule": wanted}
        yield self.ask("ModifySecurityGroupRules", GroupId=self.web, SecurityGroupRules=[change])
        [rule] = yield self.rules(SecurityGroupRuleIds=[one])
        self.assertEqual((rule["IpProtocol"], rule["CidrIpv6"], rule["Description"]), ("udp", "::/0", "new"))
        self.assertEqual((rule["IsEgress"], rule["Tags"]), (False, [{"Key": "k", "Value": "v"}]))
        same = {"SecurityGroupRuleId": two, "SecurityGroupRule": wanted}
        for code, changes in (
            ("InvalidPermission.Duplicate", [same]),
            ("InvalidParameterCombination", [{**same, "SecurityGroupRule": {**wanted, "CidrIpv4": "0.0.0.0/0"}}]),
            ("InvalidSecurityGroupRuleId.NotFound", [{**same, "SecurityGroupRuleId": "sgr-12345678"}]),
            ("InvalidParameterValue", [same, same]),
        ):
            yield self.refused(code, "ModifySecurityGroupRules", GroupId=self.web, SecurityGroupRules=changes)
        yield self.refused(
            "InvalidGroup.NotFound", "ModifySecurityGroupRules", BOB, GroupId=self.web, SecurityGroupRules=[change]
        )

    @inlineCallbacks
    def test_descriptions(self) -> Steps:
        """Descriptions by permission and by id; an absent one takes the old one away."""
        [id] = yield self.allow(tcp(22))
        update = "UpdateSecurityGroupRuleDescriptionsIngress"
        described = tcp(22, IpRanges=[{**HERE, "Description": "office"}])
        yield self.ask(update, GroupId=self.web, IpPermissions=[described])
        [rule] = yield self.rules(SecurityGroupRuleIds=[id])
        self.assertEqual(rule["Description"], "office")
        told = [{"SecurityGroupRuleId": id, "Description": "home"}]
        yield self.ask(update, GroupName="web", SecurityGroupRuleDescriptions=told)
        self.assertEqual((yield self.rules(SecurityGroupRuleIds=[id]))[0]["Description"], "home")
        yield self.ask(update, GroupId=self.web, IpPermissions=[tcp(22)])
        self.assertNotIn("Description", (yield self.rules(SecurityGroupRuleIds=[id]))[0])
        yield self.refused("InvalidPermission.NotFound", update, GroupId=self.web, IpPermissions=[tcp(23)])
        egress = "UpdateSecurityGroupRuleDescriptionsEgress"
        refused = {"GroupId": self.web, "SecurityGroupRuleDescriptions": told}
        yield self.refused("InvalidSecurityGroupRuleId.NotFound", egress, **refused)
        everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "all"}]}]
        yield self.ask(egress, GroupId=self.web, IpPermissions=everything)
        [sends] = (yield self.shown())["IpPermissionsEgress"]
        self.assertEqual(sends["IpRanges"], [{"CidrIp": "0.0.0.0/0", "Description": "all"}])

    @inlineCallbacks
    def test_tags(self) -> Steps:
        """A rule's tags are its own: set, listed, removed, and a stranger's not to touch."""
        [one, two] = yield self.allow(tcp(1), tcp(2))
        yield self.ask("CreateTags", Resources=[one, two, self.web], Tags=[{"Key": "k", "Value": "v"}])
        found = (yield self.ask("DescribeTags", **by("resource-type", "security-group-rule")))["Tags"]
        self.assertEqual(
            [(tag["ResourceId"], tag["ResourceType"], tag["Key"], tag["Value"]) for tag in found],
            [(id, "security-group-rule", "k", "v") for id in (one, two)],
        )
        found = (yield self.ask("DescribeTags", **by("resource-id", two)))["Tags"]
        self.assertEqual([tag["ResourceId"] for tag in found], [two])
        self.assertEqual((yield self.shown())["Tags"], [{"Key": "k", "Value": "v"}])
        yield self.ask("DeleteTags", Resources=[one], Tags=[{"Key": "k"}])
        found = (yield self.ask("DescribeTags", **by("key", "k")))["Tags"]
        self.assertEqual({tag["ResourceId"] for tag in found}, {two, self.web})
        tag = [{"Key": "k", "Value": "w"}]
        yield self.refused("InvalidSecurityGroupRuleId.NotFound", "CreateTags", BOB, Resources=[two], Tags=tag)

    @inlineCallbacks
    def test_group_filters(self) -> Steps:
        """Groups are found by what their rules say, each direction by itself."""
        db = yield self.group("db")
        yield self.allow(tcp(22, Ipv6Ranges=[V6], IpRanges=[HERE], UserIdGroupPairs=[{"GroupId": db}]))
        for name, value in (
            ("ip-permission.cidr", "192.0.2.0/24"),
            ("ip-permission.ipv6-cidr", "2001:db8::/32"),
            ("ip-permission.from-port", "22"),
            ("ip-permission.to-port", "22"),
            ("ip-permission.protocol", "tcp"),
            ("ip-permission.group-id", db),
            ("ip-permission.group-name", "d?"),
            ("ip-permission.user-id", "alpha"),
        ):
            found = (yield self.ask("DescribeSecurityGroups", **by(name, value)))["SecurityGroups"]
            self.assertIn(self.web, [group["GroupId"] for group in found], name)
            other = (yield self.ask("DescribeSecurityGroups", **by("egress." + name, value)))["SecurityGroups"]
            self.assertEqual(other, [], name)
        everybody = by("egress.ip-permission.cidr", "0.0.0.0/0")
        found = (yield self.ask("DescribeSecurityGroups", **everybody))["SecurityGroups"]
        self.assertEqual({group["GroupName"] for group in found}, {"default", "web", "db"})

    @inlineCallbacks
    def test_for_vpc(self) -> Steps:
        """The groups of the project's network are its groups."""
        answer = yield self.ask("GetSecurityGroupsForVpc", VpcId=vpc_id("alpha"))
        found = {group["GroupName"]: group for group in answer["SecurityGroupForVpcs"]}
        self.assertEqual(set(found), {"default", "web"})
        self.assertEqual(found["web"]["PrimaryVpcId"], vpc_id("alpha"))
        answer = yield self.ask("GetSecurityGroupsForVpc", VpcId=vpc_id("alpha"), **by("group-name", "w*"))
        self.assertEqual([group["GroupId"] for group in answer["SecurityGroupForVpcs"]], [self.web])
        yield self.refused("InvalidVpcID.NotFound", "GetSecurityGroupsForVpc", VpcId=vpc_id("beta"))

    @inlineCallbacks
    def test_told(self) -> Steps:
        """Each change is told to the host of a member, also within one tick of the clock; descriptions are not."""
        yield self.boot(SecurityGroupIds=[self.web])
        del self.queue.cast[:]
        for step, expected in (
            (lambda: self.allow(tcp(1), tcp(2)), 2),
            (lambda: self.allow(tcp(3)), 3),
            (lambda: self.ask("RevokeSecurityGroupIngress", GroupId=self.web, IpPermissions=[tcp(1)]), 2),
        ):
            yield step()
            while not self.queue.cast:
                yield self.store.counters(["x"])
            [(where, method, (groups, whole))] = self.queue.cast
            self.assertEqual((where, method, whole), ("network.node1", "apply_groups", 0))
            [group] = groups
            self.assertEqual(len([rule for rule in group["rules"] if not rule["egress"]]), expected)
            del self.queue.cast[:]
        described = [tcp(2, IpRanges=[{**HERE, "Description": "x"}])]
        yield self.ask("UpdateSecurityGroupRuleDescriptionsIngress", GroupId=self.web, IpPermissions=described)
        for _ in range(5):
            yield self.store.counters(["x"])
        self.assertEqual(self.queue.cast, [])

    @inlineCallbacks
    def test_sound(self) -> Steps:
        """What rules file can be proved."""
        db = yield self.group("db")
        yield self.allow(tcp(1, UserIdGroupPairs=[{"GroupId": db}]), tcp(2))
        yield self.ask("RevokeSecurityGroupIngress", GroupId=self.web, IpPermissions=[tcp(2)])
        self.assertEqual((yield self.store.check(False)), [])
