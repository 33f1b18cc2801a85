"""
What a request would do, found out without doing it.

The cloud's logic is put together a second time over a store that is read as
ever, and whose first write ends the request.  By then the logic has checked
everything that it checks before it writes: ids, owners, states, values.  What
only the write itself would see (a limit, a name or an address that is taken) is
not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer
from zope.interface.interface import InterfaceClass

from fabric.model.record import Record
from fabric.rpc.interface import Address, Context, IListener, IQueue
from fabric.store.interface import Committed, Finding, IStore, Page, Query, Stored, Transaction, Values, Want

R = TypeVar("R", bound=Record)


class WouldAct(Exception):
    """
    Nothing stands against a request, and it was about to change something or
    to ask a host.  No error of the cloud's: nothing on the way may handle it.
    """


@implementer(IStore)
class DryStore:
    """
    A store whose writes fail with L{WouldAct} and change nothing.
    """

    def __init__(self, store: IStore) -> None:
        self._store = store

    def transaction(self, request_id: str) -> Transaction:
        """See L{IStore.transaction}."""
        return self._store.transaction(request_id)

    def commit(self, transaction: Transaction) -> Deferred[Committed]:
        """
        @raise WouldAct: always.
        """
        return fail(WouldAct())

    def read(self, cls: type[R], ids: Sequence[str]) -> Deferred[list[Stored[R] | None]]:
        """See L{IStore.read}."""
        return self._store.read(cls, ids)

    def resolve(self, cls: type[R], names: Sequence[str]) -> Deferred[list[Stored[R] | None]]:
        """See L{IStore.resolve}."""
        return self._store.resolve(cls, names)

    def gather(self, wants: Sequence[Want]) -> Deferred[list[Stored[Any] | None]]:
        """See L{IStore.gather}."""
        return self._store.gather(wants)

    def records(self, cls: type[R], query: Query) -> Deferred[Page]:
        """See L{IStore.records}."""
        return self._store.records(cls, query)

    def views(self, name: str, query: Query) -> Deferred[Page]:
        """See L{IStore.views}."""
        return self._store.views(name, query)

    def values(self, kind: str, places: Sequence[tuple[str, str]]) -> Deferred[Values]:
        """See L{IStore.values}."""
        return self._store.values(kind, places)

    def counters(self, names: Sequence[str]) -> Deferred[dict[str, int]]:
        """See L{IStore.counters}."""
        return self._store.counters(names)

    def due(self, now: float, limit: int) -> Deferred[list[tuple[str, str]]]:
        """See L{IStore.due}."""
        return self._store.due(now, limit)

    def beat(self, service: str, now: float) -> Deferred[None]:
        """
        @raise WouldAct: always.
        """
        return fail(WouldAct())

    def beats(self) -> Deferred[dict[str, float]]:
        """See L{IStore.beats}."""
        return self._store.beats()

    def pools(self) -> Deferred[dict[str, tuple[int, int]]]:
        """See L{IStore.pools}."""
        return self._store.pools()

    def events(self, after: str, limit: int, project: str | None) -> Deferred[list[tuple[str, dict[str, str]]]]:
        """See L{IStore.events}."""
        return self._store.events(after, limit, project)

    def check(self, repair: bool) -> Deferred[list[Finding]]:
        """See L{IStore.check}; repairs nothing."""
        return self._store.check(False)


class _Silent:
    """
    Whoever would have been asked.
    """

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments: fail(WouldAct())


@implementer(IQueue)
class DryQueue:
    """
    A queue on which every question and order fails with L{WouldAct}.
    """

    def caller(self, interface: InterfaceClass, address: Address, context: Context) -> Any:
        """Answers no question."""
        return _Silent()

    def caster(self, interface: InterfaceClass, address: Address, context: Context) -> Any:
        """Sends no order."""
        return _Silent()

    def listen(self, address: Address, interface: InterfaceClass, worker: Any, prefetch: int) -> Deferred[IListener]:
        """
        @raise WouldAct: always.
        """
        return fail(WouldAct())

    def depths(self) -> Deferred[dict[str, int]]:
        """No queue has a message."""
        return succeed({})

    def ping(self) -> Deferred[None]:
        """There is nobody to answer."""
        return fail(WouldAct())

    def stop(self) -> Deferred[None]:
        """Nothing was started."""
        return succeed(None)
