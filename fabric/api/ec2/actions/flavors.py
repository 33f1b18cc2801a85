"""
DescribeInstanceTypes, and what is asked of types besides.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.refusals import check_ids, invalid_value, unsupported
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.filters import FilterTable, Rule, constant, of_record
from fabric.api.ec2.pagination import Bounds, token, window
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import Shown
from fabric.cloud.flavors import Flavors
from fabric.cloud.hosts import Hosts
from fabric.cloud.instances import Instances
from fabric.model.flavor import Flavor

BOUNDS = Bounds(5, 100, clamps=False)

MOST_NAMED = 100
"""Types that one request may name."""

_ALIKE = {
    "auto-recovery-supported": ("false",),
    "bare-metal": ("false",),
    "burstable-performance-supported": ("false",),
    "current-generation": ("true",),
    "dedicated-hosts-supported": ("false",),
    "ebs-info.ebs-optimized-support": ("unsupported",),
    "ebs-info.encryption-support": ("unsupported",),
    "ebs-info.nvme-support": ("unsupported",),
    "free-tier-eligible": ("false",),
    "hibernation-supported": ("false",),
    "hypervisor": ("xen",),
    "instance-storage-info.disk.type": ("hdd",),
    "instance-storage-info.encryption-support": ("unsupported",),
    "instance-storage-info.nvme-support": ("unsupported",),
    "instance-storage-supported": ("true",),
    "network-info.efa-supported": ("false",),
    "network-info.ena-support": ("unsupported",),
    "network-info.encryption-in-transit-supported": ("false",),
    "network-info.ipv4-addresses-per-interface": ("1",),
    "network-info.ipv6-addresses-per-interface": ("0",),
    "network-info.ipv6-supported": ("false",),
    "network-info.maximum-network-cards": ("1",),
    "network-info.maximum-network-interfaces": ("1",),
    "nitro-enclaves-support": ("unsupported",),
    "nitro-tpm-support": ("unsupported",),
    "processor-info.supported-architecture": ("x86_64",),
    "reboot-migration-support": ("unsupported",),
    "supported-root-device-type": ("ebs", "instance-store"),
    "supported-usage-class": ("on-demand",),
    "supported-virtualization-type": ("hvm",),
    "vcpu-info.default-threads-per-core": ("1",),
    "vcpu-info.valid-threads-per-core": ("1",),
}

_ABSENT = """
    ebs-info.attachment-limit-type ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps
    ebs-info.ebs-optimized-info.baseline-iops ebs-info.ebs-optimized-info.baseline-throughput-in-mbps
    ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps ebs-info.ebs-optimized-info.maximum-iops
    ebs-info.ebs-optimized-info.maximum-throughput-in-mbps ebs-info.maximum-ebs-attachments
    network-info.bandwidth-weightings network-info.efa-info.maximum-efa-interfaces
    network-info.flexible-ena-queues-support network-info.network-performance nitro-tpm-info.supported-versions
    processor-info.supported-features processor-info.sustained-clock-speed-in-ghz supported-boot-mode
"""

_READ: dict[str, Callable[[Flavor], Iterable[str]]] = {
    "instance-type": lambda flavor: (flavor.name,),
    "memory-info.size-in-mib": lambda flavor: (str(flavor.memory_mb),),
    "vcpu-info.default-vcpus": lambda flavor: (str(flavor.vcpus),),
    "vcpu-info.default-cores": lambda flavor: (str(flavor.vcpus),),
    "vcpu-info.valid-cores": lambda flavor: (str(flavor.vcpus),),
    "instance-storage-info.total-size-in-gb": lambda flavor: (str(sum(_disks(flavor))),),
    "instance-storage-info.disk.size-in-gb": lambda flavor: map(str, _disks(flavor)),
    "instance-storage-info.disk.count": lambda flavor: (str(_disks(flavor).count(size)) for size in _disks(flavor)),
}


_MAKERS = {"10de": "NVIDIA", "1002": "AMD", "8086": "Intel"}
"""Of GPUs, by their PCI vendor's id."""


def _filters() -> FilterTable:
    rules: dict[str, Rule] = {name: constant() for name in _ABSENT.split()}
    rules |= {name: constant(*values) for name, values in _ALIKE.items()}
    rules |= {name: of_record(read) for name, read in _READ.items()}
    return FilterTable(rules, tagged=False)


class FlavorActions:
    """
    Lists the types that instances may have, and where.
    """

    def __init__(self, flavors: Flavors, hosts: Hosts, instances: Instances, region: str) -> None:
        self._flavors = flavors
        self._hosts = hosts
        self._instances = instances
        self._region = region
        self._filters = _filters()

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        pages = ("Filters", "MaxResults", "NextToken")
        registry.add(Action("DescribeInstanceTypes", self.describe, ("InstanceTypes", *pages)))
        registry.add(Action("DescribeInstanceTypeOfferings", self.offerings, ("LocationType", *pages)))
        registry.add(Action("DescribeInstanceCreditSpecifications", self.credits, ("InstanceIds", *pages)))

    @inlineCallbacks
    def describe(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        All types, those named, or those that filters choose; by name.
        """
        narrowing = self._filters.narrow(call.caller, call.parameters.get("Filters"))
        wanted = window(call.action, call.parameters, BOUNDS)
        flavors = yield self._flavors.all()
        names = _names(call.parameters.get("InstanceTypes") or (), flavors)
        found = [flavors[name] for name in names if name > wanted.cursor]
        found = [flavor for flavor in found if narrowing.passes(flavor)]
        answer: dict[str, object] = {"InstanceTypes": [shown(flavor) for flavor in found[: wanted.limit]]}
        if wanted.limit is not None and len(found) > wanted.limit:
            answer["NextToken"] = token(call.action, found[wanted.limit - 1].name)
        return answer

    @inlineCallbacks
    def offerings(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        Which types can be had where: every type in every zone, as any host
        takes any type that it has room for.
        """
        kind = call.parameters.get("LocationType") or "region"
        narrowing = OFFERING_FILTERS.narrow(call.caller, call.parameters.get("Filters"))
        wanted = window(call.action, call.parameters, Bounds(5, 1000, clamps=False))
        if kind == "region":
            places = [self._region]
        elif kind in ("availability-zone", "availability-zone-id"):
            places = [zone.name for zone in (yield self._hosts.zones())]
        else:
            raise invalid_value("LocationType", kind, "Expecting region, availability-zone or availability-zone-id.")
        flavors = yield self._flavors.all()
        offered = [
            {"InstanceType": name, "LocationType": kind, "Location": place} for place in places for name in flavors
        ]
        found = [each for each in offered if narrowing.passes(each)]
        start = int(wanted.cursor) if wanted.cursor.isdecimal() else 0
        end = None if wanted.limit is None else start + wanted.limit
        more = token(call.action, str(end)) if end is not None and end < len(found) else None
        return {"InstanceTypeOfferings": found[start:end], "NextToken": more}

    @inlineCallbacks
    def credits(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        Instances that pay for bursts of their processors by credits: there
        are none, as nothing is throttled here.
        """
        CREDIT_FILTERS.narrow(call.caller, call.parameters.get("Filters"))
        ids = check_ids("instance", call.parameters.get("InstanceIds") or ())
        window(call.action, call.parameters, Bounds(5, 1000, ids="instancesSet"), bool(ids))
        if ids:
            yield self._instances.get(call.caller, ids)
            raise unsupported(f"The instance '{ids[0]}' is not a burstable performance instance: this cloud has none")
        return {"InstanceCreditSpecifications": []}


OFFERING_FILTERS = FilterTable(
    {
        "location": of_record(lambda offering: (offering["Location"],)),
        "instance-type": of_record(lambda offering: (offering["InstanceType"],)),
    },
    tagged=False,
)

CREDIT_FILTERS = FilterTable({"instance-id": constant()}, tagged=False)


def _names(asked: Iterable[str], flavors: Mapping[str, Flavor]) -> list[str]:
    names = sorted(set(asked))
    if len(names) > MOST_NAMED:
        raise EC2Error("InvalidParameterValue", f"At most {MOST_NAMED} instance types can be named")
    unknown = [name for name in names if name not in flavors]
    if unknown:
        raise EC2Error(
            "InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(unknown)}]"
        )
    return names or sorted(flavors)


def shown(flavor: Flavor) -> Shown:
    """
    A type by the names of botocore's C{InstanceTypeInfo}.
    """
    disks = _disks(flavor)
    gpus: Shown = {"GpuInfo": {"Gpus": [_gpus(flavor)]}} if flavor.gpus else {}
    return {
        "InstanceType": flavor.name,
        "CurrentGeneration": True,
        "FreeTierEligible": False,
        "SupportedUsageClasses": ["on-demand"],
        "SupportedRootDeviceTypes": ["ebs", "instance-store"],
        "SupportedVirtualizationTypes": ["hvm"],
        "BareMetal": False,
        "Hypervisor": "xen",
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "VCpuInfo": {
            "DefaultVCpus": flavor.vcpus,
            "DefaultCores": flavor.vcpus,
            "DefaultThreadsPerCore": 1,
            "ValidCores": [flavor.vcpus],
            "ValidThreadsPerCore": [1],
        },
        "MemoryInfo": {"SizeInMiB": flavor.memory_mb},
        "InstanceStorageSupported": True,
        "InstanceStorageInfo": {
            "TotalSizeInGB": sum(disks),
            "Disks": [{"SizeInGB": size, "Count": disks.count(size), "Type": "hdd"} for size in dict.fromkeys(disks)],
            "NvmeSupport": "unsupported",
            "EncryptionSupport": "unsupported",
        },
        "EbsInfo": {
            "EbsOptimizedSupport": "unsupported",
            "EncryptionSupport": "unsupported",
            "NvmeSupport": "unsupported",
        },
        "NetworkInfo": _NETWORK,
        "HibernationSupported": False,
        "BurstablePerformanceSupported": False,
        "DedicatedHostsSupported": False,
        "AutoRecoverySupported": False,
        "NitroEnclavesSupport": "unsupported",
        "NitroTpmSupport": "unsupported",
        **gpus,
    }


def _gpus(flavor: Flavor) -> Shown:
    """
    By the names of botocore's C{GpuDeviceInfo}.  A maker is told where the type
    requires kinds of one maker; names and memory nobody knows.
    """
    makers = {_MAKERS.get(kind.split(":")[1], "") for kind in flavor.gpu_kinds}
    [maker] = makers if len(makers) == 1 else [""]
    return {"Count": flavor.gpus} | ({"Manufacturer": maker} if maker else {})


_NETWORK: Shown = {
    "MaximumNetworkInterfaces": 1,
    "MaximumNetworkCards": 1,
    "DefaultNetworkCardIndex": 0,
    "NetworkCards": [{"NetworkCardIndex": 0, "MaximumNetworkInterfaces": 1}],
    "Ipv4AddressesPerInterface": 1,
    "Ipv6AddressesPerInterface": 0,
    "Ipv6Supported": False,
    "EnaSupport": "unsupported",
    "EfaSupported": False,
    "EncryptionInTransitSupported": False,
}


def _disks(flavor: Flavor) -> list[int]:
    return [size for size in (flavor.disk_gb, flavor.ephemeral_gb) if size]
