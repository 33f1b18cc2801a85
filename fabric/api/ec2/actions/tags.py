"""
CreateTags, DescribeTags, DeleteTags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from fabric.api.ec2.actions.listing import paged
from fabric.api.ec2.actions.refusals import missing, unsupported
from fabric.api.ec2.actions.tagging import check_key, read_tags, too_many_tags
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.filters import FilterTable, choice, facet, literal
from fabric.api.ec2.pagination import Bounds, window
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import RESOURCE_TYPES, EC2Views
from fabric.cloud.tags import TAGGABLE, Tags
from fabric.errors import LimitExceeded
from fabric.ids import is_id
from fabric.model.pattern import matches
from fabric.store.interface import Page

BOUNDS = Bounds(5, 1000)

Filters = tuple[tuple[str, tuple[str, ...]], ...]
Row = tuple[str, str, str, str]

FILTERS = FilterTable(
    {
        "key": facet("key"),
        "value": facet("value"),
        "resource-id": facet("resource-id"),
        "resource-type": choice("resource-type", {shown: (kind,) for kind, shown in RESOURCE_TYPES.items()}),
    },
    tagged=False,
)

_PLACES = {"resource-id": 0, "resource-type": 1, "key": 2, "value": 3}
_is_of_network = re.compile(r"(vpc|subnet|igw|rtb|acl|dopt|eni)-([0-9a-f]{8}|[0-9a-f]{17})").fullmatch
_KINDS = (*(cls.kind for cls in TAGGABLE), "kernel", "ramdisk", "rule")


class TagActions:
    """
    Tags of whatever has tags.
    """

    def __init__(self, tags: Tags, views: EC2Views) -> None:
        self._tags = tags
        self._views = views

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        registry.add(Action("CreateTags", self.create, ("Resources", "Tags")))
        registry.add(Action("DeleteTags", self.delete, ("Resources", "Tags")))
        registry.add(Action("DescribeTags", self.describe, ("Filters", "MaxResults", "NextToken")))

    def create(self, call: Call) -> Deferred[Answer]:
        """
        Set tags of several things: all or nothing.
        """
        resources = _resources(call.parameters)
        given = read_tags(call.parameters.get("Tags") or ())
        if not given:
            raise missing("Tag")
        done: Deferred[Answer] = self._tags.create(call.caller, resources, given).addCallback(lambda _: {})
        return done.addErrback(_too_many)

    def delete(self, call: Call) -> Deferred[Answer]:
        """
        Remove tags: all, those of a key, or those of a key with a value.
        """
        resources = _resources(call.parameters)
        keys: list[tuple[str, str | None]] = []
        for tag in call.parameters.get("Tags") or ():
            check_key(tag.get("Key", ""))
            keys.append((tag["Key"], tag.get("Value")))
        return self._tags.delete(call.caller, resources, keys).addCallback(lambda _: {})

    def describe(self, call: Call) -> Deferred[Answer]:
        """
        Tags of all kinds of things.
        """
        filters, nothing = self._narrow(call)
        lookup, rest = _split(filters)
        wanted = window(call.action, call.parameters, BOUNDS)

        def page(cursor: str) -> Deferred[Page]:
            if nothing:
                return succeed(Page([], ""))
            return self._tags.page(call.caller, lookup, cursor, wanted.limit).addCallback(self._rendered, rest)

        return paged(call.action, wanted, "tagSet", page)

    def _narrow(self, call: Call) -> tuple[Filters, bool]:
        plain: list[Mapping[str, Any]] = []
        for each in call.parameters.get("Filters") or ():
            name = each.get("Name") or ""
            if name.startswith("tag:") and len(name) > 4:
                plain.append({"Name": "key", "Values": [literal(name[4:])]})
                plain.append({"Name": "value", "Values": each.get("Values")})
            else:
                plain.append(each)
        narrowing = FILTERS.narrow(call.caller, plain)
        return narrowing.facets, narrowing.nothing

    def _rendered(self, page: Page, rest: Filters) -> Page:
        rows: Iterable[Row] = page.items
        if rest:
            rows = (row for row in rows if all(_fits(row[_PLACES[name]], values) for name, values in rest))
        return Page([self._views.render_tag(row) for row in rows], page.cursor)


def _too_many(failure: Failure) -> Any:
    failure.trap(LimitExceeded)
    raise too_many_tags() from None


def _split(filters: Filters) -> tuple[Filters, Filters]:
    """
    @return: what the cloud looks up, one filter a name, and what is left.
    """
    lookup: dict[str, tuple[str, ...]] = {}
    rest: list[tuple[str, tuple[str, ...]]] = []
    for name, values in filters:
        if name in lookup:
            rest.append((name, values))
        else:
            lookup[name] = values
    return tuple(lookup.items()), tuple(rest)


def _fits(text: str, values: tuple[str, ...]) -> bool:
    return any(matches(value, text) for value in values)


def _resources(parameters: Mapping[str, Any]) -> list[str]:
    resources: list[str] = parameters["Resources"]
    if not resources:
        raise missing("ResourceId")
    for id in resources:
        if _is_of_network(id):
            raise unsupported(f"'{id}' can't be tagged on this cloud: it has networks as its operator made them")
        if not any(is_id(kind, id) for kind in _KINDS):
            raise EC2Error("InvalidID", f"The ID '{id}' is not valid")
    return resources
