"""
What each verb makes of a host's network.  Pure: from a L{HostNetwork} to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from fabric.errors import NotFound
from fabric.network.interface import Floating, GroupOrder, NetworkOrder, Plug
from fabric.network.linux.host import HostNetwork

Change = Callable[[HostNetwork], HostNetwork]
"""Gives the very value that it got when nothing is to change."""


def _evolved(host: HostNetwork, **fields: Any) -> HostNetwork:
    """The same host when the fields are equal to what it has."""
    if all(getattr(host, name) == value for name, value in fields.items()):
        return host
    return attrs.evolve(host, **fields)


def expressed(network: NetworkOrder) -> Change:
    """
    It has this network; ports of one of this id stay.  One that has no ports
    here and that had the same bridge or VLAN is no more: the cloud has given
    that to another.
    """

    def change(host: HostNetwork) -> HostNetwork:
        used = {port.network for port in host.ports.values()}
        networks = {id: old for id, old in host.networks.items() if id in used or not _displaced(old, network)}
        return _evolved(host, networks=networks | {network.id: network})

    return change


def _displaced(old: NetworkOrder, new: NetworkOrder) -> bool:
    if old.id == new.id:
        return False
    return old.bridge == new.bridge or (old.vlan is not None and old.vlan == new.vlan)


def retired(network: str) -> Change:
    """It has nothing of this network."""

    def change(host: HostNetwork) -> HostNetwork:
        networks = {id: order for id, order in host.networks.items() if id != network}
        ports = {mac: port for mac, port in host.ports.items() if port.network != network}
        return _evolved(host, networks=networks, ports=ports)

    return change


def plugged(ports: Iterable[Plug]) -> Change:
    """
    It has these ports: one of each instance on each network, one of a MAC, and
    none of others that had the address of one.
    The change raises L{NotFound} when a port's network is not there.
    """
    new = {port.mac: port for port in ports}
    addresses = {(port.network, port.address): port.mac for port in new.values() if port.address}

    def change(host: HostNetwork) -> HostNetwork:
        for port in new.values():
            if port.network not in host.networks:
                raise NotFound("network", port.network)
        places = {(port.instance, port.network) for port in new.values()}
        kept = {
            mac: port
            for mac, port in host.ports.items()
            if (port.instance, port.network) not in places and addresses.get((port.network, port.address), mac) == mac
        }
        return _evolved(host, ports=kept | new)

    return change


def unplugged(instances: Iterable[str]) -> Change:
    """It has no port of these instances."""
    gone = set(instances)

    def change(host: HostNetwork) -> HostNetwork:
        return _evolved(host, ports={mac: port for mac, port in host.ports.items() if port.instance not in gone})

    return change


def associated(floating: Iterable[Floating]) -> Change:
    """These floating addresses lead where they say, and no port there waits for one any more."""
    new = {each.public: each for each in floating}
    macs = {each.mac for each in new.values()}

    def change(host: HostNetwork) -> HostNetwork:
        settled = {mac: attrs.evolve(host.ports[mac], public="") for mac in macs if _awaits(host, mac)}
        return _evolved(host, floating=host.floating | new, ports=host.ports | settled if settled else host.ports)

    return change


def _awaits(host: HostNetwork, mac: str) -> bool:
    return mac in host.ports and bool(host.ports[mac].public)


def disassociated(addresses: Iterable[str]) -> Change:
    """These floating addresses lead nowhere."""
    gone = set(addresses)

    def change(host: HostNetwork) -> HostNetwork:
        return _evolved(host, floating={public: each for public, each in host.floating.items() if public not in gone})

    return change


def regrouped(groups: Iterable[GroupOrder]) -> Change:
    """It knows exactly these security groups."""
    new = {group.id: group for group in groups}
    return lambda host: _evolved(host, groups=new)
