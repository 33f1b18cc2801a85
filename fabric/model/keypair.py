"""
A key pair: the public half, which launches put into instances.
"""

from __future__ import annotations

import attrs

from fabric.model.record import ALL, Derived, Record, tag_facets


@attrs.frozen
class KeyPair(Record):
    """
    @ivar key_type: C{rsa} or C{ed25519}.
    @ivar public_key: one line in OpenSSH's format.
    @ivar fingerprint: as EC2 computes it for this type and origin.
    """

    kind = "key_pair"
    taggable = True

    id: str
    project: str
    name: str
    fingerprint: str
    public_key: str
    key_type: str = "rsa"
    created_at: float = 0.0
    tags: dict[str, str] = attrs.field(factory=dict)

    def derived(self) -> Derived:
        """Filed for its project, with its name unique there."""
        return Derived(
            scopes=(self.project, ALL),
            facets=(("id", self.id), ("name", self.name), ("fingerprint", self.fingerprint), *tag_facets(self.tags)),
            unique=(f"key_pair:{self.project}:{self.name}",),
            counters={f"quota:{self.project}:key_pairs": 1},
        )
