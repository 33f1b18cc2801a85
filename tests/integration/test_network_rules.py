"""
Security groups of a real host, tried by guests that are network namespaces.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.network.interface import RuleOrder
from fabric.testing.guests import NetnsGuest, Party
from tests.integration.filtered_host import SECOND, SEND, SEND6, STRANGER, FilteredHost, opens

Steps = Generator[Deferred[Any], Any, None]
SERVER = "10.0.0.3"


class GroupTests(FilteredHost):
    """What a group's rules let pass, and that nothing else passes."""

    @inlineCallbacks
    def pair(self, *rules: RuleOrder) -> Generator[Deferred[Any], Any, tuple[NetnsGuest, NetnsGuest]]:
        """
        Two guests: the first of group C{clients}, which sends anything; the
        second of group C{tried}, which has these rules.
        """
        client = yield self.guest(2, "clients")
        server = yield self.guest(3, "tried")
        self.group("clients", SEND, SEND6)
        self.group("tried", *rules)
        yield self.applied()
        return client, server

    def reached(self, who: Party, *ports: int, address: str = SERVER) -> Deferred[list[bool]]:
        """Whether it reaches each of these ports."""
        return self.each(who.reaches, *((address, port) for port in ports))

    def received(self, who: Party, server: NetnsGuest, port: int, address: str = SERVER) -> Deferred[bool]:
        """Whether a datagram arrives."""

        def tried() -> bool:
            with closing(server.receives_datagrams(port, "::" if ":" in address else "")) as socket:
                who.sends(address, port)
                try:
                    return bool(socket.recv(100))
                except TimeoutError:
                    return False

        return self.later(tried)

    @inlineCallbacks
    def test_nothing_by_itself(self) -> Steps:
        """Without a rule nothing reaches a guest: not from its bridge, the host or outside."""
        self.leads("203.0.113.3", SERVER)
        client, _ = yield self.pair(SEND)
        for who, address in ((client, SERVER), (self.host, SERVER), (self.outside, "203.0.113.3")):
            self.assertEqual((yield self.reached(who, 22, address=address)), [False], who.name)
            self.assertFalse((yield self.later(who.pings, address)), who.name)

    @inlineCallbacks
    def test_unknown_group(self) -> Steps:
        """A port of a group that is not here yet neither gets nor sends."""
        client, _ = yield self.pair(opens("-1"))
        known = dict(self.order.groups)
        for missing in ("clients", "tried"):
            groups = {id: group for id, group in known.items() if id != missing}
            self.order = attrs.evolve(self.order, groups=groups)
            yield self.applied()
            self.assertEqual((yield self.reached(client, 22)), [False], missing)

    @inlineCallbacks
    def test_tcp(self) -> Steps:
        """A rule about TCP opens its ports, and no others, and nothing of UDP and ICMP."""
        client, server = yield self.pair(opens("tcp", 22, 23))
        self.assertEqual((yield self.reached(client, 21, 22, 23, 24)), [False, True, True, False])
        self.assertFalse((yield self.received(client, server, 22)))
        self.assertFalse((yield self.later(client.pings, SERVER)))

    @inlineCallbacks
    def test_udp(self) -> Steps:
        """A rule about UDP opens its ports, and no others, and nothing of TCP."""
        client, server = yield self.pair(opens("udp", 53, 53))
        self.assertTrue((yield self.received(client, server, 53)))
        self.assertFalse((yield self.received(client, server, 54)))
        self.assertEqual((yield self.reached(client, 53)), [False])

    @inlineCallbacks
    def test_icmp(self) -> Steps:
        """A rule about ICMP opens its type and code: echo requests are not timestamps."""
        client, _ = yield self.pair(opens("icmp", 13, -1))
        self.assertFalse((yield self.later(client.pings, SERVER)))
        for rule in (opens("icmp", 8, 0), opens("icmp", 8, -1), opens("icmp", -1, -1)):
            self.group("tried", rule)
            yield self.applied()
            self.assertTrue((yield self.later(client.pings, SERVER)), rule)
            self.assertEqual((yield self.reached(client, 22)), [False])
        self.group("tried", opens("icmp", 8, 1))
        yield self.applied()
        self.assertFalse((yield self.later(client.pings, SERVER)))

    @inlineCallbacks
    def test_number(self) -> Steps:
        """A rule about a protocol's number opens that protocol."""
        client, _ = yield self.pair(opens("6"))
        self.assertEqual((yield self.reached(client, 22, 65535)), [True, True])
        self.assertFalse((yield self.later(client.pings, SERVER)))

    @inlineCallbacks
    def test_all(self) -> Steps:
        """A rule about all traffic opens TCP, UDP and ICMP, to outside as well."""
        self.leads("203.0.113.3", SERVER)
        client, server = yield self.pair(opens("-1"))
        self.assertEqual((yield self.reached(client, 1, 65535)), [True, True])
        self.assertTrue((yield self.received(client, server, 9)))
        self.assertTrue((yield self.later(client.pings, SERVER)))
        self.assertEqual((yield self.reached(self.outside, 22, address="203.0.113.3")), [True])
        self.assertEqual((yield self.reached(self.host, 22)), [True])

    @inlineCallbacks
    def test_range(self) -> Steps:
        """A rule about a range opens to it alone, also where rules overlap."""
        self.leads("203.0.113.3", SERVER)
        client, _ = yield self.pair(opens("tcp", 22, 22, "10.0.0.0/29"), opens("tcp", 20, 25, f"{STRANGER}/32"))
        self.assertEqual((yield self.reached(client, 22, 25)), [True, False])
        self.assertEqual((yield self.reached(self.outside, 22, 25, address="203.0.113.3")), [True, True])
        self.assertEqual((yield self.reached(self.host, 22)), [True])
        third = yield self.guest(9, "clients")
        yield self.applied()
        self.assertEqual((yield self.reached(third, 22)), [False])

    @inlineCallbacks
    def test_group(self) -> Steps:
        """A rule about a group opens to its members, and to those that become members."""
        client, _ = yield self.pair(opens("tcp", 22, 22, group="clients"), SEND)
        self.assertEqual((yield self.reached(client, 22, 23)), [True, False])
        self.assertEqual((yield self.reached(self.host, 22)), [False])
        self.group("clients", SEND, members=("10.0.0.200",))
        yield self.applied()
        self.assertEqual((yield self.reached(client, 22)), [False])
        self.group("clients", SEND, members=("10.0.0.200", "10.0.0.2"))
        yield self.applied()
        self.assertEqual((yield self.reached(client, 22)), [True])

    @inlineCallbacks
    def test_own_group(self) -> Steps:
        """Members of a default group reach each other by everything."""
        first = yield self.guest(2, "default")
        yield self.guest(3, "default")
        self.group("default", SEND, opens("-1", group="default"))
        yield self.applied()
        self.assertEqual((yield self.reached(first, 22)), [True])
        self.assertTrue((yield self.later(first.pings, SERVER)))

    @inlineCallbacks
    def test_egress(self) -> Steps:
        """What a guest sends needs a rule too: by protocol, port and range; answers need none."""
        client, server = yield self.pair(opens("-1"))
        self.assertEqual((yield self.reached(server, 22, address="10.0.0.2")), [False])
        self.assertEqual((yield self.reached(client, 22)), [True])
        self.group("clients", RuleOrder(True, "tcp", 80, 80, "10.0.0.3/32"), RuleOrder(True, "udp", 9, 9, "0.0.0.0/0"))
        yield self.applied()
        self.assertEqual((yield self.reached(client, 80, 81)), [True, False])
        self.assertEqual((yield self.reached(client, 80, address=STRANGER)), [False])
        self.assertTrue((yield self.received(client, server, 9)))
        self.group("clients", RuleOrder(True, "-1", -1, -1, "", "tried"))
        yield self.applied()
        self.assertEqual((yield self.reached(client, 81)), [True])
        self.assertEqual((yield self.reached(client, 80, address=STRANGER)), [False])

    @inlineCallbacks
    def test_several_groups(self) -> Steps:
        """What any of a port's groups allows passes."""
        self.group("more", opens("tcp", 80, 80))
        client, server = yield self.pair(opens("tcp", 22, 22))
        self.port(server, SERVER, "tried", "more")
        yield self.applied()
        self.assertEqual((yield self.reached(client, 22, 80, 81)), [True, True, False])

    @inlineCallbacks
    def test_revoked(self) -> Steps:
        """A revoked rule closes the port for new connections; one that is there goes on."""
        client, server = yield self.pair(opens("tcp", 22, 22))
        listening = server.listens(22)
        old = yield self.later(client.connects, SERVER, 22)
        accepted, _ = listening.accept()
        self.group("tried")
        yield self.applied()
        self.assertEqual((yield self.reached(client, 22)), [False])
        old.sendall(b"still")
        self.assertEqual((yield self.later(accepted.recv, 100)), b"still")
        for socket in (old, accepted, listening):
            socket.close()

    @inlineCallbacks
    def test_next_with_address(self) -> Steps:
        """Who gets the address of a guest that is gone gets nothing of its flows."""
        client, server = yield self.pair(opens("tcp", 22, 22))
        listening = server.listens(22)
        old = yield self.later(client.connects, SERVER, 22)
        listening.accept()[0].close()
        ports = {mac: port for mac, port in self.order.ports.items() if mac != server.mac}
        self.order = attrs.evolve(self.order, ports=ports)
        yield self.applied()
        table = yield self.later(self.host.run, "conntrack", "-L", "-d", SERVER)
        self.assertEqual(table, "")
        old.close()
        listening.close()

    @inlineCallbacks
    def test_networks_apart(self) -> Steps:
        """Guests of different networks don't reach each other, whatever their groups allow."""
        client, _ = yield self.pair(opens("-1"))
        yield self.guest(4, "tried", network=SECOND)
        yield self.applied()
        self.assertEqual((yield self.reached(client, 22, address="10.0.1.4")), [False])
        self.assertFalse((yield self.later(client.pings, "10.0.1.4")))
        self.assertEqual((yield self.reached(self.host, 22, address="10.0.1.4")), [True])

    @inlineCallbacks
    def test_not_multicast(self) -> Steps:
        """What is sent to all of a bridge, or to another's address at a guest's MAC, passes no rule."""
        client, server = yield self.pair(opens("tcp", 22, 22))
        self.assertFalse((yield self.received(client, server, 7, "224.0.0.1")))
        client.run("ip", "neighbour", "replace", "10.0.0.77", "lladdr", server.mac, "dev", "eth0")
        server.run("ip", "address", "add", "10.0.0.77/24", "dev", "eth0")
        self.assertEqual((yield self.reached(client, 22, address="10.0.0.77")), [False])

    @inlineCallbacks
    def test_ipv6(self) -> Steps:
        """Groups are about IPv6 as well: at addresses of the network's range and of the link."""
        client, _ = yield self.pair(opens("tcp", 22, 22, "fd00:1::/64"), opens("icmpv6", 128, -1, "fe80::/10"))
        for number, guest in enumerate((client, _), 2):
            yield self.later(guest.has_address, f"fd00:1::16:3eff:fe00:{number}/64")
        self.assertEqual((yield self.reached(client, 22, 23, address="fd00:1::16:3eff:fe00:3")), [True, False])
        self.assertFalse((yield self.later(client.pings, "fd00:1::16:3eff:fe00:3")))
        self.assertTrue((yield self.later(client.pings, "fe80::16:3eff:fe00:3%eth0")))
        self.group("clients", SEND, members=("fd00:1::16:3eff:fe00:2",))
        self.group("tried", opens("tcp", 80, 80, group="clients"))
        yield self.applied()
        self.assertEqual((yield self.reached(client, 80, address="fd00:1::16:3eff:fe00:3")), [False])
        self.group("clients", SEND6, members=("fd00:1::16:3eff:fe00:2",))
        yield self.applied()
        self.assertEqual((yield self.reached(client, 80, address="fd00:1::16:3eff:fe00:3")), [True])

    @inlineCallbacks
    def test_others_on_bridge(self) -> Steps:
        """A network without IPv6 carries none."""
        first = yield self.guest(4, "open", network=SECOND)
        yield self.guest(5, "open", network=SECOND)
        self.group("open", SEND, SEND6, opens("-1"), opens("-1", peer="::/0"))
        yield self.applied()
        self.assertFalse((yield self.later(first.pings, "fe80::16:3eff:fe00:5%eth0")))
        self.assertTrue((yield self.later(first.pings, "10.0.1.5")))
