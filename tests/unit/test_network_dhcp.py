"""
Tests for the files that a network's DHCP server reads: L{fabric.network.linux.dhcp}.
"""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fabric.network.interface import NetworkOrder, Plug
from fabric.network.linux.dhcp import Lines, hosts_text, lost, names_text

NETWORK = NetworkOrder("net-1", "10.0.0.0/24", "10.0.0.1")


def port(number: int, hostname: str = "") -> Plug:
    """@return: one of the network."""
    return Plug(f"i-{number}", NETWORK.id, f"02:16:3e:00:00:{number:02x}", f"10.0.0.{number}", hostname)


class LinesTests(SynchronousTestCase):
    """What is made once is as if it were made each time."""

    def test_follows(self) -> None:
        """Ports come, change their names and go; the texts are those of the ports that there are."""
        lines = Lines(NETWORK)
        ports = {each.mac: each for each in (port(7, "ip-10-0-0-7"), port(5), port(11))}
        changed = ports | {port(5).mac: port(5, "db")}
        fewer = {mac: each for mac, each in changed.items() if each.instance != "i-7"}
        for now in (ports, ports | {port(3).mac: port(3)}, changed, fewer, {}):
            wanted = (hosts_text(now.values()), names_text(NETWORK, now.values()))
            self.assertEqual(lines.texts(now), wanted)

    def test_version_6(self) -> None:
        """A port of a network with IPv6 has a name for both addresses."""
        network = attrs.evolve(NETWORK, cidr_v6="fd00::/64")
        _, names = Lines(network).texts({port(5).mac: port(5)})
        self.assertEqual(names, names_text(network, [port(5)]))
        self.assertEqual(len(names.splitlines()), 2)

    def test_lost(self) -> None:
        """A lease is lost with the port, or its address; not with a name."""
        before = hosts_text([port(5, "one"), port(6), port(7)])
        after = hosts_text([port(5, "other"), attrs.evolve(port(6), address="10.0.0.66"), port(8)])
        self.assertEqual(lost(before, after), {("10.0.0.6", port(6).mac), ("10.0.0.7", port(7).mac)})
        self.assertEqual(lost("", after), set())
