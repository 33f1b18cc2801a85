"""
Tests for C{scripts/check-host}.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check-host"


class WordsTests(SynchronousTestCase):
    """
    What the user says of the network.
    """

    def page(self, *words: str) -> str:
        """The page, of a host that is not ready."""
        done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        return done.stdout

    def test_range(self) -> None:
        """A range that is none is a line of the page, and no traceback."""
        for words in ("everything", "10.0.0.1/16", "10.0.0.0", "fd00::/64", ""):
            self.assertIn(f"MISSING  range: {words!r} is no range", self.page(f"--cidr={words}", "--bridge=nobodys"))

    def test_bridge(self) -> None:
        """So is a name that no link can have."""
        for words in ("a b", "a-name-that-is-too-long", "", "a/b"):
            self.assertIn(f"MISSING  bridge: Linux has no link {words!r}", self.page(f"--bridge={words}"))
