"""
Machines' disks made into images: copied by the driver, and reported.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from fabric.cloud.interface import ICloudWorker
from fabric.compute.interface import CaptureOrder, IComputeDriver, ImageReport
from fabric.compute.orders import sentence, too_long
from fabric.compute.reporter import WAIT
from fabric.compute.turns import Turns
from fabric.errors import DriverFailure, FabricError
from fabric.faults import IFaults
from fabric.model.codec import decode, encode
from fabric.rpc.interface import Address, Context, IQueue

DRIVER_SECONDS = 1800.0
"""How long a driver may take over one disk."""

AGAIN = 1.0
"""Seconds until the second try."""


class Captures:
    """
    Carries out L{CaptureOrder}s.
    """

    def __init__(
        self, host: str, driver: IComputeDriver, queue: IQueue, clock: IReactorTime, faults: IFaults, turns: Turns
    ) -> None:
        self._host = host
        self._driver = driver
        self._queue = queue
        self._clock = clock
        self._faults = faults
        self._turns = turns

    @inlineCallbacks
    def carry_out(self, machines: Iterable[dict[str, Any]], context: Context) -> Generator[Deferred[Any], Any, None]:
        """
        Copy one after the other, each in its machine's turn; then report.

        @raise Unavailable: the reports could not be sent; to be repeated.
        """
        reports = []
        for order in [decode(CaptureOrder, machine) for machine in machines]:
            turn = self._turns.enter({order.id})
            try:
                if turn.ready is not None:
                    yield turn.ready
                reports.append((yield self._capture(order)))
            finally:
                turn.leave_all()
        self._faults.reach("compute.image_captured")
        cloud = self._queue.caster(ICloudWorker, Address("cloud"), Context(context.request_id, WAIT))
        yield cloud.report_images(self._host, [encode(report) for report in reports])

    @inlineCallbacks
    def _capture(self, order: CaptureOrder) -> Generator[Deferred[Any], Any, ImageReport]:
        """Try, and once more: what was copied is not copied again."""
        for pause in (AGAIN, 0.0):
            copying = self._driver.capture(order.id, order.image, order.restart)
            copying.addTimeout(DRIVER_SECONDS, self._clock, too_long)
            try:
                location = yield copying
                return ImageReport(order.image, "made", location)
            except FabricError as error:
                why = sentence(error)
                if not isinstance(error, DriverFailure):
                    break
            yield deferLater(self._clock, pause)
        return ImageReport(order.image, "failed", message=why)
