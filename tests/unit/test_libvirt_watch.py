"""
Tests for L{fabric.compute.libvirt.watch} and the waiting for news.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.compute.interface import Domain
from fabric.compute.libvirt.bases import Bases
from fabric.compute.libvirt.events import News
from fabric.compute.libvirt.watch import GONE, Watch
from fabric.errors import DriverFailure
from fabric.testing.compute import Heard

RUNNING = Domain("i-1", "running", 3, ("10.0.0.2",))
STOPPED = Domain("i-1", "stopped", 3, ("10.0.0.2",))
PAUSED = Domain("i-1", "running", 3, ("10.0.0.2",), condition="paused")


class WatchTests(SynchronousTestCase):
    """
    What guests do is told, what they are ordered to do is not.
    """

    def setUp(self):
        """One guest, which is known to run."""
        self.clock = Clock()
        self.found = RUNNING
        self.looks = 0
        self.watcher = Heard()
        self.watch = Watch(self.clock, self.look)
        self.watch.tell(self.watcher)
        self.watch.saw(RUNNING)

    def look(self, id):
        """The guest as it is now."""
        self.looks += 1
        if isinstance(self.found, Exception):
            return fail(self.found)
        return succeed(None if self.found is None else (self.found, "because", True))

    def heard(self, found):
        """The guest became so, and libvirt says that there is news."""
        self.found = found
        self.watch.heard("i-1")
        self.clock.advance(0)

    def test_told(self):
        """Each change is told once, with its reason."""
        for found in (STOPPED, STOPPED, RUNNING, PAUSED, PAUSED):
            self.heard(found)
        self.assertEqual(self.watcher.news, [(found, "because") for found in (STOPPED, RUNNING, PAUSED)])

    def test_gone(self):
        """One that is not there any more is stopped, with the addresses that it had."""
        self.heard(None)
        self.assertEqual(self.watcher.news, [(STOPPED, GONE)])
        self.heard(None)
        self.assertEqual(len(self.watcher.news), 1)

    def test_ordered(self):
        """News while an order is carried out is looked at after it, and is no news when the order wanted it."""
        working = Deferred()
        done = self.watch.order("i-1", lambda: working, "stopped")
        self.heard(STOPPED)
        self.assertEqual(self.looks, 0)
        working.callback("done")
        self.clock.advance(0)
        self.assertEqual((self.successResultOf(done), self.looks, self.watcher.news), ("done", 1, []))

    def test_late(self):
        """Late news of what an order undid meanwhile is no news."""
        self.successResultOf(self.watch.order("i-1", lambda: succeed(None), "stopped"))
        self.successResultOf(self.watch.order("i-1", lambda: succeed(None), "running"))
        self.heard(RUNNING)
        self.assertEqual(self.watcher.news, [])

    def test_died_after_order(self):
        """A guest that dies as soon as it was started is told of."""
        working = Deferred()
        done = self.watch.order("i-1", lambda: working, "running")
        self.heard(STOPPED)
        working.callback(None)
        self.clock.advance(0)
        self.successResultOf(done)
        self.assertEqual(self.watcher.news, [(STOPPED, "because")])

    def test_order_failed(self):
        """After an order that failed nothing is known, and so nothing is told of what it left."""
        self.failureResultOf(self.watch.order("i-1", lambda: fail(DriverFailure(what="no")), "stopped"), DriverFailure)
        self.heard(STOPPED)
        self.assertEqual(self.watcher.news, [])
        self.heard(RUNNING)
        self.assertEqual(self.watcher.news, [(RUNNING, "because")])

    def test_one_after_the_other(self):
        """Orders to one guest wait for each other, those to others do not."""
        first, began = Deferred(), []
        self.watch.order("i-1", lambda: began.append(1) or first)
        self.watch.order("i-1", lambda: began.append(2) or succeed(None))
        self.watch.order("i-2", lambda: began.append(3) or succeed(None))
        self.assertEqual(began, [1, 3])
        first.callback(None)
        self.clock.advance(0)
        self.assertEqual(began, [1, 3, 2])

    def test_many(self):
        """A storm of news is looked at once for each guest."""
        working = Deferred()
        self.watch.order("i-1", lambda: working)
        for _ in range(100):
            self.watch.heard("i-1")
        working.callback(None)
        self.clock.advance(0)
        self.assertEqual(self.looks, 1)

    def test_can_not_look(self):
        """When libvirt is away there is nothing to tell, and later news is told."""
        self.heard(DriverFailure(what="away"))
        self.assertEqual(self.watcher.news, [])
        self.heard(STOPPED)
        self.assertEqual(self.watcher.news, [(STOPPED, "because")])

    def test_later(self):
        """What there may be no news of is looked at when it is due, once for all who asked."""
        for _ in range(2):
            self.watch.look_later("i-1", 2.0)
        self.found = STOPPED
        self.clock.advance(1.9)
        self.assertEqual(self.looks, 0)
        self.clock.advance(0.1)
        self.clock.advance(10.0)
        self.assertEqual((self.looks, self.watcher.news), (1, [(STOPPED, "because")]))

    def test_later_nobody(self):
        """When nobody is told any more, nothing is due."""
        self.watch.look_later("i-1", 2.0)
        self.watch.tell(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody(self):
        """When nobody is told, nothing is looked at."""
        self.watch.tell(None)
        self.heard(STOPPED)
        self.assertEqual((self.looks, self.watcher.news), (0, []))


class NewsTests(SynchronousTestCase):
    """
    Orders wait for news.
    """

    def test_waiting(self):
        """All who wait for a guest are told, those who wait for others are not."""
        clock = Clock()
        news = News(clock)
        first, second, other = news.next("i-1", 5.0), news.next("i-1", 9.0), news.next("i-2", 5.0)
        news.heard("i-1", "reboot")
        self.assertEqual([self.successResultOf(waiter) for waiter in (first, second)], ["reboot", "reboot"])
        self.assertNoResult(other)
        news.heard_of_all()
        self.assertEqual(self.successResultOf(other), "other")
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_too_late(self):
        """Who waits for so long hears an empty text, and nothing of what comes after."""
        clock = Clock()
        news = News(clock)
        waiter = news.next("i-1", 5.0)
        clock.advance(5)
        self.assertEqual(self.successResultOf(waiter), "")
        news.heard("i-1", "reboot")
        cancelled = news.next("i-1", 5.0)
        cancelled.addErrback(lambda failure: None).cancel()
        self.assertEqual(clock.getDelayedCalls(), [])


class BasesTests(SynchronousTestCase):
    """
    What the cache must keep for guests.
    """

    def test_kept(self):
        """Files stay as long as one guest needs them."""
        bases = Bases()
        bases.add("i-1", ["a", "b"])
        bases.put("i-2", ["a"])
        bases.put("i-1", ["a"])
        self.assertEqual(bases.all(), {"a"})
        bases.put("i-1", ())
        self.assertEqual(bases.all(), {"a"})
        bases.put("i-2", ())
        self.assertEqual(bases.all(), frozenset())

    def test_looked_meanwhile(self):
        """A look at all guests forgets those that are gone, but none that came while it looked."""
        bases = Bases()
        bases.put("i-1", ["a"])
        before = bases.changes
        bases.put("i-2", ["b"])
        bases.refresh({}, before)
        self.assertEqual(bases.all(), {"a", "b"})
        bases.refresh({"i-2": ("b",)}, bases.changes)
        self.assertEqual(bases.all(), {"b"})
