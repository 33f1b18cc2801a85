"""
Answers that are kept for seconds.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric import errors
from fabric.users.memo import Ages, Memo


class MemoTests(SynchronousTestCase):
    """One question, and what is remembered of it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.memo: Memo[str] = Memo(self.clock, Ages(fresh=10.0, stale=60.0, refusal=1.0), limit=3)
        self.asked: list[Deferred[str]] = []

    def ask(self) -> Deferred[str]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def get(self, key: str = "k") -> Deferred[str]:
        return self.memo.get(key, self.ask)

    def know(self, key: str = "k", value: str = "v") -> None:
        got = self.get(key)
        self.asked[-1].callback(value)
        self.successResultOf(got)

    def unavailable(self) -> None:
        self.asked[-1].errback(errors.Unavailable(service="ldap", why="gone"))

    def test_fresh(self) -> None:
        """A fresh answer is not asked for again; an older one is."""
        self.know()
        self.clock.advance(9.9)
        self.assertEqual(self.successResultOf(self.get()), "v")
        self.clock.advance(0.1)
        self.assertNoResult(self.get())

    def test_callersAreApart(self) -> None:
        """What one caller does with its Deferred is not seen by the next."""
        self.know()
        self.get().addCallback(lambda _: "changed")
        self.assertEqual(self.successResultOf(self.get()), "v")

    def test_together(self) -> None:
        """Those who miss together share one question, and its failure."""
        first, second = self.get(), self.get()
        self.assertEqual(len(self.asked), 1)
        self.unavailable()
        self.failureResultOf(first, errors.Unavailable)
        self.failureResultOf(second, errors.Unavailable)

    def test_stale(self) -> None:
        """An old answer is given while the directory is away, up to its age."""
        self.know()
        self.clock.advance(30)
        got = self.get()
        self.unavailable()
        self.assertEqual(self.successResultOf(got), "v")
        self.clock.advance(30)
        got = self.get()
        self.unavailable()
        self.failureResultOf(got, errors.Unavailable)

    def test_staleIsNotAskedAgainAtOnce(self) -> None:
        """After a failure the old answer is given for a while without asking, and then again while it is asked for."""
        self.know()
        self.clock.advance(30)
        self.get()
        self.unavailable()
        self.assertEqual(self.successResultOf(self.get()), "v")
        self.assertEqual(len(self.asked), 2)
        self.clock.advance(1)
        for _ in range(2):
            self.assertEqual(self.successResultOf(self.get()), "v")
        self.assertEqual(len(self.asked), 3)
        self.asked[-1].callback("w")
        self.assertEqual(self.successResultOf(self.get()), "w")

    def test_silentForLong(self) -> None:
        """While a directory is silent nobody waits for it again, but what is too old is not given."""
        self.know()
        self.clock.advance(30)
        self.get()
        self.clock.advance(5)
        self.unavailable()
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(self.get()), "v")
        self.clock.advance(24)
        got = self.get()
        self.assertNoResult(got)
        self.unavailable()
        self.failureResultOf(got, errors.Unavailable)

    def test_refusedMeanwhile(self) -> None:
        """What was given while it was asked for anew is over once the directory says so."""
        self.know()
        self.clock.advance(30)
        self.get()
        self.unavailable()
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(self.get()), "v")
        self.asked[-1].errback(errors.NotFound(kind="user", id="k"))
        self.failureResultOf(self.get(), errors.NotFound)

    def test_refusal(self) -> None:
        """That there is no such thing is believed for a short while."""
        got = self.get()
        self.asked[-1].errback(errors.NotFound(kind="user", id="k"))
        self.failureResultOf(got, errors.NotFound)
        self.failureResultOf(self.get(), errors.NotFound)
        self.assertEqual(len(self.asked), 1)
        self.clock.advance(1)
        self.assertNoResult(self.get())

    def test_refusalEndsAnAnswer(self) -> None:
        """Who is not there any more is not given as an old answer."""
        self.know()
        self.clock.advance(10)
        got = self.get()
        self.asked[-1].errback(errors.NotFound(kind="user", id="k"))
        self.failureResultOf(got, errors.NotFound)
        self.clock.advance(1)
        got = self.get()
        self.unavailable()
        self.failureResultOf(got, errors.Unavailable)

    def test_otherFailures(self) -> None:
        """A failure that says nothing about the thing is not remembered."""
        got = self.get()
        self.asked[-1].errback(ValueError())
        self.failureResultOf(got, ValueError)
        self.assertNoResult(self.get())

    def test_forget(self) -> None:
        """After a change nothing older is given, not even when the directory is away."""
        self.know()
        self.memo.forget()
        got = self.get()
        self.unavailable()
        self.failureResultOf(got, errors.Unavailable)

    def test_expire(self) -> None:
        """After a change that may have been made all is asked anew, and known still when that fails."""
        self.know()
        self.memo.expire()
        got = self.get()
        self.assertNoResult(got)
        self.unavailable()
        self.assertEqual(self.successResultOf(got), "v")

    def test_forgetWhileAsking(self) -> None:
        """An answer from before a change is not kept, nor shared with later callers."""
        before = self.get()
        self.memo.forget()
        after = self.get()
        self.asked[0].callback("old")
        self.assertEqual(self.successResultOf(before), "old")
        self.assertNoResult(after)
        self.asked[1].callback("new")
        self.assertEqual(self.successResultOf(after), "new")
        self.assertEqual(self.successResultOf(self.get()), "new")

    def test_limit(self) -> None:
        """The answer that was had first goes first."""
        for key in "abcd":
            self.know(key)
        self.assertNoResult(self.get("a"))
        self.assertEqual(self.successResultOf(self.get("b")), "v")
