"""
The one connection to libvirt: kept alive, opened again when it was lost, and
used by threads of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from threading import Thread
from typing import Any, TypeVar

import libvirt
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from fabric.compute.libvirt.events import EventThread, subscribe
from fabric.errors import DriverFailure
from fabric.timeouts import apart

T = TypeVar("T")

ALIVE_SECONDS, ALIVE_TRIES = 5, 3
"""A libvirt that is silent for so long, so often in a row, is lost."""

CLOSE_SECONDS = 10.0
"""How long it may take to be closed."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between tries to open it again."""


class Lost(Exception):
    """The connection broke under a call."""


class _InThread(Deferred[T]):
    """
    What a thread is doing.
    """

    _unwanted = False

    def cancel(self) -> None:
        """Let it fail when the thread is done: until then what comes next has to wait."""
        if self.called:
            super().cancel()
        self._unwanted = True

    def end(self, success: bool, result: Any) -> None:
        """The thread is done."""
        if self._unwanted:
            self.errback(CancelledError())
        elif success:
            self.callback(result)
        else:
            self.errback(result)


class Connection:
    """
    Calls functions with the open connection, in threads.  One that fails
    because libvirt went away is called again when it is back, so each has to be
    repeatable.
    """

    log = Logger()

    def __init__(
        self,
        uri: str,
        reactor: Any,
        threads: int,
        patience: float,
        heard: Callable[[str, str], None],
        reopened: Callable[[], None],
    ) -> None:
        """
        @param reactor: an C{IReactorTime} and C{IReactorFromThreads}.
        @param patience: seconds for which a call waits for libvirt.
        @param heard: called with a domain's name and the kind of news.
        @param reopened: called when news may have been missed.
        """
        self._uri = uri
        self._reactor = reactor
        self._patience = patience
        self._heard = heard
        self._reopened = reopened
        self._pool = ThreadPool(0, threads, "libvirt")
        # One that hangs must not keep the process from ending.
        self._pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        self._loop = EventThread()
        self._connection: Any = None
        self._waiting: list[Deferred[None]] = []
        self._calls = 0
        self._unused: Deferred[None] | None = None
        self._retry: IDelayedCall | None = None
        self._pause = FIRST_PAUSE
        self._running = False
        self._why = "not opened yet"

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        """
        Open it; may be repeated.

        @raise DriverFailure: libvirt can't be reached.
        """
        if not self._running:
            self._running = True
            self._pool.start()
            self._loop.start()
        if self._connection is None:
            try:
                self._connection = yield self.work(self._open)
            except libvirt.libvirtError as error:
                raise DriverFailure(what=f"{self._uri}: {error}") from error

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """Close it when no thread uses it; calls that wait for it fail.  One that hangs is not waited for."""
        if not self._running:
            return
        self._running = False
        self._why = "it was closed"
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        connection, self._connection = self._connection, None
        self._wake()
        yield apart(self._closed_unused(connection)).addTimeout(
            CLOSE_SECONDS, self._reactor, lambda result, seconds: self.log.warn("{uri}: hangs", uri=self._uri)
        )
        self._pool.adjustPoolsize(0, 0)

    @inlineCallbacks
    def _closed_unused(self, connection: Any) -> Generator[Deferred[Any], Any, None]:
        """A connection that is closed under a thread that uses it is freed memory to that thread."""
        if self._calls:
            self._unused = Deferred()
            yield self._unused
        yield self.work(self._close, connection)

    def work(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """
        Call what blocks, and needs no libvirt, in one of the threads.

        @return: to be cancelled when it is not wanted any more: that ends when
            the thread is done, since nothing can stop it.
        @raise DriverFailure: a file can't be had.
        """
        done: _InThread[T] = _InThread()

        def ended(success: bool, result: Any) -> None:
            self._reactor.callFromThread(done.end, success, result)

        self._pool.callInThreadWithCallback(ended, _filed, function, *args)
        return done

    @inlineCallbacks
    def call(self, function: Callable[..., T], *args: Any) -> Generator[Deferred[Any], Any, T]:
        """
        Call C{function(connection, *args)} in one of the threads.

        @raise DriverFailure: libvirt refused, or was not there for too long.
        """
        ends = self._reactor.seconds() + self._patience
        while True:
            if self._connection is None:
                yield self._opened(ends - self._reactor.seconds())
                continue
            connection = self._connection
            try:
                return (yield self._use(connection, function, *args))  # type: ignore[no-any-return]
            except Lost as error:
                self._lost(connection, str(error))

    @inlineCallbacks
    def _use(self, connection: Any, function: Callable[..., T], *args: Any) -> Generator[Deferred[Any], Any, T]:
        self._calls += 1
        try:
            return (yield self.work(_guarded, function, connection, *args))  # type: ignore[no-any-return]
        finally:
            self._calls -= 1
            if not self._calls and self._unused is not None:
                unused, self._unused = self._unused, None
                unused.callback(None)

    def _open(self) -> Any:
        """Open and subscribe; in a thread."""
        connection = libvirt.open(self._uri)
        try:
            connection.setKeepAlive(ALIVE_SECONDS, ALIVE_TRIES)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
        connection.registerCloseCallback(self._closed, None)
        subscribe(connection, self._tell)
        return connection

    def _close(self, connection: Any) -> None:
        """In a thread."""
        if connection is not None:
            try:
                connection.unregisterCloseCallback()
                connection.close()
            except libvirt.libvirtError as error:
                self.log.info("{uri}: {error}", uri=self._uri, error=error)
        self._loop.stop()

    def _tell(self, name: str, kind: str) -> None:
        """In the loop's thread."""
        self._reactor.callFromThread(self._told, name, kind)

    def _told(self, name: str, kind: str) -> None:
        if self._running:
            self._heard(name, kind)

    def _closed(self, connection: Any, reason: int, opaque: object) -> None:
        """In the loop's thread."""
        self._reactor.callFromThread(self._lost, connection, "the connection was closed")

    def _lost(self, connection: Any, why: str) -> None:
        """Forget a connection that broke, and try to open another."""
        if self._running and connection is self._connection:
            self._connection = None
            self._why = why
            self.log.warn("{uri}: lost: {why}", uri=self._uri, why=why)
            self._again()

    def _again(self) -> None:
        self._retry = self._reactor.callLater(self._pause, self._reopen)
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)

    def _reopen(self) -> None:
        self._retry = None
        self.work(self._open).addCallbacks(self._is_open, self._is_not_open)

    def _is_open(self, connection: Any) -> None:
        if not self._running:
            self.work(connection.close)
            return
        self.log.info("{uri}: open again", uri=self._uri)
        self._connection = connection
        self._pause = FIRST_PAUSE
        self._wake()
        self._reopened()

    def _is_not_open(self, failure: Failure) -> None:
        self._why = str(failure.value)
        if self._running:
            self._again()

    def _opened(self, seconds: float) -> Deferred[None]:
        """
        @return: fires when it is open.
        @raise DriverFailure: not within so many seconds, or it was stopped.
        """
        if not self._running or seconds <= 0:
            raise DriverFailure(what=f"{self._uri} does not answer: {self._why}")
        waiter: Deferred[None] = Deferred(lambda waiter: self._waiting.remove(waiter))
        self._waiting.append(waiter)
        return waiter.addTimeout(seconds, self._reactor, lambda result, seconds: None)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)


def _guarded(function: Callable[..., T], connection: Any, *args: Any) -> T:
    """In a thread."""
    try:
        return function(connection, *args)
    except libvirt.libvirtError as error:
        if not _alive(connection):
            raise Lost(str(error)) from error
        raise DriverFailure(what=str(error)) from error


def _alive(connection: Any) -> bool:
    """In a thread."""
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False


def _filed(function: Callable[..., T], *args: Any) -> T:
    """In a thread."""
    try:
        return function(*args)
    except OSError as error:
        raise DriverFailure(what=str(error)) from error
