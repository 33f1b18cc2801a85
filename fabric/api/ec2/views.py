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

from fabric.api.ec2.group_views import group, group_for_vpc, security_group_rule
from fabric.api.ec2.instance_health import instance_status
from fabric.api.ec2.launch_views import (
    launch_template,
    launch_template_version,
    placement_group,
    shown_metadata_options,
    shown_placement,
)
from fabric.api.ec2.network_views import (
    address,
    changing_interface,
    dns_name,
    fill_template,
    interface_port,
    interface_template,
    network_interface,
    settled_interface,
)
from fabric.api.ec2.volume_views import SHAPES as VOLUME_SHAPES
from fabric.api.ec2.volume_views import disks, modification, snapshot, volume, volume_status
from fabric.api.ec2.wire.answers import Answers
from fabric.api.ec2.wire.model import load_model
from fabric.model.address import Address
from fabric.model.group import SecurityGroup
from fabric.model.image import Image
from fabric.model.instance import CODES, GroupName, Instance
from fabric.model.keypair import KeyPair
from fabric.model.metadata_options import MetadataOptions
from fabric.model.placement_group import Membership, PlacementGroup
from fabric.model.record import Record, iso_time
from fabric.model.rule import Rule
from fabric.model.snapshot import Snapshot
from fabric.model.template import LaunchTemplate, LaunchTemplateVersion
from fabric.model.volume import Volume
from fabric.model.vpc import subnet_id, vpc_id
from fabric.store.interface import IViews

SHAPES: tuple[str, ...] = (
    *("Instance", "Reservation", "InstanceStatus", "KeyPairInfo", "Image", "SecurityGroup", "TagDescription"),
)
SHAPES += ("Address", "InstanceNetworkInterface", "NetworkInterface")
SHAPES += VOLUME_SHAPES
SHAPES += ("PlacementGroup", "LaunchTemplate", "LaunchTemplateVersion")
SHAPES += ("SecurityGroupRule", "SecurityGroupForVpc")
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
RESOURCE_TYPES |= {"rule": "security-group-rule"}
"""EC2's name for each kind that has tags."""

_REMEMBERED = 512
"""Launches whose common part is kept rendered; some 1 kB each."""

_INTERFACE = b"<networkInterfaceSet><item>%b</item></networkInterfaceSet>"

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
        self._address = answers.item("Address")
        self._network_interface = answers.item("NetworkInterface")
        interface = self._interface = answers.fragment("InstanceNetworkInterface")
        self._interfaces = lru_cache(maxsize=_REMEMBERED)(lambda *launch: interface_template(interface, *launch))
        self._image = answers.item("Image")
        self._key_pair = answers.item("KeyPairInfo")
        self._group = answers.item("SecurityGroup")
        self._group_rule = answers.item("SecurityGroupRule")
        self._group_for_vpc = answers.item("SecurityGroupForVpc")
        self._placement_group = answers.item("PlacementGroup")
        self._launch_template = answers.item("LaunchTemplate")
        self._template_version = answers.item("LaunchTemplateVersion")
        self._volume = answers.item("Volume")
        self._volume_status = answers.item("VolumeStatusItem")
        self._modification = answers.item("VolumeModification")
        self._snapshot = answers.item("Snapshot")
        self._kinds: dict[str, Callable[[Any], bytes]] = {
            Volume.kind: lambda record: self._volume(volume(record)),
            Snapshot.kind: self._view_snapshot,
            Instance.kind: self._view_instance,
            Address.kind: lambda record: self._address(address(record)),
            Image.kind: self._view_image,
            PlacementGroup.kind: lambda record: self._placement_group(placement_group(record)),
            LaunchTemplate.kind: lambda record: self._launch_template(launch_template(record)),
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

    def render_status(self, record: Instance, silent: bool = False) -> bytes:
        """An instance as DescribeInstanceStatus lists it; C{silent} when its host does not report."""
        return self._status(instance_status(record, state(record.state), silent))

    def render_template_version(self, pair: tuple[LaunchTemplate, LaunchTemplateVersion]) -> bytes:
        """A version as DescribeLaunchTemplateVersions lists it, with its template."""
        return self._template_version(launch_template_version(*pair))

    def render_interface(self, record: Instance) -> bytes:
        """An instance's interface as DescribeNetworkInterfaces lists it."""
        return self._network_interface(network_interface(record, self.domain))

    def render_volume_status(self, record: Volume) -> bytes:
        """A volume as DescribeVolumeStatus lists it."""
        return self._volume_status(volume_status(record))

    def render_modification(self, record: Volume) -> bytes:
        """A volume's growth as DescribeVolumesModifications lists it."""
        return self._modification(modification(record))

    def render_public_key(self, record: KeyPair) -> bytes:
        """A key pair with its public key."""
        return self._key_pair({**key_pair(record), "PublicKey": record.public_key})

    def render_tag(self, tag: tuple[str, str, str, str]) -> bytes:
        """A tag as DescribeTags lists it: resource id, kind, key, value."""
        resource, kind, key, value = tag
        shown = {"Key": key, "ResourceId": resource, "ResourceType": RESOURCE_TYPES[kind], "Value": value}
        return self._tag(shown)

    def render_rule(self, record: SecurityGroup, rule: Rule) -> bytes:
        """A rule as DescribeSecurityGroupRules lists it."""
        return self._group_rule(security_group_rule(record, rule))

    def render_group_for_vpc(self, record: SecurityGroup) -> bytes:
        """A group as GetSecurityGroupsForVpc lists it."""
        return self._group_for_vpc(group_for_vpc(record))

    def instance(self, record: Instance) -> Shown:
        """
        @return: an instance by the names of botocore's C{Instance}.
        """
        return instance(record, self.domain)

    def _view_instance(self, record: Instance) -> bytes:
        header = self._reservation(reservation(record))
        changing, settled = self._instance(_changing(record, self.domain)), self._settled(*_of_launch(record))
        return b"%b\0<item>%b%b%b</item>" % (header, changing, self._view_interface(record), settled)

    def _view_interface(self, record: Instance) -> bytes:
        port = interface_port(record)
        if port is None:
            return b"<networkInterfaceSet/>"
        zone = record.zone or record.wanted_zone
        common = (record.project, port.network, zone, record.groups, record.source_dest_check)
        if port.public is None:
            return _INTERFACE % fill_template(self._interfaces(record.launched_at, *common), record, port, self.domain)
        return _INTERFACE % self._interface(changing_interface(record, port, self.domain) | settled_interface(*common))

    def _view_image(self, record: Image) -> bytes:
        return _private_tags(record.project, image(record), self._image)

    def _view_snapshot(self, record: Snapshot) -> bytes:
        return _private_tags(record.project, snapshot(record), self._snapshot)


def _private_tags(project: str, shown: Shown, render: Callable[[Shown], bytes]) -> bytes:
    """
    The item of something that may be others' to see, for L{join_images}.
    """
    tags = shown.pop("Tags")
    item = render(shown)
    if not tags:
        return b"%b\0%b" % (project.encode(), item)
    tagged = render({"Tags": tags}).removeprefix(b"<item>").removesuffix(b"</item>")
    return b"%b\0%b\0%b\0</item>" % (project.encode(), item.removesuffix(b"</item>"), tagged)


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
    shown = _changing(record, domain) | _settled(*_of_launch(record))
    port = interface_port(record)
    shown["NetworkInterfaces"] = []
    if port is not None:
        zone = record.zone or record.wanted_zone
        common = settled_interface(record.project, port.network, zone, record.groups, record.source_dest_check)
        shown["NetworkInterfaces"].append(changing_interface(record, port, domain) | common)
    return shown


def _changing(record: Instance, domain: str) -> Shown:
    """
    What differs between the instances of a launch, or often changes.  One
    that is terminated shows no address: it may be another's by now.
    """
    address = host_name = public = vpc = subnet = None
    if record.ports and record.live:
        port = record.ports[0]
        address, public, zone = port.address or None, port.public, record.zone or record.wanted_zone
        host_name = address and dns_name(port.hostname, domain)
        vpc, subnet = vpc_id(record.project), zone and subnet_id(record.project, port.network, zone)
    return {
        "InstanceId": record.id,
        "State": _STATES[record.state],
        "PrivateDnsName": host_name or "",
        "StateTransitionReason": record.reason_text,
        "AmiLaunchIndex": record.launch_index,
        "PrivateIpAddress": address,
        "PublicIpAddress": public and public.address,
        "PublicDnsName": dns_name(public.hostname, domain) if public else "",
        "VpcId": vpc,
        "SubnetId": subnet or None,
        "StateReason": record.reason and {"Code": record.reason.code, "Message": record.reason.message},
        "BlockDeviceMappings": disks(record),
        "Tags": tags(record.tags) if record.tags else None,
    }


_of_launch = attrgetter(
    *("image", "flavor.name", "flavor.vcpus", "launched_at", "zone", "wanted_zone", "groups", "key_name", "kernel"),
    *("ramdisk", "architecture", "client_token", "monitoring", "source_dest_check", "ebs_optimized", "ena_support"),
    *("placement", "metadata_options", "root_device", "boots_volume"),
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
    placement: Membership | None,
    metadata_options: MetadataOptions,
    root_device: str,
    boots_volume: bool,
) -> Shown:
    """
    What the instances of a launch have in common, and what is so for all.
    """
    return {
        "ImageId": image,
        "InstanceType": flavor,
        "LaunchTime": launched_at,
        "Placement": shown_placement(zone or wanted_zone, placement),
        "MetadataOptions": shown_metadata_options(metadata_options),
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
        "ProductCodes": [],
        "RootDeviceType": "ebs" if boots_volume else "instance-store",
        "RootDeviceName": root_device or None,
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


def image(record: Image) -> Shown:
    """
    An image by the names of botocore's C{Image}.
    """
    return {
        "ImageId": record.id,
        "ImageLocation": record.shown_location,
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
        "RootDeviceType": record.root_type,
        "RootDeviceName": record.root_device or None,
        "BlockDeviceMappings": image_disks(record),
        "VirtualizationType": "hvm",
        "Hypervisor": "xen",
        "SourceInstanceId": record.instance or None,
        "SourceImageId": record.source or None,
        "StateReason": {"Code": "Server.InternalError", "Message": record.reason} if record.reason else None,
        "Tags": tags(record.tags) if record.tags else None,
    }


def image_disks(record: Image) -> list[Shown]:
    """
    The volumes that a launch of an image makes, by the names of botocore's
    C{BlockDeviceMapping}.
    """
    return [
        {
            "DeviceName": disk.device,
            "Ebs": {
                "DeleteOnTermination": disk.delete_on_termination,
                "SnapshotId": disk.snapshot or None,
                "VolumeSize": disk.size_gb or None,
                "VolumeType": disk.volume_type,
                "Encrypted": False,
            },
        }
        for disk in record.disks
    ]


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


def tags(record_tags: dict[str, str]) -> list[Shown]:
    """
    Tags as botocore has them.
    """
    return [{"Key": key, "Value": value} for key, value in record_tags.items()]
