"""
Hosts: what their services report, and what that makes of them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.cloud.access import Caller
from fabric.cloud.retry import until_written
from fabric.errors import AlreadyExists, Conflict, NotFound
from fabric.model.host import Capacity, Service, Stray
from fabric.model.instance import Instance
from fabric.model.record import ALL
from fabric.model.volume import room_counter
from fabric.scheduler.interface import HostView
from fabric.store.interface import IStore, Query, Stored

DOWN_AFTER = 60.0
"""Seconds without a report after which a service counts as dead."""

ZONES_KEPT = 10.0
"""Seconds for which it is known without looking that there is one zone only."""

NOTED = 12
"""The part of that time for which a report need not be noted again: they pile up while no controller runs."""

ZONES_SERVE = 1.0
"""Seconds for which zones serve that were read, from all hosts: each launch in one of them looks at them."""

_LOADS = ("instances", "vcpus", "memory_mb", "disk_gb")
_GPUS = "gpus"


@attrs.frozen
class ServiceView:
    """
    A service as operators see it.

    @ivar last_beat: seconds since the epoch; 0 for never.
    @ivar load: what instances claim of the host, by name.
    """

    service: Service
    last_beat: float
    load: dict[str, int]


@attrs.frozen
class Zone:
    """
    @ivar available: whether any of its compute hosts can take instances.
    """

    name: str
    available: bool


class Hosts:
    """
    Services, their liveness, and where room is.
    """

    log = Logger()

    def __init__(self, store: IStore, clock: IReactorTime, down_after: float = DOWN_AFTER, zone: str = "nova") -> None:
        self._store = store
        self._clock = clock
        self._down_after = down_after
        self._zone = zone
        self._known: dict[str, Service] = {}
        self._noted: dict[str, float] = {}
        self._views: dict[str, HostView] = {}
        self._zones_read, self._sole_zone = float("-inf"), ""
        self._zones: list[Zone] = []
        self._zones_until = float("-inf")
        self._changes = 0

    @inlineCallbacks
    def report(
        self, topic: str, host: str, zone: str, started_at: float, capacity: Capacity
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Take a heartbeat.  The record is written only when what it says is new,
        and the time only when it was not just now.  The time comes first: who
        looks in between would hold a new service, or one that is back, for
        silent, and have it fenced.
        """
        id = f"{topic}.{host}"
        known = self._known.get(id)
        now, told = self._clock.seconds(), (zone, started_at, capacity)
        same = known is not None and (known.zone, known.started_at, known.capacity) == told
        if same and now - self._noted.get(id, float("-inf")) < self._down_after / NOTED:
            return
        yield self._store.beat(id, now)
        self._noted[id] = now
        if not same:
            self._views.pop(host, None)
            yield until_written(lambda: self._register(id, topic, host, zone, started_at, capacity))

    @inlineCallbacks
    def _register(
        self, id: str, topic: str, host: str, zone: str, started_at: float, capacity: Capacity
    ) -> Generator[Deferred[Any], Any, None]:
        [stored] = yield self._store.read(Service, [id])
        transaction = self._store.transaction(f"report-{id}")
        if stored is None:
            record = Service(id, topic, host, zone, started_at=started_at, capacity=capacity)
            transaction.create(record)
        else:
            record = attrs.evolve(
                stored.record, zone=zone, started_at=started_at, capacity=capacity, alive=True, fenced=False
            )
            if record == stored.record:
                self._known[id] = record
                return
            transaction.update(stored, record)
        try:
            yield self._store.commit(transaction)
        except AlreadyExists:
            yield self._register(id, topic, host, zone, started_at, capacity)
        self._known[id] = record
        self._changed()

    @inlineCallbacks
    def review(self) -> Generator[Deferred[Any], Any, None]:
        """
        Compare heartbeats with the clock, and write which services came and
        went.  What was known of services is what is read: a store that lost its
        last writes, or all, is told again by the next heartbeats.
        """
        found = yield self._all()
        self._known = {stored.record.id: stored.record for stored in found}
        beats = yield self._store.beats()
        horizon = self._clock.seconds() - self._down_after
        for stored in found:
            service: Service = stored.record
            alive = beats.get(service.id, 0.0) > horizon
            if alive == service.alive:
                continue
            transaction = self._store.transaction("liveness")
            transaction.update(stored, attrs.evolve(service, alive=alive, fenced=service.fenced and not alive))
            try:
                yield self._store.commit(transaction)
            except Conflict:
                continue  # another controller was quicker, or an operator; the next look sees what is left
            self._changed()
            self.log.warn(
                "{service} is {what}", service=service.id, what="back" if alive else "dead: no report from it"
            )

    @inlineCallbacks
    def records(self) -> Generator[Deferred[Any], Any, list[Service]]:
        """
        Every service that ever reported, as state has it.
        """
        found = yield self._all()
        return [stored.record for stored in found]

    @inlineCallbacks
    def silent(self) -> Generator[Deferred[Any], Any, frozenset[str]]:
        """
        The names of the compute hosts that do not report any more.
        """
        found = yield self._every(Service, (("topic", ("compute",)), ("alive", ("no",))))
        return frozenset(stored.record.host for stored in found)

    @inlineCallbacks
    def services(self) -> Generator[Deferred[Any], Any, list[ServiceView]]:
        """
        Every service that ever reported, by id.
        """
        found = yield self._all()
        beats = yield self._store.beats()
        loads = (*_LOADS, _GPUS)
        names = [_load(stored.record.host, name) for stored in found for name in loads]
        names += [room_counter(stored.record.host) for stored in found]
        values = yield self._store.counters(names)
        views = []
        for record in sorted((stored.record for stored in found), key=lambda service: service.id):
            load = {name: values[_load(record.host, name)] for name in loads} if record.topic == "compute" else {}
            if record.topic == "volume":
                load = {"gigabytes": values[room_counter(record.host)]}
            views.append(ServiceView(record, beats.get(record.id, 0.0), load))
        return views

    @inlineCallbacks
    def views(self) -> Generator[Deferred[Any], Any, list[HostView]]:
        """
        Every compute host, as a scheduler sees it.
        """
        found = yield self._compute_services()
        services = [stored.record for stored in found]
        names = [_load(service.host, name) for service in services for name in _loads(service.capacity)]
        values = (yield self._store.counters(names)) if names else {}
        views = []
        for service in services:
            load = {name: values[_load(service.host, name)] for name in _loads(service.capacity)}
            views.append(HostView(service.host, service.zone, service.capacity, load, service.alive, service.disabled))
        self._views = {view.name: view for view in views}
        return views

    @inlineCallbacks
    def view(self, host: str) -> Generator[Deferred[Any], Any, HostView]:
        """
        One compute host as it was last read, its load perhaps outdated.

        @raise NotFound: it never reported.
        """
        if host not in self._views:
            yield self.views()
        if host not in self._views:
            raise NotFound("host", host)
        return self._views[host]

    @inlineCallbacks
    def volume_services(self) -> Generator[Deferred[Any], Any, list[Service]]:
        """
        Every volume service that ever reported.
        """
        found = yield self._every(Service, (("topic", ("volume",)),))
        return [stored.record for stored in found]

    def names(self) -> list[str]:
        """
        Compute hosts, as they were last read.
        """
        return list(self._views)

    def zone_names(self) -> list[str]:
        """
        Zones with compute hosts, as they were last read.
        """
        return sorted({view.zone for view in self._views.values()})

    @inlineCallbacks
    def alive(self) -> Generator[Deferred[Any], Any, frozenset[str]]:
        """
        The names of the compute hosts that report.
        """
        found = yield self._compute_services()
        return frozenset(stored.record.host for stored in found if stored.record.alive)

    @inlineCallbacks
    def set_disabled(
        self, caller: Caller, host: str, topic: str | None, disabled: bool, reason: str = ""
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Let nothing new on a host's services (or one of them), or let it again.
        Repeating is safe.

        @raise NotFound: no such service reported.
        """
        found = yield self._all()
        chosen = [s.record.id for s in found if s.record.host == host and topic in (None, s.record.topic)]
        if not chosen:
            raise NotFound("host", f"{topic}.{host}" if topic else host)
        for id in chosen:
            yield until_written(partial(self._disable, caller, id, disabled, reason))

    @inlineCallbacks
    def _disable(self, caller: Caller, id: str, disabled: bool, reason: str) -> Generator[Deferred[Any], Any, None]:
        [stored] = yield self._store.read(Service, [id])
        if stored is None:
            raise NotFound("service", id)
        record = attrs.evolve(stored.record, disabled=disabled, disabled_reason=reason if disabled else "")
        if record != stored.record:
            transaction = self._store.transaction(caller.request_id)
            transaction.update(stored, record)
            yield self._store.commit(transaction)
            self._changed()

    @inlineCallbacks
    def explain(self, instance_id: str) -> Generator[Deferred[Any], Any, dict[str, str]]:
        """
        Why each host was not chosen for an instance; empty when one was.

        @raise NotFound: no such instance.
        """
        [stored] = yield self._store.read(Instance, [instance_id])
        if stored is None:
            raise NotFound("instance", instance_id)
        return dict(stored.record.refusals)

    @inlineCallbacks
    def zones(self) -> Generator[Deferred[Any], Any, list[Zone]]:
        """
        Every zone that has compute hosts, and the cloud's own, by name; what
        other processes wrote is seen a second later.
        """
        now, changes = self._clock.seconds(), self._changes
        if now < self._zones_until:
            return list(self._zones)
        found = yield self._compute_services()
        zones = {self._zone: False}
        for service in (stored.record for stored in found):
            usable = service.alive and not service.disabled
            zones[service.zone] = zones.get(service.zone, False) or usable
        told = [Zone(name, available) for name, available in sorted(zones.items())]
        if changes == self._changes:
            self._zones, self._zones_until = told, now + ZONES_SERVE
        return list(told)

    @inlineCallbacks
    def sole_zone(self) -> Generator[Deferred[Any], Any, str]:
        """
        The zone of a cloud that has but one, empty for one with several; as it
        was some L{ZONES_KEPT} seconds ago at most.
        """
        now = self._clock.seconds()
        if now - self._zones_read >= ZONES_KEPT:
            zones = yield self.zones()
            self._zones_read, self._sole_zone = now, zones[0].name if len(zones) == 1 else ""
        return self._sole_zone

    @inlineCallbacks
    def strays(self) -> Generator[Deferred[Any], Any, list[Stray]]:
        """
        What hosts have that state does not know.
        """
        found: Sequence[Stored[Stray]] = yield self._every(Stray, ())
        return [stored.record for stored in found]

    def _changed(self) -> None:
        """A service was written here: zones are read anew."""
        self._changes += 1
        self._zones_until = float("-inf")

    def _all(self) -> Deferred[list[Stored[Service]]]:
        return self._every(Service, ())

    def _compute_services(self) -> Deferred[list[Stored[Service]]]:
        return self._every(Service, (("topic", ("compute",)),))

    @inlineCallbacks
    def _every(self, cls: Any, filters: Any) -> Generator[Deferred[Any], Any, list[Stored[Any]]]:
        found: list[Stored[Any]] = []
        cursor = ""
        while True:
            page = yield self._store.records(cls, Query(cls.kind, (ALL,), filters, cursor=cursor, limit=1000))
            found += page.items
            cursor = page.cursor
            if not cursor:
                return found


def _loads(capacity: Capacity) -> tuple[str, ...]:
    """@return: what schedulers need to know of: most hosts have no GPUs."""
    return (*_LOADS, _GPUS) if capacity.gpus else _LOADS


def _load(host: str, name: str) -> str:
    return f"load:{host}:{name}"
