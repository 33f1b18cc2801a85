"""
Reports: what hosts say, and what it makes of state.

A worker's report about an older order than the instance's is dropped: state has
moved on since.  So is news of a guest as an older order left it than the last one
that brings it up: it has been started again since.  All other news counts, whatever
came before it, for a guest tells only once that it ended.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.cloud.associations import end_associations
from fabric.cloud.attachments import confirm_roots, release_disks
from fabric.cloud.enforcement import Enforcement, Place
from fabric.cloud.followers import follow
from fabric.cloud.instances import leaving
from fabric.cloud.launch import RESEND_AFTER
from fabric.cloud.orders import Orders
from fabric.cloud.retry import until_written
from fabric.cloud.volume_orders import VolumeOrders
from fabric.compute.interface import MachineReport
from fabric.faults import IFaults
from fabric.model.address import Address
from fabric.model.instance import Instance, Migration, StateReason, moved
from fabric.model.volume import Volume
from fabric.store.interface import IStore, Stored, Transaction

INTERNAL = "Server.InternalError"


@attrs.define
class _Outcome:
    """What a batch of reports leads to, besides what is written."""

    remove: list[Instance] = attrs.field(factory=list)
    freed: list[Address] = attrs.field(factory=list)
    settled: list[Instance] = attrs.field(factory=list)
    strange: dict[str, int] = attrs.field(factory=dict)
    waiting: list[str] = attrs.field(factory=list)
    members: dict[Place, set[str]] = attrs.field(factory=dict)

    def concerns_groups(self, instance: Instance, report: MachineReport) -> None:
        """
        Note whose members came or went.  Also when the report says nothing
        new: then it may come again because that was not told.
        """
        if report.state != "stopped":
            for group in instance.groups:
                hosts = self.members.setdefault((instance.project, group.id), set())
                hosts |= {instance.host} if instance.live else set()


class Reports:
    """
    Applies reports, a batch in one write.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        orders: Orders,
        volume_orders: VolumeOrders,
        enforcement: Enforcement,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._orders = orders
        self._volume_orders = volume_orders
        self._enforcement = enforcement
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def take(self, request_id: str, host: str, reports: Sequence[MachineReport]) -> Generator[Deferred[Any], Any, None]:
        """
        Move what the reports are about.  Repeating is safe.
        """
        self._faults.reach("cloud.report_received")
        outcome = yield until_written(lambda: self._take_once(request_id, host, reports))
        self._faults.reach("cloud.report_written")
        yield self._enforcement.members(request_id, outcome.members)
        if outcome.freed:
            yield self._orders.addresses(request_id, outcome.freed)
        if outcome.settled:
            yield self._arrived(request_id, outcome.settled)
            yield self._orders.resend(request_id, outcome.settled)
        if outcome.waiting:
            yield self._attach(request_id, outcome.waiting)
        if outcome.remove:
            yield self._orders.terminate(request_id, outcome.remove)
        if outcome.strange:
            yield self._orders.remove(request_id, host, outcome.strange)

    @inlineCallbacks
    def _arrived(self, request_id: str, moved: Sequence[Instance]) -> Generator[Deferred[Any], Any, None]:
        """
        Have hosts know of those whose floating address was taken meanwhile;
        the others' have just been ordered to follow.
        """
        for instance in moved:
            if instance.public is None and instance.state == "running":
                yield self._orders.attach(request_id, instance.host, [instance])

    @inlineCallbacks
    def _attach(self, request_id: str, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Have machines that just came up be given what was made for them
        meanwhile; what is not made yet is attached when it is.
        """
        found = yield self._store.read(Volume, list(ids))
        made = [stored.record for stored in found if stored is not None and stored.record.state == "in-use"]
        arriving = [each for each in made if each.attachment and each.attachment.state == "attaching"]
        yield self._volume_orders.attach(request_id, arriving)

    @inlineCallbacks
    def _take_once(
        self, request_id: str, host: str, reports: Sequence[MachineReport]
    ) -> Generator[Deferred[Any], Any, _Outcome]:
        by_id: dict[str, list[MachineReport]] = {}
        for report in reports:
            by_id.setdefault(report.id, []).append(report)
        found = yield self._store.read(Instance, list(by_id))
        now = self._clock.seconds()
        outcome = _Outcome()
        transaction = self._store.transaction(request_id)
        changed: list[tuple[Stored[Instance], Instance]] = []
        for stored, told in zip(found, by_id.values(), strict=True):
            if stored is None or not any(_counts(stored.record, host, report) for report in told):
                self._strange(stored.record if stored else None, host, told[-1], outcome)
                continue
            record = stored.record
            for report in told:
                if _counts(record, host, report):  # else it was moved, and only then something was said
                    record = reported(record, report, now, self._resend_after)
                    outcome.concerns_groups(record, report)
            if record is not stored.record and record != stored.record:
                changed.append((stored, record))
        records, following = yield self._follow(transaction, changed, now, outcome)
        records = yield confirm_roots(self._store, transaction, records, now)
        records = yield release_disks(self._store, transaction, records, now)
        records, freed = yield end_associations(self._store, transaction, records, now + self._resend_after)
        outcome.freed = [*following, *freed]
        for (stored, _), record in zip(changed, records, strict=True):
            transaction.update(stored, record)
            if record.state == "running" and stored.record.state == "pending":
                outcome.waiting += [disk.volume for disk in record.disks if disk.state == "attaching"]
            if record.order != stored.record.order or (record.on_host and not record.live):
                outcome.remove.append(record)
        if transaction.puts:
            yield self._store.commit(transaction)
        return outcome

    @inlineCallbacks
    def _follow(
        self,
        transaction: Transaction,
        changed: Sequence[tuple[Stored[Instance], Instance]],
        now: float,
        outcome: _Outcome,
    ) -> Generator[Deferred[Any], Any, tuple[list[Instance], list[Address]]]:
        """
        Bring along what those have that were moved to another host.
        """
        records = [record for _, record in changed]
        settled = []
        for stored, record in changed:
            if stored.record.migration and not record.migration:
                settled.append(record)
        if not settled:
            return records, []
        outcome.settled = settled
        review_at = now + self._resend_after
        followed, addresses = yield follow(self._store, transaction, settled, now, review_at)
        by_id = {record.id: record for record in followed}
        return [by_id.get(record.id, record) for record in records], addresses

    def _strange(self, instance: Instance | None, host: str, report: MachineReport, outcome: _Outcome) -> None:
        """
        A report about a machine that is not this host's.  One that state says
        is elsewhere or was ended before it had a host is removed; one that
        state does not know is left for L{Adoption} to quarantine.
        """
        if report.state == "gone" or (instance and instance.migration and instance.migration.destination == host):
            return  # what it is on its way to is told of by where it comes from
        self.log.warn(
            "{host} reports {id} as {state}, which is not its own", host=host, id=report.id, state=report.state
        )
        if instance is not None:
            outcome.strange[report.id] = max(report.order, report.after)


def _counts(instance: Instance, host: str, report: MachineReport) -> bool:
    """
    Whether a host may say this of an instance: it has it, or it is where the
    instance is being moved to, and its guest came there and ended.
    """
    coming = instance.migration is not None and instance.migration.destination == host and not report.order
    return instance.host == host or coming


def reported(instance: Instance, report: MachineReport, now: float, resend_after: float) -> Instance:
    """
    @return: the instance after its host's report; itself when the report is
        stale or says nothing new.
    """
    instance = _rebooted(instance, report)
    if instance.migration is not None and report.order:
        return _settled(instance, instance.migration, report, now, resend_after)
    if report.order and report.order < instance.order:
        return instance
    if report.after and report.after < instance.booted:
        return instance
    applied = _APPLY[report.state](instance, report, now, resend_after)
    return applied if applied is not None else instance


def _rebooted(instance: Instance, report: MachineReport) -> Instance:
    """
    The order to reboot it was carried out, or could not be: it is not sent again.
    """
    if not instance.rebooting_since or report.order != instance.order:
        return instance
    return attrs.evolve(instance, rebooting_since=0.0)


def _settled(
    instance: Instance, migration: Migration, report: MachineReport, now: float, resend_after: float
) -> Instance:
    """
    While it is being moved only the outcome of that answers anything: what else
    was ordered is ordered again where it is then.  News of its guest counts.
    """
    if report.order != migration.order or report.state not in ("moved", "not_moved"):
        return instance
    settled = attrs.evolve(instance, migration=None, review_at=now + resend_after)
    if report.state == "moved":
        return attrs.evolve(settled, host=migration.destination)
    return attrs.evolve(settled, refusals={migration.destination: report.message or "it was not moved there"})


def _running(instance: Instance, report: MachineReport, now: float, resend_after: float) -> Instance | None:
    if instance.state != "pending" or not report.order:
        return None
    return _booted(instance, now)


def _booted(instance: Instance, now: float) -> Instance:
    return moved(instance, "boot", now, started=True, on_host=True, booted=instance.order)


def _stopped(instance: Instance, report: MachineReport, now: float, resend_after: float) -> Instance | None:
    if instance.state == "pending" and max(report.order, report.after) >= instance.order:
        instance = _booted(instance, now)  # it was brought up, and ended, before anybody heard of the one
    if instance.state == "stopping":
        return moved(instance, "halt", now, instance.reason)
    if instance.state != "running":
        return None
    code = report.code or "Client.InstanceInitiatedShutdown"
    reason = StateReason(code, f"{code}: {report.message or 'Instance initiated shutdown'}")
    if instance.shutdown_behavior == "terminate" and code.startswith("Client."):
        return leaving(instance, "shut_itself_down", now, reason, now + resend_after)
    return moved(instance, "halt", now, reason)


def _gone(instance: Instance, report: MachineReport, now: float, resend_after: float) -> Instance | None:
    if instance.state == "shutting-down":
        return moved(instance, "vanish", now, instance.reason, on_host=False)
    if instance.state == "terminated" and instance.on_host:
        return attrs.evolve(instance, on_host=False)
    return None


def _failed(instance: Instance, report: MachineReport, now: float, resend_after: float) -> Instance | None:
    if instance.state != "pending":
        return None  # a stop or a removal that failed is ordered again by the sweep
    reason = StateReason(report.code or INTERNAL, f"{report.code or INTERNAL}: {report.message or 'Launch failed'}")
    return failed(instance, now, reason, resend_after)


def failed(instance: Instance, now: float, reason: StateReason, resend_after: float) -> Instance:
    """
    A pending instance whose start failed: stopped when it has run before,
    terminated otherwise, while its host is asked to remove what is left.
    """
    if instance.started:
        return moved(instance, "fail_start", now, reason)
    return moved(instance, "fail", now, reason, order=instance.order + 1, review_at=now + resend_after)


def _late(instance: Instance, report: MachineReport, now: float, resend_after: float) -> Instance | None:
    """The outcome of a migration that was settled already."""
    return None


_APPLY = {
    "running": _running,
    "stopped": _stopped,
    "gone": _gone,
    "failed": _failed,
    "moved": _late,
    "not_moved": _late,
}
