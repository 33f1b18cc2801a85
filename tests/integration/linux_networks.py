"""
Networks, guests and hosts that tests of the real network use.
"""

from __future__ import annotations

import json
from functools import partial

import attrs
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from fabric.network.interface import GroupOrder, INetworkDriver, NetworkOrder, Plug, RuleOrder
from fabric.testing.guests import NetnsGuest
from fabric.testing.linux import LinuxHost

FLAT = NetworkOrder("net-0000000000000000a", "10.1.0.0/24", "10.1.0.1", "flat", "br-flat")
DHCP = NetworkOrder("net-0000000000000000b", "10.0.0.0/24", "10.0.0.1", "flatdhcp", "br100", cidr_v6="fd00:10::/64")
OPEN = GroupOrder(
    "sg-0000000000000000a",
    1,
    tuple(RuleOrder(egress, "-1", -1, -1, peer) for egress in (False, True) for peer in ("0.0.0.0/0", "::/0")),
)
"""A group that lets everything pass."""


def mac(number):
    """A guest's MAC."""
    return f"02:16:3e:00:00:{number:02x}"


def dhcp_plug(number, address=0, network=DHCP):
    """The port of a guest whose address ends in its number."""
    address = network.gateway.rpartition(".")[0] + f".{address or number}"
    hostname = "ip-" + address.replace(".", "-")
    return Plug(f"i-{number:017x}", network.id, mac(number), address, hostname, (OPEN.id,))


@implementer(INetworkDriver)
class Managed:
    """
    A driver whose networks are all of one manager, for the contract, whose
    networks are flat.
    """

    def __init__(self, driver, manager):
        self._driver = driver
        self._manager = manager

    def __getattr__(self, name):
        return getattr(self._driver, name)

    def express(self, network):
        """As asked, but for the manager."""
        vlan = 100 + int(network.id[-1]) if self._manager == "vlan" else None
        return self._driver.express(attrs.evolve(network, manager=self._manager, vlan=vlan))

    def networks(self):
        """As they were asked for."""

        def asked(networks):
            return [attrs.evolve(each, manager="flat", vlan=None) for each in networks]

        return self._driver.networks().addCallback(asked)


class LinuxHostCase(TestCase):
    """
    @ivar host: a host in a namespace.
    @ivar driver: its driver, started.
    """

    timeout = 300
    uplinks = None

    @inlineCallbacks
    def setUp(self):
        """Have a host."""
        self.host = LinuxHost(reactor, self.mktemp())
        self.addCleanup(deferToThread, self.host.remove)
        yield deferToThread(self.host.make)
        yield self.begin()

    @inlineCallbacks
    def begin(self, uplinks=None, **options):
        """Start a driver: the first, or one after another."""
        self.driver = self.host.driver(uplinks or self.uplinks, **options)
        yield self.driver.start()
        self.addCleanup(self.driver.stop)

    @inlineCallbacks
    def plugged(self, *numbers, network=DHCP):
        """Guests that are plugged, and connected."""
        yield self.driver.express(network)
        yield self.driver.apply_groups([OPEN])
        yield self.driver.plug([dhcp_plug(number, network=network) for number in numbers])
        guests = []
        for number in numbers:
            guests.append((yield self.guest(number, network.bridge)))
        return guests

    def guest(self, number, bridge=DHCP.bridge, host=None):
        """A guest on a bridge, plugged by the driver or not."""
        host = host or self.host

        def make():
            guest = NetnsGuest(host.namespaces, host.name, f"g{number}", mac(number))
            guest.plug(bridge)
            return guest

        return deferToThread(make)

    def later(self, call, *arguments, **keywords):
        """Do something that blocks."""
        return deferToThread(partial(call, *arguments, **keywords))

    def links(self):
        """Each link's name and alias.  Blocks."""
        found = json.loads(self.host.run("ip", "-j", "link", "show"))
        return {link["ifname"]: link.get("ifalias", "") for link in found}
