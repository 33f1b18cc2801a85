"""
Machines moved from one host to another: this host asks the other to make ready,
has the driver move the machine, and reports to the controller.

A machine is on exactly one of the two hosts whatever is lost or killed, and this
host finds out on which: so an order may come again at any time, and is answered
by what is the case.  Its number becomes the machine's when that is moved, and also
before it is said that it was not moved: so the order that comes again later, when the
machine is back or should stay, moves it no more.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.compute.disks import Disks
from fabric.compute.driver import IComputeDriver
from fabric.compute.interface import Domain, IComputeWorker, MachineOrder, MachineReport, MigrationOrder
from fabric.compute.machines import Machines
from fabric.compute.once import Once
from fabric.compute.orders import network_orders, sentence
from fabric.compute.reporter import Reporter
from fabric.errors import DriverFailure, FabricError, Unavailable
from fabric.faults import IFaults
from fabric.model.codec import decode, encode
from fabric.network.interface import INetworkWorker
from fabric.rpc.interface import Address, Context, IQueue
from fabric.timeouts import in_time
from fabric.turns import Turns

RECEIVE_SECONDS = 900.0
"""How long the other host may take to make ready: it may have to fetch an image."""

MOVE_SECONDS = 3600.0
"""How long the driver may take to move one machine."""

AT_ONCE = 4
"""
How many machines are moved at once: the driver is busy with each for minutes, and has to answer heartbeats and
other orders meanwhile.
"""

HELD = 32
"""How many orders wait at most: half as many as a worker is given messages."""

NUMBER_SECONDS = 300.0
"""How long the driver may take to give up a move, and to keep that it did."""

ASK_SECONDS = 5.0
"""How long the other host may take to say what it has; its machine's other orders wait meanwhile."""


class Migrations:
    """
    Carries out L{MigrationOrder}s, and makes ready for what comes.
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
        reporter: Reporter,
        disks: Disks,
    ) -> None:
        self._host = host
        self._driver = driver
        self._queue = queue
        self._clock = clock
        self._faults = faults
        self._turns = turns
        self._machines = machines
        self._reporter = reporter
        self._disks = disks
        self._slots = DeferredSemaphore(AT_ONCE)
        self._once = Once()

    @inlineCallbacks
    def carry_out(self, orders: list[dict[str, Any]], context: Context) -> Generator[Deferred[Any], Any, None]:
        """
        Move one after the other, each in its machine's turn.  An order that is
        in hand already is dropped, and so are those after L{HELD}: they come
        again, and must not take the place of orders of other kinds.
        """
        for order in [decode(MigrationOrder, each) for each in orders]:
            id = order.machine.id
            with self._once.taken([order], lambda order: order.machine.id, HELD) as fresh:
                if fresh:
                    yield self._slots.run(self._turns.run, id, partial(self._moved, order, context))
                else:
                    self.log.info("{request_id}: {id} is not moved yet", request_id=context.request_id, id=id)
        yield self._reporter.confirmed()
        self._faults.reach("compute.migration_reported")

    def receive(self, machine: dict[str, Any], context: Context) -> Deferred[dict[str, str]]:
        """
        Have network and driver ready for a machine that comes.  One that has
        volumes is stopped, and is given them when it is started here; they are
        exported to this host now, to know that they can be.

        @return: what the driver there needs to know.
        @raise FabricError: a volume host does not export to this one.
        """
        order = decode(MachineOrder, machine)
        return self._turns.run(order.id, partial(self._receive, order, context))

    def give_up(self, machine: str, order: int, context: Context) -> Deferred[None]:
        """
        Have nothing of a machine that did not come by an order; nothing when
        it did, or comes by a newer one.
        """
        return self._turns.run(machine, partial(self._give_up, machine, order, context))

    @inlineCallbacks
    def _receive(self, order: MachineOrder, context: Context) -> Generator[Deferred[Any], Any, dict[str, str]]:
        if order.disks:
            yield self._disks.connected(order, context)
            order = attrs.evolve(order, disks=())
        networks, plugs = network_orders([order])
        yield self._network(self._host, context).attach(networks, plugs)
        self._faults.reach("compute.receive_attached")
        self._machines.expect(order.id, order.order)
        connection = yield self._driver.receive(order)
        self._faults.reach("compute.received_machine")
        return connection  # type: ignore[no-any-return]

    @inlineCallbacks
    def _give_up(self, id: str, order: int, context: Context) -> Generator[Deferred[Any], Any, None]:
        domain = yield self._here(id)
        if self._machines.comes_later(id, order):
            return
        if domain is None or (domain.state != "running" and domain.order <= order):
            yield self._driver.destroy(id)
            yield self._network(self._host, context).detach([id])
            self._machines.forget(id)

    @inlineCallbacks
    def _moved(self, order: MigrationOrder, context: Context) -> Generator[Deferred[Any], Any, None]:
        """Move one, and note what became of it before its next order."""
        report = yield self._move(order, context)
        if report is not None:
            self._reporter.add(report, context.request_id)

    @inlineCallbacks
    def _move(self, order: MigrationOrder, context: Context) -> Generator[Deferred[Any], Any, MachineReport | None]:
        machine, there = order.machine, self._compute(order.destination, context, RECEIVE_SECONDS)
        why = ""
        try:
            domain = yield self._here(machine.id)
            if domain is not None and domain.order < order.order:
                connection = yield there.receive(encode(attrs.evolve(machine, order=order.order)))
                self._faults.reach("compute.migration_ready")
                moving = self._driver.migrate(machine.id, connection, order.order)
                yield in_time(moving, MOVE_SECONDS, self._clock)
                self._faults.reach("compute.migrated")
        except FabricError as error:
            why = sentence(error)
            self.log.warn(
                "{request_id}: {id} was not moved to {there}: {error}",
                request_id=context.request_id,
                id=machine.id,
                there=order.destination,
                error=error,
            )
        return (yield self._settled(order, why, context))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _settled(
        self, order: MigrationOrder, why: str, context: Context
    ) -> Generator[Deferred[Any], Any, MachineReport | None]:
        """
        Find out where the machine is, whatever was tried, and clean up where it is not.

        @return: None when it is not here and the other host does not say what
            it has: then nobody here knows until the order comes again.
        @raise Unavailable: the driver does not say whether it is here, or
            can't keep that it is not to be moved; to be repeated.
        """
        machine = order.machine
        if self._machines.comes_later(machine.id, order.order):  # back to here: what is ready for it stays
            return MachineReport(machine.id, order.order, "not_moved", message="it is moved by a newer order")
        there = self._compute(order.destination, context, ASK_SECONDS)
        if not (yield self._stays(order)):
            try:
                answer = yield there.describe_machines()
            except FabricError as error:
                self.log.warn(
                    "{there} does not say whether it has {id}: {error}",
                    there=order.destination,
                    id=machine.id,
                    error=error,
                )
                return None
            if any(each["id"] == machine.id for each in answer):
                yield self._network(self._host, context).detach([machine.id])
                yield self._disks.give_back(machine.disks, context)
                return self._machines.ended(MachineReport(machine.id, order.order, "moved"))
        try:
            yield there.give_up(machine.id, order.order)
        except FabricError as error:
            # What is left there is found when that host tells all that it has.
            self.log.info("{there} was not cleaned up: {error}", there=order.destination, error=error)
        return MachineReport(machine.id, order.order, "not_moved", message=why or "it is not to be moved any more")

    @inlineCallbacks
    def _stays(self, order: MigrationOrder) -> Generator[Deferred[Any], Any, bool]:
        """
        Have a machine that is still here not be moved by this order when that
        comes again.

        @return: whether it is here, when the driver has ended all that it did
            with it.
        """
        id = order.machine.id
        try:
            domain: Domain | None = yield self._here(id)
            if domain is None or domain.order >= order.order:
                return domain is not None
            yield in_time(self._driver.number(id, order.order), NUMBER_SECONDS, self._clock)
            domain = yield self._here(id)
        except DriverFailure as error:
            raise Unavailable(service="the hypervisor", why=error.what) from error
        if domain is not None:
            self._machines.put(attrs.evolve(self._machines.get(id) or domain, order=order.order))
        return domain is not None

    @inlineCallbacks
    def _here(self, id: str) -> Generator[Deferred[Any], Any, Domain | None]:
        domains = yield self._driver.domains()
        return next((domain for domain in domains if domain.id == id), None)

    def _compute(self, host: str, context: Context, seconds: float) -> Any:
        return self._queue.caller(IComputeWorker, Address("compute", host), Context(context.request_id, seconds))

    def _network(self, host: str, context: Context) -> Any:
        return self._queue.caller(INetworkWorker, Address("network", host), Context(context.request_id))
