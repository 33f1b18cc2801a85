"""
One order at a time for each thing: a machine, a volume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")


class Turn:
    """
    An order's place in the queues of the things that it is about.

    @ivar ready: fires when it is first in all of them; None when it was at
        once.
    """

    def __init__(self, turns: Turns, ids: Iterable[str]) -> None:
        self._turns = turns
        self._ids = set(ids)
        self.waiting = 0
        self.ready: Deferred[None] | None = None

    def leave(self, id: str) -> None:
        """Be done with one thing; leaving twice is safe."""
        if id in self._ids:
            self._ids.discard(id)
            self._turns.left(id, self)

    def leave_all(self) -> None:
        """Be done with all that are not left yet."""
        for id in list(self._ids):
            self.leave(id)


class Turns:
    """
    Queues of orders, one queue a thing, first come first served.

    An order enters the queues of all its things in one step, so orders about
    the same ones can't wait for each other in a ring.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._queues: dict[str, deque[Turn]] = {}

    def enter(self, ids: Iterable[str]) -> Turn:
        """
        Queue up for things.

        @return: to be left for each, or no later order about it is begun.
        """
        ids = list(ids)
        turn = Turn(self, ids)
        for id in ids:
            queue = self._queues.get(id)
            if queue is None:
                self._queues[id] = deque((turn,))
            else:
                queue.append(turn)
                turn.waiting += 1
        if turn.waiting:
            turn.ready = Deferred()
        return turn

    def run(self, id: str, work: Callable[[], Deferred[T]]) -> Deferred[T]:
        """
        Do something in one thing's turn.

        @return: what C{work} gives; its failure is passed on.  The turn is left
            in both cases.
        """
        return self.run_all((id,), work)

    @inlineCallbacks
    def run_all(self, ids: Iterable[str], work: Callable[[], Deferred[T]]) -> Generator[Deferred[Any], Any, T]:
        """Do something when all these things have their turn; as L{run}."""
        turn = self.enter(ids)
        try:
            if turn.ready is not None:
                yield turn.ready
            return (yield work())  # type: ignore[no-any-return]
        finally:
            turn.leave_all()

    def busy(self, id: str) -> bool:
        """Whether an order about it is being carried out or waits."""
        return id in self._queues

    def left(self, id: str, turn: Turn) -> None:
        """A turn is done with a thing; called by L{Turn.leave}."""
        queue = self._queues[id]
        if queue[0] is not turn:  # it gave up before its turn came
            queue.remove(turn)
            turn.waiting -= 1
            return
        queue.popleft()
        if not queue:
            del self._queues[id]
            return
        following = queue[0]
        following.waiting -= 1
        if following.waiting == 0 and following.ready is not None:
            # From the reactor, for a long queue would be as deep a stack.
            self._clock.callLater(0, following.ready.callback, None)
