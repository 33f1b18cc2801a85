"""
Tests for L{fabric.periodic}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.periodic import Periodic


class PeriodicTests(SynchronousTestCase):
    """
    What goes on, goes on.
    """

    def setUp(self):
        """Something that is done every ten seconds."""
        self.clock = Clock()
        self.times = []
        self.results = []
        self.periodic = Periodic("it", 10.0, self.act, self.clock, limit=30.0)

    def act(self):
        """Remember when; do what the test says."""
        self.times.append(self.clock.seconds())
        result = self.results.pop(0) if self.results else None
        if isinstance(result, Exception):
            raise result
        return result

    def pass_time(self, seconds):
        """Let time pass, second by second."""
        self.clock.pump([1] * seconds)

    def test_again_and_again(self):
        """It is done at the start, and at each interval."""
        self.periodic.startService()
        self.pass_time(35)
        self.assertEqual(self.times, [0, 10, 20, 30])

    def test_first(self):
        """The first time may be later."""
        periodic = Periodic("it", 10.0, self.act, self.clock, first=5.0)
        periodic.startService()
        self.pass_time(16)
        self.assertEqual(self.times, [5, 15])

    def test_never_twice_at_once(self):
        """The interval begins when it is done."""
        slow = Deferred()
        self.results.append(slow)
        self.periodic.startService()
        self.pass_time(15)
        self.assertEqual(self.times, [0])
        slow.callback(None)
        self.pass_time(11)
        self.assertEqual(self.times, [0, 25])

    def test_errors(self):
        """An error is logged, and it is tried again soon."""
        self.results += [ValueError(), ValueError()]
        self.periodic.startService()
        self.pass_time(15)
        self.assertEqual(self.times, [0, 1, 2, 12])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_hangs(self):
        """What does not end is cancelled, and tried again."""
        self.results.append(Deferred())
        self.periodic.startService()
        self.pass_time(45)
        self.assertEqual(self.times, [0, 31, 41])
        self.assertEqual(len(self.flushLoggedErrors(TimeoutError)), 1)

    def test_stop(self):
        """Stopped, it cancels what is going on and does no more."""
        slow = Deferred()
        self.results.append(slow)
        self.periodic.startService()
        self.successResultOf(self.periodic.stopService())
        self.assertTrue(slow.called)
        self.pass_time(50)
        self.assertEqual(self.times, [0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_between(self):
        """So it does between two times."""
        self.periodic.startService()
        self.pass_time(5)
        self.periodic.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
