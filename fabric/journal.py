"""
A table in one file, kept by appending: what the fake drivers remember by, and
who has which volume.

Each change is one JSON line and one C{write}, so what was answered for has left
the process and outlives its C{kill -9}.  It isn't synced to disk: after a power
cut the machines that a fake pretends to run would be gone as well.  Of a table
that is to outlast that, whoever answers syncs the file first.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Generic, TypeVar

import orjson

from fabric.errors import DriverFailure
from fabric.model.codec import decode, encode

Row = TypeVar("Row")

SLACK = 20_000
"""Lines that the file may have beyond four a row before it is written anew."""


class Journal(Generic[Row]):
    """
    Immutable attrs values by key, the same after a restart.

    @ivar rows: what is in the table; read it, change it by L{put} and
        L{remove} only.
    """

    def __init__(self, path: str, row: type[Row], lasting: bool = False) -> None:
        """
        @param path: the file; its directory is made when need be.
        @param row: the class of the values.
        @param lasting: whether a power cut must not lose what is synced when
            the file is written anew: at L{open}, and after some 20,000 changes.
        """
        self._lasting = lasting
        self.rows: dict[str, Row] = {}
        self._path = path
        self._row = row
        self._file = -1
        self._lines = 0

    def open(self) -> None:
        """
        Read what is there, and write it anew without what is past.

        @raise DriverFailure: the file can't be read or written.
        """
        try:
            os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
            self._replay()
            self._rewrite()
        except OSError as error:
            raise DriverFailure(what=f"cannot use {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the file; closing twice is safe."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def put(self, key: str, row: Row) -> None:
        """
        Set a row.

        @raise DriverFailure: it could not be written; the table is unchanged.
        """
        self._append([key, encode(row)])
        self.rows[key] = row

    def remove(self, key: str) -> None:
        """
        Have no such row.

        @raise DriverFailure: it could not be written; the table is unchanged.
        """
        if key in self.rows:
            self._append([key, None])
            del self.rows[key]

    def _append(self, line: list[Any]) -> None:
        data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        try:
            before = os.fstat(self._file).st_size
            if os.write(self._file, data) != len(data):
                os.ftruncate(self._file, before)  # or the next line would be lost with this one
                raise OSError(errno.ENOSPC, "short write")
            self._lines += 1
            if self._lines > 4 * len(self.rows) + SLACK:
                self._rewrite(line)
        except OSError as error:
            raise DriverFailure(what=f"cannot write {self._path}: {error.strerror}") from error

    def _replay(self) -> None:
        self.rows.clear()
        try:
            with open(self._path, "rb") as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines:
            try:
                key, value = orjson.loads(line)
            except ValueError:  # the empty end, or a line that a crash cut short
                continue
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = decode(self._row, value)

    def _rewrite(self, last: list[Any] | None = None) -> None:
        lines: list[list[Any]] = [[key, encode(row)] for key, row in self.rows.items()]
        if last is not None:
            lines.append(last)
        fresh = self._path + ".new"
        with open(fresh, "wb") as file:
            file.writelines(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
            if self._lasting:
                file.flush()
                os.fsync(file.fileno())
        os.replace(fresh, self._path)
        if self._lasting:
            _sync_names(os.path.dirname(self._path) or ".")
        self.close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lines = len(lines)


def _sync_names(directory: str) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
