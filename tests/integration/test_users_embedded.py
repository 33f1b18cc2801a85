"""
The embedded directory, over its real socket.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Generator
from typing import Any

import attrs
from ldaptor.protocols import pureldap
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import TestCase

from fabric import errors
from fabric.testing.users import DirectoryContract
from fabric.users.bootstrap import bootstrap
from fabric.users.embedded import EmbeddedDirectoryServer
from fabric.users.ldap import LDAPDirectory
from fabric.users.session import SUBTREE, Session, equal

Steps = Generator[Deferred[Any], Any, None]


class EmbeddedDirectoryTests(DirectoryContract, TestCase):
    """The contract of a directory, on the embedded server."""

    @inlineCallbacks
    def make_directory(self) -> Generator[Deferred[Any], Any, LDAPDirectory]:
        path = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, path)
        server = EmbeddedDirectoryServer(reactor, path)
        yield server.start()
        self.addCleanup(server.stop)
        directory = server.client()
        yield directory.prepare()
        return directory


class EmbeddedServerTests(TestCase):
    """What the embedded server promises beyond the contract."""

    def setUp(self) -> None:
        self.path = os.path.join(tempfile.mkdtemp(), "people")
        self.addCleanup(shutil.rmtree, os.path.dirname(self.path))

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, tuple[EmbeddedDirectoryServer, LDAPDirectory]]:
        server = EmbeddedDirectoryServer(reactor, self.path)
        yield server.start()
        self.addCleanup(server.stop)
        directory = server.client()
        self.addCleanup(directory.stop)
        return server, directory

    @inlineCallbacks
    def test_private(self) -> Steps:
        """Only this account can reach the socket and read the file."""
        server, directory = yield self.start()
        yield bootstrap(directory)
        for path, mode in ((self.path, 0o700), (server.path, 0o600), (f"{self.path}/users.ldif", 0o600)):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), mode, path)

    @inlineCallbacks
    def test_bootstrap(self) -> Steps:
        """The first user is cloudadmin in the first project, and stays the same."""
        _, directory = yield self.start()
        first = yield bootstrap(directory)
        self.assertEqual((yield bootstrap(directory)), first)
        got = yield directory.identify(first.access_key)
        self.assertEqual((got.user, got.project), ("admin", "admin"))
        self.assertEqual(got.roles, {"cloudadmin", "projectmanager"})

    @inlineCallbacks
    def test_restart(self) -> Steps:
        """After a restart everybody is there, under another bind password."""
        server, directory = yield self.start()
        admin = yield bootstrap(directory)
        yield directory.create_project("p", "admin", "a,b*(c)\\\nGröße ", ())
        password = server.server.password
        yield directory.stop()
        yield server.stop()
        server, directory = yield self.start()
        self.assertNotEqual(server.server.password, password)
        self.assertEqual((yield directory.user("admin")), admin)
        self.assertEqual((yield directory.project("p")).description, "a,b*(c)\\\nGröße ")

    @inlineCallbacks
    def test_clientSurvivesRestart(self) -> Steps:
        """A client whose connection was lost makes another."""
        server, directory = yield self.start()
        admin = yield bootstrap(directory)
        for connection in list(server._open):
            connection.transport.abortConnection()
        self.assertEqual((yield directory.users()), [admin])

    @inlineCallbacks
    def test_oddProjects(self) -> Steps:
        """
        An entry whose name can't be a project's id, as one that others make who may make groups, is no project: nobody
        acts in C{*all}, under which operators see the whole cloud, for being a member of a group of that name.
        """
        _, directory = yield self.start()
        yield directory.prepare()
        user = yield directory.create_user("ann", None, None, False)
        layout, session = directory._layout, directory._session
        ann = layout.user("ann")
        for name in ("*all", "Big Data"):
            kinds = ["top", "groupOfNames", "novaProject"]
            entry = {"objectClass": kinds, "cn": [name], "projectManager": [ann], "member": [ann]}
            yield session.add(layout.project(name), entry)
            yield self.assertFailure(directory.identify(f"{user.access_key}:{name}"), errors.NotFound)
        yield self.assertFailure(directory.identify(user.access_key), errors.Denied)
        self.assertEqual((yield directory.projects("ann")), [])

    @inlineCallbacks
    def test_otherBinds(self) -> Steps:
        """Other names, other passwords and none are let in for nothing."""
        server, directory = yield self.start()
        admin = yield bootstrap(directory)
        right = server.server
        for dn, password in (
            (right.bind_dn, "wrong"),
            (right.bind_dn, ""),
            ("", ""),
            ("", right.password),
            (server.layout.user("admin"), admin.secret_key),
        ):
            session = Session(reactor, attrs.evolve(right, bind_dn=dn, password=password))
            self.addCleanup(session.stop)
            why = yield self.assertFailure(
                session.search(server.layout.base, SUBTREE, equal("uid", "admin"), ()), errors.Unavailable
            )
            self.assertIn("invalidCredentials", why.why)
        self.flushLoggedErrors()

    @inlineCallbacks
    def test_unboundRequests(self) -> Steps:
        """Every kind of request is refused before a bind, and after a failed one."""
        server, directory = yield self.start()
        yield bootstrap(directory)
        yield directory._session.search(server.layout.base, SUBTREE, equal("uid", "admin"), ())
        client = directory._session._client
        answer = yield client.send(pureldap.LDAPBindRequest(dn=server.bind_dn, auth="wrong"))
        self.assertEqual(answer.resultCode, 49)
        dn = server.layout.user("admin")
        for request in (
            pureldap.LDAPSearchRequest(baseObject=dn, filter=equal("uid", "admin")),
            pureldap.LDAPAddRequest(entry=dn, attributes=[]),
            pureldap.LDAPModifyRequest(object=dn, modification=[]),
            pureldap.LDAPDelRequest(entry=dn),
            pureldap.LDAPModifyDNRequest(entry=dn, newrdn="uid=x", deleteoldrdn=1),
            pureldap.LDAPCompareRequest(entry=dn, ava=equal("uid", "admin")),
            pureldap.LDAPPasswordModifyRequest(userIdentity=dn, newPasswd="x"),
            pureldap.LDAPStartTLSRequest(),
        ):
            answer = yield client.send(request)
            self.assertEqual(answer.resultCode, 50, request)
        self.assertEqual((yield client.send(pureldap.LDAPBindRequest(dn="", auth=""))).resultCode, 49)

    @inlineCallbacks
    def test_oneProcess(self) -> Steps:
        """A second server on one directory is refused while the first runs."""
        yield self.start()
        why = yield self.assertFailure(EmbeddedDirectoryServer(reactor, self.path).start(), errors.Unavailable)
        self.assertIn(self.path, why.why)

    @inlineCallbacks
    def test_damagedFile(self) -> Steps:
        """A file that makes no sense is named, and left as it is."""
        os.makedirs(self.path)
        with open(f"{self.path}/users.ldif", "wb") as file:
            file.write(b"dn: dc=cloud\nnonsense")
        why = yield self.assertFailure(EmbeddedDirectoryServer(reactor, self.path).start(), errors.Unavailable)
        self.assertIn("users.ldif", why.why)

    @inlineCallbacks
    def test_longPath(self) -> Steps:
        """A directory whose path is too long for a socket works."""
        self.path = os.path.join(self.path, "x" * 120)
        server, directory = yield self.start()
        yield bootstrap(directory)
        sockets = os.path.dirname(server.path)
        self.assertEqual(stat.S_IMODE(os.stat(sockets).st_mode), 0o700)
        yield server.stop()
        self.assertFalse(os.path.exists(sockets))

    @inlineCallbacks
    def test_unwritten(self) -> Steps:
        """A change that can't be written has not happened."""
        _server, directory = yield self.start()
        yield bootstrap(directory)
        os.mkdir(f"{self.path}/users.ldif.new")
        yield self.assertFailure(directory.create_user("ann", None, None, False), errors.Unavailable)
        self.flushLoggedErrors(OSError)
        self.assertEqual([user.id for user in (yield directory.users())], ["admin"])
        os.rmdir(f"{self.path}/users.ldif.new")
        yield directory.create_user("ann", None, None, False)
        self.assertEqual([user.id for user in (yield directory.users())], ["admin", "ann"])


WRITER = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from fabric.users.bootstrap import bootstrap
from fabric.users.embedded import EmbeddedDirectoryServer

@inlineCallbacks
def main():
    server = EmbeddedDirectoryServer(reactor, sys.argv[1])
    yield server.start()
    directory = server.client()
    yield bootstrap(directory)
    have = len((yield directory.users()))
    for n in range(have, 1_000_000):
        yield directory.create_user(f"u{n:06}", None, None, False)
        print(f"u{n:06}", flush=True)

reactor.callWhenRunning(lambda: main().addErrback(lambda why: (why.printTraceback(), reactor.stop())))
reactor.run()
"""


class _Writer(ProcessProtocol):
    def __init__(self, lines: int) -> None:
        self.lines = lines
        self.written = b""
        self.errors = b""
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.written += data
        if self.written.count(b"\n") >= self.lines and self.transport.pid:
            self.transport.signalProcess(signal.SIGKILL)

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(None)


class KilledServerTests(TestCase):
    """The file after C{kill -9}."""

    @inlineCallbacks
    def test_killed(self) -> Steps:
        """Who was confirmed before a kill is there after it, each time."""
        path = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, path)
        confirmed: set[str] = set()
        for round in range(5):
            writer = _Writer(5 + 3 * round)
            environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
            reactor.spawnProcess(writer, sys.executable, [sys.executable, "-c", WRITER, path], env=environment)
            yield writer.ended
            self.assertEqual(writer.errors, b"")
            confirmed |= set(writer.written.decode().split("\n")[:-1])
            server = EmbeddedDirectoryServer(reactor, path)
            yield server.start()
            directory = server.client()
            found = {user.id for user in (yield directory.users())}
            yield directory.stop()
            yield server.stop()
            self.assertLessEqual(confirmed, found)
