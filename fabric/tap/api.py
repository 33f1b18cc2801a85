"""
C{twistd cloud-api}: the doors.  Any number of them serve one cloud.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService

from fabric.api.ec2.views import load_views
from fabric.api.operations import Health
from fabric.cloud.levels import Levels
from fabric.metrics import Metrics
from fabric.settings import Settings
from fabric.tap import doors, firstrun, logic, queueing, transports, watching
from fabric.tap.options import DoorOptions
from fabric.tap.process import faults, process
from fabric.tap.start import Step

Options = DoorOptions


def makeService(options: DoorOptions) -> IService:
    """
    The service, as C{twistd} asks for it.
    """
    return process(options, "cloud-api", build)


def build(reactor: Any, settings: Settings) -> Sequence[Step]:
    """
    The steps of the process.
    """
    queueing.require_shared(settings, "queue", "store", "ldap")
    metrics, views = Metrics(), load_views()
    queue, queue_step = queueing.queue(reactor, settings, metrics)
    store, store_step = transports.store(reactor, settings, metrics, views)
    people, people_step = transports.directory(reactor, settings)
    parts = logic.assembled(reactor, settings, store, queue, faults(settings))
    health = Health(reactor, "cloud-api", watching.probes(store, queue, people))
    routes = watching.operations(health, metrics, Levels(store, parts.cloud.hosts, queue, reactor, metrics).read)
    rehearsal = logic.rehearsed(reactor, settings, store)
    front = doors.front(reactor, settings, metrics, parts.cloud, rehearsal, store, people, views, routes)
    steps = [queue_step, store_step, people_step, front.step("doors")]
    steps += doors.metadata(reactor, settings, metrics, store, settings.metadata.endpoint)
    if settings.ldap.first_user:
        steps.append(firstrun.administrator(settings, people, front))
    return [*steps, Step("keys", parts.key_pool.fill, queueing.nothing)]
