"""
What operators do to a guest of this host: it stands still, is put to disk, goes on,
boots from a rescue disk, is counted.

Each is an order in its machine's turn.  Those with a number leave it with the
guest, so that an older order which comes late does not undo them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.compute.disks import Disks
from fabric.compute.driver import IComputeDriver
from fabric.compute.interface import Domain, MachineOrder
from fabric.compute.machines import Machines
from fabric.compute.orders import addresses_of, sentence
from fabric.compute.reporter import Reporter
from fabric.errors import FabricError, NotFound, WrongState
from fabric.model.codec import decode, encode
from fabric.rpc.interface import Context
from fabric.timeouts import in_time
from fabric.turns import Turns

INTERNAL = "Server.InternalError"

DRIVER_SECONDS = 300.0
"""How long the driver may take: it may have to write a guest's memory, or to fetch an image."""


class Care:
    """
    Carries them out; L{fabric.compute.interface.IComputeWorker} says what each
    means.
    """

    def __init__(
        self,
        driver: IComputeDriver,
        clock: IReactorTime,
        turns: Turns,
        machines: Machines,
        disks: Disks,
        reporter: Reporter,
    ) -> None:
        self._driver = driver
        self._clock = clock
        self._turns = turns
        self._machines = machines
        self._disks = disks
        self._reporter = reporter

    def pause(self, id: str) -> Deferred[None]:
        """Have it stand still."""
        return self._in_turn(id, lambda: self._driver.pause(id))

    def unpause(self, id: str) -> Deferred[None]:
        """Have it go on."""
        return self._in_turn(id, lambda: self._driver.unpause(id))

    def suspend(self, id: str, order: int) -> Deferred[None]:
        """Have its memory on disk."""
        suspended = {"state": "stopped", "condition": "suspended"}
        return self._in_turn(id, lambda: self._driver.suspend(id, order), order, suspended)

    def resume(self, id: str, order: int) -> Deferred[None]:
        """Have it go on from its memory on disk."""
        running = {"state": "running", "condition": ""}
        return self._in_turn(id, lambda: self._driver.resume(id, order), order, running)

    def rescue(self, machine: dict[str, Any], context: Context) -> Deferred[None]:
        """Have it run from a rescue disk."""
        return self._boot(machine, context, self._driver.rescue, "rescue")

    def unrescue(self, machine: dict[str, Any], context: Context) -> Deferred[None]:
        """Have it run from its own disk again."""
        return self._boot(machine, context, self._driver.unrescue, "")

    @inlineCallbacks
    def statistics(self, id: str) -> Generator[Deferred[Any], Any, dict[str, Any]]:
        """What it has used."""
        statistics = yield self._driver.statistics(id)
        return encode(statistics)

    def _boot(
        self,
        machine: dict[str, Any],
        context: Context,
        act: Callable[[MachineOrder], Deferred[None]],
        condition: str,
    ) -> Deferred[None]:
        order = decode(MachineOrder, machine)

        @inlineCallbacks
        def booted() -> Generator[Deferred[Any], Any, None]:
            yield act((yield self._disks.connected(order, context)))

        changes = {"state": "running", "condition": condition, "addresses": addresses_of(order)}
        return self._in_turn(order.id, booted, order.order, changes)

    def _in_turn(
        self, id: str, act: Callable[[], Deferred[None]], order: int = 0, changes: dict[str, Any] | None = None
    ) -> Deferred[None]:
        return self._turns.run(id, partial(self._act, id, act, order, changes))

    @inlineCallbacks
    def _act(
        self, id: str, act: Callable[[], Deferred[None]], order: int, changes: dict[str, Any] | None
    ) -> Generator[Deferred[Any], Any, None]:
        """
        @param order: the number that the machine has then; 0 for the one that
            it has.
        @param changes: how it is then.
        @raise WrongState: a newer order came before.
        """
        domain = yield self._here(id)
        if order and self._machines.outdated(id, order):
            raise WrongState("guest", id, "ordered otherwise meanwhile", [f"before order {order}"])
        try:
            yield in_time(act(), DRIVER_SECONDS, self._clock)
        except FabricError as error:
            yield self._look_after(id, order, error)
            raise
        if changes is not None:
            self._machines.put(attrs.evolve(domain, order=order, **changes))

    @inlineCallbacks
    def _look_after(self, id: str, order: int, error: FabricError) -> Generator[Deferred[Any], Any, None]:
        """Something failed; tell the controller if the guest does not run any more."""
        domains = yield self._driver.domains()
        domain = next((domain for domain in domains if domain.id == id), None)
        before = self._machines.get(id)
        if domain is None or before is None:
            return
        report = self._machines.put(domain)
        if before.state == "running" and domain.state != "running" and domain.condition != "suspended":
            after = max(order, domain.order)
            self._reporter.add(attrs.evolve(report, order=0, after=after, code=INTERNAL, message=sentence(error)), "")

    @inlineCallbacks
    def _here(self, id: str) -> Generator[Deferred[Any], Any, Domain]:
        found = self._machines.get(id)
        if found is None:
            domains = yield self._driver.domains()
            found = next((domain for domain in domains if domain.id == id), None)
        if found is None:
            raise NotFound("guest", id)
        return found
