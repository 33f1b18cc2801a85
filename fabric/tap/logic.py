"""
The cloud's logic by the settings, and the workers that run it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThread

from fabric.cloud.assembly import Assembly, Rules, assemble
from fabric.cloud.events import EventReader
from fabric.cloud.interface import ICloudWorker
from fabric.faults import ArmedFaults, IFaults, NoFaults
from fabric.heartbeat import Heartbeat
from fabric.periodic import Periodic
from fabric.rpc.interface import Address
from fabric.scheduler.interface import ISchedulerWorker
from fabric.scheduler.worker import SchedulerWorker
from fabric.settings import Settings
from fabric.store.interface import IStore
from fabric.worker import WorkerService


def faults(settings: Settings) -> IFaults:
    """
    The fault points that settings arm.
    """
    return ArmedFaults(settings.faults) if settings.faults else NoFaults()


def assembled(reactor: Any, settings: Settings, store: IStore, queue: Any, points: IFaults) -> Assembly:
    """
    All of C{fabric.cloud}, over a store and a queue.
    """
    controller = settings.controller
    rules = Rules(
        quotas=attrs.asdict(settings.quota),
        network=settings.network.label,
        zone=settings.zone,
        resend_after=controller.resend_seconds,
        down_after=controller.service_down_time,
        stray_grace=controller.stray_grace,
        accounts=settings.queue.accounts,
    )
    return assemble(store, queue, reactor, deferToThread, rules, points)


def controller(reactor: Any, settings: Settings, store: IStore, queue: Any, parts: Assembly) -> WorkerService:
    """
    The service at the topic C{cloud}: takes reports, sweeps, follows the events.
    """

    @inlineCallbacks
    def first_start() -> Generator[Deferred[Any], Any, None]:
        yield parts.cloud.images.ensure_samples(reactor.seconds())
        wanted = settings.network
        if wanted.label:
            yield parts.cloud.networks.ensure(
                wanted.label, wanted.cidr, bridge=wanted.bridge, reserved=wanted.reserved, dns=wanted.dns
            )

    host, rules = settings.host_name, settings.controller
    service = WorkerService(
        f"cloud.{host}",
        queue,
        reactor,
        ICloudWorker,
        parts.worker,
        ((Address("cloud"), settings.queue.prefetch),),
        (first_start, lambda: queue.listen_dead(parts.dead_letters.take)),
        (),
    )
    events = EventReader(store, lambda event: None, reactor.seconds())
    service.while_open(Periodic("sweep", rules.sweep_interval, parts.sweep.turn, reactor))
    service.while_open(Periodic("events", rules.sweep_interval, events.turn, reactor))
    service.while_open(Heartbeat("cloud", host, settings.zone, queue, reactor, rules.report_interval))
    return service


def scheduler(reactor: Any, settings: Settings, queue: Any, parts: Assembly, points: IFaults) -> WorkerService:
    """
    The service at the topic C{scheduler}.
    """
    host = settings.host_name
    worker = SchedulerWorker(parts.placement, settings.scheduler.algorithm, reactor, points)
    service = WorkerService(
        f"scheduler.{host}",
        queue,
        reactor,
        ISchedulerWorker,
        worker,
        ((Address("scheduler"), settings.queue.prefetch),),
        (),
        (),
    )
    interval = settings.controller.report_interval
    service.while_open(Heartbeat("scheduler", host, settings.zone, queue, reactor, interval))
    return service
