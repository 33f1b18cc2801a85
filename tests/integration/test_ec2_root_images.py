"""
Images of instances that boot from volumes, on a whole cloud.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.model.instance import Instance
from tests.integration.test_ec2_launch_root import MAPPING, ROOT, RootCase
from tests.unit.ec2_stage import BOB

Steps = Generator[Deferred[Any], Any, Any]


class CaptureTests(RootCase):
    """
    Images of instances that boot from volumes.
    """

    @inlineCallbacks
    def captured(self, record: Instance, **parameters: Any) -> Steps:
        """CreateImage, and wait until it is available: what DescribeImages shows."""
        made = yield self.ask("CreateImage", InstanceId=record.id, Name="captured", **parameters)

        @inlineCallbacks
        def there() -> Steps:
            [image] = (yield self.ask("DescribeImages", ImageIds=[made["ImageId"]]))["Images"]
            self.assertNotEqual(image["State"], "failed", image.get("StateReason"))
            return image["State"] == "available" and image

        return (yield self.whole.until(there))

    @inlineCallbacks
    def until_attached(self, id: str) -> Steps:
        """Wait until all of its volumes are attached."""

        @inlineCallbacks
        def attached() -> Steps:
            [record] = yield self.whole.get(id)
            return {disk.state for disk in record.disks} == {"attached"}

        yield self.whole.until(attached)

    @inlineCallbacks
    def boots(self, id: str) -> Steps:
        """How often a guest was booted."""
        text = yield self.host.hypervisor.console_output(id)
        return text.count(b"Booting")

    @inlineCallbacks
    def test_stopped_for_it(self) -> Steps:
        """Its host stops and starts it; the image has snapshots of all volumes, and boots."""
        record = yield self.running({"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}})
        yield self.until_volumes((1, "in-use"), (2, "in-use"))
        yield self.until_attached(record.id)
        image = yield self.captured(record)
        self.assertEqual((image["RootDeviceType"], image["RootDeviceName"]), ("ebs", ROOT))
        self.assertEqual({each["DeviceName"] for each in image["BlockDeviceMappings"]}, {ROOT, "/dev/sdf"})
        self.assertEqual((yield self.boots(record.id)), 2)
        [still] = yield self.whole.get(record.id)
        self.assertEqual((still.state, still.order), ("running", record.order))
        again = yield self.running(ImageId=image["ImageId"])
        self.assertEqual(len(again.disks), 2)
        [volume] = (yield self.ask("DescribeVolumes", VolumeIds=[again.root.volume]))["Volumes"]
        self.assertIn(volume["SnapshotId"], [each["Ebs"]["SnapshotId"] for each in image["BlockDeviceMappings"]])
        yield self.whole.sound()

    @inlineCallbacks
    def test_lent(self) -> Steps:
        """Volumes that their host can't copy while a guest has them are copied when it is started again, or runs on."""
        self.driver.clones = False
        record = yield self.running({"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}})
        yield self.until_volumes((1, "in-use"), (2, "in-use"))
        yield self.until_attached(record.id)
        image = yield self.captured(record)
        self.assertEqual((yield self.boots(record.id)), 2)
        yield self.ask("DeregisterImage", ImageId=image["ImageId"])
        yield self.captured(record, NoReboot=True)
        self.assertEqual(((yield self.boots(record.id)), self.driver.lent), (2, set()))
        yield self.whole.sound()

    @inlineCallbacks
    def test_left_running(self) -> Steps:
        """With NoReboot it runs on, and a stopped one stays stopped."""
        record = yield self.running()
        image = yield self.captured(record, NoReboot=True)
        self.assertEqual((yield self.boots(record.id)), 1)
        yield self.ask("DeregisterImage", ImageId=image["ImageId"])
        yield self.ask("StopInstances", InstanceIds=[record.id])
        yield self.reached(record.id, "stopped")
        yield self.captured(record)
        self.assertEqual((yield self.domain(record.id)).state, "stopped")

    @inlineCallbacks
    def test_not_copied(self) -> Steps:
        """Where a snapshot can't be made the image fails, and the instance runs again."""
        record = yield self.running()
        self.driver.rehearsal.tell("snapshot fail always")
        made = yield self.ask("CreateImage", InstanceId=record.id, Name="broken")

        @inlineCallbacks
        def failed() -> Steps:
            [image] = (yield self.ask("DescribeImages", ImageIds=[made["ImageId"]]))["Images"]
            return image["State"] == "failed"

        yield self.whole.until(failed)

        @inlineCallbacks
        def up() -> Steps:
            return (yield self.domain(record.id)).state == "running"

        yield self.whole.until(up)
        [still] = yield self.whole.get(record.id)
        self.assertEqual(still.state, "running")

    @inlineCallbacks
    def test_not_started_again(self) -> Steps:
        """Where the machine does not come up again the image is made all the same, and the instance is stopped."""
        record = yield self.running()
        self.host.hypervisor.rehearsal.tell("wake fail always")
        yield self.captured(record)
        stopped = yield self.reached(record.id, "stopped")
        self.assertEqual(stopped.reason.code, "Server.InternalError")
        yield self.ask("StartInstances", InstanceIds=[record.id])
        yield self.reached(record.id, "running")

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """An image can't be made without the root, nor of others' instances."""
        record = yield self.running()
        mappings = [{"DeviceName": ROOT, "NoDevice": ""}]
        wanted = {"InstanceId": record.id, "Name": "without"}
        yield self.refused(MAPPING, "CreateImage", **wanted, BlockDeviceMappings=mappings)
        yield self.refused("InvalidInstanceID.NotFound", "CreateImage", BOB, **wanted)
