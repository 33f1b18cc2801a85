"""
What links a host's networks are made of.  Pure: from orders to values.

A bridge a network; what joins it to the same network's bridges on other hosts
is its uplink::

    manager     driver linux_net                       driver vxlan
    flat        flat_interface, or none                vxlan device
    flatdhcp    flat_interface, or none                vxlan device
    vlan        VLAN of vlan_interface                 vxlan device

Every host is the gateway of its own guests, so the gateway has one address and
one MAC everywhere, and nothing of it may cross an uplink.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import attrs
from netaddr import AddrFormatError, IPAddress, IPNetwork

from fabric.errors import InvalidValue
from fabric.network.interface import NetworkOrder

LONGEST = 15
"""Characters of a link's name, as Linux has it."""

UNQUOTABLE = '"\\*'
"""Characters that packet filters can't have in a link's name."""

PLAIN_MTU = 1500
VXLAN_OVERHEAD = 50
"""Bytes that vxlan over IPv4 adds to a frame."""

FIRST_DERIVED = 4096
"""The least vxlan number that is not a VLAN's tag."""

MARK = "fabric:"
"""How the alias of every link begins that is ours."""


@attrs.frozen
class Uplinks:
    """
    How the bridges of this host are joined to those of others.

    @ivar vxlan: whether by vxlan, else by interfaces and VLANs.
    @ivar flat_interface: put into the bridge of the one flat or flatdhcp
        network; empty for none.
    @ivar vlan_interface: on which VLANs are made; empty for none.
    @ivar vxlan_local: the address that this host's tunnels begin at.
    @ivar vxlan_interface: by which they go; empty for as routes say.
    @ivar vxlan_group: the multicast group that finds the others; empty for C{vxlan_peers}.
    @ivar vxlan_peers: the others' addresses.
    @ivar mtu: of guests; 0 for what is usual.
    """

    vxlan: bool = False
    flat_interface: str = ""
    vlan_interface: str = ""
    vxlan_local: str = ""
    vxlan_interface: str = ""
    vxlan_group: str = ""
    vxlan_peers: tuple[str, ...] = ()
    mtu: int = 0

    @property
    def guest_mtu(self) -> int:
        """Bytes of a guest's largest packet."""
        return self.mtu or (PLAIN_MTU - VXLAN_OVERHEAD if self.vxlan else PLAIN_MTU)


@attrs.frozen
class Uplink:
    """
    @ivar kind: C{interface} for one that is there already, C{vlan} or C{vxlan}.
    @ivar number: the VLAN's tag, or the vxlan's number; 0 for neither.
    @ivar parent: the interface below; may be empty with vxlan.
    """

    kind: str
    name: str
    number: int = 0
    parent: str = ""
    local: str = ""
    group: str = ""
    peers: tuple[str, ...] = ()


@attrs.frozen
class Bridge:
    """
    @ivar network: whose it is.
    @ivar addresses: the gateway's, each with the length of its prefix; none
        where the host is not the gateway.
    """

    name: str
    network: str
    mac: str
    addresses: tuple[str, ...]
    mtu: int
    uplink: Uplink | None = None

    @property
    def mark(self) -> str:
        """The alias of what is made for this network."""
        return MARK + self.network


def is_gateway(network: NetworkOrder) -> bool:
    """Whether hosts are the gateways of a network, and its DHCP servers."""
    return network.manager != "flat"


def gateway_mac(network: str) -> str:
    """
    @return: the MAC of a network's bridge, the same on all hosts.
    """
    digest = hashlib.sha256(network.encode()).hexdigest()
    return "fe:" + ":".join(digest[n : n + 2] for n in range(0, 10, 2))


def gateway_v6(network: NetworkOrder) -> str:
    """
    @return: the gateway's IPv6 address; empty for none.
    """
    return str(IPNetwork(network.cidr_v6)[1]) if network.cidr_v6 else ""


def bridge(network: NetworkOrder, uplinks: Uplinks) -> Bridge:
    """
    @raise InvalidValue: the order can't be carried out on any host.
    """
    checked(network)
    addresses: tuple[str, ...] = ()
    if is_gateway(network):
        addresses = (f"{network.gateway}/{IPNetwork(network.cidr).prefixlen}",)
        if network.cidr_v6:
            addresses += (f"{gateway_v6(network)}/64",)
    mac = gateway_mac(network.id)
    return Bridge(network.bridge, network.id, mac, addresses, uplinks.guest_mtu, uplink(network, uplinks))


def bridges(networks: Iterable[NetworkOrder], uplinks: Uplinks) -> dict[str, Bridge]:
    """
    @return: by network's id.
    """
    return {network.id: bridge(network, uplinks) for network in networks}


def uplink(network: NetworkOrder, uplinks: Uplinks) -> Uplink | None:
    """
    @return: what joins a network's bridge to other hosts; None for nothing.
    """
    if uplinks.vxlan:
        number = vxlan_number(network)
        name = f"vx{number}"
        return Uplink(
            "vxlan",
            name,
            number,
            uplinks.vxlan_interface,
            uplinks.vxlan_local,
            uplinks.vxlan_group,
            () if uplinks.vxlan_group else uplinks.vxlan_peers,
        )
    if network.manager == "vlan":
        tag = network.vlan or 0
        return Uplink("vlan", f"vlan{tag}", tag, uplinks.vlan_interface) if uplinks.vlan_interface else None
    return Uplink("interface", uplinks.flat_interface) if uplinks.flat_interface else None


def vxlan_number(network: NetworkOrder) -> int:
    """
    @return: the same on all hosts: the VLAN's tag, or one made of the
        network's id that is no VLAN's.
    """
    if network.manager == "vlan":
        return network.vlan or 0
    spread = int(hashlib.sha256(network.id.encode()).hexdigest(), 16)
    return FIRST_DERIVED + spread % (2**24 - FIRST_DERIVED)


def checked(network: NetworkOrder) -> None:
    """
    @raise InvalidValue: no host can have such a network.
    """
    name = network.bridge
    if (
        not name
        or len(name) > LONGEST
        or "/" in name
        or name in (".", "..")
        or any(c.isspace() or c in UNQUOTABLE for c in name)
    ):
        raise InvalidValue("bridge", name, f"a link's name of 1 to {LONGEST} characters")
    if network.manager == "vlan" and not 1 <= (network.vlan or 0) <= 4094:
        raise InvalidValue("vlan", str(network.vlan), "a tag from 1 to 4094")
    try:
        inside = IPAddress(network.gateway) in IPNetwork(network.cidr)
        prefix = IPNetwork(network.cidr_v6).prefixlen if network.cidr_v6 else 64
    except (AddrFormatError, ValueError) as error:
        raise InvalidValue("network", network.id, str(error)) from error
    if is_gateway(network) and not inside:
        raise InvalidValue("gateway", network.gateway, f"an address of {network.cidr}")
    if prefix != 64:
        raise InvalidValue("cidr_v6", network.cidr_v6, "a /64, since guests make their addresses of their MACs")
