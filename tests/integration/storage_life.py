"""
The life of volumes, snapshots, images and rules, asked for by a client that is
told of failures and does not mind them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from xml.etree.ElementTree import Element, fromstring

from fabric.testing.processes import await_true
from tests.integration.rehearsing import PATIENCE, Refused, Stubborn

TRIES = 5
"""How often something is asked for that hosts may refuse while they are down."""

DONE = ("VolumeInUse", "IncorrectState", "IncorrectModificationState", "Duplicate", "NotFound", "InvalidAttachment")
"""What a client is told whose first request had its effect but no answer."""


def listed(body: str, name: str) -> list[Element]:
    """The items of a list in an answer."""
    return fromstring(re.sub(r' xmlns="[^"]*"', "", body, count=1)).findall(f"{name}/item")


def text(item: Element, path: str) -> str:
    """What an element within an item says; empty when it is not there."""
    return item.findtext(path) or ""


class StorageLife:
    """
    Verbs; each returns when its outcome is final.
    """

    def __init__(self, client: Stubborn, mend: Callable[[], None]) -> None:
        self._client = client
        self._mend = mend

    def done(self, action: str, **parameters: str) -> str:
        """
        Ask for what may have been done already.

        @return: the answer; empty when it was refused since it was done.
        """
        try:
            return self._client.ask(action, **parameters)
        except Refused as error:
            assert any(code in str(error) for code in DONE), error
            return ""

    def until(self, what: str, probe: Callable[[], bool]) -> None:
        """Look, and see to what is dead, until it is so."""

        def look() -> bool:
            self._mend()
            return probe()

        await_true(look, what, PATIENCE, 0.1)

    def volumes(self, *ids: str) -> dict[str, tuple[str, str, str]]:
        """State, attachment's state and size in GiB of each, or of all."""
        body = self._client.ask("DescribeVolumes", **{f"VolumeId_{n}": id for n, id in enumerate(ids, 1)})
        return {
            text(item, "volumeId"): (text(item, "status"), text(item, "attachmentSet/item/status"), text(item, "size"))
            for item in listed(body, "volumeSet")
        }

    def create(self, snapshot: str = "") -> str:
        """A volume that is available; one that no host could be found for is deleted again."""
        source = {"SnapshotId": snapshot} if snapshot else {"Size": "1"}
        for _ in range(TRIES):
            body = self._client.ask("CreateVolume", AvailabilityZone="nova", ClientToken=str(uuid.uuid4()), **source)
            id = re.findall(r"<volumeId>(vol-[0-9a-f]+)<", body)[0]
            self.until(f"{id} is made", lambda id=id: self.volumes(id)[id][0] != "creating")  # type: ignore[misc]
            if self.volumes(id)[id][0] == "available":
                return str(id)
            self.done("DeleteVolume", VolumeId=id)
        raise AssertionError("no volume could be made")

    def attach(self, id: str, instance: str, device: str) -> None:
        """On an instance, and seen there."""
        for _ in range(TRIES):
            self.done("AttachVolume", VolumeId=id, InstanceId=instance, Device=device)
            self.until(f"{id} is attached or not", lambda: self.volumes(id)[id][1] in ("", "attached"))
            if self.volumes(id)[id][1]:
                return
        raise AssertionError(f"{id} could not be attached")

    def detach(self, id: str) -> None:
        """Free again."""
        self.done("DetachVolume", VolumeId=id)
        self.until(f"{id} is detached", lambda: self.volumes(id)[id][0] == "available")

    def grow(self, id: str, size: int) -> None:
        """Larger."""
        for _ in range(TRIES):
            self.done("ModifyVolume", VolumeId=id, Size=str(size))
            self.until(f"{id} has grown or not", lambda: not self._growing(id))
            if self.volumes(id)[id][2] == str(size):
                return
        raise AssertionError(f"{id} did not grow")

    def _growing(self, id: str) -> bool:
        body = self._client.ask("DescribeVolumesModifications", VolumeId_1=id)
        return "<modificationState>modifying<" in body

    def snapshots(self) -> dict[str, str]:
        """State of each."""
        found = listed(self._client.ask("DescribeSnapshots", Owner_1="self"), "snapshotSet")
        return {text(item, "snapshotId"): text(item, "status") for item in found}

    def snapshot(self, volume: str) -> str:
        """One that is complete."""
        for _ in range(TRIES):
            body = self._client.ask("CreateSnapshot", VolumeId=volume)
            id = str(re.findall(r"<snapshotId>(snap-[0-9a-f]+)<", body)[0])
            self.until("snapshots are made", lambda: "pending" not in self.snapshots().values())
            if self.snapshots()[id] == "completed":
                return id
        raise AssertionError(f"no snapshot of {volume} could be made")

    def images(self) -> dict[str, str]:
        """State of each of the project's."""
        found = listed(self._client.ask("DescribeImages", Owner_1="self"), "imagesSet")
        return {text(item, "imageId"): text(item, "imageState") for item in found}

    def image(self, instance: str) -> None:
        """Make one of an instance."""
        for _ in range(TRIES):
            name = f"copy {uuid.uuid4()}"
            self.done("CreateImage", InstanceId=instance, Name=name)
            self.until(f"{name} is made", lambda name=name: self._named(name)[1] != "pending")  # type: ignore[misc]
            if self._named(name)[1] == "available":
                return
        raise AssertionError(f"no image of {instance} could be made")

    def _named(self, name: str) -> tuple[str, str]:
        body = self._client.ask("DescribeImages", Filter_1_Name="name", Filter_1_Value_1=name)
        [item] = listed(body, "imagesSet")
        return text(item, "imageId"), text(item, "imageState")

    def rooted(self, snapshot: str) -> str:
        """An instance that runs from a volume of its own, made of a snapshot."""
        name = f"root {uuid.uuid4()}"
        disk = {"BlockDeviceMapping_1_DeviceName": "/dev/xvda", "BlockDeviceMapping_1_Ebs_SnapshotId": snapshot}
        self.done("RegisterImage", Name=name, RootDeviceName="/dev/xvda", **disk)
        image, _ = self._named(name)
        for _ in range(TRIES):
            [id] = self._client.run(image, 1)
            if self._client.await_states([id], {"running", "terminated"})[id] == "running":
                return id
        raise AssertionError(f"no instance of {image} could be launched")

    def clear(self) -> None:
        """Have none of the project's images, snapshots and volumes."""
        for id in self.images():
            self.done("DeregisterImage", ImageId=id)
        for id in self.snapshots():
            self.done("DeleteSnapshot", SnapshotId=id)
        for id, (state, _, _) in self.volumes().items():
            if state in ("available", "error"):
                self.done("DeleteVolume", VolumeId=id)
        self.until("nothing is left", lambda: not self.images() and not self.snapshots() and not self._free())

    def _free(self) -> list[str]:
        return [id for id, (state, _, _) in self.volumes().items() if state != "in-use"]

    def group(self, name: str) -> str:
        """A security group's id; made when it is not there."""
        self.done("CreateSecurityGroup", GroupName=name, GroupDescription=name)
        body = self._client.ask("DescribeSecurityGroups", Filter_1_Name="group-name", Filter_1_Value_1=name)
        return text(listed(body, "securityGroupInfo")[0], "groupId")

    def allow(self, group: str, port: int, verb: str = "Authorize") -> None:
        """Let anybody reach a port of a group's members, or (C{Revoke}) nobody."""
        rule = {"IpPermissions_1_IpProtocol": "tcp", "IpPermissions_1_IpRanges_1_CidrIp": "10.1.0.0/16"}
        ports = {"IpPermissions_1_FromPort": str(port), "IpPermissions_1_ToPort": str(port)}
        self.done(f"{verb}SecurityGroupIngress", GroupId=group, **rule, **ports)

    def regroup(self, instance: str, groups: Sequence[str]) -> None:
        """Put an instance into other groups."""
        given = {f"GroupId_{n}": id for n, id in enumerate(groups, 1)}
        self._client.ask("ModifyInstanceAttribute", InstanceId=instance, **given)
