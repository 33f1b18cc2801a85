"""
C{twistd cloud-controller}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService

from fabric.api.ec2.views import load_views
from fabric.cloud.levels import Levels
from fabric.metrics import Metrics
from fabric.settings import Settings
from fabric.tap import logic, queueing, transports, watching
from fabric.tap.options import ServiceOptions
from fabric.tap.process import faults, process, running
from fabric.tap.start import Step

Options = ServiceOptions


def makeService(options: ServiceOptions) -> IService:
    """
    The service, as C{twistd} asks for it.
    """
    return process(options, "cloud-controller", build)


def build(reactor: Any, settings: Settings) -> Sequence[Step]:
    """
    The steps of the process.
    """
    queueing.require_shared(settings, "queue", "store")
    metrics = Metrics()
    queue, queue_step = queueing.queue(reactor, settings, metrics)
    store, store_step = transports.store(reactor, settings, metrics, load_views())
    parts = logic.assembled(reactor, settings, store, queue, faults(settings))
    read = Levels(store, parts.cloud.hosts, queue, reactor, metrics).read
    return [
        *watching.watched(reactor, settings, metrics, "cloud-controller", watching.probes(store, queue), read),
        queue_step,
        store_step,
        running("controller", logic.controller(reactor, settings, store, queue, parts)),
    ]
