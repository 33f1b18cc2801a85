"""
Tags in requests: EC2's rules for them, and tags given at creation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fabric.api.ec2.actions.refusals import invalid, missing, unsupported
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.wire.answers import can_say
from fabric.cloud.tags import RESERVED, reserved

MOST_TAGS = 50
LONGEST_KEY = 128
LONGEST_VALUE = 256

ELSEWHERE = ("network-interface", "snapshot", "spot-instances-request")
"""What EC2 tags as it makes something else, and this cloud does not."""


def read_tags(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """
    @param tags: as botocore has them, C{[{"Key": …, "Value": …}]}.
    @raise EC2Error: a key that is empty, too long, reserved or twice there, a
        value that is too long, or too many tags.
    """
    found: dict[str, str] = {}
    for tag in tags:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        check_key(key)
        _check_shown(value)
        if len(value) > LONGEST_VALUE:
            raise invalid(f"Tag value exceeds the maximum length of {LONGEST_VALUE} characters")
        if key in found:
            raise invalid(f"Duplicate tag key '{key}' specified.")
        found[key] = value
    if len(found) > MOST_TAGS:
        raise too_many_tags()
    return found


def too_many_tags() -> EC2Error:
    """
    @return: the refusal of more tags than a thing may have.
    """
    return EC2Error("TagLimitExceeded", f"The maximum number of tags for a resource is {MOST_TAGS}")


def check_key(key: str) -> None:
    """
    @raise EC2Error: no tag of a user's may have this key.
    """
    if not key:
        raise invalid("Tag key cannot be null or empty")
    if len(key) > LONGEST_KEY:
        raise invalid(f"Tag key exceeds the maximum length of {LONGEST_KEY} characters")
    if reserved(key):
        raise invalid(f"Tag keys starting with '{RESERVED}' are reserved for internal use")
    _check_shown(key)


def _check_shown(text: str) -> None:
    """
    @raise EC2Error: no XML can say this, so that what came back would be
        something else.
    """
    if not can_say(text):
        raise invalid("Tag keys and values can't have control characters")


def tags_at_creation(parameters: Mapping[str, Any], resource_type: str) -> dict[str, str]:
    """
    The tags that C{TagSpecifications} gives what is being made.

    @raise EC2Error: it also gives tags to something that is not made here.
    """
    specifications = parameters.get("TagSpecifications")
    if not specifications:
        return {}
    tags: list[Mapping[str, str]] = []
    for specification in specifications:
        kind = specification.get("ResourceType")
        if not kind:
            raise missing("TagSpecification.ResourceType")
        if kind != resource_type:
            if kind not in ELSEWHERE:
                raise invalid(f"'{kind}' is not a valid taggable resource type for this operation.")
            raise unsupported(f"'{kind}' can't be tagged by this action on this cloud; '{resource_type}' can")
        tags += specification.get("Tags") or ()
    return read_tags(tags)
