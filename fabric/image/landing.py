"""
Where what is on its way into the image store is kept: for each process a
directory of its own, whose lock says that the process lives.

Everything here blocks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from contextlib import suppress
from typing import IO, Any

LOCK = "lock"
"""The file in a process' directory that it has locked for as long as it lives."""


class Landing:
    """
    One process' directory below C{directory}.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._name = uuid.uuid4().hex
        self._lock: IO[Any] | None = None

    def path(self, name: str) -> str:
        """Where a file of this process is that is on its way."""
        return os.path.join(self._directory, self._name, name)

    def open(self) -> None:
        """
        Remove what processes left that are dead, and make an own place.  To be
        called by one process at a time; again, it changes nothing.
        """
        os.makedirs(self._directory, mode=0o750, exist_ok=True)
        for name in os.listdir(self._directory):
            self._remove_dead(os.path.join(self._directory, name))
        if self._lock is None:
            os.mkdir(self.path(""), mode=0o750)
            self._lock = open(self.path(LOCK), "wb")  # noqa: SIM115 - held as long as the process lives
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Let go of the place; who opens next removes what is there."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def _remove_dead(self, path: str) -> None:
        if not os.path.isdir(path):  # as an earlier version left it
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        try:
            with open(os.path.join(path, LOCK), "rb+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            pass  # it was killed before it had one
        except BlockingIOError:
            return
        shutil.rmtree(path)
