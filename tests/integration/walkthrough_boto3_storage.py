"""
boto3's walk over volumes, snapshots and images.
"""

from __future__ import annotations

from typing import Any

from tests.integration.walking import equal, until
from tests.integration.walkthrough_boto3 import Boto3Base, by, tagged


class Boto3Storage(Boto3Base):
    """
    Disks, from the making of them to the last copy.
    """

    def run(self) -> None:
        """All of it."""
        self.snapshots: list[str] = []
        self.id = self.launches_with_disks()
        self.volume = self.makes_a_volume()
        self.attaches()
        self.grows()
        self.is_well()
        self.snaps()
        self.restores()
        self.shares()
        self.makes_images()
        self.detaches()
        self.ends()

    def launches_with_disks(self) -> str:
        """A launch makes its volumes: one goes with the instance, one stays."""
        disks = [
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}},
            {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 2, "DeleteOnTermination": False}},
        ]
        id = self.run_one(BlockDeviceMappings=disks, TagSpecifications=tagged("volume", walk=self.name))
        until("both attached", lambda: self.attached(id, "/dev/sdf") and self.attached(id, "/dev/sdg"))
        self.stays = self.attached(id, "/dev/sdg")
        self.goes = self.attached(id, "/dev/sdf")
        [tagged_too] = self.ec2.describe_volumes(VolumeIds=[self.stays])["Volumes"]
        assert {"Key": "walk", "Value": self.name} in tagged_too["Tags"], tagged_too
        return id

    def attached(self, id: str, device: str) -> str:
        """The volume that is attached there, or none."""
        for disk in self.instance(id)["BlockDeviceMappings"]:
            if disk["DeviceName"] == device and disk["Ebs"]["Status"] == "attached":
                return str(disk["Ebs"]["VolumeId"])
        return ""

    def shown(self, id: str) -> dict[str, Any]:
        """One volume."""
        [volume] = self.ec2.describe_volumes(VolumeIds=[id])["Volumes"]
        return volume  # type: ignore[no-any-return]

    def makes_a_volume(self) -> str:
        """With tags from the start, found by them; too large a one is refused."""
        made = self.ec2.create_volume(
            AvailabilityZone="nova", Size=1, VolumeType="gp2", TagSpecifications=tagged("volume", use=self.name)
        )
        id: str = made["VolumeId"]
        self.wait("volume_available", VolumeIds=[id])
        filters = [{"Name": "tag:use", "Values": [self.name]}]
        equal([each["VolumeId"] for each in self.ec2.describe_volumes(Filters=filters)["Volumes"]], [id])
        self.refused("VolumeLimitExceeded", self.ec2.create_volume, AvailabilityZone="nova", Size=16000)
        self.refused("InvalidZone.NotFound", self.ec2.create_volume, AvailabilityZone="mars", Size=1)
        return id

    def attaches(self) -> None:
        """To one instance at one device; then both show it."""
        self.ec2.attach_volume(VolumeId=self.volume, InstanceId=self.id, Device="/dev/sdh")
        self.wait("volume_in_use", VolumeIds=[self.volume])
        until("attached", lambda: self.attached(self.id, "/dev/sdh") == self.volume)
        equal(self.shown(self.volume)["Attachments"][0]["InstanceId"], self.id)
        again = {"VolumeId": self.volume, "InstanceId": self.id, "Device": "/dev/sdi"}
        self.refused("VolumeInUse", self.ec2.attach_volume, **again)
        self.refused("VolumeInUse", self.ec2.delete_volume, VolumeId=self.volume)

    def grows(self) -> None:
        """In use, and never back."""
        self.ec2.modify_volume(VolumeId=self.volume, Size=3)

        def grown() -> bool:
            found = self.ec2.describe_volumes_modifications(VolumeIds=[self.volume])["VolumesModifications"]
            return found[0]["ModificationState"] in ("optimizing", "completed")

        until("grown", grown)
        equal(self.shown(self.volume)["Size"], 3)
        self.refused("InvalidParameterValue", self.ec2.modify_volume, VolumeId=self.volume, Size=2)

    def is_well(self) -> None:
        """Its status and its attributes."""
        [status] = self.ec2.describe_volume_status(VolumeIds=[self.volume])["VolumeStatuses"]
        equal(status["VolumeStatus"]["Status"], "ok")
        self.ec2.modify_volume_attribute(VolumeId=self.volume, AutoEnableIO={"Value": True})
        found = self.ec2.describe_volume_attribute(VolumeId=self.volume, Attribute="autoEnableIO")
        equal(found["AutoEnableIO"], {"Value": True})
        mapping = [{"DeviceName": "/dev/sdh", "Ebs": {"DeleteOnTermination": True}}]
        self.ec2.modify_instance_attribute(InstanceId=self.id, BlockDeviceMappings=mapping)
        equal(self.shown(self.volume)["Attachments"][0]["DeleteOnTermination"], True)
        mapping[0]["Ebs"] = {"DeleteOnTermination": False}
        self.ec2.modify_instance_attribute(InstanceId=self.id, BlockDeviceMappings=mapping)

    def snaps(self) -> None:
        """One volume, all of an instance, and a copy of one."""
        one = self.ec2.create_snapshot(
            VolumeId=self.volume, Description="one", TagSpecifications=tagged("snapshot", walk=self.name)
        )["SnapshotId"]
        all = self.ec2.create_snapshots(
            InstanceSpecification={"InstanceId": self.id, "ExcludeBootVolume": True}, Description="all"
        )["Snapshots"]
        equal({each["VolumeId"] for each in all}, {self.volume, self.stays, self.goes})
        self.snapshots = [one, *(each["SnapshotId"] for each in all)]
        self.wait("snapshot_completed", SnapshotIds=self.snapshots)
        copied = self.ec2.copy_snapshot(SourceRegion="nova", SourceSnapshotId=one, Description="copy")["SnapshotId"]
        self.snapshots.append(copied)
        self.wait("snapshot_completed", SnapshotIds=[copied])
        [copy] = self.ec2.describe_snapshots(SnapshotIds=[copied])["Snapshots"]
        equal((copy["VolumeSize"], copy["Description"], copy["Progress"]), (3, "copy", "100%"))
        found = self.ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "tag:walk", "Values": [self.name]}])
        equal([each["SnapshotId"] for each in found["Snapshots"]], [one])

    def restores(self) -> None:
        """A volume from a snapshot is as large as it, or larger."""
        source = {"AvailabilityZone": "nova", "SnapshotId": self.snapshots[0]}
        self.refused("InvalidParameterValue", self.ec2.create_volume, **source, Size=1)
        id = self.ec2.create_volume(**source)["VolumeId"]
        self.wait("volume_available", VolumeIds=[id])
        made = self.shown(id)
        equal((made["Size"], made["SnapshotId"]), (3, self.snapshots[0]))
        self.ec2.delete_volume(VolumeId=id)
        self.wait("volume_deleted", VolumeIds=[id])
        self.refused("InvalidVolume.NotFound", self.ec2.describe_volumes, VolumeIds=[id])

    def shares(self) -> None:
        """With all, and with none again."""
        one = {"SnapshotId": self.snapshots[0], "Attribute": "createVolumePermission"}
        self.ec2.modify_snapshot_attribute(**one, OperationType="add", GroupNames=["all"])
        equal(self.ec2.describe_snapshot_attribute(**one)["CreateVolumePermissions"], [{"Group": "all"}])
        self.ec2.reset_snapshot_attribute(**one)
        equal(self.ec2.describe_snapshot_attribute(**one)["CreateVolumePermissions"], [])

    def makes_images(self) -> None:
        """Of an instance, with and without a reboot, and a copy, each launched or read."""
        disks = [{"DeviceName": device, "NoDevice": ""} for device in ("/dev/sdf", "/dev/sdg", "/dev/sdh")]
        images = []
        for number, plain in enumerate((False, True)):
            made = self.ec2.create_image(
                InstanceId=self.id, Name=f"{self.name}-{number}", NoReboot=plain, BlockDeviceMappings=disks
            )
            images.append(made["ImageId"])
        self.wait("image_exists", ImageIds=images)
        self.wait("image_available", ImageIds=images)
        self.wait("instance_running", InstanceIds=[self.id])
        self.refused("InvalidAMIName.Duplicate", self.ec2.create_image, InstanceId=self.id, Name=f"{self.name}-0")
        copy = self.ec2.copy_image(SourceRegion="nova", SourceImageId=images[0], Name=f"{self.name}-copy")["ImageId"]
        self.wait("image_available", ImageIds=[copy])
        launched = self.run_one(ImageId=copy)
        equal(self.instance(launched)["ImageId"], copy)
        self.end(launched)
        self.opens_an_image(images[0])
        for id in (*images, copy):
            self.ec2.deregister_image(ImageId=id)
        wanted = {"ImageId": copy, "MinCount": 1, "MaxCount": 1}
        self.refused(("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"), self.ec2.run_instances, **wanted)
        self.registers()

    def opens_an_image(self, id: str) -> None:
        """Its launch permissions and its description."""
        everyone = [{"Group": "all"}]
        self.ec2.modify_image_attribute(ImageId=id, LaunchPermission={"Add": everyone})
        permission = {"ImageId": id, "Attribute": "launchPermission"}
        equal(self.ec2.describe_image_attribute(**permission)["LaunchPermissions"], everyone)
        self.ec2.reset_image_attribute(**permission)
        equal(self.ec2.describe_image_attribute(**permission)["LaunchPermissions"], [])
        self.ec2.modify_image_attribute(ImageId=id, Description={"Value": "of a walk"})
        [image] = self.ec2.describe_images(ImageIds=[id])["Images"]
        equal((image["Description"], image["Public"]), ("of a walk", False))

    def registers(self) -> None:
        """From a snapshot of a root disk."""
        disk = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": self.snapshots[0], "DeleteOnTermination": True}}
        id = self.ec2.register_image(
            Name=f"{self.name}-registered",
            RootDeviceName="/dev/sda1",
            Architecture="x86_64",
            VirtualizationType="hvm",
            BlockDeviceMappings=[disk],
        )["ImageId"]
        self.wait("image_available", ImageIds=[id])
        self.refused("InvalidSnapshot.InUse", self.ec2.delete_snapshot, SnapshotId=self.snapshots[0])
        found = self.ec2.describe_images(Owners=["self"], Filters=by(name=f"{self.name}-registered"))["Images"]
        equal([image["ImageId"] for image in found], [id])
        equal(found[0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"], self.snapshots[0])
        self.ec2.deregister_image(ImageId=id)

    def detaches(self) -> None:
        """In peace, and by force."""
        self.ec2.detach_volume(VolumeId=self.volume)
        self.wait("volume_available", VolumeIds=[self.volume])
        equal(self.attached(self.id, "/dev/sdh"), "")
        self.ec2.attach_volume(VolumeId=self.volume, InstanceId=self.id, Device="/dev/sdj")
        until("attached again", lambda: self.attached(self.id, "/dev/sdj") == self.volume)
        self.ec2.detach_volume(VolumeId=self.volume, Force=True)
        self.wait("volume_available", VolumeIds=[self.volume])
        self.refused("IncorrectState", self.ec2.detach_volume, VolumeId=self.volume)

    def ends(self) -> None:
        """What was to go with the instance goes; the rest is deleted; nothing is left."""
        self.end(self.id)
        self.wait("volume_deleted", VolumeIds=[self.goes])
        self.wait("volume_available", VolumeIds=[self.stays])
        for id in (self.stays, self.volume):
            self.ec2.delete_volume(VolumeId=id)
        self.wait("volume_deleted", VolumeIds=[self.stays, self.volume])
        for id in self.snapshots:
            self.ec2.delete_snapshot(SnapshotId=id)
        filters = [{"Name": "snapshot-id", "Values": self.snapshots}]
        until("no snapshots", lambda: not self.ec2.describe_snapshots(Filters=filters)["Snapshots"])
