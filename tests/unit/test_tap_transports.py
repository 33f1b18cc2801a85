"""
Tests for L{fabric.tap.transports} and L{fabric.tap.firstrun}.
"""

from __future__ import annotations

import os
import stat

import attrs
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from fabric.manage import cloudrc
from fabric.metrics import Metrics
from fabric.rpc.amqp.queue import AMQPQueue
from fabric.rpc.local import LocalQueue
from fabric.settings import load
from fabric.settings.values import Ldap
from fabric.tap import firstrun, queueing, transports
from fabric.tap.start import Refusal
from fabric.users.interface import User


class QueueTests(SynchronousTestCase):
    """
    A URL names a queue.
    """

    def queue(self, url: str) -> object:
        """What a URL gives."""
        queue, _ = queueing.queue(MemoryReactorClock(), load(None, {}, [("queue.url", url)]), Metrics())
        return queue

    def test_local(self) -> None:
        """C{local:} is a queue within the process."""
        self.assertIsInstance(self.queue("local:"), LocalQueue)

    def test_amqp(self) -> None:
        """C{amqp://} is RabbitMQ."""
        self.assertIsInstance(self.queue("amqp://user:p%40ss@[::1]:5673/%2Fcloud"), AMQPQueue)

    def test_others(self) -> None:
        """Anything else is refused without showing the password."""
        for url in ("http://user:hunter2@host/", "amqp:", "rabbit"):
            self.assertNotIn("hunter2", str(self.assertRaises(Refusal, self.queue, url)))


class StoreTests(SynchronousTestCase):
    """
    A URL names a store.
    """

    def test_others(self) -> None:
        """What is no store's URL is refused."""
        settings = load(None, {}, [("store.url", "http://host")])
        refused = self.assertRaises(Refusal, transports.store, Clock(), settings, Metrics(), None)
        self.assertIn("redis://", str(refused))


class DirectoryTests(SynchronousTestCase):
    """
    A URL names a directory.
    """

    def server(self, url: str, **more: object) -> tuple[str, str, str]:
        """Endpoint, security and the host that the certificate must be for."""
        server = transports._server(attrs.evolve(Ldap(), url=url, **more))
        return server.endpoint, server.security.mode, server.security.hostname

    def test_urls(self) -> None:
        """Plain, StartTLS, LDAPS and a unix socket."""
        self.assertEqual(self.server("ldap://h"), ("tcp:h:389", "", "h"))
        self.assertEqual(self.server("ldap://h:1389", start_tls=True), ("tcp:h:1389", "starttls", "h"))
        self.assertEqual(self.server("ldaps://h"), ("tcp:h:636", "ldaps", "h"))
        self.assertEqual(self.server("ldapi:/run/a:b")[0], "unix:path=/run/a\\:b")

    def test_others(self) -> None:
        """Anything else is refused."""
        for url in ("http://h", "ldap:", "h"):
            self.assertRaises(Refusal, self.server, url)

    def test_layout(self) -> None:
        """Subtrees stand under the base unless they are named."""
        layout = transports.layout(attrs.evolve(Ldap(), base="dc=x", projects="ou=P,dc=y"))
        self.assertEqual((layout.users, layout.projects), ("ou=Users,dc=x", "ou=P,dc=y"))


class SharedTests(SynchronousTestCase):
    """
    Parts within one process are of no use to another.
    """

    def test_required(self) -> None:
        """The section that names no server is named."""
        settings = load(None, {}, [("queue.url", "amqp://h/")])
        queueing.require_shared(settings, "queue")
        refused = self.assertRaises(Refusal, queueing.require_shared, settings, "queue", "store")
        self.assertIn("store.url must name a server", str(refused))


class CloudrcTests(SynchronousTestCase):
    """
    The file that users source.
    """

    def test_written(self) -> None:
        """It is private, in place of the old one, and found again by C{cloud-manage}."""
        data = self.mktemp()
        settings = load(None, {}, [("data_dir", data)])
        for secret in ("old", "new"):
            firstrun.write_cloudrc(settings, User("admin", "admin", "KEY", secret), "http://h:1")
        path = firstrun.cloudrc_path(settings)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(data), ["cloudrc"])
        found = cloudrc.credentials(data, None, {})
        self.assertEqual((found.url, found.access_key, found.secret_key), ("http://h:1", "KEY", "new"))
