"""
Repeating a read-change-write until nobody else wrote in between.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.errors import Conflict

T = TypeVar("T")

ATTEMPTS = 12
"""Each attempt that fails means that somebody else's write succeeded."""


@inlineCallbacks
def until_written(attempt: Callable[[], Deferred[T]], attempts: int = ATTEMPTS) -> Generator[Deferred[Any], Any, T]:
    """
    Run C{attempt}, which reads and commits, again after each
    L{fabric.errors.Conflict}; the last one passes through.

    @param attempts: more for what many write at once.
    """
    for _ in range(attempts - 1):
        try:
            return (yield attempt())  # type: ignore[no-any-return]
        except Conflict:
            continue
    return (yield attempt())  # type: ignore[no-any-return]
