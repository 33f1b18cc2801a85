"""
Sends the reports of a host, many in one message.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric.cloud.interface import ICloudWorker
from fabric.compute.interface import MachineReport
from fabric.errors import Unavailable
from fabric.model.codec import encode
from fabric.rpc.interface import Address, Context, IQueue

WAIT = 3600.0
"""Seconds for which a report may wait in the queue; hosts tell all that they have more often."""


class Reporter:
    """
    Reports go out in the order in which they were added, one cast at a time,
    each cast with all that gathered meanwhile.  One that could not be sent is
    sent again until it is confirmed.
    """

    log = Logger()

    def __init__(
        self,
        host: str,
        queue: IQueue,
        clock: IReactorTime,
        linger: float = 0.005,
        size: int = 200,
        longest_wait: float = 10.0,
    ) -> None:
        """
        @param linger: seconds for which the first report waits for others.
        @param size: most reports in one cast.
        @param longest_wait: most seconds between tries.
        """
        self._host = host
        self._queue = queue
        self._clock = clock
        self._linger = linger
        self._size = size
        self._longest_wait = longest_wait
        self._wait = 0.5
        self._reports: deque[tuple[dict[str, Any], str]] = deque()
        self._added = 0
        self._confirmed = 0
        self._waiters: deque[tuple[int, Deferred[None]]] = deque()
        self._next: IDelayedCall | None = None
        self._sending = False
        self._stopped = False

    def add(self, report: MachineReport, request_id: str) -> None:
        """Have a report sent soon."""
        self._reports.append((encode(report), request_id))
        self._added += 1
        if self._next is None and not self._sending and not self._stopped:
            self._next = self._clock.callLater(self._linger, self._send)

    def confirmed(self) -> Deferred[None]:
        """
        @return: fires when the queue has confirmed all that was added so far;
            fails with L{Unavailable} when the reporter is stopped before.
        """
        if self._confirmed == self._added:
            return succeed(None)
        if self._stopped:
            return _given_up()
        waiter: Deferred[None] = Deferred()
        self._waiters.append((self._added, waiter))
        return waiter

    def stop(self) -> None:
        """
        Send no more.  What was not confirmed is lost, so let those who wait
        for L{confirmed} finish first; those left fail.
        """
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None
        while self._waiters:
            _given_up().chainDeferred(self._waiters.popleft()[1])

    def _send(self) -> None:
        self._next = None
        self._sending = True
        count = min(len(self._reports), self._size)
        batch = [self._reports[n] for n in range(count)]
        # All requests in it by name, within reason, for the logs downstream.
        requests = ",".join(list(dict.fromkeys(request for _, request in batch if request))[:8])
        cloud = self._queue.caster(ICloudWorker, Address("cloud"), Context(requests, WAIT))
        sent = maybeDeferred(cloud.report_machines, self._host, [report for report, _ in batch])
        sent.addCallbacks(self._sent, self._not_sent, callbackArgs=(count,))
        sent.addErrback(lambda failure: self.log.failure("reporter broke", failure))

    def _sent(self, result: None, count: int) -> None:
        self._sending = False
        self._wait = 0.5
        for _ in range(count):
            self._reports.popleft()
        self._confirmed += count
        if self._reports and not self._stopped:
            self._next = self._clock.callLater(0, self._send)
        while self._waiters and self._waiters[0][0] <= self._confirmed:
            self._waiters.popleft()[1].callback(None)

    def _not_sent(self, failure: Failure) -> None:
        self._sending = False
        if self._stopped:
            return
        self.log.warn(
            "{host}: {count} reports not sent, again in {wait} s: {error}",
            host=self._host,
            count=len(self._reports),
            wait=self._wait,
            error=failure.value,
        )
        self._next = self._clock.callLater(self._wait, self._send)
        self._wait = min(2 * self._wait, self._longest_wait)


def _given_up() -> Deferred[None]:
    failed: Deferred[None] = Deferred()
    failed.errback(Unavailable(service="queue", why="the worker is stopping"))
    return failed
