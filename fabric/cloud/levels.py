"""
How full, how deep, how late: the levels that operators watch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.hosts import Hosts
from fabric.metrics import Metrics
from fabric.rpc.interface import IQueue
from fabric.store.interface import IStore

STUCK_AFTER = 30.0
"""Seconds overdue after which the sweep should long have looked at a record."""

MOST_STUCK = 1000
"""Records that are counted at most."""


class Levels:
    """
    Reads levels when somebody looks, since nothing else needs them.
    """

    def __init__(self, store: IStore, hosts: Hosts, queue: IQueue, clock: IReactorTime, metrics: Metrics) -> None:
        self._store = store
        self._hosts = hosts
        self._queue = queue
        self._clock = clock
        self._metrics = metrics

    @inlineCallbacks
    def read(self) -> Generator[Deferred[Any], Any, None]:
        """
        Set the levels of pools, services, stuck records and queues.

        @raise Unavailable: the store or the queue does not answer.
        """
        metrics = self._metrics
        metrics.pool_levels((yield self._store.pools()))
        services = yield self._hosts.records()
        metrics.services_alive({service.id: service.alive for service in services})
        overdue = yield self._store.due(self._clock.seconds() - STUCK_AFTER, MOST_STUCK)
        stuck = Counter(kind for kind, _ in overdue)
        for kind in ("instance", "reservation", "stray", "volume", "snapshot"):
            metrics.stuck(kind, stuck[kind])
        metrics.queue_depths((yield self._queue.depths()))
