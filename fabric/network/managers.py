"""
Managers: how the addresses of a network reach its guests, by name.

C{flat}: the bridge is there, and whoever made the network sees to addresses.
C{flatdhcp}: each host is also the gateway of its own guests, and their DHCP
server.  C{vlan}: the same, in a VLAN of the network's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred, fail

from fabric.errors import InvalidValue
from fabric.network.interface import INetworkDriver, NetworkOrder

Manager = Callable[[INetworkDriver, NetworkOrder], Deferred[None]]
"""Has the driver make what a network needs on this host; may be repeated."""


def flat(driver: INetworkDriver, network: NetworkOrder) -> Deferred[None]:
    """A bridge, and nothing else: no IPv6 either, which would need a router."""
    return driver.express(attrs.evolve(network, cidr_v6=""))


def flatdhcp(driver: INetworkDriver, network: NetworkOrder) -> Deferred[None]:
    """A bridge with gateway and DHCP."""
    return driver.express(network)


def vlan(driver: INetworkDriver, network: NetworkOrder) -> Deferred[None]:
    """The same in a VLAN, which the order must name."""
    if network.vlan is None:
        return fail(InvalidValue("vlan", "", f"network {network.id} has none, but manager vlan"))
    return driver.express(network)


MANAGERS: Mapping[str, Manager] = {"flat": flat, "flatdhcp": flatdhcp, "vlan": vlan}
"""Every manager that a network may name."""


def express(driver: INetworkDriver, network: NetworkOrder) -> Deferred[None]:
    """
    Have a network on this host, as its manager makes it.

    @return: fires when it is there; L{InvalidValue} for a manager that nobody
        knows, or an order that it can't carry out.
    """
    manager = MANAGERS.get(network.manager)
    if manager is None:
        why = f"not one of {', '.join(sorted(MANAGERS))}"
        return fail(InvalidValue(name="manager", value=network.manager, why=why))
    return manager(driver, network)
