"""
The workers of one host: compute, network, volume.
"""

from __future__ import annotations

import os
from typing import Any

from fabric.compute.service import ComputeService
from fabric.faults import IFaults
from fabric.network.service import NetworkService
from fabric.settings import Settings
from fabric.tap.hypervisors import compute_driver
from fabric.tap.networks import network_driver
from fabric.volume.fake import FakeVolumes
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
    )


def network(reactor: Any, settings: Settings, queue: Any, points: IFaults) -> NetworkService:
    """
    Networks on this host.
    """
    return NetworkService(
        queue,
        network_driver(reactor, settings, _kept(settings, "network")),
        settings.host_name,
        settings.zone,
        reactor,
        points,
        prefetch=settings.queue.prefetch,
        report_interval=settings.controller.report_interval,
    )


def volume(reactor: Any, settings: Settings, queue: Any, points: IFaults) -> VolumeService:
    """
    Volumes on this host.
    """
    return VolumeService(
        queue,
        FakeVolumes(_kept(settings, "volume"), reactor, settings.fake),
        settings.host_name,
        settings.zone,
        reactor,
        points,
        report_interval=settings.controller.report_interval,
    )
