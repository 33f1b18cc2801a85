"""
What a machine may know, as the tree of paths in which it is asked for.

A directory is a dict, a leaf is bytes.  Paths are EC2's.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import attrs
import orjson

from fabric.api.metadata.versions import DYNAMIC_SINCE, SINCE, has
from fabric.cloud.sources import Guest
from fabric.model.device import bare
from fabric.model.instance import Instance, Port
from fabric.model.record import iso_time
from fabric.model.vpc import interface_id, subnet_id, vpc_id

Tree = dict[str, Any]

DOMAIN = "ec2.internal"
"""What follows a host name in a machine's DNS name, as the EC2 door has it."""

ROOT_DEVICE = "/dev/sda1"
"""Where a machine's root disk is when its image does not say, as EC2 names it."""

MACHINES = "mpi"
"""The leaf whose text needs more than the instance itself."""

_DOCUMENT_VERSION = "2017-09-30"
_TAG_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-=._:,@")


@attrs.frozen
class Place:
    """
    What the tree says of the cloud.

    @ivar region: its region.
    @ivar services: the domain of the cloud's own services.
    """

    region: str
    services: str
    domain: str = DOMAIN


class Keys(dict[str, Any]):
    """
    A directory of numbered entries, which lists each one's name beside the
    number.

    @ivar names: by number.
    """

    names: dict[str, str]

    @classmethod
    def of(cls, name: str, text: str) -> Keys:
        """One key."""
        keys = cls({"0": {"openssh-key": text.encode()}})
        keys.names = {"0": name}
        return keys


def listing(node: Tree) -> bytes:
    """
    A directory's text: a line each, with a slash after what is one itself.
    """
    if isinstance(node, Keys):
        return "\n".join(f"{number}={name}" for number, name in node.names.items()).encode()
    return "\n".join(name + "/" * isinstance(entry, dict) for name, entry in node.items()).encode()


def user_data(instance: Instance) -> bytes | None:
    """
    What the launch gave, byte for byte; None when it gave nothing.
    """
    try:
        return base64.b64decode(instance.user_data) or None
    except binascii.Error:  # never written by this version
        return None


def metadata(guest: Guest, place: Place, version: str, machines: bytes | None = None) -> Tree:
    """
    @param machines: the text of L{MACHINES}; None where that is not what is asked
        for.
    @return: all below C{meta-data} that a version has.
    """
    instance = guest.instance
    tree = _plain(instance) | _directories(guest, place)
    tree[MACHINES] = b"-" if machines is None else machines
    if instance.ports:
        tree |= _addresses(instance.ports[0], place)
    return {name: tree[name] for name in sorted(tree) if tree[name] and has(version, SINCE.get(name, "1.0"))}


def _plain(instance: Instance) -> Tree:
    return {
        "ami-id": instance.image.encode(),
        "ami-launch-index": str(instance.launch_index).encode(),
        "ami-manifest-path": instance.image_location.encode() or b"(unknown)",
        "instance-action": b"none",
        "instance-id": instance.id.encode(),
        "instance-life-cycle": b"on-demand",
        "instance-type": instance.flavor.name.encode(),
        "kernel-id": instance.kernel.encode(),
        "ramdisk-id": instance.ramdisk.encode(),
        "reservation-id": instance.reservation.encode(),
        "security-groups": "\n".join(group.name for group in instance.groups).encode(),
    }


def _addresses(port: Port, place: Place) -> Tree:
    name = f"{port.hostname}.{place.domain}".encode()
    tree = {"hostname": name, "local-hostname": name, "local-ipv4": port.address.encode(), "mac": port.mac.encode()}
    if port.public:
        tree["public-hostname"] = f"{port.public.hostname}.{place.domain}".encode()
        tree["public-ipv4"] = port.public.address.encode()
    return tree


def _directories(guest: Guest, place: Place) -> Tree:
    instance = guest.instance
    keys = Keys.of(instance.key_name, instance.key_material) if instance.key_material else {}
    macs = {port.mac: _interface(number, port, guest, place) for number, port in enumerate(instance.ports)}
    return {
        "block-device-mapping": _devices(instance),
        "network": {"interfaces": {"macs": macs}},
        "placement": _placement(instance, place),
        "public-keys": keys,
        "services": {"domain": place.services.encode(), "partition": b"aws"},
        "tags": _tags(instance),
    }


def _devices(instance: Instance) -> Tree:
    root = instance.root_device or ROOT_DEVICE
    tree = {"ami": root.encode()}
    others = sorted(disk.device for disk in instance.disks if bare(disk.device) != bare(root))
    tree |= {f"ebs{number}": device.encode() for number, device in enumerate(others, 1)}
    if instance.scratch_device:
        tree["ephemeral0"] = instance.scratch_device.encode()
    return {**tree, "root": root.encode()}


def _placement(instance: Instance, place: Place) -> Tree:
    tree = {"availability-zone": instance.zone.encode()}
    if instance.placement:
        tree["group-name"] = instance.placement.name.encode()
        if instance.placement.partition:
            tree["partition-number"] = str(instance.placement.partition).encode()
    return {**tree, "region": place.region.encode()}


def _interface(number: int, port: Port, guest: Guest, place: Place) -> Tree:
    instance, network = guest.instance, guest.network
    tree: Tree = {"device-number": str(number).encode(), "interface-id": interface_id(instance.id).encode()}
    public = port.public
    if public:
        tree["ipv4-associations"] = {public.address: port.address.encode()}
    tree |= {
        "local-hostname": f"{port.hostname}.{place.domain}".encode(),
        "local-ipv4s": port.address.encode(),
        "mac": port.mac.encode(),
        "owner-id": instance.project.encode(),
    }
    if public:
        tree["public-hostname"] = f"{public.hostname}.{place.domain}".encode()
        tree["public-ipv4s"] = public.address.encode()
    tree |= {
        "security-group-ids": "\n".join(group.id for group in instance.groups).encode(),
        "security-groups": "\n".join(group.name for group in instance.groups).encode(),
        "subnet-id": subnet_id(instance.project, port.network, instance.zone).encode(),
        "vpc-id": vpc_id(instance.project).encode(),
    }
    if port.network == network.id:
        cidr = network.cidr.encode()
        tree |= {"subnet-ipv4-cidr-block": cidr, "vpc-ipv4-cidr-block": cidr, "vpc-ipv4-cidr-blocks": cidr}
    return tree


def _tags(instance: Instance) -> Tree:
    """
    As EC2 does, only keys that can stand in a path are shown.
    """
    if instance.metadata_options.tags != "enabled":
        return {}
    shown = {key: value.encode() for key, value in instance.tags.items() if _is_path(key)}
    return {"instance": shown} if shown else {}


def _is_path(key: str) -> bool:
    return key not in (".", "..", "_index") and _TAG_SIGNS.issuperset(key)


def dynamic(instance: Instance, place: Place, version: str) -> Tree:
    """
    All below C{dynamic}: the identity document.  It is not signed, so the
    places of its signatures do not exist.
    """
    if not has(version, DYNAMIC_SINCE):
        return {}
    document = {
        "accountId": instance.project,
        "architecture": instance.architecture,
        "availabilityZone": instance.zone,
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": instance.image,
        "instanceId": instance.id,
        "instanceType": instance.flavor.name,
        "kernelId": instance.kernel or None,
        "pendingTime": iso_time(instance.launched_at)[:19] + "Z",
        "privateIp": instance.ports[0].address if instance.ports else None,
        "ramdiskId": instance.ramdisk or None,
        "region": place.region,
        "version": _DOCUMENT_VERSION,
    }
    return {"instance-identity": {"document": orjson.dumps(document, option=orjson.OPT_INDENT_2)}}


def machines(instances: list[Instance]) -> bytes:
    """
    The text of L{MACHINES}: a line for each machine of the launch, as MPI's
    starters read it.
    """
    ordered = sorted(instances, key=lambda instance: instance.launch_index)
    lines = [
        f"{one.ports[0].address} slots={one.flavor.vcpus}" for one in ordered if one.ports and one.ports[0].address
    ]
    return "\n".join(lines).encode()
