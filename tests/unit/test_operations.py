"""
Tests for L{fabric.api.operations}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from fabric.api.interface import IDoor
from fabric.api.operations import PATIENCE, Health, HealthDoor, MetricsDoor
from fabric.api.site import Site
from fabric.errors import Unavailable
from fabric.metrics import Metrics


class OperationsTests(SynchronousTestCase):
    """
    Over HTTP, as a monitor asks.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.level: Any = lambda: succeed(self.metrics.stuck("instance", 3))

    def ask(self, path: str, probes: dict[str, Any], method: str = "GET") -> StringTransport:
        """Send a request; what comes back is in the transport."""
        health = HealthDoor(Health(self.clock, "cloud-compute", probes))
        metrics = MetricsDoor(self.metrics, self.level)
        self.channel = Site(self.clock, {"/health": health, "/metrics": metrics}).buildProtocol(None)
        transport = StringTransport()
        self.channel.makeConnection(transport)
        self.channel.dataReceived(f"{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        return transport

    def answer(self, transport: StringTransport) -> tuple[int, bytes]:
        """Status and body of the answer."""
        head, _, body = transport.value().partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def test_interface(self) -> None:
        """Both are doors."""
        self.assertTrue(verifyObject(IDoor, HealthDoor(Health(self.clock, "x", {}))))
        self.assertTrue(verifyObject(IDoor, MetricsDoor(self.metrics, self.level)))

    def test_well(self) -> None:
        """A service whose parts all answer is well, and says so."""
        status, body = self.answer(self.ask("/health", {"store": lambda: succeed(None)}))
        self.assertEqual(status, 200)
        self.assertEqual(json.loads(body), {"service": "cloud-compute", "status": "ok", "parts": {"store": "ok"}})

    def test_unwell(self) -> None:
        """One part that can't be used is 503, with the reason."""
        probes = {"store": lambda: succeed(None), "queue": lambda: fail(Unavailable(service="queue", why="lost"))}
        status, body = self.answer(self.ask("/health", probes))
        self.assertEqual(status, 503)
        self.assertIn("lost", json.loads(body)["parts"]["queue"])

    def test_probe_raises(self) -> None:
        """A probe that raises counts as its part being unwell."""
        status, _ = self.answer(self.ask("/health", {"store": lambda: 1 / 0}))
        self.assertEqual(status, 503)

    def test_silent(self) -> None:
        """A part that does not answer is given up in time."""
        transport = self.ask("/health", {"store": Deferred})
        self.assertEqual(transport.value(), b"")
        self.clock.advance(PATIENCE)
        self.assertEqual(self.answer(transport)[0], 503)

    def test_client_left(self) -> None:
        """A monitor that hung up meanwhile is not answered."""
        waiting: Deferred[None] = Deferred()
        self.ask("/health", {"store": lambda: waiting})
        self.channel.connectionLost(Failure(ConnectionResetError()))
        waiting.callback(None)

    def test_method(self) -> None:
        """Nothing can be posted here."""
        self.assertEqual(self.answer(self.ask("/health", {}, "POST"))[0], 405)

    def test_metrics(self) -> None:
        """Metrics are what Prometheus reads."""
        status, body = self.answer(self.ask("/metrics", {}))
        self.assertEqual(status, 200)
        self.assertIn(b"process_cpu_seconds_total", body)

    def test_levels(self) -> None:
        """Levels are read when they are asked for."""
        self.assertIn(b'fabric_stuck{kind="instance"} 3.0', self.answer(self.ask("/metrics", {}))[1])

    def test_levels_unknown(self) -> None:
        """Levels that can't be had hinder nobody from reading the rest."""
        self.level = lambda: fail(Unavailable(service="store", why="lost"))
        self.assertEqual(self.answer(self.ask("/metrics", {}))[0], 200)
