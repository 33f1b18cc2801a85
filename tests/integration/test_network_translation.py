"""
Floating addresses, the metadata door, and what guests reach of their host.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Generator
from contextlib import closing
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.network.interface import RuleOrder
from fabric.network.linux.filtering import Door
from fabric.network.linux.guards import METADATA
from fabric.network.linux.ruleset import Outside
from fabric.testing.guests import NetnsGuest, Party
from tests.integration.filtered_host import FIRST, PUBLIC, SECOND, SEND, SEND6, STRANGER, FilteredHost, opens

Steps = Generator[Deferred[Any], Any, None]
FLOATING, OTHER = "203.0.113.2", "203.0.113.3"


class TranslationTests(FilteredHost):
    """Two guests that take and send anything."""

    @inlineCallbacks
    def setUp(self) -> Steps:  # type: ignore[override]
        """Have the two."""
        yield super().setUp()
        self.first: NetnsGuest = yield self.guest(2, "open")
        self.second: NetnsGuest = yield self.guest(3, "open")
        self.group("open", SEND, opens("-1"))

    def seen(self, client: Party, server: Party, address: str, port: int = 80, bound: int = 0) -> Deferred[str]:
        """
        @param bound: where the server listens, when not at C{port}.
        @return: whom a server sees when a client connects to an address; empty
            when it sees nobody.
        """

        def tried() -> str:
            with closing(server.listens(bound or port)) as listening:
                made = client.connects(address, port)
                if made is None:
                    return ""
                with closing(made):
                    accepted, (peer, _) = listening.accept()
                    with closing(accepted):
                        accepted.sendall(b"answer")
                        assert made.recv(100) == b"answer"
                        return str(peer)

        return self.later(tried)

    @inlineCallbacks
    def test_from_outside(self) -> Steps:
        """A floating address leads to its guest, which sees who asks."""
        self.leads(FLOATING, "10.0.0.2")
        yield self.applied()
        self.assertEqual((yield self.seen(self.outside, self.first, FLOATING)), STRANGER)
        self.assertTrue((yield self.later(self.outside.pings, FLOATING)))

    @inlineCallbacks
    def test_to_outside(self) -> Steps:
        """A guest goes out by its floating address, others by the host's."""
        self.leads(FLOATING, "10.0.0.2")
        yield self.applied()
        self.assertEqual((yield self.seen(self.first, self.outside, STRANGER)), FLOATING)
        self.assertEqual((yield self.seen(self.second, self.outside, STRANGER)), PUBLIC)

    @inlineCallbacks
    def test_about_to_follow(self) -> Steps:
        """A guest that has just moved here is seen as its floating address before that is here."""
        port = attrs.evolve(self.order.ports[self.first.mac], public=FLOATING)
        self.order = attrs.evolve(self.order, ports=self.order.ports | {port.mac: port})
        yield self.applied()
        self.assertEqual((yield self.later(self.source)), FLOATING)
        self.assertFalse((yield self.later(self.outside.reaches, FLOATING, 80)))

    def source(self) -> str:
        """Whom the outside sees when the first guest sends.  Blocks."""
        with closing(self.outside.receives_datagrams(9)) as listening:
            self.first.sends(STRANGER, 9)
            peer: str = listening.recvfrom(100)[1][0]
            return peer

    @inlineCallbacks
    def test_host_does_not_answer(self) -> Steps:
        """What can't be led to the guest is not answered by the host in its stead, which would end connections."""
        self.leads(FLOATING, "10.0.0.2")
        yield self.applied()
        yield self.later(self.host.run, "ip", "address", "add", f"{FLOATING}/32", "dev", "pub0")
        self.assertTrue((yield self.later(self.answers_scrap, PUBLIC)))
        self.assertFalse((yield self.later(self.answers_scrap, FLOATING)))

    def answers_scrap(self, address: str) -> bool:
        """Whether a TCP segment of no connection, which conntrack can't follow, is reset.  Blocks."""
        segment = struct.pack("!HHIIBBHHH", 1234, 81, 1, 1, 0x50, 0, 1000, 0, 0)
        pseudo = socket.inet_aton(STRANGER) + socket.inet_aton(address) + struct.pack("!HH", 6, len(segment))
        total = sum(struct.unpack("!16H", pseudo + segment))
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        with closing(self.outside.open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)) as raw:
            raw.sendto(segment[:16] + struct.pack("!H", checksum) + segment[18:], (address, 0))
            try:
                return bool(raw.recv(100))
            except TimeoutError:
                return False

    @inlineCallbacks
    def test_moved(self) -> Steps:
        """An address that leads elsewhere, or nowhere, does so at once, and for flows that are there."""
        self.leads(FLOATING, "10.0.0.2")
        yield self.applied()
        with closing(self.first.listens(80)):
            old = yield self.later(self.outside.connects, FLOATING, 80)
        self.leads(FLOATING, "10.0.0.3")
        yield self.applied()
        self.assertEqual((yield self.later(self.host.run, "conntrack", "-L", "-d", FLOATING)), "")
        self.assertEqual((yield self.seen(self.outside, self.second, FLOATING)), STRANGER)
        self.order = attrs.evolve(self.order, floating={})
        yield self.applied()
        self.assertFalse((yield self.later(self.outside.reaches, FLOATING, 80)))
        old.close()

    @inlineCallbacks
    def test_from_guests(self) -> Steps:
        """
        A guest reaches another by its floating address, on its own network and
        on another, and is seen by its own floating address.
        """
        third = yield self.guest(4, "open", network=SECOND)
        self.leads(FLOATING, "10.0.0.2")
        self.leads(OTHER, "10.0.0.3")
        yield self.applied()
        self.assertEqual((yield self.seen(self.second, self.first, FLOATING)), OTHER)
        self.assertNotEqual((yield self.seen(third, self.first, FLOATING)), "")
        self.assertFalse((yield self.later(third.reaches, "10.0.0.2", 80)))

    @inlineCallbacks
    def test_without_floating(self) -> Steps:
        """A guest without a floating address reaches one on its own network too."""
        self.leads(FLOATING, "10.0.0.2")
        yield self.applied()
        self.assertEqual((yield self.seen(self.second, self.first, FLOATING)), "10.0.0.1")

    @inlineCallbacks
    def test_rules_from_guests(self) -> Steps:
        """
        Rules hold between guests who ask by floating addresses: they may be
        about what the sender is seen by, and what the receiver was asked by.
        """
        self.leads(FLOATING, "10.0.0.2")
        self.leads(OTHER, "10.0.0.3")
        for rules, passes in (
            ((SEND,), False),
            ((SEND, opens("tcp", 80, 80, f"{OTHER}/32")), True),
            ((SEND, opens("tcp", 80, 80, f"{FLOATING}/32")), False),
            ((SEND, opens("tcp", 81, 81, f"{OTHER}/32")), False),
            ((RuleOrder(True, "tcp", 80, 80, f"{FLOATING}/32"), opens("-1")), True),
            ((RuleOrder(True, "tcp", 80, 80, "10.0.0.0/8"), opens("-1")), False),
        ):
            self.group("open", *rules)
            yield self.applied()
            self.assertEqual((yield self.later(self.second.reaches, FLOATING, 80)), passes, rules)
        self.group("open", SEND, opens("tcp", 80, 80, f"{OTHER}/32"))
        yield self.applied()
        self.assertFalse((yield self.later(self.second.reaches, "10.0.0.2", 80)))

    @inlineCallbacks
    def test_from_host(self) -> Steps:
        """The host reaches a floating address."""
        self.leads(FLOATING, "10.0.0.2")
        yield self.applied()
        self.assertNotEqual((yield self.seen(self.host, self.first, FLOATING)), "")

    @inlineCallbacks
    def test_from_host_that_answers(self) -> Steps:
        """The host reaches a floating address that is its interface's too, which it then asks from."""
        yield self.later(self.host.run, "ip", "address", "add", FLOATING + "/32", "dev", "pub0")
        self.leads(FLOATING, "10.0.0.2")
        yield self.applied()
        self.assertEqual((yield self.seen(self.host, self.first, FLOATING)), FLOATING)

    @inlineCallbacks
    def test_among_guests(self) -> Steps:
        """Guests see each other by their own addresses."""
        self.leads(FLOATING, "10.0.0.2")
        yield self.applied()
        self.assertEqual((yield self.seen(self.first, self.second, "10.0.0.3")), "10.0.0.2")

    @inlineCallbacks
    def test_no_translation(self) -> Steps:
        """Without a public address or interface, guests go out as themselves."""
        self.filter = self.filter_with(Outside())
        yield self.applied()
        self.assertEqual((yield self.seen(self.first, self.outside, STRANGER)), "10.0.0.2")

    @inlineCallbacks
    def test_masquerade(self) -> Steps:
        """With a public interface alone, its address is the guests'."""
        self.filter = self.filter_with(Outside("pub0"))
        yield self.applied()
        self.assertEqual((yield self.seen(self.first, self.outside, STRANGER)), PUBLIC)

    @inlineCallbacks
    def test_metadata(self) -> Steps:
        """The metadata door is reached by its one address, and sees each guest's own, floating or not."""
        self.leads(FLOATING, "10.0.0.2")
        third = yield self.guest(4, network=SECOND)
        yield self.applied()
        for guest, address in ((self.first, "10.0.0.2"), (self.second, "10.0.0.3"), (third, "10.0.1.4")):
            self.assertEqual((yield self.seen(guest, self.host, METADATA, 80, 8775)), address)

    @inlineCallbacks
    def test_metadata_port(self) -> Steps:
        """Nobody but the host itself gets to the metadata door around that."""
        yield self.applied()
        with closing(self.host.listens(8775)):
            for who, address in (
                (self.first, FIRST.gateway),
                (self.first, SECOND.gateway),
                (self.first, PUBLIC),
                (self.first, METADATA),
                (self.outside, PUBLIC),
                (self.outside, FIRST.gateway),
            ):
                self.assertFalse((yield self.later(who.reaches, address, 8775)), (who.name, address))
            self.assertTrue((yield self.later(self.host.reaches, "127.0.0.1", 8775)))

    @inlineCallbacks
    def test_host_closed(self) -> Steps:
        """Of their host, guests reach names and an echo of their gateway, and nothing else."""
        yield self.applied()
        guest = self.first
        self.assertTrue((yield self.later(guest.pings, FIRST.gateway)))
        self.assertTrue((yield self.later(guest.reaches, FIRST.gateway, 53)))
        for address in (FIRST.gateway, SECOND.gateway, PUBLIC):
            self.assertEqual((yield self.each(guest.reaches, (address, 22), (address, 8773))), [False, False], address)
        self.assertFalse((yield self.later(guest.reaches, SECOND.gateway, 53)))
        self.assertFalse((yield self.later(guest.pings, SECOND.gateway)))
        yield self.later(guest.has_address, "fd00:1::16:3eff:fe00:2/64")
        self.assertTrue((yield self.later(guest.pings, "fd00:1::1")))
        self.assertEqual((yield self.each(guest.reaches, ("fd00:1::1", 22), ("fd00:1::1", 53))), [False, True])

    @inlineCallbacks
    def test_doors(self) -> Steps:
        """Guests reach a door of the host that is opened to them as themselves, floating or not; and no other."""
        doors = (Door(PUBLIC, 8773), Door("::", 8774))
        self.filter = self.filter_with(Outside("pub0", PUBLIC, doors=doors))
        self.group("open", SEND, SEND6, opens("-1"))
        self.leads(FLOATING, "10.0.0.2")
        third = yield self.guest(4, "open", network=SECOND)
        yield self.applied()
        for guest, address in ((self.first, "10.0.0.2"), (self.second, "10.0.0.3"), (third, "10.0.1.4")):
            self.assertEqual((yield self.seen(guest, self.host, PUBLIC, 8773)), address)
        closed = [(PUBLIC, port) for port in (22, 5672, 6379, 8774)] + [(FIRST.gateway, 8773), (FIRST.gateway, 22)]
        self.assertEqual((yield self.each(self.first.reaches, *closed)), [False] * len(closed))
        self.assertEqual((yield self.each(third.reaches, (SECOND.gateway, 8773), (FIRST.gateway, 8773))), [False] * 2)
        yield self.later(self.first.has_address, "fd00:1::16:3eff:fe00:2/64")
        self.assertEqual((yield self.each(self.first.reaches, ("fd00:1::1", 8774), ("fd00:1::1", 8773))), [True, False])

    @inlineCallbacks
    def test_doors_by_groups(self) -> Steps:
        """To a door of the host a guest sends what its groups let it send; one of no port sends nothing."""
        self.filter = self.filter_with(Outside("pub0", PUBLIC, doors=(Door("0.0.0.0", 8773),)))
        self.group("near", RuleOrder(True, "tcp", 8773, 8773, "10.0.0.0/24"))
        near = yield self.guest(4, "near")
        unplugged = yield self.later(self._guest, 5, FIRST)
        yield self.applied()
        self.assertTrue((yield self.later(near.reaches, FIRST.gateway, 8773)))
        self.assertFalse((yield self.later(near.reaches, PUBLIC, 8773)))
        self.assertFalse((yield self.later(unplugged.reaches, FIRST.gateway, 8773)))
        self.assertTrue((yield self.later(self.first.reaches, PUBLIC, 8773)))

    @inlineCallbacks
    def test_dhcp(self) -> Steps:
        """The host hears who asks for an address, and its answer arrives."""
        self.group("open")
        yield self.applied()
        server = self.host.receives_datagrams(67)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"br100")
        client = self.first.receives_datagrams(68)
        self.addCleanup(server.close)
        self.addCleanup(client.close)
        client.sendto(b"discover", (FIRST.gateway, 67))
        self.assertEqual((yield self.later(server.recv, 100)), b"discover")
        server.sendto(b"offer", ("255.255.255.255", 68))
        self.assertEqual((yield self.later(client.recv, 100)), b"offer")

    @inlineCallbacks
    def test_flushed(self) -> Steps:
        """What somebody flushed is there again once it was looked for."""
        self.leads(FLOATING, "10.0.0.2")
        yield self.applied()
        yield self.later(self.host.run, "nft", "flush", "ruleset")
        self.assertFalse((yield self.later(self.outside.reaches, FLOATING, 80)))
        yield self.filter.verify()
        self.assertTrue((yield self.later(self.outside.reaches, FLOATING, 80)))

    @inlineCallbacks
    def test_restarted(self) -> Steps:
        """A new process's filters take the place of the old, and connections go on."""
        self.leads(FLOATING, "10.0.0.2")
        yield self.applied()
        with closing(self.first.listens(80)) as listening:
            made = yield self.later(self.outside.connects, FLOATING, 80)
            accepted, _ = listening.accept()
        with closing(made), closing(accepted):
            self.filter = self.filter_with(Outside("pub0", PUBLIC))
            yield self.applied()
            made.sendall(b"still")
            self.assertEqual((yield self.later(accepted.recv, 100)), b"still")

    @inlineCallbacks
    def test_others_untouched(self) -> Steps:
        """Tables, services and traffic that are not ours are as before, and none of ours is left in the end."""
        mine = "table inet mine { chain input { type filter hook input priority 5; tcp dport 9 counter; }; }"
        yield self.later(self.host.run, "nft", mine)
        before = yield self.later(self.host.run, "nft", "list", "ruleset")
        yield self.applied()
        self.assertTrue((yield self.later(self.outside.reaches, PUBLIC, 22)))
        yield self.filter.remove()
        yield self.filter.remove()
        self.assertEqual((yield self.later(self.host.run, "nft", "list", "ruleset")), before)
