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

    def place(host: str, instances: list[str]) -> Deferred[None]:
        """
        Cast by the first free compute worker under the scheduler C{queue}:
        claim room there and order them, or schedule them elsewhere.
        """
