"""
Tests for L{fabric.network.fake}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from fabric.errors import DriverFailure
from fabric.network.fake import FakeNetwork
from fabric.settings import Fake
from fabric.testing.network import NETWORK, NetworkDriverContract, plug


class FakeNetworkContract(NetworkDriverContract, TestCase):
    """
    The fake passes the contract.
    """

    def make_driver(self):
        """One over this test's directory."""
        if not hasattr(self, "_place"):
            self._place = self.mktemp()
        return FakeNetwork(self._place, Clock())

    def lose_reply(self, driver, verb):
        """Told by a rehearsal."""
        driver.rehearsal.tell(f"{verb} lose")


class FakeNetworkTests(SynchronousTestCase):
    """
    What the fake does besides the contract.
    """

    def test_mishaps(self):
        """It fails, and is slow, when it is told to."""
        clock = Clock()
        driver = FakeNetwork(self.mktemp(), clock, Fake(fail_next=("plug", "spawn"), slow=("unplug=2",)))
        self.successResultOf(driver.start())
        self.successResultOf(driver.express(NETWORK))
        self.failureResultOf(driver.plug([plug(1)]), DriverFailure)
        self.successResultOf(driver.plug([plug(1)]))
        unplugged = driver.unplug([plug(1).instance])
        self.assertNoResult(unplugged)
        clock.advance(2)
        self.successResultOf(unplugged)
