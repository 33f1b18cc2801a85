"""
What the services of all workers have in common: coming up, and going in peace.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface.interface import InterfaceClass

from fabric.rpc.interface import Address, IListener, IQueue

LONGEST_WAIT = 15.0
"""Most seconds between tries to come up."""


class WorkerService(MultiService):
    """
    A worker on the queue: opens its driver, then takes messages, then has its
    child services (heartbeats) run.  What fails on the way up is tried again,
    since a hypervisor or a broker may come up later than this.  On the way
    down, what is held is finished, for C{grace} seconds at most.
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        queue: IQueue,
        clock: IReactorTime,
        interface: InterfaceClass,
        worker: Any,
        places: Sequence[tuple[Address, int]],
        opening: Sequence[Callable[[], Deferred[Any]]],
        closing: Sequence[Callable[[], Any]],
        grace: float = 20.0,
    ) -> None:
        """
        @param name: for the log and among its parent's services.
        @param places: each address to serve at, with its prefetch.
        @param opening: steps to be done before the first message is taken;
            each may be repeated.
        @param closing: steps to be done after the last.
        @param grace: seconds.
        """
        super().__init__()
        self.name = name
        self._queue = queue
        self._clock = clock
        self._interface = interface
        self._worker = worker
        self._places = places
        self._opening = opening
        self._closing = closing
        self._grace = grace
        self._listeners: list[IListener] = []
        self._coming_up: Deferred[None] | None = None
        self._beating: list[Service] = []

    def while_open(self, service: Service) -> None:
        """Have a service run from when messages are taken until they no longer are."""
        self._beating.append(service)

    def startService(self) -> None:
        """Begin to come up."""
        super().startService()
        self._coming_up = self._come_up()
        self._coming_up.addErrback(self._broken)

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        """
        Finish what is held, let go of the driver.

        @return: fires when that is done.
        """
        if self._coming_up is not None:
            self._coming_up.cancel()
        yield super().stopService()
        for service in self._beating:
            if service.parent is not None:
                yield service.disownServiceParent()
        listeners, self._listeners = self._listeners, []
        finished = gatherResults([listener.stop() for listener in listeners], consumeErrors=True)
        try:
            yield finished.addTimeout(self._grace, self._clock)
        except Exception:
            self.log.warn("{name}: stopped with orders in hand; they will come again", name=self.name)
        for step in self._closing:
            yield step()

    @inlineCallbacks
    def _come_up(self) -> Generator[Deferred[Any], Any, None]:
        for step in self._opening:
            yield self._until_done(step)
        for address, prefetch in self._places:
            yield self._until_done(partial(self._listen, address, prefetch))
        for service in self._beating:
            service.setServiceParent(self)
        self.log.info("{name} is up", name=self.name)

    @inlineCallbacks
    def _listen(self, address: Address, prefetch: int) -> Generator[Deferred[Any], Any, None]:
        listener = yield self._queue.listen(address, self._interface, self._worker, prefetch)
        self._listeners.append(listener)

    @inlineCallbacks
    def _until_done(self, step: Callable[[], Deferred[Any]]) -> Generator[Deferred[Any], Any, None]:
        wait = 0.5
        while True:
            try:
                yield step()
                return
            except CancelledError:
                raise
            except Exception as error:
                self.log.error(
                    "{name} can't come up yet, again in {wait} s: {error}", name=self.name, wait=wait, error=error
                )
            yield deferLater(self._clock, wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _broken(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("{name} can't come up", failure=failure, name=self.name)
