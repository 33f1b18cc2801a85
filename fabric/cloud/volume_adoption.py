"""
A volume host says all that it has, and state and host are made to agree.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger

from fabric.cloud.volume_orders import VolumeOrders
from fabric.compute.interface import DiskOrder, Domain
from fabric.model.instance import Instance
from fabric.model.record import Record
from fabric.model.snapshot import Snapshot
from fabric.model.volume import Volume
from fabric.store.interface import IStore, Query
from fabric.volume.interface import HeldVolume, Holdings


class VolumeAdoption:
    """
    What state waits for is ordered again; an export that state has no
    attachment for is ended.  What state does not know is kept and told of in
    the log: it may be the only copy of somebody's data.
    """

    log = Logger()

    def __init__(self, store: IStore, orders: VolumeOrders) -> None:
        self._store = store
        self._orders = orders

    @inlineCallbacks
    def adopt(self, request_id: str, host: str, holdings: Holdings) -> Generator[Deferred[Any], Any, None]:
        """
        Make state and host agree.  Repeating is safe.
        """
        volumes = {each.id: each for each in (yield self._of_host(Volume, host))}
        snapshots = {each.id: each for each in (yield self._of_host(Snapshot, host))}
        yield self._orders.create(request_id, [each for each in volumes.values() if each.state == "creating"])
        yield self._orders.delete(request_id, [each for each in volumes.values() if each.state == "deleting"])
        yield self._orders.grow(request_id, [each for each in volumes.values() if each.growing])
        yield self._orders.snapshot(request_id, [each for each in snapshots.values() if each.state == "pending"])
        gone = [each for each in snapshots.values() if each.state == "deleting"]
        yield self._orders.delete_snapshots(request_id, gone)
        for held in holdings.volumes:
            volume = volumes.get(held.id)
            if volume is not None and _overexported(volume, held):
                yield self._orders.unexport(request_id, host, held.id, held.exported_to, volume.order)
        self._tell(host, volumes, snapshots, holdings)

    @inlineCallbacks
    def disks(self, request_id: str, host: str, domains: Sequence[Domain]) -> Generator[Deferred[Any], Any, None]:
        """
        Have volumes taken from machines that state does not have them on, as
        after a host was away while its volumes were forced off it.  Exports
        are left alone: the volume may be on another machine of the host.
        """
        holders = [domain for domain in domains if domain.disks]
        if not holders:
            return
        found = yield self._store.read(Instance, [domain.id for domain in holders])
        foreign: list[DiskOrder] = []
        for domain, stored in zip(holders, found, strict=True):
            if stored is None or stored.record.host != host:
                continue
            known = {disk.volume for disk in stored.record.disks}
            others = {device: id for device, id in domain.disks.items() if id not in known}
            volumes = yield self._store.read(Volume, list(others.values()))
            for (device, id), volume in zip(others.items(), volumes, strict=True):
                order = volume.record.order if volume is not None else 0
                foreign.append(DiskOrder(id, domain.id, device, "", order, force=True))
        if foreign:
            self.log.warn("{host}: taking away {count} volumes that state has not there", host=host, count=len(foreign))
            yield self._orders.take_away(request_id, host, foreign)

    def _tell(self, host: str, volumes: dict[str, Volume], snapshots: dict[str, Snapshot], holdings: Holdings) -> None:
        there = {held.id for held in holdings.volumes} | {held.id for held in holdings.snapshots}
        known = {*volumes, *snapshots}
        for id in sorted(there - known):
            self.log.warn("{host} has {id}, which state does not know: kept", host=host, id=id)
        made = [each.id for each in volumes.values() if each.state in ("available", "in-use")]
        made += [each.id for each in snapshots.values() if each.state == "completed"]
        for id in sorted(set(made) - there):
            self.log.error("{host} does not have {id}, which state says is there", host=host, id=id)

    @inlineCallbacks
    def _of_host(self, cls: type[Record], host: str) -> Generator[Deferred[Any], Any, list[Any]]:
        found: list[Any] = []
        cursor = ""
        while True:
            page = yield self._store.records(cls, Query(cls.kind, ("volume-host:" + host,), cursor=cursor, limit=1000))
            found += [stored.record for stored in page.items]
            cursor = page.cursor
            if not cursor:
                return found


def _overexported(volume: Volume, held: HeldVolume) -> bool:
    """Whether a host may use a volume that it should not."""
    wanted = volume.attachment.host if volume.attachment is not None else ""
    return bool(held.exported_to) and held.exported_to != wanted
