"""
Orders as the compute worker handles them: short ones, and what they ask of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from fabric.compute.interface import DiskOrder, MachineOrder, PortOrder
from fabric.errors import DriverFailure, FabricError
from fabric.model.codec import encode
from fabric.network.interface import NetworkOrder, Plug


@attrs.frozen
class Brief:
    """
    An order without the machine's description.

    @ivar disks: the volumes that it has, for one that is to be removed.
    """

    id: str
    order: int
    disks: tuple[DiskOrder, ...] = ()


def network_orders(orders: Sequence[MachineOrder]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """
    @return: what the network worker is asked for: each network once, and
        every port.
    """
    networks: dict[str, dict[str, Any]] = {}
    plugs = []
    for order in orders:
        for port in order.ports:
            if port.network not in networks:
                networks[port.network] = encode(_network(port))
            plugs.append(encode(_plug(order.id, port)))
    return list(networks.values()), plugs


def _network(port: PortOrder) -> NetworkOrder:
    return NetworkOrder(
        id=port.network,
        cidr=port.cidr,
        gateway=port.gateway,
        manager=port.manager,
        bridge=port.bridge,
        vlan=port.vlan,
        dns=port.dns,
        domain=port.domain,
        cidr_v6=port.cidr_v6,
    )


def addresses_of(order: MachineOrder) -> tuple[str, ...]:
    """The fixed addresses that a machine is to have."""
    return tuple([port.address for port in order.ports])


def sentence(error: BaseException | None) -> str:
    """What went wrong, for the user's StateReason."""
    if isinstance(error, DriverFailure):
        return error.what
    return str(error) if isinstance(error, FabricError) else "the compute host failed unexpectedly"


def _plug(instance: str, port: PortOrder) -> Plug:
    groups = tuple(port.groups)
    return Plug(instance, port.network, port.mac, port.address, port.hostname, groups, port.groups_order, port.public)
