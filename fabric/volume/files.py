"""
Volumes that are files on this host, for its own guests and those of hosts that share its files.

Raw and sparse, so that a volume takes the room that was written to, and reads as
zeros where nobody wrote.  A snapshot is a copy: where the file system can clone
(XFS, Btrfs) it takes no time and no room, and is of one moment also while a guest
writes; elsewhere only a volume that no guest has can be copied.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from fabric.command import Commands
from fabric.errors import DriverFailure, NoCapacity, NotFound, WrongState
from fabric.journal import Journal
from fabric.turns import Turns
from fabric.volume.interface import HeldSnapshot, HeldVolume, Holdings, IVolumeDriver, SnapshotOrder, VolumeOrder

GIB = 1 << 30

AT_ONCE = 2
"""How many files are copied at once: more would not be faster on one disk."""

UNFINISHED = ".new"
"""How a file ends that is being made; start-up removes it."""


@attrs.frozen
class Export:
    """
    Who has a volume.

    @ivar exported_to, order: as of L{HeldVolume}.
    """

    exported_to: str = ""
    order: int = 0


@implementer(IVolumeDriver)
class FileVolumes:
    """
    See the module.  Copies are made by C{cp}, and what is answered for is on
    the disk, by C{sync}; all else takes microseconds.
    """

    def __init__(
        self,
        directory: str,
        hosts: Collection[str],
        commands: Commands,
        clock: IReactorTime,
        capacity_gb: int = 0,
    ) -> None:
        """
        @param directory: where the files are; made when need be.
        @param hosts: names in the cloud of those that have this directory at
            this path: this host, and others by a file system that they share.
        @param commands: with time enough to copy a volume.
        @param capacity_gb: what volumes and snapshots may promise in all; 0
            for the size of the file system.
        """
        self._volumes = os.path.join(directory, "volumes")
        self._snapshots = os.path.join(directory, "snapshots")
        self._table = os.path.join(directory, "exports")
        self._exports = Journal(self._table, Export, lasting=True)
        self._hosts = hosts
        self._commands = commands
        self._capacity_gb = capacity_gb
        self._turns = Turns(clock)
        self._slots = DeferredSemaphore(AT_ONCE)
        self._coming: dict[str, int] = {}
        self._copied: set[str] = set()

    def start(self) -> Deferred[None]:
        """See L{IVolumeDriver.start}."""
        return maybeDeferred(self._open)

    def stop(self) -> Deferred[None]:
        """See L{IVolumeDriver.stop}."""
        return maybeDeferred(self._exports.close)

    def capacity_gb(self) -> Deferred[int]:
        """See L{IVolumeDriver.capacity_gb}."""
        return maybeDeferred(self._room)

    def describe(self) -> Deferred[Holdings]:
        """See L{IVolumeDriver.describe}."""
        return maybeDeferred(self._describe)

    def create(self, volume: VolumeOrder) -> Deferred[None]:
        """See L{IVolumeDriver.create}."""
        return self._in_turn((volume.id, volume.snapshot), self._create, volume)

    def grow(self, volume: VolumeOrder) -> Deferred[None]:
        """
        See L{IVolumeDriver.grow}.  A guest that has it sees the new size when
        it is started anew.
        """
        return self._in_turn((volume.id,), self._grow, volume)

    def delete(self, id: str) -> Deferred[None]:
        """See L{IVolumeDriver.delete}."""
        return self._in_turn((id,), self._delete, id)

    def export(self, id: str, host: str, order: int) -> Deferred[dict[str, str]]:
        """
        See L{IVolumeDriver.export}.

        @raise DriverFailure: to a host that can't reach the files, or while
            the volume is copied as one that nobody writes to.
        """
        return maybeDeferred(self._export, id, host, order)

    def unexport(self, id: str, host: str, order: int) -> Deferred[None]:
        """See L{IVolumeDriver.unexport}."""
        return maybeDeferred(self._unexport, id, host, order)

    def snapshot(self, snapshot: SnapshotOrder) -> Deferred[None]:
        """
        See L{IVolumeDriver.snapshot}.

        @raise DriverFailure: a guest has the volume, and the file system
            can't clone files.
        """
        return self._in_turn((snapshot.id, snapshot.source or snapshot.volume), self._snapshot, snapshot)

    def delete_snapshot(self, id: str) -> Deferred[None]:
        """See L{IVolumeDriver.delete_snapshot}."""
        return self._in_turn((id,), _unlink, os.path.join(self._snapshots, id))

    def _in_turn(self, ids: Iterable[str], work: Callable[..., Any], *arguments: Any) -> Deferred[None]:
        """
        One by one for each file: what is copied stays meanwhile.  Cancelled, it
        is not begun, or goes on to its end in its turn: a copy that nobody
        waits for may still be written.
        """
        answer: Deferred[None] = Deferred()
        wanted = partial(maybeDeferred, lambda: None if answer.called else work(*arguments))
        self._turns.run_all({*ids} - {""}, wanted).addBoth(answer.callback)
        return answer

    def _open(self) -> None:
        for directory in (self._volumes, self._snapshots):
            os.makedirs(directory, mode=0o711, exist_ok=True)
            for name in os.listdir(directory):
                if name.endswith(UNFINISHED):
                    _unlink(os.path.join(directory, name))
        self._exports.open()

    def _describe(self) -> Holdings:
        return Holdings(
            tuple(self._held(id, size_gb) for id, size_gb in _sizes(self._volumes).items()),
            tuple(HeldSnapshot(id, size_gb) for id, size_gb in _sizes(self._snapshots).items()),
        )

    def _held(self, id: str, size_gb: int) -> HeldVolume:
        export = self._exports.rows.get(id, Export())
        return HeldVolume(id, size_gb, export.exported_to, export.order)

    @inlineCallbacks
    def _create(self, volume: VolumeOrder) -> Generator[Deferred[Any], Any, None]:
        path = os.path.join(self._volumes, volume.id)
        found = _sizes(self._volumes).get(volume.id)
        if found == volume.size_gb:
            return
        if found is not None:
            raise WrongState(kind="volume", id=volume.id, found=f"{found} GiB", wanted=[f"{volume.size_gb} GiB"])
        source = self._there(self._snapshots, "snapshot", volume.snapshot) if volume.snapshot else ""
        self._exports.remove(volume.id)
        with self._room_for(path, volume.size_gb):
            if source:
                yield self._copy(source, path + UNFINISHED, "auto")
            _resize(path + UNFINISHED, volume.size_gb)
            yield self._finish(path)

    @inlineCallbacks
    def _grow(self, volume: VolumeOrder) -> Generator[Deferred[Any], Any, None]:
        path = self._there(self._volumes, "volume", volume.id)
        missing = volume.size_gb - _sizes(self._volumes)[volume.id]
        if missing > 0:
            self._take_room(missing)
            _resize(path, volume.size_gb)
        yield self._sync(path)

    def _delete(self, id: str) -> None:
        _unlink(os.path.join(self._volumes, id))
        self._exports.remove(id)

    @inlineCallbacks
    def _export(self, id: str, host: str, order: int) -> Generator[Deferred[Any], Any, dict[str, str]]:
        path = self._there(self._volumes, "volume", id)
        found = self._exports.rows.get(id, Export())
        if order < found.order:
            raise WrongState(kind="volume", id=id, found=f"order {found.order}", wanted=[f"order {order}"])
        if id in self._copied:
            raise DriverFailure(what=f"{id} is being copied, which ends before a guest may write to it")
        if host not in self._hosts:
            raise DriverFailure(what=f"volumes are files on {', '.join(self._hosts)}, which {host} can't reach")
        self._exports.put(id, Export(host, order))
        yield self._sync(self._table)
        return {"kind": "file", "path": path}

    @inlineCallbacks
    def _unexport(self, id: str, host: str, order: int) -> Generator[Deferred[Any], Any, None]:
        found = self._exports.rows.get(id, Export())
        if id in _sizes(self._volumes) and order >= found.order:
            self._exports.put(id, Export("" if found.exported_to == host else found.exported_to, order))
            yield self._sync(self._table)

    @inlineCallbacks
    def _snapshot(self, snapshot: SnapshotOrder) -> Generator[Deferred[Any], Any, None]:
        path = os.path.join(self._snapshots, snapshot.id)
        if os.path.exists(path):
            return
        if snapshot.source:
            source = self._there(self._snapshots, "snapshot", snapshot.source)
        else:
            source = self._there(self._volumes, "volume", snapshot.volume)
        in_use = not snapshot.source and bool(self._exports.rows.get(snapshot.volume, Export()).exported_to)
        with self._room_for(path, os.path.getsize(source) // GIB):
            quiet = set() if in_use or snapshot.source else {snapshot.volume}
            self._copied |= quiet
            try:
                yield self._copy(source, path + UNFINISHED, "always" if in_use else "auto")
            finally:
                self._copied -= quiet
            yield self._finish(path)

    @inlineCallbacks
    def _copy(self, source: str, target: str, clone: str) -> Generator[Deferred[Any], Any, None]:
        """
        @param clone: C{always} for a copy of one moment, or none.
        """
        command = ["cp", "--sparse=auto", f"--reflink={clone}", source, target]
        finished = yield self._slots.run(self._commands.run, command)
        if finished.status == 0:
            return
        _unlink(target)
        why = finished.complaint or "not done in time"
        if clone == "always":
            why = f"a guest has it, and the file system did not clone it: detach it first ({why})"
        raise DriverFailure(what=f"copy {os.path.basename(source)}: {why}")

    @inlineCallbacks
    def _finish(self, path: str) -> Generator[Deferred[Any], Any, None]:
        """An unfinished file is complete, also after a power cut: its content first, then its name."""
        os.chmod(path + UNFINISHED, 0o600)
        yield self._sync(path + UNFINISHED)
        os.rename(path + UNFINISHED, path)
        yield self._sync(os.path.dirname(path))

    @inlineCallbacks
    def _sync(self, path: str) -> Generator[Deferred[Any], Any, None]:
        finished = yield self._commands.run(["sync", path])
        if finished.status != 0:
            raise DriverFailure(what=f"sync {os.path.basename(path)}: {finished.complaint or 'not done in time'}")

    def _there(self, directory: str, kind: str, id: str) -> str:
        path = os.path.join(directory, id)
        if not os.path.exists(path):
            raise NotFound(kind=kind, id=id)
        return path

    def _room(self) -> int:
        if self._capacity_gb:
            return self._capacity_gb
        found = os.statvfs(self._volumes)
        return found.f_blocks * found.f_frsize // GIB

    @contextmanager
    def _room_for(self, path: str, size_gb: int) -> Iterator[None]:
        """Count a file that is being made as if it were there."""
        self._take_room(size_gb)
        self._coming[path] = size_gb
        try:
            yield
        finally:
            del self._coming[path]

    def _take_room(self, size_gb: int) -> None:
        promised = sum(sum(_sizes(directory).values()) for directory in (self._volumes, self._snapshots))
        promised += sum(each for path, each in self._coming.items() if not os.path.exists(path))
        free = self._room() - promised
        if size_gb > free:
            raise NoCapacity(reasons={"volumes": f"{free} GiB free, {size_gb} wanted"})


def _sizes(directory: str) -> dict[str, int]:
    """GiB of each file that is complete."""
    with os.scandir(directory) as found:
        return {each.name: each.stat().st_size // GIB for each in found if not each.name.endswith(UNFINISHED)}


def _resize(path: str, size_gb: int) -> None:
    """Have a file of this size, made if need be; zeros follow what is there."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size_gb * GIB)
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DriverFailure(what=f"cannot write {path}: {error.strerror}") from error


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
