"""
The driver with all its parts.
"""

from __future__ import annotations

import os
from typing import Any

import attrs

from fabric.network.linux.conntrack import Conntrack
from fabric.network.linux.dnsmasq import Dnsmasqs
from fabric.network.linux.driver import LinuxNetwork
from fabric.network.linux.leases import Leases
from fabric.network.linux.links import Links
from fabric.network.linux.netlink import Netlink, Sysctls
from fabric.network.linux.nft import Nft
from fabric.network.linux.packetfilter import PacketFilter
from fabric.network.linux.plan import Uplinks
from fabric.network.linux.ruleset import Outside


def linux_network(
    directory: str, reactor: Any, uplinks: Uplinks, outside: Outside | None = None, namespace: str = ""
) -> LinuxNetwork:
    """
    @param directory: of what is remembered, for this account alone.
    @param uplinks: how bridges are joined to other hosts'.
    @param outside: what is around the networks; L{Outside.uplinks} is set from C{uplinks}.
    @param namespace: the name of the network namespace that it all happens
        in; empty for the process's own.
    """
    outside = attrs.evolve(outside or Outside(), uplinks=uplinks)
    within = ("ip", "netns", "exec", namespace) if namespace else ()
    links = Links(Netlink(namespace), Sysctls())
    servers = Dnsmasqs(reactor, (*within, "dnsmasq"))
    filters = PacketFilter(Nft(reactor, (*within, "nft")), outside, Conntrack(reactor, (*within, "conntrack")))
    leases = Leases(os.path.join(directory, "dhcp"), servers, links, uplinks.guest_mtu)
    return LinuxNetwork(directory, reactor, links, leases, filters, uplinks, outside.public_interface)
