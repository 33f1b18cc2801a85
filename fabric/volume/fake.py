"""
A volume host that stores nothing, but keeps account of its volumes.

Its table is a file, so it survives the worker that drives it; and it can be
told to fail, to be slow, to hang or to lose an answer (L{fabric.rehearsal}).
The directory's file C{faults} is read while it runs.
"""

from __future__ import annotations

import os
from functools import partial

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from fabric.errors import NoCapacity, WrongState
from fabric.journal import Journal
from fabric.rehearsal import Rehearsal, rehearsed
from fabric.settings import Fake
from fabric.volume.interface import IVolumeDriver, VolumeOrder

VERBS = ("capacity_gb", "create", "delete", "volumes")
"""The methods that a rehearsal may spoil."""


@implementer(IVolumeDriver)
class FakeVolumes:
    """
    @ivar rehearsal: what goes wrong; L{Rehearsal.tell} it more.
    """

    def __init__(self, directory: str, clock: IReactorTime, options: Fake | None = None) -> None:
        """
        @param directory: where it keeps its table; made when need be.
        @param options: its room (C{disk_gb}) and its mishaps.
        @raise InvalidValue: a mishap means nothing.
        """
        self._options = options = options or Fake()
        self._journal = Journal(os.path.join(directory, "volumes"), VolumeOrder)
        self.rehearsal = Rehearsal(clock, VERBS, rehearsed(options, VERBS), os.path.join(directory, "faults"))

    def start(self) -> Deferred[None]:
        """See L{IVolumeDriver.start}."""
        return self.rehearsal.perform("start", "", self._journal.open)

    def stop(self) -> Deferred[None]:
        """See L{IVolumeDriver.stop}."""
        self._journal.close()
        return succeed(None)

    def capacity_gb(self) -> Deferred[int]:
        """See L{IVolumeDriver.capacity_gb}."""
        return self.rehearsal.perform("capacity_gb", "", lambda: self._options.disk_gb)

    def create(self, volume: VolumeOrder) -> Deferred[None]:
        """See L{IVolumeDriver.create}."""
        return self.rehearsal.perform("create", volume.id, partial(self._create, volume))

    def delete(self, id: str) -> Deferred[None]:
        """See L{IVolumeDriver.delete}."""
        return self.rehearsal.perform("delete", id, partial(self._journal.remove, id))

    def volumes(self) -> Deferred[list[VolumeOrder]]:
        """See L{IVolumeDriver.volumes}."""
        return self.rehearsal.perform("volumes", "", lambda: list(self._journal.rows.values()))

    def _create(self, volume: VolumeOrder) -> None:
        rows = self._journal.rows
        found = rows.get(volume.id)
        if found == volume:
            return
        if found is not None:
            wanted = [f"{volume.size_gb} GiB"]
            raise WrongState(kind="volume", id=volume.id, found=f"{found.size_gb} GiB", wanted=wanted)
        free = self._options.disk_gb - sum(row.size_gb for row in rows.values())
        if volume.size_gb > free:
            raise NoCapacity(reasons={"volumes": f"{free} GiB free, {volume.size_gb} wanted"})
        self._journal.put(volume.id, volume)
