"""
What a hostile client can do to the site: be refused, and nothing else.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from fabric.api.interface import IDoor
from fabric.api.site import Limits, Site

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"


class Transport(StringTransport):
    """A connection that can be aborted."""

    def abortConnection(self) -> None:
        """Note that it ends."""
        self.disconnecting = True


@implementer(IDoor)
class Door:
    """Answers with the body."""

    def handle(self, exchange: Any) -> None:
        """See L{IDoor.handle}."""
        exchange.answer(200, b"body=" + exchange.body, b"text/plain")

    def refuse(self, exchange: Any, status: int, why: str) -> None:
        """See L{IDoor.refuse}."""
        exchange.answer(status, why.encode(), b"text/plain")


class HostileTests(SynchronousTestCase):
    """
    Requests that no honest client sends.
    """

    def setUp(self) -> None:
        self.clock = Clock()

    def send(self, *pieces: bytes) -> Transport:
        """A fresh connection after these came on it."""
        limits = Limits(body=1000, header=8192, headers=20, idle=60.0, receive=30.0)
        channel = Site(self.clock, {"/": Door()}, limits).buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        transport = Transport()
        channel.makeConnection(transport)
        for piece in pieces:
            if not transport.disconnecting:
                channel.dataReceived(piece)
        return transport

    def refused(self, *pieces: bytes) -> None:
        """See that no door was asked, and the connection ends."""
        transport = self.send(*pieces)
        self.assertTrue(transport.disconnecting, pieces[0][:100])
        self.assertNotIn(b" 200 OK", transport.value(), pieces[0][:100])

    def test_length_that_differs(self) -> None:
        """Two lengths, or a length and chunks, are refused: the next request could be hidden in a body."""
        chunked, length = b"Transfer-Encoding: chunked\r\n", b"Content-Length: 2\r\n"
        for headers in (length + chunked, chunked + length, length + b"Content-Length: 3\r\n", length + length):
            self.refused(HEAD + headers + b"\r\n2\r\nhi\r\n0\r\n\r\n")

    def test_length_that_is_none(self) -> None:
        """A length is digits, and not thousands of them."""
        for length in (b"+2", b"-2", b"0_2", b"0x2", b"2.0", b"\xb2", b"9" * 5000, b"9" * 8000):
            self.refused(HEAD + b"Content-Length: " + length + b"\r\n\r\nhi")

    def test_chunks(self) -> None:
        """Chunks are read by the letter of HTTP, and bounded: their sizes, what follows a size, and trailers."""
        head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        self.assertIn(b"body=hi", self.send(head + b"2\r\nhi\r\n0\r\n\r\n").value())
        for body in (
            b"0x2\r\nhi\r\n0\r\n\r\n",
            b"-2\r\nhi\r\n0\r\n\r\n",
            b"2;" + b"a" * 100_000,
            b"f" * 100_000,
            b"0\r\n" + b"a: b\r\n" * 50_000,
            b"%x\r\n" % 900_000 + b"x" * 900_000,
        ):
            self.refused(head + body)

    def test_other_codings(self) -> None:
        """A coding of the body that is not known is refused."""
        for coding in (b"gzip, chunked", b"chunked, chunked", b"\xffchunked", b"xchunked"):
            self.refused(HEAD + b"Transfer-Encoding: " + coding + b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n")

    def test_headers(self) -> None:
        """Names that are no tokens, NULs, too many headers and too long ones are refused."""
        for header in (
            b"X-\xc3\xa9: 1\r\n",
            b"X-\x00: 1\r\n",
            b"X-A: \x00\r\n",
            b"X-A\r\n",
            b": x\r\n",
            b"Content-Length : 0\r\n",
            b"A: b\r\n" * 30,
            b"A: " + b"x" * 9000 + b"\r\n",
        ):
            self.refused(HEAD + header + b"\r\n")

    def test_request_lines(self) -> None:
        """A request line that is none is refused."""
        for line in (b"GET /", b"GET /\x00 HTTP/1.1", b"G\xffT / HTTP/1.1", b"GET / HTTP/9.9", b"PRI * HTTP/2.0"):
            self.refused(line + b"\r\nHost: a\r\n\r\n")
        self.refused(b"P" * 20_000)

    def test_slow(self) -> None:
        """A request that comes byte by byte is given up after a while, body or head."""
        for start in (b"POST / HT", HEAD + b"Content-Length: 100\r\n\r\n"):
            channel = Site(self.clock, {"/": Door()}, Limits(receive=30.0)).buildProtocol(None)
            transport = Transport()
            channel.makeConnection(transport)
            channel.dataReceived(start)
            for _ in range(7):
                self.clock.advance(5.0)
                if not transport.disconnecting:
                    channel.dataReceived(b"x")
            self.assertTrue(transport.disconnecting)

    def test_pipelined(self) -> None:
        """Requests sent without waiting are answered in turn, each with its own body."""
        one = HEAD + b"Content-Length: 1\r\n\r\n"
        answer = self.send(one + b"1" + one + b"2" + one + b"3").value()
        self.assertEqual([b"1", b"2", b"3"], [part[:1] for part in answer.split(b"body=")[1:]])

    @given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
    def test_anything(self, pieces: list[bytes], headed: bool) -> None:
        """Whatever comes, nothing is raised."""
        self.send(*([HEAD] if headed else []), *pieces)
