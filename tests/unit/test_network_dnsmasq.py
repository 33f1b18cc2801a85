"""
Tests for L{fabric.network.linux.dnsmasq} over a stand-in that is a process.
"""

from __future__ import annotations

import os
import sys
import threading

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.network.linux.dhcp import Server
from fabric.network.linux.dnsmasq import CALM, Dnsmasqs, found

STAND_IN = """
import fcntl, os, signal, sys
path = sys.argv[1].partition("=")[2]
there, here = os.pipe()
if os.fork():
    os.close(here)
    sys.exit(0 if os.read(there, 1) else "address in use")
socket = open(path + ".socket", "w")
fcntl.flock(socket, fcntl.LOCK_EX | fcntl.LOCK_NB)
signal.signal(signal.SIGHUP, lambda *_: open(path + ".read", "a").write("again"))
signal.alarm(60)
nothing = os.open("/dev/null", os.O_RDWR)
for number in range(3):
    os.dup2(nothing, number)
open(path, "w").write(str(os.getpid()))
os.write(here, b"1")
while True:
    signal.pause()
"""
"""Like dnsmasq: a daemon with a pid file, that reads its files on SIGHUP, and is alone in what it listens on."""


def runs(pid):
    """Whether a process has not ended."""
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return bool(file.read())
    except FileNotFoundError:
        return False


class Exhausted:
    """
    The reactor, on a host that has no room for the next so many processes.
    """

    def __init__(self):
        self.refusals = 0

    def __getattr__(self, name):
        return getattr(reactor, name)

    def callLater(self, seconds, *arguments):
        """Calm down sooner."""
        return reactor.callLater(0.1 if seconds == CALM else seconds, *arguments)

    def spawnProcess(self, *arguments):
        """Perhaps."""
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return reactor.spawnProcess(*arguments)


class DnsmasqsTests(TestCase):
    """
    One server a network, whatever is left of the last.
    """

    timeout = 300

    def setUp(self):
        """Have none."""
        base = os.path.abspath(self.mktemp())
        self.host = Exhausted()
        self.server = Server(
            "net-1",
            "br1",
            "10.0.0.1",
            ("-c", STAND_IN, f"--pid-file={base}.pid"),
            base + ".hosts",
            base + ".names",
            base + ".pid",
        )
        self.servers = self.made()
        self.addCleanup(lambda: self.servers.remove(self.server))

    def made(self):
        """Those of one process."""
        servers = Dnsmasqs(self.host, (sys.executable,))
        self.addCleanup(servers.let_go)
        return servers

    def pid(self):
        """Which process it is."""
        process = found(self.server, reactor)
        if process is None:
            return None
        process.close()
        return process.pid

    @inlineCallbacks
    def until(self, met):
        """Wait."""
        while not met():
            turned = Deferred()
            reactor.callLater(0.02, turned.callback, None)
            yield turned

    @inlineCallbacks
    def test_taken_on(self):
        """The next process takes on what runs, and has it read what the last may have written just before its end."""
        yield self.servers.ensure(self.server, False)
        before = self.pid()
        self.servers.let_go()
        self.servers = self.made()
        yield self.servers.ensure(self.server, False)
        self.assertEqual(self.pid(), before)
        yield self.until(lambda: os.path.exists(self.server.pid_file + ".read"))

    @inlineCallbacks
    def test_number_of_another(self):
        """A pid file from before the host was started, whose number is a thread's or nobody's by now, means nothing."""
        over, numbers = threading.Event(), []
        thread = threading.Thread(target=lambda: (numbers.append(threading.get_native_id()), over.wait()))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(over.set)
        yield self.until(lambda: numbers)
        for number in (*numbers, 0, 2**22 + 1, 2**70, os.getpid()):
            with open(self.server.pid_file, "w") as file:
                file.write(str(number))
            self.assertIsNone(self.pid())
        yield self.servers.ensure(self.server, False)
        self.assertIsNotNone(self.pid())

    @inlineCallbacks
    def test_lost_pid_file(self):
        """A server whose pid file was lost is found all the same: to be replaced, or to be ended."""
        yield self.servers.ensure(self.server, False)
        before = self.pid()
        self.servers.let_go()
        os.unlink(self.server.pid_file)
        self.servers = self.made()
        yield self.servers.ensure(self.server, False)
        self.assertNotIn(self.pid(), (before, None))
        after = self.pid()
        self.servers.let_go()
        os.unlink(self.server.pid_file)
        self.servers = self.made()
        yield self.servers.remove(self.server)
        self.assertFalse(runs(after))

    @inlineCallbacks
    def test_no_room(self):
        """One that has ended is started again, also when the host has no room for a process at that moment."""
        yield self.servers.ensure(self.server, False)
        before = self.pid()
        self.host.refusals = 1
        os.kill(before, 9)
        yield self.until(lambda: self.pid() not in (before, None))
        self.assertEqual(self.host.refusals, 0)
