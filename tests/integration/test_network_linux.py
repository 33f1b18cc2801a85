"""
Tests for L{fabric.network.linux}: real bridges, DHCP servers and packet filters.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import attrs
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.errors import DriverFailure
from fabric.network.linux.dhcp import guest_v6
from fabric.network.linux.plan import Uplinks, gateway_mac
from fabric.testing.linux import LinuxHost
from fabric.testing.network import NETWORK, NetworkDriverContract, floating, plug
from fabric.testing.processes import SOURCES, await_true
from tests.integration.linux_networks import DHCP, FLAT, LinuxHostCase, Managed, dhcp_plug


class LinuxNetworkContract(NetworkDriverContract, TestCase):
    """
    The driver passes the contract, in a namespace of its own.
    """

    timeout = 300

    def make_driver(self):
        """One over this test's namespace and directory."""
        return self.host.driver()

    @inlineCallbacks
    def setUp(self):
        """Have a host."""
        self.host = LinuxHost(reactor, self.mktemp())
        self.addCleanup(deferToThread, self.host.remove)
        yield deferToThread(self.host.make)
        yield super().setUp()


class DhcpContract(LinuxNetworkContract):
    """
    And with gateways and DHCP.
    """

    def make_driver(self):
        """One that is told flatdhcp."""
        return Managed(self.host.driver(), "flatdhcp")


class VxlanContract(LinuxNetworkContract):
    """
    And as well where hosts are joined by tunnels.
    """

    def make_driver(self):
        """One with a peer that is not there."""
        return self.host.driver(Uplinks(vxlan=True, vxlan_peers=("192.0.2.2",)))


class DhcpTests(LinuxHostCase):
    """
    What guests are given.
    """

    @inlineCallbacks
    def test_lease(self):
        """A guest gets its address, its router, the network's MTU and its name, and may use them."""
        [guest, _] = yield self.plugged(2, 3)
        lease = yield self.later(guest.leases)
        wanted = {"ip": "10.0.0.2", "mask": "24", "router": "10.0.0.1", "dns": "10.0.0.1", "mtu": "1500"}
        wanted |= {"hostname": "ip-10-0-0-2", "domain": "novalocal"}
        self.assertEqual({name: lease[name] for name in wanted}, wanted)
        self.assertTrue((yield self.later(guest.pings, "10.0.0.1")))

    @inlineCallbacks
    def test_mtu(self):
        """Guests are told the MTU that operators choose, and bridges have it."""
        yield self.driver.stop()
        yield self.begin(Uplinks(mtu=1400))
        [guest] = yield self.plugged(2)
        self.assertEqual((yield self.later(guest.leases))["mtu"], "1400")
        link = yield self.later(self.host.run, "ip", "-j", "link", "show", "br100")
        self.assertEqual(json.loads(link)[0]["mtu"], 1400)

    @inlineCallbacks
    def test_names(self):
        """The host answers ip-a-b-c-d and the instances' own names, of those who are here."""
        [guest] = yield self.plugged(2)
        yield self.driver.plug([attrs.evolve(dhcp_plug(3), hostname="db1.novalocal")])
        yield self.later(guest.leases)
        for name in ("ip-10-0-0-3.novalocal", "db1.novalocal", "ip-10-0-0-2.novalocal"):
            answer = yield self.later(guest.run, "busybox", "nslookup", "-type=a", name, "10.0.0.1")
            self.assertIn("10.0.0.3" if name != "ip-10-0-0-2.novalocal" else "10.0.0.2", answer)
        yield self.driver.unplug([dhcp_plug(3).instance])
        failure = self.later(guest.run, "busybox", "nslookup", "-type=a", "db1.novalocal", "10.0.0.1")
        yield self.assertFailure(failure, AssertionError)

    @inlineCallbacks
    def test_strangers(self):
        """A guest that is not plugged gets no answer."""
        yield self.plugged(2)
        stranger = yield self.guest(9)
        self.assertEqual((yield self.later(stranger.leases, 1)), {})

    @inlineCallbacks
    def test_ipv6(self):
        """A guest makes its IPv6 address of the network's prefix and its MAC, and reaches its router."""
        [guest] = yield self.plugged(2)
        address = guest_v6(DHCP, guest.mac)

        def there():
            return address in guest.run("ip", "-6", "address", "show", "dev", "eth0")

        yield self.later(await_true, there, "the guest has its address", 30.0)
        self.assertTrue((yield self.later(guest.pings, "fd00:10::1")))
        self.assertIn("default via fe80:", (yield self.later(guest.run, "ip", "-6", "route")))

    @inlineCallbacks
    def test_address_passes_on(self):
        """An address whose instance is gone is its next holder's at once, though the lease had not ended."""
        [guest] = yield self.plugged(2)
        self.assertEqual((yield self.later(guest.leases))["ip"], "10.0.0.2")
        yield self.later(guest.unplug)
        yield self.driver.unplug([dhcp_plug(2).instance])
        yield self.driver.plug([dhcp_plug(3, 2)])
        heir = yield self.guest(3)
        self.assertEqual((yield self.later(heir.leases, 2)).get("ip"), "10.0.0.2")

    @inlineCallbacks
    def test_forgotten_leases(self):
        """A DHCP server that forgot all that it gave gives the same again; no file has leases to lose."""
        [guest] = yield self.plugged(2)
        before = yield self.later(guest.leases)
        [pid] = self.host.dnsmasqs()
        os.kill(pid, signal.SIGKILL)
        yield self.later(await_true, lambda: len(self.host.dnsmasqs()) == 1, "another runs", 10.0)
        self.assertNotEqual(list(self.host.dnsmasqs()), [pid])
        self.assertEqual((yield self.later(guest.leases)), before)
        files = {path.name.partition(".")[2] for path in (self.host.directory / "dhcp").iterdir()}
        self.assertEqual(files, {"hosts", "names", "pid"})


class RestartTests(LinuxHostCase):
    """
    The service comes and goes; traffic flows.
    """

    @inlineCallbacks
    def test_stopped(self):
        """While the service is away guests reach one another, and renew; it comes back to the same servers."""
        [one, _] = yield self.plugged(2, 3)
        yield self.later(one.leases)
        before = yield self.later(self.host.state)
        yield self.driver.stop()
        self.assertEqual((yield self.later(one.leases))["ip"], "10.0.0.2")
        self.assertTrue((yield self.later(one.pings, "10.0.0.1")))
        yield self.begin()
        self.assertEqual((yield self.later(self.host.state)), before)

    @inlineCallbacks
    def test_killed(self):
        """kill -9 of the service is noticed by no guest, and the next service runs one DHCP server, the same."""
        yield self.driver.stop()
        command = [sys.executable, "-m", "tests.integration.network_process", str(self.host.directory)]
        command.append(self.host.namespaces.full_name("host"))
        environment = os.environ | {"PYTHONPATH": str(SOURCES)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=SOURCES)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertEqual((yield self.later(process.stdout.readline)), b"ready\n")
        process.stdout.close()
        process.kill()
        guest = yield self.guest(1 + 1)
        self.assertEqual((yield self.later(guest.leases))["ip"], "10.0.0.2")
        before = yield self.later(self.host.state)
        self.assertEqual(len(before["processes"]), 1)
        yield self.begin()
        self.assertEqual((yield self.later(self.host.state)), before)

    @inlineCallbacks
    def test_other_arguments(self):
        """A server with yesterday's arguments is replaced by one with today's."""
        yield self.plugged(2)
        [before] = self.host.dnsmasqs()
        yield self.driver.stop()
        yield self.begin(Uplinks(mtu=1400))
        [(pid, line)] = self.host.dnsmasqs().items()
        self.assertNotEqual(pid, before)
        self.assertIn("option:mtu,1400", line)

    @inlineCallbacks
    def test_reboot(self):
        """A host that lost its kernel's memory has everything again."""
        yield self.driver.express(DHCP)
        yield self.driver.plug([dhcp_plug(2), dhcp_plug(3)])
        yield self.driver.stop()
        before = yield self.later(self.host.state)
        yield self.later(self.host.forget)
        yield self.begin()
        after = yield self.later(self.host.state)
        for what in ("addresses", "routes", "rules", "files"):
            self.assertEqual(after[what], before[what])
        guest = yield self.guest(3)
        self.assertEqual((yield self.later(guest.leases))["ip"], "10.0.0.3")

    @inlineCallbacks
    def test_torn_down(self):
        """A bridge that somebody took away is there again when a launch next asks for it, with guests and DHCP."""
        [old] = yield self.plugged(2)
        yield self.later(old.leases)
        yield self.later(self.host.run, "ip", "link", "delete", "br100")
        yield self.driver.express(DHCP)
        guest = yield self.guest(3)
        yield self.driver.plug([dhcp_plug(3)])
        self.assertEqual((yield self.later(guest.leases))["ip"], "10.0.0.3")
        self.assertTrue((yield self.later(old.pings, "10.0.0.1")))


class TidyTests(LinuxHostCase):
    """
    Nothing is left of what we made, and nothing is touched that we did not.
    """

    @inlineCallbacks
    def test_nothing_left(self):
        """After unplugging and retiring the host is as it was."""
        before = yield self.later(self.host.state)
        yield self.plugged(2, 3)
        yield self.driver.express(FLAT)
        yield self.driver.associate([floating(1)])
        yield self.driver.unplug([dhcp_plug(2).instance, dhcp_plug(3).instance])
        for guest in ("02", "03"):
            yield self.later(self.host.run, "ip", "link", "delete", f"tap02163e0000{guest}")
        yield self.driver.disassociate([floating(1).public])
        yield self.driver.apply_groups([])
        yield self.driver.retire(DHCP.id)
        yield self.driver.retire(FLAT.id)
        self.assertEqual((yield self.later(self.host.state)), before)

    @inlineCallbacks
    def test_other_server(self):
        """Where another name server has the port, a launch is refused in its words, and leaves nothing."""
        before = yield self.later(self.host.state)
        theirs = self.host.namespaces.open_socket(self.host.name, socket.AF_INET, socket.SOCK_DGRAM)
        theirs.bind(("0.0.0.0", 53))
        error = yield self.assertFailure(self.driver.express(DHCP), DriverFailure)
        self.assertIn("Address already in use", error.what)
        self.assertEqual((yield self.later(self.host.state)), before)
        theirs.close()
        yield self.driver.express(DHCP)
        self.assertEqual(len(self.host.dnsmasqs()), 1)

    @inlineCallbacks
    def test_flat(self):
        """A flat network is a bridge: no address of the host's, no DHCP."""
        yield self.driver.express(FLAT)
        self.assertEqual((yield self.later(self.links)), {"lo": "", "br-flat": f"fabric:{FLAT.id}"})
        addresses = yield self.later(self.host.run, "ip", "-j", "address", "show", "dev", "br-flat")
        self.assertEqual(json.loads(addresses)[0]["addr_info"], [])
        self.assertEqual(self.host.dnsmasqs(), {})

    @inlineCallbacks
    def test_gateway_mac(self):
        """The gateway has the MAC that it has on every host."""
        yield self.driver.express(DHCP)
        found = yield self.later(self.host.run, "ip", "-j", "address", "show", "dev", "br100")
        [link] = json.loads(found)
        self.assertEqual(link["address"], gateway_mac(DHCP.id))
        self.assertIn(("10.0.0.1", 24), [(each["local"], each["prefixlen"]) for each in link["addr_info"]])

    @inlineCallbacks
    def test_foreign_bridge(self):
        """A bridge of that name that we did not make is refused in words, and stays as it is."""
        yield self.later(self.host.run, "ip", "link", "add", "br100", "type", "bridge")
        before = yield self.later(self.host.state)
        error = yield self.assertFailure(self.driver.express(DHCP), DriverFailure)
        self.assertIn("br100", error.what)
        self.assertIn("not ours", error.what)
        self.assertEqual((yield self.later(self.host.state)), before)
        self.assertEqual((yield self.driver.networks()), [])
        yield self.driver.retire(DHCP.id)
        self.assertEqual((yield self.later(self.host.state)), before)

    @inlineCallbacks
    def test_others_stay(self):
        """Links, addresses, rules and servers of others are as they were, whatever we make and remove."""
        script = "ip link add other0 type bridge; ip address add 198.51.100.1/24 dev other0; ip link set other0 up; "
        script += "nft add table ip theirs; nft add chain ip theirs c '{ type filter hook forward priority 0; }'"
        yield self.later(self.host.run, "sh", "-ec", script)
        before = yield self.later(self.host.state)
        yield self.plugged(2)
        yield self.later(self.host.run, "ip", "link", "delete", "tap02163e000002")
        yield self.driver.stop()
        yield self.begin()
        yield self.driver.retire(DHCP.id)
        yield self.driver.apply_groups([])
        self.assertEqual((yield self.later(self.host.state)), before)

    @inlineCallbacks
    def test_flat_interface(self):
        """The interface that operators name joins the bridge, and stays when the network goes."""
        yield self.later(self.host.run, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "wire")
        yield self.driver.stop()
        yield self.begin(Uplinks(flat_interface="eth1"))
        yield self.driver.express(FLAT)
        ports = yield self.later(self.host.run, "ip", "-j", "link", "show", "master", "br-flat")
        self.assertEqual([port["ifname"] for port in json.loads(ports)], ["eth1"])
        yield self.driver.retire(FLAT.id)
        self.assertEqual((yield self.later(self.links)), {"lo": "", "eth1": "", "wire": ""})

    @inlineCallbacks
    def test_interface_in_use(self):
        """An interface that has addresses is not put into a bridge, which would cut the host off."""
        script = "ip link add eth1 type veth peer name wire; ip address add 198.51.100.1/24 dev eth1"
        yield self.later(self.host.run, "sh", "-ec", script)
        yield self.driver.stop()
        yield self.begin(Uplinks(flat_interface="eth1"))
        error = yield self.assertFailure(self.driver.express(FLAT), DriverFailure)
        self.assertIn("198.51.100.1/24", error.what)
        self.assertEqual((yield self.later(self.links)), {"lo": "", "eth1": "", "wire": ""})

    @inlineCallbacks
    def test_half_retired(self):
        """What a crash left of a retired network goes with the next start."""
        yield self.driver.express(DHCP)
        yield self.driver.stop()
        (self.host.directory / "network.json").unlink()
        yield self.begin()
        self.assertEqual((yield self.later(self.links)), {"lo": ""})
        self.assertEqual(self.host.dnsmasqs(), {})

    @inlineCallbacks
    def test_displaced(self):
        """A VLAN that the cloud gave to another project is that one's here, where nobody used the old."""
        old = attrs.evolve(DHCP, id="net-0000000000000000c")
        yield self.driver.express(old)
        yield self.driver.express(DHCP)
        self.assertEqual((yield self.driver.networks()), [DHCP])
        self.assertEqual((yield self.later(self.links)), {"lo": "", "br100": f"fabric:{DHCP.id}"})

    @inlineCallbacks
    def test_floating_answers(self):
        """Floating addresses are the public interface's while they lead somewhere, and others stay."""
        script = "ip link add pub0 type veth peer name wire; ip address add 203.0.113.200/24 dev pub0; "
        yield self.later(self.host.run, "sh", "-ec", script + "ip link set pub0 up; ip link set wire up")
        yield self.driver.stop()
        yield self.begin(public_interface="pub0")
        yield self.driver.express(NETWORK)
        yield self.driver.plug([plug(1)])
        for addresses in (["203.0.113.200/24", "203.0.113.1/32"], ["203.0.113.200/24"]):
            yield self.driver.associate([floating(1)] if len(addresses) > 1 else [])
            found = yield self.later(self.host.run, "ip", "-4", "-j", "address", "show", "dev", "pub0")
            here = [f"{each['local']}/{each['prefixlen']}" for each in json.loads(found)[0]["addr_info"]]
            self.assertEqual(sorted(here), sorted(addresses))
            yield self.driver.disassociate([floating(1).public])
