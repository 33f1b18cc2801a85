"""
The event stream's reader: what state did, told once, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.store.interface import IStore

BATCH = 500

Listener = Callable[[dict[str, str]], None]


class EventReader:
    """
    Follows the cloud's stream from a time on, and tells a listener.
    """

    def __init__(self, store: IStore, listener: Listener, since: float) -> None:
        """
        @param since: seconds since the epoch.
        """
        self._store = store
        self._listener = listener
        self._position = f"{int(since * 1000)}-0"

    @inlineCallbacks
    def turn(self) -> Generator[Deferred[Any], Any, int]:
        """
        Tell what has happened since the last turn.

        @return: how much that was.
        """
        total = 0
        while True:
            events = yield self._store.events(self._position, BATCH, None)
            for position, event in events:
                self._position = position
                self._listener(event)
            total += len(events)
            if len(events) < BATCH:
                return total
