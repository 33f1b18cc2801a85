"""
Volumes: made, listed, attached, grown, deleted.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.launch import digest_text
from fabric.api.ec2.actions.listing import Describe
from fabric.api.ec2.actions.refusals import (
    check_ids,
    client_token,
    combination,
    invalid,
    invalid_value,
    missing,
    unsupported,
)
from fabric.api.ec2.actions.tagging import tags_at_creation
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.filters import FilterTable, Rule, choice, constant, facet, of_record
from fabric.api.ec2.pagination import Bounds
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views
from fabric.api.ec2.volume_views import STATUS, attachment, modification, volume
from fabric.cloud.listings import Listings
from fabric.cloud.volumes import Volumes, VolumeSpec
from fabric.model.record import iso_time
from fabric.model.volume import Volume

BOUNDS = Bounds(5, 1000, ids="volumeIds")


_LISTED = ("VolumeIds", "Filters", "MaxResults", "NextToken", "IncludeManagedResources")

_FILED = {
    "attachment.attach-time": "attachment.attached",
    "attachment.delete-on-termination": "attachment.delete",
    "attachment.device": "attachment.device",
    "attachment.instance-id": "attachment.instance",
    "attachment.status": "attachment.status",
    "availability-zone": "zone",
    "availability-zone-id": "zone",
    "create-time": "created",
    "size": "size",
    "snapshot-id": "snapshot",
    "status": "state",
    "volume-id": "id",
    "volume-type": "type",
}

_ALIKE = {
    "encrypted": ("false",),
    "fast-restored": ("false",),
    "multi-attach-enabled": ("false",),
    "operator.managed": ("false",),
    "operator.principal": (),
    "outpost-arn": (),
    "source-volume-id": (),
}


def _filters() -> FilterTable:
    rules: dict[str, Rule] = {name: facet(own) for name, own in _FILED.items()}
    rules |= {name: constant(*values) for name, values in _ALIKE.items()}
    return FilterTable(rules)


_BY_STATUS = {"ok": ("available", "in-use"), "impaired": ("error",), "insufficient-data": ("creating", "deleting")}
"""The states that each of EC2's volume statuses means."""


def _status_filters() -> FilterTable:
    absent = "action.code action.description action.event-id event.description event.event-id event.event-type"
    rules: dict[str, Rule] = {name: constant() for name in absent.split()}
    rules |= {
        "availability-zone": facet("zone"),
        "availability-zone-id": facet("zone"),
        "event.not-after": constant(),
        "event.not-before": constant(),
        "operator.managed": constant("false"),
        "operator.principal": constant(),
        "volume-status.details-name": constant("io-enabled", "io-performance"),
        "volume-status.details-status": of_record(_details),
        "volume-status.status": choice("state", _BY_STATUS),
    }
    return FilterTable(rules, tagged=False)


def _details(record: Volume) -> Iterable[str]:
    status = STATUS.get(record.state, "insufficient-data")
    return ({"ok": "passed", "impaired": "failed"}.get(status, "insufficient-data"), "not-applicable")


def _of_change(read: Any) -> Rule:
    return of_record(lambda record: (read(record.modification),) if record.modification else ())


def _modification_filters() -> FilterTable:
    absent = "original-iops target-iops original-throughput target-throughput operator.principal"
    rules: dict[str, Rule] = {name: constant() for name in absent.split()}
    rules |= {
        "modification-state": facet("modification-state"),
        "operator.managed": constant("false"),
        "original-multi-attach-enabled": constant("false"),
        "original-size": _of_change(lambda change: str(change.original_gb)),
        "original-volume-type": facet("type"),
        "start-time": _of_change(lambda change: iso_time(change.started_at)),
        "target-multi-attach-enabled": constant("false"),
        "target-size": _of_change(lambda change: str(change.target_gb)),
        "target-volume-type": facet("type"),
        "volume-id": facet("id"),
    }
    return FilterTable(rules, tagged=False)


class VolumeActions:
    """
    A volume's type is a name only: nothing promises a rate, so C{Iops} and
    C{Throughput} are refused, as is a change of type.  Nothing is encrypted,
    nor attached twice.  C{IncludeManagedResources} is honoured by there being
    none.
    """

    def __init__(self, volumes: Volumes, listings: Listings, views: EC2Views) -> None:
        self._volumes = volumes
        self._list = Describe(listings, Volume, "volumeSet", _filters(), views.render_one, bounds=BOUNDS)
        self._status_list = Describe(
            listings,
            Volume,
            "volumeStatusSet",
            _status_filters(),
            views.render_volume_status,
            always=True,
            bounds=BOUNDS,
        )
        self._modifications = Describe(
            listings,
            Volume,
            "volumeModificationSet",
            _modification_filters(),
            views.render_modification,
            always=True,
            bounds=Bounds(5, 500),
        )

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        made = ("AvailabilityZone", "AvailabilityZoneId", "Size", "SnapshotId", "VolumeType", "ClientToken")
        for action in (
            Action("CreateVolume", self.create, (*made, "Encrypted", "MultiAttachEnabled", "TagSpecifications")),
            Action("DescribeVolumes", self.describe, _LISTED),
            Action("DeleteVolume", self.delete, ("VolumeId",)),
            Action("AttachVolume", self.attach, ("VolumeId", "InstanceId", "Device")),
            Action("DetachVolume", self.detach, ("VolumeId", "InstanceId", "Device", "Force")),
            Action("DescribeVolumeStatus", self.describe_status, _LISTED),
            Action("DescribeVolumeAttribute", self.describe_attribute, ("VolumeId", "Attribute")),
            Action("ModifyVolumeAttribute", self.modify_attribute, ("VolumeId", "AutoEnableIO")),
            Action("EnableVolumeIO", self.enable_io, ("VolumeId",)),
            Action("ModifyVolume", self.modify, ("VolumeId", "Size", "MultiAttachEnabled")),
            Action("DescribeVolumesModifications", self.describe_modifications, _LISTED),
        ):
            registry.add(action)

    def create(self, call: Call) -> Deferred[Answer]:
        """
        Make a volume.
        """
        return self._volumes.create(call.caller, volume_spec(call)).addCallback(volume)

    def describe(self, call: Call) -> Deferred[Answer]:
        """
        Volumes; without C{MaxResults} all of them.
        """
        return self._list.listing(call, self._list.narrow(call), _ids(call))

    def describe_status(self, call: Call) -> Deferred[Answer]:
        """
        How volumes do.
        """
        return self._status_list.listing(call, self._status_list.narrow(call), _ids(call))

    @inlineCallbacks
    def describe_modifications(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        The last growth of each volume that has ever grown.
        """
        narrowing = self._modifications.narrow(call)
        ids = _ids(call)
        if ids:
            found = yield self._volumes.get(call.caller, ids)
            for each in found:
                if each.modification is None:
                    message = f"Modification for volume '{each.id}' does not exist."
                    raise EC2Error("InvalidVolumeModification.NotFound", message)
        narrowing.add(("modified", ("yes",)))
        return (yield self._modifications.listing(call, narrowing, ids))  # type: ignore[no-any-return]

    def delete(self, call: Call) -> Deferred[Answer]:
        """
        Remove a volume.
        """
        return self._volumes.delete(call.caller, _id(call)).addCallback(lambda _: {})

    def attach(self, call: Call) -> Deferred[Answer]:
        """
        Put a volume on an instance.
        """
        [instance] = check_ids("instance", [call.parameters["InstanceId"]])
        found = self._volumes.attach(call.caller, _id(call), instance, call.parameters["Device"])
        return found.addCallback(attachment)

    def detach(self, call: Call) -> Deferred[Answer]:
        """
        Take a volume from its instance.
        """
        given = call.parameters
        instance = given.get("InstanceId") or ""
        if instance:
            check_ids("instance", [instance])
        found = self._volumes.detach(
            call.caller, _id(call), instance, given.get("Device") or "", bool(given.get("Force"))
        )
        return found.addCallback(attachment)

    def modify(self, call: Call) -> Deferred[Answer]:
        """
        Make a volume larger; nothing else of it can change.
        """
        if call.parameters.get("MultiAttachEnabled"):
            raise unsupported("This cloud does not attach a volume to several instances")
        size = call.parameters.get("Size")
        if size is None:
            raise missing("Size")
        found = self._volumes.grow(call.caller, _id(call), size)
        return found.addCallback(lambda record: {"VolumeModification": modification(record)})

    def describe_attribute(self, call: Call) -> Deferred[Answer]:
        """
        Show one attribute.
        """
        attribute = call.parameters["Attribute"]
        if attribute not in ("autoEnableIO", "productCodes"):
            raise invalid_value("attribute", attribute, "Expecting autoEnableIO or productCodes.")

        def answer(found: list[Volume]) -> dict[str, Any]:
            if attribute == "productCodes":
                return {"VolumeId": found[0].id, "ProductCodes": []}
            return {"VolumeId": found[0].id, "AutoEnableIO": {"Value": found[0].auto_enable_io}}

        return self._volumes.get(call.caller, [_id(call)]).addCallback(answer)

    def modify_attribute(self, call: Call) -> Deferred[Answer]:
        """
        Set whether I/O is enabled by itself after a doubt; this cloud never
        disables it.
        """
        value = (call.parameters.get("AutoEnableIO") or {}).get("Value")
        if value is None:
            raise combination("No attributes specified.")
        return self._volumes.set_auto_enable_io(call.caller, _id(call), value).addCallback(lambda _: {})

    def enable_io(self, call: Call) -> Deferred[Answer]:
        """
        Enable I/O, which it always is.
        """
        return self._volumes.get(call.caller, [_id(call)]).addCallback(lambda _: {})


def volume_spec(call: Call) -> VolumeSpec:
    """
    @return: what a CreateVolume asks for.
    @raise EC2Error: it asks for what can't be, or is not done here.
    """
    given = call.parameters
    zone, zone_id = given.get("AvailabilityZone") or "", given.get("AvailabilityZoneId") or ""
    if zone and zone_id:
        raise combination("The parameters AvailabilityZone and AvailabilityZoneId cannot be used together")
    if not zone and not zone_id:
        raise missing("AvailabilityZone")
    if given.get("Encrypted"):
        raise unsupported("This cloud does not encrypt volumes")
    if given.get("MultiAttachEnabled"):
        raise unsupported("This cloud does not attach a volume to several instances")
    snapshot, size = given.get("SnapshotId") or "", given.get("Size")
    if snapshot:
        check_ids("snapshot", [snapshot])
    elif size is None:
        raise missing("Size/SnapshotId")
    if size is not None and size < 1:
        raise invalid(f"Volume of {size}GiB is too small; minimum is 1GiB.")
    token = client_token(given)
    return VolumeSpec(
        zone or zone_id,
        size or 0,
        snapshot,
        given.get("VolumeType") or "standard",
        token,
        digest_text(given) if token else "",
        tags_at_creation(given, "volume"),
    )


def _id(call: Call) -> str:
    return check_ids("volume", [call.parameters["VolumeId"]])[0]


def _ids(call: Call) -> tuple[str, ...]:
    return check_ids("volume", call.parameters.get("VolumeIds") or ())
