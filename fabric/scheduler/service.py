"""
The scheduler's service.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from fabric.faults import IFaults
from fabric.heartbeat import Heartbeat
from fabric.rpc.interface import Address, IQueue
from fabric.scheduler.interface import IPlacement, ISchedulerWorker
from fabric.scheduler.worker import SchedulerWorker
from fabric.worker import WorkerService


class SchedulerService(WorkerService):
    """
    Takes what is to be placed; any number of these may run.

    @ivar worker: the L{SchedulerWorker}.
    """

    def __init__(
        self,
        queue: IQueue,
        placement: IPlacement,
        algorithm: str,
        host: str,
        zone: str,
        clock: IReactorTime,
        faults: IFaults,
        prefetch: int = 4,
        report_interval: float = 10.0,
    ) -> None:
        """
        @param algorithm: a name of L{fabric.scheduler.algorithms.NAMES}.
        """
        self.worker = SchedulerWorker(placement, algorithm, clock, faults)
        super().__init__(
            f"scheduler.{host}",
            queue,
            clock,
            ISchedulerWorker,
            self.worker,
            ((Address("scheduler"), prefetch),),
            (),
            (),
        )
        self.while_open(Heartbeat("scheduler", host, zone, queue, clock, report_interval))
