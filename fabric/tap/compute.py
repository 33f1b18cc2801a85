"""
C{twistd cloud-compute}: instances on this host.  Holds no credentials but the queue's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService

from fabric.metrics import Metrics
from fabric.settings import Settings
from fabric.tap import doors, hosts, logic, transports
from fabric.tap.options import ServiceOptions
from fabric.tap.process import process, running
from fabric.tap.start import Step

Options = ServiceOptions


def makeService(options: ServiceOptions) -> IService:
    """
    The service, as C{twistd} asks for it.
    """
    return process(options, "cloud-compute", build)


def build(reactor: Any, settings: Settings) -> Sequence[Step]:
    """
    The steps of the process.
    """
    transports.require_shared(settings, "queue")
    metrics = Metrics()
    queue, queue_step = transports.queue(reactor, settings, metrics)
    return [
        *doors.watched(reactor, settings, metrics, "cloud-compute", doors.probes(queue=queue)),
        queue_step,
        running("compute", hosts.compute(reactor, settings, queue, logic.faults(settings))),
    ]
