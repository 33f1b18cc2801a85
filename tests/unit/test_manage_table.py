"""
Tests for L{fabric.manage.table}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.manage.table import moment, plain, shown, table


class TableTests(SynchronousTestCase):
    """
    Tables for people.
    """

    def test_columns(self) -> None:
        """Columns stand below their headings, and lines have no spaces at their ends."""
        self.assertEqual(
            table(("id", "admin", "members"), [["ann", True, ["ann", "bob"]], ["b", False, []], ["c", None, ""]]),
            "ID   ADMIN  MEMBERS\nann  yes    ann,bob\nb    no     -\nc    -      -",
        )
        self.assertEqual(table(("id",), []), "ID")

    def test_moment(self) -> None:
        """Times are UTC, and none is nothing."""
        self.assertEqual(moment(1_795_255_200), "2026-11-21 10:00:00 UTC")
        self.assertEqual(moment(0), "")

    @given(st.text())
    def test_terminal(self, text: str) -> None:
        """Nothing that a user can name a thing moves a terminal's cursor or begins a line."""
        self.assertTrue(plain(text).isprintable())
        self.assertTrue(all(line.isprintable() for line in table(("name",), [[text]]).split("\n")))
        self.assertEqual(len(table(("name",), [[text]]).split("\n")), 2)

    def test_escapes(self) -> None:
        """Such a character is shown as Python writes it."""
        self.assertEqual(shown("a\n\x1b[2Jé"), "a\\n\\x1b[2Jé")
