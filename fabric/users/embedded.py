"""
A directory inside this process: ldaptor's LDAP protocol over a tree in memory
that is kept in an LDIF file.

The client speaks to it as to any other server.  It answers on a unix socket in
a directory that only this account can enter, and only after a bind with a
password that is made at each start and never leaves the process.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from typing import Any

from ldaptor.protocols import pureldap
from ldaptor.protocols.ldap import ldaperrors, ldapserver
from twisted.internet.defer import Deferred, DeferredLock, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric import errors
from fabric.users.ldap import LDAPDirectory
from fabric.users.ldif import Malformed
from fabric.users.memo import Ages
from fabric.users.names import Layout
from fabric.users.session import Server
from fabric.users.tree import Tree, compile_filter, load

InThread = Callable[[Callable[[], None]], Deferred[None]]

_SOCKET_LIMIT = 100
"""Longest path of a unix socket, in bytes, with room to spare (Linux: 107)."""


class Kept:
    """
    A tree and the file that holds it.

    A change is on disk before it can be seen.  The file is replaced as a whole
    by a rename, so it can be loaded whenever the process ends.
    """

    log = Logger()

    def __init__(self, path: str, in_thread: InThread) -> None:
        self.tree = Tree({})
        self._path = path
        self._in_thread = in_thread
        self._lock = DeferredLock()

    def load(self) -> None:
        """
        Read the file; one that is missing is an empty tree.

        @raise Unavailable: it can't be read or makes no sense.
        """
        try:
            with open(self._path, "rb") as file:
                self.tree = load(file.read())
        except FileNotFoundError:
            self.tree = Tree({})
        except (OSError, Malformed) as why:
            raise errors.Unavailable(service="embedded directory", why=f"{self._path}: {why}") from why

    @inlineCallbacks
    def change(self, make: Callable[[Tree], Tree]) -> Generator[Deferred[Any], Any, None]:
        """
        Replace the tree by what C{make} makes of it, one change after another.
        When it fails, on disk or before, the tree is as it was.
        """
        yield self._lock.acquire()
        try:
            tree = make(self.tree)
            yield self._in_thread(lambda: replace_file(self._path, tree.text()))
            self.tree = tree
        except OSError as why:
            self.log.failure("Can't write {path}", path=self._path)
            raise ldaperrors.LDAPOther(str(why).encode()) from why
        finally:
            self._lock.release()

    def settled(self) -> Deferred[None]:
        """Fires when no change is under way."""
        return self._lock.run(succeed, None)


def replace_file(path: str, text: bytes) -> None:
    """
    Write a file anew, all or nothing, durably, for this account alone.
    """
    fresh = path + ".new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(fresh, path)
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class DirectoryProtocol(ldapserver.BaseLDAPServer):  # type: ignore[misc]
    """
    One connection.  Nothing is answered before a bind as the one account.
    """

    fail_LDAPBindRequest = pureldap.LDAPBindResponse
    fail_LDAPSearchRequest = pureldap.LDAPSearchResultDone
    fail_LDAPAddRequest = pureldap.LDAPAddResponse
    fail_LDAPModifyRequest = pureldap.LDAPModifyResponse
    fail_LDAPDelRequest = pureldap.LDAPDelResponse

    def __init__(self, kept: Kept, bind_dn: str, password: bytes, open: set[DirectoryProtocol]) -> None:
        super().__init__()
        self._kept = kept
        self._account = bind_dn.encode(), password
        self._bound = False
        self._open = open

    def connectionMade(self) -> None:
        super().connectionMade()
        self._open.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._open.discard(self)
        super().connectionLost(reason)

    def queue(self, id: int, op: Any) -> None:
        """Answer, unless nobody is there any more."""
        if self.connected:
            super().queue(id, op)

    def handle(self, msg: Any) -> None:
        """The one gate: see that it is bound."""
        name = type(msg.value).__name__
        if not isinstance(msg.value, pureldap.LDAPProtocolRequest):
            self.transport.abortConnection()
        elif self._bound or name in ("LDAPBindRequest", "LDAPUnbindRequest"):
            super().handle(msg)
        elif msg.value.needs_answer:
            code = ldaperrors.LDAPInsufficientAccessRights.resultCode
            self.queue(msg.id, self._callErrorHandler(name, code, b"bind first"))

    def handle_LDAPBindRequest(self, request: Any, controls: Any, reply: Any) -> Any:
        """Let in the one account (RFC 4511, 4.2)."""
        self._bound = False
        self.checkControls(controls)
        if request.sasl:
            raise ldaperrors.LDAPAuthMethodNotSupported()
        dn, password = self._account
        right = hmac.compare_digest(bytes(request.auth), password)
        if not (right and bytes(request.dn) == dn):
            raise ldaperrors.LDAPInvalidCredentials()
        self._bound = True
        return pureldap.LDAPBindResponse(resultCode=0)

    def handle_LDAPUnbindRequest(self, request: Any, controls: Any, reply: Any) -> None:
        """Close."""
        self.transport.loseConnection()

    def handle_LDAPAbandonRequest(self, request: Any, controls: Any, reply: Any) -> None:
        """Nothing takes long enough to be abandoned."""

    def handle_LDAPSearchRequest(self, request: Any, controls: Any, reply: Any) -> Any:
        """Send what is found, all in one page."""
        self.checkControls(controls)
        match = compile_filter(request.filter)
        wanted = {name.lower() for name in request.attributes} - {b"*"}
        every = not wanted or b"*" in request.attributes
        for entry in self._kept.tree.search(request.baseObject.decode(), request.scope, match):
            named = [(entry.names[low], held) for low, held in entry.values.items() if every or low in wanted]
            reply(pureldap.LDAPSearchResultEntry(entry.dn, named))
        return pureldap.LDAPSearchResultDone(resultCode=0)

    def handle_LDAPAddRequest(self, request: Any, controls: Any, reply: Any) -> Any:
        """Make an entry."""
        self.checkControls(controls)
        pairs = [(name.value, value.value) for name, values in request.attributes for value in values]
        dn = request.entry.decode()
        return self._change(lambda tree: tree.add(dn, pairs), pureldap.LDAPAddResponse)

    def handle_LDAPModifyRequest(self, request: Any, controls: Any, reply: Any) -> Any:
        """Change an entry's attributes."""
        self.checkControls(controls)
        changes = [
            (kind.value, change[0].value, [value.value for value in change[1]]) for kind, change in request.modification
        ]
        dn = request.object.decode()
        return self._change(lambda tree: tree.modify(dn, changes), pureldap.LDAPModifyResponse)

    def handle_LDAPDelRequest(self, request: Any, controls: Any, reply: Any) -> Any:
        """Remove an entry."""
        self.checkControls(controls)
        dn = request.value.decode()
        return self._change(lambda tree: tree.delete(dn), pureldap.LDAPDelResponse)

    def _change(self, make: Callable[[Tree], Tree], answer: Any) -> Deferred[Any]:
        return self._kept.change(make).addCallback(lambda _: answer(resultCode=0))


class EmbeddedDirectoryServer:
    """
    The server, its socket and its file C{users.ldif}.
    """

    def __init__(
        self, reactor: Any, directory: str, layout: Layout | None = None, in_thread: InThread = deferToThread
    ) -> None:
        """
        @param directory: where the file is kept; made, for this account alone,
            when missing.
        @param in_thread: runs what blocks, one call at a time.
        """
        self.layout = layout or Layout()
        self.bind_dn = f"cn=cloud,{self.layout.base}"
        self._reactor = reactor
        self._directory = os.path.abspath(directory)
        self._password = os.urandom(24).hex()
        self._kept = Kept(os.path.join(self._directory, "users.ldif"), in_thread)
        self._open: set[DirectoryProtocol] = set()
        self._port: IListeningPort | None = None
        self._lock: int | None = None
        self._sockets = ""

    @property
    def path(self) -> str:
        """Of the socket, once started."""
        return os.path.join(self._sockets or self._directory, "ldap.sock")

    @property
    def server(self) -> Server:
        """What a client needs to know."""
        path = self.path.replace("\\", "\\\\").replace(":", "\\:")
        return Server(f"unix:path={path}", self.bind_dn, self._password)

    def client(self, ages: Ages | None = None) -> LDAPDirectory:
        """A directory that speaks to this server."""
        return LDAPDirectory(self._reactor, self.server, self.layout, ages)

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        """
        Load the file and listen.

        @raise Unavailable: the file is damaged, or another process has it.
        """
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        os.chmod(self._directory, 0o700)
        self._claim()
        try:
            self._kept.load()
        except errors.Unavailable:
            self._let_go()
            raise
        if len(os.fsencode(self.path)) > _SOCKET_LIMIT:
            self._sockets = tempfile.mkdtemp(prefix="cloud-ldap-")
        if os.path.exists(self.path):
            os.unlink(self.path)
        factory = Factory.forProtocol(self._protocol)
        factory.noisy = False
        self._port = yield UNIXServerEndpoint(self._reactor, self.path, mode=0o600).listen(factory)

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """Stop listening, finish the change under way, and let the file go."""
        port, self._port = self._port, None
        if port is not None:
            yield maybeDeferred(port.stopListening)
        yield self._kept.settled()
        for connection in list(self._open):
            connection.transport.loseConnection()
        if self._sockets:
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _protocol(self) -> DirectoryProtocol:
        return DirectoryProtocol(self._kept, self.bind_dn, self._password.encode(), self._open)

    def _claim(self) -> None:
        """
        See that no other process has the file.  The lock ends with the process.
        """
        self._lock = os.open(os.path.join(self._directory, "users.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as why:
            self._let_go()
            text = f"another process uses {self._directory}"
            raise errors.Unavailable(service="embedded directory", why=text) from why
