"""
The queue within one process.

Messages pass through the same codec as over AMQP, are delivered in a later turn
of the reactor, and are worked on under the same rules; with a
L{twisted.internet.task.Clock} every run is the same.  What waits here is lost
when the process ends: the controller's sweep finds what it was about.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.interface import InterfaceClass

from fabric.errors import DeadlineExceeded, FabricError, Unavailable
from fabric.rpc.dead import DeadLetter, IDeadLetters, OnDead
from fabric.rpc.deadlines import Deadlines
from fabric.rpc.dispatch import Dispatcher, Verdict
from fabric.rpc.envelope import decode_reply, decode_request, encode_request
from fabric.rpc.interface import Address, Context, IListener, IQueue
from fabric.rpc.measure import QueueMetrics
from fabric.rpc.remote import Remotes

_LETTERS_KEPT = 1000


class _Call:
    """A call whose answer is awaited."""

    __slots__ = ("address", "began", "deferred", "method", "seconds")

    def __init__(self, address: Address, method: str, began: float, seconds: float) -> None:
        self.address = address
        self.method = method
        self.began = began
        self.seconds = seconds
        self.deferred: Deferred[Any] = Deferred()


class _Message:
    """A message on its way to a worker; a cast when nobody awaits it."""

    __slots__ = ("attempts", "body", "call", "place")

    def __init__(self, place: _Place, body: bytes, call: _Call | None) -> None:
        self.place = place
        self.body = body
        self.call = call
        self.attempts = 0


@implementer(IListener)
class _Listener:
    """A worker at a place."""

    def __init__(self, queue: LocalQueue, place: _Place, dispatcher: Dispatcher, prefetch: int) -> None:
        self._queue = queue
        self._place = place
        self._dispatcher = dispatcher
        self._prefetch = prefetch
        self._busy = 0
        self._idle: list[Deferred[None]] = []

    @property
    def free(self) -> bool:
        """Whether it may take one more message."""
        return self._busy < self._prefetch

    def take(self, message: _Message) -> None:
        """Work on a message, unless nobody waits for it any more."""
        request = decode_request(message.body)
        context = Context(request_id=request.request_id)
        if request.deadline is not None:
            left = request.deadline - self._queue.clock.seconds()
            if left <= 0:
                return
            context = Context(request_id=request.request_id, seconds=left)
        self._busy += 1
        self._dispatcher.handle(request, context, message.call is not None, partial(self._done, message))

    def _done(self, message: _Message, verdict: Verdict, reply: bytes, reason: str) -> None:
        self._busy -= 1
        self._queue.worked(message, verdict, reply, reason)
        if self._idle and not self._busy:
            waiting, self._idle = self._idle, []
            for deferred in waiting:
                deferred.callback(None)

    def stop(self) -> Deferred[None]:
        """See L{IListener.stop}."""
        if self in self._place.listeners:
            self._place.listeners.remove(self)
        if not self._busy:
            return succeed(None)
        deferred: Deferred[None] = Deferred()
        self._idle.append(deferred)
        return deferred


class _Place:
    """What waits at an address, and who listens there."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.waiting: deque[_Message] = deque()
        self.listeners: deque[_Listener] = deque()

    def next_free(self) -> _Listener | None:
        """The first free listener, in turn."""
        for _ in range(len(self.listeners)):
            listener = self.listeners[0]
            self.listeners.rotate(-1)
            if listener.free:
                return listener
        return None

    def refuse_calls(self) -> list[_Call]:
        """Take the calls out of what waits: nobody will answer them."""
        calls = [message.call for message in self.waiting if message.call is not None]
        if calls:
            self.waiting = deque(message for message in self.waiting if message.call is None)
        return calls


@implementer(IListener)
class _DeadListener:
    """Whoever takes the dead letters."""

    def __init__(self, queue: LocalQueue) -> None:
        self._queue = queue

    def stop(self) -> Deferred[None]:
        """See L{IListener.stop}."""
        self._queue.ignore_dead()
        return succeed(None)


@implementer(IQueue, IDeadLetters)
class LocalQueue:
    """
    An L{IQueue} for one process.

    @ivar sent: how many messages were sent through it, replies included.
    @ivar dead_letters: those that nobody has taken yet; the newest thousand.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        metrics: QueueMetrics | None = None,
        max_deliveries: int = 5,
        retry_seconds: float = 1.0,
    ) -> None:
        """
        @param max_deliveries: how often a cast that fails is tried in all.
        @param retry_seconds: before the second try; doubled for each further one.
        """
        self.clock = clock
        self.sent = 0
        self.dead_letters: list[DeadLetter] = []
        self._metrics = metrics
        self._max_deliveries = max_deliveries
        self._retry_seconds = retry_seconds
        self._remotes = Remotes()
        self._places: dict[str, _Place] = {}
        self._touched: list[_Place] = []
        self._replies: list[tuple[_Call, bytes]] = []
        self._calls: set[_Call] = set()
        self._deadlines: Deadlines[_Call] = Deadlines(clock, self._expired)
        self._turn: IDelayedCall | None = None
        self._timers: set[IDelayedCall] = set()
        self._on_dead: OnDead | None = None
        self._stopped = False

    def caller(self, interface: InterfaceClass, address: Address, context: Context) -> Any:
        """See L{IQueue.caller}."""
        return self._remotes.remote(interface, partial(self._call, address, context))

    def caster(self, interface: InterfaceClass, address: Address, context: Context) -> Any:
        """See L{IQueue.caster}."""
        return self._remotes.remote(interface, partial(self._cast, address, context))

    def listen(self, address: Address, interface: InterfaceClass, worker: Any, prefetch: int) -> Deferred[IListener]:
        """See L{IQueue.listen}."""
        dispatcher = Dispatcher(address.topic, interface, worker, self.clock, self._metrics)
        place = self._place(address)
        listener = _Listener(self, place, dispatcher, prefetch)
        place.listeners.append(listener)
        self._touch(place)
        return succeed(listener)

    def depths(self) -> Deferred[dict[str, int]]:
        """See L{IQueue.depths}."""
        return succeed({key: len(place.waiting) for key, place in self._places.items()})

    def ping(self) -> Deferred[None]:
        """See L{IQueue.ping}."""
        return fail(Unavailable(service="queue", why="the queue is stopped")) if self._stopped else succeed(None)

    def stop(self) -> Deferred[None]:
        """See L{IQueue.stop}."""
        listeners = [listener for place in self._places.values() for listener in place.listeners]
        stopped = gatherResults([listener.stop() for listener in listeners])
        return stopped.addCallback(lambda _: self._close())

    def listen_dead(self, callback: OnDead) -> Deferred[IListener]:
        """See L{IDeadLetters.listen_dead}."""
        self._on_dead = callback
        for letter in list(self.dead_letters):
            self._offer(letter)
        return succeed(_DeadListener(self))

    def ignore_dead(self) -> None:
        """Offer dead letters to nobody any more."""
        self._on_dead = None

    def worked(self, message: _Message, verdict: Verdict, reply: bytes, reason: str) -> None:
        """A listener is done with a message and may take another."""
        if message.call is not None:
            self.sent += 1
            self._replies.append((message.call, reply))
            self._schedule()
        elif verdict is Verdict.RETRY and not self._stopped:
            self._retry(message, reason)
        elif verdict is Verdict.DEAD:
            self._bury(message, reason)
        if message.place.waiting:
            self._touch(message.place)

    def _call(self, address: Address, context: Context, method: str, arguments: dict[str, Any]) -> Deferred[Any]:
        now = self.clock.seconds()
        body = encode_request(method, arguments, context.request_id, now + context.seconds)
        call = _Call(address, method, now, context.seconds)
        if self._stopped:
            return fail(Unavailable(service=address.routing_key, why="the queue is stopped"))
        self._calls.add(call)
        self._deadlines.add(context.seconds, call)
        self._post(address, body, call)
        return call.deferred

    def _cast(self, address: Address, context: Context, method: str, arguments: dict[str, Any]) -> Deferred[None]:
        body = encode_request(method, arguments, context.request_id, None)
        if self._stopped:
            return fail(Unavailable(service=address.routing_key, why="the queue is stopped"))
        self._post(address, body, None)
        if self._metrics is not None:
            self._metrics.call(address.topic, method, "ok", 0.0)
        return succeed(None)

    def _post(self, address: Address, body: bytes, call: _Call | None) -> None:
        self.sent += 1
        place = self._place(address)
        place.waiting.append(_Message(place, body, call))
        self._touch(place)

    def _place(self, address: Address) -> _Place:
        key = address.routing_key
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(address)
        return place

    def _touch(self, place: _Place) -> None:
        self._touched.append(place)
        self._schedule()

    def _schedule(self) -> None:
        if self._turn is None and not self._stopped:
            self._turn = self.clock.callLater(0, self._drain)

    def _drain(self) -> None:
        """Deliver all that was sent since the last turn."""
        self._turn = None
        replies, self._replies = self._replies, []
        touched, self._touched = self._touched, []
        for call, body in replies:
            self._answer(call, body)
        for place in touched:
            self._deliver(place)

    def _deliver(self, place: _Place) -> None:
        while place.waiting:
            listener = place.next_free()
            if listener is None:
                break
            listener.take(place.waiting.popleft())
        if not place.listeners:
            for call in place.refuse_calls():
                self._finish(call, Failure(Unavailable(service=place.address.routing_key, why="nobody listens")))

    def _answer(self, call: _Call, body: bytes) -> None:
        if call not in self._calls:
            return
        try:
            answer = decode_reply(body)
        except FabricError:
            self._finish(call, Failure())
        else:
            self._finish(call, answer)

    def _finish(self, call: _Call, result: Any) -> None:
        """Tell the caller, who may be gone already."""
        if call not in self._calls:
            return
        self._calls.remove(call)
        if self._metrics is not None:
            outcome = type(result.value).__name__ if isinstance(result, Failure) else "ok"
            self._metrics.call(call.address.topic, call.method, outcome, self.clock.seconds() - call.began)
        call.deferred.callback(result)

    def _expired(self, call: _Call) -> None:
        if call in self._calls:
            what = f"{call.address.routing_key} {call.method}"
            self._finish(call, Failure(DeadlineExceeded(what=what, seconds=call.seconds)))

    def _retry(self, message: _Message, reason: str) -> None:
        message.attempts += 1
        if message.attempts >= self._max_deliveries:
            self._bury(message, reason)
            return
        self._later(self._retry_seconds * 2 ** (message.attempts - 1), partial(self._again, message))

    def _again(self, message: _Message) -> None:
        message.place.waiting.append(message)
        self._touch(message.place)

    def _later(self, seconds: float, work: partial[None]) -> None:
        def due() -> None:
            self._timers.discard(timer)
            work()

        timer = self.clock.callLater(seconds, due)
        self._timers.add(timer)

    def _bury(self, message: _Message, reason: str) -> None:
        request = decode_request(message.body)
        letter = DeadLetter(message.place.address, request.method, request.arguments, reason)
        self.log.error(
            "cast {address}.{method} is dead: {reason} (request {request_id})",
            address=letter.address.routing_key,
            method=letter.method,
            reason=reason,
            request_id=request.request_id,
        )
        self.dead_letters.append(letter)
        del self.dead_letters[:-_LETTERS_KEPT]
        self._offer(letter)

    def _offer(self, letter: DeadLetter) -> None:
        if self._on_dead is None or self._stopped or letter not in self.dead_letters:
            return
        taken = maybeDeferred(self._on_dead, letter.address, letter.method, letter.arguments, letter.reason)
        taken.addCallbacks(lambda _: self._taken(letter), partial(self._not_taken, letter))

    def _taken(self, letter: DeadLetter) -> None:
        self.dead_letters = [kept for kept in self.dead_letters if kept is not letter]

    def _not_taken(self, letter: DeadLetter, failure: Failure) -> None:
        self.log.failure("a dead letter about {method} was not taken", failure=failure, method=letter.method)
        if not self._stopped:
            self._later(self._retry_seconds, partial(self._offer, letter))

    def _close(self) -> None:
        self._stopped = True
        self._deadlines.stop()
        for timer in [*self._timers, *([self._turn] if self._turn is not None else [])]:
            timer.cancel()
        self._timers.clear()
        self._turn = None
        replies, self._replies = self._replies, []
        for call, body in replies:
            self._answer(call, body)
        for call in list(self._calls):
            self._finish(call, Failure(Unavailable(service=call.address.routing_key, why="the queue is stopped")))
