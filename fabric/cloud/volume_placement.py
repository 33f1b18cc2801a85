"""
Placing volumes: room on a volume host is claimed in the write that says where
a volume is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.cloud.hosts import Hosts
from fabric.cloud.retry import until_written
from fabric.cloud.volume_orders import RESEND_AFTER, VolumeOrders
from fabric.errors import FabricError, LimitExceeded, NotFound
from fabric.faults import IFaults
from fabric.model.host import Service
from fabric.model.snapshot import Snapshot
from fabric.model.volume import Volume, room_counter
from fabric.store.interface import IStore, Stored

Fail = Callable[..., Deferred[None]]
"""L{fabric.cloud.volume_reports.VolumeReports.fail_volume}."""

NO_ROOM = "no volume host has room for this volume"


@attrs.frozen
class VolumeHost:
    """
    A volume host as placing sees it.

    @ivar used_gb: GiB that are promised.
    """

    service: Service
    used_gb: int

    @property
    def free_gb(self) -> int:
        """GiB that may still be promised."""
        return self.service.capacity.disk_gb - self.used_gb


class VolumePlacement:
    """
    Gives each volume the host with the most room, or the snapshot's.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        hosts: Hosts,
        orders: VolumeOrders,
        fail: Fail,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._orders = orders
        self._fail = fail
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def check_zone(self, zone: str) -> Generator[Deferred[Any], Any, None]:
        """
        @raise NotFound: no host of any kind is in that zone; C{kind} is
            C{zone}.
        """
        zones = yield self._hosts.zones()
        if zone in [each.name for each in zones]:
            return
        services = yield self._hosts.volume_services()
        if zone not in [service.zone for service in services]:
            raise NotFound("zone", zone)

    @inlineCallbacks
    def place(self, request_id: str, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Claim room for volumes that have no host, and order them; those that
        no host has room for are in C{error} then.  Repeating is safe.
        """
        for id in ids:
            try:
                volume = yield self._place(request_id, id)
            except FabricError as error:
                self.log.warn(
                    "{request_id}: {id} was not placed and will be: {error}", request_id=request_id, id=id, error=error
                )
                continue
            except Exception:
                self.log.failure("{request_id}: {id} was not placed and will be", request_id=request_id, id=id)
                continue
            if volume is not None and volume.host:
                self._faults.reach("cloud.volume_placed")
                yield self._orders.create(request_id, [volume])

    @inlineCallbacks
    def _place(self, request_id: str, id: str) -> Generator[Deferred[Any], Any, Volume | None]:
        full: dict[str, str] = {}
        while True:
            [stored] = yield self._store.read(Volume, [id])
            if stored is None or stored.record.state != "creating" or stored.record.host:
                return None
            host, reasons = yield self._choose(stored.record, full)
            if host is None:
                return (yield until_written(lambda: self._refuse(request_id, id, reasons)))  # type: ignore[no-any-return]  # noqa: B023
            try:
                return (yield until_written(lambda: self._claim(request_id, id, host)))  # type: ignore[no-any-return]  # noqa: B023
            except LimitExceeded as error:
                full[host.service.host] = f"{error.used} of {error.limit} GiB promised"

    @inlineCallbacks
    def _choose(
        self, volume: Volume, full: dict[str, str]
    ) -> Generator[Deferred[Any], Any, tuple[VolumeHost | None, dict[str, str]]]:
        """
        @return: the best host, None for none; and why each other was not it.
        """
        only = ""
        if volume.snapshot:
            [snapshot] = yield self._store.read(Snapshot, [volume.snapshot])
            only = snapshot.record.host if snapshot is not None else "(the snapshot is gone)"
        hosts = yield self.hosts()
        reasons = dict(full)
        fitting = []
        for host in hosts:
            name = host.service.host
            why = full.get(name) or _unfit(volume, host, only)
            if why:
                reasons[name] = why
            else:
                fitting.append(host)
        best = max(fitting, key=lambda host: (host.free_gb, host.service.host), default=None)
        return best, reasons

    @inlineCallbacks
    def hosts(self) -> Generator[Deferred[Any], Any, list[VolumeHost]]:
        """
        Every volume host with what is promised of it.
        """
        services = yield self._hosts.volume_services()
        names = [room_counter(service.host) for service in services]
        used = (yield self._store.counters(names)) if names else {}
        return [VolumeHost(service, used[room_counter(service.host)]) for service in services]

    @inlineCallbacks
    def _claim(self, request_id: str, id: str, host: VolumeHost) -> Generator[Deferred[Any], Any, Volume | None]:
        [stored] = yield self._store.read(Volume, [id])
        if not _unplaced(stored):
            return None
        now = self._clock.seconds()
        name = host.service.host
        placed = attrs.evolve(stored.record, host=name, review_at=now + self._resend_after, refusals={})
        transaction = self._store.transaction(request_id)
        transaction.update(stored, placed)
        transaction.limit(room_counter(name), host.service.capacity.disk_gb)
        yield self._store.commit(transaction)
        return placed  # type: ignore[no-any-return]

    @inlineCallbacks
    def _refuse(self, request_id: str, id: str, reasons: dict[str, str]) -> Generator[Deferred[Any], Any, None]:
        [stored] = yield self._store.read(Volume, [id])
        if not _unplaced(stored):
            return
        if not reasons:
            return  # there was no host yet, whether or not there is one now: the sweep tries again until its deadline
        why = NO_ROOM
        self.log.warn("{request_id}: {id}: {why}: {reasons}", request_id=request_id, id=id, why=why, reasons=reasons)
        yield self._fail(request_id, stored, why, refusals=reasons)


def _unplaced(stored: Stored[Volume] | None) -> bool:
    return stored is not None and stored.record.state == "creating" and not stored.record.host


def _unfit(volume: Volume, host: VolumeHost, only: str) -> str:
    """
    @return: why a host can't have the volume; empty when it can.
    """
    service = host.service
    if only and service.host != only:
        return "the snapshot is on another host"
    if service.zone != volume.zone:
        return f"in zone {service.zone}"
    if not service.alive:
        return "its volume service does not report"
    if service.disabled:
        return "disabled" + (f": {service.disabled_reason}" if service.disabled_reason else "")
    if host.free_gb < volume.size_gb:
        return f"{host.free_gb} GiB free, {volume.size_gb} wanted"
    return ""
