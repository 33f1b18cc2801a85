"""
A network, and the fixed addresses that it can give.
"""

from __future__ import annotations

from functools import cache

import attrs
from netaddr import EUI, IPNetwork

from fabric.model.project_range import subnet_pool, vlan_pool
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
    @ivar range: id of the L{fabric.model.project_range.ProjectRange} whose
        VLAN and addresses it has; empty for none.
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
    range: str = ""

    def derived(self) -> Derived:
        """
        Filed for its project, or for all, with its label unique; and its VLAN,
        and that it is its project's own.
        """
        unique = [f"network:{self.label}"]
        if self.vlan is not None:
            unique.append(f"network_vlan:{self.vlan}")
            if self.project:
                unique.append(own_network(self.project))
        pools = ((vlan_pool(self.range), str(self.vlan)), (subnet_pool(self.range), self.cidr)) if self.range else ()
        return Derived(
            scopes=(self.project or PUBLIC, ALL),
            facets=(("label", self.label), ("cidr", self.cidr)),
            unique=tuple(unique),
            pools=pools,
        )

    def pool_members(self) -> dict[str, tuple[str, ...]]:
        """One pool: every address but the reserved ones, the gateway's and the broadcast."""
        return {"fixed:" + self.id: _addresses(self.cidr, self.reserved, self.gateway)}


def own_network(project: str) -> str:
    """
    @return: the unique name of a project's own VLAN network.
    """
    return f"own_network:{project}"


def addresses_v6(cidr_v6: str, mac: str) -> tuple[str, ...]:
    """
    @param cidr_v6: a network's; empty for none.
    @return: the IPv6 addresses that a guest makes of its MAC there (RFC 4862,
        5.3; RFC 2464, 4): of the range, and link-local.
    """
    if not cidr_v6:
        return ()
    own = EUI(mac)
    return str(own.ipv6(IPNetwork(cidr_v6).first)), str(own.ipv6_link_local())


@cache
def _addresses(cidr: str, reserved: int, gateway: str) -> tuple[str, ...]:
    network = IPNetwork(cidr)
    every = (str(network[n]) for n in range(reserved, network.size - 1))
    return tuple(address for address in every if address != gateway)
