"""
The network service of a host.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from fabric.faults import IFaults
from fabric.heartbeat import Heartbeat
from fabric.network.interface import INetworkDriver, INetworkWorker
from fabric.network.worker import NetworkWorker
from fabric.periodic import Periodic
from fabric.rpc.interface import Address, IQueue
from fabric.worker import WorkerService


class NetworkService(WorkerService):
    """
    Opens the host's network, and takes orders for it.

    @ivar worker: the L{NetworkWorker}.
    """

    def __init__(
        self,
        queue: IQueue,
        driver: INetworkDriver,
        host: str,
        zone: str,
        clock: IReactorTime,
        faults: IFaults | None = None,
        prefetch: int = 64,
        report_interval: float = 10.0,
        grace: float = 20.0,
        adopt_interval: float = 300.0,
    ) -> None:
        """
        @param prefetch: messages in work at once.
        @param report_interval: seconds between heartbeats.
        @param grace: seconds for what is in hand when it is stopped.
        @param adopt_interval: seconds between reports of all that is here; a
            network that nobody used for so long is removed from this host.
        """
        self.worker = worker = NetworkWorker(driver, clock, faults, host, queue)
        places = ((Address("network", host), prefetch), (Address("network"), prefetch))
        super().__init__(
            f"network.{host}", queue, clock, INetworkWorker, worker, places, (driver.start,), (driver.stop,), grace
        )
        self.while_open(Heartbeat("network", host, zone, queue, clock, report_interval))
        self.while_open(Periodic("adopt", adopt_interval, worker.adopt, clock))
        self.while_open(Periodic("tidy", adopt_interval, worker.tidy, clock))
