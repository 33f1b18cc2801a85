"""
Tests for L{fabric.volume.fake}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

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
        return FakeVolumes(self._place, Clock())

    def lose_reply(self, driver, verb):
        """Told by a rehearsal."""
        driver.rehearsal.tell(f"{verb} lose")
