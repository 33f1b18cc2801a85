"""
How much of each resource a project may have.
"""

from __future__ import annotations

import attrs

from fabric.model.record import ALL, Derived, Record

RESOURCES: tuple[str, ...] = (
    "instances",
    "cores",
    "ram",
    "key_pairs",
    "groups",
    "volumes",
    "gigabytes",
    "snapshots",
    "addresses",
)
RESOURCES += ("placement_groups", "launch_templates", "images")
"""What is limited; C{ram} in MiB.  Each has a counter C{quota:PROJECT:NAME}."""


@attrs.frozen
class Quota(Record):
    """
    A project's own limits; a resource that is not named has the default.

    @ivar id: the project's name.
    """

    kind = "quota"

    id: str
    project: str
    limits: dict[str, int] = attrs.field(factory=dict)

    def derived(self) -> Derived:
        """Filed for operators."""
        return Derived(scopes=(ALL,))
