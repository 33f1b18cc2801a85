"""
C{twistd cloud-objectstore}: the files of images.  Knows neither queue nor store;
what it is asked for is signed by those who do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService

from fabric.metrics import Metrics
from fabric.settings import Settings
from fabric.tap import firstrun, images, watching
from fabric.tap.options import ServiceOptions
from fabric.tap.process import process
from fabric.tap.start import Step

ENDPOINT = "tcp:3333"
"""Where this door is if nothing else is said; the first Nova's was there."""


class Options(ServiceOptions):
    """
    Options of the object store.
    """

    shorthands = {**ServiceOptions.shorthands, "objectstore": "objectstore.endpoint"}
    optParameters = [["objectstore", None, None, "Endpoint of the object store."]]


def makeService(options: Options) -> IService:
    """
    The service, as C{twistd} asks for it.
    """
    return process(options, "cloud-objectstore", build)


def build(reactor: Any, settings: Settings) -> Sequence[Step]:
    """
    The steps of the process.
    """
    _, steps = images.door(reactor, settings, ENDPOINT)
    return [
        firstrun.data_directory(settings),
        *watching.watched(reactor, settings, Metrics(), "cloud-objectstore", watching.probes()),
        *steps,
    ]
