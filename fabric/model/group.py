"""
A security group.  Its rules come with the address and rule actions.
"""

from __future__ import annotations

import attrs

from fabric.model.record import ALL, Derived, Record, tag_facets


@attrs.frozen
class SecurityGroup(Record):
    """
    @ivar name: unique in the project; C{default} exists in each.
    """

    kind = "group"
    taggable = True

    id: str
    project: str
    name: str
    description: str
    created_at: float = 0.0
    tags: dict[str, str] = attrs.field(factory=dict)

    def derived(self) -> Derived:
        """Filed for its project, with its name unique there."""
        return Derived(
            scopes=(self.project, ALL),
            facets=(("id", self.id), ("name", self.name), ("description", self.description), *tag_facets(self.tags)),
            unique=(f"group:{self.project}:{self.name}",),
            counters={f"quota:{self.project}:groups": 1},
        )
