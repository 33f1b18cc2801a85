"""
One kept connection to an LDAP server.

The connection is made, secured and bound when it is first needed, and again
after it was lost.  Every step is bounded in time.  Filters are built as
values, never as text, so nothing that a caller gives can be taken for syntax.

Sources: RFC 4511 (protocol, StartTLS), RFC 2696 (paged results).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import attrs
from ldaptor.protocols import pureber, pureldap
from ldaptor.protocols.ldap import ldapclient, ldaperrors
from service_identity import VerificationError
from twisted.internet.defer import Deferred, TimeoutError, fail, inlineCallbacks, succeed
from twisted.internet.endpoints import clientFromString, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric import errors

PAGED = b"1.2.840.113556.1.4.319"
ONE, SUBTREE, BASE = 1, 2, 0
"""Scopes of a search."""

NO_SUCH_ATTRIBUTE = 16
CONSTRAINT_VIOLATION = 19
VALUE_EXISTS = 20
NO_SUCH_OBJECT = 32
OBJECT_CLASS_VIOLATION = 65
NOT_LEAF = 66
ENTRY_EXISTS = 68
"""Result codes that callers act upon (RFC 4511, A.1)."""

ADD, DELETE, REPLACE = 0, 1, 2
"""Kinds of a change in a modify request."""

Change = tuple[int, str, Sequence[str]]
Attributes = Mapping[str, Iterable[str]]


class Refused(Exception):
    """
    The server answered with a result code other than success.

    @ivar code: RFC 4511's C{resultCode}.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@attrs.frozen
class Entry:
    """
    What a search found.

    @ivar attributes: values by lower-case name.
    """

    dn: str
    attributes: dict[str, list[bytes]]


@attrs.frozen
class Security:
    """
    How the connection is kept private.  The server's certificate is always
    verified.

    @ivar mode: C{""} for none (a unix socket, loopback), C{"starttls"}, or
        C{"ldaps"}.
    @ivar hostname: the name that the certificate must be for.
    @ivar authority: a PEM file with the authorities to trust; C{""} for those
        of the platform.
    """

    mode: str = attrs.field(default="", validator=attrs.validators.in_(("", "starttls", "ldaps")))
    hostname: str = ""
    authority: str = ""

    def options(self) -> Any:
        """Connection creator for Twisted's TLS."""
        if not self.authority:
            return optionsForClientTLS(self.hostname, platformTrust())
        with open(self.authority, encoding="ascii", errors="replace") as file:
            parts = file.read().split("-----BEGIN CERTIFICATE-----")[1:]
        roots = [Certificate.loadPEM(("-----BEGIN CERTIFICATE-----" + part).encode()) for part in parts]
        return optionsForClientTLS(self.hostname, trustRootFromCertificates(roots))


@attrs.frozen
class Server:
    """
    Which server, and as whom.

    @ivar endpoint: a Twisted client endpoint string, such as
        C{tcp:ldap.example.com:389} or C{unix:/run/slapd/ldapi}.
    @ivar timeout: seconds that each request may take, connecting included.
    @ivar retry: seconds for which a failed connection is not tried again.
    @ivar page: entries asked for at a time.
    """

    endpoint: str
    bind_dn: str
    password: str = attrs.field(repr=False)
    security: Security = Security()
    timeout: float = 5.0
    retry: float = 1.0
    page: int = 500


def equal(name: str, value: str) -> Any:
    """A filter: the attribute has the value, whatever characters it has."""
    return pureldap.LDAPFilter_equalityMatch(
        attributeDesc=pureldap.LDAPAttributeDescription(name),
        assertionValue=pureldap.LDAPAssertionValue(value.encode()),
    )


def both(*filters: Any) -> Any:
    """A filter: all of these."""
    return pureldap.LDAPFilter_and(list(filters))


class _Client(ldapclient.LDAPClient):  # type: ignore[misc]
    """
    ldaptor's client, which here does not encode each answer again to see
    whether it is empty, closes the connection on what it can't read, and
    tells when it is gone.
    """

    buffer: bytes

    def __init__(self, gone: Callable[[_Client, Failure], None]) -> None:
        super().__init__()
        self._gone = gone

    def dataReceived(self, recd: bytes) -> None:
        self.buffer += recd
        try:
            while self.buffer:
                message, size = pureber.berDecodeObject(self.berdecoder, self.buffer)
                self.buffer = self.buffer[size:]
                if message is not None and (message.id == 0 or message.id in self.onwire):
                    self.handle(message)
        except pureber.BERExceptionInsufficientData:
            pass
        except Exception:
            self.buffer = b""
            Session.log.failure("The LDAP server sent what can't be read")
            self.transport.abortConnection()

    def unsolicitedNotification(self, msg: Any) -> None:
        """A notice of disconnection (RFC 4511, 4.4.1): the close follows."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone(self, reason)
        super().connectionLost(reason)


class Session:
    """
    The requests of LDAP, over one connection that is kept.
    """

    log = Logger()

    def __init__(self, reactor: Any, server: Server, endpoint: IStreamClientEndpoint | None = None) -> None:
        """
        @param endpoint: instead of what C{server.endpoint} says, for tests.
        """
        self._clock: IReactorTime = reactor
        self._reactor = reactor
        self._server = server
        self._endpoint = endpoint
        self._client: _Client | None = None
        self._connecting: list[Deferred[_Client]] | None = None
        self._opening: Deferred[None] | None = None
        self._failed: tuple[float, str] | None = None
        self._lost = ""
        self._stopped = False

    def search(self, base: str, scope: int, filter: Any, attributes: Sequence[str]) -> Deferred[list[Entry]]:
        """
        All entries that match, read in pages.  Tried twice when the connection
        is lost.

        @raise Refused: such as L{NO_SUCH_OBJECT} for C{base}.
        @raise Unavailable: no answer.
        """
        request = pureldap.LDAPSearchRequest(
            baseObject=base, scope=scope, filter=filter, attributes=[name.encode() for name in attributes]
        )
        return self._request(lambda client: self._pages(client, request), again=True)

    def add(self, dn: str, attributes: Attributes) -> Deferred[None]:
        """
        Make an entry.

        @raise Refused: such as L{ENTRY_EXISTS}.
        @raise Unavailable: no answer; it may or may not be made.
        """
        pairs = [
            (pureldap.LDAPAttributeDescription(name), pureber.BERSet([pureldap.LDAPAttributeValue(v) for v in values]))
            for name, values in attributes.items()
        ]
        return self._write(pureldap.LDAPAddRequest(entry=dn, attributes=pairs))

    def modify(self, dn: str, changes: Iterable[Change]) -> Deferred[None]:
        """
        Change an entry's attributes, all or none.  A replace by no values
        removes the attribute.
        """
        modification = [
            pureber.BERSequence(
                [
                    pureber.BEREnumerated(kind),
                    pureber.BERSequence(
                        [
                            pureldap.LDAPAttributeDescription(name),
                            pureber.BERSet([pureldap.LDAPAttributeValue(value) for value in values]),
                        ]
                    ),
                ]
            )
            for kind, name, values in changes
        ]
        return self._write(pureldap.LDAPModifyRequest(object=dn, modification=modification))

    def delete(self, dn: str) -> Deferred[None]:
        """Remove an entry that has none under it."""
        return self._write(pureldap.LDAPDelRequest(entry=dn))

    def stop(self) -> Deferred[None]:
        """Unbind and close.  Requests under way fail with C{Unavailable}."""
        self._stopped = True
        if self._opening is not None:
            self._opening.cancel()
        client, self._client = self._client, None
        if client is not None and client.connected:
            client.send_noResponse(pureldap.LDAPUnbindRequest())
            client.transport.loseConnection()
        return succeed(None)

    def _write(self, operation: Any) -> Deferred[None]:
        def send(client: _Client) -> Deferred[None]:
            answer: Deferred[None] = client.send(operation).addCallback(_succeeded)
            return answer

        return self._request(send, again=False)

    @inlineCallbacks
    def _request(self, send: Callable[[_Client], Deferred[Any]], again: bool) -> Generator[Deferred[Any], Any, Any]:
        for last in (not again, True):
            client = yield self._connected()
            try:
                return (yield self._bounded(send(client), client))
            except (Refused, errors.Unavailable):
                raise
            except Exception as why:
                if client.connected:
                    raise
                if last or self._stopped:
                    raise self._unavailable(f"connection lost: {why}") from why
        raise AssertionError("not reached")

    def _bounded(self, answer: Deferred[Any], client: _Client) -> Deferred[Any]:
        """
        Give up in time, and with the connection: what came late on it would
        be of no use.
        """

        def late(result: Any, seconds: float) -> Any:
            if isinstance(result, Failure) and result.check(Refused):
                return result
            client.transport.abortConnection()
            return Failure(self._unavailable(f"no answer in {seconds:g} s"))

        return answer.addTimeout(self._server.timeout, self._clock, late)

    @inlineCallbacks
    def _pages(self, client: _Client, request: Any) -> Generator[Deferred[Any], Any, list[Entry]]:
        found: list[Entry] = []
        cookie = b""
        while True:
            value = pureber.BERSequence([pureber.BERInteger(self._server.page), pureber.BEROctetString(cookie)])
            cookie = yield _one_page(client, request, [(PAGED, None, value.toWire())], found)
            if not cookie:
                return found

    def _connected(self) -> Deferred[_Client]:
        """
        The connection, made when there is none; those who wait share it.
        """
        if self._client is not None:
            return succeed(self._client)
        if self._stopped:
            return fail(self._unavailable("stopped"))
        if self._failed is not None and self._clock.seconds() < self._failed[0]:
            return fail(self._unavailable(self._failed[1]))
        waiter: Deferred[_Client] = Deferred()
        if self._connecting is not None:
            self._connecting.append(waiter)
            return waiter
        self._connecting = [waiter]
        self._opening = self._open().addTimeout(self._server.timeout, self._clock)
        self._opening.addCallbacks(self._opened, self._not_opened)
        return waiter

    def _opened(self, _: None) -> None:
        assert self._client is not None and self._connecting is not None
        self._failed = self._opening = None
        waiting, self._connecting = self._connecting, None
        for each in waiting:
            each.callback(self._client)

    def _not_opened(self, why: Failure) -> None:
        self._opening = None
        text = self._explain(why)
        if not self._stopped:
            self.log.error("No LDAP session with {endpoint}: {why}", endpoint=self._server.endpoint, why=text)
        self._failed = (self._clock.seconds() + self._server.retry, text)
        waiting, self._connecting = self._connecting or [], None
        for each in waiting:
            each.errback(self._unavailable(text))

    def _explain(self, why: Failure) -> str:
        error = why.value
        if isinstance(error, Refused):
            name = ldaperrors.get(error.code, b"").name.decode()
            return f"the server refused to bind {self._server.bind_dn}: {name} {error.message}".strip()
        if why.check(VerificationError):
            return f"the server's certificate is not for {self._server.security.hostname}"
        if why.check(TimeoutError):
            return f"no session within {self._server.timeout:g} s"
        return f"can't connect: {why.getErrorMessage()}"

    @inlineCallbacks
    def _open(self) -> Generator[Deferred[Any], Any, None]:
        client = yield connectProtocol(self._target(), _Client(self._gone))
        try:
            if self._server.security.mode == "starttls":
                yield client.send(pureldap.LDAPStartTLSRequest()).addCallback(_succeeded)
                client.transport.startTLS(self._server.security.options())
            bind = pureldap.LDAPBindRequest(dn=self._server.bind_dn, auth=self._server.password)
            yield client.send(bind).addCallback(_succeeded)
        except BaseException:
            client.transport.abortConnection()
            raise
        self._client = client

    def _target(self) -> IStreamClientEndpoint:
        endpoint = self._endpoint or clientFromString(self._reactor, self._server.endpoint)
        if self._server.security.mode == "ldaps":
            endpoint = wrapClientTLS(self._server.security.options(), endpoint)
        return endpoint

    def _gone(self, client: _Client, reason: Failure) -> None:
        if self._client is client:
            self._client = None
            if not self._stopped:
                self.log.warn("LDAP connection lost: {why}", why=reason.getErrorMessage())

    def _unavailable(self, why: str) -> errors.Unavailable:
        return errors.Unavailable(service=f"ldap at {self._server.endpoint}", why=why)


def _succeeded(answer: Any) -> None:
    if answer.resultCode != 0:
        raise Refused(answer.resultCode, bytes(answer.errorMessage or b"").decode("utf-8", "replace"))


def _one_page(client: _Client, request: Any, controls: Any, found: list[Entry]) -> Deferred[bytes]:
    """
    Send one search.

    @return: the cookie with which to ask for the next page; empty at the end,
        and from servers that don't page.
    """
    done: Deferred[bytes] = Deferred()

    def handle(answer: Any, controls: Any) -> bool:
        if isinstance(answer, pureldap.LDAPSearchResultEntry):
            attributes = {name.decode().lower(): values for name, values in answer.attributes}
            found.append(Entry(bytes(answer.objectName).decode(), attributes))
        if not isinstance(answer, pureldap.LDAPSearchResultDone):
            return False
        if not done.called:
            try:
                _succeeded(answer)
                done.callback(_cookie(controls))
            except Exception:
                done.errback()
        return True

    def lost(why: Failure) -> None:
        if not done.called:
            done.errback(why)

    client.send_multiResponse_ex(request, controls, handle).addErrback(lost)
    return done


def _cookie(controls: Any) -> bytes:
    for kind, _critical, value in controls or ():
        if kind == PAGED and value:
            parts, _ = pureber.berDecodeObject(pureber.BERDecoderContext(), value)
            return bytes(parts[1].value)
    return b""
