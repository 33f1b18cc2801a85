"""
What answers at the topic C{cloud}: the controller, to which workers report.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Interface


class ICloudWorker(Interface):
    """
    Takes workers' reports and moves state.  Dicts by L{fabric.model.codec}.
    With broker accounts per host, a report is taken only from its own host.
    """

    def report_machines(host: str, reports: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast: L{fabric.compute.interface.MachineReport} of what became of
        orders, or of what guests did by themselves.  Stale ones are dropped.
        """

    def report_host(topic: str, host: str, zone: str, started_at: float, capacity: dict[str, Any]) -> Deferred[None]:
        """
        Cast: a heartbeat, with the host's totals.
        """

    def adopt(host: str, domains: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast at a compute worker's start, and now and then after: all that it
        really has, as L{fabric.compute.interface.Domain}.  The controller
        moves state to match, and orders what is to be run, stopped or removed.
        """

    def report_disks(host: str, reports: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast by compute workers: L{fabric.compute.interface.DiskReport} of what
        became of volumes that are attached or detached.
        """

    def report_images(host: str, reports: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast by compute workers: L{fabric.image.interface.ImageReport} of what
        became of machines' disks that were to become images.
        """

    def report_volumes(host: str, reports: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast by volume workers: L{fabric.volume.interface.VolumeReport}.
        """

    def report_snapshots(host: str, reports: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast by volume workers: L{fabric.volume.interface.SnapshotReport}.
        """

    def adopt_volumes(host: str, holdings: dict[str, Any]) -> Deferred[None]:
        """
        Cast at a volume worker's start, and now and then after: all that it
        has, as L{fabric.volume.interface.Holdings}.  The controller orders
        again what state waits for, and what state has no more to be removed.
        """

    def report_addresses(host: str, reports: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast by network workers: L{fabric.network.interface.FloatingReport} of
        what became of orders about floating addresses.
        """

    def adopt_network(host: str, floating: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast at a network worker's start, and now and then after: every
        L{fabric.network.interface.Floating} that it has.  The controller
        orders all networks, ports and addresses that the host is to have, and
        those addresses that it is not to have to be taken away.
        """

    def report_ports(host: str, instances: list[str]) -> Deferred[None]:
        """
        Cast with L{adopt_network}: the instances that have ports there.  The
        controller orders those of instances that are over to be unplugged.
        """

    def place(host: str, instances: list[str]) -> Deferred[None]:
        """
        Cast by the first free compute worker under the scheduler C{queue}:
        claim room there and order them, or schedule them elsewhere.
        """
