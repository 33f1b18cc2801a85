"""
Volumes: made, grown, deleted.  L{fabric.cloud.attachments} puts them on instances.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.attachments import Attachments
from fabric.cloud.quotas import Quotas, counter, quota_error
from fabric.cloud.retry import until_written
from fabric.cloud.volume_orders import RESEND_AFTER, VolumeOrders
from fabric.cloud.volume_placement import VolumePlacement
from fabric.errors import (
    AlreadyExists,
    IdempotencyMismatch,
    InUse,
    InvalidValue,
    LimitExceeded,
    NoCapacity,
    NotFound,
    WrongState,
)
from fabric.faults import IFaults
from fabric.ids import new_id
from fabric.model.host import Service
from fabric.model.instance import Instance
from fabric.model.snapshot import Snapshot
from fabric.model.volume import (
    LARGEST,
    TYPES,
    Attachment,
    Modification,
    NewDisk,
    Volume,
    disk_of,
    moved,
    room_counter,
    token_name,
)
from fabric.store.interface import IStore, Stored, Transaction


@attrs.frozen
class VolumeSpec:
    """
    What one CreateVolume asks for.

    @ivar size_gb: 0 for the snapshot's size.
    @ivar snapshot: an id, empty for an empty volume.
    @ivar digest_of: as of L{fabric.cloud.launch.LaunchSpec}.
    """

    zone: str
    size_gb: int = 0
    snapshot: str = ""
    volume_type: str = "standard"
    client_token: str = ""
    digest_of: str = ""
    tags: dict[str, str] = attrs.field(factory=dict)


class Volumes:
    """
    Verbs on volumes; each is one write.
    """

    def __init__(
        self,
        store: IStore,
        attachments: Attachments,
        placement: VolumePlacement,
        orders: VolumeOrders,
        quotas: Quotas,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._attachments = attachments
        self._placement = placement
        self._orders = orders
        self._quotas = quotas
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def get(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Volume]]:
        """
        @raise NotFound: some are not there or not the caller's; it names all.
        """
        found = yield self._read(caller, ids)
        return [stored.record for stored in found]

    @inlineCallbacks
    def create(self, caller: Caller, spec: VolumeSpec) -> Generator[Deferred[Any], Any, Volume]:
        """
        Make a volume; it is C{creating} until its host has it, C{error} with
        the reason when no host has room.  Repeating with the same client token
        gives the same volume.

        @raise NotFound: the snapshot is not the caller's to use; of kind
            C{zone}: no host was ever there.
        @raise InvalidValue: a type or size that can't be.
        @raise WrongState: the snapshot is not complete.
        @raise QuotaExceeded: the project has as much as it may.
        @raise IdempotencyMismatch: the token was used with other parameters.
        """
        yield self._placement.check_zone(spec.zone)
        snapshot = (yield self._snapshot(caller, spec.snapshot)) if spec.snapshot else None
        size = checked_size(spec.size_gb, spec.volume_type, snapshot)
        now = self._clock.seconds()
        volume = Volume(
            new_id("volume"),
            caller.project,
            size,
            spec.zone,
            now,
            now,
            review_at=now + self._resend_after,
            snapshot=spec.snapshot,
            volume_type=spec.volume_type,
            client_token=spec.client_token,
            token_digest=_digest(spec.digest_of),
            tags=dict(spec.tags),
        )
        try:
            yield self._write_new(caller, volume)
        except AlreadyExists as error:
            return (yield self._repeated(caller, spec, error.holder))  # type: ignore[no-any-return]
        self._faults.reach("cloud.volume_written")
        self._placement.place(caller.request_id, [volume.id])
        return volume

    def launched(
        self,
        transaction: Transaction,
        instance: Instance,
        disks: Sequence[NewDisk],
        limits: Mapping[str, int],
        snapshots: Mapping[str, Snapshot],
    ) -> tuple[Instance, list[Volume]]:
        """
        Add to a launch's transaction the volumes that it makes for an
        instance; they are attached when they are made and it runs.  After the
        commit, give all of them to L{place}.

        @param instance: about to be created, in the C{wanted_zone} in which
            the volumes are to be; must be set.
        @param limits: the project's quotas.
        @param snapshots: those that C{disks} name, by id, each usable by the
            project and complete.
        @return: the instance with its disks, to be created instead.
        @raise InvalidValue: a type, size or zone that can't be.
        """
        if not instance.wanted_zone:
            raise InvalidValue("zone", "", "an instance with new volumes needs a zone")
        now = self._clock.seconds()
        volumes = []
        for disk in disks:
            size = checked_size(disk.size_gb, disk.volume_type, snapshots[disk.snapshot] if disk.snapshot else None)
            volume = Volume(
                new_id("volume"),
                instance.project,
                size,
                instance.wanted_zone,
                now,
                now,
                review_at=now + self._resend_after,
                snapshot=disk.snapshot,
                volume_type=disk.volume_type,
                attachment=Attachment(instance.id, disk.device, "attaching", now, now, 1, disk.delete_on_termination),
                tags=dict(disk.tags),
            )
            volumes.append(volume)
            transaction.create(volume)
            if disk.snapshot:
                transaction.need("snapshot", disk.snapshot)
        self._limit(transaction, instance.project, limits)
        return attrs.evolve(instance, disks=tuple(disk_of(volume) for volume in volumes)), volumes

    def place(self, request_id: str, volumes: Sequence[Volume]) -> Deferred[None]:
        """
        Find hosts for volumes that were written, and order them.  Never fails:
        what is not placed now is by the sweep.
        """
        return self._placement.place(request_id, [volume.id for volume in volumes])

    def attach(self, caller: Caller, volume_id: str, instance_id: str, device: str) -> Deferred[Volume]:
        """See L{Attachments.attach}."""
        return self._attachments.attach(caller, volume_id, instance_id, device)

    def detach(
        self, caller: Caller, volume_id: str, instance_id: str = "", device: str = "", force: bool = False
    ) -> Deferred[Volume]:
        """See L{Attachments.detach}."""
        return self._attachments.detach(caller, volume_id, instance_id, device, force)

    def keep(self, caller: Caller, instance_id: str, wanted: Mapping[str, bool]) -> Deferred[None]:
        """See L{Attachments.keep}."""
        return self._attachments.keep(caller, instance_id, wanted)

    @inlineCallbacks
    def delete(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        """
        Remove a volume for good; it is C{deleting} until its host has nothing
        of it, however long that host is away.  Repeating is safe.

        @raise NotFound: as L{get}.
        @raise InUse: it is on an instance, or a snapshot is being made of it.
        @raise WrongState: it is being created.
        """
        volume = yield until_written(lambda: self._delete_once(caller, id))
        self._faults.reach("cloud.volume_deleted")
        if volume is not None and volume.host:
            self._orders.delete(caller.request_id, [volume])

    @inlineCallbacks
    def grow(self, caller: Caller, id: str, size_gb: int) -> Generator[Deferred[Any], Any, Volume]:
        """
        Make a volume larger, attached or not.

        @return: the volume with its modification.
        @raise NotFound: as L{get}.
        @raise InvalidValue: it would be smaller, or too large.
        @raise WrongState: it is not made, or is growing already.
        @raise QuotaExceeded: the project has as much as it may.
        @raise NoCapacity: its host has no room for it.
        """
        volume = yield until_written(lambda: self._grow_once(caller, id, size_gb))
        self._faults.reach("cloud.grow_written")
        if volume.growing:
            self._orders.grow(caller.request_id, [volume])
        return volume  # type: ignore[no-any-return]

    def set_auto_enable_io(self, caller: Caller, id: str, value: bool) -> Deferred[None]:
        """
        @raise NotFound: as L{get}.
        """
        return until_written(lambda: self._set_auto(caller, id, value))

    @inlineCallbacks
    def _set_auto(self, caller: Caller, id: str, value: bool) -> Generator[Deferred[Any], Any, None]:
        [stored] = yield self._read(caller, [id])
        if stored.record.auto_enable_io != value:
            transaction = self._store.transaction(caller.request_id)
            transaction.update(stored, attrs.evolve(stored.record, auto_enable_io=value))
            yield self._store.commit(transaction)

    @inlineCallbacks
    def _write_new(self, caller: Caller, volume: Volume) -> Generator[Deferred[Any], Any, None]:
        limits = yield self._quotas.limits(caller.project)
        transaction = self._store.transaction(caller.request_id)
        transaction.create(volume)
        if volume.snapshot:
            transaction.need("snapshot", volume.snapshot)
        self._limit(transaction, caller.project, limits)
        try:
            yield self._store.commit(transaction)
        except LimitExceeded as error:
            raise quota_error(error) from None

    def _limit(self, transaction: Transaction, project: str, limits: Mapping[str, int]) -> None:
        for resource in ("volumes", "gigabytes"):
            transaction.limit(counter(project, resource), limits[resource])

    @inlineCallbacks
    def _repeated(self, caller: Caller, spec: VolumeSpec, holder: str) -> Generator[Deferred[Any], Any, Volume]:
        [stored] = yield self._store.resolve(Volume, [token_name(caller.project, spec.client_token)])
        if stored is None:  # it was deleted just now: the token is free again
            return (yield self.create(caller, spec))  # type: ignore[no-any-return]
        if stored.record.token_digest != _digest(spec.digest_of):
            raise IdempotencyMismatch(spec.client_token)
        return stored.record  # type: ignore[no-any-return]

    @inlineCallbacks
    def _snapshot(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, Snapshot]:
        [stored] = yield self._store.read(Snapshot, [id])
        if stored is None or not stored.record.usable_by(caller.project):
            raise NotFound("snapshot", id)
        if stored.record.state != "completed":
            raise WrongState("snapshot", id, stored.record.state, ["completed"])
        return stored.record  # type: ignore[no-any-return]

    @inlineCallbacks
    def _delete_once(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, Volume | None]:
        [stored] = yield self._read(caller, [id])
        volume: Volume = stored.record
        if volume.attachment is not None:
            raise InUse("volume", id, volume.attachment.instance)
        if volume.state == "deleting":
            return volume
        now = self._clock.seconds()
        gone = moved(volume, "delete", now, order=volume.order + 1, review_at=now + self._resend_after)
        transaction = self._store.transaction(caller.request_id)
        transaction.idle("volume", id)
        if volume.host:
            transaction.update(stored, gone)
        else:
            transaction.delete(stored)
        yield self._store.commit(transaction)
        return gone if volume.host else None

    @inlineCallbacks
    def _grow_once(self, caller: Caller, id: str, size_gb: int) -> Generator[Deferred[Any], Any, Volume]:
        [stored] = yield self._read(caller, [id])
        volume: Volume = stored.record
        if volume.state not in ("available", "in-use") or volume.growing:
            raise WrongState("volume", id, "modifying" if volume.growing else volume.state, ["available", "in-use"])
        if size_gb < volume.size_gb:
            why = f"New size cannot be smaller than existing size {volume.size_gb}"
            raise InvalidValue("size", str(size_gb), why)
        checked_size(size_gb, volume.volume_type, None)
        now = self._clock.seconds()
        order = volume.order + 1
        larger = size_gb > volume.size_gb
        modification = Modification("modifying" if larger else "completed", volume.size_gb, size_gb, now, order)
        if not larger:
            modification = attrs.evolve(modification, ended_at=now)
        growing = attrs.evolve(volume, modification=modification, order=order, review_at=now + self._resend_after)
        transaction = self._store.transaction(caller.request_id)
        transaction.update(stored, growing)
        yield self._limit_growth(caller, transaction, volume.host)
        try:
            yield self._store.commit(transaction)
        except LimitExceeded as error:
            if error.counter.startswith("load:"):
                raise NoCapacity({volume.host: f"{error.used} of {error.limit} GiB promised"}) from None
            raise quota_error(error) from None
        return growing

    @inlineCallbacks
    def _limit_growth(self, caller: Caller, transaction: Transaction, host: str) -> Generator[Any, Any, None]:
        limits = yield self._quotas.limits(caller.project)
        transaction.limit(counter(caller.project, "gigabytes"), limits["gigabytes"])
        [service] = yield self._store.read(Service, [f"volume.{host}"])
        if service is not None:
            transaction.limit(room_counter(host), service.record.capacity.disk_gb)

    @inlineCallbacks
    def _read(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Stored[Volume]]]:
        found = yield self._store.read(Volume, ids)
        missing = [
            id
            for id, stored in zip(ids, found, strict=True)
            if stored is None or stored.record.project != caller.project
        ]
        if missing:
            raise NotFound("volume", ", ".join(missing))
        return list(found)


def checked_size(size_gb: int, volume_type: str, snapshot: Snapshot | None) -> int:
    """
    @param size_gb: as asked for, 0 for the snapshot's.
    @return: GiB.
    @raise InvalidValue: a type or size that can't be.
    """
    if volume_type not in TYPES:
        raise InvalidValue("volumeType", volume_type, f"Expecting one of {', '.join(TYPES)}.")
    if snapshot is not None:
        size_gb = size_gb or snapshot.size_gb
        if size_gb < snapshot.size_gb:
            why = f"It is smaller than snapshot '{snapshot.id}', expect size >= {snapshot.size_gb}GiB"
            raise InvalidValue("size", str(size_gb), why)
    if not 1 <= size_gb <= LARGEST:
        raise InvalidValue("size", str(size_gb), f"Expecting 1 to {LARGEST} GiB.")
    return size_gb


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
