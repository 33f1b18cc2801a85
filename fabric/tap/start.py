"""
Starting a service's parts in order, and stopping them in reverse.

C{twistd} writes what goes wrong in a C{startService} into its log and runs on;
here the process says it in one line on standard error, stops what was started,
and ends with status 1.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from fabric.errors import FabricError, Unavailable


@attrs.frozen
class Step:
    """
    One part: what starts it, and what stops it again.  Both may return a
    Deferred; C{stop} is called only after C{start} succeeded.
    """

    name: str
    start: Callable[[], Any]
    stop: Callable[[], Any]


class Refusal(Exception):
    """
    The process can't start; the text is for the one who started it.
    """


class Sequenced(Service):
    """
    The service of a process.

    @ivar log: where starts and stops are told.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        name: str,
        steps: Sequence[Step],
        observer: ILogObserver | None,
        complain: Callable[[str], None],
    ) -> None:
        """
        @param observer: takes the place of C{twistd}'s own; None for that.
        @param complain: told the one line when the start failed; it sees to
            the exit status.
        """
        self.name = name
        self._reactor = reactor
        self._steps = steps
        self._observer = observer
        self._complain = complain
        self._started: list[Step] = []
        self._starting: Deferred[None] | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Become part of C{twistd}'s application, and do its logging."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Start the parts once the reactor runs."""
        super().startService()
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        if self.running:
            self._starting = self._start()
            self._starting.addErrback(self._failed)

    @inlineCallbacks
    def _start(self) -> Generator[Deferred[Any], Any, None]:
        for step in self._steps:
            if not self.running:
                return
            yield maybeDeferred(step.start)
            self._started.append(step)
            self.log.debug("{part} is up", part=step.name)
        self.log.info("{service} is up", service=self.name)

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return
        line = explain(failure)
        self.log.debug("the start failed: {traceback}", traceback=failure.getTraceback())
        self._complain(f"{self.name}: {line}")
        self._reactor.stop()

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        """Stop what was started, last first."""
        super().stopService()
        if self._starting is not None:
            self._starting.cancel()
            yield self._starting
        while self._started:
            step = self._started.pop()
            try:
                yield maybeDeferred(step.stop)
            except Exception:
                self.log.failure("{part} did not stop", part=step.name)
        self.log.info("{service} has stopped", service=self.name)


def explain(failure: Failure) -> str:
    """
    @return: one line that says what hindered the start, and where.
    """
    error = failure.value
    if isinstance(error, CannotListenError):
        place = error.port if error.interface in (None, "") else f"{error.interface} port {error.port}"
        return f"can't listen at {place}: {getattr(error.socketError, 'strerror', None) or error.socketError}"
    if isinstance(error, Unavailable):
        return _one_line(f"{error.service} is not available: {error.why}")
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, Refusal):
        return _one_line(str(error))
    if isinstance(error, FabricError):
        return _one_line(str(error))
    return _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def complain_and_fail(line: str) -> None:
    """
    Write a line to standard error, and let this process end with status 1.

    C{twistd} has no exit status of a service's; the last exit handler gives it,
    after C{twistd} has removed its pid file.
    """
    assert sys.__stderr__ is not None
    sys.__stderr__.write(line + "\n")
    sys.__stderr__.flush()
    atexit.register(_leave)


def _leave() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(1)
