"""
The queue over TLS.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.errors import Unavailable
from fabric.rpc.amqp.queue import AMQPQueue
from fabric.rpc.interface import Address, Context
from fabric.testing.echo import EchoWorker, IEchoWorker
from fabric.testing.rabbitmq import ACCOUNT, PASSWORD, RabbitMQServer


def write_certificate(path: Path, host: str) -> None:
    """A certificate for a host that is its own authority, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(encoding, form, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(encoding) + secret)


class TLSTests(TestCase):
    """
    A broker that speaks TLS.
    """

    timeout = 300

    @inlineCallbacks
    def test_tls(self) -> Generator[Deferred[Any], Any, None]:
        """Calls go over TLS to a broker whose certificate is trusted, and to no other."""
        ours, others = Path(self.mktemp()), Path(self.mktemp())
        for directory in (ours, others):
            directory.mkdir()
            write_certificate(directory.absolute() / "broker.pem", "localhost")
        broker = RabbitMQServer(reactor, ours.absolute() / "broker.pem")
        yield broker.start()
        self.addCleanup(broker.stop)
        queue = AMQPQueue(reactor, broker.tls_endpoint, ACCOUNT, PASSWORD, heartbeat=1)
        self.addCleanup(queue.stop)
        yield queue.listen(Address("tls"), IEchoWorker, EchoWorker(), 1)
        value = "é" * 300_000
        answer = yield queue.caller(IEchoWorker, Address("tls"), Context()).echo(value)
        self.assertTrue(answer == [value])
        endpoint = broker.tls_endpoint.replace(str(ours.absolute()), str(others.absolute()))
        distrustful = AMQPQueue(reactor, endpoint, ACCOUNT, PASSWORD, patience=1.0)
        self.addCleanup(distrustful.stop)
        call = distrustful.caller(IEchoWorker, Address("tls"), Context()).echo("a")
        yield self.assertFailure(call, Unavailable)
