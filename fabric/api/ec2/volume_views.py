"""
How volumes and snapshots look to EC2's clients, by botocore's names.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from fabric.model.instance import Instance
from fabric.model.snapshot import Snapshot
from fabric.model.volume import Volume

Shown = dict[str, Any]

SHAPES = ("Volume", "VolumeStatusItem", "VolumeModification", "Snapshot")
"""What the renderers of these need of EC2's model."""

STATUS = {"available": "ok", "in-use": "ok", "error": "impaired"}
"""EC2's volume status by state; others have too little to go by."""


def volume(record: Volume) -> Shown:
    """
    A volume by the names of botocore's C{Volume}.
    """
    return {
        "VolumeId": record.id,
        "Size": record.size_gb,
        "SnapshotId": record.snapshot,
        "AvailabilityZone": record.zone,
        "AvailabilityZoneId": record.zone,
        "State": record.state,
        "CreateTime": record.created_at,
        "Attachments": [attachment(record)] if record.attachment else [],
        "Encrypted": False,
        "VolumeType": record.volume_type,
        "MultiAttachEnabled": False,
        "Tags": _tags(record.tags),
    }


def attachment(record: Volume) -> Shown:
    """
    A volume's attachment by the names of botocore's C{VolumeAttachment}.
    """
    attached = record.attachment
    assert attached is not None, record.id
    return {
        "VolumeId": record.id,
        "InstanceId": attached.instance,
        "Device": attached.device,
        "State": attached.state,
        "AttachTime": attached.attached_at,
        "DeleteOnTermination": attached.delete_on_termination,
    }


def volume_status(record: Volume) -> Shown:
    """
    A volume by the names of botocore's C{VolumeStatusItem}.
    """
    status = STATUS.get(record.state, "insufficient-data")
    enabled = {"ok": "passed", "impaired": "failed"}.get(status, "insufficient-data")
    return {
        "VolumeId": record.id,
        "AvailabilityZone": record.zone,
        "AvailabilityZoneId": record.zone,
        "Events": [],
        "Actions": [],
        "VolumeStatus": {
            "Status": status,
            "Details": [
                {"Name": "io-enabled", "Status": enabled},
                {"Name": "io-performance", "Status": "not-applicable"},
            ],
        },
    }


def modification(record: Volume) -> Shown:
    """
    A volume's last growth by the names of botocore's C{VolumeModification}.
    """
    change = record.modification
    assert change is not None, record.id
    return {
        "VolumeId": record.id,
        "ModificationState": change.state,
        "StatusMessage": change.message or None,
        "OriginalSize": change.original_gb,
        "TargetSize": change.target_gb,
        "OriginalVolumeType": record.volume_type,
        "TargetVolumeType": record.volume_type,
        "OriginalMultiAttachEnabled": False,
        "TargetMultiAttachEnabled": False,
        "Progress": 100 if change.state == "completed" else 0,
        "StartTime": change.started_at,
        "EndTime": change.ended_at or None,
    }


def snapshot(record: Snapshot) -> Shown:
    """
    A snapshot by the names of botocore's C{Snapshot}.
    """
    return {
        "SnapshotId": record.id,
        "VolumeId": record.volume,
        "State": record.state,
        "StateMessage": record.reason or None,
        "StartTime": record.created_at,
        "CompletionTime": record.completed_at or None,
        "Progress": f"{record.progress}%",
        "OwnerId": record.project,
        "VolumeSize": record.size_gb,
        "Description": record.description,
        "Encrypted": False,
        "StorageTier": "standard",
        "Tags": _tags(record.tags),
    }


def disks(record: Instance) -> list[Shown]:
    """
    An instance's volumes, in the order of their devices, by the names of botocore's C{InstanceBlockDeviceMapping}.
    """
    return [
        {
            "DeviceName": disk.device,
            "Ebs": {
                "VolumeId": disk.volume,
                "Status": "detaching" if disk.state == "busy" else disk.state,
                "AttachTime": disk.attached_at,
                "DeleteOnTermination": disk.delete_on_termination,
            },
        }
        for disk in sorted(record.disks, key=attrgetter("device"))
    ]


def _tags(tags: dict[str, str]) -> list[Shown] | None:
    return [{"Key": key, "Value": value} for key, value in tags.items()] or None
