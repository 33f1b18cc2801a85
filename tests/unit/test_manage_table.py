"""
Tests for L{fabric.manage.table}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.manage.client import Credentials
from fabric.manage.commands import commands
from fabric.manage.table import moment, plain, printed, shown, table


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

    @given(st.text(st.characters(categories=("L", "N", "P", "Z", "Cc"))))
    def test_console(self, text: str) -> None:
        """No guest moves an operator's cursor by what it prints, but for its lines."""
        self.assertTrue(all(line.isprintable() for line in printed(text).split("\n")))

    def test_console_lines(self) -> None:
        """Lines and columns of a console stay, and nothing is lost."""
        text = "a\tb\r\n\x1b]0;title\x07one\rtwo\r\n\r\nlogin: \r\n"
        self.assertEqual(printed(text), "a       b\n\\x1b]0;title\\x07one\\rtwo\n\nlogin: ")


class HostListTests(SynchronousTestCase):
    """
    The table of C{host list}.
    """

    def test_every_kind_of_host(self) -> None:
        """Compute hosts show what instances take, volume hosts their GiB, others nothing."""
        show = next(each for each in commands(Credentials("", "", "")) if each.words == "host list").show
        room = {"vcpus": 4, "memory_mb": 2048, "disk_gb": 50}
        row = {
            "zone": "nova",
            "alive": True,
            "disabled": False,
            "disabled_reason": "",
            "last_beat": 0,
            "capacity": room,
        }
        busy = {"instances": 1, "vcpus": 2, "memory_mb": 512, "disk_gb": 3}
        text = show(
            [
                row | {"id": "compute.a", "load": busy | {"gpus": 0}},
                row | {"id": "volume.a", "load": {"gigabytes": 7}},
                row | {"id": "network.a", "load": {}},
                row | {"id": "compute.b", "load": busy | {"gpus": 1}, "capacity": room | {"gpus": 2}},
            ]
        )
        lines = [line.split() for line in text.splitlines()[1:]]
        self.assertEqual(lines[0][-5:], ["1", "2/4", "512/2048", "3/50", "-"])
        self.assertEqual(lines[1][-5:], ["-", "-", "-", "7/50", "-"])
        self.assertEqual(lines[2][-5:], ["-", "-", "-", "-", "-"])
        self.assertEqual(lines[3][-5:], ["1", "2/4", "512/2048", "3/50", "1/2"])
