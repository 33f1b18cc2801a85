"""
Keeping a connection: made again whenever it is lost, after pauses that grow.

Twisted's C{ClientService} can't be used: a connection that is lost while it is
prepared, as one with a wrong password is, leaves it in a state of error.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric.rpc.amqp.client import Client, ClientFactory
from fabric.rpc.amqp.delegate import closed_by_broker

_FIRST_PAUSE = 0.2
_SETUP_SECONDS = 15.0
_GOODBYE_SECONDS = 2.0


class Link:
    """
    Has one L{Client} after the other.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        factory: ClientFactory,
        longest_pause: float,
        prepare: Callable[[Client], Deferred[None]],
        up: Callable[[Client], None],
        down: Callable[[Client], None],
    ) -> None:
        """
        @param longest_pause: between two attempts to connect, in seconds.
        @param prepare: sets up what has to be there over each connection.
        @param up: called when that is done.
        @param down: called when a connection that was up is lost.
        """
        self._clock = clock
        self._endpoint = endpoint
        self._factory = factory
        self._longest_pause = longest_pause
        self._prepare = prepare
        self._up = up
        self._down = down
        self._client: Client | None = None
        self._attempts = 0
        self._trying: Deferred[None] | None = None
        self._retry: IDelayedCall | None = None
        self._running = False

    def start(self) -> None:
        """Begin to connect; nothing when that is under way."""
        if not self._running:
            self._running = True
            self._try()

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """Close the connection in order; fires when it is closed."""
        self._running = False
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._trying is not None:
            self._trying.cancel()
        client = self._client
        if client is not None:
            yield client.hang_up(_GOODBYE_SECONDS)
            yield client.disconnected.wait()

    def _try(self) -> None:
        self._retry = None
        self._trying = self._connect()
        self._trying.addErrback(self._failed)

    @inlineCallbacks
    def _connect(self) -> Generator[Deferred[Any], Any, None]:
        client: Client = yield self._endpoint.connect(self._factory)
        self._client = client
        try:
            yield self._prepare(client).addTimeout(_SETUP_SECONDS, self._clock)
        except BaseException:
            client.transport.abortConnection()
            yield client.disconnected.wait()
            self._client = None
            raise
        self._trying = None
        self._attempts = 0
        self._up(client)
        client.disconnected.wait().addCallback(lambda _: self._lost(client))

    def _lost(self, client: Client) -> None:
        self._client = None
        self._down(client)
        self._again()

    def _failed(self, failure: Failure) -> None:
        """An attempt failed; none counts after C{stop}."""
        self._trying = None
        if self._running or not failure.check(CancelledError):
            code, text = closed_by_broker(failure.value)
            self.log.error("no use of the broker: {text} ({code})", text=text, code=code)
        self._again()

    def _again(self) -> None:
        if self._running:
            self._attempts += 1
            pause = min(self._longest_pause, _FIRST_PAUSE * 2.0 ** min(self._attempts, 16))
            self._retry = self._clock.callLater(pause * (0.5 + random.random()), self._try)
