"""
The compute service of a host.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.compute.driver import IComputeDriver
from fabric.compute.interface import IComputeWorker
from fabric.compute.worker import ComputeWorker
from fabric.faults import IFaults
from fabric.heartbeat import Heartbeat
from fabric.image.interface import IUploader
from fabric.periodic import Periodic
from fabric.rpc.interface import Address, IQueue
from fabric.worker import WorkerService


class ComputeService(WorkerService):
    """
    Opens the hypervisor, tells the controller what is there, takes orders.

    @ivar worker: the L{ComputeWorker}.
    """

    def __init__(
        self,
        queue: IQueue,
        driver: IComputeDriver,
        host: str,
        zone: str,
        clock: IReactorTime,
        faults: IFaults | None = None,
        concurrency: int = 16,
        prefetch: int = 64,
        report_interval: float = 10.0,
        adopt_interval: float = 300.0,
        grace: float = 20.0,
        uploader: IUploader | None = None,
    ) -> None:
        """
        @param concurrency: how many machines the driver is given at once.
        @param prefetch: messages in work at once.
        @param report_interval: seconds between heartbeats.
        @param adopt_interval: seconds between reports of all that is here.
        @param grace: seconds for what is in hand when it is stopped.
        @param uploader: brings copies of disks to the object store.
        """
        self.worker = worker = ComputeWorker(host, driver, queue, clock, faults, concurrency, uploader=uploader)
        self._driver = driver
        self._opened = False
        super().__init__(
            f"compute.{host}",
            queue,
            clock,
            IComputeWorker,
            worker,
            ((Address("compute", host), prefetch), (Address("compute"), 1)),
            (self._open, worker.learn),
            (worker.stop_reporting, self._close),
            grace,
        )
        self.while_open(Heartbeat("compute", host, zone, queue, clock, report_interval, driver.capacity))
        self.while_open(Periodic("adopt", adopt_interval, worker.adopt, clock))

    @inlineCallbacks
    def _open(self) -> Generator[Deferred[Any], Any, None]:
        yield self._driver.start(self.worker)
        self._opened = True

    @inlineCallbacks
    def _close(self) -> Generator[Deferred[Any], Any, None]:
        if self._opened:
            yield self._driver.stop()
            self._opened = False
