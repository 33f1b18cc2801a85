"""
Tests for what L{fabric.network.linux} derives: links, DHCP and changes, as values.
"""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import DriverFailure, InvalidValue, NotFound
from fabric.network.interface import NetworkOrder
from fabric.network.linux import changes
from fabric.network.linux.dhcp import hosts_text, known, names_text, server
from fabric.network.linux.host import HostNetwork
from fabric.network.linux.plan import Uplinks, bridge, gateway_mac, vxlan_number
from fabric.network.linux.statefile import StateFile
from fabric.testing.network import NETWORK, OTHER, PEERS, WEB, floating, plug

DHCP = attrs.evolve(NETWORK, manager="flatdhcp", cidr_v6="fd00:1::/64", dns=("192.0.2.53",))
VLAN = attrs.evolve(OTHER, manager="vlan", vlan=100)
VXLAN = Uplinks(vxlan=True, vxlan_local="192.0.2.1", vxlan_peers=("192.0.2.2",))


class PlanTests(SynchronousTestCase):
    """
    From orders to bridges.
    """

    def test_uplinks(self):
        """What joins a bridge to other hosts follows from manager and settings."""
        wired = Uplinks(flat_interface="eth1", vlan_interface="eth2")
        for order, uplinks, kind, name, parent in (
            (NETWORK, wired, "interface", "eth1", ""),
            (DHCP, wired, "interface", "eth1", ""),
            (VLAN, wired, "vlan", "vlan100", "eth2"),
            (VLAN, VXLAN, "vxlan", "vx100", ""),
            (DHCP, VXLAN, "vxlan", f"vx{vxlan_number(DHCP)}", ""),
        ):
            found = bridge(order, uplinks).uplink
            self.assertEqual((found.kind, found.name, found.parent), (kind, name, parent))
        for order in (NETWORK, DHCP, VLAN):
            self.assertIsNone(bridge(order, Uplinks()).uplink)

    def test_addresses(self):
        """The host has the gateway's addresses where it is the gateway."""
        self.assertEqual(bridge(NETWORK, Uplinks()).addresses, ())
        self.assertEqual(bridge(VLAN, Uplinks()).addresses, ("10.0.1.1/24",))
        self.assertEqual(bridge(DHCP, Uplinks()).addresses, ("10.0.0.1/24", "fd00:1::1/64"))

    def test_mtu(self):
        """Tunnels take their part of a packet, unless operators say what there is."""
        self.assertEqual(bridge(DHCP, Uplinks()).mtu, 1500)
        self.assertEqual(bridge(DHCP, VXLAN).mtu, 1450)
        self.assertEqual(bridge(DHCP, attrs.evolve(VXLAN, mtu=8950)).mtu, 8950)

    @given(st.text(st.sampled_from("0123456789abcdef"), min_size=17, max_size=17))
    def test_numbers(self, digits):
        """A network's MAC is nobody's, and the number of its tunnel lawful and no VLAN's."""
        order = attrs.evolve(DHCP, id="net-" + digits)
        first = int(gateway_mac(order.id)[:2], 16)
        self.assertEqual(first & 3, 2)
        self.assertTrue(4096 <= vxlan_number(order) < 2**24)
        self.assertLessEqual(len(bridge(order, VXLAN).uplink.name), 15)

    def test_senseless(self):
        """What no host can have is refused with the name of what is wrong."""
        for name, order in (
            ("bridge", attrs.evolve(NETWORK, bridge="a-name-that-is-too-long")),
            ("bridge", attrs.evolve(NETWORK, bridge="../br")),
            ("bridge", attrs.evolve(NETWORK, bridge="")),
            ("vlan", attrs.evolve(VLAN, vlan=0)),
            ("gateway", attrs.evolve(DHCP, gateway="192.0.2.1")),
            ("cidr_v6", attrs.evolve(DHCP, cidr_v6="fd00::/48")),
            ("network", attrs.evolve(DHCP, cidr="nonsense")),
        ):
            with self.assertRaises(InvalidValue) as caught:
                bridge(order, Uplinks())
            self.assertEqual(caught.exception.name, name)


class DhcpTests(SynchronousTestCase):
    """
    From networks and ports to what dnsmasq reads.
    """

    def test_arguments(self):
        """A server knows its network, speaks to those it knows only, and keeps no leases."""
        arguments = server(DHCP, "/there", 1450, "root").arguments
        for wanted in (
            "--interface=br-test1",
            "--dhcp-range=10.0.0.0,static,255.255.255.0,600s",
            "--dhcp-lease-max=256",
            "--dhcp-ignore=tag:!known",
            "--leasefile-ro",
            "--dhcp-option=option:router,10.0.0.1",
            "--dhcp-option=option:mtu,1450",
            "--server=192.0.2.53",
            "--domain=novalocal",
            "--enable-ra",
            "--user=root",
            "--pid-file=/there/net-00000000000000001.pid",
        ):
            self.assertIn(wanted, arguments)
        plain = server(VLAN, "/there", 1500).arguments
        self.assertEqual([each for each in plain if each.startswith(("--server", "--no-resolv", "--enable-ra"))], [])

    def test_files(self):
        """Each port has its address by its MAC, and its names."""
        ports = [plug(2), attrs.evolve(plug(1), hostname="ip-10-0-0-2.novalocal")]
        text = hosts_text(ports)
        wanted = "02:00:00:00:00:01,ip-10-0-0-2,10.0.0.2\n02:00:00:00:00:02,host-2,10.0.0.3\n"
        self.assertEqual(text, wanted)
        self.assertEqual(known(text), {("10.0.0.2", "02:00:00:00:00:01"), ("10.0.0.3", "02:00:00:00:00:02")})
        names = names_text(attrs.evolve(DHCP, cidr_v6=""), ports)
        self.assertIn("10.0.0.2 ip-10-0-0-2.novalocal ip-10-0-0-2\n", names)
        self.assertIn("10.0.0.3 ip-10-0-0-3.novalocal ip-10-0-0-3 host-2.novalocal host-2\n", names)
        self.assertIn("fd00:1::ff:fe00:2 ip-10-0-0-3.novalocal", names_text(DHCP, ports))


class ChangeTests(SynchronousTestCase):
    """
    From one state of a host to the next.
    """

    def setUp(self):
        """A host with two networks."""
        self.host = HostNetwork()
        for change in (changes.expressed(NETWORK), changes.expressed(OTHER), changes.plugged([plug(1), plug(2)])):
            self.host = change(self.host)

    def test_nothing(self):
        """What changes nothing gives the very same."""
        for change in (
            changes.expressed(NETWORK),
            changes.retired("net-99"),
            changes.plugged([plug(1)]),
            changes.unplugged(["i-99"]),
            changes.associated([]),
            changes.disassociated(["203.0.113.9"]),
            changes.regrouped([]),
        ):
            self.assertIs(change(self.host), self.host)

    def test_unknown_network(self):
        """No port of an order is plugged when one can't be."""
        with self.assertRaises(NotFound):
            changes.plugged([plug(3), attrs.evolve(plug(4), network="net-99")])(self.host)

    def test_address_of_another(self):
        """
        An address is the port's that was plugged last: one whose detaching was overtaken by an old order to attach it
        is no more when whose the address is now is told again.
        """
        late = attrs.evolve(plug(3), address=plug(1).address)
        host = changes.plugged([late])(self.host)
        self.assertEqual(list(host.ports), [plug(2).mac, late.mac])
        self.assertEqual(list(changes.plugged([plug(1)])(host).ports), [plug(2).mac, plug(1).mac])
        elsewhere = attrs.evolve(plug(1, OTHER), address=plug(1).address)
        self.assertEqual(len(changes.plugged([elsewhere])(self.host).ports), 3)

    def test_displaced(self):
        """A network without ports gives way to one that has its bridge or VLAN; one with ports does not."""
        new = NetworkOrder("net-new", "10.2.0.0/24", "10.2.0.1", "vlan", OTHER.bridge, 7)
        self.assertEqual(set(changes.expressed(new)(self.host).networks), {NETWORK.id, new.id})
        newer = attrs.evolve(new, id="net-newer", bridge="br7")
        self.assertEqual(
            set(changes.expressed(newer)(changes.expressed(new)(self.host)).networks), {NETWORK.id, newer.id}
        )
        clash = attrs.evolve(new, bridge=NETWORK.bridge)
        self.assertIn(NETWORK.id, changes.expressed(clash)(self.host).networks)

    def test_remembered(self):
        """What was saved is what is loaded, also by the next process; nothing saved is nothing."""
        host = changes.associated([floating(1)])(changes.regrouped([WEB, PEERS])(self.host))
        directory = self.mktemp()
        self.assertEqual(StateFile(directory).load(), HostNetwork())
        StateFile(directory).save(host)
        self.assertEqual(StateFile(directory).load(), host)

    def test_emptied(self):
        """What a power cut left of it, nothing or nothing but zeros, is none: what it was about is gone with it."""
        for rest in (b"", b"\0" * 512):
            state = StateFile(self.mktemp())
            state.load()
            with open(state.path, "wb") as file:
                file.write(rest)
            self.assertEqual(state.load(), HostNetwork())

    def test_damaged(self):
        """A file that is not what was saved is told, not taken for an empty host."""
        state = StateFile(self.mktemp())
        state.load()
        for text in (b"{", b'{"networks": 3}', b'{"ports": {"m": {}}}'):
            with open(state.path, "wb") as file:
                file.write(text)
            self.assertRaises(DriverFailure, state.load)
