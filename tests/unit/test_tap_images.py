"""
Tests for L{fabric.tap.images}.
"""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from fabric.settings import Settings
from fabric.tap import images


class SecretTests(SynchronousTestCase):
    """
    What links are signed with.
    """

    def setUp(self):
        """A data directory."""
        self.directory = self.mktemp()
        self.path = os.path.join(self.directory, "objectstore-secret")

    def secret(self):
        """As a new process has it."""
        return images.secret(Settings(data_dir=self.directory))()

    def test_kept(self):
        """It is made once, for its owner alone."""
        made = self.secret()
        self.assertEqual((len(made), self.secret()), (64, made))
        self.assertEqual(
            (os.stat(self.path).st_mode & 0o777, os.listdir(self.directory)), (0o600, ["objectstore-secret"])
        )

    def test_power_cut(self):
        """A file that a power cut left empty is no secret: anybody could sign with it."""
        os.makedirs(self.directory)
        with open(self.path, "wb"):
            pass
        made = self.secret()
        self.assertEqual((len(made), self.secret()), (64, made))
