"""
A volume host that stores nothing, but keeps account of its volumes.

Its tables are files, so they survive the worker that drives it; each volume has
a line of text for content, which snapshots copy and volumes of them begin with.
It can be told to fail, to be slow, to hang or to lose an answer
(L{fabric.rehearsal}).  The directory's file C{faults} is read while it runs.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from functools import partial

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from fabric.errors import DriverFailure, InUse, NoCapacity, NotFound, WrongState
from fabric.journal import Journal
from fabric.rehearsal import Rehearsal, rehearsed
from fabric.settings import Fake
from fabric.volume.interface import (
    HeldSnapshot,
    HeldVolume,
    Holdings,
    IVolumeDriver,
    SnapshotOrder,
    VolumeOrder,
)

VERBS = (
    *("capacity_gb", "describe", "create", "grow", "delete"),
    *("export", "unexport", "snapshot", "lend", "take", "drop_lent", "delete_snapshot"),
)
"""The methods that a rehearsal may spoil."""


@attrs.frozen
class Disk:
    """
    A volume or snapshot as the fake keeps it.

    @ivar content: what was written to it, in a word.
    @ivar exported_to, order: as of L{HeldVolume}.
    """

    id: str
    size_gb: int
    content: str = ""
    exported_to: str = ""
    order: int = 0


@implementer(IVolumeDriver)
class FakeVolumes:
    """
    @ivar rehearsal: what goes wrong; L{Rehearsal.tell} it more.
    @ivar clones: whether it can copy what a host has by itself.
    """

    clones = True

    def __init__(self, directory: str, clock: IReactorTime, options: Fake | None = None) -> None:
        """
        @param directory: where it keeps its tables; made when need be.
        @param options: its room (C{disk_gb}) and its mishaps.
        @raise InvalidValue: a mishap means nothing.
        """
        self._options = options = options or Fake()
        self._volumes = Journal(os.path.join(directory, "volumes"), Disk)
        self._snapshots = Journal(os.path.join(directory, "snapshots"), Disk)
        self._given: Counter[str] = Counter()
        self.lent: set[str] = set()
        self.rehearsal = Rehearsal(clock, VERBS, rehearsed(options, VERBS), os.path.join(directory, "faults"))

    def start(self) -> Deferred[None]:
        """See L{IVolumeDriver.start}."""
        return self.rehearsal.perform("start", "", self._open)

    def stop(self) -> Deferred[None]:
        """See L{IVolumeDriver.stop}."""
        self._volumes.close()
        self._snapshots.close()
        return succeed(None)

    def capacity_gb(self) -> Deferred[int]:
        """See L{IVolumeDriver.capacity_gb}."""
        return self.rehearsal.perform("capacity_gb", "", lambda: self._options.disk_gb)

    def describe(self) -> Deferred[Holdings]:
        """See L{IVolumeDriver.describe}."""
        return self.rehearsal.perform("describe", "", self._describe)

    def create(self, volume: VolumeOrder) -> Deferred[None]:
        """See L{IVolumeDriver.create}."""
        return self.rehearsal.perform("create", volume.id, partial(self._create, volume))

    def grow(self, volume: VolumeOrder) -> Deferred[None]:
        """See L{IVolumeDriver.grow}."""
        return self.rehearsal.perform("grow", volume.id, partial(self._grow, volume))

    def delete(self, id: str) -> Deferred[None]:
        """See L{IVolumeDriver.delete}."""
        return self.rehearsal.perform("delete", id, partial(self._volumes.remove, id))

    def export(self, id: str, host: str, order: int) -> Deferred[dict[str, str]]:
        """See L{IVolumeDriver.export}."""
        return self.rehearsal.perform("export", id, partial(self._export, id, host, order))

    def unexport(self, id: str, host: str, order: int) -> Deferred[None]:
        """See L{IVolumeDriver.unexport}."""
        return self.rehearsal.perform("unexport", id, partial(self._unexport, id, host, order))

    def snapshot(self, snapshot: SnapshotOrder) -> Deferred[None]:
        """See L{IVolumeDriver.snapshot}."""
        return self.rehearsal.perform("snapshot", snapshot.id, partial(self._snapshot, snapshot))

    def lend(self, snapshot: SnapshotOrder, size: int = 0) -> Deferred[dict[str, str]]:
        """See L{IVolumeDriver.lend}."""
        return self.rehearsal.perform("lend", snapshot.id, partial(self._lend, snapshot, size))

    def take(self, snapshot: SnapshotOrder, place: dict[str, str], copied: bool) -> Deferred[None]:
        """See L{IVolumeDriver.take}; the copy has what the volume has now."""
        return self.rehearsal.perform("take", snapshot.id, partial(self._take, snapshot, place, copied))

    def drop_lent(self, place: dict[str, str]) -> Deferred[None]:
        """See L{IVolumeDriver.drop_lent}."""
        return self.rehearsal.perform("drop_lent", place["path"], lambda: self.lent.discard(place["path"]))

    def delete_snapshot(self, id: str) -> Deferred[None]:
        """See L{IVolumeDriver.delete_snapshot}."""
        return self.rehearsal.perform("delete_snapshot", id, partial(self._snapshots.remove, id))

    def write(self, id: str, content: str) -> None:
        """What a guest does with a volume; for tests."""
        self._volumes.put(id, attrs.evolve(self._volumes.rows[id], content=content))

    def read(self, id: str) -> str:
        """What a guest finds on a volume; for tests."""
        return self._volumes.rows[id].content

    def _open(self) -> None:
        self._volumes.open()
        self._snapshots.open()

    def _describe(self) -> Holdings:
        return Holdings(
            tuple(HeldVolume(row.id, row.size_gb, row.exported_to, row.order) for row in self._volumes.rows.values()),
            tuple(HeldSnapshot(row.id, row.size_gb) for row in self._snapshots.rows.values()),
        )

    def _create(self, volume: VolumeOrder) -> None:
        found = self._volumes.rows.get(volume.id)
        if found is not None:
            if found.size_gb != volume.size_gb:
                wanted = [f"{volume.size_gb} GiB"]
                raise WrongState(kind="volume", id=volume.id, found=f"{found.size_gb} GiB", wanted=wanted)
            return
        content = self._found(self._snapshots, "snapshot", volume.snapshot).content if volume.snapshot else ""
        self._take_room(volume.size_gb)
        self._volumes.put(volume.id, Disk(volume.id, volume.size_gb, content))

    def _grow(self, volume: VolumeOrder) -> None:
        found = self._found(self._volumes, "volume", volume.id)
        if volume.size_gb > found.size_gb:
            self._take_room(volume.size_gb - found.size_gb)
            self._volumes.put(volume.id, attrs.evolve(found, size_gb=volume.size_gb))

    def _export(self, id: str, host: str, order: int) -> dict[str, str]:
        found = self._found(self._volumes, "volume", id)
        if order < found.order:
            raise WrongState(kind="volume", id=id, found=f"order {found.order}", wanted=[f"order {order}"])
        self._given[id] += 1
        if (found.exported_to, found.order) != (host, order):
            self._volumes.put(id, attrs.evolve(found, exported_to=host, order=order))
        return {"kind": "fake", "volume": id}

    def _unexport(self, id: str, host: str, order: int) -> None:
        found = self._volumes.rows.get(id)
        if found is None or order < found.order:
            return
        exported_to = "" if found.exported_to == host else found.exported_to
        self._volumes.put(id, attrs.evolve(found, exported_to=exported_to, order=order))

    def _lend(self, snapshot: SnapshotOrder, size: int) -> dict[str, str]:
        found = self._found(self._volumes, "volume", snapshot.volume)
        path = f"{snapshot.id}.{uuid.uuid4().hex}"
        self.lent.add(path)
        given = str(self._given[snapshot.volume])
        return {"kind": "fake", "path": path, "bytes": str(size or found.size_gb << 30), "given": given}

    def _take(self, snapshot: SnapshotOrder, place: dict[str, str], copied: bool) -> None:
        if not copied and place["given"] != str(self._given[snapshot.volume]):
            raise DriverFailure(what=f"{snapshot.volume} was given to a guest before it was copied")
        self._copy(snapshot)

    def _snapshot(self, snapshot: SnapshotOrder) -> None:
        volume = self._volumes.rows.get(snapshot.volume)
        holder = volume.exported_to if volume is not None and not snapshot.source else ""
        if holder and not self.clones and snapshot.id not in self._snapshots.rows:
            raise InUse(kind="volume", id=snapshot.volume, by=holder)
        self._copy(snapshot)

    def _copy(self, snapshot: SnapshotOrder) -> None:
        if snapshot.id in self._snapshots.rows:
            return
        if snapshot.source:
            original = self._found(self._snapshots, "snapshot", snapshot.source)
        else:
            original = self._found(self._volumes, "volume", snapshot.volume)
        self._take_room(original.size_gb)
        self._snapshots.put(snapshot.id, Disk(snapshot.id, original.size_gb, original.content))

    def _found(self, table: Journal[Disk], kind: str, id: str) -> Disk:
        row = table.rows.get(id)
        if row is None:
            raise NotFound(kind=kind, id=id)
        return row

    def _take_room(self, size_gb: int) -> None:
        used = sum(row.size_gb for table in (self._volumes, self._snapshots) for row in table.rows.values())
        free = self._options.disk_gb - used
        if size_gb > free:
            raise NoCapacity(reasons={"volumes": f"{free} GiB free, {size_gb} wanted"})
