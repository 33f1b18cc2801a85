"""
Machines' disks made into images: copied by the driver, and reported.

A machine that boots from a volume has no disk to copy: it is stopped, its
volumes' hosts are asked for snapshots, and it is started again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore, inlineCallbacks
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from fabric.cloud.interface import ICloudWorker
from fabric.compute.disks import TRANSIENT
from fabric.compute.driver import IComputeDriver
from fabric.compute.interface import Domain, MachineReport
from fabric.compute.machines import Machines
from fabric.compute.once import Once
from fabric.compute.orders import sentence
from fabric.compute.reporter import WAIT
from fabric.errors import DriverFailure, FabricError, Unavailable
from fabric.faults import IFaults
from fabric.image.interface import CaptureOrder, IKeepsCaptures, ImageReport, IUploader
from fabric.model.codec import decode, encode
from fabric.rpc.interface import Address, Context, IQueue
from fabric.timeouts import in_time
from fabric.turns import Turns
from fabric.volume.interface import AwaitedSnapshot, IVolumeWorker

DRIVER_SECONDS = 1800.0
"""How long a driver may take over one disk."""

AT_ONCE = 4
"""
How many disks are copied at once: the driver is busy with each for minutes, and has to answer heartbeats and other
orders meanwhile.
"""

QUIET_SECONDS = 300.0
"""How long a driver may take to stop a machine, and to start it."""

SNAPSHOT_SECONDS = 120.0
"""How long a volume host may take over one snapshot while the machine waits."""

INTERNAL = "Server.InternalError"

REMEMBERED = 1000
"""Images of which the last report is remembered."""

AGAIN = 1.0
"""Seconds until the second try."""


class Captures:
    """
    Carries out L{CaptureOrder}s.
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
        machines: Machines,
        tell: Callable[[MachineReport, Context], None],
        uploader: IUploader | None = None,
    ) -> None:
        """
        @param tell: takes what is to be reported of a machine.
        @param uploader: brings copies to the object store; without one they
            stay here.
        """
        self._uploader = uploader
        self._machines = machines
        self._tell = tell
        self._made: OrderedDict[str, ImageReport] = OrderedDict()
        self._host = host
        self._driver = driver
        self._queue = queue
        self._clock = clock
        self._faults = faults
        self._turns = turns
        self._slots = DeferredSemaphore(AT_ONCE)
        self._once = Once()
        self._alarms: dict[str, IDelayedCall] = {}

    def await_quiet(self, domains: Iterable[Domain]) -> None:
        """
        Have those that are quiet woken when it is time: the process that had
        them so may be no more, and its order may not come again.
        """
        for domain in domains:
            if domain.quiet_until and domain.id not in self._alarms:
                wait = max(0.0, domain.quiet_until - self._clock.seconds())
                self._alarms[domain.id] = self._clock.callLater(wait, self._due, domain.id)

    def stop(self) -> None:
        """Wake nobody any more."""
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()

    def _due(self, id: str) -> None:
        del self._alarms[id]
        late = self._turns.run(id, partial(self._wake_late, id))
        late.addErrback(lambda failure: self.log.failure("{id} was not woken", failure, id=id))

    @inlineCallbacks
    def _wake_late(self, id: str) -> Generator[Deferred[Any], Any, None]:
        """In its turn: an order that is carried out wakes it at its end."""
        domains = yield self._driver.domains()
        found = next((domain for domain in domains if domain.id == id), None)
        if found is not None and found.quiet_until > self._clock.seconds():
            self.await_quiet([found])
        elif found is not None and found.quiet_until:
            yield self._started_again(found, Context())

    @inlineCallbacks
    def carry_out(self, machines: Iterable[dict[str, Any]], context: Context) -> Generator[Deferred[Any], Any, None]:
        """
        Copy one after the other, each in its machine's turn; then report.  An
        order that is in hand already is dropped: it will be reported.

        @raise Unavailable: the reports could not be sent; to be repeated.
        """
        orders = [decode(CaptureOrder, machine) for machine in machines]
        with self._once.taken(orders, lambda order: order.image) as fresh:
            yield self._carry_out(fresh, context)

    @inlineCallbacks
    def _carry_out(self, orders: list[CaptureOrder], context: Context) -> Generator[Deferred[Any], Any, None]:
        reports: list[ImageReport] = []
        for order in orders:
            if order.copies:
                report = yield self._turns.run(order.id, partial(self._quieted, order, context))
            else:
                report = yield self._slots.run(self._turns.run, order.id, partial(self._capture, order))
            reports.append(report)
        self._faults.reach("compute.image_captured")
        for number, order in enumerate(orders):
            reports[number] = yield self._brought(order, reports[number], context)
        reports = [report for report in reports if report.state != "here"]
        if not reports:
            return
        cloud = self._queue.caster(ICloudWorker, Address("cloud"), Context(context.request_id, WAIT))
        yield cloud.report_images(self._host, [encode(report) for report in reports])
        for report in reports:
            if (report.receipt or report.state == "failed") and IKeepsCaptures.providedBy(self._driver):
                yield IKeepsCaptures(self._driver).drop_captured(report.image)

    @inlineCallbacks
    def _brought(
        self, order: CaptureOrder, report: ImageReport, context: Context
    ) -> Generator[Deferred[Any], Any, ImageReport]:
        """
        Have the copy in the object store, too, where it can be.  The machine
        need not wait for that.

        @return: in state C{here} when the object store is away: then nothing is
            reported, and the order comes again.
        """
        wanted = order.upload and report.state == "made" and not order.copies
        if self._uploader is None or not wanted or not IKeepsCaptures.providedBy(self._driver):
            return report
        try:
            path = yield IKeepsCaptures(self._driver).captured_file(order.image)
            uploading = self._uploader.upload(order.upload, path)
            receipt = yield in_time(uploading, DRIVER_SECONDS, self._clock, "the object store")
        except Unavailable as error:
            self.log.warn(
                "{request_id}: {image} stays here: {error}",
                request_id=context.request_id,
                image=order.image,
                error=error,
            )
            return attrs.evolve(report, state="here")
        except FabricError as error:
            return ImageReport(order.image, "failed", message=sentence(error))
        return attrs.evolve(report, receipt=receipt)

    @inlineCallbacks
    def _quieted(self, order: CaptureOrder, context: Context) -> Generator[Deferred[Any], Any, ImageReport]:
        """
        Have snapshots made while the machine does not run.  What was done is
        reported again, as long as this process remembers.
        """
        if order.image in self._made:
            return self._made[order.image]
        machine = self._machines.get(order.id)
        running = machine is not None and (machine.state == "running" or machine.quiet_until > 0)
        report = ImageReport(order.image, "made")
        try:
            if running:
                yield self._quiet(order.id)
            self._faults.reach("compute.image_quiet")
            for copy in order.copies:
                yield self._copy(order.id, copy, context)
        except FabricError as error:
            self.log.warn(
                "{request_id}: {id} was not copied into {image}: {error}",
                request_id=context.request_id,
                id=order.id,
                image=order.image,
                error=error,
            )
            report = ImageReport(order.image, "failed", message=sentence(error))
        except Exception:
            if machine is not None and running:
                yield self._started_again(machine, context)
            raise
        if machine is not None and running:
            yield self._started_again(machine, context)
        self._made[order.image] = report
        if len(self._made) > REMEMBERED:
            self._made.popitem(last=False)
        return report

    @inlineCallbacks
    def _copy(self, id: str, copy: AwaitedSnapshot, context: Context) -> Generator[Deferred[Any], Any, None]:
        """Ask for a snapshot, and once more where the volume host is not there: it is made once."""
        try:
            yield self._ask(id, copy, context)
        except TRANSIENT:
            yield deferLater(self._clock, AGAIN)
            yield self._ask(id, copy, context)

    @inlineCallbacks
    def _ask(self, id: str, copy: AwaitedSnapshot, context: Context) -> Generator[Deferred[Any], Any, None]:
        """
        The machine is not started again before there is an answer, or the time
        for that is over, whoever starts it.
        """
        yield self._quiet(id)
        address = Address("volume", copy.host)
        remote: IVolumeWorker = self._queue.caller(
            IVolumeWorker, address, Context(context.request_id, SNAPSHOT_SECONDS)
        )
        yield remote.snapshot([encode(copy.snapshot)])

    def _quiet(self, id: str) -> Deferred[None]:
        """Have one that runs be quiet, or for longer; nothing to one that is stopped."""
        until = self._clock.seconds() + SNAPSHOT_SECONDS
        return in_time(self._driver.quiet(id, until), QUIET_SECONDS, self._clock)

    @inlineCallbacks
    def _started_again(self, machine: Domain, context: Context) -> Generator[Deferred[Any], Any, None]:
        """Start it, and once more; one that does not come up is reported as stopped."""
        for pause in (AGAIN, 0.0):
            try:
                yield in_time(self._driver.wake(machine.id), QUIET_SECONDS, self._clock)
                self._machines.put(attrs.evolve(machine, state="running", quiet_until=0.0))
                return
            except FabricError as error:
                why = sentence(error)
            yield deferLater(self._clock, pause)
        yield self._given_up(machine)
        stopped = MachineReport(machine.id, machine.order, "stopped", INTERNAL, why, machine.addresses)
        self._machines.put(attrs.evolve(machine, state="stopped", quiet_until=0.0))
        self._tell(stopped, context)

    @inlineCallbacks
    def _given_up(self, machine: Domain) -> Generator[Deferred[Any], Any, None]:
        """Have it not be quiet any more, for then it would be woken later."""
        try:
            yield in_time(self._driver.shut_down(machine.id, True, machine.order), QUIET_SECONDS, self._clock)
        except FabricError as error:
            self.log.warn("{id} stays quiet: {error}", id=machine.id, error=error)

    @inlineCallbacks
    def _capture(self, order: CaptureOrder) -> Generator[Deferred[Any], Any, ImageReport]:
        """Try, and once more: what was copied is not copied again."""
        for pause in (AGAIN, 0.0):
            copying = self._driver.capture(order.id, order.image, order.restart)
            in_time(copying, DRIVER_SECONDS, self._clock)
            try:
                location = yield copying
                return ImageReport(order.image, "made", location)
            except FabricError as error:
                why = sentence(error)
                if not isinstance(error, DriverFailure):
                    break
            yield deferLater(self._clock, pause)
        return ImageReport(order.image, "failed", message=why)
