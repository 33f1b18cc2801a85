"""
A host in a network namespace, with bridges made by hand and packet filters
made by what is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.network.interface import Floating, GroupOrder, NetworkOrder, Plug, RuleOrder
from fabric.network.linux.conntrack import Conntrack, parted
from fabric.network.linux.host import HostNetwork
from fabric.network.linux.nft import Nft
from fabric.network.linux.packetfilter import PacketFilter
from fabric.network.linux.plan import gateway_mac
from fabric.network.linux.ruleset import Outside
from fabric.testing.guests import NetnsGuest, Party
from fabric.testing.namespaces import Namespaces

FIRST = NetworkOrder("net-1", "10.0.0.0/24", "10.0.0.1", "flatdhcp", "br100", cidr_v6="fd00:1::/64")
SECOND = NetworkOrder("net-2", "10.0.1.0/24", "10.0.1.1", "vlan", "br200", vlan=200)
PUBLIC = "198.51.100.1"
"""The host's own address outside."""
STRANGER = "198.51.100.200"
"""Who is out there; reaches all of 203.0.113.0/24 by the host."""

SEND = RuleOrder(True, "-1", -1, -1, "0.0.0.0/0")
SEND6 = RuleOrder(True, "-1", -1, -1, "::/0")


def opens(protocol: str, first: int = -1, last: int = -1, peer: str = "0.0.0.0/0", group: str = "") -> RuleOrder:
    """A rule about what members get."""
    return RuleOrder(False, protocol, first, last, "" if group else peer, group)


class FilteredHost(TestCase):
    """
    @ivar order: what the host's network is to be; L{applied} makes it so.
    @ivar outside: somebody beyond the host's public interface.
    """

    timeout = 300

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        """Make host, bridges and stranger; everything is torn down also after a failure."""
        self.before = self.order = HostNetwork({each.id: each for each in (FIRST, SECOND)})
        self.namespaces = Namespaces()
        self.addCleanup(deferToThread, self.namespaces.remove)
        return deferToThread(self._make)

    def filter_with(self, outside: Outside) -> PacketFilter:
        """A new process's packet filters of the host."""
        nft, conntrack = (self.namespaces.command("host", [tool]) for tool in ("nft", "conntrack"))
        return PacketFilter(Nft(reactor, nft), outside, Conntrack(reactor, conntrack))

    def group(self, id: str, *rules: RuleOrder, members: tuple[str, ...] | None = None) -> None:
        """Have a group with these rules; its members are those plugged here, if not given."""
        here = tuple(port.address for port in self.order.ports.values() if id in port.groups)
        group = GroupOrder(id, 1, rules, 1, here if members is None else members)
        self.order = attrs.evolve(self.order, groups=self.order.groups | {id: group})

    def port(self, guest: NetnsGuest, address: str, *groups: str, network: NetworkOrder = FIRST) -> None:
        """Have a port for a guest."""
        port = Plug("i-" + guest.name, network.id, guest.mac, address, groups=groups)
        self.order = attrs.evolve(self.order, ports=self.order.ports | {guest.mac: port})

    def leads(self, public: str, private: str) -> None:
        """Have a floating address."""
        floating = Floating(public, private, "", "", "")
        self.order = attrs.evolve(self.order, floating=self.order.floating | {public: floating})

    def applied(self) -> Deferred[None]:
        """Make it so."""
        before, self.before = self.before, self.order
        return self.filter.apply(parted(before, self.order))

    @inlineCallbacks
    def guest(
        self, number: int, *groups: str, network: NetworkOrder = FIRST
    ) -> Generator[Deferred[Any], Any, NetnsGuest]:
        """A guest that is plugged, with the address that ends in its number; apply it then."""
        guest: NetnsGuest = yield self.later(self._guest, number, network)
        self.port(guest, _address(network, number), *groups, network=network)
        return guest

    def later(self, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Deferred[Any]:
        """Do something that blocks."""
        return deferToThread(partial(call, *arguments, **keywords))

    def each(self, call: Callable[..., Any], *arguments: tuple[Any, ...]) -> Deferred[list[Any]]:
        """
        Do something that blocks with each of these arguments, all at once.

        @return: what each gave.
        """
        return gatherResults([self.later(call, *each) for each in arguments], consumeErrors=True)

    def _guest(self, number: int, network: NetworkOrder) -> NetnsGuest:
        guest = NetnsGuest(self.namespaces, "host", f"g{number}{network.bridge}", f"02:16:3e:00:00:{number:02x}")
        guest.plug(network.bridge)
        guest.has_address(_address(network, number) + "/24", network.gateway)
        return guest

    def _make(self) -> None:
        self.namespaces.make("host", forwards=True)
        self.namespaces.make("outside")
        self.namespaces.cable("outside", "eth0", "host", "pub0")
        script = [
            *_bridge(FIRST),
            *_bridge(SECOND),
            f"ip address add {PUBLIC}/24 dev pub0",
            "ip link set pub0 up",
            f"ip route add default via {STRANGER}",
            "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables",
            "echo 1 > /proc/sys/net/bridge/bridge-nf-call-ip6tables",
            "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
        ]
        self.namespaces.run("host", ["sh", "-ec", "\n".join(script)])
        self.outside = Party(self.namespaces, "outside")
        self.host = Party(self.namespaces, "host")
        self.outside.run("ip", "address", "add", STRANGER + "/24", "dev", "eth0")
        self.outside.run("ip", "link", "set", "eth0", "up")
        self.outside.run("ip", "route", "add", "203.0.113.0/24", "via", PUBLIC)
        self.outside.run("ip", "route", "add", "10.0.0.0/16", "via", PUBLIC)
        self.filter = self.filter_with(Outside("pub0", PUBLIC))


def _bridge(network: NetworkOrder) -> list[str]:
    name = network.bridge
    return [
        f"ip link add {name} address {gateway_mac(network.id)} type bridge forward_delay 0 stp_state 0",
        f"ip address add {network.gateway}/24 dev {name}",
        *([f"ip -6 address add {network.cidr_v6.replace('::', '::1')} dev {name} nodad"] if network.cidr_v6 else []),
        f"ip link set {name} up",
    ]


def _address(network: NetworkOrder, number: int) -> str:
    return network.gateway.rpartition(".")[0] + f".{number}"
