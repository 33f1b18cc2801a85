"""
What passes to and from guests, and what of this host they reach: the table of
family C{inet}, fixed chains around those of L{fabric.network.linux.groups}.

What guests send is looked at first, by the groups of the sender; then what
they get, by the groups of the receiver.  Frames between guests of one bridge
come by here too, which takes C{net.bridge.bridge-nf-call-iptables} and
C{-ip6tables}.  From outside, and from bridges of other networks, guests are
reached by floating addresses only; from outside by IPv6, which has none, at
their own.  Of the host itself, guests reach DHCP, names, metadata and an echo of
their gateway, and what doors are opened to them, as far as their groups let them
send there.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from fabric.model.network import addresses_v6
from fabric.network.interface import NetworkOrder, Plug
from fabric.network.linux.groups import combination
from fabric.network.linux.guards import METADATA
from fabric.network.linux.plan import gateway_v6, is_gateway
from fabric.network.linux.tables import FILTER, Chain, Element, Named

_NEIGHBOURS = (
    "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, "
    "mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept"
)
_ANSWERS = "ct state established,related accept"

NAMED = (
    Named(FILTER, "bridges", "set", "type ifname;"),
    Named(FILTER, "pairs", "set", "type ifname . ifname;"),
    Named(FILTER, "closed", "set", "type ifname;"),
    Named(FILTER, "gateways", "set", "type ifname . ipv4_addr;"),
    Named(FILTER, "gateways6", "set", "type ifname . ipv6_addr;"),
    Named(FILTER, "guests", "set", "type ifname . ipv4_addr;"),
    Named(FILTER, "guests6", "set", "type ifname . ipv6_addr;"),
    Named(FILTER, "from", "map", "type ifname . ipv4_addr : verdict;"),
    Named(FILTER, "from6", "map", "type ifname . ipv6_addr : verdict;"),
    Named(FILTER, "to", "map", "type ifname . ipv4_addr : verdict;"),
    Named(FILTER, "to6", "map", "type ifname . ipv6_addr : verdict;"),
    Named(FILTER, "led", "set", "type ipv4_addr;"),
)
"""
Sets and maps that are always there.  C{pairs} are each bridge with itself,
C{closed} those that only guests are on, C{guests} the ones on other bridges,
C{led} floating addresses.
"""


@attrs.frozen
class Door:
    """
    What guests may reach of the host, by TCP.

    @ivar address: at which it is; C{0.0.0.0} or C{::} for any of that version of IP.
    """

    address: str
    port: int


def chains(metadata_port: int, doors: Iterable[Door] = ()) -> tuple[Chain, ...]:
    """
    @param metadata_port: where this host answers for the metadata.
    @param doors: what else guests may reach of it.
    @return: the chains that are always there.
    """
    asked = f"tcp dport {metadata_port} ct original ip daddr {METADATA}"
    return (
        Chain(
            FILTER,
            "sent",
            ("iifname @bridges goto leaving",),
            "type filter hook forward priority -1; policy accept;",
        ),
        Chain(
            FILTER,
            "received",
            (
                "ct state new meta nfproto ipv4 iifname != @bridges oifname @closed jump crossing",
                "oifname @bridges goto entering",
            ),
            "type filter hook forward priority 0; policy accept;",
        ),
        Chain(
            FILTER,
            "output",
            ("oifname @bridges goto answering",),
            "type filter hook output priority 0; policy accept;",
        ),
        Chain(
            FILTER,
            "input",
            (
                # What answers the host itself, where the address is its interface's and so that from which it asked.
                "ip daddr @led ct direction reply accept",
                # Not translated since it is not of a connection as this host knows it, like one whose guest
                # has just moved away.  The host would answer for the guest, and end it.
                "ip daddr @led counter drop",
                "iifname @closed goto asking",
                "iifname . ip saddr @guests goto asking",
                "iifname . ip6 saddr @guests6 goto asking",
                f'iifname != "lo" {asked} accept',
                f'iifname != "lo" tcp dport {metadata_port} counter drop',
            ),
            "type filter hook input priority 0; policy accept;",
        ),
        Chain(
            FILTER,
            "leaving",
            (
                _ANSWERS,
                "oifname @bridges iifname . oifname != @pairs jump crossing",
                _NEIGHBOURS,
                "iifname . ip saddr vmap @from",
                "iifname . ip6 saddr vmap @from6",
            ),
        ),
        Chain(FILTER, "crossing", ("ct status dnat return", "counter drop")),
        Chain(
            FILTER,
            "entering",
            (
                _ANSWERS,
                _NEIGHBOURS,
                "oifname . ip daddr vmap @to",
                "oifname . ip6 daddr vmap @to6",
            ),
        ),
        Chain(
            FILTER,
            "answering",
            ("udp sport 67 udp dport 68 accept", "udp sport 547 udp dport 546 accept", "goto entering"),
        ),
        Chain(
            FILTER,
            "asking",
            (
                _ANSWERS,
                "meta nfproto ipv4 udp dport 67 accept",
                f"{asked} accept",
                "iifname . ip daddr @gateways meta l4proto { tcp, udp } th dport 53 accept",
                "iifname . ip daddr @gateways icmp type echo-request accept",
                _NEIGHBOURS,
                "ip6 daddr fe80::/64 icmpv6 type echo-request accept",
                "iifname . ip6 daddr @gateways6 icmpv6 type echo-request accept",
                "iifname . ip6 daddr @gateways6 meta l4proto { tcp, udp } th dport 53 accept",
                "meta nfproto ipv6 udp dport 547 accept",
                *map(_opened, doors),
                "counter drop",
            ),
        ),
    )


def _opened(door: Door) -> str:
    """@return: the rule that leads who asks there to the rules about what it sends."""
    family, senders = ("ip6", "from6") if ":" in door.address else ("ip", "from")
    there = "" if door.address in ("0.0.0.0", "::") else f"{family} daddr {door.address} "
    return f"{there}tcp dport {door.port} iifname . {family} saddr vmap @{senders}"


def network_elements(network: NetworkOrder) -> list[Element]:
    """
    @return: what is known of a network's bridge.
    """
    bridge = f'"{network.bridge}"'
    elements = [Element(FILTER, "bridges", bridge), Element(FILTER, "pairs", f"{bridge} . {bridge}")]
    if is_gateway(network):
        elements.append(Element(FILTER, "closed", bridge))
    if network.gateway:
        elements.append(Element(FILTER, "gateways", f"{bridge} . {network.gateway}"))
    if network.cidr_v6:
        elements.append(Element(FILTER, "gateways6", f"{bridge} . {gateway_v6(network)}"))
    return elements


def port_elements(port: Plug, network: NetworkOrder, groups: tuple[str, ...]) -> list[Element]:
    """
    @param groups: as L{fabric.network.linux.groups.combined} has them.
    @return: what leads from a port's addresses to its groups' rules.
    """
    chain = combination(groups)
    elements = []
    for family, addresses in (("", (port.address,)), ("6", addresses_v6(network.cidr_v6, port.mac))):
        for address in addresses:
            key = f'"{network.bridge}" . {address}'
            elements.append(Element(FILTER, "from" + family, key, f"goto {chain}-out"))
            elements.append(Element(FILTER, "to" + family, key, f"goto {chain}-in"))
            if not is_gateway(network):
                elements.append(Element(FILTER, "guests" + family, key))
    return elements
