"""
The volume worker: carries out the orders to one volume host, and reports.

Orders about one volume or snapshot are carried out one after the other.  Every
order may come twice or late; one that is older than what was done with its
volume is dropped.  A message is done with when its reports are confirmed, so
what a crash interrupts comes again.  But for snapshots that another host has to
copy: nobody's message waits for that, and the controller asks again for what is not
reported.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.cloud.interface import ICloudWorker
from fabric.errors import DriverFailure, FabricError, InUse
from fabric.faults import IFaults, NoFaults
from fabric.model.codec import decode, encode
from fabric.rpc.interface import Address, Context, IQueue
from fabric.timeouts import in_time
from fabric.turns import Turns
from fabric.volume.interface import (
    IVolumeDriver,
    IVolumeWorker,
    Named,
    SnapshotOrder,
    SnapshotReport,
    VolumeOrder,
    VolumeReport,
)
from fabric.volume.lending import Lending

NOBODY = Context()
"""The context of work that no message asked for."""

WAIT = 3600.0
"""Seconds for which a report may wait in the queue; hosts tell all that they have more often."""

DRIVER_SECONDS = 900.0
"""How long a driver may take over one volume before it is held to have failed."""

TRIES = (0.5, 2.0)
"""Seconds to wait before each further try."""

REMEMBERED = 10_000
"""Things that were deleted of which the last order is remembered."""

LENT = "lent"
"""Of a report that nobody is told: another host has to copy it."""

Order = TypeVar("Order", VolumeOrder, SnapshotOrder, Named)
Report = VolumeReport | SnapshotReport


@implementer(IVolumeWorker)
class VolumeWorker:
    """
    See the module, and L{IVolumeWorker} for the orders.
    """

    log = Logger()

    def __init__(
        self, host: str, driver: IVolumeDriver, queue: IQueue, clock: IReactorTime, faults: IFaults | None = None
    ) -> None:
        self._host = host
        self._driver = driver
        self._queue = queue
        self._clock = clock
        self._faults = faults or NoFaults()
        self._turns = Turns(clock)
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._in_hand: set[tuple[Any, Any]] = set()
        self._lending = Lending(driver, queue, clock)
        self._lent: set[str] = set()

    @inlineCallbacks
    def adopt(self) -> Generator[Deferred[Any], Any, None]:
        """
        Look what the driver has, and tell the controller.
        """
        holdings = yield self._driver.describe()
        yield self._cloud(NOBODY).adopt_volumes(self._host, encode(holdings))

    @inlineCallbacks
    def create(self, volumes: list[dict[str, Any]], context: Context = NOBODY) -> Generator[Deferred[Any], Any, None]:
        """See L{IVolumeWorker.create}."""
        orders = [decode(VolumeOrder, each) for each in volumes]
        reports = yield self._each(orders, context, self._create)
        yield self._report_volumes(reports, context)

    @inlineCallbacks
    def grow(self, volumes: list[dict[str, Any]], context: Context = NOBODY) -> Generator[Deferred[Any], Any, None]:
        """See L{IVolumeWorker.grow}."""
        orders = [decode(VolumeOrder, each) for each in volumes]
        reports = yield self._each(orders, context, self._grow)
        yield self._report_volumes(reports, context)

    @inlineCallbacks
    def delete(self, volumes: list[dict[str, Any]], context: Context = NOBODY) -> Generator[Deferred[Any], Any, None]:
        """See L{IVolumeWorker.delete}."""
        orders = [decode(Named, each) for each in volumes]
        reports = yield self._each(orders, context, self._delete)
        yield self._report_volumes(reports, context)

    @inlineCallbacks
    def snapshot(
        self, snapshots: list[dict[str, Any]], context: Context = NOBODY
    ) -> Generator[Deferred[Any], Any, None]:
        """See L{IVolumeWorker.snapshot}."""
        orders = [decode(SnapshotOrder, each) for each in snapshots]
        reports = yield self._each(orders, context, self._snapshot)
        for report in reports:
            if report.state == LENT:
                self._lend(next(order for order in orders if order.id == report.id), report.message, context)
        yield self._report_snapshots([report for report in reports if report.state != LENT], context)

    @inlineCallbacks
    def delete_snapshots(
        self, snapshots: list[dict[str, Any]], context: Context = NOBODY
    ) -> Generator[Deferred[Any], Any, None]:
        """See L{IVolumeWorker.delete_snapshots}."""
        orders = [decode(Named, each) for each in snapshots]
        reports = yield self._each(orders, context, self._delete_snapshot)
        yield self._report_snapshots(reports, context)

    @inlineCallbacks
    def export(
        self, id: str, host: str, order: int, context: Context = NOBODY
    ) -> Generator[Deferred[Any], Any, dict[str, str]]:
        """See L{IVolumeWorker.export}."""
        # Not in the volume's turn: a guest that starts does not wait for a copy of its volume.
        connection = yield in_time(self._driver.export(id, host, order), DRIVER_SECONDS, self._clock)
        self._faults.reach("volume.exported")
        self.log.info("{request_id}: {id} is for {host} now", request_id=context.request_id, id=id, host=host)
        return connection  # type: ignore[no-any-return]

    @inlineCallbacks
    def unexport(
        self, id: str, host: str, order: int, context: Context = NOBODY
    ) -> Generator[Deferred[Any], Any, None]:
        """See L{IVolumeWorker.unexport}."""
        yield in_time(self._driver.unexport(id, host, order), DRIVER_SECONDS, self._clock)
        self._faults.reach("volume.unexported")

    def describe(self, context: Context = NOBODY) -> Deferred[dict[str, Any]]:
        """See L{IVolumeWorker.describe}."""
        return self._driver.describe().addCallback(encode)

    # One order each: what is to be reported.

    @inlineCallbacks
    def _create(self, order: VolumeOrder) -> Generator[Deferred[Any], Any, VolumeReport]:
        try:
            yield self._trying(lambda: self._driver.create(order))
        except FabricError as error:
            return VolumeReport(order.id, order.order, "failed", message=_sentence(error))
        self._faults.reach("volume.created")
        return VolumeReport(order.id, order.order, "made", order.size_gb)

    @inlineCallbacks
    def _grow(self, order: VolumeOrder) -> Generator[Deferred[Any], Any, VolumeReport]:
        try:
            yield self._trying(lambda: self._driver.grow(order))
        except FabricError as error:
            return VolumeReport(order.id, order.order, "not_grown", message=_sentence(error))
        self._faults.reach("volume.grown")
        return VolumeReport(order.id, order.order, "made", order.size_gb)

    @inlineCallbacks
    def _delete(self, order: Named) -> Generator[Deferred[Any], Any, VolumeReport]:
        try:
            yield self._trying(lambda: self._driver.delete(order.id))
        except FabricError as error:
            return VolumeReport(order.id, order.order, "not_gone", message=_sentence(error))
        self._faults.reach("volume.deleted")
        self._remember(order)
        return VolumeReport(order.id, order.order, "gone")

    @inlineCallbacks
    def _snapshot(self, order: SnapshotOrder) -> Generator[Deferred[Any], Any, SnapshotReport]:
        try:
            yield self._trying(lambda: self._driver.snapshot(order))
        except InUse as error:
            return SnapshotReport(order.id, order.order, LENT, error.by)
        except FabricError as error:
            return SnapshotReport(order.id, order.order, "failed", _sentence(error))
        self._faults.reach("volume.snapshot_made")
        return SnapshotReport(order.id, order.order, "completed")

    def _lend(self, order: SnapshotOrder, host: str, context: Context) -> None:
        """Have a host copy what it has, once; what is reported then."""
        if order.id not in self._lent:
            self._lent.add(order.id)
            work = self._copied_by(order, host, context).addErrback(self._broken, order.id, context)
            work.addBoth(lambda _: self._lent.discard(order.id))

    @inlineCallbacks
    def _copied_by(self, order: SnapshotOrder, host: str, context: Context) -> Generator[Deferred[Any], Any, None]:
        report = SnapshotReport(order.id, order.order, "completed")
        try:
            if not (yield self._lending.made(order, host, partial(self._if_wanted, order), context)):
                return
        except FabricError as error:
            report = SnapshotReport(order.id, order.order, "failed", _sentence(error))
        self._faults.reach("volume.snapshot_made")
        yield self._report_snapshots([report], context)

    def _if_wanted(self, order: SnapshotOrder, work: Callable[[], Deferred[None]]) -> Deferred[bool]:
        """See L{fabric.volume.lending.InTurn}."""

        def act() -> Deferred[bool]:
            if order.order < self._gone.get(order.id, 0):
                return succeed(False)
            return work().addCallback(lambda _: True)

        return self._turns.run_all(_things(order), act)

    @inlineCallbacks
    def _delete_snapshot(self, order: Named) -> Generator[Deferred[Any], Any, SnapshotReport]:
        try:
            yield self._trying(lambda: self._driver.delete_snapshot(order.id))
        except FabricError as error:
            return SnapshotReport(order.id, order.order, "not_gone", _sentence(error))
        self._faults.reach("volume.snapshot_deleted")
        self._remember(order)
        return SnapshotReport(order.id, order.order, "gone")

    # Means.

    @inlineCallbacks
    def _each(
        self, orders: Iterable[Order], context: Context, act: Callable[[Order], Deferred[Any]]
    ) -> Generator[Deferred[Any], Any, list[Any]]:
        """
        All at once, each in its turn; those that broke unexpectedly are not
        reported, and asked for again.  One that is in hand already is left to
        the message that brought it: while a volume is copied its order comes
        again and again, and would keep the host from all others.
        """
        self._faults.reach("volume.received")
        going = []
        for order in orders:
            if (act, order) in self._in_hand:
                continue
            self._in_hand.add((act, order))
            work = self._turns.run_all(_things(order), partial(self._unless_gone, order, context, act))
            work.addBoth(self._out_of_hand, act, order)
            going.append(work.addErrback(self._broken, order.id, context))
        reports = []
        for work in going:
            report = yield work
            if report is not None:
                self.log.info(
                    "{request_id}: {id} is {state} {message}",
                    request_id=context.request_id,
                    id=report.id,
                    state=report.state,
                    message=report.message,
                )
                reports.append(report)
        return reports

    def _out_of_hand(self, result: Any, act: Any, order: Any) -> Any:
        self._in_hand.discard((act, order))
        return result

    def _unless_gone(self, order: Order, context: Context, act: Callable[[Order], Deferred[Any]]) -> Deferred[Any]:
        """Asked when its turn has come: what it waited for may have been the deletion."""
        if order.order < self._gone.get(order.id, 0):
            self.log.info("{request_id}: {id} was deleted since", request_id=context.request_id, id=order.id)
            return succeed(None)
        return act(order)

    def _broken(self, failure: Failure, id: str, context: Context) -> None:
        self.log.failure("{request_id}: {id}", failure, request_id=context.request_id, id=id)

    @inlineCallbacks
    def _report_volumes(self, reports: list[VolumeReport], context: Context) -> Generator[Deferred[Any], Any, None]:
        if reports:
            yield self._cloud(context).report_volumes(self._host, [encode(report) for report in reports])
        self._faults.reach("volume.reported")

    @inlineCallbacks
    def _report_snapshots(self, reports: list[SnapshotReport], context: Context) -> Generator[Deferred[Any], Any, None]:
        if reports:
            yield self._cloud(context).report_snapshots(self._host, [encode(report) for report in reports])
        self._faults.reach("volume.reported")

    def _cloud(self, context: Context) -> ICloudWorker:
        cloud: ICloudWorker = self._queue.caster(ICloudWorker, Address("cloud"), Context(context.request_id, WAIT))
        return cloud

    def _remember(self, order: Named) -> None:
        self._gone[order.id] = order.order
        self._gone.move_to_end(order.id)
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)

    @inlineCallbacks
    def _trying(self, act: Callable[[], Deferred[None]]) -> Generator[Deferred[Any], Any, None]:
        """Do what may be repeated, and repeat it where the tool under the driver failed."""
        for wait in TRIES:
            try:
                yield in_time(act(), DRIVER_SECONDS, self._clock)
                return
            except DriverFailure as error:
                self.log.info("{host}: again in {wait} s: {error}", host=self._host, wait=wait, error=error)
            yield deferLater(self._clock, wait)
        yield in_time(act(), DRIVER_SECONDS, self._clock)


def _things(order: VolumeOrder | SnapshotOrder | Named) -> tuple[str, ...]:
    """Whose turn it is: a snapshot is made in its volume's, too."""
    return (order.id, order.volume) if isinstance(order, SnapshotOrder) else (order.id,)


def _sentence(error: FabricError) -> str:
    return error.what if isinstance(error, DriverFailure) else str(error)
