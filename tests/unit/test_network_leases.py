"""
Tests for L{fabric.network.linux.leases} over servers and links that remember.
"""

from __future__ import annotations

import os

import attrs
from twisted.internet.defer import maybeDeferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import DriverFailure
from fabric.network.linux.dhcp import hosts_text
from fabric.network.linux.leases import Leases
from fabric.network.linux.netlink import release_lease
from fabric.testing.network import NETWORK, OTHER, plug

DHCP = attrs.evolve(NETWORK, manager="flatdhcp")


class Told:
    """
    Servers and links.
    """

    def __init__(self):
        self.servers = []
        self.released = []
        self.broken = False

    def ensure(self, server, reread, anew):
        """As servers."""
        self.servers.append((server.network, reread, anew))
        return succeed(None)

    def release(self, leases):
        """As links."""
        self.released.extend((address, mac) for _, _, address, mac in leases)
        if self.broken:
            raise DriverFailure("cannot release")


class LeasesTests(SynchronousTestCase):
    """
    What becomes of files.
    """

    def setUp(self):
        """Have one port."""
        self.told = Told()
        self.directory = self.mktemp()
        self.leases = self.made()
        self.ensure(plug(1))

    def made(self):
        """Those of one process."""
        return Leases(self.directory, self.told, self.told, 1500)

    def ensure(self, *ports, networks=(DHCP,)):
        """Have these ports."""
        return self.successResultOf(self.leases.ensure(networks, ports, (), maybeDeferred))

    def path(self, what):
        """A file."""
        return os.path.join(self.directory, f"{DHCP.id}.{what}")

    def test_damaged(self):
        """A file that a power cut damaged is written anew by the next process; only what it knows is released."""
        lines = [b"\xff\xfe\x00", b"02:00", b"nonsense,10.0.0.9", b"02:00:00:00:00:77,ip,10.0.0", b",,,"]
        with open(self.path("hosts"), "wb") as file:
            file.write(b"\n".join([*lines, hosts_text([plug(2)]).encode()]))
        self.leases = self.made()
        self.assertEqual(self.ensure(plug(1)), {})
        self.assertEqual(self.told.released, [(plug(2).address, plug(2).mac)])
        with open(self.path("hosts")) as file:
            self.assertEqual(file.read(), hosts_text([plug(1)]))

    def test_not_released(self):
        """A server that could not be told that a guest is gone is started anew, and the guest is gone all the same."""
        self.told.broken = True
        self.assertEqual(self.ensure(), {})
        self.assertEqual(self.told.servers[-1], (DHCP.id, True, True))
        self.told.servers.clear()
        self.assertEqual(self.ensure(), {})
        self.assertEqual(self.told.servers, [])

    def test_each_its_own(self):
        """A network whose files can't be read is the only one that is not served."""
        other = attrs.evolve(OTHER, manager="flatdhcp")
        os.unlink(self.path("names"))
        os.mkdir(self.path("names"))
        self.leases = self.made()
        self.assertEqual(list(self.ensure(plug(1), networks=(DHCP, other))), [DHCP.id])
        self.assertEqual(self.told.servers[-1], (other.id, False, False))


class ReleaseTests(SynchronousTestCase):
    """
    What can't be sent.
    """

    def test_senseless(self):
        """An address that is none is a failure of the driver, as everything that can't be sent."""
        for address, mac in (("10.0.0.999", "02:00:00:00:00:01"), ("10.0.0.2", "02:zz")):
            self.assertRaises(DriverFailure, release_lease, "lo", "127.0.0.1", address, mac)
