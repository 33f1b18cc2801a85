"""
One order at a time for each volume.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock

T = TypeVar("T")


class Turns:
    """
    Runs what is to be done with a volume when all that came before is done.
    """

    def __init__(self) -> None:
        self._locks: dict[str, DeferredLock] = {}

    def run(self, id: str, work: Callable[[], Deferred[T]]) -> Deferred[T]:
        """
        @return: fires with the result of C{work}, which is begun in its turn.
        """
        lock = self._locks.get(id)
        if lock is None:
            lock = self._locks[id] = DeferredLock()
        return lock.run(work).addBoth(self._left, id, lock)

    def _left(self, result: Any, id: str, lock: DeferredLock) -> Any:
        if not lock.locked and not lock.waiting and self._locks.get(id) is lock:
            del self._locks[id]
        return result
