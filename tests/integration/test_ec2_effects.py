"""
That each action does something, or only looks.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from fabric.api.ec2.errors import EC2Error
from tests.integration.ec2_requests import REQUESTS
from tests.integration.ec2_world import WorldCase, filled
from tests.unit.ec2_stage import BOB

Steps = Generator[Any, Any, None]

ALWAYS_SO = {"EnableVolumeIO"}
"""Whose request asks for what is so already: no volume is ever stopped from being read."""


class EveryActionTests(WorldCase):
    """
    Every request of L{tests.integration.ec2_requests} as somebody makes it.
    """

    timeout = 300

    @inlineCallbacks
    def test_reads(self) -> Steps:
        """What describes and gets writes nothing and tells no host to do anything."""
        before = yield self.seen()
        for action, requests in REQUESTS.items():
            for request in requests if action.startswith(("Describe", "Get")) else ():
                self.queue.cast.clear()
                yield self.ask(action, **filled(request, self.ann))
                told = {method for _, method, _ in self.queue.cast}
                self.assertEqual(told - {"console_output", "screenshot"}, set(), action)
        self.assertEqual((yield self.seen()), before)

    @inlineCallbacks
    def test_writes(self) -> Steps:
        """What is to change something does, in what is the caller's, and leaves everything in agreement."""
        kept = yield self.kept()
        others = {value for name, value in self.bob.items() if name not in ("other", "token")}
        for action, requests in REQUESTS.items():
            for request in requests if not action.startswith(("Describe", "Get")) else ():
                yield self.put_back(kept)
                before = yield self.seen()
                yield self.ask(action, **filled(request, self.ann))
                after = yield self.seen()
                changed = {_text(key) for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
                self.assertEqual(bool(changed), action not in ALWAYS_SO, (action, request))
                touched = [key for key in changed if any(part in others for part in key.split(":"))]
                self.assertEqual(touched, [], (action, request))
            self.assertEqual((yield self.store.check(False)), [], action)


class RepeatTests(WorldCase):
    """
    The same again.
    """

    timeout = 300

    AGAIN = {
        "AssociateAddress": "",
        "AuthorizeSecurityGroupEgress": "InvalidPermission.Duplicate",
        "AuthorizeSecurityGroupIngress": "InvalidPermission.Duplicate",
        "CreateKeyPair": "InvalidKeyPair.Duplicate",
        "CreateLaunchTemplate": "InvalidLaunchTemplateName.AlreadyExistsException",
        "CreatePlacementGroup": "InvalidPlacementGroup.Duplicate",
        "CreateSecurityGroup": "InvalidGroup.Duplicate",
        "ImportKeyPair": "InvalidKeyPair.Duplicate",
        "RegisterImage": "InvalidAMIName.Duplicate",
        "CopyImage": "InvalidAMIName.Duplicate",
        "AttachVolume": "VolumeInUse",
        "CreateTags": "",
        "DeleteTags": "",
        "DeleteSecurityGroup": "InvalidGroup.NotFound",
        "DeleteSnapshot": "InvalidSnapshot.NotFound",
        "DeletePlacementGroup": "InvalidPlacementGroup.Unknown",
        "DeregisterImage": "InvalidAMIID.NotFound",
        "ReleaseAddress": "InvalidAllocationID.NotFound",
        "RevokeSecurityGroupIngress": "InvalidPermission.NotFound",
        "RevokeSecurityGroupEgress": "InvalidPermission.NotFound",
        "StartInstances": "",
        "StopInstances": "",
        "TerminateInstances": "",
        "MonitorInstances": "",
        "UnmonitorInstances": "",
    }
    """What the first request of each action says when it is made again; empty for the same answer as before."""

    @inlineCallbacks
    def test_again(self) -> Steps:
        """What was done is not done twice, and is told."""
        kept = yield self.kept()
        for action, code in self.AGAIN.items():
            yield self.put_back(kept)
            asked = filled(REQUESTS[action][0], self.ann)
            yield self.ask(action, **asked)
            try:
                yield self.ask(action, **asked)
                found = ""
            except EC2Error as refusal:
                found = refusal.code
            self.assertEqual(found, code, action)
            self.assertEqual((yield self.store.check(False)), [], action)


class OwnPartsTests(WorldCase):
    """
    What is only another's, named where one's own is expected.
    """

    @inlineCallbacks
    def test_kernels(self) -> Steps:
        """An instance gets a kernel that its project may use, or that of its image."""
        kernel = {"Value": self.bob["kernel"]}
        yield self.refused(
            "InvalidAMIID.NotFound", "ModifyInstanceAttribute", InstanceId=self.ann["stopped"], Kernel=kernel
        )
        add = {"Add": [{"Group": "all"}]}
        yield self.ask("ModifyImageAttribute", BOB, ImageId=self.bob["kernel"], LaunchPermission=add)
        yield self.ask("ModifyInstanceAttribute", InstanceId=self.ann["stopped"], Kernel=kernel)
        shown = yield self.ask("DescribeInstanceAttribute", InstanceId=self.ann["stopped"], Attribute="kernel")
        self.assertEqual(shown["KernelId"], kernel)
        yield self.ask("ResetInstanceAttribute", InstanceId=self.ann["stopped"], Attribute="kernel")
        shown = yield self.ask("DescribeInstanceAttribute", InstanceId=self.ann["stopped"], Attribute="kernel")
        self.assertNotEqual(shown.get("KernelId"), kernel)

    @inlineCallbacks
    def test_placement_by_id(self) -> Steps:
        """An instance is put into a placement group by the group's id, and out of it by an empty name."""
        stopped = self.ann["stopped"]
        for given, name in (
            ({"GroupId": self.ann["placement_group"]}, self.ann["placement_name"]),
            ({"GroupName": ""}, ""),
        ):
            yield self.ask("ModifyInstancePlacement", InstanceId=stopped, **given)
            [shown] = yield self.listed(InstanceIds=[stopped])
            self.assertEqual(shown["Placement"]["GroupName"], name)


def _text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)
