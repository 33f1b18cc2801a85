"""
The network driver of this host, by the settings.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from netaddr import INET_PTON, valid_ipv4, valid_ipv6

from fabric.network.fake import FakeNetwork
from fabric.network.interface import INetworkDriver
from fabric.network.linux.filtering import Door
from fabric.settings import Settings
from fabric.settings.values import Network
from fabric.tap.listening import bound


def network_driver(reactor: Any, settings: Settings, directory: str, api: str = "") -> INetworkDriver:
    """
    @param directory: where it keeps what it must not forget.
    @param api: the endpoint of the API's door, if that is of this process.
    """
    if settings.network.driver == "fake":
        return FakeNetwork(directory, reactor, settings.fake)
    return _linux(reactor, settings.network, directory, api)


def doors(wanted: Network, api: str) -> tuple[Door, ...]:
    """
    @param api: as L{network_driver} has it.
    @return: what guests may reach of this host, as C{network.guests_reach}
        says; nothing for an API's door that only the host itself reaches, or
        whose port nobody knows beforehand.
    """
    places: list[tuple[str, str]] = []
    for each in wanted.guests_reach:
        if each == "api":
            places += _api(api)
        else:
            address, _, port = each.rpartition(":")
            places.append((address, port))
    found = [Door(str(ip_address(address.strip("[]"))), int(port)) for address, port in places]
    return tuple(dict.fromkeys(door for door in found if not ip_address(door.address).is_loopback))


def _api(endpoint: str) -> list[tuple[str, str]]:
    kind, interface, port = bound(endpoint)
    if kind not in ("tcp", "ssl", "tcp6") or not port.isdigit() or port == "0":
        return []
    address = interface or ("::" if kind == "tcp6" else "0.0.0.0")
    if address == "::":  # that is for IPv4 as well
        return [("0.0.0.0", port), ("::", port)]
    return [(address, port)] if valid_ipv4(address, INET_PTON) or valid_ipv6(address) else []


def _linux(reactor: Any, wanted: Network, directory: str, api: str) -> INetworkDriver:
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
    outside = Outside(wanted.public_interface, wanted.snat, wanted.metadata_port, doors=doors(wanted, api))
    return linux_network(directory, reactor, uplinks, outside)
