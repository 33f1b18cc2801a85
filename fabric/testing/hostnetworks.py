"""
Host networks of any size, for tests and measurements.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from fabric.network.interface import Floating, GroupOrder, NetworkOrder, Plug, RuleOrder
from fabric.network.linux.host import HostNetwork

NETWORK = NetworkOrder("net-1", "10.0.0.0/16", "10.0.0.1", "flatdhcp", "br100")
GROUPS = 20
RULES = (
    RuleOrder(True, "-1", -1, -1, "0.0.0.0/0"),
    RuleOrder(True, "-1", -1, -1, "::/0"),
    RuleOrder(False, "tcp", 22, 22, "0.0.0.0/0"),
    RuleOrder(False, "tcp", 8000, 8999, "192.0.2.0/24"),
    RuleOrder(False, "icmp", 8, -1, "0.0.0.0/0"),
)


def crowd(instances: int) -> HostNetwork:
    """
    @return: a host with so many instances on one network, each in one of
        L{GROUPS} groups and in one that all are in, whose members reach each
        other; each with a floating address.
    """
    host = HostNetwork({NETWORK.id: NETWORK}, groups={group.id: group for group in _groups()})
    return joined(host, range(instances))


def joined(host: HostNetwork, numbers: Iterable[int]) -> HostNetwork:
    """
    @return: a host with these instances as well.
    """
    ports = {port.mac: port for port in map(_port, numbers)}
    floating = {f"203.0.{port.address.split('.', 2)[2]}": port for port in ports.values()}
    led = {
        public: Floating(public, port.address, port.instance, NETWORK.id, port.mac) for public, port in floating.items()
    }
    members: dict[str, tuple[str, ...]] = {}
    for port in ports.values():
        for group in port.groups:
            members[group] = (*members.get(group, ()), port.address)
    groups = {
        id: attrs.evolve(host.groups[id], addresses=host.groups[id].addresses + addresses)
        for id, addresses in members.items()
    }
    return HostNetwork(host.networks, host.ports | ports, host.groups | groups, host.floating | led)


def _port(number: int) -> Plug:
    high, low = divmod(number + 2, 256)
    mac = f"02:16:3e:00:{high:02x}:{low:02x}"
    return Plug(f"i-{number:08x}", NETWORK.id, mac, f"10.0.{high}.{low}", "", (f"sg-{number % GROUPS:08x}", "sg-all"))


def _groups() -> list[GroupOrder]:
    together = RuleOrder(False, "-1", -1, -1, "", "sg-all")
    return [*(GroupOrder(f"sg-{n:08x}", 1, RULES, 1) for n in range(GROUPS)), GroupOrder("sg-all", 1, (together,), 1)]
