"""
Guests that are quiet, over the driver that libvirt has for tests: it runs nothing.
"""

from __future__ import annotations

from xml.etree.ElementTree import tostring

import libvirt
from twisted.trial.unittest import SynchronousTestCase

from fabric.compute.libvirt import guests
from fabric.compute.libvirt.domain import uuid_of
from fabric.compute.libvirt.notes import Notes

ID = "i-0123456789abcdef0"


class QuietTests(SynchronousTestCase):
    """
    What a domain remembers of having been stopped for a while.
    """

    def setUp(self):
        """A guest that runs, rescued, by order 3."""
        self.connection = libvirt.open("test:///default")
        self.addCleanup(self.connection.close)
        notes = tostring(Notes(ID, "p", 3, rescue=True).element(), encoding="unicode")
        guests.boot(
            self.connection,
            ID,
            f"<domain type='test'><name>{ID}</name><uuid>{uuid_of(ID)}</uuid><memory>1024</memory>"
            f"<os><type>hvm</type></os><metadata>{notes}</metadata></domain>",
        )
        self.addCleanup(self.remove)

    def remove(self):
        """It is no more."""
        guests.kill(self.connection, ID)
        guests.handle(self.connection, ID).undefine()

    def seen(self):
        """Its state, its number, and until when it is quiet."""
        found = guests.look(self.connection, ID)
        self.assertTrue(found.notes.rescue)
        return found.domain.state, found.domain.order, found.domain.quiet_until

    def test_woken(self):
        """It runs again when it is woken, once, by whomever."""
        self.assertTrue(guests.hush(self.connection, ID, 5.5))
        guests.kill(self.connection, ID)
        self.assertEqual(self.seen(), ("stopped", 3, 5.5))
        self.assertTrue(guests.hush(self.connection, ID, 7.5))
        self.assertEqual(self.seen(), ("stopped", 3, 7.5))
        for _ in range(2):
            guests.wake(self.connection, ID)
            self.assertEqual(self.seen(), ("running", 3, 0.0))
        guests.kill(self.connection, ID)
        guests.wake(self.connection, ID)
        self.assertEqual(self.seen(), ("stopped", 3, 0.0))
        self.assertFalse(guests.hush(self.connection, ID, 5.5))

    def test_before_it_was_stopped(self):
        """One whose stopping was broken off runs on."""
        guests.hush(self.connection, ID, 5.5)
        self.assertEqual(self.seen(), ("running", 3, 5.5))
        guests.wake(self.connection, ID)
        self.assertEqual(self.seen(), ("running", 3, 0.0))

    def test_ordered(self):
        """An order ends it, also one with the same number."""
        for order in (3, 4):
            guests.boot(self.connection, ID)
            guests.hush(self.connection, ID, 5.5)
            guests.kill(self.connection, ID)
            guests.number(self.connection, ID, order)
            guests.wake(self.connection, ID)
            self.assertEqual(self.seen(), ("stopped", order, 0.0))

    def test_nobody(self):
        """Nothing is done to one that is not there."""
        self.assertFalse(guests.hush(self.connection, "i-0123456789abcdef1", 5.5))
        guests.wake(self.connection, "i-0123456789abcdef1")
