"""
Instance types, regions, zones and the account, as botocore sees them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from fabric.model.flavor import BUILT_IN, Flavor
from fabric.model.vpc import vpc_id
from tests.unit.ec2_stage import ANN, ENDPOINT, REGION, EC2Case

Steps = Generator[Any, Any, None]


def by(name: str, *values: str) -> dict[str, Any]:
    """One filter."""
    return {"Filters": [{"Name": name, "Values": list(values)}]}


class TypeTests(EC2Case):
    """DescribeInstanceTypes."""

    @inlineCallbacks
    def names(self, **parameters: Any) -> Generator[Any, Any, list[str]]:
        """The names that are listed."""
        answer = yield self.ask("DescribeInstanceTypes", **parameters)
        return [each["InstanceType"] for each in answer["InstanceTypes"]]

    @inlineCallbacks
    def test_all(self) -> Steps:
        """Every type, with processors, memory and disk."""
        answer = yield self.ask("DescribeInstanceTypes")
        found = {each["InstanceType"]: each for each in answer["InstanceTypes"]}
        self.assertEqual(set(found), set(BUILT_IN))
        self.assertEqual(found["m1.large"]["VCpuInfo"]["DefaultVCpus"], 4)
        self.assertEqual(found["m1.large"]["MemoryInfo"], {"SizeInMiB": 8192})
        self.assertEqual(found["m1.large"]["InstanceStorageInfo"]["TotalSizeInGB"], 80)

    @inlineCallbacks
    def test_gpus(self) -> Steps:
        """Types with GPUs say how many, and who made them if the type requires that; others say nothing."""
        for name, requires, maker in (
            ("g1.any", (), {}),
            ("g1.one", ("gpu:10de:1db4",), {"Manufacturer": "NVIDIA"}),
            ("g1.two", ("avx2", "gpu:10de:1db4", "gpu:1002:744c"), {}),
            ("g1.odd", ("gpu:dead:beef",), {}),
            ("g1.bad", ("gpu:",), {}),
        ):
            yield self.cloud.flavors.create(ANN, Flavor(name, 1, 512, 1, requires=requires, gpus=2))
            [shown] = (yield self.ask("DescribeInstanceTypes", InstanceTypes=[name]))["InstanceTypes"]
            self.assertEqual(shown["GpuInfo"], {"Gpus": [{"Count": 2} | maker]})
        [shown] = (yield self.ask("DescribeInstanceTypes", InstanceTypes=["m1.tiny"]))["InstanceTypes"]
        self.assertNotIn("GpuInfo", shown)

    @inlineCallbacks
    def test_choice(self) -> Steps:
        """By name and by filter."""
        self.assertEqual((yield self.names(InstanceTypes=["m1.tiny", "c5.large"])), ["c5.large", "m1.tiny"])
        self.assertEqual((yield self.names(**by("instance-type", "c5*"))), ["c5.large", "c5.xlarge"])
        self.assertEqual((yield self.names(**by("vcpu-info.default-vcpus", "8"))), ["m1.xlarge"])
        self.assertEqual((yield self.names(**by("bare-metal", "true"))), [])
        yield self.refused("InvalidInstanceType", "DescribeInstanceTypes", InstanceTypes=["m9.huge"])

    @inlineCallbacks
    def test_pages(self) -> Steps:
        """Pages give every type once."""
        found: list[str] = []
        parameters: dict[str, Any] = {"MaxResults": 5}
        while True:
            answer = yield self.ask("DescribeInstanceTypes", **parameters)
            found += [each["InstanceType"] for each in answer["InstanceTypes"]]
            if "NextToken" not in answer:
                break
            parameters["NextToken"] = answer["NextToken"]
        self.assertEqual(found, sorted(BUILT_IN))
        yield self.refused("InvalidParameterValue", "DescribeInstanceTypes", MaxResults=101)


class PlaceTests(EC2Case):
    """Regions, zones and the account."""

    @inlineCallbacks
    def test_regions(self) -> Steps:
        """The cloud is one region."""
        answer = yield self.ask("DescribeRegions")
        region = {"OptInStatus": "opt-in-not-required", "RegionName": REGION, "Endpoint": ENDPOINT}
        self.assertEqual(answer["Regions"], [region])
        self.assertEqual((yield self.ask("DescribeRegions", **by("region-name", "x*")))["Regions"], [])
        message = yield self.refused("InvalidParameterValue", "DescribeRegions", RegionNames=["mars"])
        self.assertEqual(message, "Invalid region: [mars]")

    @inlineCallbacks
    def test_zones(self) -> Steps:
        """Zones are those of hosts, and available while one of these is."""
        [zone] = (yield self.ask("DescribeAvailabilityZones"))["AvailabilityZones"]
        self.assertEqual((zone["ZoneName"], zone["RegionName"], zone["State"]), ("nova", REGION, "available"))
        yield self.cloud.hosts.set_disabled(ANN, "node1", None, True, "rest")
        [zone] = (yield self.ask("DescribeAvailabilityZones", ZoneNames=["nova"]))["AvailabilityZones"]
        self.assertEqual((zone["State"], len(zone["Messages"])), ("unavailable", 1))
        answer = yield self.ask("DescribeAvailabilityZones", **by("state", "available"))
        self.assertEqual(answer["AvailabilityZones"], [])
        message = yield self.refused("InvalidParameterValue", "DescribeAvailabilityZones", ZoneNames=["mars"])
        self.assertEqual(message, "Invalid availability zone: [mars]")

    @inlineCallbacks
    def test_account(self) -> Steps:
        """The project's limits, all or those named."""
        answer = yield self.ask("DescribeAccountAttributes")
        found = {
            each["AttributeName"]: [value["AttributeValue"] for value in each["AttributeValues"]]
            for each in answer["AccountAttributes"]
        }
        self.assertEqual(found["max-instances"], ["20"])
        self.assertEqual((found["supported-platforms"], found["default-vpc"]), (["VPC"], [vpc_id("alpha")]))
        self.assertEqual(found["max-elastic-ips"], ["5"])
        answer = yield self.ask("DescribeAccountAttributes", AttributeNames=["default-vpc"])
        self.assertEqual(len(answer["AccountAttributes"]), 1)
        yield self.refused("InvalidParameterValue", "DescribeAccountAttributes", AttributeNames=["colour"])
