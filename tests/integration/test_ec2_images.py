"""
Images as botocore sees them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.cloud.access import Caller, permit
from fabric.cloud.assembly import QUOTAS, Rules, assemble
from fabric.cloud.captures import CaptureSpec
from fabric.cloud.launch import LaunchSpec
from fabric.errors import Denied
from fabric.image.interface import CaptureOrder, ImageReport
from fabric.model.codec import decode
from fabric.model.image import Image
from fabric.model.snapshot import Snapshot
from fabric.model.volume import NewDisk
from fabric.testing.cloud import CALLER, SAMPLE, make_cloud
from tests.unit.ec2_stage import ANN, BOB, LIMITS, NOW, REGION, SERVER, TINY, EC2Case

Steps = Generator[Any, Any, None]

SNAP = Snapshot("snap-00000001", ANN.project, "vol-00000001", 5, "node1", "nova", NOW, NOW, state="completed")
IMPATIENT = Rules(ready_keys=0, resend_after=0.3)
READER = Caller("ann", ANN.project, frozenset({"developer"}), "req")


def ebs(device: str, **what: Any) -> dict[str, Any]:
    """A mapping of a device."""
    return {"DeviceName": device, "Ebs": what}


class ImagesCase(EC2Case):
    """
    A cloud with a snapshot.
    """

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        yield self.write(SNAP)

    def _cloud(self) -> Any:
        rules = Rules(quotas=QUOTAS | LIMITS | {"images": 6}, ready_keys=0)
        queue: Any = self.queue
        self.parts = assemble(self.store, queue, self.clock, lambda act, *given: act(*given), rules)
        return self.parts.cloud

    @inlineCallbacks
    def images(self, caller: Caller = ANN, **parameters: Any) -> Generator[Any, Any, list[dict[str, Any]]]:
        """DescribeImages."""
        return (yield self.ask("DescribeImages", caller, **parameters))["Images"]  # type: ignore[no-any-return]

    @inlineCallbacks
    def image(self, id: str, caller: Caller = ANN) -> Generator[Any, Any, dict[str, Any]]:
        """One image."""
        [found] = yield self.images(caller, ImageIds=[id])
        return found  # type: ignore[no-any-return]

    @inlineCallbacks
    def register(self, name: str = "one", caller: Caller = ANN, **parameters: Any) -> Generator[Any, Any, str]:
        """RegisterImage of a location."""
        if "BlockDeviceMappings" not in parameters:
            parameters.setdefault("ImageLocation", "bucket/image.manifest.xml")
        return (yield self.ask("RegisterImage", caller, Name=name, **parameters))["ImageId"]  # type: ignore[no-any-return]

    @inlineCallbacks
    def filtered(self, name: str, *values: str) -> Generator[Any, Any, list[str]]:
        """The ids that a filter finds."""
        found = yield self.images(Filters=[{"Name": name, "Values": list(values)}])
        return [each["ImageId"] for each in found]


class RegisterTests(ImagesCase):
    """
    Entries made and forgotten.
    """

    @inlineCallbacks
    def test_location(self) -> Steps:
        """An image of a location is there with all that was said, can be launched, and is its project's."""
        tags = [{"Key": "a", "Value": "b"}]
        id = yield self.register(
            "my image (1)",
            Description="about it",
            Architecture="i386",
            KernelId="aki-00000000000000001",
            RamdiskId="ari-00000000000000001",
            VirtualizationType="hvm",
            EnaSupport=True,
            TagSpecifications=[{"ResourceType": "image", "Tags": tags}],
        )
        image = yield self.image(id)
        wanted = {
            "Name": "my image (1)",
            "Description": "about it",
            "Architecture": "i386",
            "KernelId": "aki-00000000000000001",
            "RamdiskId": "ari-00000000000000001",
            "ImageLocation": "bucket/image.manifest.xml",
            "RootDeviceType": "instance-store",
            "OwnerId": ANN.project,
            "State": "available",
            "Public": False,
            "Tags": tags,
        }
        self.assertEqual({name: image.get(name) for name in wanted}, wanted)
        [instance] = yield self.run_instances(ImageId=id)
        [shown] = yield self.listed(InstanceIds=[instance])
        self.assertEqual((shown["ImageId"], shown["KernelId"]), (id, "aki-00000000000000001"))
        yield self.refused("InvalidAMIID.NotFound", "DescribeImages", BOB, ImageIds=[id])
        yield self.refused("InvalidAMIID.NotFound", "RunInstances", BOB, ImageId=id, MinCount=1, MaxCount=1)

    @inlineCallbacks
    def test_snapshot(self) -> Steps:
        """An image of a snapshot has its root there, with the snapshot's size, and holds the snapshot."""
        extra = ebs("/dev/sdf", VolumeSize=3, VolumeType="gp2", DeleteOnTermination=False)
        root = ebs("/dev/xvda", SnapshotId=SNAP.id)
        id = yield self.register(RootDeviceName="/dev/xvda", BlockDeviceMappings=[root, extra])
        image = yield self.image(id)
        self.assertEqual((image["RootDeviceName"], image["RootDeviceType"]), ("/dev/xvda", "ebs"))
        first, second = image["BlockDeviceMappings"]
        self.assertEqual((first["Ebs"]["SnapshotId"], first["Ebs"]["VolumeSize"]), (SNAP.id, 5))
        self.assertEqual((second["Ebs"]["VolumeSize"], second["Ebs"]["DeleteOnTermination"]), (3, False))
        for name, value in (
            ("root-device-type", "ebs"),
            ("root-device-name", "/dev/xvda"),
            ("block-device-mapping.snapshot-id", SNAP.id),
            ("block-device-mapping.volume-size", "3"),
            ("block-device-mapping.delete-on-termination", "false"),
        ):
            self.assertEqual((yield self.filtered(name, value)), [id], name)
        message = yield self.refused("InvalidSnapshot.InUse", "DeleteSnapshot", SnapshotId=SNAP.id)
        self.assertEqual(message, f"The snapshot {SNAP.id} is currently in use by {id}")
        yield self.ask("DeregisterImage", ImageId=id)
        yield self.ask("DeleteSnapshot", SnapshotId=SNAP.id)

    @inlineCallbacks
    def test_refusals(self) -> Steps:
        """What can't be meant is refused in EC2's words."""
        location = {"ImageLocation": "a/b"}
        for name in ("ab", "x" * 129, "semi;colon", "new\nline"):
            yield self.refused("InvalidAMIName.Malformed", "RegisterImage", Name=name, **location)
        yield self.refused("MissingParameter", "RegisterImage", Name="one")
        yield self.refused("InvalidParameterValue", "RegisterImage", Name="one", Architecture="vax", **location)
        yield self.refused("UnsupportedOperation", "RegisterImage", Name="one", VirtualizationType="xen", **location)
        yield self.refused("UnsupportedOperation", "RegisterImage", Name="one", EnaSupport=False, **location)
        yield self.refused("InvalidAMIID.NotFound", "RegisterImage", Name="one", KernelId="aki-12345678", **location)
        yield self.refused("InvalidAMIID.Malformed", "RegisterImage", Name="one", KernelId=TINY, **location)
        yield self.refused("InvalidParameterValue", "RegisterImage", Name="one", Description="x" * 256, **location)
        for code, mapping in (
            ("InvalidSnapshot.NotFound", ebs("/dev/sda1", SnapshotId="snap-12345678")),
            ("InvalidSnapshotID.Malformed", ebs("/dev/sda1", SnapshotId="nonsense")),
            ("InvalidParameterValue", ebs("/dev/sda1", SnapshotId=SNAP.id, VolumeSize=1)),
            ("UnsupportedOperation", ebs("/dev/sda1", SnapshotId=SNAP.id, Encrypted=True)),
            ("UnsupportedOperation", ebs("/dev/sda1", SnapshotId=SNAP.id, KmsKeyId="k")),
            ("InvalidParameterValue", ebs("/dev/sda1", VolumeSize=5)),
            ("MissingParameter", ebs("/dev/sdf", VolumeSize=5)),
            ("MissingParameter", {"Ebs": {"VolumeSize": 5}}),
        ):
            yield self.refused(code, "RegisterImage", Name="one", BlockDeviceMappings=[mapping])
        twice = [ebs("/dev/sda1", SnapshotId=SNAP.id)] * 2
        yield self.refused("InvalidBlockDeviceMapping", "RegisterImage", Name="one", BlockDeviceMappings=twice)
        yield self.refused("InvalidSnapshot.NotFound", "RegisterImage", BOB, Name="one", BlockDeviceMappings=twice[:1])
        self.assertEqual((yield self.images(Owners=["self"])), [])

    @inlineCallbacks
    def test_incomplete_snapshot(self) -> Steps:
        """A snapshot that is not complete can't be a root yet."""
        yield self.write(attrs.evolve(SNAP, id="snap-00000002", state="pending"))
        root = [ebs("/dev/sda1", SnapshotId="snap-00000002")]
        yield self.refused("IncorrectState", "RegisterImage", Name="one", BlockDeviceMappings=root)

    @inlineCallbacks
    def test_names(self) -> Steps:
        """A name is one image's of a project, and free again afterwards; at once, too."""
        id = yield self.register()
        message = yield self.refused("InvalidAMIName.Duplicate", "RegisterImage", Name="one", ImageLocation="x")
        self.assertEqual(message, f"AMI name one is already in use by AMI {id}")
        yield self.register(caller=BOB)
        yield self.ask("DeregisterImage", ImageId=id)
        yield self.register()
        racers = [self.register("two").addErrback(lambda _: None) for _ in range(8)]
        self.assertEqual(len([id for id in (yield gatherResults(racers)) if id]), 1)

    @inlineCallbacks
    def test_quota(self) -> Steps:
        """A project has no more than it may."""
        for number in range(6):
            yield self.register(f"image {number}")
        yield self.refused("AMILimitExceeded", "RegisterImage", Name="more", ImageLocation="x")
        yield self.register(caller=BOB)

    @inlineCallbacks
    def test_deregister(self) -> Steps:
        """An image goes at once, whoever runs it; another's is not to be touched."""
        id = yield self.register()
        [instance] = yield self.boot(ImageId=id)
        self.assertEqual((yield self.ask("DeregisterImage", ImageId=id)).get("Return"), True)
        yield self.refused("InvalidAMIID.NotFound", "DescribeImages", ImageIds=[id])
        yield self.refused("InvalidAMIID.NotFound", "DeregisterImage", ImageId=id)
        yield self.refused("InvalidAMIID.NotFound", "RunInstances", ImageId=id, MinCount=1, MaxCount=1)
        [shown] = yield self.listed(InstanceIds=[instance])
        self.assertEqual((shown["State"]["Name"], shown["ImageId"]), ("running", id))
        self.assertEqual((yield self.store.check(False)), [])
        yield self.refused("InvalidAMIID.Malformed", "DeregisterImage", ImageId="nonsense")
        message = yield self.refused("AuthFailure", "DeregisterImage", ImageId=SERVER)
        self.assertEqual(message, f"Not authorized for image:{SERVER}")

    @inlineCallbacks
    def test_roles(self) -> Steps:
        """Images are made by those who run machines; a rehearsal changes nothing."""
        for action in ("RegisterImage", "DeregisterImage", "CreateImage", "CopyImage", "ModifyImageAttribute"):
            self.assertRaises(Denied, permit, READER, action)
            permit(ANN, action)
        yield self.images()


class SharingTests(ImagesCase):
    """
    Who may launch an image.
    """

    @inlineCallbacks
    def permissions(self, id: str) -> Generator[Any, Any, list[dict[str, str]]]:
        """DescribeImageAttribute."""
        answer = yield self.ask("DescribeImageAttribute", ImageId=id, Attribute="launchPermission")
        return answer["LaunchPermissions"]  # type: ignore[no-any-return]

    @inlineCallbacks
    def test_share(self) -> Steps:
        """A project that was given an image launches it, until it is taken back; it is still not its own."""
        id = yield self.register()
        yield self.ask("ModifyImageAttribute", ImageId=id, LaunchPermission={"Add": [{"UserId": BOB.project}]})
        self.assertEqual((yield self.permissions(id)), [{"UserId": BOB.project}])
        self.assertEqual((yield self.image(id, BOB))["OwnerId"], ANN.project)
        yield self.run_instances(1, BOB, ImageId=id)
        for action, more in (
            ("DeregisterImage", {}),
            ("ModifyImageAttribute", {"Description": {"Value": "x"}}),
            ("DescribeImageAttribute", {"Attribute": "description"}),
            ("ResetImageAttribute", {"Attribute": "launchPermission"}),
        ):
            yield self.refused("AuthFailure", action, BOB, ImageId=id, **more)
        old = {"Attribute": "launchPermission", "OperationType": "remove", "UserIds": [BOB.project]}
        yield self.ask("ModifyImageAttribute", ImageId=id, **old)
        yield self.refused("InvalidAMIID.NotFound", "DescribeImages", BOB, ImageIds=[id])
        yield self.refused("InvalidAMIID.NotFound", "ModifyImageAttribute", BOB, ImageId=id, **old)

    @inlineCallbacks
    def test_share_with_nobody(self) -> Steps:
        """What no project is called is refused: least of all is anything the name of everybody's listing."""
        id = yield self.register()
        for name in ("*public", "*all", " ", "x" * 65, "a:b"):
            given = {"Add": [{"UserId": BOB.project}, {"UserId": name}]}
            args = ("InvalidAMIAttributeItemValue", "ModifyImageAttribute")
            said = yield self.refused(*args, ImageId=id, LaunchPermission=given)
            self.assertEqual(said, f'Invalid attribute item value "{name[:64]}" for userId item type.')
        self.assertEqual((yield self.permissions(id)), [])
        self.assertNotIn(id, [each["ImageId"] for each in (yield self.ask("DescribeImages", BOB))["Images"]])

    @inlineCallbacks
    def test_share_with_many(self) -> Steps:
        """An image is shared with a thousand projects at most, by however many requests; some can be taken back."""
        id = yield self.register()
        for start in (0, 500):
            given = {"Add": [{"UserId": f"p{number}"} for number in range(start, start + 500)]}
            yield self.ask("ModifyImageAttribute", ImageId=id, LaunchPermission=given)
        one = {"Add": [{"UserId": "more"}]}
        yield self.refused("ResourceLimitExceeded", "ModifyImageAttribute", ImageId=id, LaunchPermission=one)
        yield self.ask("ModifyImageAttribute", ImageId=id, LaunchPermission=one | {"Remove": [{"UserId": "p7"}]})
        self.assertEqual(len((yield self.permissions(id))), 1000)

    @inlineCallbacks
    def test_public(self) -> Steps:
        """Everybody may launch a public image, until that is reset."""
        id = yield self.register()
        old = {"Attribute": "launchPermission", "OperationType": "add", "UserGroups": ["all"]}
        yield self.ask("ModifyImageAttribute", ImageId=id, **old)
        self.assertTrue((yield self.image(id, BOB))["Public"])
        self.assertEqual((yield self.permissions(id)), [{"Group": "all"}])
        self.assertIn(id, (yield self.filtered("is-public", "true")))
        yield self.ask("ResetImageAttribute", ImageId=id, Attribute="launchPermission")
        self.assertEqual((yield self.permissions(id)), [])
        yield self.refused("InvalidAMIID.NotFound", "DescribeImages", BOB, ImageIds=[id])

    @inlineCallbacks
    def test_owners_and_users(self) -> Steps:
        """Images are listed by who owns them and by who may launch them."""
        own = yield self.register("image 0")
        shared = yield self.register("image 1")
        public = yield self.register("image 2")
        yield self.ask("ModifyImageAttribute", ImageId=shared, LaunchPermission={"Add": [{"UserId": BOB.project}]})
        yield self.ask("ModifyImageAttribute", ImageId=public, LaunchPermission={"Add": [{"Group": "all"}]})

        @inlineCallbacks
        def ids(caller: Caller = ANN, **parameters: Any) -> Generator[Any, Any, set[str]]:
            found = yield self.images(caller, **parameters)
            return {each["ImageId"] for each in found} & {own, shared, public}

        self.assertEqual((yield ids()), {own, shared, public})
        self.assertEqual((yield ids(Owners=["self"])), {own, shared, public})
        self.assertEqual((yield ids(BOB)), {shared, public})
        self.assertEqual((yield ids(BOB, Owners=["self"])), set())
        self.assertEqual((yield ids(BOB, Owners=[ANN.project])), {shared, public})
        self.assertEqual((yield ids(BOB, ExecutableUsers=["self"])), {shared})
        self.assertEqual((yield ids(BOB, ExecutableUsers=["all"])), {public})
        self.assertEqual((yield ids(Owners=["amazon"])), set())
        self.assertEqual((yield ids(IncludeDeprecated=True, IncludeDisabled=True)), {own, shared, public})

    @inlineCallbacks
    def test_description(self) -> Steps:
        """A description is changed in both forms."""
        id = yield self.register()
        yield self.ask("ModifyImageAttribute", ImageId=id, Description={"Value": "new"})
        answer = yield self.ask("DescribeImageAttribute", ImageId=id, Attribute="description")
        self.assertEqual(answer["Description"], {"Value": "new"})
        yield self.ask("ModifyImageAttribute", ImageId=id, Attribute="description", Value="newer")
        self.assertEqual((yield self.image(id))["Description"], "newer")
        self.assertEqual((yield self.filtered("description", "newer")), [id])

    @inlineCallbacks
    def test_attributes(self) -> Steps:
        """Each attribute shows what the image has."""
        kernel = "aki-00000000000000001"
        id = yield self.register(KernelId=kernel, BlockDeviceMappings=[ebs("/dev/sda1", SnapshotId=SNAP.id)])
        for name, key, value in (
            ("kernel", "KernelId", {"Value": kernel}),
            ("ramdisk", "RamdiskId", {}),
            ("productCodes", "ProductCodes", []),
        ):
            answer = yield self.ask("DescribeImageAttribute", ImageId=id, Attribute=name)
            self.assertEqual((answer["ImageId"], answer.get(key)), (id, value))
        answer = yield self.ask("DescribeImageAttribute", ImageId=id, Attribute="blockDeviceMapping")
        self.assertEqual(answer["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"], SNAP.id)

    @inlineCallbacks
    def test_modify_refusals(self) -> Steps:
        """What this cloud does not change is refused, never dropped."""
        id = yield self.register()
        for code, given in (
            ("InvalidParameterCombination", {}),
            ("UnsupportedOperation", {"Attribute": "productCodes", "ProductCodes": ["x"], "OperationType": "add"}),
            ("UnsupportedOperation", {"ImdsSupport": {"Value": "v2.0"}}),
            ("UnsupportedOperation", {"LaunchPermission": {"Add": [{"OrganizationArn": "arn:x"}]}}),
            ("UnsupportedOperation", {"Attribute": "kernel", "Value": "aki-1"}),
            ("InvalidParameterValue", {"LaunchPermission": {"Add": [{"Group": "some"}]}}),
            ("MissingParameter", {"Attribute": "launchPermission", "UserIds": ["x"]}),
        ):
            yield self.refused(code, "ModifyImageAttribute", ImageId=id, **given)
        yield self.refused("InvalidParameterValue", "ResetImageAttribute", ImageId=id, Attribute="description")
        yield self.refused("UnsupportedOperation", "DescribeImageAttribute", ImageId=id, Attribute="uefiData")
        yield self.refused("InvalidParameterValue", "DescribeImageAttribute", ImageId=id, Attribute="dragons")


class CopyTests(ImagesCase):
    """
    Images copied.
    """

    @inlineCallbacks
    def test_copy(self) -> Steps:
        """A copy is the caller's own, private, and stays when its source goes."""
        source = yield self.register(Description="about", TagSpecifications=[])
        yield self.ask("ModifyImageAttribute", ImageId=source, LaunchPermission={"Add": [{"UserId": BOB.project}]})
        wanted = {"SourceImageId": source, "SourceRegion": REGION, "Name": "copied"}
        id = (yield self.ask("CopyImage", BOB, **wanted))["ImageId"]
        yield self.ask("DeregisterImage", ImageId=source)
        image = yield self.image(id, BOB)
        self.assertEqual((image["OwnerId"], image["State"], image["Description"]), (BOB.project, "available", "about"))
        self.assertEqual((image["ImageLocation"], image["SourceImageId"]), ("bucket/image.manifest.xml", source))
        yield self.refused("InvalidAMIID.NotFound", "DescribeImages", ImageIds=[id])
        yield self.refused("InvalidAMIID.NotFound", "CopyImage", BOB, **wanted)

    @inlineCallbacks
    def test_copy_refusals(self) -> Steps:
        """Names, regions and other projects' images are refused."""
        source = yield self.register()
        wanted = {"SourceImageId": source, "SourceRegion": REGION, "Name": "copied"}
        yield self.refused("InvalidAMIID.NotFound", "CopyImage", BOB, **wanted)
        yield self.refused("InvalidAMIName.Duplicate", "CopyImage", **{**wanted, "Name": "one"})
        yield self.refused("InvalidParameterValue", "CopyImage", **{**wanted, "SourceRegion": "elsewhere"})
        yield self.refused("UnsupportedOperation", "CopyImage", Encrypted=True, **wanted)
        yield self.refused("InvalidAMIID.Malformed", "CopyImage", **{**wanted, "SourceImageId": "x"})

    @inlineCallbacks
    def test_token(self) -> Steps:
        """A client token makes one copy, and is for that one only."""
        source = yield self.register()
        wanted = {"SourceImageId": source, "SourceRegion": REGION, "Name": "copied", "ClientToken": "t"}
        answers = yield gatherResults([self.ask("CopyImage", **wanted) for _ in range(5)])
        self.assertEqual(len({answer["ImageId"] for answer in answers}), 1)
        yield self.refused("IdempotentParameterMismatch", "CopyImage", **{**wanted, "Name": "other"})

    @inlineCallbacks
    def test_with_snapshots(self) -> Steps:
        """A copy has copies of the snapshots, and is available when those are complete."""
        source = yield self.register(BlockDeviceMappings=[ebs("/dev/sda1", SnapshotId=SNAP.id)])
        wanted = {"SourceImageId": source, "SourceRegion": REGION, "Name": "copied"}
        id = (yield self.ask("CopyImage", **wanted))["ImageId"]
        image = yield self.image(id)
        copy = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        self.assertEqual((image["State"], copy == SNAP.id), ("pending", False))
        yield self.refused("InvalidAMIID.Unavailable", "RunInstances", ImageId=id, MinCount=1, MaxCount=1)
        [stored] = yield self.store.read(Snapshot, [copy])
        transaction = self.store.transaction("test")
        transaction.update(stored, attrs.evolve(stored.record, state="completed"))
        yield self.store.commit(transaction)
        self.clock.advance(3)
        yield self.parts.sweep.turn()
        self.assertEqual((yield self.image(id))["State"], "available")


class WholeCloudTests(TestCase):
    """
    An image of an instance with a volume, through queue and workers.
    """

    @inlineCallbacks
    def test_capture(self) -> Steps:
        """The host copies the disk, the volume's snapshot completes, and what is launched of both has both."""
        cloud = yield make_cloud(self, rules=IMPATIENT)
        [instance] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, disks=(NewDisk("/dev/sdf", 2),)))
        yield cloud.until_state("running", instance.id)

        @inlineCallbacks
        def attached() -> Generator[Any, Any, bool]:
            [found] = yield cloud.get(instance.id)
            return [disk.state for disk in found.disks] == ["attached"]

        yield cloud.until(attached)
        spec = CaptureSpec(instance.id, "mine", tags={"a": "b"})
        image = yield cloud.cloud.captures.create(CALLER, spec)
        self.assertEqual((image.state, [disk.size_gb for disk in image.disks]), ("pending", [2]))

        @inlineCallbacks
        def available() -> Generator[Any, Any, bool]:
            [found] = yield cloud.cloud.images.get(CALLER, [image.id])
            self.assertNotEqual(found.state, "failed", found.reason)
            return found.state == "available"

        yield cloud.until(available)
        [again] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(image.id))
        [running] = yield cloud.until_state("running", again.id)
        self.assertEqual([disk.device for disk in running.disks], ["/dev/sdf"])
        yield cloud.sound()

    @inlineCallbacks
    def test_lost_and_broken(self) -> Steps:
        """An answer that is lost is asked for again; a copy that fails says why."""
        cloud = yield make_cloud(self, rules=IMPATIENT)
        [instance] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        yield cloud.until_state("running", instance.id)
        hypervisor = cloud.hosts["node1"].hypervisor
        for line, state in (("capture lose", "available"), ("capture fail always", "failed")):
            hypervisor.rehearsal.tell(line)
            image = yield cloud.cloud.captures.create(CALLER, CaptureSpec(instance.id, state))

            @inlineCallbacks
            def there(id: str = image.id, state: str = state) -> Generator[Any, Any, bool]:
                [found] = yield cloud.cloud.images.get(CALLER, [id])
                return found.state == state

            yield cloud.until(there)
        yield cloud.sound()


class CreateTests(ImagesCase):
    """
    Images of instances.
    """

    def ordered(self) -> list[CaptureOrder]:
        """What hosts were asked to copy."""
        cast = [given for _, method, given in self.queue.cast if method == "capture"]
        return [decode(CaptureOrder, machine) for (machines,) in cast for machine in machines]

    def report(self, *reports: ImageReport, host: str = "node1") -> Any:
        """What a host says."""
        return self.cloud.captures.take("report", host, reports)

    @inlineCallbacks
    def test_create(self) -> Steps:
        """An image of an instance is pending until its host has copied the disk, then launches."""
        [instance] = yield self.boot()
        id = (yield self.ask("CreateImage", InstanceId=instance, Name="mine"))["ImageId"]
        image = yield self.image(id)
        self.assertEqual((image["State"], image["SourceInstanceId"]), ("pending", instance))
        self.assertEqual(self.ordered(), [CaptureOrder(instance, id, True)])
        yield self.refused("InvalidAMIID.Unavailable", "RunInstances", ImageId=id, MinCount=1, MaxCount=1)
        yield self.report(ImageReport(id, "made", "there/it"), host="node2")
        self.assertEqual((yield self.image(id))["State"], "pending")
        for _ in range(2):
            yield self.report(ImageReport(id, "made", "there/it"))
        image = yield self.image(id)
        self.assertEqual((image["State"], image["ImageLocation"]), ("available", "there/it"))
        yield self.run_instances(ImageId=id)
        self.assertEqual((yield self.filtered("source-instance-id", instance)), [id])
        self.assertEqual((yield self.store.check(False)), [])

    @inlineCallbacks
    def test_no_reboot(self) -> Steps:
        """With NoReboot, and while it is stopped, the instance is left as it is."""
        [instance] = yield self.boot()
        yield self.ask("CreateImage", InstanceId=instance, Name="mine", NoReboot=True)
        yield self.ask("StopInstances", InstanceIds=[instance])
        yield self.refused("IncorrectInstanceState", "CreateImage", InstanceId=instance, Name="other")
        yield self.move([instance], "halt")
        yield self.ask("CreateImage", InstanceId=instance, Name="other")
        self.assertEqual([order.restart for order in self.ordered()], [False, False])

    @inlineCallbacks
    def test_failed(self) -> Steps:
        """What its host can't copy fails with the reason, and may be deregistered."""
        [instance] = yield self.boot()
        id = (yield self.ask("CreateImage", InstanceId=instance, Name="mine"))["ImageId"]
        yield self.report(ImageReport(id, "failed", message="the disk is full"))
        image = yield self.image(id)
        self.assertEqual((image["State"], image["StateReason"]["Message"]), ("failed", "the disk is full"))
        yield self.ask("DeregisterImage", ImageId=id)
        yield self.report(ImageReport(id, "made", "x"))
        self.assertEqual((yield self.store.read(Image, [id])), [None])

    @inlineCallbacks
    def test_silence(self) -> Steps:
        """An order without an answer is sent again, and the image fails in the end."""
        [instance] = yield self.boot()
        id = (yield self.ask("CreateImage", InstanceId=instance, Name="mine"))["ImageId"]
        self.clock.advance(31)
        yield self.parts.sweep.turn()
        self.assertEqual(self.ordered(), [CaptureOrder(instance, id, True)] * 2)
        self.clock.advance(3600)
        yield self.parts.sweep.turn()
        self.assertEqual((yield self.image(id))["State"], "failed")

    @inlineCallbacks
    def test_refusals(self) -> Steps:
        """Others' instances, those that are not up, and taken names."""
        [instance] = yield self.boot()
        wanted = {"InstanceId": instance, "Name": "mine"}
        yield self.refused("InvalidInstanceID.NotFound", "CreateImage", BOB, **wanted)
        yield self.refused("InvalidInstanceID.Malformed", "CreateImage", **{**wanted, "InstanceId": "x"})
        yield self.refused("InvalidAMIName.Malformed", "CreateImage", **{**wanted, "Name": "x"})
        yield self.refused("UnsupportedOperation", "CreateImage", SnapshotLocation="local", **wanted)
        [pending] = yield self.run_instances()
        yield self.refused("IncorrectInstanceState", "CreateImage", **{**wanted, "InstanceId": pending})
        yield self.ask("CreateImage", **wanted)
        yield self.refused("InvalidAMIName.Duplicate", "CreateImage", **wanted)
