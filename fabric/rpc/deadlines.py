"""
Deadlines of many things with one timer.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

Key = TypeVar("Key")


class Deadlines(Generic[Key]):
    """
    Calls back for each key at its time.  Keys are never withdrawn: who gets one
    that it has finished with ignores it.  That makes the common case, an answer
    in time, cost one push on a heap instead of a timer.
    """

    def __init__(self, clock: IReactorTime, expired: Callable[[Key], None]) -> None:
        """
        @param expired: called with a key when its time has come.
        """
        self._clock = clock
        self._expired = expired
        self._heap: list[tuple[float, int, Key]] = []
        self._count = 0
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def add(self, seconds: float, key: Key) -> None:
        """Call back with C{key} in so many seconds."""
        self._count += 1
        at = self._clock.seconds() + seconds
        heapq.heappush(self._heap, (at, self._count, key))
        if self._timer is None:
            self._arm(at)
        elif at < self._timer_at:
            self._timer.cancel()
            self._arm(at)

    def stop(self) -> None:
        """Forget everything."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        self._timer_at = at
        self._timer = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        if self._heap:
            self._arm(self._heap[0][0])
        for key in due:
            self._expired(key)
