"""
Tests for L{fabric.image.appender}.
"""

from __future__ import annotations

import errno
import os

from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from fabric.image import appender
from fabric.image.appender import Appender


class AppenderTests(SynchronousTestCase):
    """
    A file that grows.
    """

    def setUp(self):
        """A file that is not there yet."""
        self.path = self.mktemp()
        self.clock = Clock()
        self.appender = Appender(
            self.path, lambda function, *arguments: deferLater(self.clock, 0.0, function, *arguments)
        )

    def settled(self, work):
        """What threads do is done."""
        self.clock.pump([0.0, 0.0])
        return work

    def content(self):
        """What is in the file."""
        with open(self.path, "rb") as opened:
            return opened.read()

    def test_appends(self):
        """What came is in the file, in order."""
        for data in (b"one ", b"two"):
            self.successResultOf(self.settled(self.appender.write(data)))
        self.successResultOf(self.settled(self.appender.close(True)))
        self.assertEqual(self.content(), b"one two")

    def test_full_disk(self):
        """After a part that could not be written none is, so that what is there can be gone on with."""
        self.successResultOf(self.settled(self.appender.write(b"one ")))
        write = os.write

        def full(descriptor, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(appender.os, "write", full)
        self.failureResultOf(self.settled(self.appender.write(b"two ")), OSError)
        self.patch(appender.os, "write", write)
        self.failureResultOf(self.settled(self.appender.write(b"three")), OSError)
        self.successResultOf(self.settled(self.appender.close(True)))
        self.assertEqual(self.content(), b"one ")
