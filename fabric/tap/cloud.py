"""
C{twistd cloud}: every service in one process, on embedded parts where the settings name no servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService

from fabric.api.ec2.views import load_views
from fabric.api.operations import Health
from fabric.cloud.levels import Levels
from fabric.command import Commands
from fabric.metrics import Metrics
from fabric.settings import Settings
from fabric.tap import doors, firstrun, hosts, images, logic, queueing, transports, watching
from fabric.tap.options import DoorOptions
from fabric.tap.process import faults, process, running
from fabric.tap.start import Step

Options = DoorOptions


def makeService(options: DoorOptions) -> IService:
    """
    The service, as C{twistd} asks for it.
    """
    return process(options, "cloud", build)


def build(reactor: Any, settings: Settings) -> Sequence[Step]:
    """
    The steps of the process: what others need comes first, clients last.
    """
    metrics, views, points = Metrics(), load_views(), faults(settings)
    queue, queue_step = queueing.queue(reactor, settings, metrics)
    store, store_steps = transports.any_store(reactor, settings, metrics, views)
    people, people_steps = transports.any_directory(reactor, settings)
    links, image_steps = images.door(reactor, settings, images.WITHIN)
    parts = logic.assembled(reactor, settings, store, queue, points, links)
    health = Health(reactor, "cloud", watching.probes(store, queue, people))
    routes = watching.operations(health, metrics, Levels(store, parts.cloud.hosts, queue, reactor, metrics).read)
    rehearsal = logic.rehearsed(reactor, settings, store)
    front = doors.front(reactor, settings, metrics, parts.cloud, rehearsal, store, people, views, routes)
    return [
        firstrun.data_directory(settings),
        front.claim(),
        *store_steps,
        *people_steps,
        queue_step,
        *image_steps,
        Step("first start", lambda: logic.first_start(reactor, settings, parts), queueing.nothing),
        running("controller", logic.controller(reactor, settings, store, queue, parts)),
        running("scheduler", logic.scheduler(reactor, settings, queue, parts, points)),
        running("network", hosts.network(reactor, settings, queue, points, settings.api.endpoint)),
        running("volume", hosts.volume(reactor, settings, queue, points)),
        running("compute", hosts.compute(reactor, settings, queue, points)),
        firstrun.administrator(settings, people, front),
        front.open("doors"),
        *doors.metadata(reactor, settings, metrics, store, settings.metadata.endpoint),
        firstrun.first_image(Commands(reactor, seconds=300.0), settings),
        firstrun.greeting(settings, front),
        Step("keys", parts.key_pool.fill, queueing.nothing),
    ]
