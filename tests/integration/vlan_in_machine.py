"""
Tests of VLANs, for a kernel that has them; C{test_network_vlan} runs them in a machine.
"""

from __future__ import annotations

import json
import socket
import time

import attrs
from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.errors import DriverFailure
from fabric.network.interface import NetworkOrder
from fabric.network.linux.plan import Uplinks
from fabric.testing.linux import LinuxHost
from fabric.testing.namespaces import Namespaces
from fabric.testing.network import NetworkDriverContract
from tests.integration.linux_networks import OPEN, LinuxHostCase, Managed, dhcp_plug

VLAN = NetworkOrder("net-0000000000000000d", "10.0.0.0/24", "10.0.0.1", "vlan", "br100", 100)
OTHER = NetworkOrder("net-0000000000000000e", "10.0.1.0/24", "10.0.1.1", "vlan", "br101", 101)
TRUNK = Uplinks(vlan_interface="eth1")
ETH_P_ALL = 3
PATIENCE = 600
"""Seconds for one test: the machine is slow."""


class VlanContract(NetworkDriverContract, TestCase):
    """
    The driver passes the contract with VLANs, on a host with a trunk.
    """

    timeout = PATIENCE

    def make_driver(self):
        """One over this test's namespace and directory."""
        return Managed(self.host.driver(TRUNK), "vlan")

    @inlineCallbacks
    def setUp(self):
        """Have a host."""
        self.host = LinuxHost(reactor, self.mktemp())
        self.addCleanup(deferToThread, self.host.remove)
        yield deferToThread(self.host.make)
        yield deferToThread(self.host.run, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "wire")
        yield super().setUp()


class TrunkTests(LinuxHostCase):
    """
    What becomes of a host's trunk.
    """

    timeout = PATIENCE
    uplinks = TRUNK

    @inlineCallbacks
    def setUp(self):
        """Have a host with an interface for VLANs."""
        self.host = LinuxHost(reactor, self.mktemp())
        self.addCleanup(deferToThread, self.host.remove)
        yield deferToThread(self.host.make)
        yield self.later(self.host.run, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "wire")
        yield self.begin()

    @inlineCallbacks
    def test_made(self):
        """A network gets a VLAN of the trunk, in a bridge of its own; all of it goes with the network."""
        before = yield self.later(self.host.state)
        for _ in range(2):
            yield self.driver.express(VLAN)
        found = json.loads((yield self.later(self.host.run, "ip", "-d", "-j", "link", "show", "vlan100")))
        self.assertEqual((found[0]["linkinfo"]["info_data"]["id"], found[0]["link"]), (100, "eth1"))
        self.assertEqual((found[0]["master"], found[0]["ifalias"]), ("br100", f"fabric:{VLAN.id}"))
        yield self.driver.stop()
        yield self.begin()
        yield self.driver.express(attrs.evolve(VLAN, vlan=102))
        links = yield self.later(self.links)
        self.assertEqual({"vlan100", "vlan102"} & set(links), {"vlan102"})
        yield self.driver.retire(VLAN.id)
        after = yield self.later(self.host.state)
        self.assertEqual({**after, "links": None}, {**before, "links": None})
        self.assertEqual(set((yield self.later(self.links))), {"lo", "eth1", "wire"})

    @inlineCallbacks
    def test_foreign_vlan(self):
        """A VLAN of somebody else's is refused in words, and stays."""
        made = "ip link add link eth1 name vlan100 type vlan id 99"
        yield self.later(self.host.run, "sh", "-ec", made)
        error = yield self.assertFailure(self.driver.express(VLAN), DriverFailure)
        self.assertIn("vlan100", error.what)
        self.assertIn("vlan100", (yield self.later(self.links)))

    @inlineCallbacks
    def test_no_trunk(self):
        """A trunk that is not there is said so."""
        yield self.later(self.host.run, "ip", "link", "delete", "eth1")
        error = yield self.assertFailure(self.driver.express(VLAN), DriverFailure)
        self.assertIn("eth1", error.what)


class TwoHostsTests(LinuxHostCase):
    """
    Two projects on two hosts with a trunk between them.
    """

    timeout = PATIENCE

    @inlineCallbacks
    def setUp(self):
        """Have a guest of one project on each host, and one of the other on the first."""
        self.namespaces = Namespaces()
        self.hosts = [LinuxHost(reactor, self.mktemp(), self.namespaces, name) for name in ("one", "two")]
        self.addCleanup(deferToThread, self.remove)
        yield deferToThread(self.wire)
        self.drivers = [host.driver(TRUNK) for host in self.hosts]
        for driver in self.drivers:
            yield driver.start()
            self.addCleanup(driver.stop)
            yield driver.apply_groups([OPEN])
        for driver, number, network in zip(
            (*self.drivers, self.drivers[1]), (2, 3, 4), (VLAN, VLAN, OTHER), strict=True
        ):
            yield driver.express(network)
            yield driver.plug([dhcp_plug(number, network=network)])
        one, two = self.hosts
        self.guests = []
        for number, host, bridge in ((2, one, "br100"), (3, two, "br100"), (4, two, "br101")):
            self.guests.append((yield self.guest(number, bridge, host)))

    def wire(self):
        """Make the hosts, and the trunk.  Blocks."""
        for host in self.hosts:
            host.make()
        self.namespaces.cable("one", "eth1", "two", "eth1")

    def remove(self):
        """Remove both.  Blocks."""
        for host in self.hosts:
            host.end()
        self.namespaces.remove()

    @inlineCallbacks
    def test_apart(self):
        """Guests of a project reach one another over the trunk, tagged; those of another are not reached."""
        leases = yield gatherResults([self.later(guest.leases, 30) for guest in self.guests])
        self.assertEqual([lease["ip"] for lease in leases], ["10.0.0.2", "10.0.0.3", "10.0.1.4"])
        listening = self.namespaces.open_socket("one", socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.addCleanup(listening.close)
        listening.bind(("vlan100", ETH_P_ALL))
        listening.settimeout(5.0)
        one, two, other = self.guests
        self.assertTrue((yield self.later(self.reached, one, "10.0.0.3")))
        self.assertTrue((yield self.later(listening.recv, 2000)))
        self.assertFalse((yield self.later(other.pings, "10.0.0.3")))
        self.assertFalse((yield self.later(two.pings, "10.0.1.4")))

    def reached(self, guest, address):
        """Whether it is, in the end.  Blocks."""
        ends = time.monotonic() + 60.0
        while not guest.pings(address):
            if time.monotonic() > ends:
                return False
        return True
