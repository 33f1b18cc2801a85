"""
Instances that boot from volumes, on a whole cloud.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.metadata.tree import Place, listing, metadata
from fabric.cloud.retry import until_written
from fabric.cloud.sources import Guest
from fabric.model.instance import Instance
from fabric.model.network import Network
from fabric.model.quota import Quota
from fabric.testing.cloud import OPERATOR
from tests.integration.test_ec2_volumes import StorageCase, by
from tests.unit.ec2_stage import ANN, BOB, SERVER

Steps = Generator[Deferred[Any], Any, Any]

ROOT = "/dev/xvda"
MAPPING = "InvalidBlockDeviceMapping"


class RootCase(StorageCase):
    """
    A cloud with an image whose root is a snapshot of 2 GiB.
    """

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        self.snap = yield self.snapshot((yield self.volume(2)))
        [volume] = yield self.ids()
        yield self.ask("DeleteVolume", VolumeId=volume)
        root = {"DeviceName": ROOT, "Ebs": {"SnapshotId": self.snap}}
        answer = yield self.ask("RegisterImage", Name="rooted", RootDeviceName=ROOT, BlockDeviceMappings=[root])
        self.image = answer["ImageId"]
        self.host = self.whole.hosts["node1"]

    def asked(self, name: str, **parameters: Any) -> Any:
        """A request of ann's."""
        return self.ask(name, **parameters)

    def launch(self, *mappings: Any, **parameters: Any) -> Any:
        """An instance of the image, as it was launched: its id."""
        wanted = {"ImageId": self.image, **parameters}
        if mappings:
            wanted["BlockDeviceMappings"] = list(mappings)
        return self.run_instances(**wanted)

    @inlineCallbacks
    def running(self, *mappings: Any, **parameters: Any) -> Steps:
        """The same, when it runs: its record."""
        [id] = yield self.launch(*mappings, **parameters)
        return (yield self.reached(id, "running"))

    @inlineCallbacks
    def reached(self, id: str, state: str) -> Steps:
        """Wait for an instance's state; its record."""

        @inlineCallbacks
        def there() -> Steps:
            [record] = yield self.whole.get(id)
            if state != "terminated":
                self.assertNotEqual(record.state, "terminated", record.reason)
            return record.state == state and record

        return (yield self.whole.until(there))

    @inlineCallbacks
    def domain(self, id: str) -> Steps:
        """What the host has of an instance, None for nothing."""
        found = yield self.host.hypervisor.domains()
        return next((domain for domain in found if domain.id == id), None)

    @inlineCallbacks
    def booted_from(self, id: str) -> Steps:
        """What the guest's console says that it booted from last."""
        text = (yield self.host.hypervisor.console_output(id)).decode()
        return text.rpartition(", root ")[2].partition(" ")[0]

    @inlineCallbacks
    def until_volumes(self, *wanted: tuple[int, str]) -> Steps:
        """Wait until these are all volumes, by size and state."""

        @inlineCallbacks
        def there() -> Steps:
            found = (yield self.ask("DescribeVolumes"))["Volumes"]
            return sorted((each["Size"], each["State"]) for each in found) == sorted(wanted)

        yield self.whole.until(there)

    @inlineCallbacks
    def nothing_left(self) -> Steps:
        """Wait until there are no volumes, machines or claims; then all is sound."""
        yield self.until_volumes()

        @inlineCallbacks
        def nothing() -> Steps:
            holdings = yield self.host.volumes.describe()
            return not holdings.volumes and not (yield self.host.hypervisor.domains())

        yield self.whole.until(nothing)
        usage = yield self.cloud.quotas.usage(ANN.project)
        self.assertEqual([usage[name] for name in ("instances", "cores", "volumes", "gigabytes")], [0, 0, 0, 0])
        yield self.whole.sound()


class RootTests(RootCase):
    """
    Their life.
    """

    @inlineCallbacks
    def test_life(self) -> Steps:
        """It boots from a volume of the snapshot, shows it, keeps it while stopped, and it goes with it."""
        record = yield self.running()
        [disk] = record.disks
        self.assertEqual((disk.device, disk.state, disk.delete_on_termination), (ROOT, "attached", True))
        self.assertEqual((yield self.booted_from(record.id)), disk.volume)
        self.assertEqual((yield self.domain(record.id)).disks, {ROOT: disk.volume})
        [shown] = yield self.listed(InstanceIds=[record.id])
        self.assertEqual((shown["RootDeviceType"], shown["RootDeviceName"]), ("ebs", ROOT))
        [mapping] = shown["BlockDeviceMappings"]
        self.assertEqual((mapping["DeviceName"], mapping["Ebs"]["Status"]), (ROOT, "attached"))
        [volume] = (yield self.ask("DescribeVolumes", VolumeIds=[disk.volume]))["Volumes"]
        self.assertEqual((volume["SnapshotId"], volume["Size"], volume["State"]), (self.snap, 2, "in-use"))
        for state, action in (("stopped", "StopInstances"), ("running", "StartInstances")):
            yield self.ask(action, InstanceIds=[record.id])
            again = yield self.reached(record.id, state)
            self.assertEqual([each.volume for each in again.disks], [disk.volume])
        self.assertEqual((yield self.booted_from(record.id)), disk.volume)
        yield self.ask("RebootInstances", InstanceIds=[record.id])
        yield self.ask("TerminateInstances", InstanceIds=[record.id])
        yield self.reached(record.id, "terminated")
        yield self.nothing_left()

    @inlineCallbacks
    def test_told(self) -> Steps:
        """Attributes, filters and the metadata door say where the root is."""
        record = yield self.running({"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}})
        [other] = yield self.run_instances(ImageId=SERVER)
        named = yield self.ask("DescribeInstanceAttribute", InstanceId=record.id, Attribute="rootDeviceName")
        self.assertEqual(named["RootDeviceName"], {"Value": ROOT})
        mapped = yield self.ask("DescribeInstanceAttribute", InstanceId=record.id, Attribute="blockDeviceMapping")
        self.assertEqual([each["DeviceName"] for each in mapped["BlockDeviceMappings"]], ["/dev/sdf", ROOT])
        self.assertEqual((yield self.matching("root-device-type", "ebs")), [record.id])
        self.assertEqual((yield self.matching("root-device-type", "instance-store")), [other])
        self.assertEqual((yield self.matching("root-device-name", ROOT)), [record.id])
        [network] = yield self.store.read(Network, [record.ports[0].network])
        devices = metadata(Guest(record, network.record), Place("r", "s"), "latest")["block-device-mapping"]
        self.assertEqual(devices, {"ami": ROOT.encode(), "ebs1": b"/dev/sdf", "root": ROOT.encode()})
        self.assertEqual(listing(devices), b"ami\nebs1\nroot")

    @inlineCallbacks
    def test_no_room_on_the_host(self) -> Steps:
        """It takes no disk of its host, only processors and memory."""
        record = yield self.running()
        views = yield self.cloud.hosts.views()
        self.assertEqual((views[0].load["disk_gb"], views[0].load["vcpus"]), (0, 1))
        yield self.ask("StopInstances", InstanceIds=[record.id])
        yield self.reached(record.id, "stopped")
        yield self.whole.sound()

    @inlineCallbacks
    def test_waits_for_its_root(self) -> Steps:
        """Nothing boots before the root volume is made, whatever the sweep does meanwhile."""
        self.driver.rehearsal.tell("create slow 1.5")
        [id] = yield self.launch()

        @inlineCallbacks
        def placed() -> Steps:
            [record] = yield self.whole.get(id)
            return record.host and record

        record = yield self.whole.until(placed)
        self.assertEqual((record.state, record.bootable), ("pending", False))
        self.assertEqual((yield self.domain(id)), None)
        record = yield self.reached(id, "running")
        self.assertEqual((yield self.booted_from(id)), record.disks[0].volume)

    @inlineCallbacks
    def test_many(self) -> Steps:
        """Each instance of a launch boots from a volume of its own."""
        wanted = {"ImageId": self.image, "InstanceType": "m1.tiny", "MinCount": 3, "MaxCount": 3}
        answer = yield self.ask("RunInstances", **wanted)
        ids = [each["InstanceId"] for each in answer["Instances"]]
        records = yield self.whole.until_state("running", *ids)
        self.assertEqual(len({record.disks[0].volume for record in records}), 3)
        for record in records:
            self.assertEqual((yield self.booted_from(record.id)), record.disks[0].volume)

    @inlineCallbacks
    def test_template(self) -> Steps:
        """A launch template says the same of the root as a launch."""
        root = {"DeviceName": ROOT, "Ebs": {"VolumeSize": 3, "DeleteOnTermination": False}}
        data = {"ImageId": self.image, "InstanceType": "m1.tiny", "BlockDeviceMappings": [root]}
        yield self.ask("CreateLaunchTemplate", LaunchTemplateName="rooted", LaunchTemplateData=data)
        answer = yield self.ask("RunInstances", LaunchTemplate={"LaunchTemplateName": "rooted"}, MinCount=1, MaxCount=1)
        record = yield self.reached(answer["Instances"][0]["InstanceId"], "running")
        self.assertFalse(record.disks[0].delete_on_termination)
        yield self.until_volumes((3, "in-use"))
        of = yield self.ask("GetLaunchTemplateData", InstanceId=record.id)
        ebs = {"VolumeSize": 3, "VolumeType": "standard", "DeleteOnTermination": False}
        self.assertEqual(of["LaunchTemplateData"]["BlockDeviceMappings"], [{"DeviceName": ROOT, "Ebs": ebs}])
        yield self.ask("CreateLaunchTemplate", LaunchTemplateName="like", LaunchTemplateData=of["LaunchTemplateData"])
        answer = yield self.ask("RunInstances", LaunchTemplate={"LaunchTemplateName": "like"}, MinCount=1, MaxCount=1)
        yield self.reached(answer["Instances"][0]["InstanceId"], "running")
        yield self.until_volumes((3, "in-use"), (3, "in-use"))
        bad = data | {"BlockDeviceMappings": [{"DeviceName": "/dev/sdb", "VirtualName": "floppy"}]}
        yield self.refused(MAPPING, "CreateLaunchTemplate", LaunchTemplateName="bad", LaunchTemplateData=bad)


class MappingTests(RootCase):
    """
    What a launch may say of the root.
    """

    @inlineCallbacks
    def test_larger_and_kept(self) -> Steps:
        """The root may be larger than its snapshot, of another type, and outlive its instance."""
        ebs = {"VolumeSize": 5, "VolumeType": "gp3", "DeleteOnTermination": False}
        tags = [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]
        record = yield self.running({"DeviceName": ROOT, "Ebs": ebs}, TagSpecifications=tags)
        [volume] = (yield self.ask("DescribeVolumes"))["Volumes"]
        self.assertEqual((volume["Size"], volume["VolumeType"], volume["SnapshotId"]), (5, "gp3", self.snap))
        self.assertEqual(volume["Tags"], tags[0]["Tags"])
        yield self.ask("TerminateInstances", InstanceIds=[record.id])
        yield self.until_volumes((5, "available"))
        yield self.whole.sound()

    @inlineCallbacks
    def test_tags_of_all(self) -> Steps:
        """Tags of volumes are those of every volume of the launch, also of a root that no mapping names."""
        tags = [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]
        yield self.running(TagSpecifications=tags)
        yield self.running({"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}, TagSpecifications=tags)
        volumes = (yield self.ask("DescribeVolumes"))["Volumes"]
        self.assertEqual([volume.get("Tags") for volume in volumes], [tags[0]["Tags"]] * 3)

    @inlineCallbacks
    def test_what_is_not_said(self) -> Steps:
        """What a mapping leaves open is as the image says."""
        root = {"DeviceName": ROOT, "Ebs": {"SnapshotId": self.snap, "VolumeType": "gp2", "DeleteOnTermination": False}}
        answer = yield self.ask("RegisterImage", Name="kept", RootDeviceName=ROOT, BlockDeviceMappings=[root])
        mapping = {"DeviceName": "xvda", "Ebs": {"VolumeSize": 4}}
        record = yield self.running(mapping, ImageId=answer["ImageId"])
        [disk] = record.disks
        self.assertEqual((disk.device, disk.delete_on_termination), (ROOT, False))
        [volume] = (yield self.ask("DescribeVolumes"))["Volumes"]
        self.assertEqual((volume["VolumeType"], volume["Size"]), ("gp2", 4))

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """What can't be said of the root is refused as on AWS, and nothing is made."""
        other = yield self.snapshot((yield self.volume(1)))
        yield self.ask("DeleteVolume", VolumeId=(yield self.ids())[0])
        yield self.until_volumes()
        wanted = {"InstanceType": "m1.tiny", "MinCount": 1, "MaxCount": 1}
        small = f"Volume of size 1GB is smaller than snapshot '{self.snap}', expect size >= 2GB"
        for mapping, words in (
            ({"Ebs": {"VolumeSize": 1}}, small),
            ({"Ebs": {"SnapshotId": other}}, "snapshotId cannot be modified on root device"),
            ({"Ebs": {"VolumeType": "st1", "VolumeSize": 9}}, "A root device can't be of volume type st1"),
            ({"NoDevice": ""}, "The root device xvda can't be left out, nor be an instance store volume"),
            ({"VirtualName": "ephemeral0"}, "The root device xvda can't be left out, nor be an instance store volume"),
        ):
            mappings = [{"DeviceName": ROOT, **mapping}]
            message = yield self.refused(
                MAPPING, "RunInstances", **wanted, ImageId=self.image, BlockDeviceMappings=mappings
            )
            self.assertEqual(message, words)
        twice = [{"DeviceName": name, "Ebs": {"VolumeSize": 3}} for name in (ROOT, "xvda")]
        yield self.refused(MAPPING, "RunInstances", **wanted, ImageId=self.image, BlockDeviceMappings=twice)
        for mapping in ({"Ebs": {"VolumeSize": 30}}, {"Ebs": {"DeleteOnTermination": False}}, {"NoDevice": ""}):
            mappings = [{"DeviceName": "/dev/sda1", **mapping}]
            yield self.refused(MAPPING, "RunInstances", **wanted, ImageId=SERVER, BlockDeviceMappings=mappings)
        self.assertEqual((yield self.listed()), [])
        self.assertEqual((yield self.ids()), [])

    @inlineCallbacks
    def test_delete_on_termination(self) -> Steps:
        """ModifyInstanceAttribute says whether volumes, the root too, go with their instance."""
        record = yield self.running({"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}})

        def said(device: str, goes: bool, **others: Any) -> Any:
            mapping = {"DeviceName": device, "Ebs": {"DeleteOnTermination": goes}}
            return {"InstanceId": record.id, "BlockDeviceMappings": [mapping], **others}

        yield self.ask("ModifyInstanceAttribute", **said(ROOT, False, Attribute="blockDeviceMapping"))
        yield self.ask("ModifyInstanceAttribute", **said("/dev/sdf", False))
        yield self.ask("ModifyInstanceAttribute", **said("/dev/sdf", True))
        [shown] = yield self.listed(InstanceIds=[record.id])
        going = {each["DeviceName"]: each["Ebs"]["DeleteOnTermination"] for each in shown["BlockDeviceMappings"]}
        self.assertEqual(going, {ROOT: False, "/dev/sdf": True})
        [volume] = (yield self.ask("DescribeVolumes", **by("size", "2")))["Volumes"]
        self.assertFalse(volume["Attachments"][0]["DeleteOnTermination"])
        message = yield self.refused(
            "InvalidInstanceAttributeValue", "ModifyInstanceAttribute", **said("/dev/sdz", True)
        )
        self.assertEqual(message, "No device is currently mapped at /dev/sdz")
        yield self.refused("InvalidInstanceID.NotFound", "ModifyInstanceAttribute", BOB, **said(ROOT, True))
        mixed = said(ROOT, True, DisableApiTermination={"Value": True})
        yield self.refused("InvalidParameterCombination", "ModifyInstanceAttribute", **mixed)
        silent = {"InstanceId": record.id, "BlockDeviceMappings": [{"DeviceName": ROOT}]}
        yield self.refused("MissingParameter", "ModifyInstanceAttribute", **silent)
        yield self.ask("TerminateInstances", InstanceIds=[record.id])
        yield self.until_volumes((2, "available"))
        yield self.whole.sound()


class ExchangeTests(RootCase):
    """
    Roots that are taken away.
    """

    @inlineCallbacks
    def test_exchange(self) -> Steps:
        """A stopped instance's root comes off, it does not start without one, and boots from another."""
        record = yield self.running()
        root = record.disks[0].volume
        for force in (False, True):
            message = yield self.refused("OperationNotPermitted", "DetachVolume", VolumeId=root, Force=force)
        self.assertEqual(message, f"Unable to detach root volume '{root}' from instance '{record.id}'")
        yield self.ask("StopInstances", InstanceIds=[record.id])
        yield self.reached(record.id, "stopped")
        yield self.ask("DetachVolume", VolumeId=root)
        yield self.until_volumes((2, "available"))
        message = yield self.refused("IncorrectState", "StartInstances", InstanceIds=[record.id])
        self.assertIn(f"Instance does not have a volume attached at root ({ROOT})", message)
        yield self.refused("IncorrectState", "CreateImage", InstanceId=record.id, Name="nothing there")
        [shown] = yield self.listed(InstanceIds=[record.id])
        self.assertEqual((shown["RootDeviceType"], shown.get("BlockDeviceMappings")), ("ebs", []))
        other = yield self.volume(4)
        yield self.ask("AttachVolume", VolumeId=other, InstanceId=record.id, Device=ROOT)
        yield self.ask("StartInstances", InstanceIds=[record.id])
        yield self.reached(record.id, "running")
        self.assertEqual((yield self.booted_from(record.id)), other)
        self.assertEqual((yield self.domain(record.id)).disks, {ROOT: other})
        yield self.ask("TerminateInstances", InstanceIds=[record.id])
        yield self.until_volumes((2, "available"), (4, "available"))
        yield self.whole.sound()

    @inlineCallbacks
    def test_place_is_taken(self) -> Steps:
        """Nothing is attached where the root is, be it a volume or the host's own disk."""
        record = yield self.running()
        other = yield self.volume(1)
        where = {"VolumeId": other, "InstanceId": record.id, "Device": ROOT}
        yield self.refused("InvalidParameterValue", "AttachVolume", **where)
        answer = yield self.ask("RegisterImage", Name="plain", ImageLocation="x/y.img", RootDeviceName="/dev/sda1")
        plain = yield self.running(ImageId=answer["ImageId"])
        where = {"VolumeId": other, "InstanceId": plain.id, "Device": "/dev/sda1"}
        yield self.refused("InvalidParameterValue", "AttachVolume", **where)


class FailureTests(RootCase):
    """
    Roots that can't be.
    """

    @inlineCallbacks
    def ended(self, id: str, words: str) -> Steps:
        """See that an instance ended for a reason, and left nothing."""
        record = yield self.reached(id, "terminated")
        self.driver.rehearsal.forget()
        self.assertEqual(record.reason.code, "Server.InternalError")
        self.assertIn(words, record.reason.message)
        yield self.nothing_left()

    @inlineCallbacks
    def test_not_made(self) -> Steps:
        """Where the root can't be made, the instance ends with the reason."""
        self.driver.rehearsal.tell("create fail always")
        [id] = yield self.launch()
        yield self.ended(id, "told to fail")

    @inlineCallbacks
    def test_other_volume_not_made(self) -> Steps:
        """Where another of its volumes can't be made before it runs, root and all go."""
        self.driver.rehearsal.tell("create slow 0.5")
        self.driver.rehearsal.tell("create fail always")
        [id] = yield self.launch({"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}})
        yield self.ended(id, "told to fail")

    @inlineCallbacks
    def test_no_room(self) -> Steps:
        """Where no volume host has room for the root, the instance ends with the reason."""
        yield self.cloud.hosts.set_disabled(OPERATOR, "node1", "volume", True)
        [id] = yield self.launch()
        yield self.ended(id, "no volume host has room")

    @inlineCallbacks
    def test_not_given(self) -> Steps:
        """Where the volume host does not give the root away, the instance ends with the reason."""
        self.driver.rehearsal.tell("export fail always")
        [id] = yield self.launch()
        yield self.ended(id, "told to fail")

    @inlineCallbacks
    def test_not_booted(self) -> Steps:
        """Where the machine does not come up, its root goes, too."""
        self.host.hypervisor.rehearsal.tell("spawn fail always")
        [id] = yield self.launch()
        yield self.ended(id, "told to fail")

    @inlineCallbacks
    def test_failed_start(self) -> Steps:
        """A start that fails leaves it stopped, with its root."""
        record = yield self.running()
        yield self.ask("StopInstances", InstanceIds=[record.id])
        yield self.reached(record.id, "stopped")
        self.driver.rehearsal.tell("export fail")
        yield self.ask("StartInstances", InstanceIds=[record.id])

        @inlineCallbacks
        def back() -> Steps:
            [found] = yield self.whole.get(record.id)
            return found.state == "stopped" and found.reason is not None and found

        found = yield self.whole.until(back)
        self.assertEqual([disk.state for disk in found.disks], ["attached"])
        yield self.ask("StartInstances", InstanceIds=[record.id])
        yield self.reached(record.id, "running")

    @inlineCallbacks
    def test_terminated_while_waiting(self) -> Steps:
        """One that is terminated before its root is made leaves nothing."""
        self.driver.rehearsal.tell("create slow 0.7")
        [id] = yield self.launch()
        yield self.ask("TerminateInstances", InstanceIds=[id])
        yield self.reached(id, "terminated")
        yield self.nothing_left()

    @inlineCallbacks
    def test_deadline(self) -> Steps:
        """One whose root is never made says so when its time is over."""
        self.driver.rehearsal.tell("create slow 3")
        [id] = yield self.launch()

        @inlineCallbacks
        def placed() -> Steps:
            [record] = yield self.whole.get(id)
            return bool(record.host)

        yield self.whole.until(placed)

        @inlineCallbacks
        def aged() -> Steps:
            [stored] = yield self.store.read(Instance, [id])
            transaction = self.store.transaction("test")
            transaction.update(stored, attrs.evolve(stored.record, changed_at=1.0, review_at=1.0))
            yield self.store.commit(transaction)

        yield until_written(aged)
        record = yield self.reached(id, "terminated")
        self.assertIn("its root volume was not made in time", record.reason.message)
        yield self.nothing_left()

    @inlineCallbacks
    def test_quota(self) -> Steps:
        """Roots count for the quota of volumes: beyond it, nothing is launched."""
        yield self.write(Quota(ANN.project, ANN.project, {"gigabytes": 3}))
        wanted = {"ImageId": self.image, "InstanceType": "m1.tiny"}
        yield self.refused("VolumeLimitExceeded", "RunInstances", **wanted, MinCount=2, MaxCount=2)
        self.assertEqual((yield self.listed()), [])
        answer = yield self.ask("RunInstances", **wanted, MinCount=1, MaxCount=5)
        self.assertEqual(len(answer["Instances"]), 1)

    @inlineCallbacks
    def test_tenancy(self) -> Steps:
        """Others launch it only when it is shared, and then without a right to the snapshot itself."""
        wanted = {"ImageId": self.image, "InstanceType": "m1.tiny", "MinCount": 1, "MaxCount": 1}
        yield self.refused("InvalidAMIID.NotFound", "RunInstances", BOB, **wanted)
        permission = {"Add": [{"UserId": BOB.project}]}
        yield self.ask("ModifyImageAttribute", ImageId=self.image, LaunchPermission=permission)
        answer = yield self.ask("RunInstances", BOB, **wanted)
        id = answer["Instances"][0]["InstanceId"]
        record = yield self.reached(id, "running")
        yield self.refused("InvalidVolume.NotFound", "DetachVolume", VolumeId=record.disks[0].volume)
        yield self.refused("InvalidInstanceID.NotFound", "StartInstances", InstanceIds=[id])
        yield self.refused("InvalidSnapshot.NotFound", "DescribeSnapshots", BOB, SnapshotIds=[self.snap])
