"""
The controller: what answers at the topic C{cloud}, and what it does by the clock.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.cloud.adoption import Adoption
from fabric.cloud.associations import Associations
from fabric.cloud.captures import Captures
from fabric.cloud.enforcement import Enforcement
from fabric.cloud.hosts import Hosts
from fabric.cloud.interface import ICloudWorker
from fabric.cloud.placement import Placement
from fabric.cloud.reports import Reports
from fabric.cloud.volume_adoption import VolumeAdoption
from fabric.cloud.volume_reports import VolumeReports
from fabric.compute.interface import DiskReport, Domain, MachineReport
from fabric.errors import Denied, Unavailable
from fabric.image.interface import ImageReport
from fabric.model.codec import decode
from fabric.model.host import Capacity
from fabric.network.interface import Floating, FloatingReport
from fabric.rpc.interface import Address, Context
from fabric.volume.interface import Holdings, SnapshotReport, VolumeReport

NO_CONTEXT = Context()


@implementer(ICloudWorker)
class CloudWorker:
    """
    Takes reports.

    @param accounts: whether broker accounts are per host: then a message that
        speaks for a host must come from the account C{TOPIC.HOST} or C{HOST}.
    """

    log = Logger()

    def __init__(
        self,
        hosts: Hosts,
        reports: Reports,
        adoption: Adoption,
        placement: Placement,
        accounts: bool,
        associations: Associations,
        volumes: VolumeReports,
        volume_adoption: VolumeAdoption,
        enforcement: Enforcement,
        captures: Captures,
    ) -> None:
        self._hosts = hosts
        self._reports = reports
        self._adoption = adoption
        self._placement = placement
        self._accounts = accounts
        self._associations = associations
        self._volumes = volumes
        self._volume_adoption = volume_adoption
        self._enforcement = enforcement
        self._captures = captures

    def report_machines(
        self, host: str, reports: list[dict[str, Any]], context: Context = NO_CONTEXT
    ) -> Deferred[None]:
        """See L{ICloudWorker.report_machines}."""
        self._vouch(host, context)
        return self._reports.take(context.request_id, host, [decode(MachineReport, each) for each in reports])

    def report_host(
        self,
        topic: str,
        host: str,
        zone: str,
        started_at: float,
        capacity: dict[str, Any],
        context: Context = NO_CONTEXT,
    ) -> Deferred[None]:
        """See L{ICloudWorker.report_host}."""
        self._vouch(host, context)
        noted = self._hosts.report(topic, host, zone, started_at, decode(Capacity, capacity))
        return noted.addErrback(self._missed, host)

    def adopt(self, host: str, domains: list[dict[str, Any]], context: Context = NO_CONTEXT) -> Deferred[None]:
        """See L{ICloudWorker.adopt}."""
        self._vouch(host, context)
        found = [decode(Domain, each) for each in domains]
        adopted = self._adoption.adopt(context.request_id, host, found)
        return adopted.addCallback(lambda _: self._volume_adoption.disks(context.request_id, host, found))

    def report_addresses(
        self, host: str, reports: list[dict[str, Any]], context: Context = NO_CONTEXT
    ) -> Deferred[None]:
        """See L{ICloudWorker.report_addresses}."""
        self._vouch(host, context)
        return self._associations.take(context.request_id, host, [decode(FloatingReport, each) for each in reports])

    def adopt_network(self, host: str, floating: list[dict[str, Any]], context: Context = NO_CONTEXT) -> Deferred[None]:
        """See L{ICloudWorker.adopt_network}."""
        self._vouch(host, context)
        adopted = self._associations.adopt(context.request_id, host, [decode(Floating, each) for each in floating])
        return adopted.addCallback(lambda _: self._enforcement.host(context.request_id, host))

    def report_ports(self, host: str, instances: list[str], context: Context = NO_CONTEXT) -> Deferred[None]:
        """See L{ICloudWorker.report_ports}."""
        self._vouch(host, context)
        return self._associations.ports(context.request_id, host, instances)

    def report_disks(self, host: str, reports: list[dict[str, Any]], context: Context = NO_CONTEXT) -> Deferred[None]:
        """See L{ICloudWorker.report_disks}."""
        self._vouch(host, context)
        return self._volumes.take_disks(context.request_id, host, [decode(DiskReport, each) for each in reports])

    def report_images(self, host: str, reports: list[dict[str, Any]], context: Context = NO_CONTEXT) -> Deferred[None]:
        """See L{ICloudWorker.report_images}."""
        self._vouch(host, context)
        return self._captures.take(context.request_id, host, [decode(ImageReport, each) for each in reports])

    def report_volumes(self, host: str, reports: list[dict[str, Any]], context: Context = NO_CONTEXT) -> Deferred[None]:
        """See L{ICloudWorker.report_volumes}."""
        self._vouch(host, context)
        return self._volumes.take_volumes(context.request_id, host, [decode(VolumeReport, each) for each in reports])

    def report_snapshots(
        self, host: str, reports: list[dict[str, Any]], context: Context = NO_CONTEXT
    ) -> Deferred[None]:
        """See L{ICloudWorker.report_snapshots}."""
        self._vouch(host, context)
        return self._volumes.take_snapshots(
            context.request_id, host, [decode(SnapshotReport, each) for each in reports]
        )

    def adopt_volumes(self, host: str, holdings: dict[str, Any], context: Context = NO_CONTEXT) -> Deferred[None]:
        """See L{ICloudWorker.adopt_volumes}."""
        self._vouch(host, context)
        return self._volume_adoption.adopt(context.request_id, host, decode(Holdings, holdings))

    def place(self, host: str, instances: list[str], context: Context = NO_CONTEXT) -> Deferred[None]:
        """See L{ICloudWorker.place}."""
        self._vouch(host, context)
        return self._placement.taken(context.request_id, host, instances)

    def _missed(self, failure: Failure, host: str) -> None:
        """A heartbeat that can't be noted now is not tried again: the next one comes soon."""
        failure.trap(Unavailable)
        self.log.info("a heartbeat of {host} is not noted: {why}", host=host, why=str(failure.value))

    def _vouch(self, host: str, context: Context) -> None:
        sender = context.sender
        if self._accounts and sender != host and not sender.endswith("." + host):
            self.log.warn("{sender} spoke for {host} and was not heard", sender=sender, host=host)
            raise Denied(sender, f"to speak for host {host}")


class DeadLetters:
    """
    What becomes of an order that kept failing: the instances that it was
    about end with the reason, instead of waiting for a deadline.
    """

    log = Logger()

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    def take(self, address: Address, method: str, arguments: dict[str, Any], reason: str) -> Deferred[None] | None:
        """
        Take a dead letter; the queue calls this.
        """
        self.log.error(
            "order {method} to {address} is given up: {reason}",
            method=method,
            address=address.routing_key,
            reason=reason,
        )
        if address.topic != "compute" or method != "run":
            return None
        # Each host may put a letter here: one that makes no sense must not be offered again and again.
        machines = arguments.get("machines")
        reports = [
            MachineReport(machine["id"], machine["order"], "failed", "Server.InternalError", reason)
            for machine in (machines if isinstance(machines, list) else ())
            if isinstance(machine, dict)
            and isinstance(machine.get("id"), str)
            and isinstance(machine.get("order"), int)
        ]
        return self._reports.take("dead-letter", address.host, reports) if reports else None
