"""
AMQP by hand: what the client makes of bytes, and what bytes it sends.
"""

from __future__ import annotations

from io import BytesIO
from struct import pack
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase
from txamqp.client import ChannelClosed, Closed

from fabric.errors import Unavailable
from fabric.rpc.amqp.channel import Channel, Delivery
from fabric.rpc.amqp.client import Client, load_spec
from fabric.rpc.amqp.codec import Codec
from fabric.rpc.amqp.content import Properties, pack_header, unpack_header
from fabric.rpc.amqp.delegate import closed_by_broker
from fabric.rpc.amqp.frames import BEAT, BODY, HEADER, METHOD, PROTOCOL, BadFrame, FrameBuffer, pack_frame
from fabric.rpc.amqp.queue import AMQPQueue
from fabric.rpc.amqp.topology import Topology

_INTEGERS = st.integers(-(2**63), 2**63 - 1)
_TABLES = st.recursive(
    st.none() | st.booleans() | _INTEGERS | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=8,
)


def _coded(kind: str, value: Any) -> Any:
    """A value, written and read again."""
    stream = BytesIO()
    Codec(stream).encode(kind, value)
    stream.seek(0)
    return Codec(stream).decode(kind)


def _table(inside: bytes) -> dict[str, Any]:
    """The table of these bytes, without its length."""
    return Codec(BytesIO(pack("!I", len(inside)) + inside)).decode_table()


def _nested(depth: int) -> bytes:
    """The inside of a table in a table, and so on."""
    data = b""
    for _ in range(depth):
        data = b"\x01aF" + pack("!I", len(data)) + data
    return data


class CodecTests(SynchronousTestCase):
    """
    Strings and tables.
    """

    @given(st.dictionaries(st.text(max_size=20), _TABLES, max_size=4))
    def test_tables(self, table: dict[str, Any]) -> None:
        """A table of any values that JSON has, is read as it was written."""
        self.assertEqual(_coded("table", table), table)

    def test_bytes_in_table(self) -> None:
        """Bytes stay bytes."""
        self.assertEqual(_coded("table", {"a": b"\xff\x00"}), {"a": b"\xff\x00"})

    def test_non_ascii(self) -> None:
        """Strings are counted in bytes, not in characters."""
        for kind in ("shortstr", "longstr"):
            self.assertEqual(_coded(kind, "héllo ☃"), "héllo ☃")

    def test_other_types(self) -> None:
        """The types that only other clients write are read."""
        values = {
            b"b\xff": -1,
            b"B\xff": 255,
            b"s\xff\xfe": -2,
            b"u\xff\xfe": 65534,
            b"i\xff\xff\xff\xff": 2**32 - 1,
            b"T" + pack("!Q", 1700000000): 1700000000,
            b"f" + pack("!f", 0.5): 0.5,
            b"D\x02" + pack("!i", 314): 3.14,
        }
        for data, value in values.items():
            self.assertEqual(_table(b"\x01a" + data), {"a": value})

    def test_x_death(self) -> None:
        """The header that RabbitMQ puts on dead letters, an array of tables, is read."""
        death = {"count": 1, "reason": "rejected", "queue": "q", "exchange": "", "routing-keys": ["q"]}
        self.assertEqual(_coded("table", {"x-death": [death]}), {"x-death": [death]})

    def test_impossible(self) -> None:
        """What AMQP can't say is refused."""
        self.assertRaises(TypeError, _coded, "table", {"a": object()})
        self.assertRaises(ValueError, _coded, "table", {"a": 2**64})
        self.assertRaises(ValueError, _coded, "shortstr", "é" * 128)

    def test_unknown_type(self) -> None:
        """A value of no known type is an error."""
        self.assertRaises(ValueError, _table, b"\x01a?")


class HeaderTests(SynchronousTestCase):
    """
    Properties of messages.
    """

    def test_properties(self) -> None:
        """Properties are read as they were written."""
        properties = Properties({"a": ["é"]}, 2, "c", "r", "100", "m", "ü")
        self.assertEqual(unpack_header(pack_header(7, properties)), (7, properties))
        self.assertEqual(unpack_header(pack_header(0, Properties())), (0, Properties()))

    def test_others_skipped(self) -> None:
        """Properties that are not used here are passed over."""
        names = b"\x01t" + b"\x01e" + pack("!I", 0) + b"\x02" + b"\x05" + b"\x01c\x01r\x01x\x01m"
        payload = pack("!HHQH", 60, 0, 1, 0xFFFC) + names + pack("!Q", 1) + b"\x01T\x01u\x01a\x01z"
        size, properties = unpack_header(payload)
        self.assertEqual((size, properties), (1, Properties({}, 2, "c", "r", "x", "m", "u")))

    def test_unreadable_headers(self) -> None:
        """A message of whose headers nothing can be made, as of tables in tables without end, is read without them."""
        for inside in (b"\x01a?", _nested(2000)):
            table = pack("!I", len(inside)) + inside
            payload = pack("!HHQH", 60, 0, 1, 0x2080) + table + b"\x01m"
            self.assertEqual(unpack_header(payload), (1, Properties(message_id="m")))


class FrameBufferTests(SynchronousTestCase):
    """
    Cutting frames.
    """

    @given(st.lists(st.binary(max_size=30), max_size=6), st.integers(1, 40))
    def test_any_cut(self, payloads: list[bytes], step: int) -> None:
        """Frames come whole, however the bytes were cut on their way."""
        data = b"".join(pack_frame(BODY, 1, payload) for payload in payloads)
        buffer = FrameBuffer(100)
        frames = [frame for at in range(0, len(data), step) for frame in buffer.feed(data[at : at + step])]
        self.assertEqual(frames, [(BODY, 1, payload) for payload in payloads])

    def test_too_large(self) -> None:
        """A frame larger than was agreed is an error before it has come."""
        self.assertRaises(BadFrame, FrameBuffer(10).feed, pack("!BHI", BODY, 1, 11) + b"x")

    def test_no_end(self) -> None:
        """A frame without its end is an error."""
        self.assertRaises(BadFrame, FrameBuffer(10).feed, pack("!BHI", BODY, 1, 1) + b"xy")


class ClientTests(SynchronousTestCase):
    """
    A client, against a broker made of bytes.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.spec = load_spec()
        self.client = Client(self.clock, "/", self.spec, 10, "tests")
        self.transport = StringTransportWithDisconnection()
        self.transport.protocol = self.client
        self.client.makeConnection(self.transport)

    def _say(self, channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> None:
        """The broker sends a method."""
        self.client.dataReceived(pack_frame(METHOD, channel, pack("!HH", class_id, method_id) + arguments))

    def _open(self) -> Channel:
        """An open channel."""
        opening = self.client.open_channel()
        self._say(self.client._last_channel, 20, 11, pack("!I", 0))
        self.transport.clear()
        return self.successResultOf(opening)

    def _deliver(self, channel: int, *chunks: bytes) -> None:
        size = sum(len(chunk) for chunk in chunks)
        method = pack("!HH", 60, 60) + b"\x01c" + pack("!QB", 5, 1) + b"\x01e" + b"\x01k"
        frames = [pack_frame(METHOD, channel, method), pack_frame(HEADER, channel, pack_header(size, Properties()))]
        frames += [pack_frame(BODY, channel, chunk) for chunk in chunks]
        self.client.dataReceived(b"".join(frames))

    def _sent(self) -> list[tuple[int, int, bytes]]:
        """The frames that were sent since the last look."""
        data = self.transport.value()
        self.transport.clear()
        return FrameBuffer(200_000).feed(data)

    def _tune(self, frame_max: int = 4096, heartbeat: int = 10) -> None:
        self._say(0, 10, 30, pack("!HIH", 100, frame_max, heartbeat))

    def test_protocol(self) -> None:
        """The client says first that it speaks AMQP 0-9-1."""
        self.assertEqual(self.transport.value(), PROTOCOL)

    def test_capabilities(self) -> None:
        """The client names the extensions that it understands, and answers with PLAIN."""
        self.transport.clear()
        self.client.authenticate("ü", "p", mechanism="PLAIN")
        strings = pack("!I", 5) + b"PLAIN" + pack("!I", 5) + b"en_US"
        self._say(0, 10, 10, b"\0\x09" + pack("!I", 0) + strings)
        payload = self._sent()[0][2]
        self.assertIn(b"consumer_cancel_notify", payload)
        self.assertIn(b"authentication_failure_close", payload)
        self.assertIn("\0ü\0p".encode(), payload)

    def test_no_frame_limit(self) -> None:
        """A broker that sets no limit to frames gets frames of a sensible size."""
        self._tune(frame_max=0)
        self.assertEqual(self.client.body_limit, 131072 - 8)

    def test_bodies(self) -> None:
        """A body is the bytes that were sent: empty, ASCII, UTF-8 or neither, in one frame or in several."""
        channel = self._open()
        bodies: list[bytes] = []
        channel.on_delivery = lambda delivery: bodies.append(delivery.body)
        for chunks in ([], [b"ascii"], ["é".encode()], [b"\xff\xfe"], [b"ascii", b"\xff", "é".encode()]):
            self._deliver(channel.id, *chunks)
        self.assertEqual(bodies, [b"", b"ascii", "é".encode(), b"\xff\xfe", b"ascii\xff" + "é".encode()])

    def test_delivery(self) -> None:
        """A delivery has its tag, flag, exchange and routing key."""
        channel = self._open()
        seen: list[Delivery] = []
        channel.on_delivery = seen.append
        self._deliver(channel.id, b"x")
        self.assertEqual(seen, [Delivery(5, True, "e", "k", "", Properties(), b"x")])

    def test_publish(self) -> None:
        """A message goes out as a method, a header and frames no larger than was agreed."""
        self._tune(frame_max=4096)
        channel = self._open()
        channel.publish("é", "k", Properties(message_id="m"), b"x" * 5000, mandatory=True)
        frames = self._sent()
        self.assertEqual([kind for kind, _, _ in frames], [METHOD, HEADER, BODY, BODY])
        self.assertEqual(frames[0][2], pack("!HHH", 60, 40, 0) + b"\x02" + "é".encode() + b"\x01k\x01")
        self.assertEqual(unpack_header(frames[1][2]), (5000, Properties(message_id="m")))
        self.assertEqual([len(payload) for _, _, payload in frames[2:]], [4088, 912])

    def test_bad_publish(self) -> None:
        """A message that can't be said fails at its sender, and the connection goes on."""
        channel = self._open()
        for headers in ({"a": object()}, {"a": 2**70}):
            self.assertRaises((TypeError, ValueError), channel.publish, "e", "k", Properties(headers), b"x")
        self.assertRaises(ValueError, channel.publish, "e", "k" * 300, Properties(), b"x")
        self.assertEqual(self.transport.value(), b"")
        channel.publish("e", "k", Properties({"a": -1, "b": None, "c": [1.5]}), b"x")
        self.assertEqual(len(self._sent()), 3)

    def test_bad_method(self) -> None:
        """A method that can't be said fails at its sender, and nothing is sent."""
        channel = self._open()
        self.failureResultOf(channel.queue_declare(queue="q", arguments={"a": object()}), TypeError)
        self.assertEqual(self.transport.value(), b"")

    def test_confirms(self) -> None:
        """Each message is confirmed by its key: alone, or all up to one; or refused."""
        channel = self._open()
        seen: list[tuple[str, bool]] = []
        channel.on_confirm = lambda key, taken: seen.append((key, taken))
        for key in "abcd":
            channel.publish("e", "k", Properties(), b"", key=key)
        self._say(channel.id, 60, 80, pack("!QB", 3, 0))
        self._say(channel.id, 60, 80, pack("!QB", 2, 1))
        self._say(channel.id, 60, 120, pack("!QB", 4, 0))
        self.assertEqual(seen, [("c", True), ("a", True), ("b", True), ("d", False)])

    def test_return(self) -> None:
        """A message that no queue took comes back with the broker's words."""
        channel = self._open()
        seen: list[Delivery] = []
        channel.on_return = seen.append
        self._say(channel.id, 60, 50, pack("!H", 312) + b"\x08NO_ROUTE\x01e\x01k")
        self.client.dataReceived(pack_frame(HEADER, channel.id, pack_header(0, Properties(message_id="m"))))
        self.assertEqual((seen[0].reply_text, seen[0].properties.message_id), ("NO_ROUTE", "m"))

    def test_channel_error(self) -> None:
        """A channel that the broker closes fails who waits on it, tells its owner, and is forgotten."""
        channel = self._open()
        reasons: list[Any] = []
        channel.on_closed = reasons.append
        answer = channel.queue_declare(queue="q", passive=True)
        self._say(channel.id, 20, 40, pack("!H", 404) + b"\x09NOT_FOUND" + pack("!HH", 50, 10))
        failure = self.failureResultOf(answer, ChannelClosed)
        self.assertEqual(closed_by_broker(failure.value), (404, "NOT_FOUND"))
        self.assertEqual([closed_by_broker(reason) for reason in reasons], [(404, "NOT_FOUND")])
        self.assertNotIn(channel.id, self.client.channels)
        self.assertRaises(Closed, channel.publish, "e", "k", Properties(), b"")
        self.assertNotEqual(self._open().id, channel.id)

    def test_opening_given_up(self) -> None:
        """A channel that takes too long to open, and is opened after all, is closed and forgotten."""
        opening = self.client.open_channel()
        number = self.client._last_channel
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self._say(number, 20, 11, pack("!I", 0))
        self._say(number, 20, 41)
        self.assertEqual(list(self.client.channels), [0])

    def test_depths(self) -> None:
        """One channel serves to ask about any number of queues, and a new one after each that is not there."""
        asking = Topology().depths(self.client, ["a", "b", "c"])
        self._say(1, 20, 11, pack("!I", 0))
        self._say(1, 50, 11, b"\x01a" + pack("!II", 3, 0))
        self._say(1, 20, 40, pack("!H", 404) + b"\x09NOT_FOUND" + pack("!HH", 50, 10))
        self._say(2, 20, 11, pack("!I", 0))
        self._say(2, 50, 11, b"\x01c" + pack("!II", 5, 0))
        self.assertEqual(self.successResultOf(asking), {"a": 3, "b": 0, "c": 5})
        self._say(2, 20, 41)
        self.assertEqual(list(self.client.channels), [0])

    def test_depths_given_up(self) -> None:
        """Nobody's question leaves a channel behind, of which there is a certain number."""
        asking = Topology().depths(self.client, ["a", "b"])
        self._say(1, 20, 11, pack("!I", 0))
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self._say(1, 50, 11, b"\x01a" + pack("!II", 3, 0))
        self._say(1, 20, 41)
        self.assertEqual(list(self.client.channels), [0])

    def test_blocked(self) -> None:
        """A broker that takes no messages is not well, whatever else it answers."""
        queue = AMQPQueue(MemoryReactorClock(), "tcp:127.0.0.1:1", "a", "b")
        queue._client = self.client
        self._say(0, 10, 60, b"\x06memory")
        error = self.failureResultOf(queue.ping(), Unavailable).value
        self.assertEqual(error.why, "the broker takes no messages now: memory")
        self._say(0, 10, 61)
        answer = queue.ping()
        self._say(1, 20, 11, pack("!I", 0))
        self._say(1, 20, 41)
        self.assertIsNone(self.successResultOf(answer))

    def test_unasked(self) -> None:
        """What the broker may send unasked leaves the connection up."""
        channel = self._open()
        reasons: list[Any] = []
        channel.on_closed = reasons.append
        self._say(0, 10, 60, b"\x06memory")
        self.assertEqual(self.client.blocked, "memory")
        self._say(0, 10, 61)
        self.assertEqual(self.client.blocked, "")
        self._say(channel.id, 60, 80, pack("!QB", 9, 0))
        self._say(channel.id, 60, 30, b"\x01c\0")
        self.assertEqual((self.client.closed, len(reasons)), (False, 1))

    def test_late_frames(self) -> None:
        """Frames for a channel that was closed are passed over."""
        self._deliver(77, b"x")
        self.assertFalse(self.client.closed)

    def test_nonsense(self) -> None:
        """What is not AMQP ends the connection, and all who wait on it fail."""
        opening = self.client.open_channel()
        self.client.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.failureResultOf(opening, Closed)
        self.assertFalse(self.transport.connected)
        self.flushLoggedErrors(BadFrame)

    def test_connection_closed(self) -> None:
        """When the broker closes the connection, it is answered, and who waits learns why."""
        answer = self._open().queue_declare(queue="q")
        self._sent()
        self._say(0, 10, 50, pack("!H", 320) + b"\x06forced" + pack("!HH", 0, 0))
        self.assertEqual(closed_by_broker(self.failureResultOf(answer, Closed).value), (320, "forced"))
        self.assertEqual([payload for _, _, payload in self._sent()], [pack("!HH", 10, 51)])

    def test_refused_login(self) -> None:
        """A refused login fails at once, with the broker's words."""
        login = self.client.authenticate("u", "p", mechanism="PLAIN")
        self._say(0, 10, 50, pack("!H", 403) + b"\x07refused" + pack("!HH", 0, 0))
        self.assertEqual(closed_by_broker(self.failureResultOf(login, Closed).value), (403, "refused"))

    def test_beats(self) -> None:
        """A heartbeat is sent when nothing else was, twice in an interval."""
        self._tune(heartbeat=10)
        self.clock.advance(5)
        self.transport.clear()
        self.client.dataReceived(BEAT)
        self.clock.advance(5)
        self.assertEqual(self.transport.value(), BEAT)

    def test_silence(self) -> None:
        """A broker that is silent for two intervals is given up."""
        self._tune(heartbeat=10)
        self.clock.pump([5] * 4)
        self.assertTrue(self.transport.connected)
        self.clock.advance(5)
        self.assertFalse(self.transport.connected)

    def test_deliveries_are_beats(self) -> None:
        """A connection on which only deliveries come is alive."""
        self._tune(heartbeat=10)
        channel = self._open()
        for _ in range(10):
            self.clock.advance(5)
            self._deliver(channel.id, b"x")
        self.assertTrue(self.transport.connected)

    def test_held_up(self) -> None:
        """A reactor that was held up does not take its own silence for the broker's."""
        self._tune(heartbeat=10)
        self.clock.advance(120)
        self.assertTrue(self.transport.connected)

    def test_goodbye(self) -> None:
        """The connection is closed in order, or after some time anyhow; no timer is left."""
        done = self.client.hang_up(2.0)
        self._say(0, 10, 51)
        self.successResultOf(done)
        self.assertEqual((self.transport.connected, self.clock.getDelayedCalls()), (False, []))
