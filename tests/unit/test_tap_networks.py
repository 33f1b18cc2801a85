"""
Tests for L{fabric.tap.networks}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fabric.network.linux.filtering import Door
from fabric.settings.values import Network
from fabric.tap.networks import doors

ANY, ANY6 = Door("0.0.0.0", 8773), Door("::", 8773)


class DoorsTests(SynchronousTestCase):
    """What guests may reach of their host, by the settings."""

    def assertApi(self, endpoint: str, *expected: Door) -> None:
        """What is opened for the API at an endpoint."""
        self.assertEqual(doors(Network(), endpoint), expected)

    def test_api(self) -> None:
        """The API's door is opened where it listens."""
        self.assertApi("tcp:8773", ANY)
        self.assertApi("tcp:8773:interface=192.0.2.1", Door("192.0.2.1", 8773))
        self.assertApi("ssl:port=8773:privateKey=k.pem", ANY)
        self.assertApi(r"tcp:8773:interface=\:\:", ANY, ANY6)
        self.assertApi("tcp6:8773", ANY, ANY6)
        self.assertApi(r"tcp:8773:interface=2001\:db8\:\:1", Door("2001:db8::1", 8773))

    def test_hidden_api(self) -> None:
        """Nothing is opened for one that is elsewhere, that only the host reaches, or whose port is not said."""
        self.assertApi("")
        self.assertApi("tcp:8773:interface=127.0.0.1")
        self.assertApi("tcp:8773:interface=localhost")
        self.assertApi(r"tcp6:8773:interface=\:\:1")
        self.assertApi("unix:/run/api")
        self.assertApi("tcp:0")

    def test_others(self) -> None:
        """Others are opened as they are named, and the API's only where it is."""
        wanted = Network(guests_reach=("192.0.2.1:8774", "[2001:db8::1]:80"))
        self.assertEqual(doors(wanted, "tcp:8773"), (Door("192.0.2.1", 8774), Door("2001:db8::1", 80)))
        self.assertEqual(doors(Network(guests_reach=()), "tcp:8773"), ())
