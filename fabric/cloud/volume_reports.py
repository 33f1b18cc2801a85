"""
Reports about volumes, snapshots and attachments, and what they make of state.

A report that answers an older order than the one that state waits for is
dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.cloud.attachments import ATTEMPTS, released
from fabric.cloud.orders import Orders
from fabric.cloud.reports import failed
from fabric.cloud.retry import until_written
from fabric.cloud.volume_orders import RESEND_AFTER, VolumeOrders
from fabric.compute.interface import DiskReport
from fabric.faults import IFaults
from fabric.model import snapshot as snapshots
from fabric.model.instance import Instance, StateReason, with_disk, without_disk
from fabric.model.snapshot import Snapshot
from fabric.model.volume import Volume, attachment_moved, disk_of, moved
from fabric.store.interface import IStore, Stored, Transaction
from fabric.volume.interface import SnapshotReport, VolumeReport

VOLUME_FAILED = "Server.InternalError"


class VolumeReports:
    """
    Applies reports, each in one write.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        orders: VolumeOrders,
        machine_orders: Orders,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._orders = orders
        self._machine_orders = machine_orders
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def take_volumes(
        self, request_id: str, host: str, reports: Sequence[VolumeReport]
    ) -> Generator[Deferred[Any], Any, None]:
        """
        A volume host's reports.  Repeating is safe.
        """
        for report in reports:
            write: Callable[[], Any] = lambda: self._take_volume(request_id, host, report)  # noqa: B023, E731
            volume = yield until_written(write)
            self._faults.reach("cloud.volume_report_written")
            if isinstance(volume, Instance):
                yield self._machine_orders.run(request_id, [volume])
                self._faults.reach("cloud.root_volume_ordered")
            elif volume is not None and volume.attachment is not None and volume.attachment.host:
                yield self._orders.attach(request_id, [volume])

    @inlineCallbacks
    def take_disks(
        self, request_id: str, host: str, reports: Sequence[DiskReport]
    ) -> Generator[Deferred[Any], Any, None]:
        """
        A compute host's reports.  Repeating is safe.
        """
        for report in reports:
            write: Callable[[], Any] = lambda: self._take_disk(request_id, host, report)  # noqa: B023, E731
            yield until_written(write, ATTEMPTS)
            self._faults.reach("cloud.disk_report_written")

    @inlineCallbacks
    def take_snapshots(
        self, request_id: str, host: str, reports: Sequence[SnapshotReport]
    ) -> Generator[Deferred[Any], Any, None]:
        """
        A volume host's reports.  Repeating is safe.
        """
        for report in reports:
            write: Callable[[], Any] = lambda: self._take_snapshot(request_id, host, report)  # noqa: B023, E731
            yield until_written(write)

    @inlineCallbacks
    def fail_volume(
        self, request_id: str, stored: Stored[Volume], why: str, **changes: Any
    ) -> Generator[Deferred[Any], Any, None]:
        """
        End the making of a volume.  An instance that was launched with it and
        does not run yet ends as well; one that runs goes without it.

        @raise Conflict: somebody else wrote one of them meanwhile.
        """
        now = self._clock.seconds()
        volume: Volume = stored.record
        broken = moved(volume, "fail", now, why, **changes)
        transaction = self._store.transaction(request_id)
        ended: Instance | None = None
        if volume.attachment is not None:
            [holder] = yield self._store.read(Instance, [volume.attachment.instance])
            if holder is not None and holder.record.state == "pending" and not holder.record.started:
                reason = StateReason(VOLUME_FAILED, f"{VOLUME_FAILED}: volume {volume.id}: {why}")
                ended = failed(holder.record, now, reason, self._resend_after)
                transaction.update(holder, ended)
            elif holder is not None:
                over = not holder.record.live
                broken = released(broken, now) if over else attachment_moved(broken, "let_go", now)
                transaction.update(holder, without_disk(holder.record, volume.id))
        transaction.update(stored, broken)
        yield self._store.commit(transaction)
        self.log.warn("{request_id}: {id} failed: {why}", request_id=request_id, id=volume.id, why=why)
        if ended is not None and ended.host:
            yield self._machine_orders.terminate(request_id, [ended])

    @inlineCallbacks
    def _take_volume(
        self, request_id: str, host: str, report: VolumeReport
    ) -> Generator[Deferred[Any], Any, Volume | Instance | None]:
        """
        @return: the volume, when it was just made and is to be attached; the
            instance that waited for it, when it is that one's root.
        """
        [stored] = yield self._store.read(Volume, [report.id])
        if stored is None or stored.record.host != host:
            return None
        volume: Volume = stored.record
        transaction = self._store.transaction(request_id)
        if report.state == "failed":
            if volume.state == "creating" and report.order >= volume.order:
                yield self.fail_volume(request_id, stored, report.message or "its host could not make it")
            return None
        if report.state == "gone":
            if volume.state != "deleting" or report.order < volume.order:
                return None
            transaction.delete(stored)
            yield self._store.commit(transaction)
            return None
        record = self._changed(volume, report)
        if record == volume:
            return None
        if volume.state != "creating" or record.attachment is None:
            transaction.update(stored, record)
            yield self._store.commit(transaction)
            return None
        return (yield self._made_for(transaction, stored, record))  # type: ignore[no-any-return]

    def _changed(self, volume: Volume, report: VolumeReport) -> Volume:
        now = self._clock.seconds()
        if report.state == "made" and volume.state == "creating":
            return moved(volume, "make" if volume.attachment is None else "make_attached", now)
        if report.state == "not_gone" and volume.state == "deleting":
            return moved(volume, "keep_deleting", now, report.message)
        modification = volume.modification
        if modification is None or not volume.growing or report.order != modification.order:
            return volume
        if report.state == "made" and report.size_gb >= modification.target_gb:
            done = attrs.evolve(modification, state="completed", ended_at=now)
            return attrs.evolve(volume, size_gb=modification.target_gb, modification=done)
        if report.state == "not_grown":
            why = report.message or "its host could not make it larger"
            return attrs.evolve(
                volume, modification=attrs.evolve(modification, state="failed", ended_at=now, message=why)
            )
        return volume

    @inlineCallbacks
    def _made_for(
        self, transaction: Transaction, stored: Stored[Volume], volume: Volume
    ) -> Generator[Deferred[Any], Any, Volume | Instance | None]:
        """
        A launch's volume is made: its instance learns where it is.
        """
        attachment = volume.attachment
        assert attachment is not None, volume.id
        now = self._clock.seconds()
        [holder] = yield self._store.read(Instance, [attachment.instance])
        if holder is None or not holder.record.live:
            transaction.update(stored, attrs.evolve(volume, review_at=now))
            yield self._store.commit(transaction)
            return None
        instance: Instance = holder.record
        moved_on = attrs.evolve(attachment, host=instance.host, changed_at=now)
        volume = attrs.evolve(volume, attachment=moved_on, review_at=now + self._resend_after)
        instance = with_disk(instance, disk_of(volume))
        transaction.update(stored, volume)
        transaction.update(holder, instance)
        yield self._store.commit(transaction)
        root = instance.root
        if root is not None and root.volume == volume.id:
            return instance if instance.state == "pending" and instance.host else None
        return volume if instance.state in ("running", "stopped") else None

    @inlineCallbacks
    def _take_disk(self, request_id: str, host: str, report: DiskReport) -> Generator[Deferred[Any], Any, None]:
        volume, instance = yield self._both(report)
        if volume is None or instance is None or instance.record.host != host:
            return
        attachment = volume.record.attachment
        if attachment is None or attachment.instance != report.instance or attachment.order != report.order:
            return
        now = self._clock.seconds()
        record = self._after(volume.record, report, now)
        if record is None or record == volume.record:
            return
        transaction = self._store.transaction(request_id)
        transaction.update(volume, record)
        if record.attachment is None:
            transaction.update(instance, without_disk(instance.record, record.id))
        else:
            transaction.update(instance, with_disk(instance.record, disk_of(record)))
        yield self._store.commit(transaction)

    def _after(self, volume: Volume, report: DiskReport, now: float) -> Volume | None:
        attachment = volume.attachment
        assert attachment is not None, volume.id
        if report.state == "attached" and attachment.state == "attaching":
            return attachment_moved(volume, "confirm", now)
        if report.state == "detached" and attachment.state in ("detaching", "busy"):
            return attachment_moved(volume, "let_go", now)
        if report.state == "not_attached" and attachment.state == "attaching":
            free = attachment_moved(volume, "let_go", now)
            return attrs.evolve(free, reason=f"not attached to {report.instance}: {report.message}")
        if report.state == "not_detached":
            if attachment.state == "attaching":  # and a rest of it is there
                order = volume.order + 1
                leaving = attachment_moved(volume, "give_up", now, order=order, force=True)
                return attrs.evolve(leaving, order=order, review_at=now, reason=report.message)
            return attrs.evolve(volume, reason=report.message)
        return None

    @inlineCallbacks
    def _both(
        self, report: DiskReport
    ) -> Generator[Deferred[Any], Any, tuple[Stored[Volume] | None, Stored[Instance] | None]]:
        [volume] = yield self._store.read(Volume, [report.volume])
        [instance] = yield self._store.read(Instance, [report.instance])
        return volume, instance

    @inlineCallbacks
    def _take_snapshot(self, request_id: str, host: str, report: SnapshotReport) -> Generator[Deferred[Any], Any, None]:
        [stored] = yield self._store.read(Snapshot, [report.id])
        if stored is None or stored.record.host != host or report.order < stored.record.order:
            return
        snapshot: Snapshot = stored.record
        now = self._clock.seconds()
        transaction = self._store.transaction(request_id)
        if report.state == "gone" and snapshot.state == "deleting":
            transaction.delete(stored)
        elif report.state == "completed" and snapshot.state == "pending":
            transaction.update(stored, snapshots.moved(snapshot, "complete", now, progress=100, completed_at=now))
        elif report.state == "failed" and snapshot.state == "pending":
            transaction.update(stored, snapshots.moved(snapshot, "fail", now, report.message))
        elif report.state == "not_gone" and snapshot.state == "deleting":
            transaction.update(stored, snapshots.moved(snapshot, "keep_deleting", now, report.message))
        else:
            return
        yield self._store.commit(transaction)
