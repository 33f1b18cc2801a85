"""
A Redis server of a test's own: started in 30 ms, killed and restarted at will.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.store.address import Address
from fabric.store.connection import RedisPool
from fabric.store.server import RedisProcess, arguments, binary


class RedisServer:
    """
    A private server on a unix socket, in a temporary directory of its own.

    @ivar settings: of its command line, as C{["--maxmemory", "10mb"]}; read
        at each start.
    """

    def __init__(self, reactor: Any, executable: str | None = None) -> None:
        self.settings: list[str] = ["--appendfsync", "no"]
        self._reactor = reactor
        self._executable = executable or binary()
        self._directory = tempfile.mkdtemp(prefix="fabric-redis-")
        self._process: RedisProcess | None = None

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return self._directory + "/redis.sock"

    @property
    def url(self) -> str:
        """Its address, as settings have it."""
        return "unix:" + self.socket

    @property
    def pid(self) -> int:
        """Of the running server; 0 without."""
        return self._process.pid if self._process else 0

    def start(self) -> Deferred[None]:
        """
        Start it over whatever it kept.

        @return: fires when it takes connections.
        """
        process = self._process = RedisProcess()
        process.spawn(self._reactor, arguments(self._executable, self._directory, self.socket, self.settings))
        return process.ready

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """End it and remove its directory."""
        yield self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    @inlineCallbacks
    def kill(self) -> Generator[Deferred[Any], Any, None]:
        """End it at once, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            yield process.signal("KILL")

    @inlineCallbacks
    def restart(self) -> Generator[Deferred[Any], Any, None]:
        """Crash it and start it again."""
        yield self.kill()
        yield self.start()

    def connect(self, size: int = 2, timeout: float = 5.0) -> RedisPool:
        """
        @return: a pool of connections to it, started.
        """
        pool = RedisPool(self._reactor, Address(path=self.socket), size, timeout)
        pool.startService()
        return pool
