"""
DescribeImages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred

from fabric.api.ec2.actions.listing import Describe
from fabric.api.ec2.actions.refusals import check_ids
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.filters import FilterTable, Rule, Test, constant, facet, literal
from fabric.api.ec2.pagination import Bounds
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views, join_images
from fabric.cloud.listings import Listings
from fabric.model.image import Image

_FILED = {
    "architecture": "architecture",
    "block-device-mapping.delete-on-termination": "disk.delete",
    "block-device-mapping.device-name": "disk.device",
    "block-device-mapping.snapshot-id": "disk.snapshot",
    "block-device-mapping.volume-size": "disk.size",
    "block-device-mapping.volume-type": "disk.type",
    "creation-date": "created",
    "description": "description",
    "image-id": "id",
    "image-type": "type",
    "is-public": "public",
    "kernel-id": "kernel",
    "manifest-location": "location",
    "name": "name",
    "owner-id": "owner",
    "ramdisk-id": "ramdisk",
    "root-device-name": "root-device",
    "root-device-type": "root-type",
    "source-image-id": "source",
    "source-instance-id": "instance",
    "state": "state",
    "state-reason-message": "reason",
}

_ALIKE = {
    "hypervisor": ("xen",),
    "block-device-mapping.encrypted": ("false",),
    "virtualization-type": ("hvm",),
}

_ABSENT = """
    boot-mode
    ena-support free-tier-eligible image-allowed image-watermark.source-image-creation-time
    image-watermark.source-image-id image-watermark.source-image-region image-watermark.watermark-creation-time
    image-watermark.watermark-key instance-type-specification.supported-instance-type
    instance-type-specification.unsupported-instance-type owner-alias platform product-code product-code.type
    public-ssm-parameter-name scan-result.critical-fix-available-since
    scan-result.finding-scan-date scan-result.high-fix-available-since
    scan-result.highest-finding-severity-label scan-result.informational-fix-available-since
    scan-result.low-fix-available-since scan-result.medium-fix-available-since source-image-region
    sriov-net-support state-reason-code
"""


def _filters() -> FilterTable:
    rules: dict[str, Rule] = {name: constant() for name in _ABSENT.split()}
    rules |= {name: facet(own) for name, own in _FILED.items()}
    rules |= {name: constant(*values) for name, values in _ALIKE.items()}
    return FilterTable(rules, private_tags=True)


class ImageActions:
    """
    Lists the images that a project may launch: its own, those that are
    public, and those that it was given.

    C{IncludeDeprecated} and C{IncludeDisabled} are honoured by there being no
    such images.
    """

    def __init__(self, listings: Listings, views: EC2Views) -> None:
        self._list = Describe(listings, Image, "imagesSet", _filters(), views.render_one, bounds=Bounds(1, 1000))

    def register(self, registry: Registry) -> None:
        """Add the action, with what it honours."""
        listed = ("ImageIds", "Owners", "ExecutableUsers", "Filters", "MaxResults", "NextToken")
        registry.add(Action("DescribeImages", self.describe, (*listed, "IncludeDeprecated", "IncludeDisabled")))

    def describe(self, call: Call) -> Deferred[Answer]:
        """
        Images, by id, owner, or by who may launch them.
        """
        project = call.caller.project
        narrowing = self._list.narrow(call)
        ids = check_ids("image", call.parameters.get("ImageIds") or ())
        owners = call.parameters.get("Owners")
        if owners:
            narrowing.add(("owner", tuple(literal(project if name == "self" else name) for name in owners)))
        users = call.parameters.get("ExecutableUsers")
        if users:
            narrowing.add(_executable_by(users, project))
        return self._list.listing(call, narrowing, ids, join_images(project))


def _executable_by(users: Iterable[str], project: str) -> Test:
    wanted = {project if name == "self" else name for name in users}

    def test(image: Any) -> bool:
        if "all" in wanted and image.public:
            return True
        given = set(image.shared_with)
        return not wanted.isdisjoint(given if image.project == project else given & {project})

    return test
