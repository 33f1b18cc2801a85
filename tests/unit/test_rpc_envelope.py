"""
The envelope, remotes and deadlines.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface
from zope.interface.verify import verifyObject

from fabric.errors import NoCapacity, RemoteFailure
from fabric.rpc.deadlines import Deadlines
from fabric.rpc.envelope import (
    VERSION,
    BadEnvelope,
    address_of,
    decode_reply,
    decode_request,
    encode_answer,
    encode_error,
    encode_request,
)
from fabric.rpc.interface import Address
from fabric.rpc.remote import Remotes
from fabric.testing.echo import IEchoWorker

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@dataclasses.dataclass
class Point:
    """Something that is not a JSON value, though orjson could write it."""

    x: int = 1


class EnvelopeTests(SynchronousTestCase):
    """
    What a message looks like.
    """

    @given(st.text(), st.dictionaries(st.text(), _VALUES, max_size=3), st.text(), st.none() | st.integers(0, 2**40))
    def test_request(self, method: str, arguments: dict[str, Any], request_id: str, deadline: float | None) -> None:
        """A request is read as it was written, whatever is in it."""
        request = decode_request(encode_request(method, arguments, request_id, deadline))
        self.assertEqual(
            (request.method, request.arguments, request.request_id, request.deadline),
            (method, arguments, request_id, deadline),
        )

    @given(_VALUES)
    def test_answer(self, value: Any) -> None:
        """An answer is read as it was written."""
        self.assertEqual(decode_reply(encode_answer(value)), value)

    def test_error(self) -> None:
        """An error is raised again as the same class with the same fields."""
        error = self.assertRaises(NoCapacity, decode_reply, encode_error(NoCapacity(reasons={"h": "full"})))
        self.assertEqual(error.reasons, {"h": "full"})

    def test_error_not_json(self) -> None:
        """An error with a field that JSON can't say becomes a RemoteFailure."""
        error = NoCapacity(reasons={"h": object()})  # type: ignore[dict-item]
        self.assertRaises(RemoteFailure, decode_reply, encode_error(error))

    def test_unknown_error(self) -> None:
        """An error of a newer version becomes a RemoteFailure that names it."""
        body = json.dumps({"v": VERSION, "error": {"error": "Overheated", "fields": {}}}).encode()
        self.assertIn("Overheated", self.assertRaises(RemoteFailure, decode_reply, body).what)

    def test_version_before(self) -> None:
        """A request of the version before is read, with defaults for what it lacks."""
        request = decode_request(json.dumps({"v": VERSION - 1, "method": "m"}).encode())
        self.assertEqual((request.arguments, request.request_id, request.deadline), ({}, "", None))

    def test_unknown_keys(self) -> None:
        """Keys that are not known are ignored."""
        body = json.dumps({"v": VERSION, "method": "m", "args": {}, "colour": "red"}).encode()
        self.assertEqual(decode_request(body).method, "m")

    def test_bad(self) -> None:
        """What is no envelope is BadEnvelope, or RemoteFailure for a reply."""
        bodies = [b"", b"\xff", b"[]", b"1", b"{}", b'{"v": 99, "method": "m"}', b'{"v": 1, "method": 3}']
        bodies += [b'{"v": 1, "method": "m", "args": []}', b'{"v": 1, "method": "m", "deadline": "soon"}']
        for body in bodies:
            self.assertRaises(BadEnvelope, decode_request, body)
        self.assertRaises(RemoteFailure, decode_reply, b"what?")

    def test_no_guessing(self) -> None:
        """What orjson would turn into something else is refused."""
        for value in (Point(), datetime.now(UTC), b"bytes", {1, 2}):
            self.assertRaises(TypeError, encode_request, "m", {"value": value}, "", None)
            self.assertRaises(TypeError, encode_answer, value)

    def test_address(self) -> None:
        """A routing key stands for the address that made it; hosts may have dots."""
        for address in (Address("compute"), Address("compute", "h1"), Address("compute", "h1.example.org")):
            self.assertEqual(address_of(address.routing_key), address)


class IUnfit(Interface):
    """An interface that can't be called over a queue."""

    def anything(*args: Any) -> None:
        """Takes arguments without names."""


class IClash(Interface):
    """An interface that can't be called over a queue."""

    def method(context: str) -> None:
        """Its argument's name is taken."""


class RemoteTests(SynchronousTestCase):
    """
    Remotes.
    """

    def setUp(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.remotes = Remotes()
        self.remote = self.remotes.remote(IEchoWorker, self._send)

    def _send(self, method: str, arguments: dict[str, Any]) -> Deferred[Any]:
        self.sent.append((method, arguments))
        return succeed(None)

    def test_interface(self) -> None:
        """A remote provides the interface."""
        verifyObject(IEchoWorker, self.remote)

    def test_names(self) -> None:
        """Arguments are sent by name, however they were given; defaults are left to the worker."""
        self.remote.echo("a", 2)
        self.remote.echo(value="a")
        self.assertEqual(self.sent, [("echo", {"value": "a", "times": 2}), ("echo", {"value": "a"})])

    def test_misfit(self) -> None:
        """A call that does not fit raises TypeError, which names what is wrong, and nothing is sent."""
        self.assertIn("colour", str(self.assertRaises(TypeError, self.remote.echo, "a", colour="red")))
        self.assertIn("value", str(self.assertRaises(TypeError, self.remote.echo, times=2)))
        self.assertRaises(TypeError, self.remote.echo, "a", value="b")
        self.assertRaises(TypeError, self.remote.echo, "a", 1, 2)
        self.assertEqual(self.sent, [])

    def test_one_class(self) -> None:
        """The class for an interface is built once."""
        self.assertIs(type(self.remotes.remote(IEchoWorker, self._send)), type(self.remote))

    def test_unfit(self) -> None:
        """An interface that can't be sent by name is refused."""
        for interface in (IUnfit, IClash):
            self.assertRaises(TypeError, self.remotes.remote, interface, self._send)


class DeadlinesTests(SynchronousTestCase):
    """
    Many deadlines, one timer.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.expired: list[str] = []
        self.deadlines: Deadlines[str] = Deadlines(self.clock, self.expired.append)

    def test_order(self) -> None:
        """Each key comes at its time, whatever the order in which they were added."""
        for seconds in (3, 1, 2):
            self.deadlines.add(seconds, str(seconds))
        seen = []
        for _ in range(3):
            self.clock.advance(1)
            seen.append(list(self.expired))
        self.assertEqual(seen, [["1"], ["1", "2"], ["1", "2", "3"]])

    def test_one_timer(self) -> None:
        """There is one timer, however many keys; none when there is nothing to wait for."""
        for seconds in range(10, 0, -1):
            self.deadlines.add(seconds, "key")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([1] * 10)
        self.assertEqual((len(self.expired), self.clock.getDelayedCalls()), (10, []))

    def test_stop(self) -> None:
        """Nothing is left after stop()."""
        self.deadlines.add(1, "key")
        self.deadlines.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
