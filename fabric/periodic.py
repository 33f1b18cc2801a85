"""
Work that is done again and again, whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger


class Periodic(Service):
    """
    Acts when started, and again C{interval} seconds after it is done.

    An error is logged and ends nothing; after one the next try comes sooner.
    What does not finish in C{limit} seconds is cancelled.
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        interval: float,
        act: Callable[[], Any],
        clock: IReactorTime,
        retry: float = 1.0,
        limit: float = 60.0,
        first: float = 0.0,
    ) -> None:
        """
        @param name: what it is, for the log and among its parent's services.
        @param interval: seconds.
        @param act: what is done; may return a Deferred.
        @param retry: seconds until the next try after a failure, when that is
            less than the interval.
        @param first: seconds from the start to the first time; 0 for at once.
        """
        self.name = name
        self._interval = interval
        self._act = act
        self._clock = clock
        self._retry = min(retry, interval)
        self._limit = limit
        self._first = first
        self._next: IDelayedCall | None = None
        self._current: Deferred[None] | None = None

    def startService(self) -> None:
        """Begin."""
        super().startService()
        if self._current is not None or self._next is not None:
            return
        if self._first:
            self._next = self._clock.callLater(self._first, self._begin)
        else:
            self._begin()

    def stopService(self) -> Deferred[None] | None:
        """
        Do it no more.

        @return: fires when what is going on has ended; it is cancelled.
        """
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        current = self._current
        if current is None:
            return None
        ended: Deferred[None] = Deferred()
        current.addBoth(lambda _: ended.callback(None))
        current.cancel()
        return ended

    def _begin(self) -> None:
        self._next = None
        self._current = current = self._once()
        current.addBoth(self._ended)

    def _ended(self, result: Any) -> None:
        self._current = None

    @inlineCallbacks
    def _once(self) -> Generator[Deferred[Any], Any, None]:
        delay = self._interval
        try:
            yield maybeDeferred(self._act).addTimeout(self._limit, self._clock)
        except CancelledError:
            pass
        except Exception:
            delay = self._retry
            if self.running:
                self.log.failure("{name} failed, again in {delay} s", name=self.name, delay=delay)
        if self.running:
            self._next = self._clock.callLater(delay, self._begin)
