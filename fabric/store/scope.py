"""
Pages of all that one scope lists, unfiltered, read by Redis's own commands.

A view that passes through a script is copied twice more, and a listing of
thousands is mostly copying: C{SORT … BY nosort GET} costs a third of that.  It
pages by rank, while cursors are places, which stay true when records come and
go; so a cursor carries the rank as a guess that the same transaction checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fabric.store.interface import Page

Command = tuple[str | bytes | int, ...]


def split(cursor: str) -> tuple[int, int]:
    """
    @return: the place after which a page begins, and the guess of how many
        records are up to it.
    """
    place, _, rank = cursor.partition(".")
    return int(place or 0), int(rank or 0)


def commands(kind: str, scope: str, view: str, after: int, rank: int, limit: int) -> list[Command]:
    """
    What reads one page, as one transaction: C{rank} records are skipped.
    """
    index, last = f"x:{kind}:{scope}", rank + limit - 1
    return [
        ("MULTI",),
        ("ZCOUNT", index, "-inf", after),
        ("SORT", index, "BY", "nosort", "LIMIT", rank, limit, "GET", f"o:{kind}:*->v:{view}"),
        ("ZRANGE", index, last, last + 1, "WITHSCORES"),
        ("EXEC",),
    ]


def page(reply: Sequence[Any], rank: int, limit: int) -> Page | int:
    """
    @return: the page, or the right rank where the guess was wrong.
    """
    before, views, around = reply
    if before != rank:
        return int(before)
    cursor = f"{int(around[1])}.{rank + limit}" if len(around) == 4 else ""
    return Page([view for view in views if view is not None], cursor)
