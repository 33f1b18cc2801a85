"""
Orders about volumes and snapshots, to the hosts that have them and to the
hosts whose machines use them.

As L{fabric.cloud.orders}: state is written first, and what is not sent now is
sent by the sweep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from fabric.compute.interface import DiskOrder, IComputeWorker
from fabric.errors import FabricError
from fabric.model.codec import encode
from fabric.model.snapshot import Snapshot
from fabric.model.volume import Volume
from fabric.rpc.interface import Address, Context, IQueue
from fabric.volume.interface import IVolumeWorker, Named, SnapshotOrder, VolumeOrder

WAIT = 3600.0
"""Seconds for which an order may wait in a queue."""

FENCE_SECONDS = 10.0
"""How long a volume host may take to end an export while the sweep waits."""

RESEND_AFTER = 30.0
"""Seconds after which the sweep sends an unanswered order again, at first."""

Item = Any


class VolumeOrders:
    """
    Sends orders, grouped by host.
    """

    log = Logger()

    def __init__(self, queue: IQueue) -> None:
        self._queue = queue

    def create(self, request_id: str, volumes: Iterable[Volume]) -> Deferred[None]:
        """Order volumes from their hosts."""
        return self._per_host(request_id, "create", volumes, volume_order)

    def grow(self, request_id: str, volumes: Iterable[Volume]) -> Deferred[None]:
        """Order volumes to be as large as they claim."""
        return self._per_host(request_id, "grow", volumes, volume_order)

    def delete(self, request_id: str, volumes: Iterable[Volume]) -> Deferred[None]:
        """Order volumes to be removed."""
        return self._per_host(request_id, "delete", volumes, _named)

    def snapshot(self, request_id: str, snapshots: Iterable[Snapshot]) -> Deferred[None]:
        """Order snapshots to be made."""
        return self._per_host(request_id, "snapshot", snapshots, snapshot_order)

    def delete_snapshots(self, request_id: str, snapshots: Iterable[Snapshot]) -> Deferred[None]:
        """Order snapshots to be removed."""
        return self._per_host(request_id, "delete_snapshots", snapshots, _named)

    def unexport(self, request_id: str, host: str, id: str, compute_host: str, order: int) -> Deferred[None]:
        """Order a volume not to be given to a compute host any more."""
        remote = self._queue.caster(IVolumeWorker, Address("volume", host), Context(request_id, WAIT))
        return self._sent(request_id, "unexport", host, remote.unexport(id, compute_host, order))

    def fence(self, request_id: str, volume: Volume) -> Deferred[None]:
        """
        Have a volume taken from the compute host that it is attached on, whatever
        that says.

        @return: fires when it is so.
        @raise FabricError: the volume host does not say so.
        """
        attachment = volume.attachment
        assert attachment is not None, volume.id
        address, context = Address("volume", volume.host), Context(request_id, FENCE_SECONDS)
        remote: IVolumeWorker = self._queue.caller(IVolumeWorker, address, context)
        return remote.unexport(volume.id, attachment.host, attachment.order)

    def attach(self, request_id: str, volumes: Iterable[Volume]) -> Deferred[None]:
        """Order compute hosts to give volumes to their machines."""
        return self._to_compute(request_id, "attach_disks", volumes)

    def detach(self, request_id: str, volumes: Iterable[Volume]) -> Deferred[None]:
        """Order compute hosts to take volumes from their machines."""
        return self._to_compute(request_id, "detach_disks", volumes)

    def take_away(self, request_id: str, host: str, disks: Iterable[DiskOrder]) -> Deferred[None]:
        """Order disks that state does not know of to be taken from a host's machines."""
        remote = self._queue.caster(IComputeWorker, Address("compute", host), Context(request_id, WAIT))
        return self._sent(request_id, "detach_disks", host, remote.detach_disks([encode(disk) for disk in disks]))

    def _to_compute(self, request_id: str, method: str, volumes: Iterable[Volume]) -> Deferred[None]:
        by_host: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for volume in volumes:
            if volume.attachment is not None and volume.attachment.host:
                by_host[volume.attachment.host].append(encode(disk_order(volume)))
        sends = []
        for host, disks in by_host.items():
            remote = self._queue.caster(IComputeWorker, Address("compute", host), Context(request_id, WAIT))
            sends.append(self._sent(request_id, method, host, getattr(remote, method)(disks)))
        return _all(sends)

    def _per_host(
        self, request_id: str, method: str, records: Iterable[Item], shape: Callable[[Item], Any]
    ) -> Deferred[None]:
        by_host: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in records:
            by_host[record.host].append(encode(shape(record)))
        sends = []
        for host, items in by_host.items():
            remote = self._queue.caster(IVolumeWorker, Address("volume", host), Context(request_id, WAIT))
            sends.append(self._sent(request_id, method, host, getattr(remote, method)(items)))
        return _all(sends)

    def _sent(self, request_id: str, name: str, where: str, send: Deferred[None]) -> Deferred[None]:
        def unsent(failure: Any) -> None:
            failure.trap(FabricError)
            self.log.warn(
                "{request_id}: order {order} for {where} was not sent and will be again: {error}",
                request_id=request_id,
                order=name,
                where=where,
                error=failure.value,
            )

        return send.addErrback(unsent)


def volume_order(volume: Volume) -> VolumeOrder:
    """
    What a host is asked for; in the size to be, while the volume grows.
    """
    order = volume.modification.order if volume.modification and volume.growing else volume.order
    return VolumeOrder(volume.id, volume.claimed_gb, order, volume.snapshot)


def disk_order(volume: Volume) -> DiskOrder:
    """
    What a compute host is told of a volume that is attached, or no longer is to be.
    """
    attachment = volume.attachment
    assert attachment is not None, volume.id
    return DiskOrder(volume.id, attachment.instance, attachment.device, volume.host, attachment.order, attachment.force)


def _named(record: Volume | Snapshot) -> Named:
    return Named(record.id, record.order)


def snapshot_order(snapshot: Snapshot) -> SnapshotOrder:
    """
    What a volume host is told of a snapshot that it is to make.
    """
    return SnapshotOrder(snapshot.id, snapshot.volume, snapshot.size_gb, snapshot.order, snapshot.source)


def _all(sends: list[Deferred[None]]) -> Deferred[None]:
    gathered = gatherResults(sends, consumeErrors=True)
    return gathered.addCallback(lambda _: None)
