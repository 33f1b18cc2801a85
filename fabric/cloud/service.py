"""
The controller's service: takes reports, sweeps, watches hosts, reads events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.controller import CloudWorker, DeadLetters
from fabric.cloud.events import EventReader
from fabric.cloud.fencing import Fencing
from fabric.cloud.hosts import Hosts
from fabric.cloud.image_files import ImageFiles
from fabric.cloud.interface import ICloudWorker
from fabric.cloud.sweep import Sweep
from fabric.heartbeat import Heartbeat
from fabric.periodic import Periodic
from fabric.rpc.interface import Address
from fabric.worker import WorkerService

EVENTS_EVERY = 2.0
COLLECT_EVERY = 600.0


class ControllerService(WorkerService):
    """
    Any number of these may run; each does the same.
    """

    def __init__(
        self,
        queue: Any,
        worker: CloudWorker,
        sweep: Sweep,
        hosts: Hosts,
        events: EventReader,
        dead_letters: DeadLetters,
        host: str,
        zone: str,
        clock: IReactorTime,
        sweep_interval: float = 5.0,
        review_interval: float = 10.0,
        report_interval: float = 10.0,
        prefetch: int = 32,
        opening: Sequence[Callable[[], Deferred[Any]]] = (),
        fencing: Fencing | None = None,
        image_files: ImageFiles | None = None,
    ) -> None:
        """
        @param sweep_interval, review_interval: seconds between turns of the
            sweep, and between looks at the heartbeats.
        @param opening: steps to be done before the first report is taken.
        @param fencing: what is done about dead hosts, as often as heartbeats
            are looked at; None for nothing.
        @param image_files: whose unused files are removed now and then.
        """
        super().__init__(
            f"cloud.{host}",
            queue,
            clock,
            ICloudWorker,
            worker,
            ((Address("cloud"), prefetch),),
            (*opening, lambda: queue.listen_dead(dead_letters.take)),
            (),
        )
        self.while_open(Periodic("sweep", sweep_interval, sweep.turn, clock, first=sweep_interval))
        self.while_open(Periodic("hosts", review_interval, hosts.review, clock, first=review_interval))
        if fencing is not None:
            self.while_open(
                Periodic("fencing", review_interval, fencing.turn, clock, limit=600.0, first=review_interval)
            )
        if image_files is not None:
            self.while_open(
                Periodic("image files", COLLECT_EVERY, image_files.collect, clock, COLLECT_EVERY, 600.0, COLLECT_EVERY)
            )
        self.while_open(Periodic("events", EVENTS_EVERY, events.turn, clock))
        self.while_open(Heartbeat("cloud", host, zone, queue, clock, report_interval))
