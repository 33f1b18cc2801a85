"""
C{twistd cloud-scheduler}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService

from fabric.api.ec2.views import load_views
from fabric.metrics import Metrics
from fabric.settings import Settings
from fabric.tap import doors, logic, transports
from fabric.tap.options import ServiceOptions
from fabric.tap.process import process, running
from fabric.tap.start import Step

Options = ServiceOptions


def makeService(options: ServiceOptions) -> IService:
    """
    The service, as C{twistd} asks for it.
    """
    return process(options, "cloud-scheduler", build)


def build(reactor: Any, settings: Settings) -> Sequence[Step]:
    """
    The steps of the process.
    """
    transports.require_shared(settings, "queue", "store")
    metrics, points = Metrics(), logic.faults(settings)
    queue, queue_step = transports.queue(reactor, settings, metrics)
    store, store_step = transports.store(reactor, settings, metrics, load_views())
    parts = logic.assembled(reactor, settings, store, queue, points)
    return [
        *doors.watched(reactor, settings, metrics, "cloud-scheduler", doors.probes(store, queue)),
        queue_step,
        store_step,
        running("scheduler", logic.scheduler(reactor, settings, queue, parts, points)),
    ]
