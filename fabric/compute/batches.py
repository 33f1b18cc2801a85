"""
Things that are dealt with together, as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IDelayedCall, IReactorTime

T = TypeVar("T")


class Batches(Generic[T]):
    """
    What comes at about the same time is dealt with at once, and nothing waits
    for what comes much later.
    """

    def __init__(self, clock: IReactorTime, seconds: float, act: Callable[[list[T]], Deferred[None]]) -> None:
        """
        @param seconds: for which the first of a batch waits for others.
        @param act: deals with a batch; it may be called while it has to do
            with an earlier one.
        """
        self._clock = clock
        self._seconds = seconds
        self._act = act
        self._gathered: list[T] = []
        self._next: IDelayedCall | None = None
        self._acting: list[Deferred[None]] = []

    def add(self, item: T) -> None:
        """Have it dealt with soon."""
        self._gathered.append(item)
        if self._next is None:
            self._next = self._clock.callLater(self._seconds, self._begin)

    @inlineCallbacks
    def finish(self) -> Generator[Deferred[Any], Any, None]:
        """No more will come: deal with the last ones now, and wait until all is done."""
        if self._next is not None:
            self._next.cancel()
            self._begin()
        yield from self._acting

    def _begin(self) -> None:
        self._next = None
        batch, self._gathered = self._gathered, []
        self._acting.append(self._act(batch))
