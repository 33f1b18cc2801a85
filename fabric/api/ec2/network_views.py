"""
How addresses and network interfaces look to EC2's clients.

An interface is an instance seen from its port: nothing of it is stored apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fabric.model.address import Address
from fabric.model.instance import GroupName, Instance, Port
from fabric.model.vpc import attachment_id, interface_id, subnet_id, vpc_id

Shown = dict[str, Any]

_HOLE = "\ue000"
"""What no group's name and no id has in it."""


def dns_name(host_name: str, domain: str) -> str:
    """
    A host name with its domain.
    """
    return f"{host_name}.{domain}" if host_name else ""


def address(record: Address) -> Shown:
    """
    An address by the names of botocore's C{Address}.
    """
    shown: Shown = {
        "AllocationId": record.id,
        "PublicIp": record.public_ip,
        "PublicIpv4Pool": record.range,
        "Domain": "vpc",
        "InstanceId": "",
        "Tags": [{"Key": key, "Value": value} for key, value in record.tags.items()] if record.tags else None,
    }
    association = record.association
    if association is not None:
        shown |= {
            "AssociationId": association.id,
            "InstanceId": association.instance,
            "NetworkInterfaceId": interface_id(association.instance),
            "NetworkInterfaceOwnerId": record.project,
            "PrivateIpAddress": association.private_ip,
        }
    return shown


def interface_port(record: Instance) -> Port | None:
    """
    The port that an instance shows: none before it has an address, nor when
    that may be another's by now.
    """
    return record.ports[0] if record.live and record.ports and record.ports[0].address else None


def changing_interface(record: Instance, port: Port, domain: str) -> Shown:
    """
    What differs between the interfaces of a launch, by the names of botocore's
    C{InstanceNetworkInterface}.
    """
    association = None if port.public is None else _association(record, port, domain)
    name = dns_name(port.hostname, domain)
    return _interface(_digits(record.id), record.launched_at, port.mac, name, port.address, association)


def _interface(
    digits: str, launched_at: float, mac: str, private_name: str, private_ip: str, association: Shown | None
) -> Shown:
    return {
        "NetworkInterfaceId": interface_id(digits),
        "Attachment": {
            "AttachmentId": attachment_id(digits),
            "AttachTime": launched_at,
            "DeleteOnTermination": True,
            "DeviceIndex": 0,
            "NetworkCardIndex": 0,
            "Status": "attached",
        },
        "Association": association,
        "MacAddress": mac,
        "PrivateDnsName": private_name,
        "PrivateIpAddress": private_ip,
        "PrivateIpAddresses": [
            {
                "Association": association,
                "Primary": True,
                "PrivateDnsName": private_name,
                "PrivateIpAddress": private_ip,
            }
        ],
    }


def interface_template(render: Callable[[Shown], bytes], launched_at: float, *common: Any) -> bytes:
    """
    The interfaces of a launch, rendered once, for L{fill_template}: they differ
    in a few short texts only, of which none needs an escape.

    @param render: of botocore's C{InstanceNetworkInterface}.
    @param common: as of L{settled_interface}.
    """
    shown = _interface(*(_HOLE, launched_at, _HOLE, _HOLE, _HOLE), None) | settled_interface(*common)
    return render(shown).replace(b"%", b"%%").replace(_HOLE.encode(), b"%b")


def fill_template(template: bytes, record: Instance, port: Port, domain: str) -> bytes:
    """
    @return: the interface of an instance without a public address.
    """
    digits, name = _digits(record.id).encode(), dns_name(port.hostname, domain).encode()
    address = port.address.encode()
    return template % (digits, digits, port.mac.encode(), name, address, name, address)


def _digits(instance: str) -> str:
    return instance[2:]


def settled_interface(
    project: str, network: str, zone: str, groups: Iterable[GroupName], source_dest_check: bool
) -> Shown:
    """
    What the interfaces of a launch have in common.
    """
    return {
        "Description": "",
        "Groups": [{"GroupId": group.id, "GroupName": group.name} for group in groups],
        "InterfaceType": "interface",
        "Ipv6Addresses": [],
        "OwnerId": project,
        "SourceDestCheck": source_dest_check,
        "Status": "in-use",
        "SubnetId": subnet_id(project, network, zone),
        "VpcId": vpc_id(project),
    }


def network_interface(record: Instance, domain: str) -> Shown:
    """
    An instance's interface by the names of botocore's C{NetworkInterface}.
    """
    port = record.ports[0]
    zone = record.zone or record.wanted_zone
    shown = changing_interface(record, port, domain)
    shown |= settled_interface(record.project, port.network, zone, record.groups, record.source_dest_check)
    shown["Attachment"] |= {"InstanceId": record.id, "InstanceOwnerId": record.project}
    if port.public is not None:
        ids = {"AllocationId": port.public.allocation, "AssociationId": port.public.association}
        shown["Association"] = shown["Association"] | ids
        shown["PrivateIpAddresses"][0]["Association"] = shown["Association"]
    shown |= {"AvailabilityZone": zone, "AvailabilityZoneId": zone, "RequesterManaged": False, "TagSet": []}
    return shown


def _association(record: Instance, port: Port, domain: str) -> Shown:
    public = port.public
    assert public is not None
    return {
        "IpOwnerId": record.project,
        "PublicDnsName": dns_name(public.hostname, domain),
        "PublicIp": public.address,
    }
