"""
What a guest can't say on its bridge, tried frame by frame.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.network.linux.plan import Uplinks, gateway_mac
from fabric.network.linux.ruleset import Outside
from fabric.testing.guests import NetnsGuest, Party
from tests.integration import frames
from tests.integration.filtered_host import FIRST, SECOND, SEND, SEND6, FilteredHost, opens

Steps = Generator[Deferred[Any], Any, None]
ALL = 3
"""Every kind of frame, to a socket of family AF_PACKET."""
GUEST, VICTIM = "02:16:3e:00:00:02", "02:16:3e:00:00:03"
FAR = "02:16:3e:00:00:63"
"""On another host."""
MINE, THEIRS = "10.0.0.2", "10.0.0.3"
MINE6, THEIRS6 = "fe80::16:3eff:fe00:2", "fe80::16:3eff:fe00:3"
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
GATEWAY = "10.0.0.1"


class Wire:
    """
    Somebody's end of the wire, where frames are sent and seen.
    """

    def __init__(self, party: Party, device: str) -> None:
        self._socket = party.open_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
        self._socket.settimeout(20)
        self._socket.bind((device, ALL))

    def send(self, frame: bytes) -> None:
        """Send one."""
        self._socket.send(frame)

    def until(self, last: bytes) -> list[bytes]:
        """@return: the frames that come before one that ends so."""
        seen = []
        while not (frame := self._socket.recv(4096)).endswith(last):
            seen.append(frame)
        return seen

    def close(self) -> None:
        """No more."""
        self._socket.close()


class SpoofingTests(FilteredHost):
    """Two guests whose groups allow everything; the first of them lies."""

    @inlineCallbacks
    def setUp(self) -> Steps:  # type: ignore[override]
        """Have the two, and the ends of their wires."""
        yield super().setUp()
        self.liar: NetnsGuest = yield self.guest(2, "open")
        self.victim: NetnsGuest = yield self.guest(3, "open")
        self.group("open", SEND, SEND6, opens("-1"), opens("-1", peer="::/0"))
        yield self.applied()
        self.wires = {
            "liar": Wire(self.liar, "eth0"),
            "victim": Wire(self.victim, "eth0"),
            "host": Wire(self.host, FIRST.bridge),
        }
        self.owners = {"liar": (GUEST, MINE), "far": (FAR, "10.0.1.99")}
        for wire in self.wires.values():
            self.addCleanup(wire.close)

    def arrives(self, frame: bytes, where: str = "victim", whence: str = "liar") -> Deferred[bool]:
        """
        Whether a frame gets there: whether it is seen before another, which
        was sent after it and does get there.
        """

        def tried() -> bool:
            fence = uuid.uuid4().bytes
            self.wires[whence].send(frame)
            self.wires[whence].send(frames.arp(*self.owners[whence]) + fence)
            return any(seen.startswith(frame) for seen in self.wires[where].until(fence))

        return self.later(tried)

    def datagram(self, **changed: Any) -> bytes:
        """A datagram to the victim, true but for what is given."""
        true = {
            "source": GUEST,
            "target": VICTIM,
            "sender": MINE,
            "receiver": THEIRS,
            "ports": (5000, 5001),
            "data": b"data",
        }
        return frames.udp(**(true | changed))

    @inlineCallbacks
    def test_true(self) -> Steps:
        """What is true gets there: datagrams, ARP and its probes, and neighbours' words."""
        for frame in (
            self.datagram(),
            frames.arp(GUEST, MINE),
            frames.arp(GUEST, MINE, answer=True),
            frames.arp(GUEST, frames.ANY),
            frames.icmpv6(GUEST, VICTIM, MINE6, THEIRS6, 128, b"echo"),
            frames.icmpv6(GUEST, ALL_NODES_MAC, MINE6, ALL_NODES, 136, bytes(4) + frames.address(MINE6)),
            frames.icmpv6(GUEST, ALL_NODES_MAC, "::", ALL_NODES, 135, bytes(4) + frames.address(MINE6)),
        ):
            self.assertTrue((yield self.arrives(frame)), frame.hex())

    @inlineCallbacks
    def test_mac(self) -> Steps:
        """A frame with another's MAC is dropped."""
        for where in ("victim", "host"):
            self.assertFalse((yield self.arrives(self.datagram(source="02:16:3e:00:00:99"), where)))
            self.assertFalse((yield self.arrives(frames.arp("02:16:3e:00:00:99", MINE), where)))
            self.assertFalse((yield self.arrives(frames.arp(VICTIM, THEIRS), where)))

    @inlineCallbacks
    def test_address(self) -> Steps:
        """A packet with another's address is dropped."""
        for sender in (THEIRS, GATEWAY, "10.0.0.77", "192.0.2.1", frames.ANY):
            self.assertFalse((yield self.arrives(self.datagram(sender=sender))), sender)
        self.liar.has_address("10.0.0.77/24")
        self.assertTrue((yield self.later(self.liar.pings, GATEWAY)))
        self.assertFalse((yield self.later(self.liar.pings, GATEWAY, "-I", "10.0.0.77")))

    @inlineCallbacks
    def test_arp(self) -> Steps:
        """Nobody says that he has another's address, or that another has his."""
        for frame in (
            frames.arp(GUEST, THEIRS),
            frames.arp(GUEST, GATEWAY, answer=True),
            frames.arp(GUEST, MINE, holder=VICTIM),
            frames.arp(GUEST, frames.ANY, holder=VICTIM),
        ):
            for where in ("victim", "host"):
                self.assertFalse((yield self.arrives(frame, where)), frame.hex())

    @inlineCallbacks
    def test_dhcp(self) -> Steps:
        """A guest may ask for an address, of the host alone; it may not give any."""
        asks = {"target": frames.BROADCAST, "receiver": "255.255.255.255", "sender": frames.ANY, "ports": (68, 67)}
        self.assertTrue((yield self.arrives(self.datagram(**asks), "host")))
        self.assertFalse((yield self.arrives(self.datagram(**asks))))
        for ports in ((67, 68), (67, 5000), (5000, 68)):
            for target in (VICTIM, frames.BROADCAST):
                self.assertFalse((yield self.arrives(self.datagram(target=target, ports=ports))), ports)

    @inlineCallbacks
    def test_ipv6(self) -> Steps:
        """No router, no DHCP server, no other's address, and no other's neighbour."""
        advert = bytes.fromhex("40000708") + bytes(8)
        for frame in (
            frames.icmpv6(GUEST, ALL_NODES_MAC, MINE6, ALL_NODES, 134, advert),
            frames.icmpv6(GUEST, VICTIM, MINE6, THEIRS6, 134, advert),
            frames.icmpv6(GUEST, VICTIM, MINE6, THEIRS6, 137, bytes(4) + frames.address(MINE6) * 2),
            frames.icmpv6(GUEST, VICTIM, "fe80::1", THEIRS6, 128, b"echo"),
            frames.icmpv6(GUEST, VICTIM, "fd00:1::7", THEIRS6, 128, b"echo"),
            frames.icmpv6(GUEST, VICTIM, MINE6, THEIRS6, 136, bytes(4) + frames.address("fd00:1::1")),
            frames.icmpv6(GUEST, ALL_NODES_MAC, "::", ALL_NODES, 135, bytes(4) + frames.address(THEIRS6)),
        ):
            for where in ("victim", "host"):
                self.assertFalse((yield self.arrives(frame, where)), frame.hex())

    @inlineCallbacks
    def test_other_protocols(self) -> Steps:
        """Nothing but IP and ARP leaves a guest: no tags, no spanning tree."""
        inner = self.datagram()
        for kind in (0x8100, 0x88A8, 0x88CC, 0x8863, 0x0027):
            frame = frames.ethernet(GUEST, VICTIM, kind, b"\0\1" + inner[12:])
            for where in ("victim", "host"):
                self.assertFalse((yield self.arrives(frame, where)), hex(kind))

    @inlineCallbacks
    def test_moved_guest(self) -> Steps:
        """The words by which a hypervisor tells where a guest has moved to get out."""
        body = frames.arp(GUEST, MINE)[14:22] + frames.mac(GUEST) + bytes(4) + frames.mac(GUEST) + bytes(4)
        frame = frames.ethernet(GUEST, frames.BROADCAST, 0x8035, body)
        self.assertTrue((yield self.arrives(frame, "host")))

    @inlineCallbacks
    def test_unplugged(self) -> Steps:
        """A tap of ours that nothing is known of neither sends nor gets."""
        ports = {mac: port for mac, port in self.order.ports.items() if mac != VICTIM}
        self.order = attrs.evolve(self.order, ports=ports)
        yield self.applied()
        self.assertFalse((yield self.later(self.victim.pings, GATEWAY)))
        frame = self.datagram(source=VICTIM, target=GUEST, sender=THEIRS, receiver=MINE)
        self.wires["victim"].send(frame)
        last = frames.arp(GUEST, MINE, asked=GATEWAY) + b"last"
        self.wires["liar"].send(last)
        seen = yield self.later(self.wires["host"].until, last)
        self.assertEqual([each for each in seen if VICTIM in (each[6:12].hex(":"), each[:6].hex(":"))], [])
        self.liar.run("ip", "neighbour", "replace", THEIRS, "lladdr", VICTIM, "dev", "eth0")
        self.assertFalse((yield self.later(self.liar.pings, THEIRS)))

    @inlineCallbacks
    def test_uplink(self) -> Steps:
        """Of the gateway, DHCP and routers nothing crosses an uplink, either way; guests' frames do."""
        self.namespaces.make("far")
        self.namespaces.cable("far", "eth0", "host", "vlan200")
        yield self.later(self.host.run, "ip", "link", "set", "vlan200", "master", SECOND.bridge, "up")
        yield self.later(self.namespaces.run, "far", ["ip", "link", "set", "eth0", "up"])
        near = yield self.guest(5, "open", network=SECOND)
        self.filter = self.filter_with(Outside(uplinks=Uplinks(vlan_interface="pub0")))
        yield self.applied()
        self.wires["near"] = Wire(near, "eth0")
        self.wires["far"] = Wire(Party(self.namespaces, "far"), "eth0")
        self.addCleanup(self.wires["near"].close)
        self.addCleanup(self.wires["far"].close)
        far, gateway = FAR, gateway_mac(SECOND.id)
        for frame, crosses in (
            (frames.arp(far, "10.0.1.99", asked="10.0.1.5"), True),
            (frames.udp(far, near.mac, "10.0.1.99", "10.0.1.5", (1, 2), b""), True),
            (frames.arp(far, "10.0.1.99", asked="10.0.1.1"), False),
            (frames.arp(far, "10.0.1.1"), False),
            (frames.arp(far, "10.0.1.99", asked="169.254.169.254"), False),
            (frames.arp(gateway, "10.0.1.99"), False),
            (frames.udp(far, near.mac, "10.0.1.99", "10.0.1.5", (67, 68), b""), False),
        ):
            self.assertEqual((yield self.arrives(frame, "near", "far")), crosses, frame.hex())
        asks = frames.udp(near.mac, frames.BROADCAST, frames.ANY, "255.255.255.255", (68, 67), b"")
        self.owners["near"] = (near.mac, "10.0.1.5")
        for frame, crosses in (
            (asks, False),
            (frames.arp(near.mac, "10.0.1.5", asked="10.0.1.1"), False),
            (frames.arp(near.mac, "10.0.1.5", asked="10.0.1.99"), True),
        ):
            self.assertEqual((yield self.arrives(frame, "far", "near")), crosses, frame.hex())
