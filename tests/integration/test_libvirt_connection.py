"""
The connection to libvirt, over the driver that libvirt has for tests: it needs
no daemon, runs nothing, and has events.
"""

from __future__ import annotations

import threading
import time

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.compute.libvirt import connection as connections
from fabric.compute.libvirt.connection import Connection
from fabric.compute.libvirt.watch import Watch
from fabric.errors import DriverFailure


def stir(opened):
    """Have news of a guest, which all connections of a process share."""
    guest = opened.lookupByName("test")
    if guest.isActive():
        guest.destroy()
    else:
        guest.create()


class ConnectionTests(TestCase):
    """
    Calls go to threads, and news comes to the reactor's.
    """

    timeout = 300

    def setUp(self):
        """Nothing heard yet."""
        self.heard = []
        self.waiting = []

    def hear(self, name, kind):
        """There is news."""
        self.heard.append((name, kind, threading.current_thread() is threading.main_thread()))
        if self.waiting:
            self.waiting.pop().callback(None)

    def make(self, uri="test:///default", threads=4, patience=5.0):
        """One that is stopped when the test is over."""
        made = Connection(uri, reactor, threads, patience, self.hear, lambda: None)
        self.addCleanup(made.stop)
        return made

    @inlineCallbacks
    def test_news(self):
        """What happens to a guest is heard in the reactor's thread."""
        connection = self.make()
        yield connection.start()
        news = Deferred()
        self.waiting.append(news)
        yield connection.call(stir)
        yield news
        self.assertEqual(set(self.heard), {("test", "lifecycle", True)})

    @inlineCallbacks
    def test_threads(self):
        """Calls are made in threads, at most so many at once."""
        connection = self.make(threads=2)
        yield connection.start()
        busy, most, both = [], [], threading.Barrier(2)

        def work(opened):
            busy.append(threading.current_thread())
            most.append(len(busy))
            both.wait(60)
            busy.pop()
            return threading.current_thread() is threading.main_thread()

        in_main = yield gatherResults([connection.call(work) for _ in range(8)])
        self.assertEqual((any(in_main), max(most)), (False, 2))

    @inlineCallbacks
    def test_refused(self):
        """What libvirt refuses is a DriverFailure that says what it said."""
        connection = self.make()
        yield connection.start()
        failure = yield self.assertFailure(connection.call(lambda opened: opened.lookupByName("x")), DriverFailure)
        self.assertIn("not found", failure.what)

    @inlineCallbacks
    def test_given_up(self):
        """An order that is given up is answered at once; the guest's next one waits for what a thread still does."""
        connection = self.make()
        yield connection.start()
        watch, began, go_on, done = Watch(reactor, None), Deferred(), threading.Event(), []

        def work(opened):
            reactor.callFromThread(began.callback, None)
            go_on.wait(30)
            done.append("first")

        @inlineCallbacks
        def steps():
            yield connection.call(work)
            done.append("what comes after")

        first = watch.order("i-1", steps)
        yield began
        first.cancel()
        yield self.assertFailure(first, CancelledError)
        second = watch.order("i-1", lambda: connection.call(lambda opened: done.append("second")))
        yield connection.call(lambda opened: None)
        self.assertEqual(done, [])
        go_on.set()
        yield second
        self.assertEqual(done, ["first", "second"])

    @inlineCallbacks
    def test_closed_while_hung(self):
        """It can be closed while all its threads hang."""
        self.patch(connections, "CLOSE_SECONDS", 0.1)
        connection, go_on = self.make(threads=1), threading.Event()
        self.addCleanup(go_on.set)
        yield connection.start()
        hung = connection.work(go_on.wait, 30)
        yield connection.stop()
        self.assertNoResult(hung)
        go_on.set()
        yield hung

    @inlineCallbacks
    def test_closed_while_used(self):
        """It is closed when the last thread that uses it is done, which finds it open."""
        connection, began, go_on = self.make(), Deferred(), threading.Event()
        self.addCleanup(go_on.set)
        yield connection.start()

        def work(opened):
            reactor.callFromThread(began.callback, None)
            go_on.wait(30)
            return opened.lookupByName("test").name()

        used = connection.call(work)
        yield began
        stopped = connection.stop()
        yield connection.work(time.sleep, 0.1)
        self.assertNoResult(stopped)
        go_on.set()
        self.assertEqual((yield used), "test")
        yield stopped

    @inlineCallbacks
    def test_lost_while_looked(self):
        """A connection that can't even say that it is lost is lost: the call waits for the next one."""
        connection = self.make()
        yield connection.start()
        first = []

        def work(opened):
            if not first:
                first.append(opened)
                opened.close()
            return opened.lookupByName("test").name()

        self.assertEqual((yield connection.call(work)), "test")

    @inlineCallbacks
    def test_not_there(self):
        """A libvirt that can't be reached is a DriverFailure that names it; starting may be tried again."""
        connection = self.make("qemu+unix:///system?socket=/nowhere")
        for _ in range(2):
            failure = yield self.assertFailure(connection.start(), DriverFailure)
            self.assertIn("/nowhere", failure.what)

    @inlineCallbacks
    def test_stopped(self):
        """A connection that was stopped says so, and hears no more."""
        connection = self.make()
        yield connection.start()
        yield connection.stop()
        failure = yield self.assertFailure(connection.call(lambda opened: None), DriverFailure)
        self.assertIn("closed", failure.what)
        connection._told("test", "lifecycle")
        self.assertEqual(self.heard, [])

    @inlineCallbacks
    def test_several(self):
        """One connection hears on when another one of the process is closed."""
        first, second = self.make(), self.make()
        yield first.start()
        yield second.start()
        yield first.stop()
        news = Deferred()
        self.waiting.append(news)
        yield second.call(stir)
        yield news
