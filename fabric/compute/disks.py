"""
The volumes of a host's machines: asked of the volume hosts, given to machines
and taken away.

The volume host gives each export a number and refuses an older one, so an order
that comes late can't take a volume from where it is by now.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from fabric.cloud.interface import ICloudWorker
from fabric.compute.copies import Copies
from fabric.compute.driver import IComputeDriver
from fabric.compute.interface import DiskOrder, DiskReport, MachineOrder
from fabric.compute.orders import sentence
from fabric.compute.reporter import WAIT
from fabric.errors import DeadlineExceeded, DriverFailure, FabricError, RemoteFailure, Unavailable, WrongState
from fabric.faults import IFaults
from fabric.model.codec import decode, encode
from fabric.rpc.interface import Address, Context, IQueue
from fabric.timeouts import in_time
from fabric.turns import Turns
from fabric.volume.interface import IVolumeWorker

EXPORT_SECONDS = 30.0
"""How long a volume host may take over one export."""

EXPORT_TRIES = (1.0, 3.0)
"""Seconds to wait before each further try to reach a volume host."""

TRANSIENT = (Unavailable, DeadlineExceeded, RemoteFailure)
"""Errors of a volume host that may be over when it is asked again."""

DRIVER_SECONDS = 120.0
"""How long a driver, or a guest, may take over one volume."""

REMEMBERED = 10_000
"""Volumes of which the last order, and the machine, is remembered."""


class Disks:
    """
    Carries out orders about volumes.
    """

    log = Logger()

    def __init__(
        self,
        host: str,
        driver: IComputeDriver,
        queue: IQueue,
        clock: IReactorTime,
        faults: IFaults,
        turns: Turns,
    ) -> None:
        self._host = host
        self._driver = driver
        self._queue = queue
        self._clock = clock
        self._faults = faults
        self._turns = turns
        self._last: OrderedDict[str, int] = OrderedDict()
        self._users: OrderedDict[str, str] = OrderedDict()
        self._copies = Copies(driver, turns, lambda volume: self._users.get(volume, ""))

    @inlineCallbacks
    def carry_out(
        self,
        disks: Iterable[dict[str, Any]],
        context: Context,
        act: Callable[[DiskOrder, Context], Deferred[DiskReport | None]],
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Do L{attach} or L{detach} for each order, one after the other, each in
        its machine's turn; then report.

        @raise Unavailable: the reports could not be sent; to be repeated.
        """
        reports = []
        for order in [decode(DiskOrder, disk) for disk in disks]:
            reports.append((yield self._turns.run(order.instance, partial(act, order, context))))
        yield self.report(reports, context)

    @inlineCallbacks
    def connected(self, machine: MachineOrder, context: Context) -> Generator[Deferred[Any], Any, MachineOrder]:
        """
        @return: the order with a connection for each of its volumes; without
            those that are elsewhere by now.
        @raise FabricError: a volume host does not give its volume, or the
            machine's root is elsewhere.
        """
        disks = []
        for disk in machine.disks:
            if self._outdated(disk, context):
                continue
            try:
                disks.append((yield self._export(disk, context)))
            except WrongState as error:
                self._elsewhere(disk, error, context)
        if machine.root_volume and machine.root_volume not in {disk.volume for disk in disks}:
            raise DriverFailure(what=f"its root volume {machine.root_volume} is not here any more")
        self._faults.reach("compute.disks_exported")
        return attrs.evolve(machine, disks=tuple(disks))

    @inlineCallbacks
    def attach(self, disk: DiskOrder, context: Context) -> Generator[Deferred[Any], Any, DiskReport | None]:
        """
        Have a machine have a volume.

        @return: what became of it; None for an order that came too late.
        """
        if self._outdated(disk, context):
            return None
        exported = False
        try:
            disk = yield self._export(disk, context)
            exported = True
            self._faults.reach("compute.exported")
            yield in_time(self._driver.attach_disk(disk), DRIVER_SECONDS, self._clock)
        except Exception as error:
            if isinstance(error, WrongState) and error.kind == "volume":
                self._elsewhere(disk, error, context)
                return None
            self._log_failure("attached to", disk, error, context)
            if exported or not (yield self._attached(disk)):
                return (yield self._undo(disk, error, context))  # type: ignore[no-any-return]
        self._faults.reach("compute.disk_attached")
        return DiskReport(disk.volume, disk.instance, disk.order, "attached")

    @inlineCallbacks
    def _attached(self, disk: DiskOrder) -> Generator[Deferred[Any], Any, bool]:
        """
        Whether the machine has it, as by an earlier copy of the same order.

        @raise Unavailable: the driver does not tell; the order is to be repeated.
        """
        try:
            domains = yield self._driver.domains()
        except DriverFailure as error:
            raise Unavailable(service="the hypervisor", why=error.what) from error
        return any(domain.id == disk.instance and disk.volume in domain.disks.values() for domain in domains)

    @inlineCallbacks
    def detach(self, disk: DiskOrder, context: Context) -> Generator[Deferred[Any], Any, DiskReport | None]:
        """
        Have a machine not have a volume any more.

        @return: as L{attach}.
        """
        if self._outdated(disk, context):
            return None
        try:
            yield in_time(self._driver.detach_disk(disk.instance, disk.volume, disk.force), DRIVER_SECONDS, self._clock)
        except Exception as error:
            self._log_failure("detached from", disk, error, context)
            return DiskReport(disk.volume, disk.instance, disk.order, "not_detached", sentence(error))
        self._faults.reach("compute.disk_detached")
        if disk.host:
            yield self._unexport(disk, context)
        return DiskReport(disk.volume, disk.instance, disk.order, "detached")

    def copy(self, volume: str, place: dict[str, str]) -> dict[str, str]:
        """See L{fabric.compute.interface.IComputeWorker.copy_disk}."""
        return self._copies.copy(volume, place)

    def give_back(self, disks: Iterable[DiskOrder], context: Context) -> Deferred[Any]:
        """
        Tell the volume hosts, all at once, that this host uses these no more;
        where one can't be told, its own look at what it has will find it.
        """
        return gatherResults([self._unexport(disk, context) for disk in disks])

    @inlineCallbacks
    def report(self, reports: Sequence[DiskReport | None], context: Context) -> Generator[Deferred[Any], Any, None]:
        """
        Tell the controller; None is nothing to tell.

        @raise Unavailable: it could not be sent.
        """
        told = [encode(report) for report in reports if report is not None]
        if told:
            cloud = self._queue.caster(ICloudWorker, Address("cloud"), Context(context.request_id, WAIT))
            yield cloud.report_disks(self._host, told)

    def report_attached(self, machine: MachineOrder, context: Context) -> None:
        """
        A machine was brought up with its volumes.  What can't be told now is
        asked for again by the controller's sweep.
        """
        reports = [DiskReport(disk.volume, machine.id, disk.order, "attached") for disk in machine.disks]
        self.report(reports, context).addErrback(lambda failure: self.log.warn("not told: {why}", why=failure.value))

    @inlineCallbacks
    def _undo(self, disk: DiskOrder, why: Exception, context: Context) -> Generator[Deferred[Any], Any, DiskReport]:
        """Leave nothing of an attachment that failed."""
        try:
            yield in_time(self._driver.detach_disk(disk.instance, disk.volume, True), DRIVER_SECONDS, self._clock)
        except Exception as worse:
            self._log_failure("cleaned up on", disk, worse, context)
            return DiskReport(disk.volume, disk.instance, disk.order, "not_detached", sentence(worse))
        yield self._unexport(disk, context)
        return DiskReport(disk.volume, disk.instance, disk.order, "not_attached", sentence(why))

    @inlineCallbacks
    def _export(self, disk: DiskOrder, context: Context) -> Generator[Deferred[Any], Any, DiskOrder]:
        self._users[disk.volume] = disk.instance
        self._users.move_to_end(disk.volume)
        if len(self._users) > REMEMBERED:
            self._users.popitem(last=False)
        for wait in (*EXPORT_TRIES, None):
            try:
                connection = yield self._remote(disk, context).export(disk.volume, self._host, disk.order)
                return attrs.evolve(disk, connection=connection)
            except TRANSIENT:
                if wait is None:
                    raise
            yield deferLater(self._clock, wait)
        raise AssertionError("not reached")

    @inlineCallbacks
    def _unexport(self, disk: DiskOrder, context: Context) -> Generator[Deferred[Any], Any, None]:
        try:
            yield self._remote(disk, context).unexport(disk.volume, self._host, disk.order)
        except FabricError as error:
            # The next export to another host ends this one, and the volume
            # host's next look at what it has does so sooner.
            self._log_failure("given back after", disk, error, context)

    def _remote(self, disk: DiskOrder, context: Context) -> IVolumeWorker:
        remote: IVolumeWorker = self._queue.caller(
            IVolumeWorker, Address("volume", disk.host), Context(context.request_id, EXPORT_SECONDS)
        )
        return remote

    def _outdated(self, disk: DiskOrder, context: Context) -> bool:
        last = self._last.get(disk.volume, 0)
        if disk.order and disk.order < last:
            self._elsewhere(disk, None, context)
            return True
        self._last[disk.volume] = max(last, disk.order)
        self._last.move_to_end(disk.volume)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        return False

    def _elsewhere(self, disk: DiskOrder, error: Exception | None, context: Context) -> None:
        self.log.info(
            "{request_id}: order {order} about {volume} came after a newer one: dropped {error}",
            request_id=context.request_id,
            order=disk.order,
            volume=disk.volume,
            error=error or "",
        )

    def _log_failure(self, what: str, disk: DiskOrder, error: Exception, context: Context) -> None:
        fields: dict[str, Any] = {"volume": disk.volume, "what": what, "id": disk.instance, "error": error}
        self.log.warn(
            "{request_id}: {volume} could not be {what} {id}: {error}", request_id=context.request_id, **fields
        )
