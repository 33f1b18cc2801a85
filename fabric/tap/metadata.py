"""
C{twistd cloud-metadata}: the metadata door by itself, on a host that machines reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService
from zope.interface import implementer

from fabric.metrics import Metrics
from fabric.model.record import Record
from fabric.settings import Settings
from fabric.store.interface import IViews
from fabric.tap import doors, queueing, transports, watching
from fabric.tap.options import ServiceOptions
from fabric.tap.process import process
from fabric.tap.start import Step

ENDPOINT = "tcp:8775"
"""Where this door is if nothing else is said."""


class Options(ServiceOptions):
    """
    Options of the metadata door.
    """

    shorthands = {**ServiceOptions.shorthands, "metadata": "metadata.endpoint"}
    optParameters = [["metadata", None, None, "Endpoint of the metadata door."]]


@implementer(IViews)
class _NoViews:
    """
    This door lists nothing; the one record that it may write has no view.
    """

    def render(self, record: Record) -> dict[str, bytes]:
        """See L{IViews.render}."""
        return {}


def makeService(options: Options) -> IService:
    """
    The service, as C{twistd} asks for it.
    """
    return process(options, "cloud-metadata", build)


def build(reactor: Any, settings: Settings) -> Sequence[Step]:
    """
    The steps of the process.
    """
    queueing.require_shared(settings, "store")
    metrics = Metrics()
    store, store_step = transports.store(reactor, settings, metrics, _NoViews())
    return [
        *watching.watched(reactor, settings, metrics, "cloud-metadata", watching.probes(store)),
        store_step,
        *doors.metadata(reactor, settings, metrics, store, settings.metadata.endpoint or ENDPOINT),
    ]
