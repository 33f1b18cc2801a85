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
from fabric.cloud.cloud import Cloud
from fabric.cloud.dry import DryQueue, DryStore
from fabric.cloud.events import EventReader
from fabric.cloud.service import ControllerService
from fabric.command import Commands
from fabric.faults import IFaults
from fabric.objectstore.links import Signer
from fabric.objectstore.remote import StoreDoor
from fabric.scheduler.service import SchedulerService
from fabric.settings import Settings
from fabric.store.interface import IStore
from fabric.tap import images
from fabric.tap.fence import CommandFence
from fabric.worker import WorkerService


def assembled(
    reactor: Any, settings: Settings, store: IStore, queue: Any, points: IFaults, links: Signer | None = None
) -> Assembly:
    """
    All of C{fabric.cloud}, over a store and a queue.

    @param links: to files of images; None where the settings tell of the
        object store.
    """
    signer = links or images.signer(reactor, settings)
    door = StoreDoor(reactor, signer)
    controller = settings.controller
    fence = CommandFence(Commands(reactor, controller.fence_seconds), controller.fence) if controller.fence else None
    return assemble(store, queue, reactor, deferToThread, _rules(settings), points, None, fence, signer, door)


def rehearsed(reactor: Any, settings: Settings, store: IStore) -> Cloud:
    """
    C{fabric.cloud} again, reading a store and changing nothing, for requests
    that only ask whether they would succeed.
    """
    rules = attrs.evolve(_rules(settings), ready_keys=0)
    return assemble(DryStore(store), DryQueue(), reactor, deferToThread, rules).cloud


def _rules(settings: Settings) -> Rules:
    controller = settings.controller
    return Rules(
        quotas=attrs.asdict(settings.quota),
        network=settings.network.label,
        own_networks=settings.network.manager == "vlan",
        zone=settings.zone,
        resend_after=controller.resend_seconds,
        down_after=controller.service_down_time,
        stray_grace=controller.stray_grace,
        accounts=settings.queue.accounts,
    )


@inlineCallbacks
def first_start(reactor: Any, settings: Settings, parts: Assembly) -> Generator[Deferred[Any], Any, None]:
    """
    Have what every new cloud has: a network, and sample images for guests that are fakes.  Repeating is safe.
    """
    if settings.compute.driver == "fake":  # they have no files that a guest could boot
        yield parts.cloud.images.ensure_samples(reactor.seconds())
    wanted = settings.network
    if wanted.manager == "vlan":
        yield parts.cloud.networks.projects.ensure_range(
            "projects",
            wanted.cidr,
            size=wanted.vlan_network_size,
            first_vlan=wanted.vlan_start,
            vlans=wanted.vlan_count,
            reserved=wanted.reserved,
            dns=wanted.dns,
        )
    elif wanted.label:
        yield parts.cloud.networks.ensure(
            wanted.label,
            wanted.cidr,
            bridge=wanted.bridge,
            reserved=wanted.reserved,
            dns=wanted.dns,
            manager=wanted.manager,
            cidr_v6=wanted.cidr_v6,
        )
    if wanted.floating:
        yield parts.cloud.ranges.ensure("public", wanted.floating)


def controller(reactor: Any, settings: Settings, store: IStore, queue: Any, parts: Assembly) -> WorkerService:
    """
    The service at the topic C{cloud}: takes reports, sweeps, follows the events.
    """
    rules = settings.controller
    return ControllerService(
        queue,
        parts.worker,
        parts.sweep,
        parts.cloud.hosts,
        EventReader(store, lambda event: None, reactor.seconds()),
        parts.dead_letters,
        settings.host_name,
        settings.zone,
        reactor,
        sweep_interval=rules.sweep_interval,
        review_interval=rules.service_down_time / 4,
        report_interval=rules.report_interval,
        prefetch=settings.queue.prefetch,
        opening=(lambda: first_start(reactor, settings, parts),),
        fencing=parts.fencing,
        image_files=parts.cloud.image_files,
    )


def scheduler(reactor: Any, settings: Settings, queue: Any, parts: Assembly, points: IFaults) -> WorkerService:
    """
    The service at the topic C{scheduler}.
    """
    return SchedulerService(
        queue,
        parts.placement,
        settings.scheduler.algorithm,
        settings.host_name,
        settings.zone,
        reactor,
        points,
        settings.queue.prefetch,
        settings.controller.report_interval,
    )
