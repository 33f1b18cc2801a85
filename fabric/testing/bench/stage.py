"""
The servers of a run: started when a cell first needs them, ended at its end.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.threads import blockingCallFromThread

from fabric.testing.bench import sigv4, targets
from fabric.testing.bench.targets import Target
from fabric.testing.deployment import AllInOne
from fabric.testing.rabbitmq import RabbitMQServer

ROOMY = {
    "quota.instances": "1000000",
    "quota.cores": "10000000",
    "quota.ram": "10000000000",
    "quota.key_pairs": "100000",
    "fake.vcpus": "1000000",
    "fake.memory_mb": "1000000000",
    "fake.disk_gb": "100000000",
    "fake.boot_seconds": "0",
    "fake.stop_seconds": "0",
    "quota.volumes": "1000000",
    "quota.gigabytes": "1000000000",
    "quota.addresses": "1000000",
    "quota.groups": "1000000",
    "network.floating": "172.16.0.0/16",
}
"""Settings under which nothing but the code itself takes time or says no."""


class Stage:
    """
    Starts what cells ask for.
    """

    def __init__(self, reactor: Any, moto: str = "", external: Target | None = None) -> None:
        """
        @param reactor: runs in the main thread, while cells run in another.
        @param moto: path of C{moto_server}; empty for none.
        @param external: a server to be measured in place of our own.
        """
        self.reactor = reactor
        self._moto = moto
        self._external = external
        self._directory = Path(tempfile.mkdtemp(prefix="fabric-bench-"))
        self._ends: list[Callable[[], None]] = []
        self._bare: Target | None = None
        self._clouds: dict[str, Target] = {}

    def bare(self) -> Target:
        """The yardstick; one for the whole run."""
        if self._bare is None:
            started = targets.bare()
            self._ends.append(started.stop)
            self._bare = started
        return self._bare

    def cloud(self, name: str) -> Target:
        """
        An all-in-one cloud by a name of the caller's, empty at first.
        """
        if self._external is not None:
            return self._external
        if name not in self._clouds:
            made = AllInOne(self._directory / name, ROOMY)
            self._ends.append(made.stop)
            made.start()
            endpoint = sigv4.Endpoint("127.0.0.1", made.port, "/services/Cloud", made.access_key, made.secret_key)
            self._clouds[name] = Target("fabric", endpoint, [made.process.pid])
        return self._clouds[name]

    def peers(self, name: str) -> list[Target]:
        """
        Clouds of others' making, empty at first: moto, where its path was given.
        """
        key = f"moto {name}"
        if not self._moto:
            return []
        if key not in self._clouds:
            started = targets.moto(self._moto)
            self._ends.append(started.stop)
            self._clouds[key] = started
        return [self._clouds[key]]

    def broker(self) -> int:
        """
        The port of a RabbitMQ that runs until the end of the run.
        """
        server = RabbitMQServer(self.reactor)
        call: Any = blockingCallFromThread
        self._ends.append(lambda: call(self.reactor, server.stop))
        call(self.reactor, server.start)
        return int(server.endpoint.rpartition(":")[2])

    def directory(self, name: str) -> Path:
        """A directory of that name, gone after the run."""
        made = self._directory / name
        made.mkdir(exist_ok=True)
        return made

    def later(self, end: Callable[[], None]) -> None:
        """Call this at the end of the run, last first."""
        self._ends.append(end)

    def stop(self) -> None:
        """End everything."""
        while self._ends:
            self._ends.pop()()
        shutil.rmtree(self._directory, ignore_errors=True)


def external(url: str, access_key: str, secret_key: str, pid: int | None) -> Target:
    """
    Somebody's server.

    @param pid: the root of its process tree when it is on this machine.
    """
    parts = urlsplit(url)
    endpoint = sigv4.Endpoint(parts.hostname or "", parts.port or 80, parts.path or "/", access_key, secret_key)
    return Target("fabric", endpoint, [pid] if pid else [])
