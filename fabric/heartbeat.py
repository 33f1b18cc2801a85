"""
A worker's heartbeat: that it is alive, and what its host offers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.interface import ICloudWorker
from fabric.model.codec import encode
from fabric.model.host import Capacity
from fabric.periodic import Periodic
from fabric.rpc.interface import Address, Context, IQueue


class Heartbeat(Periodic):
    """
    Casts C{ICloudWorker.report_host} at the start and every C{interval} seconds.
    """

    def __init__(
        self,
        topic: str,
        host: str,
        zone: str,
        queue: IQueue,
        clock: IReactorTime,
        interval: float = 10.0,
        capacity: Callable[[], Deferred[Capacity]] = lambda: succeed(Capacity()),
    ) -> None:
        """
        @param topic: what the worker listens to, as C{compute}.
        @param interval: seconds.
        @param capacity: asked before each beat; a host that can't say it
            misses the beat, and so gets nothing new.
        """
        super().__init__(f"heartbeat of {topic}.{host}", interval, self._beat, clock)
        self._topic = topic
        self._host = host
        self._zone = zone
        self._queue = queue
        self._capacity = capacity
        self._started_at = 0.0

    def startService(self) -> None:
        """Begin to beat."""
        self._started_at = self._clock.seconds()
        super().startService()

    @inlineCallbacks
    def _beat(self) -> Generator[Deferred[Any], Any, None]:
        capacity = yield self._capacity()
        cloud = self._queue.caster(ICloudWorker, Address("cloud"), Context())
        yield cloud.report_host(self._topic, self._host, self._zone, self._started_at, encode(capacity))
