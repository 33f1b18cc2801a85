"""
What operators do to guests, beside their users: pause and go on, put to disk and
resume, boot from a rescue disk, count what they use, read their consoles.

Users see none of it: such an instance is C{running}, whether its guest stands
still, is on disk or runs from another disk.  What its user orders is done to it as
ever: a stop, a reboot or a termination ends the condition (a reboot leaves a rescued
guest on its rescue disk), and what was in its memory is lost.  Only its host knows
the condition, and keeps it with the guest.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.cloud.instances import Console, Instances
from fabric.cloud.orders import Orders
from fabric.cloud.retry import until_written
from fabric.compute.interface import IComputeWorker
from fabric.errors import NotFound, WrongState
from fabric.model.instance import Instance
from fabric.rpc.interface import Address, Context, IQueue
from fabric.store.interface import IStore, Stored

SECONDS = 100.0
"""
How long a host may take.  It may go on for longer where memory is large or an image is fetched: asked
again, it says how that went.
"""


class Care:
    """
    Asks hosts, each verb of one instance of any project.  Each may be repeated,
    and raises:

     - L{NotFound}: no such instance;
     - L{WrongState}: it does not run, is being moved or rebooted, or its guest
       is not in a condition for it;
     - L{fabric.errors.DeadlineExceeded}: its host did not answer in time;
     - L{fabric.errors.DriverFailure}: it could not be done.
    """

    def __init__(self, store: IStore, queue: IQueue, orders: Orders, instances: Instances) -> None:
        self._store = store
        self._queue = queue
        self._orders = orders
        self._instances = instances

    @inlineCallbacks
    def pause(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        """
        Have the guest stand still, in its host's memory.
        """
        instance = (yield self._running(id)).record
        yield self._asked(instance, self._host(caller, instance).pause(id))

    @inlineCallbacks
    def unpause(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        """
        Have it go on.
        """
        instance = (yield self._running(id)).record
        yield self._asked(instance, self._host(caller, instance).unpause(id))

    @inlineCallbacks
    def suspend(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        """
        Have its memory on its host's disk, and its host's memory free; the
        room on the host is its own still.

        @raise WrongState: also when it has GPUs: what is in their memory can't
            be had.
        """
        instance = yield self._numbered(caller, id, without_gpus=True)
        yield self._asked(instance, self._host(caller, instance).suspend(id, instance.order))

    @inlineCallbacks
    def resume(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        """
        Have a suspended guest go on where it was.
        """
        instance = yield self._numbered(caller, id)
        yield self._asked(instance, self._host(caller, instance).resume(id, instance.order))

    @inlineCallbacks
    def rescue(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        """
        Boot it from a new disk of its image, its own disk as the second, to
        mend that.  It is stopped by force before.

        @raise WrongState: also when its root is a volume: that can be attached
            to another instance.
        """
        instance = yield self._numbered(caller, id, boots=True)
        machine = yield self._orders.described(instance)
        yield self._asked(instance, self._host(caller, instance).rescue(machine))

    @inlineCallbacks
    def unrescue(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        """
        Boot it from its own disk again.
        """
        instance = yield self._numbered(caller, id, boots=True)
        machine = yield self._orders.described(instance)
        yield self._asked(instance, self._host(caller, instance).unrescue(machine))

    @inlineCallbacks
    def statistics(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, dict[str, Any]]:
        """
        @return: what its guest used since it was booted, as
            L{fabric.compute.interface.Statistics}.
        """
        instance = (yield self._running(id)).record
        return (yield self._asked(instance, self._host(caller, instance).statistics(id)))  # type: ignore[no-any-return]

    @inlineCallbacks
    def console(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, Console]:
        """
        As L{Instances.console_output}, of any project's instance.
        """
        instance = (yield self._found(id)).record
        owner = attrs.evolve(caller, project=instance.project)
        return (yield self._instances.console_output(owner, id))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _numbered(
        self, caller: Caller, id: str, boots: bool = False, without_gpus: bool = False
    ) -> Generator[Deferred[Any], Any, Instance]:
        """
        @param boots: whether it is to be booted, which takes a disk of its own.
        @return: the instance with a new order's number, so that its host drops
            what was ordered before and comes late.
        """

        @inlineCallbacks
        def write() -> Generator[Deferred[Any], Any, Instance]:
            stored = yield self._running(id, numbered=True)
            if boots and stored.record.boots_volume:
                raise WrongState("instance", id, "booted from a volume", ["booted from its own disk"])
            if without_gpus and stored.record.flavor.gpus:
                raise WrongState("instance", id, "running with GPUs", ["running without GPUs"])
            order = stored.record.order + 1
            booted = order if boots else stored.record.booted
            ordered: Instance = attrs.evolve(stored.record, order=order, booted=booted)
            transaction = self._store.transaction(caller.request_id)
            transaction.update(stored, ordered)
            yield self._store.commit(transaction)
            return ordered

        return (yield until_written(write))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _running(self, id: str, numbered: bool = False) -> Generator[Deferred[Any], Any, Stored[Instance]]:
        stored = yield self._found(id)
        state = "being moved" if stored.record.migration else stored.record.state
        if numbered and stored.record.rebooting_since:
            state = "being rebooted"
        if state != "running":
            raise WrongState("instance", id, state, ["running"])
        return stored  # type: ignore[no-any-return]

    @inlineCallbacks
    def _found(self, id: str) -> Generator[Deferred[Any], Any, Stored[Instance]]:
        [stored] = yield self._store.read(Instance, [id])
        if stored is None:
            raise NotFound("instance", id)
        return stored  # type: ignore[no-any-return]

    def _host(self, caller: Caller, instance: Instance) -> Any:
        return self._queue.caller(
            IComputeWorker, Address("compute", instance.host), Context(caller.request_id, SECONDS)
        )

    @inlineCallbacks
    def _asked(self, instance: Instance, answer: Deferred[Any]) -> Generator[Deferred[Any], Any, Any]:
        try:
            return (yield answer)
        except NotFound:
            raise WrongState("instance", instance.id, "not on its host", ["running"]) from None
