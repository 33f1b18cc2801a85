"""
What every L{IQueue} promises, as tests.

A suite is made by mixing L{QueueContract} with a test case that says how to make
queues and how to wait.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from fabric.errors import (
    DeadlineExceeded,
    FabricError,
    NoCapacity,
    NotFound,
    RemoteFailure,
    Unavailable,
    UnknownMethod,
)
from fabric.rpc.dead import IDeadLetters
from fabric.rpc.interface import Address, Context, IListener, IQueue
from fabric.testing.echo import CountingMetrics, EchoWorker, IEchoWorker, INewerEchoWorker, Letters

if TYPE_CHECKING:
    _Mixin = SynchronousTestCase
else:
    _Mixin = object

TEXTS = ["", "plain", "héllo wörld", "日本語 ☃ 🐍", '\x00\x01\n"\\', "x" * 1000]


class QueueFixtures(_Mixin):
    """
    What tests of queues need.  The test case that this is mixed into has the
    methods C{make_queue} and C{pass_time}.
    """

    def make_queue(self, metrics: Any = None) -> Deferred[Any]:
        """@return: a queue, which is stopped after the test."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> Deferred[None]:
        """Let time pass."""
        raise NotImplementedError

    def topic(self, host: str = "") -> Address:
        """An address that no other test uses."""
        return Address("-".join(self.id().split(".")[-2:]), host)

    @inlineCallbacks
    def serve(
        self, prefetch: int = 10, worker: EchoWorker | None = None, address: Address | None = None
    ) -> Generator[Deferred[Any], Any, tuple[Any, EchoWorker, Address]]:
        """@return: a queue, and a worker that listens through it at an address."""
        queue = yield self.make_queue()
        worker = worker or EchoWorker()
        address = address or self.topic()
        yield queue.listen(address, IEchoWorker, worker, prefetch)
        return queue, worker, address

    @inlineCallbacks
    def fails(self, kind: type[Exception], deferred: Deferred[Any]) -> Generator[Deferred[Any], Any, Any]:
        """@return: the error that a Deferred fails with, which has to be of a kind."""
        try:
            result = yield deferred
        except kind as error:
            return error
        raise AssertionError(f"answered {result!r} instead of failing with {kind.__name__}")

    def forgive(self, kind: type[Exception], count: int) -> None:
        """So many errors of a kind were logged, and nothing else."""
        self.assertEqual(len(self.flushLoggedErrors(kind)), count)

    @inlineCallbacks
    def collect_dead(self, queue: Any, failures: int = 0) -> Generator[Deferred[Any], Any, Letters]:
        """@return: the dead letters as they come."""
        letters = Letters(failures)
        listener = yield queue.listen_dead(letters.take)
        self.addCleanup(listener.stop)
        return letters


class QueueContract(QueueFixtures):
    """
    The promises.  The test case that this is mixed into makes queues and lets
    time pass.

    A queue is made so that a failed cast is tried three times in all, with next
    to no pause.
    """

    @inlineCallbacks
    def test_interface(self) -> Generator[Deferred[Any], Any, None]:
        """A queue provides IQueue and IDeadLetters, its listener IListener, and a remote the worker's interface."""
        queue, _, address = yield self.serve()
        verifyObject(IQueue, queue)
        verifyObject(IDeadLetters, queue)
        listener = yield queue.listen(address, IEchoWorker, EchoWorker(), 1)
        verifyObject(IListener, listener)
        verifyObject(IEchoWorker, queue.caller(IEchoWorker, address, Context()))
        verifyObject(IEchoWorker, queue.caster(IEchoWorker, address, Context()))

    @inlineCallbacks
    def test_call(self) -> Generator[Deferred[Any], Any, None]:
        """A call brings the worker's answer; arguments may be given by place or by name, or left to their defaults."""
        queue, _, address = yield self.serve()
        remote = queue.caller(IEchoWorker, address, Context())
        answers = yield gatherResults([remote.echo("a"), remote.echo("b", 2), remote.echo(times=3, value="c")])
        self.assertEqual(answers, [["a"], ["b", "b"], ["c", "c", "c"]])

    @inlineCallbacks
    def test_values(self) -> Generator[Deferred[Any], Any, None]:
        """Every JSON value arrives as it was sent, text of any script and of none included."""
        queue, _, address = yield self.serve()
        remote = queue.caller(IEchoWorker, address, Context())
        values: list[Any] = [None, True, False, 0, -1, 2**53, 1.5, [], {}, {"å": [1, {"b": None}]}, *TEXTS]
        for value in values:
            self.assertEqual((yield remote.echo(value)), [value])

    @inlineCallbacks
    def test_copies(self) -> Generator[Deferred[Any], Any, None]:
        """What was sent can be changed afterwards without the worker seeing it."""
        queue, _, address = yield self.serve()
        value = {"list": [1]}
        sent = queue.caller(IEchoWorker, address, Context()).echo(value)
        value["list"].append(2)
        self.assertEqual((yield sent), [{"list": [1]}])

    @inlineCallbacks
    def test_not_json(self) -> Generator[Deferred[Any], Any, None]:
        """What JSON can't say is refused where it is sent."""
        queue, _, address = yield self.serve()
        for value in (b"bytes", {1: 2}, object(), {"a"}):
            self.assertRaises(TypeError, queue.caller(IEchoWorker, address, Context()).echo, value)
            self.assertRaises(TypeError, queue.caster(IEchoWorker, address, Context()).echo, value)

    @inlineCallbacks
    def test_wrong_arguments(self) -> Generator[Deferred[Any], Any, None]:
        """A call that does not fit the interface is refused where it is made."""
        queue, _, address = yield self.serve()
        remote = queue.caller(IEchoWorker, address, Context())
        self.assertRaises(TypeError, remote.echo)
        self.assertRaises(TypeError, remote.echo, "a", 1, 2)
        self.assertRaises(TypeError, remote.echo, "a", value="b")
        self.assertRaises(TypeError, remote.echo, "a", loudly=True)
        self.assertRaises(AttributeError, lambda: remote.seen)

    @inlineCallbacks
    def test_big(self) -> Generator[Deferred[Any], Any, None]:
        """Five megabytes go there and back."""
        queue, _, address = yield self.serve()
        value = "é" * 2_500_000
        answer = yield queue.caller(IEchoWorker, address, Context()).echo(value)
        self.assertTrue(answer == [value])

    @inlineCallbacks
    def test_cast(self) -> Generator[Deferred[Any], Any, None]:
        """A cast fires with None and reaches the worker once, with its request id."""
        queue, worker, address = yield self.serve()
        result = yield queue.caster(IEchoWorker, address, Context(request_id="r-1")).echo("a")
        yield worker.until(1)
        self.assertIsNone(result)
        self.assertEqual(worker.seen, [("echo", "r-1")])

    @inlineCallbacks
    def test_cast_waits(self) -> Generator[Deferred[Any], Any, None]:
        """A cast waits for a worker, also where none has listened before; depths() counts it."""
        queue = yield self.make_queue()
        address, worker = self.topic("h1.example.org"), EchoWorker()
        yield queue.caster(IEchoWorker, address, Context(seconds=0.001)).echo("a")
        depths = yield queue.depths()
        self.assertEqual(depths[address.routing_key], 1)
        yield self.pass_time(0.1)
        yield queue.listen(address, IEchoWorker, worker, 1)
        yield worker.until(1)
        depths = yield queue.depths()
        self.assertEqual(depths[address.routing_key], 0)

    @inlineCallbacks
    def test_nobody(self) -> Generator[Deferred[Any], Any, None]:
        """A call to an address where nobody has listened fails with Unavailable at once."""
        queue = yield self.make_queue()
        error = yield self.fails(Unavailable, queue.caller(IEchoWorker, self.topic(), Context()).echo("a"))
        self.assertEqual(error.why, "nobody listens")

    @inlineCallbacks
    def test_typed_errors(self) -> Generator[Deferred[Any], Any, None]:
        """A worker's typed error arrives as the same class with the same fields."""
        queue, _, address = yield self.serve()
        error = yield self.fails(NotFound, queue.caller(IEchoWorker, address, Context()).find("ö-1"))
        self.assertEqual((error.kind, error.id), ("echo", "ö-1"))

    @inlineCallbacks
    def test_nested_error(self) -> Generator[Deferred[Any], Any, None]:
        """An error whose field is a mapping arrives whole."""
        queue, worker, address = yield self.serve()
        answer = queue.caller(IEchoWorker, address, Context()).hold()
        yield worker.until(1)
        worker.held[0].errback(NoCapacity(reasons={"h1": "full", "h2": "off"}))
        error = yield self.fails(NoCapacity, answer)
        self.assertEqual(error.reasons, {"h1": "full", "h2": "off"})

    @inlineCallbacks
    def test_untyped_errors(self) -> Generator[Deferred[Any], Any, None]:
        """What a worker did not declare is logged whole there, and told as RemoteFailure without its text."""
        queue, worker, address = yield self.serve()
        error = yield self.fails(RemoteFailure, queue.caller(IEchoWorker, address, Context()).breaks())
        self.assertIn("ZeroDivisionError", error.what)
        self.assertNotIn("secret", error.what)
        self.assertEqual(len(worker.seen), 1)
        self.forgive(ZeroDivisionError, 1)

    @inlineCallbacks
    def test_answer_not_json(self) -> Generator[Deferred[Any], Any, None]:
        """A worker's answer that JSON can't say is a RemoteFailure."""
        queue, worker, address = yield self.serve()
        answer = queue.caller(IEchoWorker, address, Context()).hold()
        yield worker.until(1)
        worker.held[0].callback(b"bytes")
        yield self.fails(RemoteFailure, answer)
        self.forgive(TypeError, 1)

    @inlineCallbacks
    def test_unknown_method(self) -> Generator[Deferred[Any], Any, None]:
        """A method, or an argument, that the worker's interface lacks is UnknownMethod, and nothing is called."""
        queue, worker, address = yield self.serve()
        remote = queue.caller(INewerEchoWorker, address, Context())
        error = yield self.fails(UnknownMethod, remote.shout("a"))
        self.assertEqual(error.method, "shout")
        error = yield self.fails(UnknownMethod, remote.echo("a", loudly=True))
        self.assertIn("loudly", error.why)
        self.assertEqual(worker.seen, [])

    @inlineCallbacks
    def test_deadline(self) -> Generator[Deferred[Any], Any, None]:
        """A call without an answer in time fails with DeadlineExceeded, and the late reply hurts nobody."""
        queue, worker, address = yield self.serve()
        answer = queue.caller(IEchoWorker, address, Context(seconds=2.0)).hold()
        yield worker.until(1)
        yield self.pass_time(2.1)
        error = yield self.fails(DeadlineExceeded, answer)
        self.assertEqual(error.seconds, 2.0)
        worker.held[0].callback("late")
        self.assertEqual((yield queue.caller(IEchoWorker, address, Context()).echo("a")), ["a"])

    @inlineCallbacks
    def test_expired(self) -> Generator[Deferred[Any], Any, None]:
        """A call that nobody waits for any more is not begun."""
        queue, worker, address = yield self.serve(prefetch=1)
        first = queue.caller(IEchoWorker, address, Context()).hold()
        yield worker.until(1)
        second = queue.caller(IEchoWorker, address, Context(seconds=0.1)).echo("late")
        yield self.pass_time(0.3)
        yield self.fails(DeadlineExceeded, second)
        worker.held[0].callback("a")
        self.assertEqual((yield first), "a")
        yield queue.caller(IEchoWorker, address, Context()).echo("b")
        self.assertEqual(worker.values, ["b"])

    @inlineCallbacks
    def test_context(self) -> Generator[Deferred[Any], Any, None]:
        """The worker learns the request id and how long the caller still waits."""
        queue, worker, address = yield self.serve()
        yield queue.caller(IEchoWorker, address, Context(request_id="r-1", seconds=7.0)).echo("a")
        context = worker.contexts[0]
        self.assertEqual(context.request_id, "r-1")
        self.assertTrue(0 < context.seconds <= 7.0)

    @inlineCallbacks
    def test_prefetch(self) -> Generator[Deferred[Any], Any, None]:
        """No more messages are in work at once than the listener takes; the rest follow."""
        queue, worker, address = yield self.serve(prefetch=2)
        remote = queue.caller(IEchoWorker, address, Context())
        answers = [remote.hold() for _ in range(3)]
        yield worker.until(2)
        yield self.pass_time(0.1)
        self.assertEqual(len(worker.held), 2)
        worker.held[0].callback("a")
        yield worker.until(3)
        worker.held[1].callback("a")
        worker.held[2].callback("a")
        self.assertEqual((yield gatherResults(answers)), ["a", "a", "a"])

    @inlineCallbacks
    def test_sharing(self) -> Generator[Deferred[Any], Any, None]:
        """Two workers at a topic share the work; each message reaches one of them."""
        queue, first, address = yield self.serve(prefetch=1)
        second = EchoWorker()
        yield queue.listen(address, IEchoWorker, second, 1)
        remote = queue.caller(IEchoWorker, address, Context())
        answers = [remote.hold(), remote.hold()]
        yield gatherResults([first.until(1), second.until(1)])
        for worker in (first, second):
            worker.held[0].callback("a")
        self.assertEqual((yield gatherResults(answers)), ["a", "a"])

    @inlineCallbacks
    def test_host(self) -> Generator[Deferred[Any], Any, None]:
        """A message for topic.host reaches that host's worker, and only that."""
        queue, shared, address = yield self.serve()
        here, there = EchoWorker(), EchoWorker()
        yield queue.listen(Address(address.topic, "h1"), IEchoWorker, here, 1)
        yield queue.listen(Address(address.topic, "h2"), IEchoWorker, there, 1)
        yield queue.caller(IEchoWorker, Address(address.topic, "h1"), Context()).echo("a")
        self.assertEqual([len(worker.seen) for worker in (shared, here, there)], [0, 1, 0])

    @inlineCallbacks
    def test_retried(self) -> Generator[Deferred[Any], Any, None]:
        """A cast that fails unexpectedly is delivered again, until it succeeds."""
        queue, worker, address = yield self.serve(worker=EchoWorker(failures=2))
        yield queue.caster(IEchoWorker, address, Context()).breaks()
        yield self.pass_time(0.5)
        yield worker.until(3)
        yield self.pass_time(0.5)
        self.assertEqual(len(worker.seen), 3)
        self.forgive(ZeroDivisionError, 2)

    @inlineCallbacks
    def test_passing_error_retried(self) -> Generator[Deferred[Any], Any, None]:
        """A cast that fails because a part of the cloud is away is delivered again."""
        queue, worker, address = yield self.serve()
        yield queue.caster(IEchoWorker, address, Context()).hold()
        yield worker.until(1)
        worker.held[0].errback(Unavailable(service="store", why="away"))
        yield self.pass_time(0.5)
        yield worker.until(2)
        worker.held[1].callback("done")

    @inlineCallbacks
    def test_refused(self) -> Generator[Deferred[Any], Any, None]:
        """A cast that the worker refuses with a typed error is not delivered again."""
        queue, worker, address = yield self.serve()
        yield queue.caster(IEchoWorker, address, Context()).find("a")
        yield worker.until(1)
        yield self.pass_time(0.5)
        self.assertEqual(len(worker.seen), 1)

    @inlineCallbacks
    def test_dead_letter(self) -> Generator[Deferred[Any], Any, None]:
        """A cast that keeps failing is given, with the reason, to who listens for dead letters."""
        queue, worker, address = yield self.serve(address=self.topic("h1"))
        letters = yield self.collect_dead(queue)
        yield queue.caster(INewerEchoWorker, address, Context()).breaks()
        yield self.pass_time(0.5)
        letter = yield letters.get(address)
        self.assertEqual(letter[:3], (address, "breaks", {}))
        self.assertIn("ZeroDivisionError", letter[3])
        self.assertEqual(len(worker.seen), 3)
        self.forgive(ZeroDivisionError, 3)

    @inlineCallbacks
    def test_dead_at_once(self) -> Generator[Deferred[Any], Any, None]:
        """A cast that names an unknown method is a dead letter at once, with its arguments."""
        queue, _, address = yield self.serve()
        yield queue.caster(INewerEchoWorker, address, Context()).shout("ö")
        letters = yield self.collect_dead(queue)
        letter = yield letters.get(address)
        self.assertEqual(letter[:3], (address, "shout", {"value": "ö"}))
        self.assertIn("UnknownMethod", letter[3])

    @inlineCallbacks
    def test_dead_letter_kept(self) -> Generator[Deferred[Any], Any, None]:
        """A dead letter that can't be dealt with now is offered again."""
        queue, _, address = yield self.serve()
        letters = yield self.collect_dead(queue, failures=1)
        yield queue.caster(INewerEchoWorker, address, Context()).shout("a")
        yield self.pass_time(0.5)
        yield letters.get(address)
        self.assertEqual(letters.failures, 0)
        self.forgive(ZeroDivisionError, 1)

    @inlineCallbacks
    def test_listener_stops(self) -> Generator[Deferred[Any], Any, None]:
        """A stopped listener finishes what it holds, answers it, and takes no more."""
        queue, worker, _ = yield self.serve()
        listener = yield queue.listen(self.topic("h1"), IEchoWorker, worker, 1)
        answer = queue.caller(IEchoWorker, self.topic("h1"), Context()).hold()
        yield worker.until(1)
        stopped = listener.stop()
        yield queue.caster(IEchoWorker, self.topic("h1"), Context()).echo("left")
        yield self.pass_time(0.1)
        self.assertFalse(stopped.called)
        worker.held[0].callback("a")
        yield stopped
        self.assertEqual((yield answer), "a")
        yield self.pass_time(0.1)
        self.assertEqual(worker.values, [])

    @inlineCallbacks
    def test_stop(self) -> Generator[Deferred[Any], Any, None]:
        """A stopping queue finishes the work that it holds; then what is awaited fails, as does all that is sent."""
        queue, worker, address = yield self.serve()
        yield queue.caster(IEchoWorker, address, Context()).hold()
        yield worker.until(1)
        stopped = queue.stop()
        yield self.pass_time(0.1)
        self.assertFalse(stopped.called)
        worker.held[0].callback("a")
        yield stopped
        yield self.fails(Unavailable, queue.caller(IEchoWorker, address, Context()).echo("a"))
        yield self.fails(Unavailable, queue.caster(IEchoWorker, address, Context()).echo("a"))

    @inlineCallbacks
    def test_ping(self) -> Generator[Deferred[Any], Any, None]:
        """A queue that can be used answers; one that is stopped does not."""
        queue = yield self.make_queue()
        self.assertIsNone((yield queue.ping()))
        yield queue.stop()
        yield self.fails(Unavailable, queue.ping())

    @inlineCallbacks
    def test_hops(self) -> Generator[Deferred[Any], Any, None]:
        """sent counts each message: two for a call, one for a cast."""
        queue, worker, address = yield self.serve()
        before = queue.sent
        yield queue.caller(IEchoWorker, address, Context()).echo("a")
        self.assertEqual(queue.sent - before, 2)
        yield queue.caster(IEchoWorker, address, Context()).echo("a")
        yield worker.until(2)
        self.assertEqual(queue.sent - before, 3)

    @inlineCallbacks
    def test_metrics(self) -> Generator[Deferred[Any], Any, None]:
        """Each call and each message worked on is measured, with its outcome."""
        metrics = CountingMetrics()
        queue = yield self.make_queue(metrics)
        address = self.topic("h1")
        yield queue.listen(address, IEchoWorker, EchoWorker(), 1)
        remote = queue.caller(INewerEchoWorker, address, Context())
        yield remote.echo("a")
        for failing in (remote.find("a"), remote.shout("a")):
            yield self.fails(FabricError, failing)
        outcomes = [("echo", "ok"), ("find", "NotFound"), ("shout", "UnknownMethod")]
        self.assertEqual(metrics.calls, [(address.topic, *each) for each in outcomes])
        outcomes[2] = ("unknown", "UnknownMethod")
        self.assertEqual(metrics.works, [(address.topic, *each) for each in outcomes])

    @inlineCallbacks
    def test_worker_lacks_interface(self) -> Generator[Deferred[Any], Any, None]:
        """Only a provider of the interface can be made to listen."""
        queue = yield self.make_queue()
        self.assertRaises(TypeError, queue.listen, self.topic(), IEchoWorker, object(), 1)
