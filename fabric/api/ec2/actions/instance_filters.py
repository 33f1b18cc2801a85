"""
The filters of DescribeInstances and DescribeInstanceStatus.

What this cloud has none of (volumes, public addresses, VPCs, capacity
reservations, …) is known as a filter and matches no instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fabric.api.ec2.filters import FilterTable, Rule, choice, constant, facet, flag, of_record, own_project
from fabric.api.ec2.views import DOMAIN, dns_name
from fabric.cloud.access import Caller
from fabric.model.instance import CODES, Instance

_BY_CODE = {str(code): (name,) for name, code in CODES.items()}
_NOT_RUNNING = tuple(name for name in CODES if name != "running")
_HEALTH = {"ok": ("running",), "not-applicable": _NOT_RUNNING}
_REACHED = {"passed": ("running",)}


def _reasons(instance: Instance) -> Iterable[str]:
    return (instance.reason_text, instance.reason.code if instance.reason else "")


def _reason_message(instance: Instance) -> Iterable[str]:
    return (instance.reason.message,) if instance.reason else ()


def host_name(domain: str) -> Rule:
    """
    A DNS name, of which the store files what stands before the domain.
    """
    suffix = "." + domain

    def names(instance: Instance) -> list[str]:
        return [dns_name(port.hostname, domain) for port in instance.ports if port.hostname and instance.live]

    by_record = of_record(names)

    def rule(caller: Caller, values: tuple[str, ...]) -> object:
        if all(value.endswith(suffix) for value in values):
            return ("hostname", tuple(value.removesuffix(suffix) for value in values))
        return by_record(caller, values)

    return rule  # type: ignore[return-value]


_FILED = {
    "availability-zone": "zone",
    "availability-zone-id": "zone",
    "client-token": "token",
    "image-id": "image",
    "instance-id": "id",
    "instance-state-name": "state",
    "instance-type": "type",
    "instance.group-id": "group",
    "instance.group-name": "group-name",
    "group-id": "group",
    "group-name": "group-name",
    "kernel-id": "kernel",
    "key-name": "key",
    "launch-index": "index",
    "launch-time": "launched",
    "network-interface.addresses.private-ip-address": "address",
    "network-interface.attachment.instance-id": "id",
    "network-interface.availability-zone": "zone",
    "network-interface.group-id": "group",
    "network-interface.group-name": "group-name",
    "network-interface.mac-address": "mac",
    "network-interface.private-ip-address": "address",
    "private-ip-address": "address",
    "ramdisk-id": "ramdisk",
    "reservation-id": "reservation",
    "state-reason-code": "reason",
}
"""EC2's name and the facet's, where the values are the same."""

_ALIKE = {
    "hypervisor": ("xen",),
    "platform-details": ("Linux/UNIX",),
    "root-device-type": ("instance-store",),
    "tenancy": ("default",),
    "virtualization-type": ("hvm",),
    "enclave-options.enabled": ("false",),
    "hibernation-options.configured": ("false",),
    "operator.managed": ("false",),
    "network-interface.addresses.primary": ("true",),
    "network-interface.attachment.device-index": ("0",),
    "network-interface.attachment.status": ("attached",),
    "network-interface.status": ("in-use",),
    "network-interface.operator.managed": ("false",),
    "network-interface.requester-managed": ("false",),
    "usage-operation": ("RunInstances",),
}
"""What is the same for all instances."""

_ABSENT = """
    affinity block-device-mapping.attach-time block-device-mapping.delete-on-termination
    block-device-mapping.device-name block-device-mapping.status block-device-mapping.volume-id boot-mode
    capacity-reservation-id capacity-reservation-specification.capacity-reservation-preference
    capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id
    capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn
    current-instance-boot-mode dns-name host-id iam-instance-profile.arn iam-instance-profile.id
    iam-instance-profile.name instance-lifecycle ip-address ipv6-address maintenance-options.auto-recovery
    metadata-options.http-endpoint metadata-options.http-protocol-ipv4 metadata-options.http-protocol-ipv6
    metadata-options.http-put-response-hop-limit metadata-options.http-tokens
    metadata-options.instance-metadata-tags metadata-options.state
    network-interface.addresses.association.allocation-id network-interface.addresses.association.association-id
    network-interface.addresses.association.carrier-ip network-interface.addresses.association.customer-owned-ip
    network-interface.addresses.association.ip-owner-id network-interface.addresses.association.public-dns-name
    network-interface.addresses.association.public-ip network-interface.association.allocation-id
    network-interface.association.association-id network-interface.association.carrier-ip
    network-interface.association.customer-owned-ip network-interface.association.ip-owner-id
    network-interface.association.public-dns-name network-interface.association.public-ip
    network-interface.attachment.attach-time network-interface.attachment.attachment-id
    network-interface.attachment.delete-on-termination network-interface.attachment.network-card-index
    network-interface.deny-all-igw-traffic network-interface.description
    network-interface.ipv4-prefixes.ipv4-prefix network-interface.ipv6-address
    network-interface.ipv6-addresses.ipv6-address network-interface.ipv6-addresses.is-primary-ipv6
    network-interface.ipv6-native network-interface.ipv6-prefixes.ipv6-prefix
    network-interface.network-interface-id network-interface.operator.principal network-interface.outpost-arn
    network-interface.public-dns-name network-interface.requester-id network-interface.subnet-id
    network-interface.tag-key network-interface.tag-value network-interface.vpc-id
    network-performance-options.bandwidth-weighting operator.principal outpost-arn placement-group-name
    placement-partition-number platform private-dns-name-options.enable-resource-name-dns-a-record
    private-dns-name-options.enable-resource-name-dns-aaaa-record private-dns-name-options.hostname-type
    product-code product-code.type requester-id root-device-name spot-instance-request-id subnet-id
    tpm-support usage-operation-update-time vpc-id
"""

_READ: dict[str, Callable[[Instance], Iterable[str]]] = {
    "architecture": lambda instance: (instance.architecture,),
    "monitoring-state": lambda instance: ("enabled" if instance.monitoring else "disabled",),
    "reason": _reasons,
    "state-reason-message": _reason_message,
}
"""What is seldom asked, and so read from the records."""


def instance_filters(domain: str = DOMAIN) -> FilterTable:
    """
    @param domain: as the views have it.
    """
    rules: dict[str, Rule] = {name: constant() for name in _ABSENT.split()}
    rules |= {name: facet(own) for name, own in _FILED.items()}
    rules |= {name: constant(*values) for name, values in _ALIKE.items()}
    rules |= {name: of_record(read) for name, read in _READ.items()}
    rules |= dict.fromkeys(("owner-id", "network-interface.owner-id"), own_project)
    rules["network-interface.attachment.instance-owner-id"] = own_project
    rules["instance-state-code"] = choice("state", _BY_CODE)
    rules["ebs-optimized"] = flag(lambda instance: instance.ebs_optimized)
    rules["ena-support"] = flag(lambda instance: instance.ena_support)
    for name in ("source-dest-check", "network-interface.source-dest-check"):
        rules[name] = flag(lambda instance: instance.source_dest_check)
    for name in ("private-dns-name", "network-interface.private-dns-name"):
        rules[name] = host_name(domain)
    rules["network-interface.addresses.private-dns-name"] = host_name(domain)
    return FilterTable(rules)


def status_filters() -> FilterTable:
    """
    What runs is well as far as the cloud can tell; nothing is scheduled to
    happen to anything.
    """
    events = ("code", "description", "instance-event-id", "not-after", "not-before", "not-before-deadline")
    rules: Mapping[str, Rule] = {
        "availability-zone": facet("zone"),
        "availability-zone-id": facet("zone"),
        **{f"event.{name}": constant() for name in events},
        "instance-state-code": choice("state", _BY_CODE),
        "instance-state-name": facet("state"),
        **{f"{check}-status.status": choice("state", _HEALTH) for check in ("instance", "system")},
        **{f"{check}-status.reachability": choice("state", _REACHED) for check in ("instance", "system")},
        "attached-ebs-status.status": constant(),
        "application-status.status": constant(),
        "operator.managed": constant("false"),
        "operator.principal": constant(),
    }
    return FilterTable(rules)
