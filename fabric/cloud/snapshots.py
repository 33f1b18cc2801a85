"""
Snapshots: copies of volumes, kept on the volume host where the volume is, and
shared with other projects.

A volume of a snapshot is made on the snapshot's host, and so in its zone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.quotas import Quotas, counter, quota_error
from fabric.cloud.retry import until_written
from fabric.cloud.sharing import shared
from fabric.cloud.volume_orders import RESEND_AFTER, VolumeOrders
from fabric.errors import InUse, LimitExceeded, NoCapacity, NotFound, WrongState
from fabric.faults import IFaults
from fabric.ids import new_id
from fabric.model.host import Service
from fabric.model.image import Image
from fabric.model.instance import Instance
from fabric.model.snapshot import Snapshot, moved
from fabric.model.volume import Volume, room_counter
from fabric.store.interface import IStore, Query, Stored, Transaction

SOON = 2.0
"""Seconds until the next look at a snapshot that is held no more."""

HELD = 180.0
"""Seconds for which the order of a snapshot may wait for a machine to be quiet."""


class Snapshots:
    """
    Verbs on snapshots; each is one write.
    """

    def __init__(
        self,
        store: IStore,
        orders: VolumeOrders,
        quotas: Quotas,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._orders = orders
        self._quotas = quotas
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def get(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Snapshot]]:
        """
        Snapshots that the caller may make volumes of.

        @raise NotFound: some are not there or not the caller's to use.
        """
        found = yield self._store.read(Snapshot, ids)
        missing = [
            id
            for id, stored in zip(ids, found, strict=True)
            if stored is None or not stored.record.usable_by(caller.project)
        ]
        if missing:
            raise NotFound("snapshot", ", ".join(missing))
        return [stored.record for stored in found]

    @inlineCallbacks
    def own(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, Snapshot]:
        """
        A snapshot of the caller's project.

        @raise NotFound: it is not there, or another's.
        """
        stored = yield self._own(caller, id)
        return stored.record  # type: ignore[no-any-return]

    @inlineCallbacks
    def create(
        self, caller: Caller, volume_id: str, description: str = "", tags: Mapping[str, str] | None = None
    ) -> Generator[Deferred[Any], Any, Snapshot]:
        """
        Copy a volume as it is about now; C{pending} until the copy is complete.

        @raise NotFound: the volume is not the caller's.
        @raise WrongState: the volume is not made, or is being deleted.
        @raise QuotaExceeded: the project has as many as it may.
        @raise NoCapacity: the volume's host has no room for it.
        """
        [made] = yield self._create(caller, [(volume_id, dict(tags or {}))], description)
        return made  # type: ignore[no-any-return]

    @inlineCallbacks
    def create_all(
        self,
        caller: Caller,
        instance_id: str,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        exclude: Sequence[str] = (),
        copy_tags: bool = False,
        held: bool = False,
    ) -> Generator[Deferred[Any], Any, list[Snapshot]]:
        """
        Copy all volumes of an instance: all are written or none; each copy is
        of its own moment.

        @param exclude: ids of volumes to be left out.
        @param copy_tags: whether to give each the volume's tags as well.
        @param held: whether they are ordered by somebody else, once nobody
            writes to the volumes; the sweep orders them after L{HELD} seconds.
        @raise NotFound: the instance, or an excluded volume, is not there.
        """
        [stored] = yield self._store.read(Instance, [instance_id])
        if stored is None or stored.record.project != caller.project:
            raise NotFound("instance", instance_id)
        attached = [disk.volume for disk in stored.record.disks]
        for id in exclude:
            if id not in attached:
                raise NotFound("volume", id)
        wanted = [id for id in attached if id not in exclude]
        found = yield self._store.read(Volume, wanted)
        inherited = {each.record.id: each.record.tags if copy_tags else {} for each in found if each is not None}
        pairs = [(id, {**inherited.get(id, {}), **dict(tags or {})}) for id in wanted]
        return (yield self._create(caller, pairs, description, HELD if held else 0.0))  # type: ignore[no-any-return]

    @inlineCallbacks
    def copy(
        self, caller: Caller, source_id: str, description: str = "", tags: Mapping[str, str] | None = None
    ) -> Generator[Deferred[Any], Any, Snapshot]:
        """
        Copy a snapshot, the caller's own or one shared with it; the copy is
        the caller's.

        @raise NotFound: the source is not the caller's to use.
        @raise WrongState: the source is not complete.
        @raise QuotaExceeded, NoCapacity: as L{create}.
        """
        copied = yield until_written(lambda: self._copy_once(caller, source_id, description, dict(tags or {})))
        self._faults.reach("cloud.snapshot_written")
        self._orders.snapshot(caller.request_id, [copied])
        return copied  # type: ignore[no-any-return]

    @inlineCallbacks
    def release(self, request_id: str, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Let the sweep order snapshots that were held, as far as they are not
        complete.  Repeating is safe.
        """
        found = yield self._store.read(Snapshot, ids)
        now = self._clock.seconds()
        transaction = self._store.transaction(request_id)
        for stored in found:
            if stored is not None and stored.record.state == "pending" and stored.record.review_at > now + SOON:
                transaction.update(stored, attrs.evolve(stored.record, review_at=now + SOON))
        if transaction.puts:
            yield self._store.commit(transaction)

    @inlineCallbacks
    def delete(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        """
        Remove a snapshot; it is not to be seen from then on.

        @raise NotFound: as L{own}.
        @raise InUse: an image uses it, or a volume is being made of it.
        """
        try:
            snapshot = yield until_written(lambda: self._delete_once(caller, id))
        except InUse as error:
            raise InUse("snapshot", id, (yield self._user(caller, id)) or error.by) from None
        self._faults.reach("cloud.snapshot_deleted")
        self._orders.delete_snapshots(caller.request_id, [snapshot])

    def share(
        self,
        caller: Caller,
        id: str,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        public: bool | None = None,
    ) -> Deferred[None]:
        """
        Let projects make volumes of a snapshot, or no longer.  Repeating is
        safe.

        @param public: whether everybody may; None to leave that.
        @raise NotFound: as L{own}.
        @raise InvalidValue, LimitExceeded: as L{shared}.
        """

        def changed(snapshot: Snapshot) -> Snapshot:
            seen = snapshot.public if public is None else public
            projects = shared(snapshot.project, snapshot.shared_with, add, remove)
            return attrs.evolve(snapshot, shared_with=projects, public=seen)

        return until_written(partial(self._change, caller, id, changed))

    def reset_sharing(self, caller: Caller, id: str) -> Deferred[None]:
        """
        Let nobody but the owner use it.

        @raise NotFound: as L{own}.
        """

        def changed(snapshot: Snapshot) -> Snapshot:
            return attrs.evolve(snapshot, shared_with=(), public=False)

        return until_written(partial(self._change, caller, id, changed))

    @inlineCallbacks
    def _change(
        self, caller: Caller, id: str, changed: Callable[[Snapshot], Snapshot]
    ) -> Generator[Deferred[Any], Any, None]:
        stored = yield self._own(caller, id)
        record = changed(stored.record)
        if record != stored.record:
            transaction = self._store.transaction(caller.request_id)
            transaction.update(stored, record)
            yield self._store.commit(transaction)

    @inlineCallbacks
    def _create(
        self, caller: Caller, pairs: Sequence[tuple[str, dict[str, str]]], description: str, held: float = 0.0
    ) -> Generator[Deferred[Any], Any, list[Snapshot]]:
        if not pairs:
            return []
        made = yield until_written(lambda: self._create_once(caller, pairs, description, held))
        self._faults.reach("cloud.snapshot_written")
        if not held:
            self._orders.snapshot(caller.request_id, made)
        return made  # type: ignore[no-any-return]

    @inlineCallbacks
    def _create_once(
        self, caller: Caller, pairs: Sequence[tuple[str, dict[str, str]]], description: str, held: float = 0.0
    ) -> Generator[Deferred[Any], Any, list[Snapshot]]:
        found = yield self._store.read(Volume, [id for id, _ in pairs])
        transaction = self._store.transaction(caller.request_id)
        made = []
        for (id, tags), stored in zip(pairs, found, strict=True):
            if stored is None or stored.record.project != caller.project:
                raise NotFound("volume", id)
            volume: Volume = stored.record
            if volume.state not in ("available", "in-use"):
                raise WrongState("volume", id, volume.state, ["available", "in-use"])
            # Written again as it is, so that it can't be deleted meanwhile.
            transaction.update(stored, volume)
            size = volume.claimed_gb
            snapshot = self._new(caller, volume.id, size, volume.host, volume.zone, description, tags)
            snapshot = attrs.evolve(snapshot, review_at=snapshot.review_at + held)
            transaction.create(snapshot)
            made.append(snapshot)
        yield self._commit(caller, transaction, {snapshot.host for snapshot in made})
        return made

    @inlineCallbacks
    def _copy_once(
        self, caller: Caller, source_id: str, description: str, tags: dict[str, str]
    ) -> Generator[Deferred[Any], Any, Snapshot]:
        [source] = yield self.get(caller, [source_id])
        if source.state != "completed":
            raise WrongState("snapshot", source_id, source.state, ["completed"])
        copied = self._new(caller, source.volume, source.size_gb, source.host, source.zone, description, tags)
        copied = attrs.evolve(copied, source=source.id)
        [stored] = yield self._store.read(Snapshot, [source_id])
        if stored is None or not stored.record.shown:
            raise NotFound("snapshot", source_id)
        transaction = self._store.transaction(caller.request_id)
        transaction.update(stored, stored.record)
        transaction.create(copied)
        yield self._commit(caller, transaction, {copied.host})
        return copied

    def _new(
        self, caller: Caller, volume: str, size: int, host: str, zone: str, description: str, tags: dict[str, str]
    ) -> Snapshot:
        now = self._clock.seconds()
        return Snapshot(
            new_id("snapshot"),
            caller.project,
            volume,
            size,
            host,
            zone,
            now,
            now,
            review_at=now + self._resend_after,
            description=description,
            tags=tags,
        )

    @inlineCallbacks
    def _commit(self, caller: Caller, transaction: Transaction, hosts: set[str]) -> Generator[Deferred[Any], Any, None]:
        limits = yield self._quotas.limits(caller.project)
        transaction.limit(counter(caller.project, "snapshots"), limits["snapshots"])
        services = yield self._store.read(Service, [f"volume.{host}" for host in hosts])
        for stored in services:
            if stored is not None:
                transaction.limit(room_counter(stored.record.host), stored.record.capacity.disk_gb)
        try:
            yield self._store.commit(transaction)
        except LimitExceeded as error:
            if error.counter.startswith("load:"):
                raise NoCapacity({error.counter: f"{error.used} of {error.limit} GiB promised"}) from None
            raise quota_error(error) from None

    @inlineCallbacks
    def _delete_once(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, Snapshot]:
        stored = yield self._own(caller, id)
        now = self._clock.seconds()
        snapshot: Snapshot = stored.record
        gone = moved(
            snapshot, "delete", now, order=snapshot.order + 1, review_at=now + self._resend_after, public=False
        )
        gone = attrs.evolve(gone, shared_with=())
        transaction = self._store.transaction(caller.request_id)
        transaction.update(stored, gone)
        transaction.idle("snapshot", id)
        yield self._store.commit(transaction)
        return gone

    @inlineCallbacks
    def _user(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, str]:
        """An image of the project that a snapshot is of; empty for none."""
        query = Query("image", (caller.project,), (("disk.snapshot", (id,)),), limit=1)
        page = yield self._store.records(Image, query)
        return page.items[0].record.id if page.items else ""

    @inlineCallbacks
    def _own(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, Stored[Snapshot]]:
        [stored] = yield self._store.read(Snapshot, [id])
        if stored is None or stored.record.project != caller.project or not stored.record.shown:
            raise NotFound("snapshot", id)
        return stored  # type: ignore[no-any-return]
