"""
A private OpenLDAP server, configured by the example that is shipped in
C{etc/ldap/}.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError, ProcessExitedAlready
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from fabric.testing.ports import free_port
from fabric.users.names import Layout

EXAMPLES = Path(__file__).resolve().parents[2] / "etc" / "ldap"
LAYOUT = Layout("dc=example,dc=com")
"""What the examples have."""


class SlapdFailed(Exception):
    """It did not start.  The message is what it wrote."""


class _Process(ProcessProtocol):
    """
    Waits for C{slapd starting}, and for the end.
    """

    def __init__(self) -> None:
        self.started: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.written = b""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.written = (self.written + data)[-10_000:]
        if not self.started.called and b"slapd starting" in self.written:
            self.started.callback(None)

    def processEnded(self, reason: Failure) -> None:
        if not self.started.called:
            self.started.errback(SlapdFailed(self.written.decode("utf-8", "replace")))
        self.ended.callback(None)


class Slapd:
    """
    One server with its own directory, socket and loopback ports.

    @ivar bind_dn: the account that the services would use.
    @ivar password: of that account.
    @ivar port: for LDAP and StartTLS.
    @ivar tls_port: for LDAPS.
    @ivar authority: the PEM file of the authority that vouches for the server.
    """

    bind_dn = f"cn=cloud,{LAYOUT.base}"

    def __init__(self, reactor: Any, page_limit: int = 500) -> None:
        self.password = os.urandom(12).hex()
        self.directory = Path(tempfile.mkdtemp(prefix="slapd-"))
        self.port, self.tls_port = free_port(), free_port()
        self.authority = str(self.directory / "ca.crt")
        self._reactor = reactor
        self._page_limit = page_limit
        self._process: _Process | None = None
        self._transport: Any = None

    @property
    def endpoint(self) -> str:
        """Its unix socket, as a client endpoint."""
        return f"unix:path={self.directory}/ldapi"

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        """
        Make what it needs when it is not there, and run it.

        @raise SlapdFailed: with what it wrote.
        """
        if not (self.directory / "slapd.conf").exists():
            yield deferToThread(self._prepare)
        urls = (
            f"ldapi://{urllib.parse.quote(str(self.directory / 'ldapi'), safe='')}",
            f"ldap://127.0.0.1:{self.port}",
            f"ldaps://127.0.0.1:{self.tls_port}",
        )
        arguments = ["slapd", "-d", "none", "-h", " ".join(urls), "-f", str(self.directory / "slapd.conf")]
        self._process = _Process()
        self._transport = self._reactor.spawnProcess(self._process, _program("slapd"), arguments, env={})
        yield self._process.started
        yield self._listening()

    def kill(self) -> Deferred[None]:
        """End it as C{kill -9} does.  L{start} runs it again."""
        return self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """
        Let it accept and say nothing, until L{thaw}.  Threads stop one by one,
        some only when they next run: all have when this returns.
        """
        self._transport.signalProcess(signal.SIGSTOP)
        deadline = time.monotonic() + 30.0
        while not _stopped(self._transport.pid):
            if time.monotonic() > deadline:
                raise AssertionError("slapd could not be frozen")

    def thaw(self) -> None:
        """Let it go on."""
        self._transport.signalProcess(signal.SIGCONT)

    def stop(self) -> Deferred[None]:
        """End it, frozen or not, and remove its directory."""
        if self._process is not None:
            with suppress(ProcessExitedAlready):
                self.thaw()
        return self._end(signal.SIGTERM).addCallback(lambda _: shutil.rmtree(self.directory))

    @inlineCallbacks
    def _listening(self) -> Generator[Deferred[Any], Any, None]:
        """
        It says that it starts some milliseconds before it listens.
        """
        deadline = self._reactor.seconds() + 60
        while True:
            try:
                for place in (self.endpoint, f"tcp:127.0.0.1:{self.port}", f"tcp:127.0.0.1:{self.tls_port}"):
                    opened = yield clientFromString(self._reactor, place).connect(Factory.forProtocol(Protocol))
                    opened.transport.abortConnection()
                return
            except ConnectError as why:
                if self._process is None or self._process.ended.called or self._reactor.seconds() > deadline:
                    raise SlapdFailed(f"it does not listen: {why}") from why
            yield deferLater(self._reactor, 0.01)

    def _end(self, number: int) -> Deferred[None]:
        process, self._process = self._process, None
        if process is None:
            return succeed(None)
        if not process.ended.called:
            self._transport.signalProcess(number)
        return process.ended

    def _prepare(self) -> None:
        (self.directory / "data").mkdir()
        _make_certificates(self.directory)
        text = (EXAMPLES / "slapd.conf").read_text()
        for pattern, replacement in self._replacements():
            text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
            if not count:
                raise SlapdFailed(f"the example has nothing like {pattern}")
        (self.directory / "slapd.conf").write_text(text)
        entries = (
            (EXAMPLES / "base.ldif").read_text().replace("userPassword: REPLACE", f"userPassword: {self.password}")
        )
        (self.directory / "base.ldif").write_text(entries)
        command = [_program("slapadd"), "-f", "slapd.conf", "-l", "base.ldif"]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, check=False)
        if done.returncode:
            raise SlapdFailed(done.stderr.decode("utf-8", "replace"))

    def _replacements(self) -> list[tuple[str, str]]:
        here, limit = self.directory, self._page_limit
        return [
            (r"/etc/fabric/ldap/fabric.schema", str(EXAMPLES / "fabric.schema")),
            (r"/run/slapd", str(here)),
            (r"/etc/ssl/certs/ca-certificates.crt", str(here / "ca.crt")),
            (r"/etc/fabric/ldap/server", str(here / "server")),
            (r"^security .*", ""),
            (
                r"^sizelimit .*",
                f"sizelimit size.soft={limit} size.hard={limit} size.prtotal=unlimited",
            ),
            (r"^rootpw .*", f"rootpw {os.urandom(12).hex()}"),
            (r"/var/lib/ldap", str(here / "data")),
        ]


def _program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SlapdFailed(f"there is no {name} on this machine")
    return found


def _make_certificates(directory: Path) -> None:
    """
    An authority, and a certificate for 127.0.0.1 and localhost.
    """
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("An authority for a test")
    authority = _certificate(issuer, issuer, authority_key, authority_key, x509.BasicConstraints(True, None))
    hosts = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))])
    server = _certificate(_name("localhost"), issuer, key, authority_key, hosts)
    (directory / "ca.crt").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    (directory / "server.crt").write_bytes(server.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (directory / "server.key").write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    return builder.add_extension(extension, critical=True).sign(signer, hashes.SHA256())


def _stopped(pid: int) -> bool:
    states = [each.read_text().rpartition(")")[2].split()[0] for each in Path(f"/proc/{pid}/task").glob("*/stat")]
    return bool(states) and set(states) == {"T"}
