"""
Snapshots of volumes that guests write to, where the volume host can't copy these
by itself: it lends a place to the compute host, which copies the volume into it as
it is at one moment, and takes what is there.

That host is asked again and again how far it is, so that its answers come at once:
a copy may take as long as it needs, and whoever is killed meanwhile finds nothing
that waits for him.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from fabric.compute.interface import IComputeWorker
from fabric.errors import DeadlineExceeded, DriverFailure, InUse, RemoteFailure, Unavailable
from fabric.rpc.interface import Address, Context, IQueue
from fabric.volume.interface import IVolumeDriver, SnapshotOrder

COPY_SECONDS = 3300.0
"""How long all of it may take; the controller gives it up later than that."""

SILENT_SECONDS = 120.0
"""How long the compute host may not answer, as while it is started anew."""

ANSWER_SECONDS = 30.0
"""How long it may take over one answer."""

LOOKS = (0.3, 1.0, 2.0, 5.0)
"""Seconds until it is asked again how far it is; the last for good."""

PAUSES = (1.0, 5.0, 15.0, 30.0)
"""Seconds until a copy that failed is tried anew: its guest was stopped, or its volume given to another."""

InTurn = Callable[[Callable[[], Deferred[None]]], Deferred[bool]]
"""
Does something in the turn of a snapshot and its volume, unless the snapshot is
not wanted any more; fires with whether it was done.
"""

TRANSIENT = (Unavailable, DeadlineExceeded, RemoteFailure)


class Lending:
    """
    Has snapshots made of volumes that are in use.
    """

    log = Logger()

    def __init__(self, driver: IVolumeDriver, queue: IQueue, clock: IReactorTime) -> None:
        self._driver = driver
        self._queue = queue
        self._clock = clock

    @inlineCallbacks
    def made(
        self, order: SnapshotOrder, host: str, in_turn: InTurn, context: Context
    ) -> Generator[Deferred[Any], Any, bool]:
        """
        Have a snapshot.

        @param host: that has the volume.
        @return: whether it is there; False if it is not wanted any more.
        @raise FabricError: it could not be made.
        """
        ends = self._clock.seconds() + COPY_SECONDS
        for pause in (*PAUSES, None):
            try:
                return (yield self._lent(order, host, in_turn, ends, context))  # type: ignore[no-any-return]
            except DriverFailure as error:
                if pause is None or self._clock.seconds() + pause >= ends:
                    raise
                self.log.info("{id}: copied anew in {pause} s: {error}", id=order.id, pause=pause, error=error)
            yield deferLater(self._clock, pause)
            try:  # it may be nobody's by now, or another's
                return (yield in_turn(partial(self._driver.snapshot, order)))  # type: ignore[no-any-return]
            except InUse as error:
                host = error.by
        raise AssertionError("not reached")

    @inlineCallbacks
    def _lent(
        self, order: SnapshotOrder, host: str, in_turn: InTurn, ends: float, context: Context
    ) -> Generator[Deferred[Any], Any, bool]:
        """Lend a place, of the size that the guest sees, and take what is there then."""
        size = 0
        while True:
            place = yield self._driver.lend(order, size)
            try:
                answer = yield self._copied(order, host, place, ends, context)
                if answer["state"] != "size":
                    wanted = yield in_turn(partial(self._driver.take, order, place, answer["state"] == "copied"))
            except Exception:
                yield self._driver.drop_lent(place)
                raise
            yield self._driver.drop_lent(place)
            if answer["state"] != "size":
                return wanted  # type: ignore[no-any-return]
            size = int(answer["bytes"])

    @inlineCallbacks
    def _copied(
        self, order: SnapshotOrder, host: str, place: dict[str, str], ends: float, context: Context
    ) -> Generator[Deferred[Any], Any, dict[str, str]]:
        """Have the compute host copy, and wait for that."""
        address = Address("compute", host)
        remote: IComputeWorker = self._queue.caller(
            IComputeWorker, address, Context(context.request_id, ANSWER_SECONDS)
        )
        heard, looks = self._clock.seconds(), list(LOOKS)
        while True:
            try:
                answer = yield remote.copy_disk(order.volume, place)
                heard = self._clock.seconds()
                if answer["state"] != "copying":
                    return answer  # type: ignore[no-any-return]
            except TRANSIENT as error:
                if self._clock.seconds() - heard > SILENT_SECONDS:
                    raise DriverFailure(what=f"{host}, which has {order.volume}, does not copy it: {error}") from error
            if self._clock.seconds() >= ends:
                raise DriverFailure(what=f"{order.volume} was not copied within {COPY_SECONDS:g} s")
            yield deferLater(self._clock, looks.pop(0) if len(looks) > 1 else looks[0])
