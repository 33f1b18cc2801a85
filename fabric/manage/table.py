"""
Tables for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """
    @return: rows under their headings, columns aligned.
    """
    cells = [[heading.upper() for heading in columns], *[[shown(value) for value in row] for row in rows]]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def shown(value: Any) -> str:
    """
    @return: a value as one cell; nothing is C{-}.
    """
    if value is None or value == "" or value == []:
        return "-"
    if value is True or value is False:
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(shown(item) for item in value)
    return plain(str(value))


def plain(text: str) -> str:
    """
    @return: text that may go to a terminal: what is not printable, as the
        start of an escape sequence or a new line, is shown as C{\\x1b}.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printed(text: str) -> str:
    """
    @return: what a guest printed, line by line, for a terminal: its tabs are
        spaces, and what else would move the cursor is shown as L{plain} does.
    """
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    return "\n".join(plain(line.expandtabs().rstrip("\r")) for line in lines)


def moment(seconds: float) -> str:
    """
    @return: seconds since the epoch as C{2026-11-21 10:00:00 UTC}; nothing for none.
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else ""
