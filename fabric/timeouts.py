"""
Work that is given up when it takes too long.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fabric.errors import DriverFailure

T = TypeVar("T")


def in_time(work: Deferred[T], seconds: float, clock: IReactorTime, who: str = "the driver") -> Deferred[T]:
    """
    Have work cancelled after so many seconds.

    @param who: does it, for people.
    @return: C{work}; it fails with L{DriverFailure} then.
    """

    def too_long(result: Any, seconds: float) -> Any:
        raise DriverFailure(what=f"no answer of {who} within {seconds:g} s")

    return work.addTimeout(seconds, clock, too_long)


def apart(work: Deferred[T]) -> Deferred[T]:
    """
    @return: what C{work} gives.  Cancelled, it fails at once, whereas C{work}
        may need its time to end.
    """
    answer: Deferred[T] = Deferred(lambda answer: work.cancel())

    def pass_on(result: Any) -> None:
        if not answer.called:
            answer.callback(result)

    work.addBoth(pass_on)
    return answer
