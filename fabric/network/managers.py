"""
Managers: how the addresses of a network reach its guests, by name.

C{flat}: the bridge is there, and the compute driver writes the address into the
guest.  C{flatdhcp} and C{vlan} need a driver that runs DHCP servers and VLANs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, fail

from fabric.errors import InvalidValue, Unsupported
from fabric.network.interface import INetworkDriver, NetworkOrder

Manager = Callable[[INetworkDriver, NetworkOrder], Deferred[None]]
"""Has the driver make what a network needs on this host; may be repeated."""


def flat(driver: INetworkDriver, network: NetworkOrder) -> Deferred[None]:
    """A bridge, and nothing else."""
    return driver.express(network)


def later(driver: INetworkDriver, network: NetworkOrder) -> Deferred[None]:
    """A manager that has a name, but is not made yet."""
    return fail(Unsupported(what=f"network manager {network.manager}"))


MANAGERS: Mapping[str, Manager] = {"flat": flat, "flatdhcp": later, "vlan": later}
"""Every manager that a network may name."""


def express(driver: INetworkDriver, network: NetworkOrder) -> Deferred[None]:
    """
    Have a network on this host, as its manager makes it.

    @return: fires when it is there; L{Unsupported}, or L{InvalidValue} for a
        manager that nobody knows.
    """
    manager = MANAGERS.get(network.manager)
    if manager is None:
        why = f"not one of {', '.join(sorted(MANAGERS))}"
        return fail(InvalidValue(name="manager", value=network.manager, why=why))
    return manager(driver, network)
