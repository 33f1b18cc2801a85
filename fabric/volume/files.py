"""
Volumes that are files on this host, for its own guests and those of hosts that share its files.

Raw and sparse, so that a volume takes the room that was written to, and reads as
zeros where nobody wrote.  A snapshot is a copy: where the file system can clone
(XFS, Btrfs) it takes no time and no room, and is of one moment also while a guest
writes; elsewhere a volume that a guest has is copied by that guest's host, into a
qcow2 file that is lent to it: that has no more than what was written, and is made
a raw one here.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.command import NOT_THERE, Commands
from fabric.errors import DriverFailure, InUse, InvalidValue, NoCapacity, NotFound, WrongState
from fabric.image.header import NEEDED, disk_format
from fabric.journal import Journal
from fabric.turns import Turns
from fabric.volume.interface import HeldSnapshot, HeldVolume, Holdings, IVolumeDriver, SnapshotOrder, VolumeOrder

GIB = 1 << 30

AT_ONCE = 2
"""How many files are copied at once: more would not be faster on one disk."""

LIMITED = 'ulimit -v 2097152; exec qemu-img "$0" "$@"'
"""Within 2 GiB of memory, whatever a guest that broke out of its qemu made of a file."""

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
        self._directory = directory
        self._lock = -1
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
        self._copied: dict[str, Deferred[None]] = {}
        self._given: Counter[str] = Counter()

    def start(self) -> Deferred[None]:
        """
        See L{IVolumeDriver.start}.

        @raise DriverFailure: another volume service has the directory.
        """
        return maybeDeferred(self._open)

    def stop(self) -> Deferred[None]:
        """See L{IVolumeDriver.stop}."""
        return maybeDeferred(self._close)

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

        @raise DriverFailure: to a host that can't reach the files.
        """
        return maybeDeferred(self._export, id, host, order)

    def unexport(self, id: str, host: str, order: int) -> Deferred[None]:
        """See L{IVolumeDriver.unexport}."""
        return maybeDeferred(self._unexport, id, host, order)

    def snapshot(self, snapshot: SnapshotOrder) -> Deferred[None]:
        """See L{IVolumeDriver.snapshot}."""
        return self._in_turn((snapshot.id, snapshot.source or snapshot.volume), self._snapshot, snapshot)

    def lend(self, snapshot: SnapshotOrder, size: int = 0) -> Deferred[dict[str, str]]:
        """See L{IVolumeDriver.lend}."""
        return maybeDeferred(self._lend, snapshot, size)

    def take(self, snapshot: SnapshotOrder, place: dict[str, str], copied: bool) -> Deferred[None]:
        """
        See L{IVolumeDriver.take}.

        @raise DriverFailure: what was copied is not whole by itself, as well.
        """
        work = self._take_copy if copied else self._take_quiet
        return self._in_turn((snapshot.id, snapshot.volume), work, snapshot, place)

    def drop_lent(self, place: dict[str, str]) -> Deferred[None]:
        """See L{IVolumeDriver.drop_lent}."""
        return maybeDeferred(lambda: _unlink(self._lent(place)))

    def delete_snapshot(self, id: str) -> Deferred[None]:
        """See L{IVolumeDriver.delete_snapshot}."""
        path = os.path.join(self._snapshots, id)
        return self._in_turn((id,), _unlink, path, path + UNFINISHED)

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
        self._take_directory()
        for directory in (self._volumes, self._snapshots):
            os.makedirs(directory, mode=0o711, exist_ok=True)
            for name in os.listdir(directory):
                if name.endswith(UNFINISHED):
                    _unlink(os.path.join(directory, name))
        self._exports.open()

    def _take_directory(self) -> None:
        """Be the only volume service there, of this host or of another that shares it, where that can be told."""
        os.makedirs(self._directory, mode=0o711, exist_ok=True)
        self._lock = os.open(os.path.join(self._directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                self._close()
                why = "one of the hosts that share it has volumes, the others only use them"
                raise DriverFailure(what=f"{self._directory} is another volume service's: {why}") from None

    def _close(self) -> None:
        self._exports.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

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
            _resize(path + UNFINISHED, volume.size_gb * GIB)
            yield self._finish(path)

    @inlineCallbacks
    def _grow(self, volume: VolumeOrder) -> Generator[Deferred[Any], Any, None]:
        path = self._there(self._volumes, "volume", volume.id)
        missing = volume.size_gb - _sizes(self._volumes)[volume.id]
        if missing > 0:
            self._take_room(missing)
            _resize(path, volume.size_gb * GIB)
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
        if host not in self._hosts:
            raise DriverFailure(what=f"volumes are files on {', '.join(self._hosts)}, which {host} can't reach")
        self._given[id] += 1
        if id in self._copied:
            self._copied[id].cancel()
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
        holder = "" if snapshot.source else self._exports.rows.get(snapshot.volume, Export()).exported_to
        with self._room_for(path, os.path.getsize(source) // GIB):
            if snapshot.source:
                yield self._copy(source, path + UNFINISHED, "auto")
            elif holder:
                try:
                    yield self._copy(source, path + UNFINISHED, "always")
                except DriverFailure:
                    raise InUse(kind="volume", id=snapshot.volume, by=holder) from None
            else:
                yield self._copy_unused(source, path)
            yield self._finish(path)

    @inlineCallbacks
    def _copy_unused(self, source: str, path: str) -> Generator[Deferred[Any], Any, None]:
        """Copy what no guest writes to, as long as that is so: until it is exported."""
        volume = os.path.basename(source)
        self._copied[volume] = copying = self._copy(source, path + UNFINISHED, "auto")
        try:
            yield copying
        except CancelledError:
            _unlink(path + UNFINISHED)
            raise DriverFailure(what=f"{volume} was given to a guest while it was copied") from None
        finally:
            del self._copied[volume]

    @inlineCallbacks
    def _copy(self, source: str, target: str, clone: str) -> Generator[Deferred[Any], Any, None]:
        """
        @param clone: C{always} for a copy of one moment, or none.
        """
        command = ["cp", "--sparse=auto", f"--reflink={clone}", source, target]
        finished = yield self._slots.run(self._commands.run, command)
        if finished.status != 0:
            _unlink(target)
            raise DriverFailure(what=f"copy {os.path.basename(source)}: {finished.complaint or 'not done in time'}")

    # What a guest has, copied by its host.

    @inlineCallbacks
    def _lend(self, snapshot: SnapshotOrder, size: int) -> Generator[Deferred[Any], Any, dict[str, str]]:
        size = size or os.path.getsize(self._there(self._volumes, "volume", snapshot.volume))
        path = os.path.join(self._snapshots, f"{snapshot.id}.{uuid.uuid4().hex}{UNFINISHED}")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield self._image_tool("create", "-q", "-f", "qcow2", path, str(size)).addErrback(_without, path)
        return {"kind": "file", "path": path, "bytes": str(size), "given": str(self._given[snapshot.volume])}

    @inlineCallbacks
    def _take_copy(self, snapshot: SnapshotOrder, place: dict[str, str]) -> Generator[Deferred[Any], Any, None]:
        path = os.path.join(self._snapshots, snapshot.id)
        if os.path.exists(path):
            return
        lent, size = self._lent(place), int(place["bytes"])
        size_gb = max(snapshot.size_gb, -(-size // GIB))
        with self._room_for(path, size_gb):
            _require_whole(lent)
            _unlink(path + UNFINISHED)
            _resize(path + UNFINISHED, size)
            # Opened as what it is, whatever is written into it: no format is guessed, no other file named.
            opened = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": lent}}
            convert = ("convert", "-q", "-n", "--target-is-zero", "-O", "raw", "json:" + json.dumps(opened))
            converting = self._slots.run(self._image_tool, *convert, path + UNFINISHED)
            yield converting.addErrback(_without, path + UNFINISHED)
            _resize(path + UNFINISHED, size_gb * GIB)
            yield self._finish(path)

    @inlineCallbacks
    def _take_quiet(self, snapshot: SnapshotOrder, place: dict[str, str]) -> Generator[Deferred[Any], Any, None]:
        path = os.path.join(self._snapshots, snapshot.id)
        if os.path.exists(path):
            return
        if place["given"] != str(self._given[snapshot.volume]):
            raise DriverFailure(what=f"{snapshot.volume} was given to a guest before it was copied")
        source = self._there(self._volumes, "volume", snapshot.volume)
        with self._room_for(path, os.path.getsize(source) // GIB):
            yield self._copy_unused(source, path)
            yield self._finish(path)

    def _lent(self, place: dict[str, str]) -> str:
        """The path of a place, which is one of ours."""
        path = os.path.join(self._snapshots, os.path.basename(place["path"]))
        if not path.endswith(UNFINISHED):
            raise DriverFailure(what=f"{place['path']} was never lent")
        return path

    @inlineCallbacks
    def _image_tool(self, *arguments: str) -> Generator[Deferred[Any], Any, None]:
        finished = yield self._commands.run(["sh", "-c", LIMITED, *arguments])
        if finished.status == NOT_THERE:
            raise DriverFailure(what="qemu-img is not installed; it is in Debian's package qemu-utils")
        if finished.status != 0:
            raise DriverFailure(what=f"qemu-img {arguments[0]}: {finished.complaint or 'not done in time'}")

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


def _require_whole(path: str) -> None:
    """
    @raise DriverFailure: a qcow2 is none, or names other files.
    """
    try:
        with open(path, "rb") as opened:
            format = disk_format(opened.read(NEEDED), os.fstat(opened.fileno()).st_size)
    except (OSError, InvalidValue) as error:
        raise DriverFailure(what=f"the copy can't be used: {error}") from error
    if format != "qcow2":
        raise DriverFailure(what=f"the copy is {format}")


def _resize(path: str, size: int) -> None:
    """Have a file of so many bytes, made if need be; zeros follow what is there."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size)
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DriverFailure(what=f"cannot write {path}: {error.strerror}") from error


def _unlink(*paths: str) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _without(failure: Failure, path: str) -> Failure:
    """What could not be made is not left half made."""
    _unlink(path)
    return failure
