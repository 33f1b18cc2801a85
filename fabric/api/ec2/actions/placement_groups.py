"""
Placement groups.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.launch import placement
from fabric.api.ec2.actions.listing import Describe, all_records
from fabric.api.ec2.actions.refusals import check_ascii, check_ids, combination, invalid_value, missing, unsupported
from fabric.api.ec2.actions.tagging import tags_at_creation
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.filters import FilterTable, choice, constant, facet, literal
from fabric.api.ec2.launch_views import placement_group
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views
from fabric.cloud.access import Caller
from fabric.cloud.listings import Listings
from fabric.cloud.placement_groups import PlacementGroups
from fabric.errors import NotFound
from fabric.model.placement_group import MOST_PARTITIONS, STRATEGIES, PlacementGroup

FILTERS = FilterTable(
    {
        "group-name": facet("name"),
        "group-arn": constant(),
        "spread-level": choice("strategy", {"host": ("spread",)}),
        "state": constant("available"),
        "strategy": facet("strategy"),
    }
)


class PlacementGroupActions:
    """
    Makes, lists and removes placement groups, and moves instances.
    """

    def __init__(self, groups: PlacementGroups, listings: Listings, views: EC2Views) -> None:
        self._groups = groups
        self._listings = listings
        self._list = Describe(listings, PlacementGroup, "placementGroupSet", FILTERS, views.render_one)

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        made = ("GroupName", "Strategy", "PartitionCount", "SpreadLevel", "TagSpecifications")
        registry.add(Action("CreatePlacementGroup", self.create, made))
        registry.add(Action("DescribePlacementGroups", self.describe, ("GroupIds", "GroupNames", "Filters")))
        registry.add(Action("DeletePlacementGroup", self.delete, ("GroupName",)))
        moved = ("InstanceId", "GroupName", "GroupId", "PartitionNumber", "Tenancy", "Affinity")
        registry.add(Action("ModifyInstancePlacement", self.modify_instance, moved))

    def create(self, call: Call) -> Deferred[Answer]:
        """
        Make a group.  Instances are spread over hosts: of racks this cloud
        knows nothing.
        """
        parameters = call.parameters
        name = _name(parameters.get("GroupName"))
        strategy = parameters.get("Strategy") or "cluster"
        if strategy not in STRATEGIES:
            raise invalid_value("strategy", strategy, f"Expecting {', '.join(STRATEGIES)}.")
        level = parameters.get("SpreadLevel")
        if level and strategy != "spread":
            raise combination("The parameter SpreadLevel goes with the strategy spread")
        if level and level != "host":
            raise unsupported(f"SpreadLevel can't be '{level}': instances are spread over hosts on this cloud")
        count = _partitions(strategy, parameters.get("PartitionCount"))
        tags = tags_at_creation(parameters, "placement-group")
        made = self._groups.create(call.caller, name, strategy, count, tags)
        return made.addCallback(lambda group: {"PlacementGroup": placement_group(group)})

    @inlineCallbacks
    def describe(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        All groups, or those named; one that is not there is an error.
        """
        narrowing = self._list.narrow(call)
        ids = check_ids("placement_group", call.parameters.get("GroupIds") or ())
        names = tuple(dict.fromkeys(call.parameters.get("GroupNames") or ()))
        if names:
            yield self._check_names(call.caller, names)
            narrowing.add(("name", tuple(map(literal, names))))
        return (yield self._list.listing(call, narrowing, ids))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _check_names(self, caller: Caller, names: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        wanted = (("name", tuple(map(literal, names))),)
        found = yield all_records(lambda cursor: self._listings.records(caller, PlacementGroup, wanted, cursor=cursor))
        there = {stored.record.name for stored in found}
        absent = [name for name in names if name not in there]
        if absent:
            raise NotFound("placement_group", ", ".join(absent))

    def delete(self, call: Call) -> Deferred[Answer]:
        """
        Remove a group that no instance is in.
        """
        name = _name(call.parameters["GroupName"])
        return self._groups.delete(call.caller, name).addCallback(lambda _: {})

    def modify_instance(self, call: Call) -> Deferred[Answer]:
        """
        Put a stopped instance into a group, or into none with an empty name.
        """
        parameters = call.parameters
        [id] = check_ids("instance", [parameters["InstanceId"]]) if parameters.get("InstanceId") else [""]
        if not id:
            raise missing("InstanceId")
        for name in ("Tenancy", "Affinity"):
            if parameters.get(name, "default") != "default":
                raise unsupported(f"{name} can't be '{parameters[name]}': this cloud has no dedicated hosts")
        if "GroupName" not in parameters and "GroupId" not in parameters:
            raise missing("GroupName")
        asked = placement({"Placement": parameters})
        done = self._groups.move(
            call.caller, id, asked["placement_group"], asked["partition"], asked["placement_group_id"]
        )
        return done.addCallback(lambda _: {"Return": True})


def _name(text: str | None) -> str:
    if not text:
        raise missing("GroupName")
    if not check_ascii("groupName", text).isprintable() or text.strip() != text:
        raise invalid_value("groupName", text, "It has no control characters, and no space at either end.")
    return text


def _partitions(strategy: str, count: int | None) -> int:
    if strategy != "partition":
        if count is not None:
            raise combination("The parameter PartitionCount goes with the strategy partition")
        return 0
    if count is None:
        return 2
    if not 1 <= count <= MOST_PARTITIONS:
        raise invalid_value("PartitionCount", count, f"Expecting 1 to {MOST_PARTITIONS}.")
    return count
