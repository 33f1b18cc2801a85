"""
The kept connection, without a network.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from ldaptor.protocols import pureldap
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from fabric import errors
from fabric.users.names import Layout, below, is_id, leaf, rdns
from fabric.users.session import SUBTREE, Security, Server, Session, equal


class _Transport(StringTransport):
    """A transport of which the test is the other end."""

    protocol: Any = None

    def abortConnection(self) -> None:
        super().abortConnection()
        self.protocol.connectionLost(Failure(ConnectionLost()))


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """Keeps who waits for a connection."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, Deferred[Any]]] = []
        self.protocols: list[Any] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        self.waiting.append((factory, Deferred()))
        return self.waiting[-1][1]

    def accept(self) -> Any:
        factory, waiting = self.waiting.pop(0)
        protocol, transport = factory.buildProtocol(None), _Transport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.protocols.append(protocol)
        waiting.callback(protocol)
        return protocol

    def accept_and_bind(self) -> Any:
        protocol = self.accept()
        answer(protocol, pureldap.LDAPBindResponse(resultCode=0))
        return protocol


def answer(protocol: Any, *operations: Any) -> None:
    """Answer the request that is longest under way."""
    number = min(protocol.onwire)
    for operation in operations:
        protocol.dataReceived(pureldap.LDAPMessage(operation, id=number).toWire())


class SessionTests(SynchronousTestCase):
    """Connecting, losing, waiting."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = _Endpoint()
        server = Server("tcp:x:389", "cn=cloud", "secret", timeout=5.0, retry=1.0)
        self.session = Session(self.clock, server, self.endpoint)

    def ask(self) -> Deferred[Any]:
        return self.session.search("dc=cloud", SUBTREE, equal("uid", "ann"), ("uid",))

    def test_oneConnection(self) -> None:
        """Requests that wait for the connection share it."""
        first, second = self.ask(), self.ask()
        self.assertEqual(len(self.endpoint.waiting), 1)
        protocol = self.endpoint.accept_and_bind()
        answer(protocol, pureldap.LDAPSearchResultDone(resultCode=0))
        answer(protocol, pureldap.LDAPSearchResultDone(resultCode=0))
        self.assertEqual((self.successResultOf(first), self.successResultOf(second)), ([], []))

    def test_entries(self) -> None:
        """What is found is given with lower-case names; references are passed over."""
        got = self.ask()
        protocol = self.endpoint.accept_and_bind()
        entry = pureldap.LDAPSearchResultEntry("uid=ann", [("UID", ["ann"])])
        reference = pureldap.LDAPSearchResultReference([pureldap.LDAPString("ldap://other")])
        answer(protocol, entry, reference, pureldap.LDAPSearchResultDone(resultCode=0))
        self.assertEqual([each.attributes for each in self.successResultOf(got)], [{"uid": [b"ann"]}])

    def test_slowConnect(self) -> None:
        """A connection that is not made in time is given up, and not tried again at once."""
        got = self.ask()
        self.clock.advance(5)
        self.assertIn("no session within 5 s", self.failureResultOf(got, errors.Unavailable).value.why)
        self.failureResultOf(self.ask(), errors.Unavailable)
        self.assertEqual(len(self.endpoint.waiting), 1)
        self.clock.advance(1)
        self.assertNoResult(self.ask())
        self.assertEqual(len(self.endpoint.waiting), 2)

    def test_slowBind(self) -> None:
        """A bind that is not answered in time counts as no connection."""
        got = self.ask()
        protocol = self.endpoint.accept()
        self.clock.advance(5)
        self.failureResultOf(got, errors.Unavailable)
        self.assertTrue(protocol.transport.disconnected)

    def test_slowAnswer(self) -> None:
        """A request that is not answered in time fails, and takes the connection with it."""
        got = self.ask()
        protocol = self.endpoint.accept_and_bind()
        self.clock.advance(5)
        self.assertIn("no answer in 5 s", self.failureResultOf(got, errors.Unavailable).value.why)
        self.assertTrue(protocol.transport.disconnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_readAgain(self) -> None:
        """A search whose connection is lost is tried once more, not twice."""
        got = self.ask()
        for _ in range(2):
            self.assertNoResult(got)
            self.endpoint.accept_and_bind().connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(got, errors.Unavailable)
        self.assertEqual(self.endpoint.waiting, [])

    def test_writeOnce(self) -> None:
        """A change whose connection is lost is not sent twice."""
        got = self.session.delete("uid=ann")
        self.endpoint.accept_and_bind().connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(got, errors.Unavailable)
        self.assertEqual(self.endpoint.waiting, [])

    def test_nonsense(self) -> None:
        """A server that sends no LDAP is left."""
        got = self.session.delete("uid=ann")
        protocol = self.endpoint.accept_and_bind()
        protocol.dataReceived(b"\x30\x03\x02\x01\x01HTTP/1.1 400 Bad Request\r\n\r\n")
        self.failureResultOf(got, errors.Unavailable)
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_piecemeal(self) -> None:
        """An answer may come in any pieces."""
        got = self.session.delete("uid=ann")
        protocol = self.endpoint.accept_and_bind()
        wire = pureldap.LDAPMessage(pureldap.LDAPDelResponse(resultCode=0), id=min(protocol.onwire)).toWire()
        for position in range(len(wire)):
            protocol.dataReceived(wire[position : position + 1])
        self.assertIsNone(self.successResultOf(got))

    def test_stop(self) -> None:
        """After a stop nothing is asked, and nothing is left to happen."""
        waiting = self.ask()
        self.successResultOf(self.session.stop())
        self.failureResultOf(waiting, errors.Unavailable)
        self.failureResultOf(self.ask(), errors.Unavailable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopUnbinds(self) -> None:
        """A stop says goodbye to the server."""
        self.ask()
        protocol = self.endpoint.accept_and_bind()
        self.successResultOf(self.session.stop())
        self.assertTrue(protocol.transport.disconnecting)

    def test_secrets(self) -> None:
        """The password is not shown, and an unknown security is refused."""
        self.assertNotIn("geheim", repr(Server("tcp:x:389", "cn=cloud", "geheim")))
        self.assertRaises(ValueError, Security, "tls")

    def test_light(self) -> None:
        """ldaptor's text parsers, slow to import and full of warnings, stay out."""
        program = "import sys, fabric.users.embedded; sys.exit('pyparsing' in sys.modules)"
        path = os.pathsep.join(sys.path)
        command = [sys.executable, "-W", "error::DeprecationWarning", "-c", program]
        done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))


class NameTests(SynchronousTestCase):
    """DNs and ids."""

    def test_ids(self) -> None:
        """Ids are short and plain."""
        for good in ("a", "A.b-c_9", "x" * 64):
            self.assertTrue(is_id(good), good)
        for bad in ("", "x" * 65, "a b", "a,b", "a\n", "é", "*", "a=b", "a\\"):
            self.assertFalse(is_id(bad), bad)

    def test_rdns(self) -> None:
        """A DN's parts are found past escaped commas, without regard to case and spaces."""
        self.assertEqual(rdns("UID=Ann , ou=A\\,B,dc=x"), ("uid=ann", "ou=a\\,b", "dc=x"))
        self.assertEqual(rdns(""), ())
        self.assertEqual(leaf("uid=Ann,ou=x"), "Ann")

    def test_below(self) -> None:
        """What is below a base, and what is not."""
        self.assertEqual(below("cn=a,OU=x,dc=y", "ou=x, dc=y"), ("cn=a",))
        self.assertEqual(below("ou=x,dc=y", "ou=x,dc=y"), ())
        self.assertIsNone(below("dc=y", "ou=x,dc=y"))
        self.assertIsNone(below("cn=a,ou=xx,dc=y", "ou=x,dc=y"))

    def test_member(self) -> None:
        """Only users are members; how their DN is spelled makes no difference."""
        layout = Layout("dc=y")
        self.assertEqual(layout.member("UID=Ann, OU=Berlin,ou=users,DC=Y"), "Ann")
        for other in ("cn=Ann,ou=Users,dc=y", "uid=ann,ou=Users,dc=z", "uid=a\\,b,ou=Users,dc=y", "", "ou=Users,dc=y"):
            self.assertIsNone(layout.member(other), other)
