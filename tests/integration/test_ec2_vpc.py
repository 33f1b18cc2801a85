"""
The picture of a project's network, as botocore and the tools above it see it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from fabric.api.ec2.actions.vpc import ABSENT, KINDS, UNPAGED
from fabric.model.host import Capacity
from fabric.model.network import Network
from tests.unit.ec2_stage import ANN, BOB, NOW, EC2Case

Steps = Generator[Any, Any, None]


def by(name: str, *values: str) -> dict[str, Any]:
    """One filter."""
    return {"Filters": [{"Name": name, "Values": list(values)}]}


class PictureTests(EC2Case):
    """What is shown."""

    @inlineCallbacks
    def only(self, action: str, *caller: Any, **parameters: Any) -> Generator[Any, Any, dict[str, Any]]:
        """The one thing that a Describe lists."""
        [item] = next(iter((yield self.ask(action, *caller, **parameters)).values()))
        return item  # type: ignore[no-any-return]

    @inlineCallbacks
    def test_default_vpc(self) -> Steps:
        """Each project has one VPC, the default one, and all agree on it."""
        vpc = yield self.only("DescribeVpcs")
        self.assertRegex(vpc["VpcId"], "^vpc-[0-9a-f]{17}$")
        self.assertEqual((vpc["IsDefault"], vpc["CidrBlock"], vpc["OwnerId"]), (True, "10.0.0.0/24", ANN.project))
        theirs = yield self.only("DescribeVpcs", BOB)
        self.assertNotEqual(theirs["VpcId"], vpc["VpcId"])
        yield self.refused("InvalidVpcID.NotFound", "DescribeVpcs", VpcIds=[theirs["VpcId"]])
        account = yield self.ask("DescribeAccountAttributes", AttributeNames=["default-vpc"])
        [value] = account["AccountAttributes"][0]["AttributeValues"]
        self.assertEqual(value["AttributeValue"], vpc["VpcId"])
        [group] = (yield self.ask("DescribeSecurityGroups", **by("vpc-id", vpc["VpcId"])))["SecurityGroups"]
        self.assertEqual(group["VpcId"], vpc["VpcId"])

    @inlineCallbacks
    def test_vpc_attribute(self) -> Steps:
        """The attributes that tools ask for, one by one."""
        id = (yield self.only("DescribeVpcs"))["VpcId"]
        for attribute, answer in (
            ("enableDnsSupport", "EnableDnsSupport"),
            ("enableDnsHostnames", "EnableDnsHostnames"),
            ("enableNetworkAddressUsageMetrics", "EnableNetworkAddressUsageMetrics"),
        ):
            found = yield self.ask("DescribeVpcAttribute", VpcId=id, Attribute=attribute)
            self.assertIn("Value", found[answer])
        yield self.refused("InvalidParameterValue", "DescribeVpcAttribute", VpcId=id, Attribute="colour")
        wanted = {"VpcId": "vpc-00000000", "Attribute": "enableDnsSupport"}
        yield self.refused("InvalidVpcID.NotFound", "DescribeVpcAttribute", **wanted)

    @inlineCallbacks
    def test_subnets(self) -> Steps:
        """A subnet for each network in each zone, with the addresses that are really free."""
        yield self.cloud.hosts.report("compute", "node2", "east", NOW, Capacity(8, 8000, 100))
        yield self.write(Network("net-00000002", "own", "10.9.0.0/24", "10.9.0.1", project=ANN.project))
        subnets = (yield self.ask("DescribeSubnets"))["Subnets"]
        found = {(each["CidrBlock"], each["AvailabilityZone"], each["DefaultForAz"]) for each in subnets}
        networks = (("10.0.0.0/24", True), ("10.9.0.0/24", False))
        self.assertEqual(found, {(cidr, zone, own) for cidr, own in networks for zone in ("east", "nova")})
        self.assertEqual({each["AvailableIpAddressCount"] for each in subnets}, {253})
        theirs = (yield self.ask("DescribeSubnets", BOB))["Subnets"]
        self.assertEqual({each["CidrBlock"] for each in theirs}, {"10.0.0.0/24"})
        yield self.boot()
        default = yield self.ask("DescribeSubnets", **by("default-for-az", "true"))
        self.assertEqual({each["AvailableIpAddressCount"] for each in default["Subnets"]}, {252})

    @inlineCallbacks
    def test_instances_are_in_it(self) -> Steps:
        """Instances show VPC, subnet and interface, and are found by them."""
        [id] = yield self.boot()
        [subnet] = (yield self.ask("DescribeSubnets"))["Subnets"]
        [instance] = yield self.listed()
        self.assertEqual((instance["SubnetId"], instance["VpcId"]), (subnet["SubnetId"], subnet["VpcId"]))
        [interface] = instance["NetworkInterfaces"]
        self.assertEqual(interface["SubnetId"], subnet["SubnetId"])
        for name, value in (
            ("vpc-id", subnet["VpcId"]),
            ("subnet-id", subnet["SubnetId"]),
            ("network-interface.vpc-id", subnet["VpcId"]),
            ("network-interface.subnet-id", subnet["SubnetId"]),
            ("network-interface.network-interface-id", interface["NetworkInterfaceId"]),
            ("network-interface.attachment.attachment-id", interface["Attachment"]["AttachmentId"]),
            ("network-interface.private-dns-name", interface["PrivateDnsName"]),
            ("network-interface.mac-address", interface["MacAddress"]),
        ):
            self.assertEqual((yield self.matching(name, value)), [id], name)
            self.assertEqual((yield self.matching(name, value[:-1] + "?x")), [], name)
        yield self.ask("TerminateInstances", InstanceIds=[id])
        yield self.move([id], "vanish")
        [instance] = yield self.listed()
        self.assertEqual([instance.get(name) for name in ("VpcId", "SubnetId", "NetworkInterfaces")], [None, None, []])

    @inlineCallbacks
    def test_interfaces(self) -> Steps:
        """One for each instance that has an address; found by id and by filters."""
        one, two = yield self.boot(2)
        yield self.run_instances()
        yield self.boot(1, BOB)
        found = (yield self.ask("DescribeNetworkInterfaces"))["NetworkInterfaces"]
        self.assertEqual([each["Attachment"]["InstanceId"] for each in found], [one, two])
        first = found[0]
        self.assertEqual((first["Status"], first["AvailabilityZone"]), ("in-use", "nova"))
        for parameters in (
            {"NetworkInterfaceIds": [first["NetworkInterfaceId"]]},
            by("network-interface-id", first["NetworkInterfaceId"]),
            by("attachment.instance-id", one),
            by("private-ip-address", first["PrivateIpAddress"]),
            by("mac-address", first["MacAddress"]),
        ):
            item = yield self.only("DescribeNetworkInterfaces", **parameters)
            self.assertEqual(item, first)
        for parameters in (by("tag:Name", "x"), by("subnet-id", "subnet-0"), by("vpc-id", "vpc-0")):
            self.assertEqual((yield self.ask("DescribeNetworkInterfaces", **parameters))["NetworkInterfaces"], [])
        ids = ["eni-00000000000000000"]
        yield self.refused("InvalidNetworkInterfaceID.NotFound", "DescribeNetworkInterfaces", NetworkInterfaceIds=ids)
        yield self.refused(
            "InvalidNetworkInterfaceId.Malformed", "DescribeNetworkInterfaces", NetworkInterfaceIds=["i-1"]
        )

    @inlineCallbacks
    def test_parts_agree(self) -> Steps:
        """Route table, gateway, options and ACL belong to the VPC, in the words that terraform asks by."""
        vpc = yield self.only("DescribeVpcs")
        id = vpc["VpcId"]
        main = [{"Name": "association.main", "Values": ["true"]}, {"Name": "vpc-id", "Values": [id]}]
        table = yield self.only("DescribeRouteTables", Filters=main)
        gateway = yield self.only("DescribeInternetGateways", **by("attachment.vpc-id", id))
        self.assertIn(gateway["InternetGatewayId"], [route.get("GatewayId") for route in table["Routes"]])
        default = [{"Name": "default", "Values": ["true"]}, {"Name": "vpc-id", "Values": [id]}]
        acl = yield self.only("DescribeNetworkAcls", Filters=default)
        [subnet] = (yield self.ask("DescribeSubnets"))["Subnets"]
        self.assertEqual([each["SubnetId"] for each in acl["Associations"]], [subnet["SubnetId"]])
        options = yield self.only("DescribeDhcpOptions", DhcpOptionsIds=[vpc["DhcpOptionsId"]])
        self.assertIn({"Key": "domain-name", "Values": [{"Value": "ec2.internal"}]}, options["DhcpConfigurations"])

    @inlineCallbacks
    def test_every_describe(self) -> Steps:
        """Each knows its filters and ids, refuses others, and pages."""
        for kind in (*KINDS, *ABSENT):
            filters = "Filter" if kind.action == "DescribeNatGateways" else "Filters"
            answer = yield self.ask(kind.action)
            self.assertEqual(len(answer[kind.output]), 0 if kind in ABSENT else 1, kind.action)
            unknown = {filters: [{"Name": "colour", "Values": ["red"]}]}
            yield self.refused("InvalidParameterValue", kind.action, **unknown)
            error = kind.code if kind.code == "NatGatewayNotFound" else kind.code + ".NotFound"
            yield self.refused(error, kind.action, **{kind.ids: ["x-00000000"]})
            if kind.action not in UNPAGED:
                yield self.refused("InvalidParameterValue", kind.action, MaxResults=5, NextToken="x")

    @inlineCallbacks
    def test_pages(self) -> Steps:
        """Subnets come in pages."""
        for number in range(12):
            yield self.write(Network(f"net-0000010{number:x}", f"n{number}", f"10.{number}.0.0/24", f"10.{number}.0.1"))
        first = yield self.ask("DescribeSubnets", MaxResults=10)
        rest = yield self.ask("DescribeSubnets", MaxResults=10, NextToken=first["NextToken"])
        self.assertEqual((len(first["Subnets"]), len(rest["Subnets"])), (10, 3))
        self.assertNotIn("NextToken", rest)


class LaunchTests(EC2Case):
    """Launching into it."""

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        [self.subnet] = (yield self.ask("DescribeSubnets"))["Subnets"]
        answer = yield self.ask("CreateSecurityGroup", GroupName="web", Description="d", VpcId=self.subnet["VpcId"])
        self.group = answer["GroupId"]

    @inlineCallbacks
    def test_subnet(self) -> Steps:
        """A subnet and a group by id are what the instance has."""
        id = self.subnet["SubnetId"]
        yield self.run_instances(SubnetId=id, SecurityGroupIds=[self.group])
        [instance] = yield self.listed()
        self.assertEqual(instance["SubnetId"], id)
        self.assertEqual([group["GroupId"] for group in instance["SecurityGroups"]], [self.group])
        self.assertEqual(instance["Placement"]["AvailabilityZone"], "nova")

    @inlineCallbacks
    def test_interface(self) -> Steps:
        """The first interface says the same in another place, and nothing that can't be."""
        id = self.subnet["SubnetId"]
        port = {"DeviceIndex": 0, "SubnetId": id, "Groups": [self.group], "AssociatePublicIpAddress": False}
        yield self.run_instances(NetworkInterfaces=[{**port, "DeleteOnTermination": True}])
        [instance] = yield self.listed()
        self.assertEqual(instance["SubnetId"], id)
        self.assertEqual([group["GroupId"] for group in instance["SecurityGroups"]], [self.group])
        for code, changes in (
            ("UnsupportedOperation", {"AssociatePublicIpAddress": True}),
            ("UnsupportedOperation", {"DeviceIndex": 1}),
            ("UnsupportedOperation", {"DeleteOnTermination": False}),
            ("InvalidSubnetID.NotFound", {"SubnetId": "subnet-00000000"}),
            ("InvalidGroup.NotFound", {"Groups": ["sg-00000000"]}),
        ):
            given = {"ImageId": instance["ImageId"], "MinCount": 1, "MaxCount": 1}
            yield self.refused(code, "RunInstances", NetworkInterfaces=[{**port, **changes}], **given)
        both = {"ImageId": instance["ImageId"], "MinCount": 1, "MaxCount": 1, "NetworkInterfaces": [port]}
        yield self.refused("InvalidParameterCombination", "RunInstances", SubnetId=id, **both)
        yield self.refused("InvalidParameterCombination", "RunInstances", SecurityGroupIds=[self.group], **both)
        two = both | {"NetworkInterfaces": [port, port | {"DeviceIndex": 1}]}
        yield self.refused("UnsupportedOperation", "RunInstances", **two)

    @inlineCallbacks
    def test_refusals(self) -> Steps:
        """Another's subnet is not there; a zone that is not the subnet's is refused."""
        [theirs] = (yield self.ask("DescribeSubnets", BOB))["Subnets"]
        given = {"ImageId": "ami-00000000000000002", "MinCount": 1, "MaxCount": 1}
        yield self.refused("InvalidSubnetID.NotFound", "RunInstances", SubnetId=theirs["SubnetId"], **given)
        yield self.cloud.hosts.report("compute", "node2", "east", NOW, Capacity(8, 8000, 100))
        wrong = {"SubnetId": self.subnet["SubnetId"], "Placement": {"AvailabilityZone": "east"}}
        yield self.refused("InvalidParameterValue", "RunInstances", **wrong, **given)
