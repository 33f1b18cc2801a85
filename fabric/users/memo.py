"""
Answers that are kept for seconds.

A fresh answer costs a dictionary lookup.  Callers that miss together share one
question.  While the directory can't be asked, an answer that is not too old is
given in its stead: to the first who asks when that has failed, which may take
seconds, and to all others at once, while it is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric import errors

T = TypeVar("T")
K = TypeVar("K")


@attrs.define
class _Answer(Generic[T]):
    """
    @ivar failing: whether it could not be had anew when that was tried last.
    """

    value: T
    until: float
    asked: float
    failing: bool = False


@attrs.frozen
class Ages:
    """
    How long an answer is good, in seconds.

    @ivar fresh: given without asking again.
    @ivar stale: given still when the directory can't be asked.
    @ivar refusal: how long "no such thing" is believed.
    """

    fresh: float = 10.0
    stale: float = 60.0
    refusal: float = 1.0


class Memo(Generic[T]):
    """
    The answers to one kind of question.

    @ivar limit: how many answers are kept; the oldest goes first.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, ages: Ages, limit: int = 10_000) -> None:
        self._seconds = clock.seconds
        self._ages = ages
        self._limit = limit
        self._answers: dict[Hashable, _Answer[T]] = {}
        self._refusals: dict[Hashable, _Answer[Failure]] = {}
        self._asking: dict[Hashable, list[Deferred[T]]] = {}
        self._generation = 0

    def get(self, key: Hashable, ask: Callable[[], Deferred[T]]) -> Deferred[T]:
        """
        The answer for C{key}, from memory or from C{ask}.

        The value is shared between callers and must not be changed by them.
        """
        answer, now = self._answers.get(key), self._seconds()
        if answer is not None and now < answer.until:
            return succeed(answer.value)
        refusal = self._refusals.get(key)
        if refusal is not None and now < refusal.until:
            return fail(refusal.value.value)
        waiting = self._asking.get(key)
        result: Deferred[T] = Deferred()
        if answer is not None and answer.failing and now < answer.asked + self._ages.stale:
            if waiting is None:
                self._ask(key, ask, result)
                result.addErrback(lambda _: None)  # who asks next is told
            return succeed(answer.value)
        if waiting is not None:
            waiting.append(result)
        else:
            self._ask(key, ask, result)
        return result

    def forget(self) -> None:
        """
        Drop everything: something was changed.  Questions under way are not
        remembered, nor shared with those who ask from now on.
        """
        self._generation += 1
        self._answers.clear()
        self._refusals.clear()
        self._asking = {}

    def expire(self) -> None:
        """
        Ask anew for everything: something may have been changed.  Should that
        fail, what is known is given still, within its age.
        """
        self._generation += 1
        self._refusals.clear()
        self._asking = {}
        for answer in self._answers.values():
            answer.until, answer.failing = answer.asked, False

    def _ask(self, key: Hashable, ask: Callable[[], Deferred[T]], first: Deferred[T]) -> None:
        waiting = self._asking[key] = [first]
        generation, asked = self._generation, self._seconds()

        def done() -> None:
            if self._asking.get(key) is waiting:
                del self._asking[key]

        def answered(value: T) -> None:
            done()
            if generation == self._generation:
                self._refusals.pop(key, None)
                self._keep(self._answers, key, _Answer(value, asked + self._ages.fresh, asked))
            for each in waiting:
                each.callback(value)

        def failed(why: Failure) -> None:
            done()
            stale = self._stale(key, generation, why)
            for each in waiting:
                if stale is not None:
                    each.callback(stale.value)
                else:
                    each.errback(why.value)

        ask().addCallbacks(answered, failed)

    def _stale(self, key: Hashable, generation: int, why: Failure) -> _Answer[T] | None:
        """
        What to say after a failure: an older answer, or None for the failure.
        """
        if generation != self._generation:
            return None
        answer, now = self._answers.get(key), self._seconds()
        if why.check(errors.Unavailable):
            if answer is None or now >= answer.asked + self._ages.stale:
                return None
            answer.until = min(now + self._ages.refusal, answer.asked + self._ages.stale)
            answer.failing = True
            self.log.warn("Answering from memory, {age:.0f} s old: {why}", age=now - answer.asked, why=why.value)
            return answer
        self._answers.pop(key, None)
        if why.check(errors.NotFound, errors.Denied):
            self._keep(self._refusals, key, _Answer(why, now + self._ages.refusal, now))
        return None

    def _keep(self, kept: dict[Hashable, _Answer[K]], key: Hashable, answer: _Answer[K]) -> None:
        kept.pop(key, None)
        if len(kept) >= self._limit:
            del kept[next(iter(kept))]
        kept[key] = answer
