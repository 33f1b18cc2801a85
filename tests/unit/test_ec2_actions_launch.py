"""
RunInstances, and the attributes of an instance.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from fabric.cloud.hosts import ZONES_KEPT
from fabric.model.host import Capacity
from fabric.model.image import Image
from fabric.model.instance import Instance
from fabric.testing.cloud import OPERATOR
from tests.unit.ec2_stage import BOB, NOW, SERVER, TINY, EC2Case, encoded

Steps = Generator[Any, Any, None]
NEEDED = {"ImageId": SERVER, "InstanceType": "m1.tiny", "MinCount": 1, "MaxCount": 1}


class RunTests(EC2Case):
    """What is launched."""

    @inlineCallbacks
    def test_answer(self) -> Steps:
        """The answer is a reservation with pending instances, in order of index."""
        answer = yield self.ask("RunInstances", **NEEDED | {"MaxCount": 3})
        self.assertRegex(answer["ReservationId"], r"^r-[0-9a-f]{17}$")
        self.assertEqual(answer["OwnerId"], "alpha")
        self.assertEqual([each["AmiLaunchIndex"] for each in answer["Instances"]], [0, 1, 2])
        self.assertEqual({each["State"]["Name"] for each in answer["Instances"]}, {"pending"})
        self.assertEqual({each["ImageId"] for each in answer["Instances"]}, {SERVER})

    @inlineCallbacks
    def test_same_as_described(self) -> Steps:
        """What RunInstances shows is what DescribeInstances shows."""
        answer = yield self.ask("RunInstances", **NEEDED)
        self.assertEqual(answer["Instances"], (yield self.listed()))

    @inlineCallbacks
    def test_zone_at_once(self) -> Steps:
        """The answer names zone and subnet where there is one zone only: a volume for it can be made at once."""
        [instance] = (yield self.ask("RunInstances", **NEEDED))["Instances"]
        [subnet] = (yield self.ask("DescribeSubnets"))["Subnets"]
        self.assertEqual((instance["Placement"]["AvailabilityZone"], instance["State"]["Name"]), ("nova", "pending"))
        self.assertEqual(instance["SubnetId"], subnet["SubnetId"])
        yield self.cloud.hosts.report("compute", "node2", "east", NOW, Capacity(64, 64_000, 1000))
        self.clock.advance(ZONES_KEPT)
        [instance] = (yield self.ask("RunInstances", **NEEDED))["Instances"]
        self.assertEqual((instance["Placement"]["AvailabilityZone"], instance.get("SubnetId")), ("", None))
        [stored] = yield self.store.read(Instance, [instance["InstanceId"]])
        self.assertEqual(stored.record.wanted_zone, "")

    @inlineCallbacks
    def test_default_type(self) -> Steps:
        """Without a type it is m1.small."""
        answer = yield self.ask("RunInstances", ImageId=SERVER, MinCount=1, MaxCount=1)
        self.assertEqual(answer["Instances"][0]["InstanceType"], "m1.small")

    @inlineCallbacks
    def test_everything(self) -> Steps:
        """Key, group, zone, user data, kernel, protection and tags are kept."""
        yield self.ask("CreateKeyPair", KeyName="mine", KeyType="ed25519")
        group = yield self.ask("CreateSecurityGroup", GroupName="web", Description="web servers")
        [id] = yield self.run_instances(
            KeyName="mine",
            SecurityGroupIds=[group["GroupId"]],
            Placement={"AvailabilityZone": "nova", "Tenancy": "default"},
            UserData=encoded(b"#!/bin/sh\n"),
            KernelId="aki-00000000000000001",
            RamdiskId="ari-00000000000000001",
            DisableApiTermination=True,
            InstanceInitiatedShutdownBehavior="terminate",
            Monitoring={"Enabled": False},
            EbsOptimized=False,
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}, {"Key": "c"}]}],
        )
        [stored] = yield self.store.read(Instance, [id])
        record = stored.record
        self.assertEqual((record.key_name, record.key_material[:11]), ("mine", "ssh-ed25519"))
        self.assertEqual([each.name for each in record.groups], ["web"])
        self.assertEqual((record.wanted_zone, record.user_data), ("nova", encoded(b"#!/bin/sh\n")))
        self.assertEqual((record.kernel, record.ramdisk), ("aki-00000000000000001", "ari-00000000000000001"))
        self.assertTrue(record.api_termination_disabled)
        self.assertEqual((record.shutdown_behavior, record.tags), ("terminate", {"a": "b", "c": ""}))

    @inlineCallbacks
    def test_client_token(self) -> Steps:
        """A repeat with the same token gives the same instances; with other parameters it is refused."""
        first = yield self.ask("RunInstances", ClientToken="tok", **NEEDED)
        again = yield self.ask("RunInstances", ClientToken="tok", **NEEDED)
        self.assertEqual(first, again)
        yield self.refused("IdempotentParameterMismatch", "RunInstances", ClientToken="tok", **NEEDED | {"MaxCount": 2})
        self.assertEqual(len((yield self.listed())), 1)
        other = yield self.ask("RunInstances", BOB, ClientToken="tok", **NEEDED)
        self.assertNotEqual(other["ReservationId"], first["ReservationId"])

    @inlineCallbacks
    def test_client_token_of_what_is_gone(self) -> Steps:
        """A repeat gives the same instances when what it names is gone, or no more may be launched."""
        yield self.ask("CreateKeyPair", KeyName="k", KeyType="ed25519")
        wanted = NEEDED | {"KeyName": "k", "MinCount": 5, "MaxCount": 5, "ClientToken": "tok"}
        first = yield self.ask("RunInstances", **wanted)
        yield self.ask("DeleteKeyPair", KeyName="k")
        self.assertEqual((yield self.ask("RunInstances", **wanted)), first)
        yield self.ask("CreateKeyPair", KeyName="k", KeyType="ed25519")
        yield self.cloud.quotas.set(OPERATOR, "alpha", {"instances": 1})
        self.assertEqual((yield self.ask("RunInstances", **wanted)), first)
        yield self.refused("IdempotentParameterMismatch", "RunInstances", **wanted | {"KeyName": "other"})
        yield self.refused("InvalidKeyPair.NotFound", "RunInstances", **wanted | {"KeyName": "x", "ClientToken": "u"})

    @inlineCallbacks
    def test_quota(self) -> Steps:
        """MinCount above the quota is refused; MaxCount above it gives what there is."""
        yield self.refused("InstanceLimitExceeded", "RunInstances", **NEEDED | {"MinCount": 21, "MaxCount": 21})
        answer = yield self.ask("RunInstances", **NEEDED | {"MaxCount": 30})
        self.assertEqual(len(answer["Instances"]), 20)

    @inlineCallbacks
    def test_counts(self) -> Steps:
        """Counts are at least one, and MinCount at most MaxCount."""
        yield self.refused("InvalidParameterValue", "RunInstances", **NEEDED | {"MinCount": 0})
        yield self.refused("InvalidParameterValue", "RunInstances", **NEEDED | {"MaxCount": 10_001})
        yield self.refused("InvalidParameterCombination", "RunInstances", **NEEDED | {"MinCount": 2})

    @inlineCallbacks
    def test_unknown_things(self) -> Steps:
        """What the request names must be there, for this project."""
        for code, wrong in (
            ("InvalidAMIID.NotFound", {"ImageId": "ami-12345678"}),
            ("InvalidAMIID.Malformed", {"ImageId": "12345678"}),
            ("InvalidKeyPair.NotFound", {"KeyName": "nobody"}),
            ("InvalidGroup.NotFound", {"SecurityGroups": ["nothing"]}),
            ("InvalidGroup.NotFound", {"SecurityGroupIds": ["sg-12345678"]}),
            ("InvalidParameterValue", {"InstanceType": "m9.huge"}),
            ("InvalidParameterValue", {"Placement": {"AvailabilityZone": "mars"}}),
            ("InvalidSubnetID.NotFound", {"SubnetId": "subnet-12345678"}),
        ):
            yield self.refused(code, "RunInstances", **NEEDED | wrong)

    @inlineCallbacks
    def test_messages(self) -> Steps:
        """Type and zone are refused in EC2's words."""
        message = yield self.refused("InvalidParameterValue", "RunInstances", **NEEDED | {"InstanceType": "x1"})
        self.assertEqual(message, "Invalid value 'x1' for InstanceType.")
        wrong = NEEDED | {"Placement": {"AvailabilityZone": "mars"}}
        message = yield self.refused("InvalidParameterValue", "RunInstances", **wrong)
        self.assertEqual(message, "Invalid availability zone: [mars]")

    @inlineCallbacks
    def test_private_image(self) -> Steps:
        """Another project's image can't be launched unless it was shared."""
        yield self.write(
            Image("ami-0000000a", "beta", "secret", "x", created_at=NOW),
            Image("ami-0000000b", "beta", "shared", "x", created_at=NOW, shared_with=("alpha",)),
        )
        yield self.refused("InvalidAMIID.NotFound", "RunInstances", **NEEDED | {"ImageId": "ami-0000000a"})
        yield self.ask("RunInstances", **NEEDED | {"ImageId": "ami-0000000b"})

    @inlineCallbacks
    def test_others_key_and_group(self) -> Steps:
        """Another project's key pair and group are not there."""
        yield self.ask("CreateKeyPair", BOB, KeyName="his", KeyType="ed25519")
        group = yield self.ask("CreateSecurityGroup", BOB, GroupName="his", Description="his")
        yield self.refused("InvalidKeyPair.NotFound", "RunInstances", **NEEDED | {"KeyName": "his"})
        wrong = NEEDED | {"SecurityGroupIds": [group["GroupId"]]}
        yield self.refused("InvalidGroup.NotFound", "RunInstances", **wrong)

    @inlineCallbacks
    def test_user_data(self) -> Steps:
        """User data is base64 and at most 16384 bytes."""
        yield self.refused("InvalidUserData.Malformed", "RunInstances", **NEEDED | {"UserData": "no base64!"})
        yield self.refused("InvalidParameterValue", "RunInstances", **NEEDED | {"UserData": encoded(b"x" * 16385)})
        yield self.ask("RunInstances", **NEEDED | {"UserData": encoded(b"x" * 16384)})

    @inlineCallbacks
    def test_refused_by_name(self) -> Steps:
        """What this cloud does not do is refused by name, never dropped."""
        for wrong in (
            {"NetworkInterfaces": [{"DeviceIndex": 1}]},
            {"IamInstanceProfile": {"Name": "x"}},
            {"Placement": {"Tenancy": "dedicated"}},
            {"Placement": {"HostId": "h-1"}},
            {"HibernationOptions": {"Configured": True}},
            {"PrivateIpAddress": "10.0.0.99"},
            {"Ipv6AddressCount": 1},
            {"CpuOptions": {"CoreCount": 1}},
            {"InstanceMarketOptions": {"MarketType": "spot"}},
        ):
            message = yield self.refused("UnsupportedOperation", "RunInstances", **NEEDED | wrong)
            self.assertIn(next(iter(wrong)).rstrip("s"), message)

    @inlineCallbacks
    def test_harmless(self) -> Steps:
        """What says no more than what happens anyway is taken."""
        yield self.ask(
            "RunInstances",
            **NEEDED,
            Placement={"Tenancy": "default", "GroupName": ""},
            HibernationOptions={"Configured": False},
            EnclaveOptions={"Enabled": False},
            InstanceMarketOptions={"MarketType": "on-demand"},
            CapacityReservationSpecification={"CapacityReservationPreference": "open"},
            MaintenanceOptions={"AutoRecovery": "disabled"},
        )

    @inlineCallbacks
    def test_tags(self) -> Steps:
        """Tags at launch are instances', with keys that users may use."""
        for code, resource, tags in (
            ("InvalidParameterValue", "dragon", [{"Key": "a", "Value": "b"}]),
            ("UnsupportedOperation", "network-interface", [{"Key": "a", "Value": "b"}]),
            ("InvalidParameterValue", "volume", [{"Key": "aws:a", "Value": "b"}]),
            ("InvalidParameterValue", "instance", [{"Key": "a\x01b", "Value": ""}]),
            ("InvalidParameterValue", "instance", [{"Key": "a", "Value": "b\x00"}]),
            ("InvalidParameterValue", "instance", [{"Key": "aws:a", "Value": "b"}]),
            ("InvalidParameterValue", "instance", [{"Key": "a", "Value": "b"}, {"Key": "a", "Value": "c"}]),
            ("InvalidParameterValue", "instance", [{"Key": "k" * 129, "Value": ""}]),
            ("InvalidParameterValue", "instance", [{"Key": "k", "Value": "v" * 257}]),
            ("TagLimitExceeded", "instance", [{"Key": f"k{n}", "Value": ""} for n in range(51)]),
        ):
            specification = {"ResourceType": resource, "Tags": tags}
            yield self.refused(code, "RunInstances", **NEEDED, TagSpecifications=[specification])
        self.assertEqual((yield self.listed()), [])

    @inlineCallbacks
    def test_tags_of_no_volumes(self) -> Steps:
        """Tags of volumes may be given to a launch that makes none, as scripts do for any image."""
        tags = [{"ResourceType": kind, "Tags": [{"Key": "k", "Value": kind}]} for kind in ("instance", "volume")]
        yield self.ask("RunInstances", **NEEDED, TagSpecifications=tags)
        [instance] = yield self.listed()
        self.assertEqual(instance["Tags"], [{"Key": "k", "Value": "instance"}])


class AttributeTests(EC2Case):
    """Describe-, Modify- and ResetInstanceAttribute."""

    @inlineCallbacks
    def attribute(self, id: str, name: str) -> Generator[Any, Any, Any]:
        """What is shown of an attribute, without the id."""
        answer = yield self.ask("DescribeInstanceAttribute", InstanceId=id, Attribute=name)
        self.assertEqual(answer.pop("InstanceId"), id)
        return answer

    @inlineCallbacks
    def test_describe(self) -> Steps:
        """Every attribute is shown, and nothing else with it."""
        [id] = yield self.run_instances(UserData=encoded(b"x"), ImageId=TINY)
        for name, shown in (
            ("instanceType", {"InstanceType": {"Value": "m1.tiny"}}),
            ("kernel", {"KernelId": {"Value": "aki-00000000000000001"}}),
            ("ramdisk", {"RamdiskId": {"Value": "ari-00000000000000001"}}),
            ("userData", {"UserData": {"Value": encoded(b"x")}}),
            ("disableApiTermination", {"DisableApiTermination": {"Value": False}}),
            ("disableApiStop", {"DisableApiStop": {"Value": False}}),
            ("instanceInitiatedShutdownBehavior", {"InstanceInitiatedShutdownBehavior": {"Value": "stop"}}),
            ("rootDeviceName", {"RootDeviceName": {}}),
            ("blockDeviceMapping", {"BlockDeviceMappings": []}),
            ("productCodes", {"ProductCodes": []}),
            ("sourceDestCheck", {"SourceDestCheck": {"Value": True}}),
            ("ebsOptimized", {"EbsOptimized": {"Value": False}}),
            ("sriovNetSupport", {"SriovNetSupport": {}}),
            ("enaSupport", {"EnaSupport": {"Value": True}}),
            ("enclaveOptions", {"EnclaveOptions": {"Enabled": False}}),
        ):
            self.assertEqual((yield self.attribute(id, name)), shown)
        groups = (yield self.attribute(id, "groupSet"))["Groups"]
        self.assertEqual([group["GroupName"] for group in groups], ["default"])

    @inlineCallbacks
    def test_describe_unknown(self) -> Steps:
        """An attribute that EC2 does not have, and others' instances, are refused."""
        [id] = yield self.run_instances()
        yield self.refused("InvalidParameterValue", "DescribeInstanceAttribute", InstanceId=id, Attribute="colour")
        yield self.refused(
            "InvalidInstanceID.NotFound", "DescribeInstanceAttribute", BOB, InstanceId=id, Attribute="kernel"
        )

    @inlineCallbacks
    def test_modify_structured(self) -> Steps:
        """What may change at any time changes, in the newer form."""
        [id] = yield self.boot()
        for parameter, name, value in (
            ("DisableApiTermination", "disableApiTermination", True),
            ("DisableApiStop", "disableApiStop", True),
            ("SourceDestCheck", "sourceDestCheck", False),
            ("InstanceInitiatedShutdownBehavior", "instanceInitiatedShutdownBehavior", "terminate"),
        ):
            yield self.ask("ModifyInstanceAttribute", InstanceId=id, **{parameter: {"Value": value}})
            self.assertEqual((yield self.attribute(id, name)), {parameter: {"Value": value}})

    @inlineCallbacks
    def test_modify_old_form(self) -> Steps:
        """The older form says attribute and value."""
        [id] = yield self.boot()
        yield self.ask("ModifyInstanceAttribute", InstanceId=id, Attribute="disableApiStop", Value="true")
        self.assertEqual((yield self.attribute(id, "disableApiStop")), {"DisableApiStop": {"Value": True}})
        for wrong in ({"Attribute": "colour", "Value": "red"}, {"Attribute": "disableApiStop", "Value": "maybe"}):
            yield self.refused("InvalidParameterValue", "ModifyInstanceAttribute", InstanceId=id, **wrong)
        yield self.refused("MissingParameter", "ModifyInstanceAttribute", InstanceId=id, Attribute="kernel")
        yield self.refused(
            "UnsupportedOperation", "ModifyInstanceAttribute", InstanceId=id, Attribute="rootDeviceName", Value="x"
        )

    @inlineCallbacks
    def test_only_while_stopped(self) -> Steps:
        """Type, kernel, user data and the like change only while it is stopped."""
        [id] = yield self.boot()
        changes: list[dict[str, Any]] = [
            {"InstanceType": {"Value": "m1.small"}},
            {"UserData": {"Value": b"new"}},
            {"Kernel": {"Value": "aki-00000000000000001"}},
            {"EbsOptimized": {"Value": True}},
        ]
        for change in changes:
            yield self.refused("IncorrectInstanceState", "ModifyInstanceAttribute", InstanceId=id, **change)
        yield self.ask("StopInstances", InstanceIds=[id])
        yield self.move([id], "halt")
        for change in changes:
            yield self.ask("ModifyInstanceAttribute", InstanceId=id, **change)
        [stored] = yield self.store.read(Instance, [id])
        record = stored.record
        self.assertEqual((record.flavor.name, record.user_data), ("m1.small", encoded(b"new")))
        self.assertEqual((record.kernel, record.ebs_optimized), ("aki-00000000000000001", True))

    @inlineCallbacks
    def test_modify_groups(self) -> Steps:
        """Groups are replaced; another project's can't be given."""
        [id] = yield self.boot()
        group = (yield self.ask("CreateSecurityGroup", GroupName="web", Description="web"))["GroupId"]
        his = (yield self.ask("CreateSecurityGroup", BOB, GroupName="web", Description="web"))["GroupId"]
        yield self.ask("ModifyInstanceAttribute", InstanceId=id, Groups=[group])
        self.assertEqual((yield self.attribute(id, "groupSet")), {"Groups": [{"GroupId": group, "GroupName": "web"}]})
        self.assertEqual((yield self.matching("instance.group-id", group)), [id])
        yield self.refused("InvalidGroup.NotFound", "ModifyInstanceAttribute", InstanceId=id, Groups=[his])

    @inlineCallbacks
    def test_one_at_a_time(self) -> Steps:
        """One request changes one attribute."""
        [id] = yield self.boot()
        yield self.refused("InvalidParameterCombination", "ModifyInstanceAttribute", InstanceId=id)
        yield self.refused(
            "InvalidParameterCombination",
            "ModifyInstanceAttribute",
            InstanceId=id,
            DisableApiStop={"Value": True},
            DisableApiTermination={"Value": True},
        )
        message = yield self.refused(
            "UnsupportedOperation", "ModifyInstanceAttribute", InstanceId=id, SriovNetSupport={"Value": "simple"}
        )
        self.assertIn("SriovNetSupport", message)

    @inlineCallbacks
    def test_modify_tenancy(self) -> Steps:
        """Nobody changes another project's instance."""
        [id] = yield self.boot()
        yield self.refused(
            "InvalidInstanceID.NotFound", "ModifyInstanceAttribute", BOB, InstanceId=id, DisableApiStop={"Value": True}
        )

    @inlineCallbacks
    def test_reset(self) -> Steps:
        """Kernel and ramdisk return to the image's, the check of addresses to on."""
        [id] = yield self.boot(ImageId=TINY)
        yield self.ask("ModifyInstanceAttribute", InstanceId=id, SourceDestCheck={"Value": False})
        yield self.ask("ResetInstanceAttribute", InstanceId=id, Attribute="sourceDestCheck")
        self.assertEqual((yield self.attribute(id, "sourceDestCheck")), {"SourceDestCheck": {"Value": True}})
        yield self.ask("StopInstances", InstanceIds=[id])
        yield self.move([id], "halt")
        yield self.ask("ModifyInstanceAttribute", InstanceId=id, Attribute="kernel", Value="")
        self.assertEqual((yield self.attribute(id, "kernel")), {"KernelId": {}})
        yield self.ask("ResetInstanceAttribute", InstanceId=id, Attribute="kernel")
        self.assertEqual((yield self.attribute(id, "kernel")), {"KernelId": {"Value": "aki-00000000000000001"}})

    @inlineCallbacks
    def test_reset_others(self) -> Steps:
        """Other attributes have nothing to return to."""
        [id] = yield self.boot()
        yield self.refused("UnsupportedOperation", "ResetInstanceAttribute", InstanceId=id, Attribute="instanceType")
        yield self.refused("InvalidParameterValue", "ResetInstanceAttribute", InstanceId=id, Attribute="colour")
