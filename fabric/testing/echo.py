"""
A worker, and who counts and who buries its messages, for tests of queues.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import Interface, implementer

from fabric.errors import NotFound
from fabric.rpc.interface import Address, Context


class IEchoWorker(Interface):
    """
    A worker for tests.
    """

    def echo(value: Any, times: int = 1) -> Deferred[list[Any]]:
        """Answer with the value, so many times."""

    def find(id: str) -> Deferred[None]:
        """@raise NotFound: always."""

    def breaks() -> Deferred[None]:
        """Fail in a way that is not declared."""

    def hold() -> Deferred[str]:
        """Answer when the test says so."""


class INewerEchoWorker(IEchoWorker):
    """
    What a newer caller thinks that the worker is.
    """

    def shout(value: str) -> Deferred[str]:
        """Not known to the older worker."""

    def echo(value: Any, times: int = 1, loudly: bool = False) -> Deferred[list[Any]]:
        """Has an argument more than the older worker's."""


_UNASKED = Context()


@implementer(IEchoWorker)
class EchoWorker:
    """
    Does what L{IEchoWorker} says, and remembers it.

    @ivar seen: method and request id of each message, in order.
    @ivar contexts: of each message, in order.
    @ivar held: a Deferred for each C{hold} that was begun.
    @ivar failures: how many messages C{breaks} still refuses.
    """

    def __init__(self, failures: int = 1_000_000) -> None:
        self.seen: list[tuple[str, str]] = []
        self.contexts: list[Context] = []
        self.held: list[Deferred[Any]] = []
        self.values: list[Any] = []
        self.failures = failures
        self._watchers: list[tuple[int, Deferred[None]]] = []

    def echo(self, value: Any, times: int = 1, *, context: Context = _UNASKED) -> Deferred[list[Any]]:
        """See L{IEchoWorker.echo}."""
        self.values.append(value)
        self._note("echo", context)
        return succeed([value] * times)

    def find(self, id: str, *, context: Context = _UNASKED) -> Deferred[None]:
        """See L{IEchoWorker.find}."""
        self._note("find", context)
        return fail(NotFound(kind="echo", id=id))

    def breaks(self, *, context: Context = _UNASKED) -> Deferred[None]:
        """See L{IEchoWorker.breaks}."""
        self._note("breaks", context)
        if self.failures > 0:
            self.failures -= 1
            raise ZeroDivisionError("a secret")
        return succeed(None)

    def hold(self, *, context: Context = _UNASKED) -> Deferred[str]:
        """See L{IEchoWorker.hold}."""
        deferred: Deferred[Any] = Deferred()
        self.held.append(deferred)
        self._note("hold", context)
        return deferred

    def until(self, count: int) -> Deferred[None]:
        """Fires when so many messages have come."""
        deferred: Deferred[None] = Deferred()
        self._watchers.append((count, deferred))
        self._tell()
        return deferred

    def _note(self, method: str, context: Context) -> None:
        self.seen.append((method, context.request_id))
        self.contexts.append(context)
        self._tell()

    def _tell(self) -> None:
        due = [watcher for watcher in self._watchers if len(self.seen) >= watcher[0]]
        self._watchers = [watcher for watcher in self._watchers if watcher not in due]
        for _, deferred in due:
            deferred.callback(None)


class CountingMetrics:
    """
    Keeps each observation: C{(topic, method, outcome)}.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.works: list[tuple[str, str, str]] = []

    def call(self, topic: str, method: str, outcome: str, seconds: float) -> None:
        """See L{fabric.rpc.measure.QueueMetrics.call}."""
        self.calls.append((topic, method, outcome))

    def handled(self, topic: str, method: str, outcome: str, seconds: float) -> None:
        """See L{fabric.rpc.measure.QueueMetrics.handled}."""
        self.works.append((topic, method, outcome))


class Letters:
    """
    Takes dead letters, after refusing some.
    """

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self._letters: dict[Address, tuple[Any, ...]] = {}
        self._waiting: dict[Address, Deferred[Any]] = {}

    def take(self, address: Address, method: str, arguments: dict[str, Any], reason: str) -> Deferred[None]:
        """See L{fabric.rpc.dead.OnDead}."""
        if self.failures:
            self.failures -= 1
            return fail(ZeroDivisionError("not now"))
        self._letters[address] = (address, method, arguments, reason)
        waiting = self._waiting.pop(address, None)
        if waiting is not None:
            waiting.callback(self._letters[address])
        return succeed(None)

    def get(self, address: Address) -> Deferred[Any]:
        """The letter for an address, when it is there."""
        if address in self._letters:
            return succeed(self._letters[address])
        return self._waiting.setdefault(address, Deferred())
