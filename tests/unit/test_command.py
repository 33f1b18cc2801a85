"""
Tests for L{fabric.command}.
"""

from __future__ import annotations

import os

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, inlineCallbacks
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from fabric.command import Commands


class CommandsTests(TestCase):
    """
    Commands end, whatever they do.
    """

    timeout = 120

    @inlineCallbacks
    def test_too_long(self):
        """What takes too long ends then, also when what it began goes on and has its output."""
        for script in ("sleep 20 & wait", "sleep 20 &"):
            before = reactor.seconds()
            yield Commands(reactor, 0.3).run(["sh", "-c", script])
            self.assertLess(reactor.seconds() - before, 15)

    @inlineCallbacks
    def test_cancelled(self):
        """A command that is given up is killed: nothing of it comes later."""
        late = self.mktemp()
        running = Commands(reactor).run(["sh", "-c", f"sleep 0.5; touch {late}"])
        running.cancel()
        yield self.assertFailure(running, CancelledError)
        yield Commands(reactor).run(["sleep", "1"])
        self.assertFalse(os.path.exists(late))


class NoRoom(Clock):
    """A host without room for one more process."""

    def spawnProcess(self, *arguments):
        """Refuse."""
        raise BlockingIOError(11, "Resource temporarily unavailable")


class NoRoomTests(SynchronousTestCase):
    """
    Commands that could not begin.
    """

    def test_no_room(self):
        """What can't be started has ended without a status, and says why."""
        clock = NoRoom()
        finished = self.successResultOf(Commands(clock).run(["true"]))
        self.assertEqual((finished.status, finished.complaint), (None, "not started: Resource temporarily unavailable"))
        self.assertEqual(clock.getDelayedCalls(), [])
