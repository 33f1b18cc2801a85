"""
Image files on a compute host, in a directory with bounded room.

C{files/DIGEST} are whole and verified, and not written to any more;
C{partial/DIGEST} are what there is of others, to be gone on with.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.errors import DriverFailure
from fabric.image.appender import InThread
from fabric.image.download import Cut, Downloader, NotWritten
from fabric.image.interface import FileOrder, IImageCache

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each further try; they begin anew when something came."""

LENT = 600.0
"""Seconds for which a file stays that was asked for, until it is said to be kept."""

BLOCK = 1 << 20


@implementer(IImageCache)
class ImageCache:
    """
    See L{IImageCache}.
    """

    log = Logger()

    def __init__(
        self, directory: str, downloader: Downloader, clock: IReactorTime, in_thread: InThread, room: int
    ) -> None:
        """
        @param room: bytes of all files together, those on their way too.
        """
        self._directory = directory
        self._downloader = downloader
        self._clock = clock
        self._in_thread = in_thread
        self._room = room
        self._kept: frozenset[str] | None = None
        self._lent: dict[str, float] = {}
        self._fetching: dict[str, list[Deferred[str]]] = {}
        self._coming: dict[str, int] = {}
        self._one_by_one = DeferredLock()

    def fetch(self, file: FileOrder) -> Deferred[str]:
        """See L{IImageCache.fetch}."""
        waiters = self._fetching.get(file.digest)
        waiter: Deferred[str] = Deferred(lambda cancelled: self._fetching[file.digest].remove(cancelled))
        if waiters is not None:
            waiters.append(waiter)
        else:
            self._fetching[file.digest] = [waiter]
            self._have(file).addBoth(self._tell, file.digest)
        return waiter

    @inlineCallbacks
    def keep(self, digests: frozenset[str]) -> Generator[Deferred[Any], Any, None]:
        """See L{IImageCache.keep}."""
        self._kept = digests
        yield self._one_by_one.run(lambda: self._in_thread(self._make_room, self._stay(), dict(self._coming)))

    def _tell(self, outcome: str | Failure, digest: str) -> None:
        """All who wait."""
        waiters = self._fetching.pop(digest)
        if isinstance(outcome, Failure) and not outcome.check(DriverFailure):
            self.log.failure("{digest} was not fetched", outcome, digest=digest)
            outcome = Failure(DriverFailure(f"the image file can't be had: {outcome.getErrorMessage()}"))
        for waiter in waiters:
            waiter.callback(outcome)

    @inlineCallbacks
    def _have(self, file: FileOrder) -> Generator[Deferred[Any], Any, str]:
        self._lent[file.digest] = self._clock.seconds()
        path = os.path.join(self._directory, "files", file.digest)
        there = yield self._one_by_one.run(self._in_thread, self._look, path)
        if not there:
            yield self._one_by_one.run(self._take_room, file)
            try:
                yield self._bring_at_need(file, path)
            finally:
                del self._coming[file.digest]
            self.log.info("{role} {digest} is here", role=file.role, digest=file.digest)
        self._lent[file.digest] = self._clock.seconds()
        return path

    @inlineCallbacks
    def _bring_at_need(self, file: FileOrder, path: str) -> Generator[Deferred[Any], Any, None]:
        """
        Have a file; on a disk that is full, by others too, at the cost of all
        that nobody needs, or not at all: then nothing of it stays either.
        """
        try:
            yield self._bring(file, path)
            return
        except NotWritten as error:
            why = str(error)
        freed = yield self._one_by_one.run(self._in_thread, self._empty, self._stay(), dict(self._coming))
        self.log.warn("{why}; {freed} bytes that nobody needs are removed", why=why, freed=freed)
        try:
            if not freed:
                raise NotWritten(why)
            yield self._bring(file, path)
        except NotWritten as error:
            yield self._in_thread(_unlink, self._partial(file))
            raise DriverFailure(str(error)) from None

    @inlineCallbacks
    def _bring(self, file: FileOrder, path: str) -> Generator[Deferred[Any], Any, None]:
        """Fetch and verify; anew from its beginning if an earlier process' part was not right, as after a power cut."""
        begun = yield self._in_thread(_size, self._partial(file), file.size)
        for _ in range(2 if begun else 1):
            yield self._fetch(file)
            right = yield self._in_thread(self._accept, file.digest, path)
            if right:
                return
        raise DriverFailure(f"the image file is not what its digest {file.digest} says; the object store is not right")

    def _partial(self, file: FileOrder) -> str:
        """Where there is what came of it."""
        return os.path.join(self._directory, "partial", file.digest)

    @inlineCallbacks
    def _take_room(self, file: FileOrder) -> Generator[Deferred[Any], Any, None]:
        """Have room for a file, and count it as taken."""
        coming = self._coming | {file.digest: file.size}
        room = yield self._in_thread(self._make_room, self._stay(), coming)
        if not room:
            raise DriverFailure(f"no room for an image file of {file.size} bytes: this host keeps {self._room}")
        self._coming[file.digest] = file.size

    @inlineCallbacks
    def _fetch(self, file: FileOrder) -> Generator[Deferred[Any], Any, None]:
        """Try as long as each try brings something, and then a few times more."""
        partial = self._partial(file)
        pauses, before = list(PAUSES), -1
        while True:
            have = yield self._in_thread(_size, partial, file.size)
            if have == file.size:
                return
            if have > before:
                pauses, before = list(PAUSES), have
            try:
                yield self._downloader.fetch(file.link, partial, have, file.size)
            except Cut as error:
                if not pauses:
                    raise DriverFailure(f"the object store can't be reached for an image file: {error}") from error
                self.log.info("{digest} goes on after a pause: {why}", digest=file.digest, why=str(error))
                yield deferLater(self._clock, pauses.pop(0))

    def _stay(self) -> frozenset[str] | None:
        """Digests that must not go; None for all, before anybody said what is in use."""
        now = self._clock.seconds()
        self._lent = {digest: when for digest, when in self._lent.items() if now - when < LENT}
        return None if self._kept is None else self._kept | frozenset(self._lent) | frozenset(self._fetching)

    # What blocks, and so runs in threads.

    def _look(self, path: str) -> bool:
        for name in ("files", "partial"):
            os.makedirs(os.path.join(self._directory, name), mode=0o750, exist_ok=True)
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return False
        os.utime(path, (self._clock.seconds(), found.st_mtime))
        return True

    def _make_room(self, stay: frozenset[str] | None, coming: dict[str, int]) -> bool:
        """
        Remove the files used longest ago until there is room.  One at a time,
        and while none is looked for: so none goes that was just found.

        @param coming: bytes of those that are on their way, by digest.
        @return: whether there is.
        """
        found = self._found(coming)
        taken = sum(coming.values()) + sum(size for _, size, _, _ in found)
        for _, size, path, digest in sorted(found):
            if taken <= self._room or stay is None:
                break
            if digest not in stay:
                _unlink(path)
                taken -= size
        return taken <= self._room

    def _empty(self, stay: frozenset[str] | None, coming: dict[str, int]) -> int:
        """
        Remove all that may go.

        @return: bytes that were freed.
        """
        freed = 0
        for _, size, path, digest in self._found(coming):
            if stay is not None and digest not in stay:
                _unlink(path)
                freed += size
        return freed

    def _found(self, coming: dict[str, int]) -> list[tuple[float, int, str, str]]:
        """Time of last use, bytes, path and digest of what is here, but for what is on its way."""
        found = []
        for name in ("partial", "files"):
            with suppress(FileNotFoundError):
                for entry in os.scandir(os.path.join(self._directory, name)):
                    if entry.name not in coming:
                        with suppress(FileNotFoundError):
                            status = entry.stat()
                            found.append((status.st_atime, status.st_size, entry.path, entry.name))
        return found

    def _accept(self, digest: str, path: str) -> bool:
        """
        Verify what came, and give it its name; or remove it.

        @return: whether it is right.
        """
        partial = os.path.join(self._directory, "partial", digest)
        found = hashlib.sha256()
        with open(partial, "rb") as opened:
            while data := opened.read(BLOCK):
                found.update(data)
            os.fsync(opened.fileno())
        if found.hexdigest() != digest:
            os.unlink(partial)
            return False
        os.chmod(partial, 0o440)
        os.utime(partial, (self._clock.seconds(), os.stat(partial).st_mtime))
        os.replace(partial, path)
        return True


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _size(path: str, most: int) -> int:
    """How much there is of a file; one that is too long is begun anew."""
    try:
        size = os.path.getsize(path)
    except FileNotFoundError:
        return 0
    if size > most:
        os.unlink(path)
        return 0
    return size
