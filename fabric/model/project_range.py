"""
A range of addresses, and one of VLANs, of which each project gets a network of its own.
"""

from __future__ import annotations

from functools import cache

import attrs
from netaddr import IPNetwork

from fabric.model.record import ALL, Derived, Record


@attrs.frozen
class ProjectRange(Record):
    """
    What the networks of projects are made of, with manager C{vlan}.

    @ivar cidr: cut into ranges of C{size} addresses, one a project.
    @ivar first_vlan: the least tag.
    @ivar vlans: how many tags there are, at most; no more than ranges.
    @ivar reserved, dns: of each network.
    """

    kind = "project_range"

    id: str
    label: str
    cidr: str
    size: int = 256
    first_vlan: int = 100
    vlans: int = 256
    reserved: int = 2
    dns: tuple[str, ...] = ()
    project: str = ""
    created_at: float = 0.0

    @property
    def tags(self) -> tuple[str, ...]:
        """Every VLAN's tag, as text."""
        count = min(self.vlans, len(self.ranges), 4095 - self.first_vlan)
        return tuple(str(self.first_vlan + n) for n in range(count))

    @property
    def ranges(self) -> tuple[str, ...]:
        """Every network's range."""
        return _ranges(self.cidr, self.size)

    def derived(self) -> Derived:
        """Filed for operators, with its label unique."""
        return Derived(
            scopes=(ALL,),
            facets=(("label", self.label), ("cidr", self.cidr)),
            unique=(f"project_range:{self.label}",),
        )

    def pool_members(self) -> dict[str, tuple[str, ...]]:
        """Two pools: the tags and the ranges."""
        return {vlan_pool(self.id): self.tags, subnet_pool(self.id): self.ranges[: len(self.tags)]}


def vlan_pool(id: str) -> str:
    """@return: the pool of a project range's tags."""
    return "vlan:" + id


def subnet_pool(id: str) -> str:
    """@return: the pool of a project range's ranges."""
    return "subnet:" + id


@cache
def _ranges(cidr: str, size: int) -> tuple[str, ...]:
    prefix = 32 - (size.bit_length() - 1)
    return tuple(str(part) for part in IPNetwork(cidr).subnet(prefix))
