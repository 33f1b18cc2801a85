"""
A reservation: what one launch made, and the client token that it answered.
"""

from __future__ import annotations

import attrs

from fabric.model.record import ALL, Derived, Record


@attrs.frozen
class Reservation(Record):
    """
    @ivar instances: ids in order of launch index.
    @ivar client_token: as the client gave it, empty for none.
    @ivar token_digest: hash of the request's parameters, to tell a repeat
        from a reuse.
    @ivar review_at: when the sweep looks whether any instance is left.
    """

    kind = "reservation"

    id: str
    project: str
    created_at: float
    instances: tuple[str, ...]
    client_token: str = ""
    token_digest: str = ""
    review_at: float = 0.0

    def derived(self) -> Derived:
        """Filed under its project, with the token as a unique name."""
        return Derived(
            scopes=(self.project, ALL),
            unique=(f"token:{self.project}:{self.client_token}",) if self.client_token else (),
            due=self.review_at,
        )
