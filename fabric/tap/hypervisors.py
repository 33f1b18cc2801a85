"""
The compute driver of this host, by the settings.
"""

from __future__ import annotations

from typing import Any

from fabric.compute.driver import IComputeDriver
from fabric.compute.fake import FakeHypervisor
from fabric.settings import Settings


def compute_driver(reactor: Any, settings: Settings, directory: str) -> IComputeDriver:
    """
    @param directory: where a fake keeps what it pretends to have.
    """
    if settings.compute.driver == "fake":
        return FakeHypervisor(directory, reactor, settings.fake)
    return _libvirt(reactor, settings)


def _libvirt(reactor: Any, settings: Settings) -> IComputeDriver:
    # libvirt's binding is installed where hosts are real only.
    from fabric.compute.libvirt.driver import LibvirtHypervisor
    from fabric.tap.images import cache

    return LibvirtHypervisor(settings.data_dir, reactor, cache(reactor, settings), settings.libvirt)
