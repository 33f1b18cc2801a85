"""
The views that the store keeps for EC2, and how pages of them are joined.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from xml.etree import ElementTree

import attrs
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import EC2QueryParser
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from fabric.api.ec2.views import EC2Views, join_images, join_instances, join_items, load_views
from fabric.model.flavor import BUILT_IN
from fabric.model.group import SecurityGroup
from fabric.model.image import Image
from fabric.model.instance import GroupName, Instance, Port, Public, StateReason, with_public
from fabric.model.keypair import KeyPair
from fabric.model.quota import Quota
from fabric.model.vpc import subnet_id, vpc_id
from fabric.store.interface import IViews

INSTANCE = Instance(
    id="i-0000000a",
    project="alpha",
    reservation="r-0000000a",
    launch_index=2,
    image="ami-0000000a",
    flavor=BUILT_IN["m1.small"],
    launched_at=1_790_000_000.25,
    changed_at=1_790_000_000.25,
    state="running",
    zone="nova",
    key_name="key",
    client_token="tok",
    groups=(GroupName("sg-0000000a", "default"),),
    ports=(Port("net-0000000a", "02:00:00:00:00:01", "10.0.0.5", "ip-10-0-0-5"),),
    tags={"Name": 'a<b>&"c"'},
)


@cache
def views() -> EC2Views:
    return load_views("cloud.test")


@cache
def model() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("ec2", "service-2"), service_name="ec2")


def parsed(action: str, element: str, body: bytes) -> Any:
    """What botocore makes of a list's inside."""
    document = b"<R><requestId>q</requestId><%b>%b</%b></R>" % (element.encode(), body, element.encode())
    answer = {"body": document, "headers": {}, "status_code": 200}
    found = EC2QueryParser().parse(answer, model().operation_model(action).output_shape)
    found.pop("ResponseMetadata")
    [items] = found.values()
    return items


def instances(*records: Instance) -> Any:
    """A listing of some instances, as botocore sees it."""
    first, opened = join_instances([views().render_one(record) for record in records], None)
    last, _ = join_instances([], opened)
    return parsed("DescribeInstances", "reservationSet", first + last)


def present(value: Any) -> Any:
    """The same without what is None."""
    if isinstance(value, dict):
        return {name: present(part) for name, part in value.items() if part is not None}
    return [present(part) for part in value] if isinstance(value, list) else value


class ViewTests(SynchronousTestCase):
    """What is rendered."""

    def test_provides(self) -> None:
        """It is what the store takes."""
        self.assertTrue(verifyObject(IViews, views()))

    def test_kinds(self) -> None:
        """Kinds that EC2 lists have a view, others none."""
        self.assertEqual(list(views().render(INSTANCE)), ["ec2"])
        self.assertEqual(views().render(Quota("alpha", "alpha")), {})

    def test_instance(self) -> None:
        """An instance has all that clients look for."""
        [[instance]] = [part["Instances"] for part in instances(INSTANCE)]
        [interface] = instance.pop("NetworkInterfaces")
        self.assertEqual(interface["NetworkInterfaceId"], "eni-0000000a")
        launched = instance.pop("LaunchTime")
        self.assertEqual(launched.timestamp(), 1_790_000_000.25)
        self.assertEqual(
            instance,
            {
                "InstanceId": "i-0000000a",
                "ImageId": "ami-0000000a",
                "State": {"Code": 16, "Name": "running"},
                "PrivateDnsName": "ip-10-0-0-5.cloud.test",
                "PublicDnsName": "",
                "StateTransitionReason": "",
                "KeyName": "key",
                "AmiLaunchIndex": 2,
                "ProductCodes": [],
                "InstanceType": "m1.small",
                "Placement": {"AvailabilityZone": "nova", "GroupName": "", "Tenancy": "default"},
                "MetadataOptions": {
                    "State": "applied",
                    "HttpTokens": "optional",
                    "HttpPutResponseHopLimit": 1,
                    "HttpEndpoint": "enabled",
                    "HttpProtocolIpv6": "disabled",
                    "InstanceMetadataTags": "disabled",
                },
                "Monitoring": {"State": "disabled"},
                "PrivateIpAddress": "10.0.0.5",
                "SubnetId": subnet_id("alpha", "net-0000000a", "nova"),
                "VpcId": vpc_id("alpha"),
                "Architecture": "x86_64",
                "RootDeviceType": "instance-store",
                "BlockDeviceMappings": [],
                "VirtualizationType": "hvm",
                "ClientToken": "tok",
                "Tags": [{"Key": "Name", "Value": 'a<b>&"c"'}],
                "SecurityGroups": [{"GroupId": "sg-0000000a", "GroupName": "default"}],
                "SourceDestCheck": True,
                "Hypervisor": "xen",
                "EbsOptimized": False,
                "EnaSupport": True,
                "CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 1},
                "PlatformDetails": "Linux/UNIX",
            },
        )

    def test_same_as_answered(self) -> None:
        """The dict of an instance is what its view shows."""
        public = Public("203.0.113.5", "eipalloc-0000000a", "eipassoc-0000000a")
        for record in (INSTANCE, with_public(INSTANCE, public), attrs.evolve(INSTANCE, ports=())):
            plain = views().instance(record)
            [[instance]] = [part["Instances"] for part in instances(record)]
            shown = present(plain) | {"LaunchTime": instance["LaunchTime"]}
            for mine, theirs in zip(shown["NetworkInterfaces"], instance["NetworkInterfaces"], strict=True):
                mine["Attachment"]["AttachTime"] = theirs["Attachment"]["AttachTime"]
            self.assertEqual(shown, instance)

    def test_nothing_remembered_too_long(self) -> None:
        """What a launch has in common is shown as it is in each record."""
        moved = attrs.evolve(INSTANCE, groups=(GroupName("sg-0000000b", "web"),), ebs_optimized=True, zone="east")
        found = [part["Instances"][0] for part in instances(INSTANCE, attrs.evolve(moved, reservation="r-0000000b"))]
        self.assertEqual([each["SecurityGroups"][0]["GroupName"] for each in found], ["default", "web"])
        self.assertEqual([each["EbsOptimized"] for each in found], [False, True])
        self.assertEqual([each["Placement"]["AvailabilityZone"] for each in found], ["nova", "east"])

    def test_reason(self) -> None:
        """Why it is in its state is shown, in both places."""
        reason = StateReason("Server.InternalError", "no luck")
        record = attrs.evolve(INSTANCE, state="terminated", reason=reason, reason_text="Server.InternalError (now)")
        [[instance]] = [part["Instances"] for part in instances(record)]
        self.assertEqual(instance["StateReason"], {"Code": "Server.InternalError", "Message": "no luck"})
        self.assertEqual(instance["StateTransitionReason"], "Server.InternalError (now)")
        self.assertNotIn("PrivateIpAddress", instance)

    def test_others(self) -> None:
        """Key pairs and groups are whole items."""
        pair = KeyPair("key-0000000a", "alpha", "k", "aa:bb", "ssh-rsa AAAA", created_at=1.0)
        [shown] = parsed("DescribeKeyPairs", "keySet", views().render(pair)["ec2"])
        self.assertEqual((shown["KeyName"], shown["KeyFingerprint"], shown["Tags"]), ("k", "aa:bb", []))
        group = SecurityGroup("sg-0000000a", "alpha", "web", "a & b")
        [shown] = parsed("DescribeSecurityGroups", "securityGroupInfo", views().render(group)["ec2"])
        self.assertEqual((shown["GroupName"], shown["Description"]), ("web", "a & b"))

    def test_odd_text(self) -> None:
        """No text of a user's breaks the form of a view."""
        odd = "\0</item>&amp;\x01\ud800"
        record = attrs.evolve(INSTANCE, tags={odd: odd}, key_name=odd, client_token=odd)
        view = views().render(record)["ec2"]
        self.assertEqual(view.count(b"\0"), 1)
        ElementTree.fromstring(view.split(b"\0")[1])


class JoinTests(SynchronousTestCase):
    """Pages of views."""

    def test_reservations(self) -> None:
        """Instances of one reservation that follow each other share its element, over pages too."""
        records = [
            attrs.evolve(INSTANCE, id=f"i-0000000{n}", reservation=f"r-0000000{reservation}")
            for n, reservation in enumerate((1, 1, 2, 2, 1))
        ]
        rendered = [views().render_one(record) for record in records]
        for size in (1, 2, 3, 5):
            body, state = b"", None
            for start in range(0, 5, size):
                part, state = join_instances(rendered[start : start + size], state)
                body += part
            last, state = join_instances([], state)
            found = parsed("DescribeInstances", "reservationSet", body + last)
            self.assertEqual(
                [(part["ReservationId"], len(part["Instances"])) for part in found],
                [("r-00000001", 2), ("r-00000002", 2), ("r-00000001", 1)],
            )
            self.assertIs(state, None)

    def test_nothing(self) -> None:
        """No instance is no reservation."""
        self.assertEqual(join_instances([], None), (b"", None))

    def test_items(self) -> None:
        """Other items stand as they are."""
        self.assertEqual(join_items([b"<item/>", b"<item/>"], None), (b"<item/><item/>", None))

    def test_images(self) -> None:
        """An image's tags are shown to its owner only."""
        image = Image("ami-0000000a", "alpha", "i", "x", public=True, tags={"a": "b"})
        plain = attrs.evolve(image, tags={})
        rendered = [views().render_one(image), views().render_one(plain)]
        for project, tags in (("alpha", [{"Key": "a", "Value": "b"}]), ("beta", None)):
            body, _ = join_images(project)(rendered, None)
            found = parsed("DescribeImages", "imagesSet", body)
            self.assertEqual([each.get("Tags") for each in found], [tags, None])
