"""
What an instance may ask the metadata door, and how.
"""

from __future__ import annotations

import attrs

from fabric.model.record import ALL, Derived, Record

TOKENS = ("optional", "required")
SWITCH = ("enabled", "disabled")
MOST_HOPS = 64


@attrs.frozen
class MetadataOptions:
    """
    @ivar tokens: C{required} when only requests with a session token are
        answered, else C{optional}.
    @ivar hops: the IP hop limit of the answer to a request for a token.
    @ivar endpoint: C{disabled} when the door does not know the instance.
    @ivar tags: C{enabled} when it shows the instance's tags.
    """

    tokens: str = "optional"
    hops: int = 1
    endpoint: str = "enabled"
    tags: str = "disabled"


@attrs.frozen
class MetadataDefaults(Record):
    """
    What a project's launches get that do not say; empty, or 0, for no
    preference.

    @ivar id: the project's name.
    @ivar enforced: C{enabled} when a launch or a change to C{optional} tokens
        is refused.
    """

    kind = "metadata_defaults"

    id: str
    project: str
    tokens: str = ""
    hops: int = 0
    endpoint: str = ""
    tags: str = ""
    enforced: str = ""

    def derived(self) -> Derived:
        """Filed for operators."""
        return Derived(scopes=(ALL,))


def effective(asked: dict[str, object], defaults: MetadataDefaults | None) -> MetadataOptions:
    """
    @param asked: those fields of L{MetadataOptions} that the launch names.
    @return: these, then the project's defaults, then the cloud's.
    """
    fields = [field.name for field in attrs.fields(MetadataOptions)]
    preferred = {name: getattr(defaults, name) for name in fields} if defaults else {}
    return MetadataOptions(**{name: value for name, value in preferred.items() if value} | asked)
