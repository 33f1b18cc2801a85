"""
Guests that have an account of their own get to their files, and to no others.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from fabric.compute.libvirt.passage import Passage

THEIRS = 64055


class Libvirt:
    """
    One that has guests run as somebody.
    """

    def __init__(self, label: str) -> None:
        self._label = label

    def getCapabilities(self) -> str:
        """As libvirt 9 words it."""
        none = "<secmodel><model>none</model><doi>0</doi></secmodel>"
        label = f"<baselabel type='kvm'>{self._label}</baselabel>" if self._label else ""
        return f"<capabilities><host>{none}<secmodel><model>dac</model>{label}</secmodel></host></capabilities>"


def mode(path: Path) -> int:
    """Its permissions."""
    return stat.S_IMODE(path.stat().st_mode)


class PassageTests(SynchronousTestCase):
    """
    See L{Passage}.
    """

    def setUp(self) -> None:
        """A directory in which everything is private."""
        self.above = Path(self.mktemp()).absolute()
        self.top = self.above / "data"
        self.file = self.top / "guests" / "i-1" / "root.qcow2"
        self.secret = self.top / "redis"
        for path in (self.file.parent, self.secret):
            path.mkdir(parents=True)
        self.file.touch()
        for path in (self.above, self.top, self.top / "guests", self.file.parent, self.secret):
            path.chmod(0o700)
        self.file.chmod(0o600)

    def passage(self, label: str = f"+{THEIRS}:+{THEIRS}") -> Passage:
        """@return: one that has asked libvirt."""
        made = Passage(str(self.top))
        made.learn(Libvirt(label))
        return made

    def test_lets_in(self) -> None:
        """Guests may enter each directory on the way to a file of ours, and list none."""
        self.passage().open([str(self.file)])
        self.assertEqual({mode(self.top), mode(self.top / "guests"), mode(self.file.parent)}, {0o711})

    def test_nothing_else(self) -> None:
        """The file itself, other directories, and those above ours stay as they are."""
        self.passage().open([str(self.file), "/etc/passwd", str(self.above / "other" / "disk")])
        self.assertEqual((mode(self.file), mode(self.secret), mode(self.above)), (0o600, 0o700, 0o700))

    def test_same_account(self) -> None:
        """Nothing is opened for guests that are root's or our own, or of whom libvirt tells nothing."""
        for label in ("+0:+0", f"+{os.geteuid()}:+0", "", "nobody:nobody"):
            self.passage(label).open([str(self.file)])
        self.assertEqual(mode(self.top), 0o700)

    def test_warns_of_what_is_above(self) -> None:
        """A directory above ours that guests can't enter is told of, by its name."""
        with capturedLogs() as events:
            self.passage()
        [event] = [event for event in events if event["log_level"] is LogLevel.warn]
        self.assertEqual(event["directory"], str(self.above))

    def test_quiet(self) -> None:
        """Nothing is told where they can."""
        self.above.chmod(0o755)
        with capturedLogs() as events:
            self.passage()
        warned = {event["directory"] for event in events if event["log_level"] is LogLevel.warn}
        self.assertNotIn(str(self.above), warned)
