"""
Tests for L{fabric.compute.libvirt.capture} over a guest that only says whether it runs.
"""

from __future__ import annotations

import os

from twisted.internet.defer import maybeDeferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from fabric.compute.interface import Domain
from fabric.compute.libvirt import guests
from fabric.compute.libvirt.capture import Capture
from fabric.compute.libvirt.files import ImageFiles, Store
from fabric.compute.libvirt.notes import Notes
from fabric.errors import DriverFailure


class Guest(Store):
    """
    A guest, its files, and the connection to it.

    @ivar state: as of L{Domain}.
    @ivar broken: why its disk can't be copied; empty when it can.
    """

    def __init__(self, directory):
        super().__init__(directory)
        self.state = "running"
        self.broken = ""
        self.hushed = False
        os.makedirs(self.of("i-1").directory)

    def call(self, function, *args):
        """What is asked of libvirt."""
        if function is guests.wake:
            self.state, self.hushed = "running" if self.hushed else self.state, False
            return succeed(None)
        assert function is guests.look, function
        found = Domain("i-1", self.state)
        return succeed(guests.Found(found, Notes("i-1", "p", 1), "", ImageFiles(), {"ua-root": "vda"}, {}))

    def work(self, function, *args):
        """What is done to files."""
        return maybeDeferred(function, *args)

    def quiet(self, id, until):
        """It stops for a while."""
        self.state, self.hushed = "stopped", self.state == "running"
        return succeed(None)

    def copy(self, source, target):
        """Its disk is copied."""
        if self.broken:
            with open(target + ".part", "wb"):
                raise DriverFailure(self.broken)
        with open(target, "wb"):
            pass


class CaptureTests(SynchronousTestCase):
    """
    What becomes of a guest whose disk is copied while it is stopped.
    """

    def setUp(self):
        """One that runs."""
        self.guest = Guest(self.mktemp())
        self.capture = Capture(self.guest, self.guest, self.guest)

    def test_restarted(self):
        """It runs again afterwards; one that was stopped stays so."""
        self.successResultOf(self.capture.make("i-1", "ami-1", True))
        self.assertEqual(self.guest.state, "running")
        self.guest.state = "stopped"
        self.successResultOf(self.capture.make("i-1", "ami-2", True))
        self.assertEqual(self.guest.state, "stopped")

    def test_restarted_after_failure(self):
        """It runs again also when the copy failed; of that one nothing is left once it is dropped."""
        self.guest.broken = "no room on the disk"
        error = self.failureResultOf(self.capture.make("i-1", "ami-1", True), DriverFailure)
        self.assertEqual((error.value.what, self.guest.state), ("no room on the disk", "running"))
        self.guest.drop_captured("ami-1")
        self.assertEqual(os.listdir(os.path.dirname(self.guest.captured("ami-1"))), [])
