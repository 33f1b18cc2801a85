"""
The filters of DescribeInstances and DescribeInstanceStatus.

What this cloud has none of (capacity reservations, …) is known as a filter and matches no instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fabric.api.ec2.actions.network_filters import connection_rules
from fabric.api.ec2.filters import FilterTable, Rule, choice, constant, facet, flag, of_record, own_project
from fabric.api.ec2.instance_health import checks, reachability
from fabric.api.ec2.views import DOMAIN
from fabric.model.instance import CODES, Instance

_BY_CODE = {str(code): (name,) for name, code in CODES.items()}
_CHECKS = ("system", "instance")


def _reasons(instance: Instance) -> Iterable[str]:
    return (instance.reason_text, instance.reason.code if instance.reason else "")


def _reason_message(instance: Instance) -> Iterable[str]:
    return (instance.reason.message,) if instance.reason else ()


_FILED = {
    "placement-group-name": "placement-group-name",
    "placement-partition-number": "partition",
    "block-device-mapping.attach-time": "block-device-mapping.attached",
    "block-device-mapping.delete-on-termination": "block-device-mapping.delete",
    "block-device-mapping.device-name": "block-device-mapping.device",
    "block-device-mapping.status": "block-device-mapping.status",
    "block-device-mapping.volume-id": "block-device-mapping.volume",
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
    "ramdisk-id": "ramdisk",
    "reservation-id": "reservation",
    "state-reason-code": "reason",
}
"""EC2's name and the facet's, where the values are the same."""

_ALIKE = {
    "hypervisor": ("xen",),
    "platform-details": ("Linux/UNIX",),
    "tenancy": ("default",),
    "virtualization-type": ("hvm",),
    "enclave-options.enabled": ("false",),
    "hibernation-options.configured": ("false",),
    "operator.managed": ("false",),
    "usage-operation": ("RunInstances",),
    "metadata-options.state": ("applied",),
    "metadata-options.http-protocol-ipv4": ("enabled",),
    "metadata-options.http-protocol-ipv6": ("disabled",),
}
"""What is the same for all instances."""

_ABSENT = """
    affinity boot-mode
    capacity-reservation-id capacity-reservation-specification.capacity-reservation-preference
    capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id
    capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn
    current-instance-boot-mode host-id iam-instance-profile.arn iam-instance-profile.id
    iam-instance-profile.name instance-lifecycle ipv6-address maintenance-options.auto-recovery
    network-interface.addresses.association.allocation-id network-interface.addresses.association.association-id
    network-interface.addresses.association.carrier-ip network-interface.addresses.association.customer-owned-ip
    network-interface.association.carrier-ip network-interface.association.customer-owned-ip
    network-interface.deny-all-igw-traffic network-interface.ipv4-prefixes.ipv4-prefix
    network-interface.ipv6-address network-interface.ipv6-addresses.is-primary-ipv6
    network-interface.ipv6-native network-interface.ipv6-prefixes.ipv6-prefix network-interface.outpost-arn
    network-interface.tag-key network-interface.tag-value network-performance-options.bandwidth-weighting
    operator.principal outpost-arn platform
    private-dns-name-options.enable-resource-name-dns-a-record
    private-dns-name-options.enable-resource-name-dns-aaaa-record private-dns-name-options.hostname-type
    product-code product-code.type requester-id spot-instance-request-id tpm-support
    usage-operation-update-time
"""

_READ: dict[str, Callable[[Instance], Iterable[str]]] = {
    "architecture": lambda instance: (instance.architecture,),
    "monitoring-state": lambda instance: ("enabled" if instance.monitoring else "disabled",),
    "metadata-options.http-endpoint": lambda instance: (instance.metadata_options.endpoint,),
    "metadata-options.http-put-response-hop-limit": lambda instance: (str(instance.metadata_options.hops),),
    "metadata-options.http-tokens": lambda instance: (instance.metadata_options.tokens,),
    "metadata-options.instance-metadata-tags": lambda instance: (instance.metadata_options.tags,),
    "reason": _reasons,
    "root-device-name": lambda instance: (instance.root_device,) if instance.root_device else (),
    "root-device-type": lambda instance: ("ebs" if instance.boots_volume else "instance-store",),
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
    rules["owner-id"] = own_project
    rules["instance-state-code"] = choice("state", _BY_CODE)
    rules["ebs-optimized"] = flag(lambda instance: instance.ebs_optimized)
    rules["ena-support"] = flag(lambda instance: instance.ena_support)
    rules["source-dest-check"] = flag(lambda instance: instance.source_dest_check)
    return FilterTable(rules | connection_rules(domain))


def status_filters(silent: Callable[[Instance], bool]) -> FilterTable:
    """
    Nothing is scheduled to happen to anything.

    @param silent: whether an instance's host does not report any more.
    """

    def health(which: int) -> Rule:
        return of_record(lambda record: (checks(record, silent(record))[which],))

    def reached(which: int) -> Rule:
        return of_record(lambda record: (reachability(checks(record, silent(record))[which]),))

    events = ("code", "description", "instance-event-id", "not-after", "not-before", "not-before-deadline")
    rules: Mapping[str, Rule] = {
        "availability-zone": facet("zone"),
        "availability-zone-id": facet("zone"),
        **{f"event.{name}": constant() for name in events},
        "instance-state-code": choice("state", _BY_CODE),
        "instance-state-name": facet("state"),
        **{f"{check}-status.status": health(which) for which, check in enumerate(_CHECKS)},
        **{f"{check}-status.reachability": reached(which) for which, check in enumerate(_CHECKS)},
        "attached-ebs-status.status": constant(),
        "application-status.status": constant(),
        "operator.managed": constant("false"),
        "operator.principal": constant(),
    }
    return FilterTable(rules)
