"""
What guests do by themselves, told from what they are ordered to do.

News of a guest only says that there is something to look at.  It is looked at
in the guest's turn, so never while an order is carried out, and told when it is not
what the last order, or the last look, left.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from fabric.compute.driver import IDomainWatcher
from fabric.compute.interface import Domain
from fabric.errors import DriverFailure
from fabric.timeouts import apart
from fabric.turns import Turns

Seen = tuple[Domain, str, bool]
"""A guest as it is, why it is so, and whether by the guest's own doing."""

GONE = "The guest was removed from outside of the cloud."


class Watch:
    """
    Knows how guests are, and tells what changes.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, look: Callable[[str], Deferred[Seen | None]]) -> None:
        """
        @param look: asked for a guest; None for one that is not there.
        """
        self._look = look
        self._turns = Turns(clock)
        self._known: dict[str, Domain] = {}
        self._looking: set[str] = set()
        self._later: dict[str, IDelayedCall] = {}
        self._clock = clock
        self._watcher: IDomainWatcher | None = None

    def tell(self, watcher: IDomainWatcher | None) -> None:
        """Say who is told; None for nobody, and then nobody looks."""
        self._watcher = watcher
        if watcher is None:
            for call in self._later.values():
                call.cancel()
            self._later.clear()

    def saw(self, domain: Domain) -> None:
        """A guest is so, and there is nothing to tell of that."""
        self._known.setdefault(domain.id, domain)

    def forget(self, id: str) -> None:
        """A guest is not there any more, and there is nothing to tell of that."""
        self._known.pop(id, None)

    @property
    def ids(self) -> list[str]:
        """The guests that are known."""
        return list(self._known)

    def order(self, id: str, work: Callable[[], Deferred[Any]], state: str = "", condition: str = "") -> Deferred[Any]:
        """
        Carry out an order when the guest's turn comes.

        @param state: as of L{Domain}, how the guest is then; C{gone} for one
            that is not there any more, empty for as before.
        @return: what C{work} returns.  Cancelled, it fails at once, but the
            turn ends when C{work} has ended.
        """
        return apart(self._turns.run(id, partial(self._ordered, id, work, state, condition)))

    def heard(self, id: str) -> None:
        """There is news of a guest: have a look at it."""
        if id not in self._looking and self._watcher is not None:
            self._looking.add(id)
            self._see(id).addErrback(lambda failure: self.log.failure("{id}: not looked at", failure, id=id))

    def look_later(self, id: str, seconds: float) -> None:
        """There will be something to see, of which there may be no news."""
        if id not in self._later and self._watcher is not None:
            self._later[id] = self._clock.callLater(seconds, self._due, id)

    def _due(self, id: str) -> None:
        del self._later[id]
        self.heard(id)

    @inlineCallbacks
    def _see(self, id: str) -> Generator[Deferred[Any], Any, None]:
        turn = self._turns.enter({id})
        try:
            if turn.ready is not None:
                yield turn.ready
            self._looking.discard(id)
            if self._watcher is None:
                return
            found = yield self._look(id)
        except DriverFailure as error:
            # The connection's next opening has all guests looked at again.
            self.log.warn("{id}: not looked at: {error}", id=id, error=error)
            return
        finally:
            self._looking.discard(id)
            turn.leave_all()
        self._compare(id, *(found or (None, GONE, False)))

    @inlineCallbacks
    def _ordered(
        self, id: str, work: Callable[[], Deferred[Any]], state: str, condition: str
    ) -> Generator[Deferred[Any], Any, Any]:
        before = self._known.pop(id, None) if state else None
        result = yield work()
        if state and state != "gone":
            addresses = before.addresses if before is not None else ()
            self._known[id] = Domain(id, state, 0, addresses, condition=condition)
        return result

    def _compare(self, id: str, domain: Domain | None, reason: str, own: bool) -> None:
        known = self._known.pop(id, None)
        if domain is not None:
            self._known[id] = domain
        elif known is not None:
            domain = Domain(id, "stopped", known.order, known.addresses)
        if known is None or domain is None or self._watcher is None or _alike(known, domain):
            return
        self.log.info("{id} is {state}: {reason}", id=id, state=domain.condition or domain.state, reason=reason)
        self._watcher.domain_changed(domain, reason, own)


def _alike(one: Domain, other: Domain) -> bool:
    """Whether there is no difference that anybody needs to hear of."""
    if (one.state == "running") != (other.state == "running"):
        return False
    return one.state != "running" or (one.condition == "paused") == (other.condition == "paused")
