"""
Tests for hosts that are joined by vxlan: two of them, each with a driver of its own.
"""

from __future__ import annotations

import socket
import time

from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.threads import deferToThread

from fabric.network.linux.plan import Uplinks, vxlan_number
from fabric.testing.linux import LinuxHost
from fabric.testing.namespaces import Namespaces
from tests.integration.linux_networks import DHCP, OPEN, LinuxHostCase, dhcp_plug

ETH_P_ALL = 3
ARP = b"\x08\x06"


class TwoHostsCase(LinuxHostCase):
    """
    @ivar hosts: two, with a cable between them.
    @ivar drivers: one of each.
    @ivar guests: one on each, connected.
    """

    def uplinks_of(self, number):
        """How host 1 or 2 is joined to the other."""
        return Uplinks(vxlan=True, vxlan_local=f"192.0.2.{number}", vxlan_peers=("192.0.2.1", "192.0.2.2"))

    @inlineCallbacks
    def setUp(self):
        """Have two hosts, and a guest on each."""
        self.namespaces = Namespaces()
        self.hosts = [LinuxHost(reactor, self.mktemp(), self.namespaces, name) for name in ("one", "two")]
        self.addCleanup(deferToThread, self.remove)
        yield deferToThread(self.wire)
        self.drivers = [host.driver(self.uplinks_of(n)) for n, host in enumerate(self.hosts, 1)]
        for driver in self.drivers:
            yield driver.start()
            self.addCleanup(driver.stop)
        yield gatherResults([self.launch(driver, n) for n, driver in enumerate(self.drivers, 1)])
        self.guests = []
        for number, host in enumerate(self.hosts, 1):
            self.guests.append((yield self.guest(number + 1, host=host)))

    @inlineCallbacks
    def launch(self, driver, number):
        """What a host is told of its guest."""
        yield driver.express(DHCP)
        yield driver.apply_groups([OPEN])
        yield driver.plug([dhcp_plug(number + 1)])

    def wire(self):
        """Make the hosts, and the cable.  Blocks."""
        for host in self.hosts:
            host.make()
        self.namespaces.cable("one", "up0", "two", "up0")
        for number, host in enumerate(self.hosts, 1):
            host.run("ip", "address", "add", f"192.0.2.{number}/24", "dev", "up0")
            host.run("ip", "link", "set", "up0", "up")

    def remove(self):
        """Remove both.  Blocks."""
        for host in self.hosts:
            host.end()
        self.namespaces.remove()

    def leased(self):
        """Both guests ask for their addresses."""
        return gatherResults([self.later(guest.leases) for guest in self.guests])


class VxlanTests(TwoHostsCase):
    """
    One network on two hosts.
    """

    @inlineCallbacks
    def test_joined(self):
        """Each guest gets its address from its own host, and they reach one another and each its gateway."""
        leases = yield self.leased()
        self.assertEqual([lease["ip"] for lease in leases], ["10.0.0.2", "10.0.0.3"])
        self.assertEqual({lease["mtu"] for lease in leases}, {"1450"})
        one, two = self.guests
        for guest, address in ((one, "10.0.0.3"), (two, "10.0.0.2"), (one, "10.0.0.1"), (two, "10.0.0.1")):
            self.assertTrue((yield self.later(guest.pings, address)), (guest.name, address))
        large = yield self.later(one.pings, "10.0.0.3", "-s", "1400")
        self.assertTrue(large)

    @inlineCallbacks
    def test_local_matters(self):
        """Nothing about the gateway, and nothing of DHCP, is seen on the other host."""
        yield self.leased()
        one, two = self.guests
        listening = two.open_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.addCleanup(listening.close)
        yield self.later(one.run, "ip", "neighbour", "flush", "dev", "eth0")
        yield self.later(one.pings, "10.0.0.1")
        yield self.later(one.leases)
        yield self.later(one.pings, "10.0.0.77")  # nobody's: asked for everywhere
        frames = yield self.later(self.frames, listening, 1.0)
        asked = {frame[38:42] for frame in frames if frame[12:14] == ARP}
        self.assertIn(socket.inet_aton("10.0.0.77"), asked)
        self.assertNotIn(socket.inet_aton("10.0.0.1"), asked)
        self.assertEqual([frame for frame in frames if frame[23:24] == b"\x11" and frame[36:38] == b"\0\x43"], [])

    @inlineCallbacks
    def test_retired(self):
        """A tunnel goes with its network."""
        yield self.drivers[0].retire(DHCP.id)
        links = yield self.later(self.hosts[0].run, "ip", "-o", "link", "show")
        self.assertNotIn(f"vx{vxlan_number(DHCP)}", links)

    def frames(self, listening, seconds):
        """What was heard until nothing more was.  Blocks."""
        found = []
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            try:
                found.append(listening.recv(2000))
            except (TimeoutError, BlockingIOError):
                return found
        return found


class PeersTests(TwoHostsCase):
    """
    Who the other hosts are.
    """

    @inlineCallbacks
    def test_other_peers(self):
        """A service that is told of other hosts sends to those and no others."""
        yield self.drivers[0].stop()
        driver = self.hosts[0].driver(Uplinks(vxlan=True, vxlan_local="192.0.2.1", vxlan_peers=("192.0.2.9",)))
        yield driver.start()
        self.addCleanup(driver.stop)
        table = yield self.later(self.hosts[0].run, "bridge", "fdb", "show", "dev", f"vx{vxlan_number(DHCP)}")
        self.assertIn("192.0.2.9", table)
        flooded = [line for line in table.splitlines() if line.startswith("00:00:00:00:00:00")]
        self.assertEqual([line.split()[2] for line in flooded], ["192.0.2.9"])


class GroupTests(TwoHostsCase):
    """
    Hosts that find one another by multicast.
    """

    def uplinks_of(self, number):
        """How host 1 or 2 is joined to the other."""
        local = f"192.0.2.{number}"
        return Uplinks(vxlan=True, vxlan_local=local, vxlan_interface="up0", vxlan_group="239.1.1.1", mtu=1500)

    def wire(self):
        """With a cable that takes whole packets and what the tunnel adds.  Blocks."""
        super().wire()
        for host in self.hosts:
            host.run("ip", "link", "set", "up0", "mtu", "1550")

    @inlineCallbacks
    def test_joined(self):
        """Guests reach one another without their hosts being told of the other, by packets of the usual size."""
        leases = yield self.leased()
        self.assertEqual({lease["mtu"] for lease in leases}, {"1500"})
        self.assertTrue((yield self.later(self.guests[0].pings, "10.0.0.3", "-s", "1472")))
        before = yield self.later(self.hosts[0].state)
        yield self.drivers[0].stop()
        driver = self.hosts[0].driver(self.uplinks_of(1))
        yield driver.start()
        self.addCleanup(driver.stop)
        self.assertEqual((yield self.later(self.hosts[0].state)), before)
