"""
A network, and the fixed addresses that it can give.
"""

from __future__ import annotations

from functools import cache

import attrs
from netaddr import IPNetwork

from fabric.model.record import ALL, PUBLIC, Derived, Record


@attrs.frozen
class Network(Record):
    """
    @ivar project: whose it is; empty for one that every project may use.
    @ivar manager: C{flat}, C{flatdhcp} or C{vlan}.
    @ivar cidr: the IPv4 range, as C{10.0.0.0/16}.
    @ivar reserved: how many of its first addresses are not given away (the
        network's own, the gateway, …).
    @ivar bridge: the Linux bridge on compute hosts.
    @ivar vlan: tag, None for none.
    @ivar cidr_v6: a /64 of IPv6 addresses, or empty.
    """

    kind = "network"

    id: str
    label: str
    cidr: str
    gateway: str
    manager: str = "flat"
    project: str = ""
    reserved: int = 2
    bridge: str = "br100"
    vlan: int | None = None
    dns: tuple[str, ...] = ()
    domain: str = "novalocal"
    created_at: float = 0.0
    tags: dict[str, str] = attrs.field(factory=dict)
    cidr_v6: str = ""

    def derived(self) -> Derived:
        """Filed for its project, or for all, with its label unique."""
        return Derived(
            scopes=(self.project or PUBLIC, ALL),
            facets=(("label", self.label), ("cidr", self.cidr)),
            unique=(f"network:{self.label}",),
        )

    def pool_members(self) -> dict[str, tuple[str, ...]]:
        """One pool: every address but the reserved ones and the broadcast."""
        return {"fixed:" + self.id: _addresses(self.cidr, self.reserved)}


@cache
def _addresses(cidr: str, reserved: int) -> tuple[str, ...]:
    network = IPNetwork(cidr)
    return tuple(str(network[n]) for n in range(reserved, network.size - 1))
