"""
How instances may ask the metadata door.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from fabric.api.ec2.actions.refusals import check_ids, invalid_value, missing, unsupported
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.launch_views import shown_metadata_options
from fabric.api.ec2.registry import Action, Registry
from fabric.cloud.metadata_options import MetadataSettings
from fabric.model.metadata_options import MOST_HOPS, SWITCH, TOKENS, MetadataDefaults

_CHOICES = {
    "HttpTokens": ("tokens", TOKENS),
    "HttpEndpoint": ("endpoint", SWITCH),
    "InstanceMetadataTags": ("tags", SWITCH),
}

MEMBERS = (*_CHOICES, "HttpPutResponseHopLimit", "HttpProtocolIpv6")

METADATA_OPTIONS = tuple(f"MetadataOptions.{member}" for member in MEMBERS)

_NO_PREFERENCE = {"HttpTokens", "HttpEndpoint", "InstanceMetadataTags", "HttpTokensEnforced"}


def metadata_asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    @return: the fields of L{fabric.model.metadata_options.MetadataOptions}
        that a request names.
    @raise EC2Error: a value can't be.
    """
    asked: dict[str, Any] = {}
    for member, (field, choices) in _CHOICES.items():
        if given.get(member):
            asked[field] = _one_of(member, given[member], choices)
    hops = given.get("HttpPutResponseHopLimit")
    if hops is not None:
        if not 1 <= hops <= MOST_HOPS:
            raise invalid_value("HttpPutResponseHopLimit", hops, f"Expecting 1 to {MOST_HOPS}.")
        asked["hops"] = hops
    if given.get("HttpProtocolIpv6", "disabled") != "disabled":
        raise unsupported("The metadata door of this cloud has no IPv6 address")
    return asked


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise invalid_value(name, value, f"Expecting {' or '.join(choices)}.")
    return value


class MetadataOptionsActions:
    """
    An instance's options, and the defaults of the caller's project.
    """

    def __init__(self, settings: MetadataSettings) -> None:
        self._settings = settings

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        registry.add(Action("ModifyInstanceMetadataOptions", self.modify, ("InstanceId", *MEMBERS)))
        registry.add(Action("GetInstanceMetadataDefaults", self.defaults, ()))
        kept = ("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "InstanceMetadataTags", "HttpTokensEnforced")
        registry.add(Action("ModifyInstanceMetadataDefaults", self.modify_defaults, kept))

    def modify(self, call: Call) -> Deferred[Answer]:
        """
        Change what the request names, at once.
        """
        [id] = check_ids("instance", [call.parameters["InstanceId"]])
        asked = metadata_asked(call.parameters)
        if not asked:
            raise missing("HttpTokens")
        done = self._settings.modify(call.caller, id, asked)
        return done.addCallback(
            lambda options: {
                "InstanceId": id,
                "InstanceMetadataOptions": shown_metadata_options(options),
            }
        )

    def defaults(self, call: Call) -> Deferred[Answer]:
        """
        What launches get that do not say.
        """
        return self._settings.defaults(call.caller).addCallback(_shown)

    def modify_defaults(self, call: Call) -> Deferred[Answer]:
        """
        Change what the request names; C{no-preference}, or a hop limit of -1,
        takes a default back.
        """
        given = {
            name: "" if name in _NO_PREFERENCE and value == "no-preference" else value
            for name, value in call.parameters.items()
        }
        cleared = {field: "" for member, (field, _) in _CHOICES.items() if given.get(member) == ""}
        if given.get("HttpPutResponseHopLimit") == -1:
            del given["HttpPutResponseHopLimit"]
            cleared["hops"] = 0  # type: ignore[assignment]
        asked = metadata_asked(given) | cleared
        if "HttpTokensEnforced" in given:
            enforced = given["HttpTokensEnforced"]
            asked["enforced"] = enforced and _one_of("HttpTokensEnforced", enforced, SWITCH)
        if not asked:
            raise missing("HttpTokens")
        return self._settings.set_defaults(call.caller, asked).addCallback(lambda _: {"Return": True})


def _shown(defaults: MetadataDefaults) -> Answer:
    return {
        "AccountLevel": {
            "HttpTokens": defaults.tokens or None,
            "HttpPutResponseHopLimit": defaults.hops or None,
            "HttpEndpoint": defaults.endpoint or None,
            "InstanceMetadataTags": defaults.tags or None,
            "ManagedBy": "account",
            "HttpTokensEnforced": defaults.enforced or None,
        }
    }
