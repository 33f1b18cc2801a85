"""
C{twistd cloud-volume}: volumes on this host.  Holds no credentials but the queue's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService

from fabric.metrics import Metrics
from fabric.settings import Settings
from fabric.tap import hosts, queueing, watching
from fabric.tap.options import ServiceOptions
from fabric.tap.process import faults, process, running
from fabric.tap.start import Step

Options = ServiceOptions


def makeService(options: ServiceOptions) -> IService:
    """
    The service, as C{twistd} asks for it.
    """
    return process(options, "cloud-volume", build)


def build(reactor: Any, settings: Settings) -> Sequence[Step]:
    """
    The steps of the process.
    """
    queueing.require_shared(settings, "queue")
    metrics = Metrics()
    queue, queue_step = queueing.queue(reactor, settings, metrics)
    return [
        *watching.watched(reactor, settings, metrics, "cloud-volume", watching.probes(queue=queue)),
        queue_step,
        running("volume", hosts.volume(reactor, settings, queue, faults(settings))),
    ]
