"""
Launches with volumes, on a whole cloud.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.model.image import Image, ImageDisk
from fabric.model.instance import Instance
from fabric.model.quota import Quota
from tests.integration.test_ec2_volumes import StorageCase
from tests.unit.ec2_stage import BOB, SERVER

Steps = Generator[Deferred[Any], Any, Any]

DISKS = [
    {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 2}},
    {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 3, "DeleteOnTermination": False, "VolumeType": "gp2"}},
]
WANTED = {"ImageId": SERVER, "InstanceType": "m1.tiny", "MinCount": 1, "MaxCount": 1}


class LaunchDiskTests(StorageCase):
    """C{BlockDeviceMapping} of RunInstances."""

    def asked(self, name: str, **parameters: Any) -> Any:
        """A request of ann's."""
        return self.ask(name, **parameters)

    @inlineCallbacks
    def attached(self, id: str, count: int) -> Steps:
        """Wait until an instance runs with so many volumes attached; its record."""

        @inlineCallbacks
        def there() -> Steps:
            [stored] = yield self.store.read(Instance, [id])
            record = stored.record
            self.assertNotEqual(record.state, "terminated", record.reason)
            done = [disk for disk in record.disks if disk.state == "attached"]
            return record.state == "running" and len(done) == count and record

        return (yield self.whole.until(there))

    @inlineCallbacks
    def test_launch(self) -> Steps:
        """Volumes are made, attached and shown; on termination those go that are to."""
        tags = [
            {"ResourceType": "volume", "Tags": [{"Key": "v", "Value": "1"}]},
            {"ResourceType": "instance", "Tags": [{"Key": "i", "Value": "2"}]},
        ]
        [id] = yield self.run_instances(BlockDeviceMappings=DISKS, TagSpecifications=tags)
        record = yield self.attached(id, 2)
        self.assertEqual(record.tags, {"i": "2"})
        [shown] = yield self.listed(InstanceIds=[id])
        self.assertEqual(
            [(each["DeviceName"], each["Ebs"]["DeleteOnTermination"]) for each in shown["BlockDeviceMappings"]],
            [("/dev/sdf", True), ("/dev/sdg", False)],
        )
        volumes = (yield self.ask("DescribeVolumes"))["Volumes"]
        self.assertEqual(
            [(each["Size"], each["State"], each["VolumeType"], each["Tags"][0]["Key"]) for each in volumes],
            [(2, "in-use", "standard", "v"), (3, "in-use", "gp2", "v")],
        )
        yield self.ask("TerminateInstances", InstanceIds=[id])

        @inlineCallbacks
        def left() -> Steps:
            found = (yield self.ask("DescribeVolumes"))["Volumes"]
            return [(each["Size"], each["State"]) for each in found] == [(3, "available")]

        yield self.whole.until(left)
        yield self.whole.sound()

    @inlineCallbacks
    def test_each_its_own(self) -> Steps:
        """Each instance of a launch has volumes of its own; by a template as well."""
        yield self.ask(
            "CreateLaunchTemplate",
            LaunchTemplateName="disks",
            LaunchTemplateData={"ImageId": SERVER, "InstanceType": "m1.tiny", "BlockDeviceMappings": DISKS[:1]},
        )
        answer = yield self.ask("RunInstances", LaunchTemplate={"LaunchTemplateName": "disks"}, MinCount=2, MaxCount=2)
        seen = set()
        for each in answer["Instances"]:
            record = yield self.attached(each["InstanceId"], 1)
            seen.add(record.disks[0].volume)
        self.assertEqual(len(seen), 2)

    @inlineCallbacks
    def test_snapshot(self) -> Steps:
        """A volume begins with a snapshot, which must be the caller's to use."""
        volume = yield self.volume()
        snapshot = yield self.snapshot(volume)
        mapping = [{"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": snapshot}}]
        yield self.refused("InvalidSnapshot.NotFound", "RunInstances", BOB, **WANTED, BlockDeviceMappings=mapping)
        [id] = yield self.run_instances(BlockDeviceMappings=mapping)
        yield self.attached(id, 1)
        filters = [{"Name": "snapshot-id", "Values": [snapshot]}]
        [made] = (yield self.ask("DescribeVolumes", Filters=filters))["Volumes"]
        self.assertEqual((made["Size"], made["SnapshotId"]), (1, snapshot))

    @inlineCallbacks
    def test_of_the_image(self) -> Steps:
        """An image's volumes are made, but for what the launch omits or says otherwise."""
        snapshot = yield self.snapshot((yield self.volume()))
        disks = (ImageDisk("/dev/sdf", snapshot, 1), ImageDisk("/dev/sdg", "", 2), ImageDisk("/dev/sdh", "", 2))
        yield self.write(Image("ami-0000000a", "alpha", "with disks", "x", root_device="/dev/sda1", disks=disks))
        mappings = [
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 4}},
            {"DeviceName": "/dev/sdg", "NoDevice": ""},
            {"DeviceName": "/dev/sdi", "Ebs": {"VolumeSize": 5}},
        ]
        [id] = yield self.run_instances(ImageId="ami-0000000a", BlockDeviceMappings=mappings)
        record = yield self.attached(id, 3)
        self.assertEqual(sorted(disk.device for disk in record.disks), ["/dev/sdf", "/dev/sdh", "/dev/sdi"])
        filters = [{"Name": "attachment.instance-id", "Values": [id]}]
        made = (yield self.ask("DescribeVolumes", Filters=filters))["Volumes"]
        self.assertEqual([(each["Size"], each["SnapshotId"]) for each in made], [(4, snapshot), (2, ""), (5, "")])

    @inlineCallbacks
    def test_quota(self) -> Steps:
        """A launch whose volumes pass the quota makes nothing at all."""
        yield self.write(Quota("alpha", "alpha", {"gigabytes": 9}))
        yield self.refused(
            "VolumeLimitExceeded",
            "RunInstances",
            **WANTED | {"MinCount": 2, "MaxCount": 2},
            BlockDeviceMappings=DISKS,
        )
        self.assertEqual((yield self.ids()), [])
        self.assertEqual((yield self.listed()), [])
        answer = yield self.ask("RunInstances", **WANTED | {"MaxCount": 5}, BlockDeviceMappings=DISKS)
        self.assertEqual(len(answer["Instances"]), 1)
        yield self.attached(answer["Instances"][0]["InstanceId"], 2)

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """What can't be mapped is refused, and nothing is made."""
        for code, mapping in (
            ("InvalidBlockDeviceMapping", {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 9}}),
            ("UnsupportedOperation", {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 9, "Encrypted": True}}),
            ("UnsupportedOperation", {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 9, "Iops": 100}}),
            ("InvalidParameterValue", {"DeviceName": "disk", "Ebs": {"VolumeSize": 9}}),
            ("InvalidParameterValue", {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 99999}}),
            ("InvalidBlockDeviceMapping", {"DeviceName": "/dev/sdf", "Ebs": {"VolumeType": "gp2"}}),
            ("InvalidSnapshotID.Malformed", {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": "x"}}),
            ("InvalidSnapshot.NotFound", {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": "snap-12345678"}}),
        ):
            yield self.refused(code, "RunInstances", **WANTED, BlockDeviceMappings=[mapping])
        yield self.refused("InvalidBlockDeviceMapping", "RunInstances", **WANTED, BlockDeviceMappings=DISKS[:1] * 2)
        self.assertEqual((yield self.listed()), [])
        self.assertEqual((yield self.ids()), [])

    @inlineCallbacks
    def test_no_room(self) -> Steps:
        """An instance whose volume no host has room for ends with the reason, and gives all back."""
        mapping = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 9000}}]
        for host in self.whole.hosts.values():
            yield self.whole.cloud.hosts.set_disabled(_operator(), host.name, "volume", True)
        [id] = yield self.run_instances(BlockDeviceMappings=mapping)
        yield self.whole.until_state("terminated", id)
        [record] = yield self.whole.get(id)
        self.assertIn("vol-", record.reason.message)

        @inlineCallbacks
        def gone() -> Steps:
            [record] = yield self.whole.get(id)
            return not record.on_host

        yield self.whole.until(gone)


def _operator() -> Any:
    from fabric.testing.cloud import OPERATOR

    return OPERATOR
