"""
Placement groups, metadata options, screens, passwords, monitoring, types and
formats, as EC2's clients see them.
"""

from __future__ import annotations

import base64
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.python.failure import Failure

from fabric.api.admin.machines import MachineActions
from fabric.errors import AlreadyExists, InvalidValue, NotFound, WrongState
from fabric.model.flavor import BUILT_IN
from fabric.model.instance import Instance
from fabric.testing.cloud import OPERATOR
from tests.unit.ec2_stage import ANN, BOB, SERVER, EC2Case

Steps = Generator[Deferred[Any], Any, Any]


class PlacementGroupTests(EC2Case):
    """CreatePlacementGroup and its like."""

    @inlineCallbacks
    def test_create_and_describe(self) -> Steps:
        """Groups are shown as they were made, and found by name, id, strategy and tag."""
        tags = [{"ResourceType": "placement-group", "Tags": [{"Key": "k", "Value": "v"}]}]
        made = {}
        for name, more in (
            ("close", {}),
            ("apart", {"Strategy": "spread", "SpreadLevel": "host"}),
            ("parts", {"Strategy": "partition", "PartitionCount": 4, "TagSpecifications": tags}),
        ):
            made[name] = (yield self.ask("CreatePlacementGroup", GroupName=name, **more))["PlacementGroup"]
        self.assertEqual(made["close"]["Strategy"], "cluster")
        self.assertEqual(made["apart"]["SpreadLevel"], "host")
        self.assertEqual((made["parts"]["PartitionCount"], made["parts"]["State"]), (4, "available"))
        self.assertRegex(made["parts"]["GroupId"], r"^pg-[0-9a-f]{17}$")
        for asked, names in (
            ({}, ["close", "apart", "parts"]),
            ({"GroupNames": ["apart"]}, ["apart"]),
            ({"GroupIds": [made["parts"]["GroupId"]]}, ["parts"]),
            ({"Filters": [{"Name": "strategy", "Values": ["spread", "cluster"]}]}, ["close", "apart"]),
            ({"Filters": [{"Name": "tag:k", "Values": ["v"]}]}, ["parts"]),
        ):
            answer = yield self.ask("DescribePlacementGroups", **asked)
            self.assertEqual([each["GroupName"] for each in answer["PlacementGroups"]], names)
        self.assertEqual((yield self.ask("DescribePlacementGroups", BOB))["PlacementGroups"], [])

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """Wrong groups are refused in EC2's words."""
        yield self.ask("CreatePlacementGroup", GroupName="close")
        for code, name, asked in (
            ("InvalidPlacementGroup.Duplicate", "CreatePlacementGroup", {"GroupName": "close"}),
            ("InvalidParameterValue", "CreatePlacementGroup", {"GroupName": "x", "Strategy": "near"}),
            (
                "InvalidParameterValue",
                "CreatePlacementGroup",
                {"GroupName": "x", "Strategy": "partition", "PartitionCount": 8},
            ),
            ("InvalidParameterCombination", "CreatePlacementGroup", {"GroupName": "x", "PartitionCount": 2}),
            (
                "UnsupportedOperation",
                "CreatePlacementGroup",
                {"GroupName": "x", "Strategy": "spread", "SpreadLevel": "rack"},
            ),
            ("InvalidPlacementGroup.Unknown", "DeletePlacementGroup", {"GroupName": "nope"}),
            ("InvalidPlacementGroup.Unknown", "DescribePlacementGroups", {"GroupNames": ["nope"]}),
        ):
            yield self.refused(code, name, **asked)
        yield self.refused("InvalidPlacementGroup.Unknown", "DeletePlacementGroup", BOB, GroupName="close")

    @inlineCallbacks
    def test_launch(self) -> Steps:
        """An instance shows its group, is found by it, and holds it."""
        made = yield self.ask("CreatePlacementGroup", GroupName="parts", Strategy="partition")
        group = made["PlacementGroup"]["GroupId"]
        [id] = yield self.run_instances(Placement={"GroupName": "parts", "PartitionNumber": 2})
        [instance] = yield self.listed()
        placement = instance["Placement"]
        self.assertEqual(
            (placement["GroupName"], placement["GroupId"], placement["PartitionNumber"]), ("parts", group, 2)
        )
        yield self.run_instances()
        for name, value in (("placement-group-name", "parts"), ("placement-partition-number", "2")):
            self.assertEqual((yield self.matching(name, value)), [id])
        yield self.refused("InvalidPlacementGroup.InUse", "DeletePlacementGroup", GroupName="parts")
        yield self.ask("TerminateInstances", InstanceIds=[id])
        yield self.ask("DeletePlacementGroup", GroupName="parts")

    @inlineCallbacks
    def test_launch_refused(self) -> Steps:
        """A group that is not there, or a partition that it has not, launches nothing."""
        yield self.ask("CreatePlacementGroup", GroupName="close")
        wanted = {"ImageId": SERVER, "MinCount": 1, "MaxCount": 1}
        for code, placement in (
            ("InvalidPlacementGroup.Unknown", {"GroupName": "nope"}),
            ("InvalidPlacementGroup.Unknown", {"GroupId": "pg-0123456789abcdef0"}),
            ("InvalidParameterValue", {"GroupName": "close", "PartitionNumber": 1}),
            ("InvalidParameterCombination", {"PartitionNumber": 1}),
        ):
            yield self.refused(code, "RunInstances", **wanted, Placement=placement)
        yield self.refused(
            "InvalidPlacementGroup.Unknown", "RunInstances", BOB, **wanted, Placement={"GroupName": "close"}
        )
        self.assertEqual((yield self.listed()), [])

    @inlineCallbacks
    def test_modify(self) -> Steps:
        """A stopped instance is moved; one that runs is not."""
        yield self.ask("CreatePlacementGroup", GroupName="apart", Strategy="spread")
        [id] = yield self.boot()
        yield self.refused("IncorrectInstanceState", "ModifyInstancePlacement", InstanceId=id, GroupName="apart")
        yield self.ask("StopInstances", InstanceIds=[id])
        yield self.move([id], "halt")
        yield self.ask("ModifyInstancePlacement", InstanceId=id, GroupName="apart")
        self.assertEqual((yield self.matching("placement-group-name", "apart")), [id])
        yield self.ask("ModifyInstancePlacement", InstanceId=id, GroupName="")
        self.assertEqual((yield self.matching("placement-group-name", "apart")), [])
        yield self.refused("InvalidInstanceID.NotFound", "ModifyInstancePlacement", BOB, InstanceId=id, GroupName="")


class MetadataOptionsTests(EC2Case):
    """How instances may ask the metadata door."""

    @inlineCallbacks
    def options(self, id: str) -> Steps:
        """As DescribeInstances shows them: tokens, hops, endpoint, tags."""
        [instance] = yield self.listed(InstanceIds=[id])
        shown = instance["MetadataOptions"]
        names = ("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "InstanceMetadataTags")
        return tuple(shown[name] for name in names)

    @inlineCallbacks
    def test_launch_and_modify(self) -> Steps:
        """Options are taken at launch and changed later."""
        [id] = yield self.run_instances(
            MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "InstanceMetadataTags": "enabled"}
        )
        self.assertEqual((yield self.options(id)), ("required", 2, "enabled", "enabled"))
        answer = yield self.ask("ModifyInstanceMetadataOptions", InstanceId=id, HttpEndpoint="disabled")
        self.assertEqual(answer["InstanceMetadataOptions"]["HttpEndpoint"], "disabled")
        self.assertEqual((yield self.options(id)), ("required", 2, "disabled", "enabled"))
        for name, value in (
            ("metadata-options.http-tokens", "required"),
            ("metadata-options.http-put-response-hop-limit", "2"),
            ("metadata-options.http-endpoint", "disabled"),
        ):
            self.assertEqual((yield self.matching(name, value)), [id], name)

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """Values that can't be, and others' instances, are refused."""
        [id] = yield self.run_instances()
        for code, asked in (
            ("InvalidParameterValue", {"HttpTokens": "maybe"}),
            ("InvalidParameterValue", {"HttpPutResponseHopLimit": 65}),
            ("UnsupportedOperation", {"HttpProtocolIpv6": "enabled"}),
            ("MissingParameter", {}),
        ):
            yield self.refused(code, "ModifyInstanceMetadataOptions", InstanceId=id, **asked)
        yield self.refused(
            "InvalidInstanceID.NotFound", "ModifyInstanceMetadataOptions", BOB, InstanceId=id, HttpTokens="required"
        )

    @inlineCallbacks
    def test_defaults(self) -> Steps:
        """A project's defaults are for its launches that do not say, until they are taken back."""
        answer = yield self.ask("GetInstanceMetadataDefaults")
        self.assertEqual(answer["AccountLevel"], {"ManagedBy": "account"})
        yield self.ask("ModifyInstanceMetadataDefaults", HttpTokens="required", HttpPutResponseHopLimit=3)
        [id] = yield self.run_instances()
        self.assertEqual((yield self.options(id)), ("required", 3, "enabled", "disabled"))
        [id] = yield self.run_instances(MetadataOptions={"HttpTokens": "optional"})
        self.assertEqual((yield self.options(id))[0], "optional")
        answer = yield self.ask("GetInstanceMetadataDefaults", BOB)
        self.assertNotIn("HttpTokens", answer["AccountLevel"])
        yield self.ask("ModifyInstanceMetadataDefaults", HttpTokens="no-preference", HttpPutResponseHopLimit=-1)
        [id] = yield self.run_instances()
        self.assertEqual((yield self.options(id)), ("optional", 1, "enabled", "disabled"))

    @inlineCallbacks
    def test_enforced(self) -> Steps:
        """Where tokens are enforced, nothing is launched or changed without them."""
        yield self.ask("ModifyInstanceMetadataDefaults", HttpTokensEnforced="enabled")
        wanted = {"ImageId": SERVER, "MinCount": 1, "MaxCount": 1}
        yield self.refused("UnauthorizedOperation", "RunInstances", **wanted)
        [id] = yield self.run_instances(MetadataOptions={"HttpTokens": "required"})
        yield self.refused(
            "UnauthorizedOperation", "ModifyInstanceMetadataOptions", InstanceId=id, HttpTokens="optional"
        )


class GuestTests(EC2Case):
    """What guests show."""

    @inlineCallbacks
    def test_password(self) -> Steps:
        """The last password on the console, and nothing while there is none."""
        [id] = yield self.boot()
        console = b"boot\r\n<Password>Zmlyc3Q=</Password>\r\nagain\r\n<Password>\nc2Vj\nb25k\n</Password>\r\n"
        for output, password in ((b"login:", ""), (console, "c2Vjb25k")):
            self.queue.answer = {"output": base64.b64encode(output).decode(), "timestamp": 1_790_000_000.0}
            answer = yield self.ask("GetPasswordData", InstanceId=id)
            self.assertEqual((answer["InstanceId"], answer["PasswordData"]), (id, password))
        yield self.refused("InvalidInstanceID.NotFound", "GetPasswordData", BOB, InstanceId=id)

    @inlineCallbacks
    def test_screenshot(self) -> Steps:
        """The host's picture of a running instance."""
        [id] = yield self.boot()
        self.queue.answer = {"image": base64.b64encode(b"\x89PNG...").decode()}
        answer = yield self.ask("GetConsoleScreenshot", InstanceId=id, WakeUp=True)
        self.assertEqual(base64.b64decode(answer["ImageData"]), b"\x89PNG...")
        self.assertEqual(self.queue.cast[-1][1:], ("screenshot", (id, True)))
        yield self.refused("InvalidInstanceID.NotFound", "GetConsoleScreenshot", BOB, InstanceId=id)
        for gone in (NotFound("guest", id), WrongState("guest", id, "stopped", ["running"])):
            self.queue.answer = Failure(gone)
            said = yield self.refused("IncorrectInstanceState", "GetConsoleScreenshot", InstanceId=id)
            self.assertEqual(said, f"The instance '{id}' is not in the 'running' state.")
        [pending] = yield self.run_instances()
        yield self.refused("IncorrectInstanceState", "GetConsoleScreenshot", InstanceId=pending)

    @inlineCallbacks
    def test_monitoring(self) -> Steps:
        """Monitoring is turned on and off, shown, and found by; all or nothing."""
        ids = yield self.boot(2)
        answer = yield self.ask("MonitorInstances", InstanceIds=ids)
        self.assertEqual([each["Monitoring"]["State"] for each in answer["InstanceMonitorings"]], ["enabled"] * 2)
        yield self.ask("UnmonitorInstances", InstanceIds=ids[:1])
        self.assertEqual((yield self.matching("monitoring-state", "enabled")), ids[1:])
        yield self.refused("InvalidInstanceID.NotFound", "MonitorInstances", BOB, InstanceIds=ids)
        yield self.ask("TerminateInstances", InstanceIds=ids[1:])
        yield self.refused("IncorrectInstanceState", "MonitorInstances", InstanceIds=ids)
        self.assertEqual((yield self.matching("monitoring-state", "enabled")), ids[1:])


class FlavorTests(EC2Case):
    """Types that operators make and remove."""

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        nobody: Any = None
        self.admin = MachineActions(self.cloud, self.store, nobody)

    @inlineCallbacks
    def test_made(self) -> Steps:
        """A new type is listed, launched, and given to what is stopped."""
        yield self.admin.CreateFlavor(OPERATOR, "big.one", 2, 3000, 30)
        answer = yield self.ask("DescribeInstanceTypes", InstanceTypes=["big.one"])
        self.assertEqual(answer["InstanceTypes"][0]["MemoryInfo"]["SizeInMiB"], 3000)
        yield self.run_instances(InstanceType="big.one")
        [id] = yield self.boot()
        yield self.ask("StopInstances", InstanceIds=[id])
        yield self.move([id], "halt")
        yield self.ask("ModifyInstanceAttribute", InstanceId=id, InstanceType={"Value": "big.one"})
        [stored] = yield self.store.read(Instance, [id])
        self.assertEqual(stored.record.flavor.vcpus, 2)
        self.assertIn("big.one", [each["name"] for each in (yield self.admin.DescribeFlavors(OPERATOR))])

    @inlineCallbacks
    def test_removed(self) -> Steps:
        """Nothing more is launched of a removed type, built in or not; instances keep theirs."""
        yield self.admin.CreateFlavor(OPERATOR, "big.one", 2, 3000, 30)
        [id] = yield self.run_instances(InstanceType="big.one")
        for name in ("big.one", "m1.tiny"):
            yield self.admin.DeleteFlavor(OPERATOR, name)
            wanted = {"ImageId": SERVER, "MinCount": 1, "MaxCount": 1, "InstanceType": name}
            message = yield self.refused("InvalidParameterValue", "RunInstances", **wanted)
            self.assertEqual(message, f"Invalid value '{name}' for InstanceType.")
            yield self.refused("InvalidInstanceType", "DescribeInstanceTypes", InstanceTypes=[name])
            yield self.assertFailure(self.admin.DeleteFlavor(OPERATOR, name), NotFound)
        [instance] = yield self.listed(InstanceIds=[id])
        self.assertEqual(instance["InstanceType"], "big.one")
        yield self.admin.CreateFlavor(OPERATOR, "m1.tiny", 1, 256, 1)
        [id] = yield self.run_instances(InstanceType="m1.tiny")
        [stored] = yield self.store.read(Instance, [id])
        self.assertEqual(stored.record.flavor.memory_mb, 256)

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """A name is taken once, and a type must make sense."""
        yield self.assertFailure(self.admin.CreateFlavor(OPERATOR, "m1.tiny", 1, 1, 1), AlreadyExists)
        for flavor in (("", 1, 1, 1), ("a b", 1, 1, 1), ("a*", 1, 1, 1), ("x", 0, 1, 1), ("x", 1, 1, -1)):
            yield self.assertFailure(self.cloud.flavors.create(OPERATOR, _flavor(*flavor)), InvalidValue)

    @inlineCallbacks
    def test_offerings(self) -> Steps:
        """Every type is offered in the region and in each zone; filters and pages as everywhere."""
        answer = yield self.ask("DescribeInstanceTypeOfferings")
        self.assertEqual(sorted(each["InstanceType"] for each in answer["InstanceTypeOfferings"]), sorted(BUILT_IN))
        answer = yield self.ask(
            "DescribeInstanceTypeOfferings",
            LocationType="availability-zone",
            Filters=[{"Name": "instance-type", "Values": ["m1.*"]}, {"Name": "location", "Values": ["nova"]}],
        )
        self.assertEqual(
            {(each["InstanceType"], each["Location"]) for each in answer["InstanceTypeOfferings"]},
            {(name, "nova") for name in BUILT_IN if name.startswith("m1.")},
        )
        seen, token = [], None
        while True:
            more = {"NextToken": token} if token else {}
            answer = yield self.ask("DescribeInstanceTypeOfferings", MaxResults=5, **more)
            seen += [each["InstanceType"] for each in answer["InstanceTypeOfferings"]]
            token = answer.get("NextToken")
            if not token:
                break
        self.assertEqual(seen, sorted(BUILT_IN))

    @inlineCallbacks
    def test_credits(self) -> Steps:
        """No instance pays by credits."""
        [id] = yield self.run_instances(InstanceType="t2.micro")
        answer = yield self.ask("DescribeInstanceCreditSpecifications")
        self.assertEqual(answer["InstanceCreditSpecifications"], [])
        yield self.refused("UnsupportedOperation", "DescribeInstanceCreditSpecifications", InstanceIds=[id])
        yield self.refused("InvalidInstanceID.NotFound", "DescribeInstanceCreditSpecifications", BOB, InstanceIds=[id])


class SameForAllTests(EC2Case):
    """What is so for everybody."""

    @inlineCallbacks
    def test_answers(self) -> Steps:
        """Accounts have no serial console and no encryption by default, and share what they like."""
        for name, shown in (
            ("GetSerialConsoleAccessStatus", {"SerialConsoleAccessEnabled": False, "ManagedBy": "account"}),
            ("GetEbsEncryptionByDefault", {"EbsEncryptionByDefault": False}),
            ("GetSnapshotBlockPublicAccessState", {"State": "unblocked", "ManagedBy": "account"}),
            ("GetImageBlockPublicAccessState", {"ImageBlockPublicAccessState": "unblocked", "ManagedBy": "account"}),
        ):
            self.assertEqual((yield self.ask(name, ANN)), shown)

    @inlineCallbacks
    def test_formats(self) -> Steps:
        """All ids are long."""
        answer = yield self.ask("DescribeIdFormat", Resource="instance")
        self.assertEqual(answer["Statuses"], [{"Resource": "instance", "UseLongIds": True}])
        yield self.refused("InvalidParameterValue", "DescribeIdFormat", Resource="cloud")
        answer = yield self.ask("DescribeAggregateIdFormat")
        self.assertTrue(answer["UseLongIdsAggregated"])
        self.assertTrue(all(each["UseLongIds"] for each in answer["Statuses"]))
        answer = yield self.ask("DescribePrincipalIdFormat", Resources=["volume"])
        self.assertEqual(
            answer["Principals"],
            [{"Arn": "arn:aws:iam::alpha:root", "Statuses": [{"Resource": "volume", "UseLongIds": True}]}],
        )
        answer = yield self.ask("DescribeIdentityIdFormat", PrincipalArn="all", Resource="vpc")
        self.assertEqual(len(answer["Statuses"]), 1)


class ProtectionTests(EC2Case):
    """Attributes that keep instances from ending."""

    @inlineCallbacks
    def test_protected(self) -> Steps:
        """Protection given at launch or later holds until it is taken away."""
        [id] = yield self.boot(1, DisableApiStop=True)
        yield self.ask("ModifyInstanceAttribute", InstanceId=id, DisableApiTermination={"Value": True})
        yield self.refused("OperationNotPermitted", "StopInstances", InstanceIds=[id])
        yield self.refused("OperationNotPermitted", "TerminateInstances", InstanceIds=[id])
        yield self.ask("ModifyInstanceAttribute", InstanceId=id, DisableApiStop={"Value": False})
        yield self.ask("StopInstances", InstanceIds=[id])
        yield self.refused("OperationNotPermitted", "TerminateInstances", InstanceIds=[id])
        yield self.ask("ModifyInstanceAttribute", InstanceId=id, DisableApiTermination={"Value": False})
        yield self.ask("TerminateInstances", InstanceIds=[id])


def _flavor(*fields: Any) -> Any:
    from fabric.model.flavor import Flavor

    return Flavor(*fields)
