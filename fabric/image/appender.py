"""
A file that grows, written in threads so that nobody waits for a disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed

InThread = Callable[..., Deferred[Any]]
"""Runs a function in a thread, as C{threads.deferToThread}."""


class Appender:
    """
    Appends to a file, which is made when it is not there.  What comes while a
    part is being written is written together, as the next one.  After one that
    could not be written nothing more is, or the file would lack its middle.

    @ivar digest: SHA-256 of what was appended, in hex.
    """

    def __init__(self, path: str, in_thread: InThread) -> None:
        self._path = path
        self._in_thread = in_thread
        self._hash = hashlib.sha256()
        self._file: int | None = None
        self._waiting: list[bytes] = []
        self._writing: _Writing | None = None
        self._failed: OSError | None = None

    @property
    def digest(self) -> str:
        """Of all that was written."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> Deferred[None]:
        """
        @return: fires when this, and all before it, is written; fails with
            C{OSError}.
        """
        if self._failed is not None:
            return fail(self._failed)
        self._waiting.append(data)
        return self.written()

    def written(self) -> Deferred[None]:
        """
        @return: fires when all that came is written.
        """
        if self._writing is None:
            if not self._waiting:
                return succeed(None)
            self._writing = _Writing()
            self._next(self._writing)
        return self._writing.wait()

    def close(self, whole: bool) -> Deferred[None]:
        """
        Write no more.  Repeating is safe.

        @param whole: whether what came is to be on the disk when this fires;
            otherwise what is not written yet is dropped.
        """
        if not whole:
            self._waiting.clear()
        pending = self.written()
        if not whole:
            pending.addErrback(lambda _: None)
        return pending.addCallback(lambda _: self._in_thread(self._close, whole))

    def _next(self, writing: _Writing) -> None:
        data, self._waiting = b"".join(self._waiting), []
        done = self._in_thread(self._append, data)
        done.addCallbacks(lambda _: self._went_on(writing), lambda failure: self._ended(writing, failure))

    def _went_on(self, writing: _Writing) -> None:
        if self._waiting:
            self._next(writing)
        else:
            self._ended(writing, None)

    def _ended(self, writing: _Writing, outcome: Any) -> None:
        self._writing = None
        if outcome is not None:
            self._waiting.clear()
        writing.end(outcome)

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._hash.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            self._failed = error
            raise

    def _close(self, whole: bool) -> None:
        if whole and self._file is None:
            self._append(b"")
        opened, self._file = self._file, None
        if opened is not None:
            try:
                if whole:
                    os.fsync(opened)
            finally:
                os.close(opened)


@attrs.define
class _Writing:
    """
    Those who wait for what is being written.
    """

    _waiters: list[Deferred[None]] = attrs.field(factory=list, init=False)

    def wait(self) -> Deferred[None]:
        """
        @return: fires with how it ends.
        """
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        return waiter

    def end(self, outcome: Any) -> None:
        """Tell them: None, or a failure."""
        for waiter in self._waiters:
            waiter.callback(outcome)
