"""
Orders that take long, each in hand once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Once:
    """
    Which orders are in hand, waiting ones included.  The controller sends an order again
    until it hears what became of it: the second copy of one that is in hand
    is not needed, and would take the place of other orders meanwhile.
    """

    def __init__(self) -> None:
        self._held: set[Hashable] = set()

    @contextmanager
    def taken(self, orders: Iterable[T], key: Callable[[T], Hashable], most: int | None = None) -> Iterator[list[T]]:
        """
        Take orders in hand, until the end of the C{with}.

        @param key: what tells an order from others.
        @param most: how many may be in hand; None for any number.
        @return: those that are to be carried out.
        """
        fresh: dict[Hashable, T] = {}
        for order in orders:
            if key(order) not in self._held and (most is None or len(self._held) + len(fresh) < most):
                fresh.setdefault(key(order), order)
        self._held |= fresh.keys()
        try:
            yield list(fresh.values())
        finally:
            self._held -= fresh.keys()
