"""
Tables for people.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    return str(value)
