"""
How what launches are made with looks to EC2's clients: placement groups,
templates, metadata options.
"""

from __future__ import annotations

from typing import Any

import orjson

from fabric.model.metadata_options import MetadataOptions
from fabric.model.placement_group import Membership, PlacementGroup
from fabric.model.template import LaunchTemplate, LaunchTemplateVersion

Shown = dict[str, Any]


def shown_placement(zone: str, membership: Membership | None) -> Shown:
    """
    Where an instance is, by the names of botocore's C{Placement}.
    """
    shown: Shown = {"AvailabilityZone": zone, "GroupName": "", "Tenancy": "default"}
    if membership is not None:
        shown |= {"GroupName": membership.name, "GroupId": membership.group}
        shown["PartitionNumber"] = membership.partition or None
    return shown


def shown_metadata_options(options: MetadataOptions) -> Shown:
    """
    Options by the names of botocore's C{InstanceMetadataOptionsResponse};
    the metadata door obeys a change at once.
    """
    return {
        "State": "applied",
        "HttpTokens": options.tokens,
        "HttpPutResponseHopLimit": options.hops,
        "HttpEndpoint": options.endpoint,
        "HttpProtocolIpv6": "disabled",
        "InstanceMetadataTags": options.tags,
    }


def placement_group(record: PlacementGroup) -> Shown:
    """
    A placement group by the names of botocore's C{PlacementGroup}.
    """
    return {
        "GroupName": record.name,
        "State": "available",
        "Strategy": record.strategy,
        "PartitionCount": record.partitions or None,
        "GroupId": record.id,
        "Tags": _tags(record.tags) if record.tags else None,
        "SpreadLevel": "host" if record.strategy == "spread" else None,
    }


def launch_template(record: LaunchTemplate) -> Shown:
    """
    A template by the names of botocore's C{LaunchTemplate}.
    """
    return {
        "LaunchTemplateId": record.id,
        "LaunchTemplateName": record.name,
        "CreateTime": record.created_at,
        "CreatedBy": record.created_by,
        "DefaultVersionNumber": record.default,
        "LatestVersionNumber": record.latest,
        "Tags": _tags(record.tags) if record.tags else None,
    }


def launch_template_version(template: LaunchTemplate, record: LaunchTemplateVersion) -> Shown:
    """
    A version by the names of botocore's C{LaunchTemplateVersion}.
    """
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionNumber": record.number,
        "VersionDescription": record.description or None,
        "CreateTime": record.created_at,
        "CreatedBy": record.created_by,
        "DefaultVersion": record.number == template.default,
        "LaunchTemplateData": orjson.loads(record.data),
    }


def _tags(record_tags: dict[str, str]) -> list[Shown]:
    return [{"Key": key, "Value": value} for key, value in record_tags.items()]
