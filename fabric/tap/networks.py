"""
The network driver of this host, by the settings.
"""

from __future__ import annotations

from typing import Any

from fabric.network.fake import FakeNetwork
from fabric.network.interface import INetworkDriver
from fabric.settings import Settings
from fabric.settings.values import Network


def network_driver(reactor: Any, settings: Settings, directory: str) -> INetworkDriver:
    """
    @param directory: where it keeps what it must not forget.
    """
    if settings.network.driver == "fake":
        return FakeNetwork(directory, reactor, settings.fake)
    return _linux(reactor, settings.network, directory)


def _linux(reactor: Any, wanted: Network, directory: str) -> INetworkDriver:
    # What it is made of is installed where hosts are real only.
    from fabric.network.linux.assembly import linux_network
    from fabric.network.linux.plan import Uplinks
    from fabric.network.linux.ruleset import Outside

    uplinks = Uplinks(
        vxlan=wanted.driver == "vxlan",
        flat_interface=wanted.flat_interface,
        vlan_interface=wanted.vlan_interface,
        vxlan_local=wanted.vxlan_local,
        vxlan_interface=wanted.vxlan_interface,
        vxlan_group=wanted.vxlan_group,
        vxlan_peers=wanted.vxlan_peers,
        mtu=wanted.mtu,
    )
    outside = Outside(wanted.public_interface, wanted.snat, wanted.metadata_port)
    return linux_network(directory, reactor, uplinks, outside)
