"""
The queue within one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import DeadlineExceeded, Unavailable
from fabric.rpc.interface import Address, Context
from fabric.rpc.local import LocalQueue
from fabric.testing.echo import EchoWorker, IEchoWorker
from fabric.testing.rpc import QueueContract


def _with_clock(method: Callable[[Any], Deferred[None]]) -> Callable[[Any], None]:
    """A test of the contract, run to its end by a clock."""

    def test(self: Any) -> None:
        done = method(self)
        results: list[Any] = []
        done.addBoth(results.append)
        for _ in range(2000):
            if results:
                break
            self.clock.advance(0.01)
        self.successResultOf(succeed(results[0]) if results else done)

    test.__doc__ = method.__doc__
    return test


class LocalQueueContractTests(QueueContract, SynchronousTestCase):
    """
    The contract, under a clock.
    """

    def setUp(self) -> None:
        self.clock = Clock()

    def make_queue(self, metrics: Any = None) -> Deferred[Any]:
        """A queue on the test's clock."""
        return succeed(LocalQueue(self.clock, metrics, max_deliveries=3, retry_seconds=0.01))

    def pass_time(self, seconds: float) -> Deferred[None]:
        """Fires when the clock has come so far."""
        return deferLater(self.clock, seconds, lambda: None)


for _name in [name for name in dir(QueueContract) if name.startswith("test_")]:
    setattr(LocalQueueContractTests, _name, _with_clock(getattr(QueueContract, _name)))


class LocalQueueTests(SynchronousTestCase):
    """
    What only the queue within one process promises.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.queue = LocalQueue(self.clock)
        self.worker = EchoWorker()
        self.address = Address("echo")
        self.remote = self.queue.caller(IEchoWorker, self.address, Context(seconds=5.0))

    def _listen(self, prefetch: int = 1) -> None:
        self.queue.listen(self.address, IEchoWorker, self.worker, prefetch)

    def test_later_turn(self) -> None:
        """Nothing is delivered in the turn of the reactor in which it was sent."""
        self._listen()
        answer = self.remote.echo("a")
        self.assertEqual(self.worker.seen, [])
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(answer), ["a"])

    def test_idle_clock(self) -> None:
        """A queue that is stopped leaves nothing on the clock."""
        self._listen()
        self.remote.hold()
        self.clock.advance(0)
        stopped = self.queue.stop()
        self.worker.held[0].callback("a")
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_in_turn(self) -> None:
        """Free workers at a topic take messages in turn."""
        second = EchoWorker()
        self._listen(prefetch=9)
        self.queue.listen(self.address, IEchoWorker, second, 9)
        for value in "abcd":
            self.queue.caster(IEchoWorker, self.address, Context()).echo(value)
        self.clock.advance(0)
        self.assertEqual((self.worker.values, second.values), (["a", "c"], ["b", "d"]))

    def test_listener_left(self) -> None:
        """A call to an address that its worker has left is Unavailable."""
        listener = self.successResultOf(self.queue.listen(self.address, IEchoWorker, self.worker, 1))
        self.successResultOf(listener.stop())
        answer = self.remote.echo("a")
        self.clock.advance(0)
        self.failureResultOf(answer, Unavailable)

    def test_exact_deadline(self) -> None:
        """A call fails when its time is over, not before."""
        self._listen()
        answer = self.remote.hold()
        self.clock.advance(4.9)
        self.assertNoResult(answer)
        self.clock.advance(0.2)
        self.failureResultOf(answer, DeadlineExceeded)

    def test_pauses(self) -> None:
        """The pause before a cast is tried again doubles: 1, 2, 4 and 8 seconds."""
        self._listen()
        self.queue.caster(IEchoWorker, self.address, Context()).breaks()
        self.clock.advance(0)
        counts = []
        for _ in range(16):
            self.clock.advance(1)
            counts.append(len(self.worker.seen))
        self.assertEqual(counts, [2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 5)

    def test_dead_letters_kept(self) -> None:
        """A dead letter is kept in dead_letters until somebody takes it."""
        self._listen()
        self.queue.caster(IEchoWorker, self.address, Context()).breaks()
        for _ in range(16):
            self.clock.advance(1)
        self.assertEqual([letter.method for letter in self.queue.dead_letters], ["breaks"])
        taken = []
        self.queue.listen_dead(lambda *letter: succeed(taken.append(letter)))
        self.assertEqual((taken[0][:3], self.queue.dead_letters), ((self.address, "breaks", {}), []))
        self.flushLoggedErrors(ZeroDivisionError)
