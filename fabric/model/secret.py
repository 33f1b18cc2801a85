"""
What the services of a cloud share and nobody else knows.
"""

from __future__ import annotations

import attrs

from fabric.model.record import ALL, Derived, Record


@attrs.frozen
class Secret(Record):
    """
    Random bytes for signing.

    @ivar id: what is signed with it, as C{metadata}.
    @ivar value: hexadecimal.
    """

    kind = "secret"

    id: str
    value: str = attrs.field(repr=False)
    project: str = ""

    def derived(self) -> Derived:
        """Filed for operators; it has no view, so that no door lists it."""
        return Derived(scopes=(ALL,))
