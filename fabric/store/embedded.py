"""
Redis inside the all-in-one cloud: a real server as a child process, on a unix
socket that only this user can reach.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric.errors import Unavailable
from fabric.store.address import Address
from fabric.store.server import RedisProcess, arguments, binary

LONGEST_SOCKET = 100
"""Bytes of a socket's path; the kernel takes 107."""

PATIENCE = 10.0
"""Seconds for a server of a killed cloud to end."""


class EmbeddedRedis(Service):
    """
    A server with its files in a directory, started again if it ends.

    Every write that was acknowledged survives a C{kill -9} of the server and
    of this process: the server writes its log before it answers.  The log is
    flushed to the disk each second, by a thread here and not by the server,
    which would hold writes back while it flushes.  A loss of power may so
    lose the last second, unless C{durable} has the server flush each write.

    Only one cloud at a time can use the directory: the server holds a lock on
    it for as long as it lives.  One that a killed cloud has left behind ends
    by itself, and is waited for.
    """

    log = Logger()

    def __init__(self, reactor: Any, directory: str, durable: bool = False, executable: str | None = None) -> None:
        """
        @param directory: made, with mode 0700, if it is not there.
        @param executable: the server's; found by itself with None.
        """
        self._reactor = reactor
        self._directory = Path(directory).absolute()
        self._durable = durable
        self._executable = executable
        self._process: RedisProcess | None = None
        self._lock: int | None = None
        self._socket_directory: str | None = None
        self._stopping = False
        self._restart: Deferred[None] | None = None
        self._flusher = LoopingCall(self._flush)
        self._flushed: dict[str, int] = {}

    @property
    def address(self) -> Address:
        """Where it is reached; known once it was started."""
        return Address(path=self._socket())

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        """
        Start it, and stay with it.

        @raise Unavailable: there is no server to run, it does not start, or
            another cloud uses the directory.
        """
        executable = self._executable = self._executable or binary()
        self.log.debug("starting {executable}", executable=executable)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as reason:
            raise Unavailable("redis", f"{self._directory}: {reason.strerror}") from None
        yield self._take_lock()
        self._stopping = False
        yield self._spawn()
        if not self._durable:
            self._flusher.clock = self._reactor
            self._flusher.start(1.0, now=False).addErrback(
                lambda failure: self.log.failure("the log of the store is not flushed", failure)
            )

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        """End it in order."""
        super().stopService()
        self._stopping = True
        if self._flusher.running:
            self._flusher.stop()
        if self._restart is not None:
            self._restart.cancel()
        process, self._process = self._process, None
        if process is not None:
            yield process.signal("TERM")
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._socket_directory is not None:
            shutil.rmtree(self._socket_directory, ignore_errors=True)
            self._socket_directory = None

    @property
    def pid(self) -> int:
        """Of the server; 0 without."""
        return self._process.pid if self._process else 0

    def _socket(self) -> str:
        path = str(self._directory / "redis.sock")
        if len(os.fsencode(path)) <= LONGEST_SOCKET:
            return path
        if self._socket_directory is None:
            self._socket_directory = tempfile.mkdtemp(prefix="fabric-", dir="/tmp")
        return self._socket_directory + "/redis.sock"

    @inlineCallbacks
    def _spawn(self) -> Generator[Deferred[Any], Any, None]:
        policy = "always" if self._durable else "no"
        settings = ("--appendfsync", policy, "--maxmemory-policy", "noeviction", "--loglevel", "notice")
        process = self._process = RedisProcess()
        assert self._executable is not None
        process.spawn(
            self._reactor,
            arguments(self._executable, str(self._directory), self._socket(), settings),
            self._lock,
        )
        self._pid_file.write_text(f"{process.pid} {os.getpid()}\n")
        yield process.ready
        process.ended().addCallback(self._came_to_an_end, process)

    def _came_to_an_end(self, last: str, process: RedisProcess) -> None:
        if self._stopping or process is not self._process:
            return
        self.log.error("redis-server ended ({last}) and is started again", last=last)
        self._restart = self._again().addErrback(self._not_again)

    def _not_again(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("redis-server can't be started again", failure)

    @inlineCallbacks
    def _again(self) -> Generator[Deferred[Any], Any, None]:
        delay = 0.1
        while not self._stopping:
            yield deferLater(self._reactor, delay)
            try:
                yield self._spawn()
                return
            except Unavailable as reason:
                self.log.error("redis-server does not start: {reason}", reason=str(reason))
            delay = min(delay * 2, 5.0)

    # One server at a time.

    @property
    def _pid_file(self) -> Path:
        return self._directory / "redis.pid"

    @inlineCallbacks
    def _take_lock(self) -> Generator[Deferred[Any], Any, None]:
        try:
            self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as reason:
            raise Unavailable("redis", f"{self._directory}: {reason.strerror}") from None
        end = self._reactor.seconds() + PATIENCE
        while not self._locked():
            server, parent = self._left_behind()
            if parent and _parent_of(server) == parent != os.getpid():
                self._give_up()
                raise Unavailable("redis", f"{self._directory} is in use by the cloud with process id {parent}")
            if self._reactor.seconds() > end:
                self._give_up()
                raise Unavailable("redis", f"{self._directory} is still in use by another cloud")
            if server and _is_redis(server):
                os.kill(server, signal.SIGTERM)
            yield deferLater(self._reactor, 0.05)

    def _locked(self) -> bool:
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _give_up(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _left_behind(self) -> tuple[int, int]:
        try:
            server, parent = self._pid_file.read_text().split()
            return int(server), int(parent)
        except (OSError, ValueError):
            return 0, 0

    # What the server would do itself with "appendfsync everysec".

    def _flush(self) -> Deferred[None] | None:
        grown = []
        for path in self._directory.rglob("*.aof"):
            try:
                size = path.stat().st_size
            except OSError:
                continue
            if self._flushed.get(str(path)) != size:
                self._flushed[str(path)] = size
                grown.append(str(path))
        return deferToThread(_flush_files, grown) if grown else None


def _flush_files(paths: list[str]) -> None:
    for path in paths:
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fdatasync(file)
        finally:
            os.close(file)


def _parent_of(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def _is_redis(pid: int) -> bool:
    try:
        return b"redis" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
