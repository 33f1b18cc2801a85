"""
How records look to EC2's clients: dicts by botocore's names, and the XML that
is stored beside each record when it is written.

A stored view has what a listing needs besides the item, before a NUL: an
instance's reservation, an image's owner.  The C{join_…} functions here put a
page of views together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any

from zope.interface import implementer

from fabric.api.ec2.wire.answers import Answers
from fabric.api.ec2.wire.model import load_model
from fabric.model.group import SecurityGroup
from fabric.model.image import Image
from fabric.model.instance import CODES, GroupName, Instance
from fabric.model.keypair import KeyPair
from fabric.model.record import Record, iso_time
from fabric.store.interface import IViews

SHAPES = (*("Instance", "Reservation", "InstanceStatus", "KeyPairInfo", "Image", "SecurityGroup", "TagDescription"),)
"""What the renderers here need of EC2's model."""

NAME = "ec2"
"""The view's name in the store."""

DOMAIN = "ec2.internal"
"""What follows the host name in an instance's DNS name."""

Shown = dict[str, Any]
Join = Callable[[list[bytes], Any], tuple[bytes, Any]]

RESOURCE_TYPES = {"instance": "instance", "key_pair": "key-pair", "image": "image", "group": "security-group"}
RESOURCE_TYPES |= {"placement_group": "placement-group", "launch_template": "launch-template"}
RESOURCE_TYPES |= {"volume": "volume", "snapshot": "snapshot", "address": "elastic-ip"}
"""EC2's name for each kind that has tags."""

_REMEMBERED = 512
"""Launches whose common part is kept rendered; some 1 kB each."""

_OPEN, _CLOSE = b"<instancesSet>", b"</instancesSet></item>"


def load_views(domain: str = DOMAIN) -> EC2Views:
    """
    The views by themselves, for a service that writes records and has no
    door; reads EC2's model, which takes some 50 ms.
    """
    return EC2Views(Answers(load_model((), SHAPES)), domain)


@implementer(IViews)
class EC2Views:
    """
    Renders instances, key pairs, images and security groups.

    @param answers: compiled from a model that has L{SHAPES}.
    @param domain: see L{DOMAIN}.
    """

    def __init__(self, answers: Answers, domain: str = DOMAIN) -> None:
        self.domain = domain
        self._reservation = answers.fragment("Reservation")
        self._instance = answers.fragment("Instance")
        self._settled = lru_cache(maxsize=_REMEMBERED)(lambda *launch: self._instance(_settled(*launch)))
        self._status = answers.item("InstanceStatus")
        self._tag = answers.item("TagDescription")
        self._image = answers.item("Image")
        self._key_pair = answers.item("KeyPairInfo")
        self._group = answers.item("SecurityGroup")
        self._kinds: dict[str, Callable[[Any], bytes]] = {
            Instance.kind: self._view_instance,
            Image.kind: self._view_image,
            KeyPair.kind: lambda pair: self._key_pair(key_pair(pair)),
            SecurityGroup.kind: lambda record: self._group(group(record)),
        }

    def render(self, record: Record) -> dict[str, bytes]:
        """See L{IViews.render}."""
        view = self._kinds.get(record.kind)
        return {} if view is None else {NAME: view(record)}

    def render_one(self, record: Record) -> bytes:
        """The view of a record of a kind that has one."""
        return self._kinds[record.kind](record)

    def render_status(self, record: Instance) -> bytes:
        """An instance as DescribeInstanceStatus lists it."""
        return self._status(instance_status(record))

    def render_public_key(self, record: KeyPair) -> bytes:
        """A key pair with its public key."""
        return self._key_pair({**key_pair(record), "PublicKey": record.public_key})

    def render_tag(self, tag: tuple[str, str, str, str]) -> bytes:
        """A tag as DescribeTags lists it: resource id, kind, key, value."""
        resource, kind, key, value = tag
        shown = {"Key": key, "ResourceId": resource, "ResourceType": RESOURCE_TYPES[kind], "Value": value}
        return self._tag(shown)

    def instance(self, record: Instance) -> Shown:
        """
        @return: an instance by the names of botocore's C{Instance}.
        """
        return instance(record, self.domain)

    def _view_instance(self, record: Instance) -> bytes:
        header = self._reservation(reservation(record))
        changing, settled = self._instance(_changing(record, self.domain)), self._settled(*_of_launch(record))
        return b"%b\0<item>%b%b</item>" % (header, changing, settled)

    def _view_image(self, record: Image) -> bytes:
        shown = image(record)
        tags = shown.pop("Tags")
        item = self._image(shown)
        if not tags:
            return b"%b\0%b" % (record.project.encode(), item)
        tagged = self._image({"Tags": tags}).removeprefix(b"<item>").removesuffix(b"</item>")
        return b"%b\0%b\0%b\0</item>" % (record.project.encode(), item.removesuffix(b"</item>"), tagged)


def join_instances(views: list[bytes], opened: Any) -> tuple[bytes, Any]:
    """
    Put instances that follow each other in one reservation's element.

    @param opened: the header of the reservation that is open, None for none.
    """
    parts: list[bytes] = []
    for view in views:
        header, _, item = view.partition(b"\0")
        if header != opened:
            parts += (b"<item>" if opened is None else _CLOSE + b"<item>", header, _OPEN)
            opened = header
        parts.append(item)
    if not views and opened is not None:
        return _CLOSE, None
    return b"".join(parts), opened


def join_items(views: list[bytes], state: Any) -> tuple[bytes, Any]:
    """
    Items as they are.
    """
    return b"".join(views), None


def join_images(project: str) -> Join:
    """
    Images, with tags only on those that are the project's own: tags are
    private even where the image is public.
    """
    owner = project.encode()

    def join(views: list[bytes], state: Any) -> tuple[bytes, Any]:
        parts: list[bytes] = []
        for view in views:
            whose, *item = view.split(b"\0")
            if len(item) == 3 and whose != owner:
                del item[1]
            parts += item
        return b"".join(parts), None

    return join


def reservation(record: Instance) -> Shown:
    """
    An instance's reservation by the names of botocore's C{Reservation},
    without instances.  It has no groups, as in a VPC: they are the instance's
    and may change.
    """
    return {"ReservationId": record.reservation, "OwnerId": record.project, "Groups": []}


def instance(record: Instance, domain: str = DOMAIN) -> Shown:
    """
    An instance by the names of botocore's C{Instance}.
    """
    return _changing(record, domain) | _settled(*_of_launch(record))


def _changing(record: Instance, domain: str) -> Shown:
    """
    What differs between the instances of a launch, or often changes.  One
    that is terminated shows no address: it may be another's by now.
    """
    address = host_name = None
    if record.ports and record.live:
        address = record.ports[0].address or None
        host_name = address and dns_name(record.ports[0].hostname, domain)
    return {
        "InstanceId": record.id,
        "State": _STATES[record.state],
        "PrivateDnsName": host_name or "",
        "StateTransitionReason": record.reason_text,
        "AmiLaunchIndex": record.launch_index,
        "PrivateIpAddress": address,
        "StateReason": record.reason and {"Code": record.reason.code, "Message": record.reason.message},
        "Tags": tags(record.tags) if record.tags else None,
    }


_of_launch = attrgetter(
    *("image", "flavor.name", "flavor.vcpus", "launched_at", "zone", "wanted_zone", "groups", "key_name", "kernel"),
    *("ramdisk", "architecture", "client_token", "monitoring", "source_dest_check", "ebs_optimized", "ena_support"),
)


def _settled(
    image: str,
    flavor: str,
    vcpus: int,
    launched_at: float,
    zone: str,
    wanted_zone: str,
    groups: tuple[GroupName, ...],
    key_name: str,
    kernel: str,
    ramdisk: str,
    architecture: str,
    client_token: str,
    monitoring: bool,
    source_dest_check: bool,
    ebs_optimized: bool,
    ena_support: bool,
) -> Shown:
    """
    What the instances of a launch have in common, and what is so for all.
    """
    return {
        "ImageId": image,
        "InstanceType": flavor,
        "LaunchTime": launched_at,
        "Placement": {"AvailabilityZone": zone or wanted_zone, "GroupName": "", "Tenancy": "default"},
        "Monitoring": {"State": "enabled" if monitoring else "disabled"},
        "KeyName": key_name or None,
        "KernelId": kernel or None,
        "RamdiskId": ramdisk or None,
        "Architecture": architecture,
        "ClientToken": client_token,
        "SecurityGroups": [{"GroupId": group.id, "GroupName": group.name} for group in groups],
        "SourceDestCheck": source_dest_check,
        "EbsOptimized": ebs_optimized,
        "EnaSupport": ena_support,
        "CpuOptions": {"CoreCount": vcpus, "ThreadsPerCore": 1},
        "PublicDnsName": "",
        "ProductCodes": [],
        "RootDeviceType": "instance-store",
        "BlockDeviceMappings": [],
        "VirtualizationType": "hvm",
        "Hypervisor": "xen",
        "PlatformDetails": "Linux/UNIX",
    }


_STATES = {name: {"Code": code, "Name": name} for name, code in CODES.items()}


def state(name: str) -> Shown:
    """
    A state by the names of botocore's C{InstanceState}.
    """
    return _STATES[name]


def instance_status(record: Instance) -> Shown:
    """
    An instance by the names of botocore's C{InstanceStatus}: what runs is
    ok as far as the cloud can tell, and there are no events to announce.
    """
    check = _OK if record.state == "running" else _NOT_APPLICABLE
    return {
        "InstanceId": record.id,
        "AvailabilityZone": record.zone or record.wanted_zone,
        "Events": None,
        "InstanceState": state(record.state),
        "SystemStatus": check,
        "InstanceStatus": check,
    }


_OK = {"Status": "ok", "Details": [{"Name": "reachability", "Status": "passed"}]}
_NOT_APPLICABLE = {"Status": "not-applicable"}


def image(record: Image) -> Shown:
    """
    An image by the names of botocore's C{Image}.
    """
    return {
        "ImageId": record.id,
        "ImageLocation": record.location,
        "State": record.state,
        "OwnerId": record.project,
        "CreationDate": iso_time(record.created_at),
        "Public": record.public,
        "ProductCodes": [],
        "Architecture": record.architecture,
        "ImageType": record.type,
        "KernelId": record.kernel or None,
        "RamdiskId": record.ramdisk or None,
        "PlatformDetails": "Linux/UNIX",
        "Name": record.name,
        "Description": record.description,
        "RootDeviceType": "instance-store",
        "BlockDeviceMappings": [],
        "VirtualizationType": "hvm",
        "Hypervisor": "xen",
        "Tags": tags(record.tags) if record.tags else None,
    }


def key_pair(record: KeyPair) -> Shown:
    """
    A key pair by the names of botocore's C{KeyPairInfo}.
    """
    return {
        "KeyPairId": record.id,
        "KeyType": record.key_type,
        "Tags": tags(record.tags),
        "CreateTime": record.created_at,
        "KeyName": record.name,
        "KeyFingerprint": record.fingerprint,
    }


def group(record: SecurityGroup) -> Shown:
    """
    A security group by the names of botocore's C{SecurityGroup}.
    """
    return {
        "OwnerId": record.project,
        "GroupId": record.id,
        "GroupName": record.name,
        "Description": record.description,
        "IpPermissions": [],
        "IpPermissionsEgress": [],
        "Tags": tags(record.tags) if record.tags else None,
    }


def tags(record_tags: dict[str, str]) -> list[Shown]:
    """
    Tags as botocore has them.
    """
    return [{"Key": key, "Value": value} for key, value in record_tags.items()]


def dns_name(host_name: str, domain: str = DOMAIN) -> str:
    """
    A host name with its domain.
    """
    return f"{host_name}.{domain}" if host_name else ""
