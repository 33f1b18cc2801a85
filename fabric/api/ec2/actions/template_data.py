"""
What a launch template holds: a launch's parameters by EC2's names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from fabric.api.ec2.actions.launch_disks import HONOURED as ON_DISKS
from fabric.api.ec2.actions.metadata_options import METADATA_OPTIONS
from fabric.model.instance import Instance
from fabric.model.volume import Volume

Data = dict[str, Any]

TEMPLATE_TAGS = ("aws:ec2launchtemplate:id", "aws:ec2launchtemplate:version")
"""Tags of the instances of a template, as on EC2."""

PLAIN = (
    *("KernelId", "EbsOptimized", "ImageId", "InstanceType", "KeyName", "Monitoring.Enabled", "RamDiskId"),
    *("DisableApiTermination", "DisableApiStop", "InstanceInitiatedShutdownBehavior", "UserData", "TagSpecifications"),
    *("SecurityGroupIds", "SecurityGroups", "Placement.AvailabilityZone", "Placement.GroupName", "Placement.GroupId"),
    *("Placement.PartitionNumber", *METADATA_OPTIONS, *ON_DISKS),
)
"""What RunInstances does with a value of its own."""

HARMLESS = (
    *("Placement.Tenancy", "Placement.Affinity", "InstanceMarketOptions.MarketType", "HibernationOptions.Configured"),
    *("CapacityReservationSpecification.CapacityReservationPreference", "EnclaveOptions.Enabled"),
    *("PrivateDnsNameOptions.HostnameType", "PrivateDnsNameOptions.EnableResourceNameDnsARecord"),
    *("PrivateDnsNameOptions.EnableResourceNameDnsAAAARecord", "MaintenanceOptions.AutoRecovery"),
    "NetworkPerformanceOptions.BandwidthWeighting",
)
"""What it takes only with the values that say what happens anyway."""

HONOURED = tuple(f"LaunchTemplateData.{name}" for name in (*PLAIN, *HARMLESS))

_TOGETHER = (("SecurityGroupIds", "SecurityGroups"),)


def as_launch(data: Mapping[str, Any]) -> Data:
    """
    A template's data by RunInstances' names, of which one is written otherwise.
    """
    return {"RamdiskId" if name == "RamDiskId" else name: value for name, value in data.items()}


def merged(data: Mapping[str, Any], request: Mapping[str, Any]) -> Data:
    """
    A request over a template: what the request names is the request's, and
    the tags of each kind of thing are those of whichever names that kind.
    """
    base = as_launch(data)
    for names in _TOGETHER:
        if any(name in request for name in names):
            base = {name: value for name, value in base.items() if name not in names}
    result = base | dict(request)
    if "TagSpecifications" in base and "TagSpecifications" in request:
        kinds = {each.get("ResourceType") for each in request["TagSpecifications"]}
        kept = [each for each in base["TagSpecifications"] if each.get("ResourceType") not in kinds]
        result["TagSpecifications"] = [*kept, *request["TagSpecifications"]]
    return result


def overlaid(source: Mapping[str, Any], data: Mapping[str, Any]) -> Data:
    """
    A new version's data over those of the version that it begins with.
    """
    return dict(source) | dict(data)


def text_of(data: Mapping[str, Any]) -> str:
    """
    Data as they are kept.
    """
    return orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()


def of_instance(instance: Instance, volumes: Sequence[Volume]) -> Data:
    """
    The data with which a template launches instances like this one.

    @param volumes: those that it has.
    """
    options, placement = instance.metadata_options, instance.placement
    data: Data = {
        "KernelId": instance.kernel,
        "EbsOptimized": instance.ebs_optimized,
        "ImageId": instance.image,
        "InstanceType": instance.flavor.name,
        "KeyName": instance.key_name,
        "Monitoring": {"Enabled": instance.monitoring},
        "Placement": {"AvailabilityZone": instance.zone or instance.wanted_zone, "Tenancy": "default"},
        "RamDiskId": instance.ramdisk,
        "DisableApiTermination": instance.api_termination_disabled,
        "InstanceInitiatedShutdownBehavior": instance.shutdown_behavior,
        "UserData": instance.user_data,
        "SecurityGroupIds": [group.id for group in instance.groups],
        "MetadataOptions": {
            "HttpTokens": options.tokens,
            "HttpPutResponseHopLimit": options.hops,
            "HttpEndpoint": options.endpoint,
            "InstanceMetadataTags": options.tags,
        },
        "DisableApiStop": instance.api_stop_disabled,
    }
    if placement is not None:
        data["Placement"] |= {"GroupName": placement.name}
        if placement.partition:
            data["Placement"] |= {"PartitionNumber": placement.partition}
    mappings = _mappings(instance, volumes)
    if mappings:
        data["BlockDeviceMappings"] = mappings
    tags = [{"Key": key, "Value": value} for key, value in instance.tags.items() if not key.startswith("aws:")]
    if tags:
        data["TagSpecifications"] = [{"ResourceType": "instance", "Tags": tags}]
    return {name: value for name, value in data.items() if value != ""}


def _mappings(instance: Instance, volumes: Sequence[Volume]) -> list[Data]:
    """
    Its volumes, the root as the image has it but for size and type; and its scratch disk.
    """
    records = {volume.id: volume for volume in volumes}
    root = instance.root.volume if instance.root else ""
    found: list[Data] = []
    for disk in instance.disks:
        volume = records[disk.volume]
        ebs: Data = {
            "VolumeSize": volume.size_gb,
            "VolumeType": volume.volume_type,
            "DeleteOnTermination": disk.delete_on_termination,
        }
        if volume.snapshot and volume.id != root:
            ebs["SnapshotId"] = volume.snapshot
        found.append({"DeviceName": disk.device, "Ebs": ebs})
    if instance.scratch_device:
        found.append({"DeviceName": instance.scratch_device, "VirtualName": "ephemeral0"})
    return found
