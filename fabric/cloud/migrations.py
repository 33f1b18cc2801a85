"""
Migrations: instances moved from one host to another, while they run or are stopped.

The instance holds room on both hosts from the write that says so until its host
reports where it is.  What users order meanwhile is written as ever, and sent to
where it is when that is known.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.cloud.access import Caller
from fabric.cloud.hosts import Hosts
from fabric.cloud.orders import Orders
from fabric.cloud.placement_groups import occupancy, restrict
from fabric.cloud.retry import until_written
from fabric.errors import FabricError, InUse, LimitExceeded, NotFound, WrongState
from fabric.faults import IFaults
from fabric.model.host import CLOSED
from fabric.model.instance import Instance, Migration
from fabric.scheduler.algorithms import Room, fits, simple
from fabric.scheduler.groups import Company
from fabric.scheduler.interface import HostView, Wanted
from fabric.store.interface import IStore, Query

PAGE = 500


@attrs.frozen
class Departure:
    """
    What became of one instance of a host that is evacuated.

    @ivar destination: where it goes; empty for nowhere.
    @ivar why: why it stays.
    """

    instance: str
    destination: str = ""
    why: str = ""


class Migrations:
    """
    Moves instances, at an operator's word.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        hosts: Hosts,
        orders: Orders,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._orders = orders
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def migrate(self, caller: Caller, id: str, destination: str = "") -> Generator[Deferred[Any], Any, Departure]:
        """
        Begin to move an instance.  One that is being moved already goes where
        it goes.

        @param destination: a host's name; empty for the one with the most room.
        @raise NotFound: no such instance, or host.
        @raise WrongState: it neither runs nor is stopped, has volumes or GPUs
            that it uses, is being rebooted, or is on no host.
        @raise LimitExceeded: that host has no room, or none has, or its
            placement group forbids it.
        """
        departure, record = yield until_written(lambda: self._begin(caller, id, destination))
        if record is not None:
            self._faults.reach("cloud.migration_written")
            yield self._orders.migrate(caller.request_id, [record])
        return departure  # type: ignore[no-any-return]

    @inlineCallbacks
    def evacuate(self, caller: Caller, host: str) -> Generator[Deferred[Any], Any, list[Departure]]:
        """
        Let nothing new on a host, and begin to move away what is there.
        Repeating is safe.

        @return: each of its instances, and where it goes or why it does not.
        @raise NotFound: the host never reported.
        @raise WrongState: it is silent: then only fencing frees what it had.
        """
        if host in (yield self._hosts.silent()):
            raise WrongState("host", host, "silent", ["alive"])
        yield self._hosts.set_disabled(caller, host, "compute", True, "evacuated")
        found = yield self._of_host(host)
        departures = []
        for instance in found:
            try:
                departures.append((yield self.migrate(caller, instance.id)))
            except FabricError as error:
                departures.append(Departure(instance.id, why=_sentence(error)))
        return departures

    @inlineCallbacks
    def _begin(
        self, caller: Caller, id: str, destination: str
    ) -> Generator[Deferred[Any], Any, tuple[Departure, Instance | None]]:
        [stored] = yield self._store.read(Instance, [id])
        if stored is None:
            raise NotFound("instance", id)
        instance: Instance = stored.record
        if instance.migration is not None:
            return Departure(id, instance.migration.destination), None
        _movable(instance)
        view = yield self._choose(instance, destination)
        now = self._clock.seconds()
        order = instance.order + 1
        leaving = attrs.evolve(
            instance,
            order=order,
            migration=Migration(view.name, order, now),
            refusals={},
            review_at=now + self._resend_after,
        )
        transaction = self._store.transaction(caller.request_id)
        transaction.update(stored, leaving)
        for name, most in view.capacity.room().items():
            transaction.limit(f"load:{view.name}:{name}", most)
        transaction.idle(CLOSED, f"compute.{view.name}")
        if instance.placement is not None:
            restrict(transaction, instance.placement, view.name, view.zone, self._hosts.zone_names())
        try:
            yield self._store.commit(transaction)
        except InUse:  # it was disabled just now, or others of its group came there
            raise _no_room(destination) from None
        return Departure(id, view.name), leaving

    @inlineCallbacks
    def _choose(self, instance: Instance, destination: str) -> Generator[Deferred[Any], Any, HostView]:
        views: list[HostView] = yield self._hosts.views()
        if destination and destination not in {view.name for view in views}:
            raise NotFound("host", destination)
        wanted = Wanted(instance.id, instance.needs, instance.zone, instance.architecture, instance.placement)
        others = [view for view in views if view.name != instance.host and destination in ("", view.name)]
        rooms = [room for view in others if not fits(wanted, view, room := Room.of(view))]
        if instance.placement is not None:
            members = yield occupancy(self._store, instance.placement, [view.name for view in views])
            company = Company({instance.placement.group: members}, {view.name: view.zone for view in views})
            rooms = [room for room in rooms if not company.forbids(wanted, room.name)]
        if not rooms:
            raise _no_room(destination)
        best = simple(wanted, rooms).name
        return next(view for view in others if view.name == best)

    @inlineCallbacks
    def _of_host(self, host: str) -> Generator[Deferred[Any], Any, list[Instance]]:
        found: list[Instance] = []
        cursor = ""
        while True:
            page = yield self._store.records(Instance, Query("instance", ("host:" + host,), cursor=cursor, limit=PAGE))
            found += [stored.record for stored in page.items if stored.record.live]
            cursor = page.cursor
            if not cursor:
                return found


def _movable(instance: Instance) -> None:
    """
    @raise WrongState: it can't be moved now.
    """
    wanted = ["running without volumes and GPUs", "stopped"]
    found = instance.state if instance.host else "on no host"
    if found == "running" and instance.disks:
        found = "running with volumes"
    elif found == "running" and instance.flavor.gpus:
        found = "running with GPUs"
    elif found == "running" and instance.rebooting_since:
        found = "being rebooted"
    elif found == "stopped" and any(disk.state != "attached" for disk in instance.disks):
        found = "stopped with volumes that come or go"
    if found not in ("running", "stopped"):
        raise WrongState("instance", instance.id, found, wanted)


def _no_room(destination: str) -> LimitExceeded:
    return LimitExceeded(f"load:{destination or 'every other host'}:room", 0, 0, 1)


def _sentence(error: FabricError) -> str:
    if isinstance(error, LimitExceeded):
        return "no other host has room for it, or its placement group forbids it"
    if isinstance(error, WrongState):
        return f"it is {error.found}"
    return str(error)
