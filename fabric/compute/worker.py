"""
The compute worker: carries out the orders to one host, and reports.

Every order may come twice, late or out of turn.  Orders to one machine are
carried out one after the other; one that is older than what was done is
dropped; one that was done is reported again.  A message is done with when its
reports are on their way, so what a crash interrupts comes again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.cloud.interface import ICloudWorker
from fabric.compute.answers import NOBODY, Answers
from fabric.compute.batches import Batches
from fabric.compute.captures import Captures
from fabric.compute.care import Care
from fabric.compute.disks import Disks
from fabric.compute.driver import IComputeDriver, IDomainWatcher
from fabric.compute.guestnews import GuestNews
from fabric.compute.interface import Domain, IComputeWorker, MachineOrder, MachineReport
from fabric.compute.machines import Machines
from fabric.compute.migrations import Migrations
from fabric.compute.once import Once
from fabric.compute.orders import Brief, addresses_of, network_orders, sentence
from fabric.compute.reporter import WAIT, Reporter
from fabric.compute.tries import DESTROY_TRIES, DRIVER_TROUBLE, NETWORK_AWAY, NETWORK_TRIES, Tries
from fabric.errors import DriverFailure, FabricError, NotFound, Unavailable
from fabric.faults import IFaults, NoFaults
from fabric.image.interface import IUploader
from fabric.model.codec import decode, encode
from fabric.network.interface import INetworkWorker
from fabric.rpc.interface import Address, Context, IQueue
from fabric.timeouts import in_time
from fabric.turns import Turn, Turns

INTERNAL = "Server.InternalError"

DRIVER_SECONDS = 300.0
"""How long a driver may take over one machine before it is held to have failed."""

TOGETHER = 1.0
"""Seconds for which a machine that is removed waits for others of its message, to be unplugged with them."""

Item = TypeVar("Item", bound="MachineOrder | Brief")


@implementer(IComputeWorker, IDomainWatcher)
class ComputeWorker(Answers):
    """
    See the module, and L{IComputeWorker} for the orders.
    """

    log = Logger()

    def __init__(
        self,
        host: str,
        driver: IComputeDriver,
        queue: IQueue,
        clock: IReactorTime,
        faults: IFaults | None = None,
        concurrency: int = 16,
        linger: float = 0.005,
        uploader: IUploader | None = None,
    ) -> None:
        """
        @param host: this host's name in the cloud.
        @param concurrency: how many machines the driver is given at once.
        @param linger: seconds for which a report waits for others.
        @param uploader: brings copies of disks to the object store.
        """
        self._host = host
        self._driver = driver
        self._queue = queue
        self._clock = clock
        self._faults = faults or NoFaults()
        self._slots = DeferredSemaphore(concurrency)
        self._turns = Turns(clock)
        self._tries = Tries(host, clock)
        self._machines = Machines()
        self._reporter = Reporter(host, queue, clock, linger)
        self._once = Once()
        self._news = GuestNews(host, driver, self._turns, self._machines, partial(self._report, context=NOBODY))
        self._disks = Disks(host, driver, queue, clock, self._faults, self._turns)
        self._captures = Captures(
            host, driver, queue, clock, self._faults, self._turns, self._machines, self._report, uploader
        )
        self._care = Care(driver, clock, self._turns, self._machines, self._disks, self._reporter)
        self._migrations = Migrations(
            host, driver, queue, clock, self._faults, self._turns, self._machines, self._reporter, self._disks
        )

    @inlineCallbacks
    def learn(self) -> Generator[Deferred[Any], Any, list[Domain]]:
        """
        Look what the driver has.  To be done before the first order: one that
        comes again must not seem to be the first to its machine.

        @return: fires with that.
        """
        changes = self._machines.changes
        domains = yield self._domains()
        # What changed under our eyes is not what the driver says any more.
        self._machines.refresh(domains, still=changes == self._machines.changes)
        self._captures.await_quiet(domains)
        return domains  # type: ignore[no-any-return]

    @inlineCallbacks
    def adopt(self) -> Generator[Deferred[Any], Any, None]:
        """
        Look what the driver has, and tell the controller.

        @return: fires when that is on its way.
        """
        domains = yield self.learn()
        cloud = self._queue.caster(ICloudWorker, Address("cloud"), Context(seconds=WAIT))
        yield cloud.adopt(self._host, [encode(domain) for domain in domains])

    def stop_reporting(self) -> None:
        """Give up on reports that could not be sent, and on what was to be done later; for a graceful stop's end."""
        self._reporter.stop()
        self._captures.stop()

    # Orders.

    @inlineCallbacks
    def run(self, machines: list[dict[str, Any]], context: Context = NOBODY) -> Generator[Deferred[Any], Any, None]:
        """See L{IComputeWorker.run}."""
        orders = [decode(MachineOrder, machine) for machine in machines]
        yield self._carry_out("run", orders, context, self._run)

    @inlineCallbacks
    def stop(
        self, machines: list[dict[str, Any]], force: bool, context: Context = NOBODY
    ) -> Generator[Deferred[Any], Any, None]:
        """See L{IComputeWorker.stop}."""

        def stop_one(order: Brief) -> Deferred[None]:
            return self._stop_one(order, force, context)

        def stop_all(orders: list[Brief], turn: Turn, context: Context) -> Deferred[None]:
            return self._each(orders, turn, stop_one)

        orders = [decode(Brief, machine) for machine in machines]
        yield self._carry_out("force" if force else "stop", orders, context, stop_all)

    @inlineCallbacks
    def reboot(
        self, machines: list[dict[str, Any]], hard: bool, context: Context = NOBODY
    ) -> Generator[Deferred[Any], Any, None]:
        """See L{IComputeWorker.reboot}."""

        def reboot_all(orders: list[MachineOrder], turn: Turn, context: Context) -> Deferred[None]:
            return self._run(orders, turn, context, hard)

        orders = [decode(MachineOrder, machine) for machine in machines]
        yield self._carry_out("reboot", orders, context, reboot_all)

    @inlineCallbacks
    def terminate(
        self, machines: list[dict[str, Any]], context: Context = NOBODY
    ) -> Generator[Deferred[Any], Any, None]:
        """See L{IComputeWorker.terminate}."""
        orders = [decode(Brief, machine) for machine in machines]
        yield self._carry_out("terminate", orders, context, self._terminate)

    def domain_changed(self, domain: Domain, reason: str, own: bool) -> None:
        """See L{IDomainWatcher.domain_changed}."""
        self._news.domain_changed(domain, reason, own)

    # How orders are carried out.

    @inlineCallbacks
    def _carry_out(
        self,
        verb: str,
        orders: list[Item],
        context: Context,
        act: Callable[[list[Item], Turn, Context], Deferred[None]],
    ) -> Generator[Deferred[Any], Any, None]:
        """
        When it is their turn, do what isn't outdated; then wait until the
        reports are sent.  Orders that are in hand already are dropped.
        """
        self._faults.reach("compute.received")
        with self._once.taken(orders, lambda order: (verb, order.id, order.order)) as fresh:
            if fresh:
                yield self._in_turn(fresh, context, act)
                yield self._reporter.confirmed()
        self._faults.reach("compute.reported")

    @inlineCallbacks
    def _in_turn(
        self, orders: list[Item], context: Context, act: Callable[[list[Item], Turn, Context], Deferred[None]]
    ) -> Generator[Deferred[Any], Any, None]:
        turn = self._turns.enter({order.id for order in orders})
        try:
            if turn.ready is not None:
                yield turn.ready
            if self._machines.expected([order.id for order in orders]):
                yield self._see_arrivals()
            yield act(orders, turn, context)
        finally:
            turn.leave_all()

    @inlineCallbacks
    def _see_arrivals(self) -> Generator[Deferred[Any], Any, None]:
        """
        What came from another host has a disk, and had orders there.

        @raise Unavailable: the driver does not tell; the order is to be repeated.
        """
        try:
            yield self.learn()
        except DriverFailure as error:
            raise Unavailable(service="the hypervisor", why=error.what) from error

    @inlineCallbacks
    def _run(
        self, orders: list[MachineOrder], turn: Turn, context: Context, hard: bool | None = None
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Bring machines up.

        @param hard: how to reboot those that are here; None to leave alone
            those that run.
        """
        wanted = [order for order in orders if self._wanted(order, context)]
        failure = yield self._attach(wanted, context)
        if failure is not None:
            yield self._not_attached(wanted, failure, context, hard is not None)
            return

        def bring_up(order: MachineOrder) -> Deferred[None]:
            return self._bring_up(order, hard, context)

        yield self._each(wanted, turn, bring_up)

    def _wanted(self, order: MachineOrder, context: Context) -> bool:
        """Whether it is still to be brought up; when that was done, it is reported again."""
        if self._outdated(order, context):
            return False
        done = self._machines.done(order.id, order.order)
        if done is None:
            return True
        self._report(done, context)
        return False

    def _outdated(self, order: MachineOrder | Brief, context: Context) -> bool:
        if not self._machines.outdated(order.id, order.order):
            return False
        self.log.info(
            "{request_id}: order {order} to {id} came after a newer one: dropped",
            request_id=context.request_id,
            order=order.order,
            id=order.id,
        )
        return True

    @inlineCallbacks
    def _attach(
        self, orders: Sequence[MachineOrder], context: Context
    ) -> Generator[Deferred[Any], Any, FabricError | None]:
        """
        Have the network made for all machines in one call.

        @return: why that could not be, None when it was.
        """
        networks, plugs = network_orders(orders)
        if plugs:
            remote = self._network(context)
            try:
                yield self._tries.run(NETWORK_TRIES, NETWORK_AWAY, lambda: remote.attach(networks, plugs))
            except FabricError as error:
                return error
        self._faults.reach("compute.attached")
        return None

    @inlineCallbacks
    def _not_attached(
        self, orders: Sequence[MachineOrder], error: FabricError, context: Context, rebooting: bool
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Nothing was begun with the driver: take away what there is of the network, and report.
        What was to be rebooted and runs, runs on.
        """
        fresh = [order.id for order in orders if self._machines.get(order.id) is None]
        unplugged = True
        try:
            yield self._network(context).detach(fresh)
        except FabricError:
            unplugged = False
        for order in orders:
            self._log_failure("connected", order, error, context)
            report = MachineReport(order.id, order.order, "failed", INTERNAL, sentence(error), addresses_of(order))
            here = self._machines.get(order.id)
            if rebooting and here is not None and here.state == "running":
                self._machines.remember(report)
                self._report(report, context)
                continue
            if rebooting:
                report = attrs.evolve(report, state="stopped")
            if unplugged and order.id in fresh:
                report = self._machines.ended(attrs.evolve(report, addresses=()))
            else:
                report = self._machines.failed(report)
            self._report(report, context)

    def _bring_up(self, order: MachineOrder, hard: bool | None, context: Context) -> Deferred[None]:
        if order.disks:
            work = self._disks.connected(order, context).addCallback(self._spawn, hard, context)
        else:
            work = maybeDeferred(self._spawn, order, hard, context)
        return in_time(work, DRIVER_SECONDS, self._clock).addCallbacks(
            self._is_up, self._not_up, callbackArgs=(order, context), errbackArgs=(order, context, hard is not None)
        )

    def _spawn(self, order: MachineOrder, hard: bool | None, context: Context) -> Deferred[None]:
        return self._driver.spawn(order) if hard is None else self._reboot(order, hard, context)

    @inlineCallbacks
    def _reboot(self, order: MachineOrder, hard: bool, context: Context) -> Generator[Deferred[Any], Any, None]:
        """Reboot what is here; bring up what isn't, and what a failed reboot left down."""
        try:
            yield in_time(self._driver.reboot(order.id, hard, order.order), DRIVER_SECONDS, self._clock)
        except FabricError as error:
            if not isinstance(error, NotFound):
                self._log_failure("rebooted", order, error, context)
            yield self._driver.spawn(order)

    def _is_up(self, result: None, order: MachineOrder, context: Context) -> None:
        self._faults.reach("compute.spawned")
        self._report(self._machines.runs(order.id, order.order, addresses_of(order)), context)
        if order.disks:
            self._disks.report_attached(order, context)

    @inlineCallbacks
    def _not_up(
        self, failure: Failure, order: MachineOrder, context: Context, rebooting: bool
    ) -> Generator[Deferred[Any], Any, None]:
        """Undo what was begun, but never a disk that was there before; and report."""
        message = sentence(failure.value)
        self._log_failure("brought up", order, failure.value, context)
        before = self._machines.get(order.id)
        # A running instance can't fail to start; it is one that stopped.
        state = "stopped" if rebooting else "failed"
        try:
            if before is not None:
                yield in_time(self._driver.shut_down(order.id, True, order.order), DRIVER_SECONDS, self._clock)
                report = self._machines.failed(
                    MachineReport(order.id, order.order, state, INTERNAL, message, before.addresses)
                )
            else:
                yield self._remove(order.id)
                yield self._network(context).detach([order.id])
                report = self._machines.ended(MachineReport(order.id, order.order, state, INTERNAL, message))
        except Exception as worse:
            self._log_failure("cleaned up after", order, worse, context)
            report = self._machines.failed(
                MachineReport(order.id, order.order, "failed", INTERNAL, message, addresses_of(order))
            )
        self._report(report, context)

    @inlineCallbacks
    def _stop_one(self, order: Brief, force: bool, context: Context) -> Generator[Deferred[Any], Any, None]:
        if self._outdated(order, context):
            return
        try:
            yield in_time(self._driver.shut_down(order.id, force, order.order), DRIVER_SECONDS, self._clock)
        except Exception as error:
            self._failed("stopped", order, error, context)
            return
        self._faults.reach("compute.stopped")
        self._report(self._machines.stopped(order.id, order.order), context)

    @inlineCallbacks
    def _terminate(self, orders: list[Brief], turn: Turn, context: Context) -> Generator[Deferred[Any], Any, None]:
        """Each is reported when it is gone, whatever becomes of the others."""
        removed = Batches(self._clock, TOGETHER, partial(self._unplug, turn=turn, context=context))

        @inlineCallbacks
        def remove(order: Brief) -> Generator[Deferred[Any], Any, None]:
            if order.order and self._machines.get(order.id) and self._outdated(order, context):
                return
            try:
                yield self._remove(order.id)
            except Exception as error:
                self._failed("removed", order, error, context)
                return
            self._faults.reach("compute.destroyed")
            yield self._disks.give_back(order.disks, context)
            removed.add(order)

        yield self._each(orders, None, remove)
        yield removed.finish()

    @inlineCallbacks
    def _unplug(self, removed: list[Brief], turn: Turn, context: Context) -> Generator[Deferred[Any], Any, None]:
        """Have their ports taken away in one call."""
        ids = [order.id for order in removed]
        try:
            yield self._tries.run(NETWORK_TRIES, NETWORK_AWAY, lambda: self._network(context).detach(ids))
        except FabricError as error:
            for order in removed:
                self._failed("unplugged", order, error, context)
            return
        self._faults.reach("compute.detached")
        for order in removed:
            self._report(self._machines.ended(MachineReport(order.id, order.order, "gone")), context)
            turn.leave(order.id)

    def _failed(self, what: str, order: Brief, error: Exception, context: Context) -> None:
        """Report that something which is here could not be changed."""
        self._log_failure(what, order, error, context)
        here = self._machines.get(order.id)
        addresses = here.addresses if here else ()
        self._report(MachineReport(order.id, order.order, "failed", INTERNAL, sentence(error), addresses), context)

    # Means.

    @inlineCallbacks
    def _each(
        self, orders: Sequence[Item], turn: Turn | None, act: Callable[[Item], Deferred[None]]
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Act on each, as many at once as may be, and leave its turn when done.
        C{act} deals with all errors by itself.
        """
        going: list[Deferred[None]] = []
        for order in orders:
            slot = self._slots.acquire()
            if not slot.called:
                yield slot
            done = act(order).addBoth(self._done, order, turn)
            # One whose cleaning up goes on is called, with a Deferred for a result.
            if not done.called or isinstance(done.result, (Failure, Deferred)):
                going.append(done)
        for done in going:
            yield done

    def _done(self, result: Any, order: MachineOrder | Brief, turn: Turn | None) -> Any:
        self._slots.release()
        if turn is not None:
            turn.leave(order.id)
        return result

    def _remove(self, id: str) -> Deferred[None]:
        def destroy() -> Deferred[None]:
            return in_time(self._driver.destroy(id), DRIVER_SECONDS, self._clock)

        return self._tries.run(DESTROY_TRIES, DRIVER_TROUBLE, destroy)

    def _network(self, context: Context) -> INetworkWorker:
        """The network worker of this host."""
        remote: INetworkWorker = self._queue.caller(
            INetworkWorker, Address("network", self._host), Context(context.request_id)
        )
        return remote

    def _report(self, report: MachineReport, context: Context) -> None:
        self._reporter.add(report, context.request_id)

    def _log_failure(
        self, what: str, order: MachineOrder | Brief, error: BaseException | None, context: Context
    ) -> None:
        names: dict[str, Any] = {"request_id": context.request_id, "id": order.id, "what": what, "error": error}
        self.log.warn("{request_id}: {id} could not be {what}: {error}", **names)
        if not isinstance(error, FabricError):
            self.log.failure("{request_id}: {id}", Failure(error), **names)
