"""
Every id and name that any action takes: another project's, nobody's, and what
can't be one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from fabric.api.ec2.errors import EC2Error
from fabric.cloud.access import Caller
from tests.integration.ec2_refusals import (
    MALFORMED,
    MALFORMED_TO_TAG,
    TAGGING,
    malformed,
    not_found,
    not_ones_own,
    unknown,
)
from tests.integration.ec2_requests import REQUESTS
from tests.integration.ec2_world import WorldCase, filled, named
from tests.unit.ec2_stage import ANN, BOB, botocore_model

Steps = Generator[Any, Any, None]

HARMLESS = {("DeleteKeyPair", "key_name")}
"""What succeeds, and does nothing, where the name is nobody's: as on EC2."""

NAMES = {
    *("KeyName", "KeyNames", "GroupName", "GroupNames", "SecurityGroups", "SourceSecurityGroupName"),
    *("LaunchTemplateName", "LaunchTemplateNames", "PublicIp", "PublicIps", "Resources", "Groups"),
    *("GroupIds", "SecurityGroupRuleIds", "Kernel", "Ramdisk"),
}
"""Members that name somebody's things, besides those that end in C{Id} or C{Ids}."""

NOBODYS = {
    "AvailabilityZoneId": "a zone is its name, and everybody's",
    "ZoneIds": "zones are everybody's",
    "OwnerIds": "projects, of which none is asked whether it is there",
    "UserIds": "projects, which may be made later",
    "UserId": "projects, as above, or of a rule's group",
    "SourceSecurityGroupOwnerId": "goes with the group's name; tested with rules",
    "RestorableByUserIds": "projects, of which none is asked whether it is there",
    "IpamPoolId": "there are none",
    "PrefixListId": "there are none, and a rule about one is refused",
    "PublicIpv4Pool": "pools are everybody's",
    "CustomerGatewayIds": "there are none",
    "EgressOnlyInternetGatewayIds": "there are none",
    "NatGatewayIds": "there are none",
    "PrefixListIds": "there are none",
    "VpcEndpointIds": "there are none",
    "VpcPeeringConnectionIds": "there are none",
    "VpnConnectionIds": "there are none",
    "VpnGatewayIds": "there are none",
    "IncludeManagedResources": "is no id",
}
"""Members that look like ids of somebody's things and are not."""

ELSEWHERE = {
    ("AllocateAddress", "GroupName"),
    ("CreateKeyPair", "KeyName"),
    ("CreateLaunchTemplate", "LaunchTemplateName"),
    ("CreatePlacementGroup", "GroupName"),
    ("CreateSecurityGroup", "GroupName"),
    ("ImportKeyPair", "KeyName"),
    ("DescribePrincipalIdFormat", "Resources"),
    ("ModifySnapshotAttribute", "GroupNames"),
    ("DescribeInstanceCreditSpecifications", "InstanceIds"),
}
"""
Names that an action gives, and does not look for; C{Resources} that are types
of things; groups of people.  One's own instance has no credits to show: see
L{NamingTests.test_credits}.
"""

IN_TEMPLATES = ("CreateLaunchTemplate", "CreateLaunchTemplateVersion")
"""What the data of templates names is looked for when they are used, with the rules of RunInstances."""


def leaves(action: str, honours: frozenset[str]) -> Iterator[str]:
    """
    The last name of every honoured member with a value of its own.
    """

    def below(shape: Any) -> Iterator[str]:
        if shape.type_name == "list":
            yield from below(shape.member)
        elif shape.type_name == "structure":
            for name, member in shape.members.items():
                yield from below(member) if _has_members(member) else (name,)

    for path in honours:
        shape, name = botocore_model().operation_model(action).input_shape, ""
        for name in path.split("."):
            while shape.type_name == "list":
                shape = shape.member
            shape = shape.members[name]
        if _has_members(shape) and name not in NAMES:
            yield from below(shape)
        else:
            yield name


def _has_members(shape: Any) -> bool:
    while shape.type_name == "list":
        shape = shape.member
    return bool(shape.type_name == "structure")


def looked_for(action: str, honours: frozenset[str]) -> set[str]:
    """
    The members of an action that name somebody's things.
    """
    found = {name for name in leaves(action, honours) if name in NAMES or name.endswith(("Id", "Ids"))}
    return {name for name in found if name not in NOBODYS and (action, name) not in ELSEWHERE}


def members(value: Any, within: str = "") -> Iterator[str]:
    """
    The members of a request in which names of the world stand.
    """
    if isinstance(value, dict):
        for name, each in value.items():
            yield from members(each, within if name == "Value" else name)
    elif isinstance(value, list):
        for each in value:
            yield from members(each, within)
    elif named(value):
        yield within


class TableTests(WorldCase):
    """
    The requests leave nothing out.
    """

    def test_actions(self) -> None:
        """Every action has a request, and nothing else has."""
        self.assertEqual(sorted(REQUESTS), self.registry.names())
        self.assertEqual([name for name, requests in REQUESTS.items() if not requests], [])

    def test_members(self) -> None:
        """Every member that names somebody's things does so in a request."""
        left = {}
        for action in self.registry:
            if action.name in IN_TEMPLATES:
                continue
            asked = {name for request in REQUESTS[action.name] for name in members(request)}
            if looked_for(action.name, action.honours) - asked:
                left[action.name] = looked_for(action.name, action.honours) - asked
        self.assertEqual(left, {})


class NamingTests(WorldCase):
    """
    What one project learns, and can do, by naming what is not its own.
    """

    timeout = 300

    @inlineCallbacks
    def each_refused(self, value: Callable[[str], str], code: Callable[[str, str], str]) -> Steps:
        """See that each name of each request, with another value, gets a code and changes nothing."""
        before = yield self.seen()
        for action, requests in REQUESTS.items():
            for request in requests:
                for name in sorted(named(request)):
                    expected = code(action, name)
                    if expected:
                        yield self.one_refused(expected, action, filled(request, self.ann | {name: value(name)}))
        self.assertEqual((yield self.seen()), before)

    @inlineCallbacks
    def one_refused(self, code: str, action: str, asked: dict[str, Any]) -> Steps:
        """See that it is refused with a code, and as the client's fault."""
        if code == "nothing":
            yield self.ask(action, **asked)
            return
        error = yield self.assertFailure(self.ask(action, **asked), EC2Error)
        self.assertEqual((error.code, error.status), (code, 400), (action, asked, error.message))

    @inlineCallbacks
    def test_others(self) -> Steps:
        """What is another project's does not exist."""
        yield self.each_refused(
            lambda name: self.bob[name],
            lambda action, name: "nothing" if (action, name) in HARMLESS else not_ones_own(action, name),
        )

    @inlineCallbacks
    def test_nobodys(self) -> Steps:
        """What could be there and is not does not exist."""
        yield self.each_refused(
            unknown, lambda action, name: "nothing" if (action, name) in HARMLESS else not_found(action, name)
        )

    @inlineCallbacks
    def test_malformed(self) -> Steps:
        """What can't be an id is refused as that."""

        def code(action: str, name: str) -> str:
            if name not in MALFORMED:
                return ""
            return MALFORMED_TO_TAG if action in TAGGING else MALFORMED[name]

        yield self.each_refused(malformed, code)

    @inlineCallbacks
    def test_credits(self) -> Steps:
        """One's own instance has no credits to show, and another's is not there."""
        action = "DescribeInstanceCreditSpecifications"
        yield self.refused("UnsupportedOperation", action, InstanceIds=[self.ann["instance"]])
        for id in (self.bob["instance"], unknown("instance")):
            yield self.refused("InvalidInstanceID.NotFound", action, InstanceIds=[id])

    @inlineCallbacks
    def test_same_words(self) -> Steps:
        """Another project's thing is refused in the same words as one that never was."""
        for action, requests in REQUESTS.items():
            for request in requests:
                for name in sorted(named(request)):
                    if (action, name) in HARMLESS or not_ones_own(action, name) == "AuthFailure":
                        continue
                    said = []
                    for value in (self.bob[name], unknown(name)):
                        asked = filled(request, self.ann | {name: value})
                        error = yield self.assertFailure(self.ask(action, **asked), EC2Error)
                        said.append(error.message.replace(value, "it").replace(value.partition("-")[2] or value, "it"))
                    self.assertEqual(said[0], said[1], (action, request))


class ListingTests(WorldCase):
    """
    What descriptions show.
    """

    timeout = 300

    @inlineCallbacks
    def test_own(self) -> Steps:
        """No description shows anything of another project's: by id, by name or in what is about one's own."""
        before = yield self.seen()
        for caller, own, other in ((ANN, self.ann, self.bob), (BOB, self.bob, self.ann)):
            secrets = {value for name, value in other.items() if name not in ("other", "token")}
            for action, requests in REQUESTS.items():
                if not action.startswith(("Describe", "Get")):
                    continue
                for request in requests:
                    shown = set(_texts((yield self.ask(action, caller, **filled(request, own)))))
                    self.assertEqual(shown & secrets, set(), (action, request))
        self.assertEqual((yield self.seen()), before)

    @inlineCallbacks
    def test_all_own(self) -> Steps:
        """A description of all shows what one has."""
        for action, requests in REQUESTS.items():
            for request in requests[1:] if action.startswith("Describe") and requests[0] == {} else ():
                shown = set(_texts((yield self.ask(action))))
                self.assertTrue(shown >= {self.ann[name] for name in named(request)}, (action, request))

    @inlineCallbacks
    def test_filters(self) -> Steps:
        """No filter finds what is another's."""
        for action, name, ids in (
            ("DescribeInstances", "instance-id", "instance"),
            ("DescribeVolumes", "volume-id", "volume"),
            ("DescribeSnapshots", "snapshot-id", "snapshot"),
            ("DescribeImages", "image-id", "image"),
            ("DescribeSecurityGroups", "group-id", "group"),
            ("DescribeSecurityGroupRules", "security-group-rule-id", "rule"),
            ("DescribeKeyPairs", "key-pair-id", "key"),
            ("DescribeAddresses", "allocation-id", "allocation"),
            ("DescribeLaunchTemplates", "launch-template-name", "template_name"),
            ("DescribePlacementGroups", "group-name", "placement_name"),
            ("DescribeNetworkInterfaces", "network-interface-id", "interface"),
            ("DescribeVpcs", "vpc-id", "vpc"),
            ("DescribeSubnets", "subnet-id", "subnet"),
            ("DescribeTags", "resource-id", "instance"),
        ):
            for values, there in (([self.ann[ids]], True), ([self.bob[ids]], False), (["*"], False)):
                shown = set(_texts((yield self.ask(action, Filters=[{"Name": name, "Values": values}]))))
                self.assertEqual(self.ann[ids] in shown, there or values == ["*"], (action, values))
                self.assertNotIn(self.bob[ids], shown, (action, values))


class SharedTests(WorldCase):
    """
    What is shared may be looked at and made something of; the rest is its owner's.
    """

    timeout = 300

    LOOKS = {
        "image": {"DescribeImages", "RunInstances", "CopyImage"},
        "snapshot": {"DescribeSnapshots", "RunInstances", "CopySnapshot", "CreateVolume", "RegisterImage"},
    }

    @inlineCallbacks
    def each(self, name: str, refusals: set[str]) -> Steps:
        """See what succeeds with the other's thing, and that the rest is refused and changes nothing."""
        kept = yield self.kept()
        for action, requests in REQUESTS.items():
            for request in requests:
                if name not in named(request):
                    continue
                yield self.put_back(kept)
                before = yield self.seen()
                asked = filled(request, self.ann | {name: self.bob[name]})
                if action in self.LOOKS[name]:
                    yield self.ask(action, **asked)
                    continue
                error = yield self.assertFailure(self.ask(action, **asked), EC2Error)
                self.assertIn(error.code, refusals, (action, error.message))
                self.assertEqual((yield self.seen()), before, action)

    def share(self, name: str, public: bool, caller: Caller = BOB) -> Any:
        """Share the other's thing with the project, or with all."""
        add = {"Add": [{"Group": "all"} if public else {"UserId": ANN.project}]}
        if name == "image":
            return self.ask("ModifyImageAttribute", caller, ImageId=self.bob[name], LaunchPermission=add)
        return self.ask("ModifySnapshotAttribute", caller, SnapshotId=self.bob[name], CreateVolumePermission=add)

    @inlineCallbacks
    def test_images(self) -> Steps:
        """An image that is shared, with one or with all, is launched and copied, and not changed."""
        for public in (False, True):
            yield self.share("image", public)
            yield self.each("image", {"AuthFailure", "InvalidAMIID.NotFound"})

    @inlineCallbacks
    def test_snapshots(self) -> Steps:
        """A snapshot that is shared, with one or with all, is copied and made volumes of, and not changed."""
        for public in (False, True):
            yield self.share("snapshot", public)
            yield self.each("snapshot", {"AuthFailure", "InvalidSnapshot.NotFound"})

    @inlineCallbacks
    def test_not_ones_to_share(self) -> Steps:
        """Who was given something can't give it away."""
        for name in ("image", "snapshot"):
            yield self.share(name, False)
            error = yield self.assertFailure(self.share(name, True, ANN), EC2Error)
            self.assertEqual(error.status, 400)


def _texts(value: Any) -> Iterator[str]:
    """Every text in an answer."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    else:
        yield str(value)
