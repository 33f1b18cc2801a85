"""
Looking at instances, and the verbs on them, as botocore sees them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import inlineCallbacks

from fabric.model.instance import Instance
from fabric.store.interface import dashed
from tests.unit.ec2_stage import BOB, EC2Case

Steps = Generator[Any, Any, None]


class DescribeTests(EC2Case):
    """DescribeInstances."""

    @inlineCallbacks
    def test_nothing(self) -> Steps:
        """An account without instances has an empty list."""
        answer = yield self.ask("DescribeInstances")
        self.assertEqual(answer, {"Reservations": []})

    @inlineCallbacks
    def test_reservations(self) -> Steps:
        """The instances of one launch stand in one reservation, in order."""
        first = yield self.boot(3)
        second = yield self.boot()
        answer = yield self.ask("DescribeInstances")
        found = [[each["InstanceId"] for each in part["Instances"]] for part in answer["Reservations"]]
        self.assertEqual(found, [first, second])
        self.assertEqual({part["OwnerId"] for part in answer["Reservations"]}, {"alpha"})
        self.assertEqual([each["AmiLaunchIndex"] for each in answer["Reservations"][0]["Instances"]], [0, 1, 2])

    @inlineCallbacks
    def test_running(self) -> Steps:
        """A running instance shows state, address, name, zone and groups."""
        yield self.boot(TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "<a&b>"}]}])
        [instance] = yield self.listed()
        self.assertEqual(instance["State"], {"Code": 16, "Name": "running"})
        self.assertEqual(instance["PrivateIpAddress"], "10.0.0.10")
        self.assertEqual(instance["PrivateDnsName"], "ip-10-0-0-10.ec2.internal")
        self.assertEqual(instance["Placement"]["AvailabilityZone"], "nova")
        self.assertEqual([group["GroupName"] for group in instance["SecurityGroups"]], ["default"])
        self.assertEqual(instance["Tags"], [{"Key": "Name", "Value": "<a&b>"}])
        self.assertEqual(instance["LaunchTime"].timestamp(), self.clock.seconds())

    @inlineCallbacks
    def test_taken_address(self) -> Steps:
        """An address that the write itself takes from the pool stands in the view and its name."""
        [id] = yield self.run_instances()
        [stored] = yield self.store.read(Instance, [id])
        transaction = self.store.transaction("place")
        member = transaction.take("fixed:net-00000001")
        port = attrs.evolve(stored.record.ports[0], address=member, hostname="ip-" + dashed(member))
        transaction.update(stored, attrs.evolve(stored.record, ports=(port,), host="node1", on_host=True))
        yield self.store.commit(transaction)
        [instance] = yield self.listed()
        address = instance["PrivateIpAddress"]
        self.assertRegex(address, r"^10\.0\.0\.[0-9]+$")
        self.assertEqual(instance["PrivateDnsName"], f"ip-{address.replace('.', '-')}.ec2.internal")
        self.assertEqual((yield self.matching("private-ip-address", address)), [id])
        self.assertEqual((yield self.matching("private-dns-name", instance["PrivateDnsName"])), [id])

    @inlineCallbacks
    def test_terminated_has_no_address(self) -> Steps:
        """A terminated instance neither shows its address nor is found by it."""
        [id] = yield self.boot()
        yield self.ask("TerminateInstances", InstanceIds=[id])
        yield self.move([id], "vanish")
        [instance] = yield self.listed()
        self.assertNotIn("PrivateIpAddress", instance)
        self.assertEqual(instance["PrivateDnsName"], "")
        self.assertEqual((yield self.matching("private-ip-address", "10.0.0.10")), [])

    @inlineCallbacks
    def test_terminated_has_no_network(self) -> Steps:
        """A terminated instance shows no network and no interface, and is found by neither."""
        [id, other] = yield self.boot(2)
        [first, _] = yield self.listed()
        vpc, mac = first["VpcId"], first["NetworkInterfaces"][0]["MacAddress"]
        of_interface = (("status", "in-use"), ("attachment.device-index", "0"), ("vpc-id", vpc), ("mac-address", mac))
        wanted = [("vpc-id", vpc), *((f"network-interface.{name}", value) for name, value in of_interface)]
        for name, value in wanted:
            self.assertIn(first["InstanceId"], (yield self.matching(name, value)), name)
        yield self.ask("TerminateInstances", InstanceIds=[id, other])
        yield self.move([id, other], "vanish")
        for name, value in wanted:
            self.assertEqual((yield self.matching(name, value)), [], name)

    @inlineCallbacks
    def test_tenancy(self) -> Steps:
        """Another project's instances are neither listed nor found by id."""
        [id] = yield self.boot()
        self.assertEqual((yield self.listed(BOB)), [])
        message = yield self.refused("InvalidInstanceID.NotFound", "DescribeInstances", BOB, InstanceIds=[id])
        self.assertIn(id, message)

    @inlineCallbacks
    def test_by_id(self) -> Steps:
        """Ids choose; one that is named twice is listed once."""
        ids = yield self.boot(3)
        found = yield self.listed(InstanceIds=[ids[2], ids[0], ids[2]])
        self.assertEqual(sorted(each["InstanceId"] for each in found), sorted([ids[0], ids[2]]))

    @inlineCallbacks
    def test_unknown_ids(self) -> Steps:
        """An id that is none is malformed; one that nobody has is not found."""
        yield self.refused("InvalidInstanceID.Malformed", "DescribeInstances", InstanceIds=["vol-1"])
        message = yield self.refused(
            "InvalidInstanceID.NotFound", "DescribeInstances", InstanceIds=["i-12345678", "i-87654321"]
        )
        self.assertIn("i-12345678, i-87654321", message)

    @inlineCallbacks
    def test_unknown_id_with_hopeless_filter(self) -> Steps:
        """An id is looked for even where the filters can't match anything."""
        filters = [{"Name": "spot-instance-request-id", "Values": ["*"]}]
        yield self.refused(
            "InvalidInstanceID.NotFound", "DescribeInstances", InstanceIds=["i-12345678"], Filters=filters
        )
        [id] = yield self.boot()
        self.assertEqual((yield self.listed(InstanceIds=[id], Filters=filters)), [])

    @inlineCallbacks
    def test_pages(self) -> Steps:
        """MaxResults and NextToken give every instance once, in order."""
        ids = yield self.boot(12)
        found, parameters = [], {"MaxResults": 5}
        sizes = []
        while True:
            answer = yield self.ask("DescribeInstances", **parameters)
            page = [each["InstanceId"] for part in answer["Reservations"] for each in part["Instances"]]
            sizes.append(len(page))
            found += page
            if "NextToken" not in answer:
                break
            parameters["NextToken"] = answer["NextToken"]
        self.assertEqual((sizes, found), ([5, 5, 2], ids))

    @inlineCallbacks
    def test_many(self) -> Steps:
        """Without MaxResults all come, in one answer of many of the store's pages."""
        [id] = yield self.run_instances()
        [stored] = yield self.store.read(Instance, [id])
        many = [
            attrs.evolve(stored.record, id=f"i-{n:08x}", reservation=f"r-{n // 300:08x}", ports=(), launch_index=n)
            for n in range(700)
        ]
        yield self.write(*many)
        answer = yield self.ask("DescribeInstances")
        sizes = [len(part["Instances"]) for part in answer["Reservations"]]
        self.assertEqual(sizes, [1, 300, 300, 100])
        found = yield self.listed(Filters=[{"Name": "ebs-optimized", "Values": ["false"]}])
        self.assertEqual([each["InstanceId"] for each in found], [id, *(record.id for record in many)])

    @inlineCallbacks
    def test_bounds(self) -> Steps:
        """MaxResults below 5 is refused, above 1000 is 1000, with ids never."""
        [id] = yield self.boot()
        yield self.refused("InvalidParameterValue", "DescribeInstances", MaxResults=4)
        self.assertEqual(len((yield self.listed(MaxResults=5000))), 1)
        message = yield self.refused("InvalidParameterCombination", "DescribeInstances", MaxResults=5, InstanceIds=[id])
        self.assertEqual(message, "The parameter instancesSet cannot be used with the parameter maxResults")

    @inlineCallbacks
    def test_bad_token(self) -> Steps:
        """A token that no answer gave is refused."""
        message = yield self.refused("InvalidParameterValue", "DescribeInstances", MaxResults=5, NextToken="nonsense")
        self.assertEqual(message, "Unable to parse pagination token")

    @inlineCallbacks
    def test_token_of_another_action(self) -> Steps:
        """A token goes with the action that gave it."""
        yield self.boot(6)
        answer = yield self.ask("DescribeInstances", MaxResults=5)
        yield self.refused(
            "InvalidParameterValue", "DescribeInstanceStatus", MaxResults=5, NextToken=answer["NextToken"]
        )


class FilterTests(EC2Case):
    """Filters of DescribeInstances."""

    @inlineCallbacks
    def test_filed(self) -> Steps:
        """What the store files is found by EC2's names."""
        [running] = yield self.boot(ClientToken="tok")
        [pending] = yield self.run_instances(InstanceType="m1.small")
        for name, value in (
            ("instance-state-name", "running"),
            ("instance-state-code", "16"),
            ("instance-type", "m1.tiny"),
            ("private-ip-address", "10.0.0.10"),
            ("private-dns-name", "ip-10-0-0-10.ec2.internal"),
            ("private-dns-name", "ip-10-*"),
            ("client-token", "tok"),
            ("instance-id", running),
        ):
            self.assertEqual((yield self.matching(name, value)), [running], name)
        self.assertEqual((yield self.matching("image-id", "ami-*")), [running, pending])
        self.assertEqual((yield self.matching("availability-zone", "nova")), [running, pending])
        self.assertEqual((yield self.matching("availability-zone", "east")), [])
        self.assertEqual((yield self.matching("instance.group-name", "default")), [running, pending])

    @inlineCallbacks
    def test_values_are_alternatives(self) -> Steps:
        """One of a filter's values is enough; every filter must match."""
        first, second = yield self.boot(2)
        self.assertEqual((yield self.matching("instance-id", first, second, "i-00000000")), [first, second])
        both = [{"Name": "launch-index", "Values": ["1"]}, {"Name": "instance-state-name", "Values": ["running"]}]
        self.assertEqual([each["InstanceId"] for each in (yield self.listed(Filters=both))], [second])

    @inlineCallbacks
    def test_tags(self) -> Steps:
        """tag:KEY, tag-key and tag-value find; a backslash takes a star literally."""
        [starred] = yield self.boot(**_tags(Role="a*b"))
        [plain] = yield self.boot(**_tags(Role="aXb"))
        self.assertEqual((yield self.matching("tag:Role", "a*b")), [starred, plain])
        self.assertEqual((yield self.matching("tag:Role", "a\\*b")), [starred])
        self.assertEqual((yield self.matching("tag-key", "Role")), [starred, plain])
        self.assertEqual((yield self.matching("tag-value", "aXb")), [plain])
        self.assertEqual((yield self.matching("tag:role", "aXb")), [])

    @inlineCallbacks
    def test_launch_time(self) -> Steps:
        """A day's launches are found with a wildcard."""
        [early] = yield self.run_instances()
        self.clock.advance(86400)
        [late] = yield self.run_instances()
        [one, two] = yield self.listed()
        self.assertEqual((yield self.matching("launch-time", f"{one['LaunchTime']:%Y-%m-%dT}*")), [early])
        self.assertEqual((yield self.matching("launch-time", f"{two['LaunchTime']:%Y-%m-%dT%H:%M:%S}.000Z")), [late])

    @inlineCallbacks
    def test_unfiled(self) -> Steps:
        """What is not filed is read from the records."""
        [odd] = yield self.run_instances(Monitoring={"Enabled": True}, EbsOptimized=True)
        [plain] = yield self.run_instances()
        self.assertEqual((yield self.matching("monitoring-state", "enabled")), [odd])
        self.assertEqual((yield self.matching("ebs-optimized", "false")), [plain])
        self.assertEqual((yield self.matching("architecture", "x86_64", "arm64")), [odd, plain])
        self.assertEqual((yield self.matching("architecture", "arm*")), [])

    @inlineCallbacks
    def test_alike(self) -> Steps:
        """What is the same for all finds all or nothing."""
        [id] = yield self.run_instances()
        self.assertEqual((yield self.matching("owner-id", "alpha")), [id])
        self.assertEqual((yield self.matching("owner-id", "beta")), [])
        self.assertEqual((yield self.matching("tenancy", "def*")), [id])
        self.assertEqual((yield self.matching("vpc-id", "vpc-*")), [id])
        self.assertEqual((yield self.matching("spot-instance-request-id", "*")), [])

    @inlineCallbacks
    def test_unknown(self) -> Steps:
        """An unknown filter is refused by name."""
        message = yield self.refused(
            "InvalidParameterValue", "DescribeInstances", Filters=[{"Name": "colour", "Values": ["red"]}]
        )
        self.assertEqual(message, "The filter 'colour' is invalid")

    @inlineCallbacks
    def test_too_many_values(self) -> Steps:
        """More than 200 values in a request are refused."""
        filters = [{"Name": "instance-type", "Values": [f"t{n}" for n in range(201)]}]
        yield self.refused("FilterLimitExceeded", "DescribeInstances", Filters=filters)


class VerbTests(EC2Case):
    """Start, stop, reboot, terminate."""

    @inlineCallbacks
    def test_stop_and_start(self) -> Steps:
        """Both answer the state before and after, with the reason shown."""
        [id] = yield self.boot()
        answer = yield self.ask("StopInstances", InstanceIds=[id])
        self.assertEqual(_changes(answer["StoppingInstances"]), [(id, "running", "stopping")])
        [instance] = yield self.listed()
        self.assertEqual(instance["StateReason"]["Code"], "Client.UserInitiatedShutdown")
        self.assertIn("User initiated (", instance["StateTransitionReason"])
        yield self.move([id], "halt")
        answer = yield self.ask("StartInstances", InstanceIds=[id])
        self.assertEqual(_changes(answer["StartingInstances"]), [(id, "stopped", "pending")])

    @inlineCallbacks
    def test_force(self) -> Steps:
        """Force reaches the host."""
        [id] = yield self.boot()
        yield self.ask("StopInstances", InstanceIds=[id], Force=True)
        where, method, arguments = self.queue.cast[-1]
        self.assertEqual((where, method, arguments[-1]), ("compute.node1", "stop", True))

    @inlineCallbacks
    def test_hibernate(self) -> Steps:
        """Hibernation is refused by name."""
        [id] = yield self.boot()
        yield self.refused("UnsupportedOperation", "StopInstances", InstanceIds=[id], Hibernate=True)

    @inlineCallbacks
    def test_wrong_state(self) -> Steps:
        """A stopped instance can't be rebooted."""
        [id] = yield self.boot()
        yield self.ask("StopInstances", InstanceIds=[id])
        yield self.move([id], "halt")
        yield self.refused("IncorrectInstanceState", "RebootInstances", InstanceIds=[id])

    @inlineCallbacks
    def test_reboot(self) -> Steps:
        """A running instance is rebooted and stays running."""
        [id] = yield self.boot()
        yield self.ask("RebootInstances", InstanceIds=[id])
        self.assertEqual(self.queue.cast[-1][:2], ("compute.node1", "reboot"))
        self.assertEqual((yield self.listed())[0]["State"]["Name"], "running")

    @inlineCallbacks
    def test_reboot_terminated(self) -> Steps:
        """A terminated instance is passed over, as EC2's reference says; the others are rebooted."""
        [gone, id] = yield self.boot(2)
        yield self.ask("TerminateInstances", InstanceIds=[gone])
        for _ in range(2):
            yield self.ask("RebootInstances", InstanceIds=[gone, id])
            self.assertEqual(self.queue.cast[-1][:2], ("compute.node1", "reboot"))
            yield self.move([gone], "vanish")
        count = len(self.queue.cast)
        yield self.ask("RebootInstances", InstanceIds=[gone])
        self.assertEqual(len(self.queue.cast), count)

    @inlineCallbacks
    def test_terminate(self) -> Steps:
        """Terminating is answered for each id, and may be repeated."""
        ids = yield self.boot(2)
        for before in ("running", "shutting-down"):
            answer = yield self.ask("TerminateInstances", InstanceIds=ids)
            self.assertEqual(_changes(answer["TerminatingInstances"]), [(id, before, "shutting-down") for id in ids])

    @inlineCallbacks
    def test_protected(self) -> Steps:
        """Termination protection holds until it is taken away."""
        [id] = yield self.boot(DisableApiTermination=True)
        yield self.refused("OperationNotPermitted", "TerminateInstances", InstanceIds=[id])
        yield self.ask("ModifyInstanceAttribute", InstanceId=id, DisableApiTermination={"Value": False})
        yield self.ask("TerminateInstances", InstanceIds=[id])

    @inlineCallbacks
    def test_tenancy(self) -> Steps:
        """No verb reaches another project's instance, and none of one's own moves with it."""
        [id] = yield self.boot()
        [own] = yield self.boot(1, BOB)
        for verb in ("StartInstances", "StopInstances", "RebootInstances", "TerminateInstances"):
            yield self.refused("InvalidInstanceID.NotFound", verb, BOB, InstanceIds=[own, id])
        self.assertEqual([each["State"]["Name"] for each in (yield self.listed(BOB))], ["running"])

    @inlineCallbacks
    def test_malformed(self) -> Steps:
        """What is no id is malformed, and no id at all is missing."""
        yield self.refused("InvalidInstanceID.Malformed", "StopInstances", InstanceIds=["i-xyz"])
        yield self.refused("MissingParameter", "StopInstances", InstanceIds=[])


class StatusTests(EC2Case):
    """DescribeInstanceStatus."""

    @inlineCallbacks
    def test_running_only(self) -> Steps:
        """Only running instances are listed, unless all are asked for."""
        [running] = yield self.boot()
        [pending] = yield self.run_instances()
        answer = yield self.ask("DescribeInstanceStatus")
        [status] = answer["InstanceStatuses"]
        self.assertEqual((status["InstanceId"], status["InstanceStatus"]["Status"]), (running, "ok"))
        self.assertEqual(status["SystemStatus"]["Details"], [{"Name": "reachability", "Status": "passed"}])
        answer = yield self.ask("DescribeInstanceStatus", IncludeAllInstances=True)
        found = {each["InstanceId"]: each["InstanceStatus"]["Status"] for each in answer["InstanceStatuses"]}
        self.assertEqual(found, {running: "ok", pending: "not-applicable"})

    @inlineCallbacks
    def test_filters(self) -> Steps:
        """Status and state can be filtered by."""
        [running] = yield self.boot()
        yield self.run_instances()
        for name, value, count in (
            ("instance-status.status", "ok", 1),
            ("system-status.status", "not-applicable", 1),
            ("instance-status.reachability", "passed", 1),
            ("instance-status.status", "impaired", 0),
            ("instance-state-code", "0", 1),
            ("event.code", "*", 0),
        ):
            answer = yield self.ask(
                "DescribeInstanceStatus", IncludeAllInstances=True, Filters=[{"Name": name, "Values": [value]}]
            )
            self.assertEqual(len(answer["InstanceStatuses"]), count, (name, value))
        self.assertTrue(running)

    @inlineCallbacks
    def test_pages(self) -> Steps:
        """It has pages like DescribeInstances."""
        ids = yield self.boot(7)
        answer = yield self.ask("DescribeInstanceStatus", MaxResults=5)
        rest = yield self.ask("DescribeInstanceStatus", MaxResults=5, NextToken=answer["NextToken"])
        found = [each["InstanceId"] for each in answer["InstanceStatuses"] + rest["InstanceStatuses"]]
        self.assertEqual(found, ids)


class ConsoleTests(EC2Case):
    """GetConsoleOutput."""

    @inlineCallbacks
    def test_output(self) -> Steps:
        """What the host has, as base64."""
        [id] = yield self.boot()
        self.queue.answer = {"output": b64encode(b"login: \xff").decode(), "timestamp": 1_790_000_001.0}
        answer = yield self.ask("GetConsoleOutput", InstanceId=id)
        self.assertEqual(answer["Output"], b64encode(b"login: \xff").decode())
        self.assertEqual(answer["Timestamp"].timestamp(), 1_790_000_001.0)

    @inlineCallbacks
    def test_no_host_yet(self) -> Steps:
        """An instance without a host has printed nothing."""
        [id] = yield self.run_instances()
        answer = yield self.ask("GetConsoleOutput", InstanceId=id)
        self.assertEqual((answer["InstanceId"], answer["Output"]), (id, ""))

    @inlineCallbacks
    def test_tenancy(self) -> Steps:
        """Another project's console can't be read."""
        [id] = yield self.boot()
        yield self.refused("InvalidInstanceID.NotFound", "GetConsoleOutput", BOB, InstanceId=id)


def _changes(changes: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [
        (change["InstanceId"], change["PreviousState"]["Name"], change["CurrentState"]["Name"]) for change in changes
    ]


def _tags(**tags: str) -> dict[str, Any]:
    given = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"TagSpecifications": [{"ResourceType": "instance", "Tags": given}]}
