"""
Tests for L{fabric.journal}.
"""

from __future__ import annotations

import os

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fabric import journal as journal_module
from fabric.errors import DriverFailure
from fabric.journal import Journal


@attrs.frozen
class Row:
    """Something to keep."""

    text: str
    numbers: tuple[int, ...] = ()


class JournalTests(SynchronousTestCase):
    """
    What was answered for is there again.
    """

    def setUp(self):
        """An open table."""
        self.path = self.mktemp() + "/deep/table"
        self.journal = self.opened()

    def opened(self):
        """The table as a new process finds it."""
        journal = Journal(self.path, Row)
        journal.open()
        self.addCleanup(journal.close)
        return journal

    def test_put(self):
        """A row that was put is there, also for another process."""
        row = Row("é\n", (1, 2))
        self.journal.put("a", row)
        self.journal.put("b", Row("b"))
        self.assertEqual(self.opened().rows, {"a": row, "b": Row("b")})

    def test_lasting(self):
        """A lasting table is on the disk, and then its name, whenever it is written anew."""
        steps = []
        for name in ("fsync", "replace"):
            real = getattr(os, name)
            self.patch(journal_module.os, name, lambda *given, name=name, real=real: (steps.append(name), real(*given)))
        lasting = Journal(self.path, Row, lasting=True)
        lasting.open()
        lasting.close()
        self.assertEqual(steps, ["fsync", "replace", "fsync"])

    def test_change(self):
        """The last change counts."""
        self.journal.put("a", Row("1"))
        self.journal.put("a", Row("2"))
        self.assertEqual(self.opened().rows, {"a": Row("2")})

    def test_remove(self):
        """A row that was removed is not there; removing it again is nothing."""
        self.journal.put("a", Row("1"))
        self.journal.remove("a")
        self.journal.remove("a")
        self.assertEqual(self.journal.rows, {})
        self.assertEqual(self.opened().rows, {})

    def test_full_disk(self):
        """A row of which only a part could be written takes none that comes later with it."""
        write = os.write
        self.patch(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        self.assertRaises(DriverFailure, self.journal.put, "a", Row("1"))
        self.patch(os, "write", write)
        self.journal.put("b", Row("2"))
        self.assertEqual(self.opened().rows, {"b": Row("2")})

    def test_torn(self):
        """A line cut short at any place is as if never written, and hurts no other."""
        self.journal.put("a", Row("1"))
        with open(self.path, "rb") as file:
            whole = file.read()
        self.journal.put("b", Row("2"))
        with open(self.path, "rb") as file:
            both = file.read()
        for end in range(len(whole), len(both) - 1):
            with open(self.path, "wb") as file:
                file.write(both[:end])
            journal = self.opened()
            self.assertEqual(journal.rows.get("a"), Row("1"))
            journal.put("c", Row("3"))
            self.assertEqual(self.opened().rows["c"], Row("3"))

    def test_unwritable(self):
        """What can't be written is a DriverFailure, and changes nothing."""
        self.journal.put("a", Row("1"))
        self.journal.close()
        self.assertRaises(DriverFailure, self.journal.put, "a", Row("2"))
        self.assertRaises(DriverFailure, self.journal.remove, "a")
        self.assertEqual(self.journal.rows, {"a": Row("1")})
