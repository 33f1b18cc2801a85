"""
Volumes and snapshots as botocore sees them, over a whole cloud in one process.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import DeferredList, inlineCallbacks

from fabric.api.ec2.actions.catalog import ec2_actions
from fabric.api.ec2.errors import EC2Error
from fabric.cloud.assembly import QUOTAS, Rules
from fabric.testing.cloud import CALLER, SAMPLE, STRANGER, make_cloud
from tests.unit.ec2_stage import ENDPOINT, REGION, EC2Case, compiled, views

Steps = Generator[Any, Any, None]

NONE = "vol-00000000000000009"


def by(name: str, *values: str) -> dict[str, Any]:
    """One filter."""
    return {"Filters": [{"Name": name, "Values": list(values)}]}


def tagged(resource: str, **tags: str) -> dict[str, Any]:
    """Tags at creation."""
    given = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"TagSpecifications": [{"ResourceType": resource, "Tags": given}]}


class StorageCase(EC2Case):
    """
    A cloud whose workers work.
    """

    @inlineCallbacks
    def setUp(self) -> Steps:
        rules = Rules(ready_keys=0, resend_after=0.5, quotas=QUOTAS | {"volumes": 12, "snapshots": 6})
        self.whole = yield make_cloud(self, rules=rules, views=views())
        self.cloud, self.store = self.whole.cloud, self.whole.store
        self.registry = ec2_actions(self.cloud, views(), REGION, ENDPOINT)
        self.requests, self.answers = compiled(tuple(self.registry.names()))
        self.driver = self.whole.hosts["node1"].volumes

    def asked(self, name: str, **parameters: Any) -> Any:
        """A request of the project's."""
        return self.ask(name, CALLER, **parameters)

    @inlineCallbacks
    def until_listed(self, action: str, list_name: str, state: str, **parameters: Any) -> Generator[Any, Any, Any]:
        """What a waiter does: ask until all that is listed is in a state."""

        @inlineCallbacks
        def there() -> Generator[Any, Any, Any]:
            found = (yield self.asked(action, **parameters))[list_name]
            return found and all(each["State"] == state for each in found) and found

        return (yield self.whole.until(there))

    @inlineCallbacks
    def volume(self, size: int = 1, **parameters: Any) -> Generator[Any, Any, str]:
        """A volume that is available."""
        made = yield self.asked("CreateVolume", AvailabilityZone="nova", Size=size, **parameters)
        yield self.until_listed("DescribeVolumes", "Volumes", "available", VolumeIds=[made["VolumeId"]])
        return made["VolumeId"]  # type: ignore[no-any-return]

    @inlineCallbacks
    def machine(self) -> Generator[Any, Any, str]:
        """An instance that runs."""
        [id] = yield self.run_instances(1, CALLER, ImageId=SAMPLE)
        yield self.whole.until_state("running", id)
        return id  # type: ignore[no-any-return]

    @inlineCallbacks
    def snapshot(self, volume: str, **parameters: Any) -> Generator[Any, Any, str]:
        """A snapshot that is complete."""
        made = yield self.asked("CreateSnapshot", VolumeId=volume, **parameters)
        yield self.until_listed("DescribeSnapshots", "Snapshots", "completed", SnapshotIds=[made["SnapshotId"]])
        return made["SnapshotId"]  # type: ignore[no-any-return]

    @inlineCallbacks
    def until_refused(self, code: str, name: str, **parameters: Any) -> Steps:
        """What the waiter for something deleted does."""

        @inlineCallbacks
        def refused() -> Generator[Any, Any, bool]:
            try:
                yield self.asked(name, **parameters)
            except EC2Error as error:
                return error.code == code
            return False

        yield self.whole.until(refused)

    @inlineCallbacks
    def ids(self, action: str = "DescribeVolumes", **parameters: Any) -> Generator[Any, Any, list[str]]:
        """The ids that a listing shows."""
        answer = yield self.asked(action, **parameters)
        [found] = [value for value in answer.values() if isinstance(value, list)]
        key = "SnapshotId" if action == "DescribeSnapshots" else "VolumeId"
        return [each[key] for each in found]


class VolumeTests(StorageCase):
    """Volumes."""

    @inlineCallbacks
    def test_life(self) -> Steps:
        """Created, listed, deleted: the waiters for it finish."""
        made = yield self.asked(
            "CreateVolume", AvailabilityZone="nova", Size=2, VolumeType="gp2", **tagged("volume", a="b")
        )
        self.assertEqual((made["State"], made["Size"], made["Encrypted"]), ("creating", 2, False))
        id = made["VolumeId"]
        [volume] = yield self.until_listed("DescribeVolumes", "Volumes", "available", VolumeIds=[id])
        self.assertEqual((volume["VolumeType"], volume["AvailabilityZone"]), ("gp2", "nova"))
        self.assertEqual(volume["Tags"], [{"Key": "a", "Value": "b"}])
        self.assertEqual(volume["Attachments"], [])
        self.assertEqual((yield self.asked("DeleteVolume", VolumeId=id)), {})
        yield self.until_refused("InvalidVolume.NotFound", "DescribeVolumes", VolumeIds=[id])
        message = yield self.refused("InvalidVolume.NotFound", "DescribeVolumes", CALLER, VolumeIds=[id])
        self.assertEqual(message, f"The volume '{id}' does not exist.")

    @inlineCallbacks
    def test_create_refusals(self) -> Steps:
        """What can't be made is refused by name, and nothing is written."""
        zone = {"AvailabilityZone": "nova"}
        for code, parameters in (
            ("InvalidZone.NotFound", {"AvailabilityZone": "mars", "Size": 1}),
            ("MissingParameter", {"Size": 1}),
            ("MissingParameter", zone),
            ("InvalidParameterValue", {**zone, "Size": 0}),
            ("InvalidParameterValue", {**zone, "Size": 99999}),
            ("InvalidParameterValue", {**zone, "Size": 1, "VolumeType": "io1"}),
            ("UnsupportedOperation", {**zone, "Size": 1, "Encrypted": True}),
            ("UnsupportedOperation", {**zone, "Size": 1, "MultiAttachEnabled": True}),
            ("UnsupportedOperation", {**zone, "Size": 1, "Iops": 100}),
            ("UnsupportedOperation", {**zone, "Size": 1, "KmsKeyId": "k"}),
            ("InvalidParameterValue", {**zone, "Size": 1, **tagged("instance", a="b")}),
            ("InvalidSnapshot.NotFound", {**zone, "SnapshotId": "snap-00000000000000009"}),
            ("InvalidSnapshotID.Malformed", {**zone, "SnapshotId": "nonsense"}),
        ):
            yield self.refused(code, "CreateVolume", CALLER, **parameters)
        self.assertEqual((yield self.ids()), [])

    @inlineCallbacks
    def test_quota(self) -> Steps:
        """Beyond the quota: VolumeLimitExceeded."""
        for _ in range(12):
            yield self.asked("CreateVolume", AvailabilityZone="nova", Size=1)
        yield self.refused("VolumeLimitExceeded", "CreateVolume", CALLER, AvailabilityZone="nova", Size=1)
        yield self.until_listed("DescribeVolumes", "Volumes", "available")

    @inlineCallbacks
    def test_client_token(self) -> Steps:
        """One token makes one volume; with other parameters it is refused."""
        given = {"AvailabilityZone": "nova", "Size": 1, "ClientToken": "once"}
        made = yield DeferredList([self.asked("CreateVolume", **given) for _ in range(5)])
        self.assertEqual(len({answer["VolumeId"] for _, answer in made}), 1)
        yield self.refused("IdempotentParameterMismatch", "CreateVolume", CALLER, **{**given, "Size": 2})

    @inlineCallbacks
    def test_attach(self) -> Steps:
        """Attached and detached, volume and instance say so; the waiters finish."""
        volume, machine = (yield self.volume()), (yield self.machine())
        given = yield self.asked("AttachVolume", VolumeId=volume, InstanceId=machine, Device="/dev/sdf")
        self.assertEqual((given["State"], given["Device"], given["InstanceId"]), ("attaching", "/dev/sdf", machine))

        @inlineCallbacks
        def attached() -> Generator[Any, Any, Any]:
            [found] = (yield self.asked("DescribeVolumes", VolumeIds=[volume]))["Volumes"]
            return found["Attachments"][0]["State"] == "attached" and found

        found = yield self.whole.until(attached)
        self.assertEqual(found["State"], "in-use")
        [reservation] = (yield self.asked("DescribeInstances", InstanceIds=[machine]))["Reservations"]
        [mapping] = reservation["Instances"][0]["BlockDeviceMappings"]
        self.assertEqual(mapping["DeviceName"], "/dev/sdf")
        self.assertEqual((mapping["Ebs"]["VolumeId"], mapping["Ebs"]["Status"]), (volume, "attached"))
        for name, value in (("device-name", "/dev/sdf"), ("volume-id", volume), ("status", "attached")):
            answer = yield self.asked("DescribeInstances", **by("block-device-mapping." + name, value))
            self.assertEqual(len(answer["Reservations"]), 1, name)
        message = yield self.refused("VolumeInUse", "DeleteVolume", CALLER, VolumeId=volume)
        self.assertEqual(message, f"Volume {volume} is currently attached to {machine}")
        taken = yield self.asked("DetachVolume", VolumeId=volume, InstanceId=machine, Device="/dev/sdf")
        self.assertEqual(taken["State"], "detaching")
        yield self.until_listed("DescribeVolumes", "Volumes", "available", VolumeIds=[volume])
        yield self.whole.sound()

    @inlineCallbacks
    def test_attach_refusals(self) -> Steps:
        """EC2's own codes for what can't be attached or detached."""
        one, two, machine = (yield self.volume()), (yield self.volume()), (yield self.machine())
        yield self.asked("AttachVolume", VolumeId=one, InstanceId=machine, Device="/dev/sdf")
        for code, action, parameters in (
            ("VolumeInUse", "AttachVolume", {"VolumeId": one, "InstanceId": machine, "Device": "/dev/sdg"}),
            ("InvalidParameterValue", "AttachVolume", {"VolumeId": two, "InstanceId": machine, "Device": "/dev/sdf"}),
            ("InvalidParameterValue", "AttachVolume", {"VolumeId": two, "InstanceId": machine, "Device": "/dev/sda1"}),
            ("InvalidParameterValue", "AttachVolume", {"VolumeId": two, "InstanceId": machine, "Device": "vda"}),
            ("InvalidParameterValue", "AttachVolume", {"VolumeId": two, "InstanceId": machine, "Device": "x"}),
            ("InvalidVolume.NotFound", "AttachVolume", {"VolumeId": NONE, "InstanceId": machine, "Device": "sdg"}),
            ("InvalidVolumeID.Malformed", "AttachVolume", {"VolumeId": "x", "InstanceId": machine, "Device": "sdg"}),
            ("IncorrectState", "DetachVolume", {"VolumeId": two}),
            ("InvalidAttachment.NotFound", "DetachVolume", {"VolumeId": one, "InstanceId": "i-00000000000000009"}),
            ("InvalidVolume.NotFound", "DetachVolume", {"VolumeId": NONE}),
        ):
            yield self.refused(code, action, CALLER, **parameters)
        yield self.refused("InvalidVolume.NotFound", "DetachVolume", STRANGER, VolumeId=one)

    @inlineCallbacks
    def test_filters_and_pages(self) -> Steps:
        """Filters, tags, ids, and pages; only the project's own are listed."""
        made = []
        for n in range(6):
            made.append((yield self.volume(1 + n % 2, **tagged("volume", n=str(n)))))
        for name, values, expected in (
            ("size", ["1"], made[::2]),
            ("status", ["available"], made),
            ("status", ["in-use"], []),
            ("volume-id", [made[1]], made[1:2]),
            ("tag:n", ["1", "3"], [made[1], made[3]]),
            ("availability-zone", ["no*"], made),
            ("attachment.status", ["attached"], []),
            ("encrypted", ["false"], made),
            ("multi-attach-enabled", ["true"], []),
        ):
            self.assertEqual((yield self.ids(**by(name, *values))), expected, name)
        yield self.refused("InvalidParameterValue", "DescribeVolumes", CALLER, **by("nonsense", "x"))
        self.assertEqual((yield self.ids(VolumeIds=made[2:4])), made[2:4])
        first = yield self.asked("DescribeVolumes", MaxResults=5)
        rest = yield self.asked("DescribeVolumes", MaxResults=5, NextToken=first["NextToken"])
        self.assertEqual([each["VolumeId"] for each in (*first["Volumes"], *rest["Volumes"])], made)
        combined = {"MaxResults": 5, "VolumeIds": made}
        yield self.refused("InvalidParameterCombination", "DescribeVolumes", CALLER, **combined)
        self.assertEqual((yield self.ask("DescribeVolumes", STRANGER))["Volumes"], [])
        yield self.asked("CreateTags", Resources=[made[0]], Tags=[{"Key": "late", "Value": "x"}])
        self.assertEqual((yield self.ids(**by("tag-key", "late"))), made[:1])
        found = yield self.asked("DescribeTags", **by("resource-type", "volume"))
        self.assertEqual(len(found["Tags"]), 7)

    @inlineCallbacks
    def test_status(self) -> Steps:
        """A volume that works is ok; it can be filtered by that."""
        id = yield self.volume()
        [status] = (yield self.asked("DescribeVolumeStatus"))["VolumeStatuses"]
        self.assertEqual((status["VolumeId"], status["VolumeStatus"]["Status"]), (id, "ok"))
        self.assertEqual((yield self.ids("DescribeVolumeStatus", **by("volume-status.status", "ok"))), [id])
        self.assertEqual((yield self.ids("DescribeVolumeStatus", **by("volume-status.status", "impaired"))), [])

    @inlineCallbacks
    def test_attributes(self) -> Steps:
        """AutoEnableIO is kept; I/O is always enabled."""
        id = yield self.volume()
        shown = yield self.asked("DescribeVolumeAttribute", VolumeId=id, Attribute="autoEnableIO")
        self.assertEqual(shown["AutoEnableIO"], {"Value": False})
        yield self.asked("ModifyVolumeAttribute", VolumeId=id, AutoEnableIO={"Value": True})
        shown = yield self.asked("DescribeVolumeAttribute", VolumeId=id, Attribute="autoEnableIO")
        self.assertEqual(shown["AutoEnableIO"], {"Value": True})
        self.assertEqual((yield self.asked("EnableVolumeIO", VolumeId=id)), {})
        yield self.refused("InvalidVolume.NotFound", "EnableVolumeIO", CALLER, VolumeId=NONE)
        shown = yield self.asked("DescribeVolumeAttribute", VolumeId=id, Attribute="productCodes")
        self.assertEqual(shown["ProductCodes"], [])

    @inlineCallbacks
    def test_modify(self) -> Steps:
        """A volume grows, and its modification is listed; anything else is refused."""
        id = yield self.volume(2)
        yield self.refused("InvalidVolumeModification.NotFound", "DescribeVolumesModifications", CALLER, VolumeIds=[id])
        yield self.refused("InvalidParameterValue", "ModifyVolume", CALLER, VolumeId=id, Size=1)
        yield self.refused("UnsupportedOperation", "ModifyVolume", CALLER, VolumeId=id, Size=3, VolumeType="gp3")
        change = (yield self.asked("ModifyVolume", VolumeId=id, Size=4))["VolumeModification"]
        self.assertEqual(
            (change["ModificationState"], change["OriginalSize"], change["TargetSize"]), ("modifying", 2, 4)
        )

        @inlineCallbacks
        def done() -> Generator[Any, Any, Any]:
            [found] = (yield self.asked("DescribeVolumesModifications", VolumeIds=[id]))["VolumesModifications"]
            return found["ModificationState"] == "completed" and found

        done_change = yield self.whole.until(done)
        self.assertEqual(done_change["Progress"], 100)
        [volume] = (yield self.asked("DescribeVolumes", VolumeIds=[id]))["Volumes"]
        self.assertEqual(volume["Size"], 4)
        answer = yield self.asked("DescribeVolumesModifications", **by("target-size", "4"))
        self.assertEqual(len(answer["VolumesModifications"]), 1)


class SnapshotTests(StorageCase):
    """Snapshots."""

    @inlineCallbacks
    def test_life(self) -> Steps:
        """Made, complete, restored, deleted; the waiter finishes."""
        volume = yield self.volume(2)
        self.driver.write(volume, "then")
        made = yield self.asked("CreateSnapshot", VolumeId=volume, Description="d", **tagged("snapshot", a="b"))
        self.assertEqual((made["State"], made["VolumeSize"], made["Description"]), ("pending", 2, "d"))
        id = made["SnapshotId"]
        [done] = yield self.until_listed("DescribeSnapshots", "Snapshots", "completed", SnapshotIds=[id])
        self.assertEqual((done["Progress"], done["Tags"]), ("100%", [{"Key": "a", "Value": "b"}]))
        restored = yield self.asked("CreateVolume", AvailabilityZone="nova", SnapshotId=id)
        self.assertEqual((restored["Size"], restored["SnapshotId"]), (2, id))
        yield self.until_listed("DescribeVolumes", "Volumes", "available", VolumeIds=[restored["VolumeId"]])
        self.assertEqual(self.driver.read(restored["VolumeId"]), "then")
        yield self.refused(
            "InvalidParameterValue", "CreateVolume", CALLER, AvailabilityZone="nova", SnapshotId=id, Size=1
        )
        self.assertEqual((yield self.asked("DeleteSnapshot", SnapshotId=id)), {})
        message = yield self.refused("InvalidSnapshot.NotFound", "DescribeSnapshots", CALLER, SnapshotIds=[id])
        self.assertEqual(message, f"The snapshot '{id}' does not exist.")
        yield self.refused("InvalidVolume.NotFound", "CreateSnapshot", CALLER, VolumeId=NONE)

    @inlineCallbacks
    def test_of_an_instance(self) -> Steps:
        """CreateSnapshots copies what an instance has."""
        one, two, machine = (
            (yield self.volume(**tagged("volume", k="v"))),
            (yield self.volume()),
            (yield self.machine()),
        )
        for id, device in ((one, "/dev/sdf"), (two, "/dev/sdg")):
            yield self.asked("AttachVolume", VolumeId=id, InstanceId=machine, Device=device)
        made = yield self.asked(
            "CreateSnapshots", InstanceSpecification={"InstanceId": machine}, CopyTagsFromSource="volume"
        )
        self.assertEqual([each["VolumeId"] for each in made["Snapshots"]], [one, two])
        self.assertEqual(made["Snapshots"][0]["Tags"], [{"Key": "k", "Value": "v"}])
        without = {"InstanceId": machine, "ExcludeBootVolume": True, "ExcludeDataVolumeIds": [two]}
        made = yield self.asked("CreateSnapshots", InstanceSpecification=without)
        self.assertEqual([each["VolumeId"] for each in made["Snapshots"]], [one])

    @inlineCallbacks
    def test_sharing(self) -> Steps:
        """Shared with a project or all, seen by it without tags, and taken back."""
        volume = yield self.volume()
        id = yield self.snapshot(volume, **tagged("snapshot", secret="s"))
        other = STRANGER.project
        shown = {"SnapshotId": id, "Attribute": "createVolumePermission"}
        yield self.refused("InvalidSnapshot.NotFound", "DescribeSnapshots", STRANGER, SnapshotIds=[id])
        wrong = {**shown, "OperationType": "add", "UserIds": ["*public"]}
        yield self.refused("InvalidAMIAttributeItemValue", "ModifySnapshotAttribute", CALLER, **wrong)
        yield self.asked("ModifySnapshotAttribute", **shown, OperationType="add", UserIds=[other])
        found = yield self.asked("DescribeSnapshotAttribute", **shown)
        self.assertEqual(found["CreateVolumePermissions"], [{"UserId": other}])
        [seen] = (yield self.ask("DescribeSnapshots", STRANGER))["Snapshots"]
        self.assertEqual((seen["SnapshotId"], seen["OwnerId"]), (id, CALLER.project))
        self.assertNotIn("Tags", seen)
        self.assertEqual((yield self.ask("DescribeSnapshots", STRANGER, **by("tag:secret", "s")))["Snapshots"], [])
        self.assertEqual((yield self.ask("DescribeSnapshots", STRANGER, OwnerIds=["self"]))["Snapshots"], [])
        mine = yield self.ask("DescribeSnapshots", STRANGER, RestorableByUserIds=["self"])
        self.assertEqual(len(mine["Snapshots"]), 1)
        yield self.refused("InvalidSnapshot.NotFound", "DeleteSnapshot", STRANGER, SnapshotId=id)
        permission = {"Add": [{"Group": "all"}], "Remove": [{"UserId": other}]}
        yield self.asked("ModifySnapshotAttribute", SnapshotId=id, CreateVolumePermission=permission)
        found = yield self.asked("DescribeSnapshotAttribute", **shown)
        self.assertEqual(found["CreateVolumePermissions"], [{"Group": "all"}])
        yield self.asked("ResetSnapshotAttribute", **shown)
        self.assertEqual((yield self.ask("DescribeSnapshots", STRANGER))["Snapshots"], [])
        yield self.refused("InvalidParameterCombination", "ModifySnapshotAttribute", CALLER, SnapshotId=id)

    @inlineCallbacks
    def test_copy(self) -> Steps:
        """A copy is a snapshot of its own; other regions there are none."""
        source = yield self.snapshot((yield self.volume()))
        given = {"SourceRegion": REGION, "SourceSnapshotId": source}
        made = yield self.asked("CopySnapshot", **given, Description="c", **tagged("snapshot", a="b"))
        self.assertEqual(made["Tags"], [{"Key": "a", "Value": "b"}])
        ids = [made["SnapshotId"]]
        yield self.until_listed("DescribeSnapshots", "Snapshots", "completed", SnapshotIds=ids)
        yield self.refused("InvalidParameterValue", "CopySnapshot", CALLER, **{**given, "SourceRegion": "mars"})
        yield self.refused("UnsupportedOperation", "CopySnapshot", CALLER, **given, Encrypted=True)

    @inlineCallbacks
    def test_filters_and_pages(self) -> Steps:
        """Filters, owners, pages, and the quota."""
        volume = yield self.volume()
        made = []
        for n in range(6):
            made.append((yield self.snapshot(volume, Description=f"number {n}")))
        yield self.refused("SnapshotLimitExceeded", "CreateSnapshot", CALLER, VolumeId=volume)
        for name, values, expected in (
            ("volume-id", [volume], made),
            ("description", ["number 3"], made[3:4]),
            ("status", ["completed"], made),
            ("status", ["pending"], []),
            ("progress", ["100%"], made),
            ("owner-id", [CALLER.project], made),
            ("volume-size", ["1"], made),
        ):
            self.assertEqual((yield self.ids("DescribeSnapshots", **by(name, *values))), expected, name)
        first = yield self.asked("DescribeSnapshots", MaxResults=5, OwnerIds=["self"])
        rest = yield self.asked("DescribeSnapshots", MaxResults=5, OwnerIds=["self"], NextToken=first["NextToken"])
        self.assertEqual([each["SnapshotId"] for each in (*first["Snapshots"], *rest["Snapshots"])], made)
