"""
libvirt's event loop, and what it brings, in the reactor's thread.

The loop is libvirt's own, run by a thread: C{doc/drivers.rst} says why it is not
the reactor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import libvirt
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

WAKE_MILLISECONDS = 20
"""How often a loop that is to end is woken until it has."""

LIFECYCLE, REBOOT, OTHER = "lifecycle", "reboot", "other"
"""Kinds of news."""


class EventThread:
    """
    Runs libvirt's event loop.  Several may run at once; they take turns.
    """

    def __init__(self) -> None:
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="libvirt-events", daemon=True)

    def start(self) -> None:
        """Have the loop run; before any connection is opened."""
        libvirt.virEventRegisterDefaultImpl()
        libvirt.registerErrorHandler(_raised_anyway, None)
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Have it end; blocks until it has, for so long at most."""
        self._ending = True
        timer = libvirt.virEventAddTimeout(WAKE_MILLISECONDS, _woken, None)
        self._thread.join(seconds)
        libvirt.virEventRemoveTimeout(timer)

    def _run(self) -> None:
        while not self._ending:
            libvirt.virEventRunDefaultImpl()


def subscribe(connection: Any, tell: Callable[[str, str], None]) -> None:
    """
    Have the news of all domains of a connection told.

    @param tell: called with a domain's name and the kind of news, in the
        thread of the loop.
    """

    def teller(kind: str) -> Callable[..., None]:
        return lambda connection, domain, *details: tell(domain.name(), kind)

    for number, kind in (
        (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, LIFECYCLE),
        (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, REBOOT),
        (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, OTHER),
        (libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, OTHER),
    ):
        connection.domainEventRegisterAny(None, number, teller(kind), None)


class News:
    """
    Hands what was heard of a guest to those who wait for it.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[str, list[Deferred[str]]] = {}

    def heard(self, id: str, kind: str) -> None:
        """There is news of a guest."""
        for waiter in self._waiting.pop(id, ()):
            waiter.callback(kind)

    def heard_of_all(self) -> None:
        """There may have been any news of any guest."""
        for id in list(self._waiting):
            self.heard(id, OTHER)

    def next(self, id: str, seconds: float) -> Deferred[str]:
        """@return: fires with the kind of the next news, or with an empty text after so many seconds."""
        waiter: Deferred[str] = Deferred(self._forget)
        self._waiting.setdefault(id, []).append(waiter)
        late = self._clock.callLater(max(0.0, seconds), self._late, id, waiter)
        return waiter.addBoth(_in_time, late)

    def _late(self, id: str, waiter: Deferred[str]) -> None:
        self._forget(waiter)
        waiter.callback("")

    def _forget(self, waiter: Deferred[str]) -> None:
        for id, waiters in list(self._waiting.items()):
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiting[id]


def _in_time(result: Any, late: IDelayedCall) -> Any:
    if late.active():
        late.cancel()
    return result


def _woken(timer: int, opaque: object) -> None:
    """Nothing: that the loop turned is all that was wanted."""


def _raised_anyway(context: object, error: object) -> None:
    """Errors are exceptions in Python; libvirt would print them as well."""
