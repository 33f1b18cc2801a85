"""
Tests for L{fabric.volume.fake}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from fabric.settings import Fake
from fabric.testing.volume import VolumeDriverContract
from fabric.volume.fake import FakeVolumes


class FakeVolumesContract(VolumeDriverContract, TestCase):
    """
    The fake passes the contract.
    """

    def make_driver(self):
        """One over this test's directory."""
        if not hasattr(self, "_place"):
            self._place = self.mktemp()
        return FakeVolumes(self._place, Clock(), Fake(disk_gb=10))

    def lose_reply(self, driver, verb):
        """Told by a rehearsal."""
        driver.rehearsal.tell(f"{verb} lose")

    def write(self, driver, id, content):
        """Into its table."""
        driver.write(id, content)

    def read(self, driver, id):
        """From its table."""
        return driver.read(id)
