"""
Snapshots: made, listed, shared, copied, deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from fabric.api.ec2.actions.listing import Describe
from fabric.api.ec2.actions.refusals import (
    check_ascii,
    check_ids,
    combination,
    invalid_value,
    missing,
    unsupported,
)
from fabric.api.ec2.actions.tagging import tags_at_creation
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.filters import FilterTable, Rule, Test, constant, facet, literal
from fabric.api.ec2.pagination import Bounds
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views, join_images
from fabric.api.ec2.volume_views import snapshot
from fabric.cloud.listings import Listings
from fabric.cloud.snapshots import Snapshots
from fabric.model.snapshot import Snapshot

PERMISSION = "createVolumePermission"


_FILED = {
    "description": "description",
    "owner-id": "owner",
    "progress": "progress",
    "snapshot-id": "id",
    "start-time": "started",
    "status": "state",
    "volume-id": "volume",
    "volume-size": "size",
}

_ALIKE = {"encrypted": ("false",), "owner-alias": (), "storage-tier": ("standard",), "transfer-type": ()}


def _filters() -> FilterTable:
    rules: dict[str, Rule] = {name: facet(own) for name, own in _FILED.items()}
    rules |= {name: constant(*values) for name, values in _ALIKE.items()}
    return FilterTable(rules, private_tags=True)


class SnapshotActions:
    """
    Copies of volumes.

    @param region: the name of the one region.
    """

    def __init__(self, snapshots: Snapshots, listings: Listings, views: EC2Views, region: str) -> None:
        self._snapshots = snapshots
        self._region = region
        self._list = Describe(
            listings,
            Snapshot,
            "snapshotSet",
            _filters(),
            views.render_one,
            bounds=Bounds(5, 1000, ids="snapshotIds"),
        )

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        listed = ("SnapshotIds", "OwnerIds", "RestorableByUserIds", "Filters", "MaxResults", "NextToken")
        of_instance = tuple(
            f"InstanceSpecification.{name}" for name in ("InstanceId", "ExcludeBootVolume", "ExcludeDataVolumeIds")
        )
        copied = ("SourceRegion", "SourceSnapshotId", "DestinationRegion", "Encrypted", "Description")
        shared = ("SnapshotId", "Attribute", "CreateVolumePermission", "OperationType", "UserIds", "GroupNames")
        for action in (
            Action("CreateSnapshot", self.create, ("VolumeId", "Description", "TagSpecifications")),
            Action(
                "CreateSnapshots",
                self.create_all,
                (*of_instance, "Description", "TagSpecifications", "CopyTagsFromSource"),
            ),
            Action("DescribeSnapshots", self.describe, listed),
            Action("DeleteSnapshot", self.delete, ("SnapshotId",)),
            Action("CopySnapshot", self.copy, (*copied, "TagSpecifications", "PresignedUrl")),
            Action("DescribeSnapshotAttribute", self.describe_attribute, ("SnapshotId", "Attribute")),
            Action("ModifySnapshotAttribute", self.modify_attribute, shared),
            Action("ResetSnapshotAttribute", self.reset_attribute, ("SnapshotId", "Attribute")),
        ):
            registry.add(action)

    def create(self, call: Call) -> Deferred[Answer]:
        """
        Copy a volume.
        """
        [volume] = check_ids("volume", [call.parameters["VolumeId"]])
        tags = tags_at_creation(call.parameters, "snapshot")
        made = self._snapshots.create(call.caller, volume, _description(call), tags)
        return made.addCallback(snapshot)

    def create_all(self, call: Call) -> Deferred[Answer]:
        """
        Copy the volumes of an instance.  None of them is what it boots from,
        so C{ExcludeBootVolume} leaves nothing out.
        """
        what: Mapping[str, Any] = call.parameters["InstanceSpecification"]
        if not what.get("InstanceId"):
            raise missing("InstanceSpecification.InstanceId")
        [instance] = check_ids("instance", [what["InstanceId"]])
        source = call.parameters.get("CopyTagsFromSource")
        if source not in (None, "volume"):
            raise invalid_value("CopyTagsFromSource", source, "Expecting volume.")
        made = self._snapshots.create_all(
            call.caller,
            instance,
            _description(call),
            tags_at_creation(call.parameters, "snapshot"),
            check_ids("volume", what.get("ExcludeDataVolumeIds") or ()),
            source == "volume",
        )
        return made.addCallback(lambda records: {"Snapshots": [_brief(record) for record in records]})

    def describe(self, call: Call) -> Deferred[Answer]:
        """
        The project's own snapshots and those that it may make volumes of.
        """
        project = call.caller.project
        narrowing = self._list.narrow(call)
        ids = check_ids("snapshot", call.parameters.get("SnapshotIds") or ())
        owners = call.parameters.get("OwnerIds")
        if owners:
            narrowing.add(("owner", tuple(literal(project if name == "self" else name) for name in owners)))
        users = call.parameters.get("RestorableByUserIds")
        if users:
            narrowing.add(_restorable_by(users, project))
        return self._list.listing(call, narrowing, ids, join_images(project))

    def delete(self, call: Call) -> Deferred[Answer]:
        """
        Remove a snapshot.
        """
        return self._snapshots.delete(call.caller, _id(call)).addCallback(lambda _: {})

    def copy(self, call: Call) -> Deferred[Answer]:
        """
        Copy a snapshot within the one region.  A presigned URL says nothing
        that the request itself does not.
        """
        given = call.parameters
        for name in ("SourceRegion", "DestinationRegion"):
            if given.get(name) not in (None, self._region):
                raise invalid_value(name, given[name], f"This cloud is one region, {self._region}.")
        if given.get("Encrypted"):
            raise unsupported("This cloud does not encrypt snapshots")
        [source] = check_ids("snapshot", [given["SourceSnapshotId"]])
        tags = tags_at_creation(given, "snapshot")
        made = self._snapshots.copy(call.caller, source, _description(call), tags)
        return made.addCallback(lambda record: {"SnapshotId": record.id, "Tags": snapshot(record)["Tags"]})

    def describe_attribute(self, call: Call) -> Deferred[Answer]:
        """
        Who may make volumes of it.
        """
        attribute = call.parameters["Attribute"]
        if attribute not in (PERMISSION, "productCodes"):
            raise invalid_value("attribute", attribute, f"Expecting {PERMISSION} or productCodes.")

        def answer(record: Snapshot) -> dict[str, Any]:
            if attribute == "productCodes":
                return {"SnapshotId": record.id, "ProductCodes": []}
            given = [{"Group": "all"}] if record.public else []
            shared = [*given, *({"UserId": project} for project in record.shared_with)]
            return {"SnapshotId": record.id, "CreateVolumePermissions": shared}

        return self._snapshots.own(call.caller, _id(call)).addCallback(answer)

    def modify_attribute(self, call: Call) -> Deferred[Answer]:
        """
        Share it, or no longer, in either of the two forms of the request.
        """
        add, remove = _permissions(call.parameters)
        public = True if "all" in add[1] else False if "all" in remove[1] else None
        done = self._snapshots.share(call.caller, _id(call), add[0], remove[0], public)
        return done.addCallback(lambda _: {})

    def reset_attribute(self, call: Call) -> Deferred[Answer]:
        """
        Let nobody but the owner use it.
        """
        attribute = call.parameters["Attribute"]
        if attribute != PERMISSION:
            raise invalid_value("attribute", attribute, f"Expecting {PERMISSION}.")
        return self._snapshots.reset_sharing(call.caller, _id(call)).addCallback(lambda _: {})


Grants = tuple[list[str], list[str]]


def _permissions(given: Mapping[str, Any]) -> tuple[Grants, Grants]:
    """
    @return: C{(projects, groups)} to be added, and to be removed.
    """
    attribute = given.get("Attribute")
    if attribute not in (None, "", PERMISSION):
        raise unsupported(f"The attribute '{attribute}' can't be modified")
    structured: Mapping[str, Any] = given.get("CreateVolumePermission") or {}
    add, remove = _grants(structured.get("Add") or ()), _grants(structured.get("Remove") or ())
    operation = given.get("OperationType")
    users, groups = list(given.get("UserIds") or ()), list(given.get("GroupNames") or ())
    if operation:
        if operation not in ("add", "remove"):
            raise invalid_value("OperationType", operation, "Expecting add or remove.")
        target = add if operation == "add" else remove
        target[0].extend(users)
        target[1].extend(groups)
    elif users or groups:
        raise missing("OperationType")
    if not any((*add, *remove)):
        raise combination("No attributes specified.")
    for group in (*add[1], *remove[1]):
        if group != "all":
            raise invalid_value("UserGroup", group, "Expecting all.")
    return add, remove


def _grants(items: Iterable[Mapping[str, str]]) -> Grants:
    users: list[str] = []
    groups: list[str] = []
    for item in items:
        if item.get("Group"):
            groups.append(item["Group"])
        if item.get("UserId"):
            users.append(item["UserId"])
    return users, groups


def _restorable_by(users: Iterable[str], project: str) -> Test:
    wanted = {project if name == "self" else name for name in users}

    def test(record: Any) -> bool:
        if "all" in wanted and record.public:
            return True
        given = {record.project, *record.shared_with}
        return not wanted.isdisjoint(given if record.project == project else given & {project})

    return test


def _brief(record: Snapshot) -> dict[str, Any]:
    """By the names of botocore's C{SnapshotInfo}."""
    shown = snapshot(record)
    for name in ("StateMessage", "CompletionTime", "StorageTier"):
        del shown[name]
    return shown


def _description(call: Call) -> str:
    return check_ascii("description", call.parameters.get("Description") or "")


def _id(call: Call) -> str:
    return check_ids("snapshot", [call.parameters["SnapshotId"]])[0]
