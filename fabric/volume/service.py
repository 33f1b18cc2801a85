"""
The volume service of a host.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fabric.faults import IFaults
from fabric.heartbeat import Heartbeat
from fabric.model.host import Capacity
from fabric.periodic import Periodic
from fabric.rpc.interface import Address, IQueue
from fabric.volume.interface import IVolumeDriver, IVolumeWorker
from fabric.volume.worker import VolumeWorker
from fabric.worker import WorkerService


class VolumeService(WorkerService):
    """
    Opens the host's volumes, and takes orders for them.

    @ivar worker: the L{VolumeWorker}.
    """

    def __init__(
        self,
        queue: IQueue,
        driver: IVolumeDriver,
        host: str,
        zone: str,
        clock: IReactorTime,
        faults: IFaults | None = None,
        prefetch: int = 16,
        report_interval: float = 10.0,
        adopt_interval: float = 300.0,
        grace: float = 20.0,
    ) -> None:
        """
        @param prefetch: messages in work at once.
        @param report_interval: seconds between heartbeats.
        @param adopt_interval: seconds between reports of all that is here.
        @param grace: seconds for what is in hand when it is stopped.
        """
        self.worker = worker = VolumeWorker(host, driver, queue, clock, faults)
        places = ((Address("volume", host), prefetch),)
        super().__init__(
            f"volume.{host}", queue, clock, IVolumeWorker, worker, places, (driver.start,), (driver.stop,), grace
        )

        def capacity() -> Deferred[Capacity]:
            return driver.capacity_gb().addCallback(lambda size_gb: Capacity(disk_gb=size_gb))

        self.while_open(Heartbeat("volume", host, zone, queue, clock, report_interval, capacity))
        self.while_open(Periodic("adopt", adopt_interval, worker.adopt, clock))
