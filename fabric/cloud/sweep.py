"""
The sweep: nothing stays as it is for ever unless its state is one to stay in.

Every record that waits for something says when it is to be looked at.  What
was not sent, or not answered, is ordered again; what has passed its deadline
follows its lifecycle's table; what is over is forgotten.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric.cloud.associations import end_associations
from fabric.cloud.attachments import release_disks
from fabric.cloud.captures import Captures
from fabric.cloud.enforcement import Enforcement
from fabric.cloud.hosts import Hosts
from fabric.cloud.launch import RESEND_AFTER, TOKEN_KEPT
from fabric.cloud.orders import Orders
from fabric.cloud.placement import NO_HOST
from fabric.cloud.reports import failed
from fabric.cloud.volume_sweep import VolumeSweep
from fabric.errors import Conflict, NotFound
from fabric.model.address import Address
from fabric.model.group import SecurityGroup
from fabric.model.host import Stray
from fabric.model.instance import LIFECYCLE, Instance, StateReason, is_overdue, moved
from fabric.model.reservation import Reservation
from fabric.store.interface import IStore, Query, Stored

BATCH = 200
"""Records a turn; the next turn follows at once while there are more."""

REBOOT_SECONDS = 600.0
"""For how long a reboot that its host does not confirm is ordered again."""

OVERDUE = StateReason("Server.InternalError", "Server.InternalError: no answer from its host in time")


class Sweep:
    """
    One turn after another; several controllers may sweep at once.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        hosts: Hosts,
        orders: Orders,
        enforcement: Enforcement,
        volumes: VolumeSweep,
        captures: Captures,
        clock: IReactorTime,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._orders = orders
        self._enforcement = enforcement
        self._volumes = volumes
        self._captures = captures
        self._clock = clock
        self._resend_after = resend_after

    @inlineCallbacks
    def turn(self) -> Generator[Deferred[Any], Any, int]:
        """
        Look at everything that is due.  What goes wrong with one kind of
        records keeps none of the other kinds waiting.

        @return: how many records were due.
        @raise Exception: the first thing that went wrong, after all were
            looked at.
        """
        total = 0
        wrong: Failure | None = None
        while True:
            due = yield self._store.due(self._clock.seconds(), BATCH)
            total += len(due)
            by_kind: dict[str, list[str]] = defaultdict(list)
            for kind, id in due:
                by_kind[kind].append(id)
            for kind, look in (
                ("instance", self._instances),
                ("reservation", self._reservations),
                ("stray", self._strays),
                ("volume", self._volumes.volumes),
                ("snapshot", self._volumes.snapshots),
                ("address", self._addresses),
                ("group", self._groups),
                ("image", self._captures.review),
            ):
                if by_kind[kind]:
                    try:
                        yield look(by_kind[kind])
                    except CancelledError:
                        raise  # the turn itself is to end
                    except Exception:
                        wrong = wrong or Failure()
            if wrong is not None:
                wrong.raiseException()
            if len(due) < BATCH:
                return total

    @inlineCallbacks
    def _instances(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        alive = yield self._hosts.alive()
        found = yield self._store.read(Instance, ids)
        send: list[Instance] = []
        now = self._clock.seconds()
        for stored in found:
            if stored is None or (stored.record.derived().due or now + 1) > now:
                continue
            if stored.record.live and 0 < stored.record.regroup_at <= now:
                yield self._enforcement.regrouped("sweep", stored.record)
                settled = attrs.evolve(stored.record, regrouped=(), regroup_at=0.0)
                yield self._write(stored, settled)
                continue
            if stored.record.migration is not None:
                yield self._moving(stored, alive, now)
                continue
            record = yield self._write(stored, self._next(stored.record, now))
            if record is not None and record.waits and (not record.host or record.host in alive):
                send.append(record)
        if send:
            self.log.info("sending {count} orders again", count=len(send))
            yield self._orders.resend("sweep", send)

    @inlineCallbacks
    def _moving(
        self, stored: Stored[Instance], alive: frozenset[str], now: float
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Have it found out where one is that is being moved, also when what its
        user ordered meanwhile has waited for that too long and is over.
        """
        record = attrs.evolve(stored.record, review_at=now + self._resend_after)
        if is_overdue(record, now):
            record = self._next(record, now) or record
        later = yield self._write(stored, record)
        if later is not None and later.host in alive:
            yield self._orders.migrate("sweep", [later])

    def _next(self, instance: Instance, now: float) -> Instance | None:
        """
        @return: the instance as it is to be; None for one to be forgotten.
        """
        if not instance.waits:
            return None
        review_at = now + self._resend_after
        if instance.rebooting_since and now - instance.rebooting_since > REBOOT_SECONDS:
            self.log.warn("{id} is not rebooted: no answer from its host in time", id=instance.id)
            return attrs.evolve(instance, rebooting_since=0.0)
        if not is_overdue(instance, now):
            return attrs.evolve(instance, review_at=review_at)
        if instance.state == "pending":
            overdue = failed(instance, now, _why_overdue(instance), self._resend_after)
        else:
            overdue = moved(instance, LIFECYCLE.deadlines[instance.state].verb, now, OVERDUE)
        self.log.warn(
            "{id} was {before} for too long and is {after} now",
            id=instance.id,
            before=instance.state,
            after=overdue.state,
        )
        return attrs.evolve(overdue, review_at=review_at)

    @inlineCallbacks
    def _write(self, stored: Stored[Any], record: Instance | None) -> Generator[Deferred[Any], Any, Instance | None]:
        transaction = self._store.transaction("sweep")
        if record is None:
            transaction.delete(stored)
        freed: list[Address] = []
        if isinstance(record, Instance):
            review_at = self._clock.seconds() + self._resend_after
            [record] = yield release_disks(self._store, transaction, [record], self._clock.seconds())
            [record], freed = yield end_associations(self._store, transaction, [record], review_at)
        if record is not None:
            transaction.update(stored, record)
        try:
            yield self._store.commit(transaction)
        except (Conflict, NotFound):
            return None  # somebody moved it meanwhile; it will be due again if it must
        if freed:
            yield self._orders.addresses("sweep", freed)
        return record

    @inlineCallbacks
    def _reservations(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Forget reservations, and their client tokens, that have no instance left.
        """
        found = yield self._store.read(Reservation, ids)
        for stored in found:
            if stored is None:
                continue
            reservation: Reservation = stored.record
            query = Query("instance", (reservation.project,), (("reservation", (reservation.id,)),), limit=1)
            page = yield self._store.records(Instance, query)
            later = attrs.evolve(reservation, review_at=self._clock.seconds() + TOKEN_KEPT)
            yield self._write(stored, later if page.items else None)  # type: ignore[arg-type]

    @inlineCallbacks
    def _addresses(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Order again what hosts that are alive have not confirmed.
        """
        alive = yield self._hosts.alive()
        found = yield self._store.read(Address, ids)
        now = self._clock.seconds()
        for stored in found:
            if stored is None or stored.record.settled or stored.record.review_at > now:
                continue
            later = attrs.evolve(stored.record, review_at=now + self._resend_after)
            written = yield self._write(stored, later)
            if written is not None:
                yield self._orders.addresses("sweep", [later], [host for host in later.hosts if host in alive])

    @inlineCallbacks
    def _groups(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Send the rules that changed a while ago once more, for whoever died
        between writing and sending them.
        """
        found = yield self._store.read(SecurityGroup, ids)
        now = self._clock.seconds()
        for stored in found:
            if stored is not None and 0 < stored.record.review_at <= now:
                yield self._enforcement.rules("sweep", stored.record)
                yield self._write(stored, attrs.evolve(stored.record, review_at=0.0))

    @inlineCallbacks
    def _strays(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Have hosts remove what has outlived its grace time; the record goes
        when the host no longer reports the machine.
        """
        found = yield self._store.read(Stray, ids)
        for stored in found:
            if stored is None:
                continue
            stray: Stray = stored.record
            later = attrs.evolve(stray, remove_at=self._clock.seconds() + self._resend_after)
            written = yield self._write(stored, later)  # type: ignore[arg-type]
            if written is not None:
                yield self._orders.remove("sweep", stray.host, {stray.name: 0})


def _why_overdue(instance: Instance) -> StateReason:
    """Why an instance was pending for too long."""
    if instance.host and not instance.bootable:
        return StateReason("Server.InternalError", "Server.InternalError: its root volume was not made in time")
    if not instance.host:
        return StateReason(NO_HOST, f"{NO_HOST}: no compute host took it in time")
    return OVERDUE
