"""
Who may say what on a bridge: the table of family C{bridge}.

A guest is known by its tap.  It sends with its own MAC and addresses, asks
for addresses but gives none, routes for nobody, and gets only what is sent to
it.  What makes this host the gateway never crosses an uplink, since each host
is the gateway of its own guests.

IPv6 addresses are those that guests make of their MACs (RFC 4291, appendix A),
in the network's range and link-local; in networks without a range none pass.
"""

from __future__ import annotations

from netaddr import EUI, IPAddress

from fabric.model.network import addresses_v6
from fabric.network.interface import NetworkOrder, Plug, device_name
from fabric.network.linux.plan import gateway_mac, gateway_v6
from fabric.network.linux.tables import LINK, Chain, Element, Named

METADATA = "169.254.169.254"
"""Where guests ask for their metadata."""

_TARGET = "@th,64,128"
"""The address that an ICMPv6 neighbour message is about: from its 9th byte."""

_TAPS = '"tap02*"'
"""Every tap that could be ours: the cloud's MACs begin with 02."""

NAMED = (
    Named(LINK, "senders", "set", "type ifname . ether_addr;"),
    Named(LINK, "holders", "set", "type ifname . ether_addr . ipv4_addr;"),
    Named(LINK, "holders6", "set", "type ifname . ether_addr . ipv6_addr;"),
    Named(LINK, "targets6", "set", f"typeof iifname . {_TARGET};"),
    Named(LINK, "uplinks", "set", "type ifname;"),
    Named(LINK, "gateways", "set", "type ifname . ipv4_addr;"),
    Named(LINK, "gateways6", "set", f"typeof iifname . {_TARGET};"),
    Named(LINK, "gateway_macs", "set", "type ifname . ether_addr;"),
)
"""Sets that are always there."""


def _crossing(name: str, device: str) -> Chain:
    """What may not come from an uplink, or leave by one."""
    return Chain(
        LINK,
        name,
        (
            f"{device} . ether saddr @gateway_macs drop",
            f"ether type arp {device} . arp saddr ip @gateways drop",
            f"ether type arp {device} . arp daddr ip @gateways drop",
            f"ether type arp arp daddr ip {METADATA} drop",
            "ether type ip udp dport { 67, 68 } drop",
            "ether type ip6 udp dport { 546, 547 } drop",
            "icmpv6 type { nd-router-solicit, nd-router-advert, nd-redirect } drop",
            f"icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} {device} . {_TARGET} @gateways6 drop",
        ),
    )


CHAINS = (
    Chain(
        LINK,
        "prerouting",
        (
            "iifname . ether saddr @senders goto sending",
            f"iifname {_TAPS} counter drop",
            "iifname @uplinks goto arriving",
        ),
        "type filter hook prerouting priority -300; policy accept;",
    ),
    Chain(
        LINK,
        "postrouting",
        (f"oifname {_TAPS} goto delivering", "oifname @uplinks goto departing"),
        "type filter hook postrouting priority 0; policy accept;",
    ),
    Chain(
        LINK,
        "sending",
        (
            "ether type ip goto sending4",
            "ether type arp goto sending_arp",
            "ether type ip6 goto sending6",
            "ether type 0x8035 accept",  # RARP: qemu says where a guest that has moved is now
            "counter drop",
        ),
    ),
    Chain(
        LINK,
        "sending_arp",
        (
            "iifname . arp saddr ether . arp saddr ip @holders accept",
            "arp saddr ip 0.0.0.0 iifname . arp saddr ether @senders accept",  # a probe, RFC 5227
            "counter drop",
        ),
    ),
    Chain(
        LINK,
        "sending4",
        (
            "udp sport 67 counter drop",
            "udp dport 68 counter drop",
            "iifname . ether saddr . ip saddr @holders accept",
            "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept",
            "counter drop",
        ),
    ),
    Chain(
        LINK,
        "sending6",
        (
            "icmpv6 type { nd-router-advert, nd-redirect } counter drop",
            "udp sport 547 counter drop",
            "udp dport 546 counter drop",
            f"icmpv6 type nd-neighbor-advert iifname . {_TARGET} != @targets6 counter drop",
            "iifname . ether saddr . ip6 saddr @holders6 accept",
            # asking whether an address is free, of its own ones, and which routers there are
            f"ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . {_TARGET} @targets6 accept",
            "ip6 saddr :: icmpv6 type { nd-router-solicit, mld2-listener-report } accept",
            "counter drop",
        ),
    ),
    Chain(
        LINK,
        "delivering",
        (
            "ether type arp accept",
            "oifname . ether daddr . ip daddr @holders accept",
            "oifname . ether daddr . ip6 daddr @holders6 accept",
            "ether type ip udp sport 67 udp dport 68 accept",
            "ip6 daddr ff02::/16 icmpv6 type "
            "{ nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query } accept",
            "counter drop",
        ),
    ),
    _crossing("arriving", "iifname"),
    _crossing("departing", "oifname"),
)
"""Chains that are always there."""


def port_elements(port: Plug, network: NetworkOrder) -> list[Element]:
    """
    @return: what lets a port speak as itself.
    """
    device, mac = f'"{device_name(port.mac)}"', port.mac.lower()
    elements = [
        Element(LINK, "senders", f"{device} . {mac}"),
        Element(LINK, "holders", f"{device} . {mac} . {port.address}"),
    ]
    for address in addresses_v6(network.cidr_v6, port.mac):
        elements.append(Element(LINK, "holders6", f"{device} . {mac} . {address}"))
        elements.append(Element(LINK, "targets6", f"{device} . {_number(address)}"))
    return elements


def uplink_elements(network: NetworkOrder, device: str) -> list[Element]:
    """
    @param device: joins the network's bridge to those of other hosts.
    @return: what keeps this host's part of the gateway to itself.
    """
    name = f'"{device}"'
    elements = [
        Element(LINK, "uplinks", name),
        Element(LINK, "gateways", f"{name} . {network.gateway}"),
        Element(LINK, "gateway_macs", f"{name} . {gateway_mac(network.id)}"),
    ]
    if network.cidr_v6:
        local = str(EUI(gateway_mac(network.id)).ipv6_link_local())
        for address in (gateway_v6(network), local):
            elements.append(Element(LINK, "gateways6", f"{name} . {_number(address)}"))
    return elements


def _number(address: str) -> str:
    return hex(int(IPAddress(address)))
