"""
The image store in a directory.

C{files/DIGEST} are whole, verified files, each with C{facts/DIGEST}, what was
found out about it; C{incoming/} has what is on its way.  A file gets its name
last, so that whatever has one is whole, whenever a process was killed.  Names
are given and taken by one process at a time, which has C{lock} locked.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from fabric.errors import InvalidValue, NotFound
from fabric.image.appender import Appender, InThread
from fabric.image.header import NEEDED, disk_format
from fabric.image.inspection import Inspector
from fabric.image.interface import IImageStore, IIncoming, StoredFile
from fabric.image.landing import Landing

KIND = "image file"
ROLES = ("disk", "kernel", "ramdisk")
DIGEST = re.compile(r"[0-9a-f]{64}")


@implementer(IImageStore)
class FileStore:
    """
    See L{IImageStore}.  Several processes may use one directory.
    """

    log = Logger()

    def __init__(
        self, directory: str, inspector: Inspector, clock: IReactorTime, in_thread: InThread, largest: int
    ) -> None:
        """
        @param largest: bytes of a file.
        """
        self._directory = directory
        self._inspector = inspector
        self._clock = clock
        self._in_thread = in_thread
        self._largest = largest
        self._lock = threading.Lock()
        self._landing = Landing(os.path.join(directory, "incoming"))

    def start(self) -> Deferred[None]:
        """See L{IImageStore.start}."""
        return self._in_thread(self._start)

    def stop(self) -> Deferred[None]:
        """See L{IImageStore.stop}."""
        return self._in_thread(self._landing.close)

    def receive(self, digest: str, role: str) -> IIncoming:
        """See L{IImageStore.receive}."""
        if DIGEST.fullmatch(digest) is None:
            raise InvalidValue("digest", digest[:100], "a digest is 64 hexadecimal digits, of SHA-256")
        if role not in ROLES:
            raise InvalidValue("role", role[:100], "must be " + ", ".join(ROLES))
        return Incoming(self, self._landing.path(uuid.uuid4().hex), digest, role, self._largest)

    def find(self, digest: str, use: bool) -> Deferred[StoredFile]:
        """See L{IImageStore.find}."""
        return self._in_thread(self._find, digest, use)

    def read(self, digest: str, start: int, length: int) -> Deferred[bytes]:
        """See L{IImageStore.read}."""
        return self._in_thread(self._read, digest, start, length)

    def files(self) -> Deferred[list[StoredFile]]:
        """See L{IImageStore.files}."""
        return self._in_thread(self._list)

    def delete(self, digest: str, unused_since: float) -> Deferred[bool]:
        """See L{IImageStore.delete}."""
        return self._in_thread(self._delete, digest, unused_since)

    def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """For L{Incoming}: what blocks."""
        return self._in_thread(function, *arguments)

    @inlineCallbacks
    def keep(self, path: str, digest: str, role: str, head: bytes, size: int) -> Generator[Deferred[Any], Any, Any]:
        """
        For L{Incoming}: look into a file whose digest is right, and give it
        its name.
        """
        format = disk_format(head, size) if role == "disk" else "raw"
        disk_bytes = (yield self._inspector.disk_bytes(path, format, size)) if role == "disk" else 0
        stored = StoredFile(digest, format, size, disk_bytes, self._clock.seconds())
        yield self._in_thread(self._name, path, stored)
        self.log.info("{role} {digest} is in the store, {size} bytes", role=role, digest=digest, size=size)
        return stored

    # What blocks, and so runs in threads.

    def _place(self, *names: str) -> str:
        return os.path.join(self._directory, *names)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """As the only thread of the only process that gives or takes names."""
        with self._lock, open(self._place("lock"), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _start(self) -> None:
        for name in ("files", "facts"):
            os.makedirs(self._place(name), mode=0o750, exist_ok=True)
        with self._alone():
            self._landing.open()
            for name in set(os.listdir(self._place("facts"))) - set(os.listdir(self._place("files"))):
                os.unlink(self._place("facts", name))

    def _name(self, path: str, stored: StoredFile) -> None:
        """Facts first, the file's own name last."""
        facts = path + ".facts"
        with open(facts, "w", encoding="utf-8") as opened:
            json.dump({"format": stored.format, "disk_bytes": stored.disk_bytes}, opened)
            opened.flush()
            os.fsync(opened.fileno())
        os.chmod(path, 0o440)
        os.utime(path, (stored.used_at, stored.used_at))
        with self._alone():
            for source, name in ((facts, "facts"), (path, "files")):
                os.replace(source, self._place(name, stored.digest))
                _sync(self._place(name))

    def _find(self, digest: str, use: bool) -> StoredFile:
        with self._alone():
            return self._found(digest, use)

    def _found(self, digest: str, use: bool) -> StoredFile:
        path = self._place("files", digest)
        try:
            if DIGEST.fullmatch(digest) is None:
                raise FileNotFoundError
            if use:
                now = self._clock.seconds()
                os.utime(path, (now, now))
            found = os.stat(path)
            with open(self._place("facts", digest), encoding="utf-8") as opened:
                facts = json.load(opened)
        except FileNotFoundError:
            raise NotFound(KIND, digest) from None
        return StoredFile(digest, facts["format"], found.st_size, facts["disk_bytes"], found.st_mtime)

    def _read(self, digest: str, start: int, length: int) -> bytes:
        try:
            with open(self._place("files", digest), "rb", buffering=0) as opened:
                return os.pread(opened.fileno(), length, start)
        except FileNotFoundError:
            raise NotFound(KIND, digest) from None

    def _list(self) -> list[StoredFile]:
        found = []
        for name in sorted(os.listdir(self._place("files"))):
            with suppress(NotFound):
                found.append(self._find(name, False))
        return found

    def _delete(self, digest: str, unused_since: float) -> bool:
        """Of one that is asked for, or brought again, at this moment: before it or after it."""
        with self._alone():
            try:
                if self._found(digest, False).used_at > unused_since:
                    return False
            except NotFound:
                return True
            for name in ("files", "facts"):
                with suppress(FileNotFoundError):
                    os.unlink(self._place(name, digest))
            return True


@implementer(IIncoming)
class Incoming:
    """
    See L{IIncoming}.
    """

    def __init__(self, store: FileStore, path: str, digest: str, role: str, largest: int) -> None:
        self._store = store
        self._path = path
        self._digest = digest
        self._role = role
        self._largest = largest
        self._appender = Appender(path, store.in_thread)
        self._head = b""
        self._size = 0
        self._over = False

    def write(self, data: bytes) -> Deferred[None]:
        """See L{IIncoming.write}."""
        self._size += len(data)
        if self._size > self._largest:
            raise InvalidValue("size", str(self._size), f"a file may have at most {self._largest} bytes")
        if len(self._head) < NEEDED:
            self._head = (self._head + data)[:NEEDED]
        return self._appender.write(data)

    @inlineCallbacks
    def finish(self) -> Generator[Deferred[Any], Any, StoredFile]:
        """See L{IIncoming.finish}."""
        try:
            yield self._appender.close(True)
            found = self._appender.digest
            if found != self._digest:
                raise InvalidValue("digest", self._digest, f"the file's own is {found}")
            stored = yield self._store.keep(self._path, self._digest, self._role, self._head, self._size)
        finally:
            yield self.abandon()
        return stored  # type: ignore[no-any-return]

    @inlineCallbacks
    def abandon(self) -> Generator[Deferred[Any], Any, None]:
        """See L{IIncoming.abandon}."""
        if not self._over:
            self._over = True
            yield self._appender.close(False)
            yield self._store.in_thread(self._remove)

    def _remove(self) -> None:
        for path in (self._path, self._path + ".facts"):
            with suppress(FileNotFoundError):
                os.unlink(path)


def _sync(directory: str) -> None:
    """Have a directory's names on the disk."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
