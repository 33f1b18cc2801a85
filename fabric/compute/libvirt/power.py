"""
Guests stopped and started anew: asked first, then not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.compute.libvirt import guests
from fabric.compute.libvirt.connection import Connection
from fabric.compute.libvirt.events import REBOOT, News
from fabric.errors import NotFound
from fabric.settings import Libvirt

ASK_AGAIN = 5.0
"""A guest that is still booting may not notice its power button; seconds until it is pressed again."""


class Power:
    """
    One guest at a time is the caller's business.
    """

    log = Logger()

    def __init__(self, connection: Connection, news: News, clock: IReactorTime, options: Libvirt) -> None:
        self._connection = connection
        self._news = news
        self._clock = clock
        self._options = options

    @inlineCallbacks
    def shut_down(self, id: str, force: bool) -> Generator[Deferred[Any], Any, None]:
        """Have it not run; nothing when it is not there."""
        found = yield self._connection.call(guests.look, id)
        if found is None or found.domain.state != "running":
            yield self._connection.call(guests.forget_memory, id)
            return
        if not force and found.domain.condition != "paused":

            @inlineCallbacks
            def asked() -> Generator[Deferred[Any], Any, bool]:
                yield self._connection.call(guests.press_power, id)
                return (yield self._stopped(id))  # type: ignore[no-any-return]

            if (yield self.until(id, self._options.shutdown_seconds, asked, ASK_AGAIN)):
                return
            self.log.info("{id} did not shut down when asked: it is stopped", id=id)
        yield self._connection.call(guests.kill, id)

    @inlineCallbacks
    def quiet(self, id: str, until: float) -> Generator[Deferred[Any], Any, None]:
        """See L{fabric.compute.driver.IComputeDriver.quiet}."""
        if (yield self._connection.call(guests.hush, id, until)):
            yield self.shut_down(id, False)

    @inlineCallbacks
    def reboot(self, id: str, hard: bool) -> Generator[Deferred[Any], Any, None]:
        """
        Have it start anew.

        @raise NotFound: there is none.
        """
        found = yield self._connection.call(guests.look, id)
        if found is None:
            raise NotFound(kind="guest", id=id)
        if found.domain.state == "running" and (
            hard or found.domain.condition == "paused" or not (yield self._asked(id))
        ):
            yield self._connection.call(guests.kill, id)
        yield self._connection.call(guests.boot, id)

    @inlineCallbacks
    def _asked(self, id: str) -> Generator[Deferred[Any], Any, bool]:
        """@return: whether the guest did reboot when it was asked."""
        ends = self._clock.seconds() + self._options.reboot_seconds
        while (left := ends - self._clock.seconds()) > 0:
            heard = self._news.next(id, min(left, ASK_AGAIN))
            # An event can't come between: it is the reactor that brings it.
            yield self._connection.call(guests.ask_reboot, id)
            while (kind := (yield heard)) not in (REBOOT, ""):
                if (yield self._stopped(id)):
                    return True
                heard = self._news.next(id, min(max(0.0, ends - self._clock.seconds()), ASK_AGAIN))
            if kind == REBOOT:
                return True
        self.log.info("{id} did not reboot when asked: it is reset", id=id)
        return False

    @inlineCallbacks
    def _stopped(self, id: str) -> Generator[Deferred[Any], Any, bool]:
        found = yield self._connection.call(guests.look, id)
        return found is None or found.domain.state != "running"

    @inlineCallbacks
    def until(
        self, id: str, seconds: float, done: Callable[[], Deferred[bool]], pause: float
    ) -> Generator[Deferred[Any], Any, bool]:
        """
        Ask C{done} now, at any news of the guest, and each C{pause} seconds.

        @return: whether it was so within so many seconds.
        """
        ends = self._clock.seconds() + seconds
        while True:
            news = self._news.next(id, max(0.0, min(pause, ends - self._clock.seconds())))
            again = False
            try:
                if (yield done()):
                    return True
                again = self._clock.seconds() < ends
            finally:
                if not again:
                    news.addErrback(lambda failure: None).cancel()
            if not again:
                return False
            yield news
