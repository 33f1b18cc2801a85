"""
Launch templates and their versions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import orjson
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.launch import (
    digest_text,
    placement,
    refuse_others,
    shutdown_behavior,
    template_named,
    user_data,
)
from fabric.api.ec2.actions.launch_disks import instance_tags, new_disks, scratch_disks
from fabric.api.ec2.actions.listing import Describe, all_records, paged
from fabric.api.ec2.actions.metadata_options import metadata_asked
from fabric.api.ec2.actions.refusals import check_ids, check_sayable, client_token, combination, invalid_value, missing
from fabric.api.ec2.actions.tagging import tags_at_creation
from fabric.api.ec2.actions.template_data import HONOURED, as_launch, of_instance, overlaid, text_of
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.filters import FilterTable, Narrowing, Rule, constant, facet, flag, literal, of_record
from fabric.api.ec2.launch_views import launch_template, launch_template_version
from fabric.api.ec2.pagination import Bounds, window
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views
from fabric.cloud.access import Caller
from fabric.cloud.instances import Instances
from fabric.cloud.listings import Listings
from fabric.cloud.templates import DEFAULT, LATEST, Templates, Versioned
from fabric.errors import NotFound
from fabric.model.record import iso_time
from fabric.model.template import LaunchTemplate, LaunchTemplateVersion
from fabric.model.volume import Volume
from fabric.store.interface import Page

BOUNDS = Bounds(1, 200)

MOST_NAMED = 200

LONGEST_DESCRIPTION = 255
LONGEST_TOKEN = 128

_NAME = re.compile(r"[a-zA-Z0-9().\-/_]{3,128}")

FILTERS = FilterTable(
    {"create-time": facet("created"), "launch-template-id": facet("id"), "launch-template-name": facet("name")}
)


def _data(*path: str) -> Rule:
    def read(pair: Versioned) -> list[str]:
        value: Any = orjson.loads(pair[1].data)
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            return []
        return [str(value).lower() if isinstance(value, bool) else str(value)]

    return of_record(read)


VERSION_FILTERS = FilterTable(
    {
        "create-time": of_record(lambda pair: (iso_time(pair[1].created_at),)),
        "ebs-optimized": _data("EbsOptimized"),
        "http-endpoint": _data("MetadataOptions", "HttpEndpoint"),
        "http-protocol-ipv4": constant(),
        "http-tokens": _data("MetadataOptions", "HttpTokens"),
        "iam-instance-profile": constant(),
        "image-id": _data("ImageId"),
        "instance-type": _data("InstanceType"),
        "is-default-version": flag(lambda pair: pair[1].number == pair[0].default),
        "kernel-id": _data("KernelId"),
        "license-configuration-arn": constant(),
        "network-card-index": constant(),
        "ram-disk-id": _data("RamDiskId"),
    },
    tagged=False,
)


class TemplateActions:
    """
    Makes, changes, lists and removes templates.

    C{IncludeManagedResources} is honoured by there being none.
    """

    def __init__(self, templates: Templates, instances: Instances, listings: Listings, views: EC2Views) -> None:
        self._templates = templates
        self._instances = instances
        self._listings = listings
        self._views = views
        self._list = Describe(listings, LaunchTemplate, "launchTemplates", FILTERS, views.render_one, bounds=BOUNDS)

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        named = ("LaunchTemplateId", "LaunchTemplateName")
        pages = ("Filters", "MaxResults", "NextToken", "IncludeManagedResources")
        made = ("VersionDescription", "ClientToken", *HONOURED)
        for name, handler, honours in (
            ("CreateLaunchTemplate", self.create, ("LaunchTemplateName", "TagSpecifications", *made)),
            ("CreateLaunchTemplateVersion", self.create_version, (*named, "SourceVersion", *made)),
            ("DescribeLaunchTemplates", self.describe, ("LaunchTemplateIds", "LaunchTemplateNames", *pages)),
            (
                "DescribeLaunchTemplateVersions",
                self.describe_versions,
                (*named, "Versions", "MinVersion", "MaxVersion", *pages),
            ),
            ("ModifyLaunchTemplate", self.modify, (*named, "DefaultVersion", "ClientToken")),
            ("DeleteLaunchTemplate", self.delete, named),
            ("DeleteLaunchTemplateVersions", self.delete_versions, (*named, "Versions")),
            ("GetLaunchTemplateData", self.data_of, ("InstanceId",)),
        ):
            registry.add(Action(name, handler, honours))

    def create(self, call: Call) -> Deferred[Answer]:
        """
        Make a template with its first version.
        """
        name = call.parameters["LaunchTemplateName"]
        if not _NAME.fullmatch(name):
            raise EC2Error(
                "InvalidLaunchTemplateName.MalformedException",
                "A launch template name must be between 3 and 128 characters, and may contain letters, numbers, and "
                "the following characters: ( ) . / _ -",
            )
        tags = tags_at_creation(call.parameters, "launch-template")
        data = checked_data(call.parameters["LaunchTemplateData"])
        made = self._templates.create(
            call.caller,
            name,
            text_of(data),
            description(call),
            tags,
            client_token(call.parameters, LONGEST_TOKEN),
            digest_text(call.parameters),
        )
        return made.addCallback(lambda template: {"LaunchTemplate": launch_template(template)})

    @inlineCallbacks
    def create_version(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        Make a version, from another one where C{SourceVersion} names it.
        """
        named = template_named(call.parameters)
        data = checked_data(call.parameters["LaunchTemplateData"])
        source = call.parameters.get("SourceVersion")
        if source:
            [(_, version)] = yield self._templates.versions(call.caller, named, [source])
            data = overlaid(orjson.loads(version.data), data)
        template, version = yield self._templates.add_version(
            call.caller,
            named,
            text_of(data),
            description(call),
            client_token(call.parameters, LONGEST_TOKEN),
            digest_text(call.parameters),
        )
        return {"LaunchTemplateVersion": launch_template_version(template, version)}

    @inlineCallbacks
    def describe(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        All templates, or those named; one that is not there is an error.
        """
        narrowing = self._list.narrow(call)
        ids = check_ids("launch_template", call.parameters.get("LaunchTemplateIds") or ())
        names = tuple(dict.fromkeys(call.parameters.get("LaunchTemplateNames") or ()))
        if names:
            yield self._check_names(call.caller, names)
            narrowing.add(("name", tuple(map(literal, names))))
        return (yield self._list.listing(call, narrowing, ids))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _check_names(self, caller: Caller, names: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        wanted = (("name", tuple(map(literal, names))),)
        found = yield all_records(lambda cursor: self._listings.records(caller, LaunchTemplate, wanted, cursor=cursor))
        there = {stored.record.name for stored in found}
        absent = [name for name in names if name not in there]
        if absent:
            raise NotFound("launch_template_name", ", ".join(absent))

    @inlineCallbacks
    def describe_versions(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        Versions of one template, or the latest or default one of each.
        """
        parameters = call.parameters
        narrowing = VERSION_FILTERS.narrow(call.caller, parameters.get("Filters"))
        asked = tuple(parameters.get("Versions") or ())
        narrowing.add(_between(parameters))
        wanted = window(call.action, parameters, BOUNDS)
        read = yield self._source(call, asked, wanted.limit)

        def page(cursor: str) -> Deferred[Page]:
            return read(cursor).addCallback(self._rendered, narrowing)  # type: ignore[no-any-return]

        return (yield paged(call.action, wanted, "launchTemplateVersionSet", page))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _source(
        self, call: Call, asked: tuple[str, ...], limit: int | None
    ) -> Generator[Deferred[Any], Any, Callable[[str], Deferred[Page]]]:
        """What gives pages of L{Versioned}."""
        parameters, caller = call.parameters, call.caller
        if not parameters.get("LaunchTemplateId") and not parameters.get("LaunchTemplateName"):
            if not asked or not set(asked) <= {LATEST, DEFAULT}:
                raise missing("LaunchTemplateId")
            return lambda cursor: self._templates.of_all(caller, asked, cursor, limit)
        named = template_named(parameters)
        if asked:
            if parameters.get("MinVersion") or parameters.get("MaxVersion"):
                raise combination("MinVersion and MaxVersion can't be used together with LaunchTemplateVersion")
            return lambda cursor: self._templates.versions(caller, named, asked).addCallback(
                lambda pairs: Page(pairs, "")
            )
        template = yield self._templates.get(caller, named)
        wanted = (("template", (template.id,)),)

        def page(cursor: str) -> Deferred[Page]:
            found = self._listings.records(caller, LaunchTemplateVersion, wanted, (), cursor, limit)
            return found.addCallback(
                lambda page: Page([(template, stored.record) for stored in page.items], page.cursor)
            )

        return page

    def _rendered(self, page: Page, narrowing: Narrowing) -> Page:
        pairs = (pair for pair in page.items if narrowing.passes(pair))
        return Page([self._views.render_template_version(pair) for pair in pairs], page.cursor)

    def modify(self, call: Call) -> Deferred[Answer]:
        """
        Make another version the default; doing so again changes nothing, with
        the same C{ClientToken} or another.
        """
        named = template_named(call.parameters)
        version = call.parameters.get("DefaultVersion")
        client_token(call.parameters, LONGEST_TOKEN)
        if not version:
            raise missing("SetDefaultVersion")
        done = self._templates.set_default(call.caller, named, version)
        return done.addCallback(lambda template: {"LaunchTemplate": launch_template(template)})

    def delete(self, call: Call) -> Deferred[Answer]:
        """
        Remove a template with all its versions.
        """
        gone = self._templates.delete(call.caller, template_named(call.parameters))
        return gone.addCallback(lambda template: {"LaunchTemplate": launch_template(template)})

    def delete_versions(self, call: Call) -> Deferred[Answer]:
        """
        Remove versions, those that can be.
        """
        named, asked = template_named(call.parameters), call.parameters["Versions"]
        if not 0 < len(asked) <= MOST_NAMED:
            raise invalid_value("LaunchTemplateVersion", len(asked), f"Expecting 1 to {MOST_NAMED} versions.")
        return self._templates.delete_versions(call.caller, named, asked).addCallback(_deletions)

    @inlineCallbacks
    def data_of(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        The data of a template for instances like one that there is.
        """
        [id] = check_ids("instance", [call.parameters["InstanceId"]])
        [instance] = yield self._instances.get(call.caller, [id])
        volumes: list[Volume] = []
        if instance.disks:
            page = yield self._listings.records(call.caller, Volume, ids=[disk.volume for disk in instance.disks])
            volumes = [stored.record for stored in page.items]
        return {"LaunchTemplateData": of_instance(instance, volumes)}


def checked_data(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    @raise EC2Error: no launch can be meant by this.  Whether what it names is
        there is seen when it is used.
    """
    launch = as_launch(data)
    refuse_others(launch)
    placement(launch)
    metadata_asked(launch.get("MetadataOptions") or {})
    instance_tags(launch)
    new_disks(launch)
    scratch_disks(launch)
    for name, kind in (("ImageId", "image"), ("KernelId", "kernel"), ("RamdiskId", "ramdisk")):
        if launch.get(name):
            check_ids(kind, [launch[name]])
    check_ids("group", launch.get("SecurityGroupIds") or ())
    if launch.get("UserData"):
        user_data(launch["UserData"])
    if launch.get("InstanceInitiatedShutdownBehavior"):
        shutdown_behavior(launch["InstanceInitiatedShutdownBehavior"])
    return data


def description(call: Call) -> str:
    """
    @raise EC2Error: it is too long, or can't be said.
    """
    text: str = call.parameters.get("VersionDescription") or ""
    check_sayable("VersionDescription", text)
    if len(text) > LONGEST_DESCRIPTION:
        raise invalid_value("VersionDescription", text, f"It has at most {LONGEST_DESCRIPTION} characters.")
    return text


def _between(parameters: Mapping[str, Any]) -> Callable[[Any], bool]:
    least, most = (_number(name, parameters.get(name)) for name in ("MinVersion", "MaxVersion"))
    return lambda pair: (least is None or pair[1].number >= least) and (most is None or pair[1].number <= most)


def _number(name: str, text: str | None) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise invalid_value(name, text, "Expecting a version's number.")
    return int(text)


_WHY = {
    "missing": ("launchTemplateVersionDoesNotExist", "The launch template version does not exist."),
    "default": ("unexpectedError", "The default version of a launch template can't be deleted."),
}


def _deletions(result: tuple[LaunchTemplate, list[int], list[tuple[int, str]]]) -> Answer:
    template, deleted, left = result
    whose = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name}
    return {
        "SuccessfullyDeletedLaunchTemplateVersions": [{**whose, "VersionNumber": number} for number in deleted],
        "UnsuccessfullyDeletedLaunchTemplateVersions": [
            {
                **whose,
                "VersionNumber": number,
                "ResponseError": dict(zip(("Code", "Message"), _WHY[why], strict=True)),
            }
            for number, why in left
        ],
    }
