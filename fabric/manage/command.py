"""
What a command is: its words, its arguments, the admin action and the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from fabric.manage.client import Client
from fabric.manage.table import moment, table

Run = Callable[[Client, argparse.Namespace], Any]
Show = Callable[[Any], str]


@attrs.frozen
class Argument:
    """
    One argument, as C{argparse} takes it.
    """

    names: tuple[str, ...]
    options: dict[str, Any]


@attrs.frozen
class Command:
    """
    @ivar words: as C{user list}.
    @ivar run: asks, and returns what C{--json} prints.
    @ivar show: the same for people.
    @ivar failed: whether a result means exit status 1.
    """

    words: str
    help: str
    arguments: Sequence[Argument]
    run: Run
    show: Show
    failed: Callable[[Any], bool] = lambda result: False


def argument(*names: str, **options: Any) -> Argument:
    """Shorthand for an L{Argument}."""
    return Argument(names, options)


def rows(*columns: str) -> Show:
    """A table of a list of dicts, by these of their keys."""
    return lambda result: table(columns, [[_cell(row, column) for column in columns] for row in result])


def pairs(result: Any) -> str:
    """A table of one dict."""
    return table(("name", "value"), [[name, _cell(result, name)] for name in result])


def _cell(row: Any, name: str) -> Any:
    value = row.get(name)
    return moment(value) if name.endswith("_at") and isinstance(value, int | float) else value


def done(result: Any) -> str:
    """For what has nothing to tell."""
    return "done"


def ask(action: str, *names: str, **fixed: Any) -> Run:
    """Call an action with these arguments."""
    return lambda client, given: client.call(action, **{name: getattr(given, name) for name in names}, **fixed)
