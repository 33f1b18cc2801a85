"""
The sweep's part for volumes and snapshots: what was not sent or not answered is
ordered again, and what has passed its deadline follows its table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.cloud.attachments import released
from fabric.cloud.hosts import Hosts
from fabric.cloud.volume_orders import RESEND_AFTER, VolumeOrders
from fabric.cloud.volume_placement import VolumePlacement
from fabric.cloud.volume_reports import VolumeReports
from fabric.errors import Conflict, DeadlineExceeded, FabricError, NotFound, Unavailable
from fabric.model import snapshot as snapshots
from fabric.model.instance import Instance, with_disk, without_disk
from fabric.model.lifecycle import Lifecycle
from fabric.model.snapshot import Snapshot
from fabric.model.volume import ATTACHMENT, LIFECYCLE, Volume, attachment_moved, disk_of, moved
from fabric.store.interface import IStore, Stored

SOON = 2.0
"""Seconds until the next look at a disk whose instance is not up yet."""

GROWTH_SECONDS = 600.0
"""How long a growth may take before it is held to have failed."""


class VolumeSweep:
    """
    Looks at what is due.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        hosts: Hosts,
        placement: VolumePlacement,
        reports: VolumeReports,
        orders: VolumeOrders,
        clock: IReactorTime,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._placement = placement
        self._reports = reports
        self._orders = orders
        self._clock = clock
        self._resend_after = resend_after

    @inlineCallbacks
    def volumes(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Look at volumes.
        """
        found = yield self._store.read(Volume, ids)
        sends: dict[str, list[Volume]] = defaultdict(list)
        now = self._clock.seconds()
        answering = _Answering(self._hosts)
        for stored in found:
            if stored is None or (stored.record.derived().due or now + 1) > now:
                continue
            try:
                what, volume = yield self._volume(stored, now, answering)
            except (Conflict, NotFound):
                continue  # somebody moved it meanwhile; it will be due again if it must
            if what:
                sends[what].append(volume)
        yield self._send(sends)

    @inlineCallbacks
    def snapshots(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Look at snapshots.
        """
        found = yield self._store.read(Snapshot, ids)
        now = self._clock.seconds()
        sends: dict[str, list[Snapshot]] = defaultdict(list)
        for stored in found:
            if stored is None or (stored.record.derived().due or now + 1) > now:
                continue
            snapshot: Snapshot = stored.record
            record = attrs.evolve(snapshot, review_at=now + self._resend_after)
            if _overdue(snapshots.LIFECYCLE, snapshot.state, snapshot.changed_at, now):
                verb = snapshots.LIFECYCLE.deadlines[snapshot.state].verb
                record = snapshots.moved(record, verb, now, _silent(snapshot.host))
            transaction = self._store.transaction("sweep")
            transaction.update(stored, record)
            try:
                yield self._store.commit(transaction)
            except (Conflict, NotFound):
                continue
            sends[record.state].append(record)
        yield self._orders.snapshot("sweep", sends["pending"])
        yield self._orders.delete_snapshots("sweep", sends["deleting"])

    def _volume(self, stored: Stored[Volume], now: float, answering: _Answering) -> Deferred[tuple[str, Volume]]:
        volume: Volume = stored.record
        if volume.state == "creating":
            return self._creating(stored, now)
        if volume.attachment is not None and volume.attachment.state in ATTACHMENT.deadlines:
            return self._attachment(stored, now, answering)
        return self._host_owes(stored, now)

    @inlineCallbacks
    def _creating(self, stored: Stored[Volume], now: float) -> Generator[Deferred[Any], Any, tuple[str, Volume]]:
        volume: Volume = stored.record
        if _overdue(LIFECYCLE, volume.state, volume.changed_at, now):
            why = _silent(volume.host) if volume.host else "no volume host could be chosen"
            yield self._reports.fail_volume("sweep", stored, why)
            return "", volume
        yield self._later(stored, volume, now)
        return ("create" if volume.host else "place"), volume

    @inlineCallbacks
    def _host_owes(self, stored: Stored[Volume], now: float) -> Generator[Deferred[Any], Any, tuple[str, Volume]]:
        """A volume that is to be larger, or gone."""
        volume: Volume = stored.record
        if volume.state == "deleting":
            if not volume.host:
                transaction = self._store.transaction("sweep")
                transaction.delete(stored)
                yield self._store.commit(transaction)
                return "", volume
            if _overdue(LIFECYCLE, volume.state, volume.changed_at, now) and not volume.reason:
                volume = moved(volume, "keep_deleting", now, _silent(volume.host))
            yield self._later(stored, volume, now)
            return "delete", volume
        modification = volume.modification
        if modification is not None and volume.growing and now - modification.started_at > GROWTH_SECONDS:
            broken = attrs.evolve(modification, state="failed", ended_at=now, message=_silent(volume.host))
            yield self._later(stored, attrs.evolve(volume, modification=broken), now)
            return "", volume
        yield self._later(stored, volume, now)
        return ("grow" if volume.growing else ""), volume

    @inlineCallbacks
    def _attachment(
        self, stored: Stored[Volume], now: float, answering: _Answering
    ) -> Generator[Deferred[Any], Any, tuple[str, Volume]]:
        volume: Volume = stored.record
        attachment = volume.attachment
        assert attachment is not None, volume.id
        [holder] = yield self._store.read(Instance, [attachment.instance])
        if holder is None or not (holder.record.live or holder.record.on_host):
            # Its instance is over, and did not know of it.
            yield self._commit(stored, released(volume, now), holder)
            return "", volume
        instance: Instance = holder.record
        if attachment.state == "attaching" and (instance.state == "pending" or not instance.live):
            yield self._later(stored, volume, now, SOON)
            return "", volume
        if not instance.host:  # its host died while it was on its way down: nobody is left to answer
            verb = "confirm" if attachment.state == "attaching" else "let_go"
            yield self._commit(stored, attachment_moved(volume, verb, now), holder)
            return "", volume
        volume = attrs.evolve(volume, attachment=attrs.evolve(attachment, host=instance.host))
        if attachment.force and attachment.state != "attaching" and (yield self._fenced(volume, answering)):
            yield self._commit(stored, attachment_moved(volume, "let_go", now), holder)
            return "", volume
        if _overdue(ATTACHMENT, attachment.state, attachment.changed_at, now):
            verb = ATTACHMENT.deadlines[attachment.state].verb
            order = volume.order + (verb == "give_up")
            changes: dict[str, Any] = {"order": order, "force": True} if verb == "give_up" else {}
            volume = attachment_moved(volume, verb, now, **changes)
            volume = attrs.evolve(volume, order=order, reason=f"{instance.host or 'no host'} did not answer in time")
        volume = attrs.evolve(volume, review_at=now + self._resend_after)
        yield self._commit(stored, volume, holder)
        return ("attach" if attachment_state(volume) == "attaching" else "detach"), volume

    @inlineCallbacks
    def _fenced(self, volume: Volume, answering: _Answering) -> Generator[Deferred[Any], Any, bool]:
        """
        Whether a volume that is forced off a host which does not report was
        taken from it by the volume's own host.
        """
        attachment = volume.attachment
        assert attachment is not None, volume.id
        if not attachment.host or (yield answering.runs_machines(attachment.host)):
            return False
        if not (yield answering.has_volumes(volume.host)):
            return False  # nobody would answer, and all else would wait for that
        try:
            yield self._orders.fence("sweep", volume)
        except FabricError as error:
            self.log.warn("{id} can't be taken from {host}: {error}", id=volume.id, host=attachment.host, error=error)
            if isinstance(error, (DeadlineExceeded, Unavailable)):
                answering.not_now(volume.host)
            return False
        return True

    @inlineCallbacks
    def _commit(
        self, stored: Stored[Volume], volume: Volume, holder: Stored[Instance] | None
    ) -> Generator[Deferred[Any], Any, None]:
        transaction = self._store.transaction("sweep")
        transaction.update(stored, volume)
        if holder is not None:
            instance = holder.record
            if volume.attachment is None:
                changed = without_disk(instance, volume.id)
            else:
                changed = with_disk(instance, disk_of(volume))
            if changed != instance:
                transaction.update(holder, changed)
        yield self._store.commit(transaction)

    @inlineCallbacks
    def _later(
        self, stored: Stored[Volume], volume: Volume, now: float, seconds: float | None = None
    ) -> Generator[Deferred[Any], Any, None]:
        transaction = self._store.transaction("sweep")
        wait = self._resend_after if seconds is None else min(seconds, self._resend_after)
        transaction.update(stored, attrs.evolve(volume, review_at=now + wait))
        yield self._store.commit(transaction)

    @inlineCallbacks
    def _send(self, sends: dict[str, list[Volume]]) -> Generator[Deferred[Any], Any, None]:
        count = sum(map(len, sends.values()))
        if count:
            self.log.info("sending {count} orders about volumes again", count=count)
        yield self._placement.place("sweep", [volume.id for volume in sends["place"]])
        for what in ("create", "grow", "delete", "attach", "detach"):
            if sends[what]:
                yield getattr(self._orders, what)("sweep", sends[what])


class _Answering:
    """
    Which hosts report, as one sweep found it: asked once, and only if need be.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._compute: frozenset[str] | None = None
        self._volume: frozenset[str] | None = None

    @inlineCallbacks
    def runs_machines(self, host: str) -> Generator[Deferred[Any], Any, bool]:
        """Whether a compute host reports."""
        if self._compute is None:
            self._compute = yield self._hosts.alive()
        return host in self._compute

    @inlineCallbacks
    def has_volumes(self, host: str) -> Generator[Deferred[Any], Any, bool]:
        """Whether a volume host reports, and answered this sweep."""
        if self._volume is None:
            services = yield self._hosts.volume_services()
            self._volume = frozenset(service.host for service in services if service.alive)
        return host in self._volume

    def not_now(self, host: str) -> None:
        """A volume host did not answer: it is not asked again in this sweep, which would wait each time."""
        self._volume = (self._volume or frozenset()) - {host}


def attachment_state(volume: Volume) -> str:
    """The state of a volume's attachment; empty for none."""
    return volume.attachment.state if volume.attachment else ""


def _overdue(lifecycle: Lifecycle, state: str, since: float, now: float) -> bool:
    deadline = lifecycle.deadlines.get(state)
    return deadline is not None and now - since > deadline.seconds


def _silent(host: str) -> str:
    return f"no answer from volume host {host} in time; it is asked again"
