"""
Addresses that are translated: the table of family C{ip}.

Floating addresses lead to guests and stand for them outside, also when one
guest asks for another by its floating address; other guests go out by the
host's public address; and C{169.254.169.254} is this host's metadata door.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, collapse_addresses, ip_network

from fabric.network.interface import NetworkOrder
from fabric.network.linux.guards import METADATA
from fabric.network.linux.plan import is_gateway
from fabric.network.linux.tables import FILTER, NAT, Chain, Element, Named

NAMED = (
    Named(NAT, "bridges", "set", "type ifname;"),
    Named(NAT, "ranges", "set", "type ipv4_addr; flags interval;"),
    Named(NAT, "metadata", "map", "type ifname : ipv4_addr . inet_service;"),
    Named(NAT, "floating", "map", "type ipv4_addr : ipv4_addr;"),
    Named(NAT, "public", "map", "type ipv4_addr : ipv4_addr;"),
)
"""
Sets and maps that are always there: C{floating} from public to private
addresses, C{public} the other way, C{ranges} all networks'.
"""


def chains(public_interface: str, snat: str) -> tuple[Chain, ...]:
    """
    @param public_interface: by which packets leave to the outside; empty for any.
    @param snat: the address that guests without a floating one have there;
        empty for that of the public interface, or for their own when that is
        empty too.
    @return: the chains that are always there.
    """
    outward = []
    if public_interface or snat:
        way = f'oifname "{public_interface}"' if public_interface else "oifname != @bridges"
        outward.append(f"{way} ip saddr @ranges ip daddr != @ranges " + (f"snat to {snat}" if snat else "masquerade"))
    return (
        Chain(
            NAT,
            "prerouting",
            (
                f"ip daddr {METADATA} tcp dport 80 dnat to iifname map @metadata",
                "dnat to ip daddr map @floating",
            ),
            "type nat hook prerouting priority -100; policy accept;",
        ),
        Chain(
            NAT,
            "output",
            ("dnat to ip daddr map @floating",),
            "type nat hook output priority -100; policy accept;",
        ),
        Chain(
            NAT,
            "postrouting",
            (
                "oifname @bridges ct status & dnat == 0 accept",
                "snat to ip saddr map @public",
                "oifname @bridges ip saddr @ranges masquerade",
                *outward,
            ),
            "type nat hook postrouting priority 100; policy accept;",
        ),
    )


def network_elements(network: NetworkOrder, metadata_port: int) -> list[Element]:
    """
    @return: what is known of a network's bridge.
    """
    bridge = f'"{network.bridge}"'
    elements = [Element(NAT, "bridges", bridge)]
    if is_gateway(network):
        elements.append(Element(NAT, "metadata", bridge, f"{network.gateway} . {metadata_port}"))
    return elements


def range_elements(networks: Iterable[NetworkOrder]) -> list[Element]:
    """
    @return: the ranges of all networks, which may overlap.
    """
    ranges = [ip_network(network.cidr, strict=False) for network in networks]
    united = collapse_addresses(each for each in ranges if isinstance(each, IPv4Network))
    return [Element(NAT, "ranges", str(each)) for each in united]


def floating_elements(private: str, publics: Iterable[str]) -> list[Element]:
    """
    @param publics: every floating address that leads to C{private}; what it
        sends comes from the first.
    @return: for the table of family C{inet} too, which lets nothing reach the
        host itself at these.
    """
    led = sorted(publics)
    ways_in = [Element(NAT, "floating", public, private) for public in led]
    return [*ways_in, *(Element(FILTER, "led", public) for public in led), public_element(private, led[0])]


def public_element(private: str, public: str) -> Element:
    """
    @return: what has C{private} be seen as C{public}.
    """
    return Element(NAT, "public", private, public)
