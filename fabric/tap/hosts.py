"""
The workers of one host: compute, network, volume.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.threads import deferToThread

from fabric.command import Commands
from fabric.compute.service import ComputeService
from fabric.faults import IFaults
from fabric.image.upload import Uploader
from fabric.network.service import NetworkService
from fabric.settings import Settings
from fabric.tap.hypervisors import compute_driver
from fabric.tap.networks import network_driver
from fabric.volume.fake import FakeVolumes
from fabric.volume.files import FileVolumes
from fabric.volume.interface import IVolumeDriver
from fabric.volume.service import VolumeService


def _kept(settings: Settings, what: str) -> str:
    """Where a fake driver of this host keeps what it pretends to have."""
    return os.path.join(settings.data_dir, "hosts", settings.host_name, what)


def compute(reactor: Any, settings: Settings, queue: Any, points: IFaults) -> ComputeService:
    """
    Instances on this host.
    """
    return ComputeService(
        queue,
        compute_driver(reactor, settings, _kept(settings, "compute")),
        settings.host_name,
        settings.zone,
        reactor,
        points,
        concurrency=settings.compute.concurrency,
        prefetch=settings.queue.prefetch,
        report_interval=settings.controller.report_interval,
        adopt_interval=settings.compute.adopt_interval,
        uploader=Uploader(reactor, deferToThread),
    )


def network(reactor: Any, settings: Settings, queue: Any, points: IFaults, api: str = "") -> NetworkService:
    """
    Networks on this host.

    @param api: the endpoint of the API's door, if that is of this process.
    """
    return NetworkService(
        queue,
        network_driver(reactor, settings, _kept(settings, "network"), api),
        settings.host_name,
        settings.zone,
        reactor,
        points,
        prefetch=settings.queue.prefetch,
        report_interval=settings.controller.report_interval,
    )


def _volumes(reactor: Any, settings: Settings) -> IVolumeDriver:
    """What keeps this host's volumes."""
    wanted, kept = settings.volume, _kept(settings, "volume")
    if wanted.driver == "fake":
        return FakeVolumes(kept, reactor, settings.fake)
    hosts = (settings.host_name, *wanted.shared_with)
    directory = os.path.abspath(wanted.directory or kept)
    return FileVolumes(directory, hosts, Commands(reactor, wanted.copy_seconds), reactor, wanted.capacity_gb)


def volume(reactor: Any, settings: Settings, queue: Any, points: IFaults) -> VolumeService:
    """
    Volumes on this host.
    """
    return VolumeService(
        queue,
        _volumes(reactor, settings),
        settings.host_name,
        settings.zone,
        reactor,
        points,
        report_interval=settings.controller.report_interval,
    )
