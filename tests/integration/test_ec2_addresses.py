"""
Elastic addresses as botocore sees them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from fabric.model.address import FloatingRange
from tests.unit.ec2_stage import ANN, BOB, EC2Case

Steps = Generator[Any, Any, None]

RANGE = FloatingRange("pool-00000001", "public", "203.0.113.0/29")


def by(name: str, *values: str) -> dict[str, Any]:
    """One filter."""
    return {"Filters": [{"Name": name, "Values": list(values)}]}


class AddressTests(EC2Case):
    """What clients do with addresses."""

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        yield self.write(RANGE)

    @inlineCallbacks
    def held(self, **parameters: Any) -> Generator[Any, Any, list[dict[str, Any]]]:
        """DescribeAddresses."""
        return (yield self.ask("DescribeAddresses", **parameters))["Addresses"]  # type: ignore[no-any-return]

    @inlineCallbacks
    def test_allocate(self) -> Steps:
        """An address is held with its tags, and listed to its project only."""
        tags = [{"Key": "a", "Value": "b"}]
        made = yield self.ask("AllocateAddress", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": tags}])
        self.assertEqual((made["Domain"], made["PublicIpv4Pool"]), ("vpc", RANGE.id))
        self.assertRegex(made["AllocationId"], "^eipalloc-[0-9a-f]{17}$")
        self.assertRegex(made["PublicIp"], r"^203\.0\.113\.[1-6]$")
        [address] = yield self.held()
        self.assertEqual(address["Tags"], tags)
        self.assertEqual((address["PublicIp"], address["InstanceId"]), (made["PublicIp"], ""))
        self.assertNotIn("AssociationId", address)
        self.assertEqual((yield self.ask("DescribeAddresses", BOB)), {"Addresses": []})
        [tag] = (yield self.ask("DescribeTags", **by("resource-type", "elastic-ip")))["Tags"]
        self.assertEqual(tag["ResourceId"], made["AllocationId"])

    @inlineCallbacks
    def test_allocate_certain(self) -> Steps:
        """A certain address or pool is honoured or refused."""
        yield self.ask("AllocateAddress", Address="203.0.113.5", Domain="vpc", PublicIpv4Pool="amazon")
        yield self.refused("InvalidIPAddress.InUse", "AllocateAddress", BOB, Address="203.0.113.5")
        yield self.refused("InvalidAddress.NotFound", "AllocateAddress", Address="198.51.100.1")
        yield self.refused("InvalidParameterValue", "AllocateAddress", Address="a.b")
        yield self.refused("InvalidPublicIpv4PoolID.NotFound", "AllocateAddress", PublicIpv4Pool="pool-00000002")
        yield self.refused("UnsupportedOperation", "AllocateAddress", Domain="standard")
        yield self.ask("AllocateAddress", PublicIpv4Pool=RANGE.id)

    @inlineCallbacks
    def test_limits(self) -> Steps:
        """The project's limit and the cloud's end are told apart."""
        for _ in range(5):
            yield self.ask("AllocateAddress")
        yield self.refused("AddressLimitExceeded", "AllocateAddress")
        yield self.ask("AllocateAddress", BOB)
        yield self.refused("InsufficientAddressCapacity", "AllocateAddress", BOB)

    @inlineCallbacks
    def test_release(self) -> Steps:
        """By allocation or by itself; twice is an error; nobody's and another's are told apart."""
        made = yield self.ask("AllocateAddress")
        yield self.refused("AuthFailure", "ReleaseAddress", BOB, PublicIp=made["PublicIp"])
        yield self.refused("InvalidAllocationID.NotFound", "ReleaseAddress", BOB, AllocationId=made["AllocationId"])
        yield self.ask("ReleaseAddress", AllocationId=made["AllocationId"])
        yield self.refused("InvalidAllocationID.NotFound", "ReleaseAddress", AllocationId=made["AllocationId"])
        yield self.refused("InvalidAddress.NotFound", "ReleaseAddress", PublicIp=made["PublicIp"])
        again = yield self.ask("AllocateAddress", Address=made["PublicIp"])
        yield self.ask("ReleaseAddress", PublicIp=again["PublicIp"])
        yield self.refused("MissingParameter", "ReleaseAddress")
        self.assertEqual((yield self.held()), [])

    @inlineCallbacks
    def test_associate(self) -> Steps:
        """Address, instance and interface show each other; twice is as once."""
        [id] = yield self.boot()
        made = yield self.ask("AllocateAddress")
        first = yield self.ask("AssociateAddress", AllocationId=made["AllocationId"], InstanceId=id)
        self.assertEqual((yield self.ask("AssociateAddress", PublicIp=made["PublicIp"], InstanceId=id)), first)
        [address] = yield self.held()
        [instance] = yield self.listed()
        [interface] = instance["NetworkInterfaces"]
        self.assertEqual(address["AssociationId"], first["AssociationId"])
        self.assertEqual(address["InstanceId"], id)
        self.assertEqual(address["NetworkInterfaceId"], interface["NetworkInterfaceId"])
        self.assertEqual(address["PrivateIpAddress"], instance["PrivateIpAddress"])
        self.assertEqual(instance["PublicIpAddress"], made["PublicIp"])
        name = "ec2-" + made["PublicIp"].replace(".", "-") + ".ec2.internal"
        self.assertEqual(instance["PublicDnsName"], name)
        association = {"IpOwnerId": ANN.project, "PublicDnsName": name, "PublicIp": made["PublicIp"]}
        self.assertEqual(interface["Association"], association)
        self.assertEqual(interface["PrivateIpAddresses"][0]["Association"], association)
        yield self.refused("InvalidIPAddress.InUse", "ReleaseAddress", AllocationId=made["AllocationId"])
        self.assertEqual(self.queue.cast[-1][:2], ("network.node1", "associate"))

    @inlineCallbacks
    def test_associate_by_interface(self) -> Steps:
        """An interface may stand for its instance, and its private address be named."""
        [id] = yield self.boot()
        [instance] = yield self.listed()
        made = yield self.ask("AllocateAddress")
        wanted = {
            "AllocationId": made["AllocationId"],
            "NetworkInterfaceId": instance["NetworkInterfaces"][0]["NetworkInterfaceId"],
        }
        yield self.refused("InvalidParameterValue", "AssociateAddress", PrivateIpAddress="10.0.0.99", **wanted)
        yield self.refused("InvalidParameterCombination", "AssociateAddress", InstanceId=id, **wanted)
        yield self.ask("AssociateAddress", PrivateIpAddress=instance["PrivateIpAddress"], **wanted)
        self.assertEqual((yield self.matching("ip-address", made["PublicIp"])), [id])

    @inlineCallbacks
    def test_reassociate(self) -> Steps:
        """An address moves, however it is named, unless the request forbids it."""
        one, two = yield self.boot(2)
        made = yield self.ask("AllocateAddress")
        allocation, public = {"AllocationId": made["AllocationId"]}, {"PublicIp": made["PublicIp"]}
        yield self.ask("AssociateAddress", InstanceId=one, **allocation)
        refusal = {"InstanceId": two, "AllowReassociation": False}
        yield self.refused("Resource.AlreadyAssociated", "AssociateAddress", **refusal, **allocation)
        yield self.ask("AssociateAddress", InstanceId=two, **allocation)
        self.assertEqual((yield self.matching("ip-address", made["PublicIp"])), [two])
        yield self.ask("AssociateAddress", InstanceId=one, **public)
        self.assertEqual((yield self.matching("ip-address", made["PublicIp"])), [one])
        yield self.refused("Resource.AlreadyAssociated", "AssociateAddress", **refusal, **public)
        yield self.ask("AssociateAddress", InstanceId=two, AllowReassociation=True, **allocation)
        self.assertEqual((yield self.matching("ip-address", made["PublicIp"])), [two])

    @inlineCallbacks
    def test_associate_refusals(self) -> Steps:
        """What is not there, not ready or another's is refused in EC2's words."""
        made = yield self.ask("AllocateAddress")
        allocation = {"AllocationId": made["AllocationId"]}
        [pending] = yield self.run_instances()
        message = yield self.refused("InvalidInstanceID", "AssociateAddress", InstanceId=pending, **allocation)
        self.assertEqual(message, f"The pending instance '{pending}' is not in a valid state for this operation.")
        yield self.refused("InvalidInstanceID.NotFound", "AssociateAddress", InstanceId="i-00000000", **allocation)
        yield self.refused("InvalidInstanceID.Malformed", "AssociateAddress", InstanceId="nonsense", **allocation)
        yield self.refused("MissingParameter", "AssociateAddress", **allocation)
        yield self.refused("MissingParameter", "AssociateAddress", InstanceId=pending)
        [own] = yield self.boot()
        wrong = {"AllocationId": "eipalloc-00000000", "InstanceId": own}
        yield self.refused("InvalidAllocationID.NotFound", "AssociateAddress", **wrong)
        yield self.refused("InvalidAddress.NotFound", "AssociateAddress", PublicIp="203.0.113.9", InstanceId=own)
        [theirs] = yield self.boot(1, BOB)
        yield self.refused("AuthFailure", "AssociateAddress", BOB, PublicIp=made["PublicIp"], InstanceId=theirs)
        yield self.refused("InvalidInstanceID.NotFound", "AssociateAddress", InstanceId=theirs, **allocation)

    @inlineCallbacks
    def test_disassociate(self) -> Steps:
        """By association or by the address; the address stays held."""
        [id] = yield self.boot()
        made = yield self.ask("AllocateAddress")
        for _ in range(2):
            led = yield self.ask("AssociateAddress", PublicIp=made["PublicIp"], InstanceId=id)
            yield self.refused("InvalidAssociationID.NotFound", "DisassociateAddress", BOB, **led)
            yield self.ask("DisassociateAddress", **led)
            yield self.refused("InvalidAssociationID.NotFound", "DisassociateAddress", **led)
            yield self.ask("DisassociateAddress", PublicIp=made["PublicIp"])
        yield self.refused("AuthFailure", "DisassociateAddress", BOB, PublicIp=made["PublicIp"])
        yield self.refused("MissingParameter", "DisassociateAddress")
        [address] = yield self.held()
        self.assertNotIn("AssociationId", address)
        [instance] = yield self.listed()
        self.assertEqual((instance.get("PublicIpAddress"), instance["PublicDnsName"]), (None, ""))

    @inlineCallbacks
    def test_terminate(self) -> Steps:
        """A terminated instance leaves its address to the project."""
        [id] = yield self.boot()
        made = yield self.ask("AllocateAddress")
        yield self.ask("AssociateAddress", PublicIp=made["PublicIp"], InstanceId=id)
        yield self.ask("TerminateInstances", InstanceIds=[id])
        [address] = yield self.held()
        self.assertNotIn("AssociationId", address)
        self.assertEqual((yield self.store.check(False)), [])

    @inlineCallbacks
    def test_describe(self) -> Steps:
        """By address, by allocation, and by every filter."""
        [id] = yield self.boot()
        one = yield self.ask("AllocateAddress")
        two = yield self.ask("AllocateAddress")
        led = yield self.ask("AssociateAddress", PublicIp=one["PublicIp"], InstanceId=id)
        yield self.ask("CreateTags", Resources=[two["AllocationId"]], Tags=[{"Key": "k", "Value": "v"}])
        [instance] = yield self.listed()
        for parameters, wanted in (
            ({"PublicIps": [one["PublicIp"]]}, one),
            ({"AllocationIds": [two["AllocationId"]]}, two),
            (by("allocation-id", one["AllocationId"]), one),
            (by("association-id", led["AssociationId"]), one),
            (by("instance-id", id), one),
            (by("network-interface-id", "eni-" + id[2:]), one),
            (by("network-interface-owner-id", ANN.project), one),
            (by("private-ip-address", instance["PrivateIpAddress"]), one),
            (by("public-ip", two["PublicIp"]), two),
            (by("tag:k", "v"), two),
            (by("tag-key", "k"), two),
        ):
            found = yield self.held(**parameters)
            self.assertEqual([each["PublicIp"] for each in found], [wanted["PublicIp"]], parameters)
        for parameters, number in (
            (by("domain", "vpc"), 2),
            (by("domain", "standard"), 0),
            (by("instance-id", "i"), 0),
        ):
            self.assertEqual(len((yield self.held(**parameters))), number)
        yield self.refused("InvalidParameterValue", "DescribeAddresses", **by("colour", "red"))
        yield self.refused("InvalidAddress.NotFound", "DescribeAddresses", PublicIps=["203.0.113.99"])
        yield self.refused("InvalidAddress.NotFound", "DescribeAddresses", BOB, PublicIps=[one["PublicIp"]])
        yield self.refused("InvalidAllocationID.NotFound", "DescribeAddresses", AllocationIds=["eipalloc-00000000"])

    @inlineCallbacks
    def test_attribute(self) -> Steps:
        """Addresses have no reverse names here, and none can be set."""
        made = yield self.ask("AllocateAddress")
        found = yield self.ask("DescribeAddressesAttribute", Attribute="domain-name")
        self.assertEqual(found["Addresses"], [{"PublicIp": made["PublicIp"], "AllocationId": made["AllocationId"]}])
        self.assertIsNone(self.registry.find("ModifyAddressAttribute"))

    @inlineCallbacks
    def test_instance_filters(self) -> Steps:
        """Instances are found by what leads to them."""
        one, _ = yield self.boot(2)
        made = yield self.ask("AllocateAddress")
        led = yield self.ask("AssociateAddress", PublicIp=made["PublicIp"], InstanceId=one)
        [shown] = yield self.listed(InstanceIds=[one])
        for name, value in (
            ("ip-address", made["PublicIp"]),
            ("dns-name", shown["PublicDnsName"]),
            ("network-interface.association.public-ip", made["PublicIp"]),
            ("network-interface.association.allocation-id", made["AllocationId"]),
            ("network-interface.association.association-id", led["AssociationId"]),
            ("network-interface.association.ip-owner-id", ANN.project),
            ("network-interface.addresses.association.public-ip", made["PublicIp"]),
            ("network-interface.addresses.association.public-dns-name", shown["PublicDnsName"]),
        ):
            self.assertEqual((yield self.matching(name, value)), [one], name)
