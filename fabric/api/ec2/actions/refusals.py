"""
The refusals that several actions share, in EC2's words.

@see: U{https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.wire.answers import can_say
from fabric.ids import is_id

_MALFORMED = {
    "instance": ("InvalidInstanceID.Malformed", ("instance",)),
    "image": ("InvalidAMIID.Malformed", ("image", "kernel", "ramdisk")),
    "kernel": ("InvalidAMIID.Malformed", ("kernel",)),
    "ramdisk": ("InvalidAMIID.Malformed", ("ramdisk",)),
    "group": ("InvalidGroupId.Malformed", ("group",)),
    "volume": ("InvalidVolumeID.Malformed", ("volume",)),
    "snapshot": ("InvalidSnapshotID.Malformed", ("snapshot",)),
    "rule": ("InvalidSecurityGroupRuleId.Malformed", ("rule",)),
    "launch_template": ("InvalidLaunchTemplateId.Malformed", ("launch_template",)),
    "placement_group": ("InvalidPlacementGroupId.Malformed", ("placement_group",)),
}


def unsupported(what: str) -> EC2Error:
    """
    @param what: a sentence; what this cloud does not do.
    """
    return EC2Error("UnsupportedOperation", what)


def invalid_value(name: str, value: object, why: str = "") -> EC2Error:
    """
    A parameter's value can't be meant.
    """
    return EC2Error("InvalidParameterValue", f"Value ({value}) for parameter {name} is invalid. {why}".rstrip())


def invalid(message: str) -> EC2Error:
    """
    As L{invalid_value}, with a message of EC2's own.
    """
    return EC2Error("InvalidParameterValue", message)


def combination(message: str) -> EC2Error:
    """
    Parameters that do not go together.
    """
    return EC2Error("InvalidParameterCombination", message)


def missing(name: str) -> EC2Error:
    """
    A parameter that must be there.
    """
    return EC2Error("MissingParameter", f"The request must contain the parameter {name}")


def check_ascii(name: str, text: str, most: int = 255) -> str:
    """
    @return: the text.
    @raise EC2Error: it has a character beyond ASCII, or more than C{most}, or
        one that no answer can say.
    """
    if not text.isascii():
        raise invalid_value(name, text[:300], "Character sets beyond ASCII are not supported.")
    check_sayable(name, text)
    if len(text) > most:
        raise invalid_value(name, text[:300], f"Length exceeds maximum of {most}.")
    return text


def check_sayable(name: str, text: str) -> None:
    """
    @raise EC2Error: no XML can say the text, so that what came back would be
        something else.
    """
    if not can_say(text):
        raise invalid_value(name, text[:300], "Invalid or illegal XML character specified")


def client_token(parameters: Mapping[str, Any], most: int = 64) -> str:
    """
    @return: the token by which a request is known when it comes again; empty
        for none.
    @raise EC2Error: it is too long, or not of ASCII.
    """
    return check_ascii("clientToken", parameters.get("ClientToken") or "", most)


def check_ids(kind: str, ids: Iterable[str]) -> tuple[str, ...]:
    """
    @return: the ids, each once.
    @raise EC2Error: C{Invalid….Malformed}: one can't be an id of the kind.
    """
    found = tuple(dict.fromkeys(ids))
    code, kinds = _MALFORMED[kind]
    for id in found:
        if not any(is_id(each, id) for each in kinds):
            raise EC2Error(code, f'Invalid id: "{id}"')
    return found
