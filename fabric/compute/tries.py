"""
What is tried more than once before it is held to have failed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from fabric.errors import DeadlineExceeded, DriverFailure, FabricError, Unavailable

Retried = tuple[type[FabricError], ...]

NETWORK_TRIES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds to wait before each further try to reach the network worker."""

NETWORK_AWAY: Retried = (Unavailable, DeadlineExceeded)
"""Errors of a network worker that may be over when it is asked again."""

DESTROY_TRIES = (1.0, 5.0)
"""Seconds to wait before each further try to remove a machine."""

DRIVER_TROUBLE: Retried = (DriverFailure,)
"""Errors of a driver that may be over when it is asked again."""


class Tries:
    """
    Repeats what may be repeated.
    """

    log = Logger()

    def __init__(self, host: str, clock: IReactorTime) -> None:
        self._host = host
        self._clock = clock

    @inlineCallbacks
    def run(
        self, waits: Sequence[float], transient: Retried, act: Callable[[], Deferred[None]]
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Do it, and after a transient error once more, and so on.

        @param waits: seconds to wait before each further try.
        """
        for wait in waits:
            try:
                yield act()
                return
            except transient as error:
                self.log.info("{host}: again in {wait} s: {error}", host=self._host, wait=wait, error=error)
            yield deferLater(self._clock, wait)
        yield act()
