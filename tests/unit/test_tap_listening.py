"""
Tests for L{fabric.tap.listening}.
"""

from __future__ import annotations

from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from fabric.tap.listening import Listening, advertised
from fabric.tap.start import Refusal, explain


class AdvertisedTests(SynchronousTestCase):
    """
    What clients are told of an endpoint.
    """

    def test_interface(self) -> None:
        """An endpoint at an address is told as it is."""
        self.assertEqual(advertised("tcp:8773:interface=10.1.2.3"), "http://10.1.2.3:8773")
        self.assertEqual(advertised("tcp:port=8773:interface=10.1.2.3"), "http://10.1.2.3:8773")

    def test_everywhere(self) -> None:
        """One at all addresses is told as loopback's."""
        self.assertEqual(advertised("tcp:8773"), "http://127.0.0.1:8773")
        self.assertEqual(advertised("tcp:8773:interface=0.0.0.0"), "http://127.0.0.1:8773")

    def test_version_6(self) -> None:
        """An IPv6 address is told in brackets."""
        self.assertEqual(advertised("tcp6:8773:interface=fe80\\:\\:1"), "http://[fe80::1]:8773")

    def test_secure(self) -> None:
        """A TLS endpoint is https."""
        self.assertEqual(advertised("ssl:8773:privateKey=k.pem"), "https://127.0.0.1:8773")

    def test_wanted(self) -> None:
        """What was set overrides it."""
        self.assertEqual(advertised("tcp:8773", "https://cloud.example/"), "https://cloud.example")

    def test_port_got(self) -> None:
        """The port that the system chose is told."""
        self.assertEqual(advertised("tcp:0", port=4567), "http://127.0.0.1:4567")


class ListeningTests(SynchronousTestCase):
    """
    Steps at an endpoint.
    """

    def test_listens(self) -> None:
        """The step listens."""
        reactor = MemoryReactorClock()
        step = Listening(reactor, "tcp:8773:interface=127.0.0.1", Factory()).step("doors")
        self.successResultOf(step.start())
        self.assertEqual(reactor.tcpServers[0][0], 8773)

    def test_no_endpoint(self) -> None:
        """A text that is no endpoint is refused, in words."""
        step = Listening(MemoryReactorClock(), "carrier-pigeon:8773", Factory()).step("doors")
        refused = self.assertRaises(Refusal, step.start)
        self.assertIn("carrier-pigeon:8773 is no endpoint", explain(Failure(refused)))
