"""
A whole cloud of real processes: all in one, or every service by itself.

Everything here blocks; a test calls it by C{deferToThread}.  Each process ends
with the test, by L{AllInOne.stop} or L{Deployment.stop} or, when a test broke
down, at the interpreter's exit.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import blockingCallFromThread

from fabric.api.ec2.views import load_views
from fabric.model.host import Service
from fabric.store.redis import RedisStore
from fabric.testing.ports import free_port
from fabric.testing.processes import TwistdProcess, await_true
from fabric.testing.rabbitmq import ACCOUNT, PASSWORD, RabbitMQServer
from fabric.testing.redis import RedisServer
from fabric.testing.slapd import LAYOUT, Slapd
from fabric.testing.store import KINDS
from fabric.users.bootstrap import bootstrap
from fabric.users.interface import User
from fabric.users.ldap import LDAPDirectory
from fabric.users.session import Server

BRISK = {
    "controller.report_interval": "0.5",
    "controller.service_down_time": "10",
    "controller.sweep_interval": "0.3",
    "controller.resend_seconds": "1.5",
    "compute.adopt_interval": "5",
    "fake.boot_seconds": "0.05",
    "fake.stop_seconds": "0.02",
}
"""
Settings for tests: what an operator waits minutes for happens in seconds.  A
host is held to be dead only when nobody starts its services again: on a busy
machine that takes some seconds, and nothing is placed on the dead.
"""


def credentials(cloudrc: Path) -> dict[str, str]:
    """
    What a C{cloudrc} exports, values unquoted.
    """
    found = {}
    for line in cloudrc.read_text().splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "export":
            words = words[1:]
        for word in words:
            name, equals, value = word.partition("=")
            if equals:
                found[name] = value
    return found


class AllInOne:
    """
    C{twistd -n cloud} on a port and a directory of its own.

    @ivar process: the one process; Redis is its child.
    @ivar port: of the EC2 door.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None, within: Sequence[str] = ()) -> None:
        """
        @param directory: where logs and data go; the data are in C{data}.
        @param within: as of L{TwistdProcess}.
        """
        self.port = free_port()
        self.data = directory / "data"
        directory.mkdir(parents=True, exist_ok=True)
        arguments = ["cloud", "--data", str(self.data), "--ec2", f"tcp:{self.port}:interface=127.0.0.1"]
        self.process = TwistdProcess("cloud", arguments, directory, self.port, settings or {}, within)

    def start(self, extra: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it is well and can be used; again after an end."""
        self.process.start(extra)
        self.process.await_well()
        await_true((self.data / "cloudrc").exists, "there is a cloudrc")

    @property
    def access_key(self) -> str:
        """The administrator's."""
        return credentials(self.data / "cloudrc")["AWS_ACCESS_KEY_ID"]

    @property
    def secret_key(self) -> str:
        """The administrator's."""
        return credentials(self.data / "cloudrc")["AWS_SECRET_ACCESS_KEY"]

    def kill(self) -> None:
        """C{kill -9}; its child ends by itself."""
        self.process.kill()

    def stop(self) -> None:
        """End it in peace."""
        self.process.stop()


SERVICES = ("cloud-api", "cloud-controller", "cloud-scheduler", "cloud-compute", "cloud-network", "cloud-volume")
SINGLE = dict.fromkeys(SERVICES, 1)
DOUBLE = dict.fromkeys(SINGLE, 2)
"""How many processes of each service there are; the hosts' ones are on as many hosts."""

_ON_HOSTS = ("cloud-compute", "cloud-network", "cloud-volume")


class Deployment:
    """
    Every service in a process of its own, on a RabbitMQ, a Redis and an
    OpenLDAP that are private too.

    @ivar directory: where logs and data go.
    @ivar rabbitmq, redis, slapd: those servers; use them by L{wait}.
    @ivar services: the processes by name, as C{cloud-api.1}.
    @ivar ports: of the EC2 doors.
    """

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """
        @param reactor: the one that runs in the main thread.
        @param settings: for all services.
        @param counts: how many of each; L{DOUBLE} if None.
        """
        self._reactor = reactor
        self.directory = directory
        self._settings = dict(settings or {})
        self._counts = dict(counts or DOUBLE)
        self.rabbitmq = RabbitMQServer(reactor)
        self.redis = RedisServer(reactor)
        self.slapd = Slapd(reactor)
        self.services: dict[str, TwistdProcess] = {}
        self.ports: list[int] = []
        self._administrator: User | None = None
        self._store: RedisStore | None = None
        self._stops: list[Callable[[], Deferred[Any]]] = []

    def wait(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call something in the reactor's thread and wait for its answer."""
        return blockingCallFromThread(self._reactor, call, *arguments)

    @property
    def access_key(self) -> str:
        """The administrator's."""
        assert self._administrator is not None
        return self._administrator.access_key

    @property
    def secret_key(self) -> str:
        """The administrator's."""
        assert self._administrator is not None
        return self._administrator.secret_key

    def start(self) -> None:
        """Start the servers, then all services, and wait until they are well."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for server in (self.rabbitmq, self.redis, self.slapd):
            self._stops.append(server.stop)
            self.wait(server.start)
        self.wait(self._open_store)
        self._administrator = self.wait(self._bootstrap)
        for name, count in self._counts.items():
            for number in range(1, count + 1):
                self._add(name, number)
        for service in self.services.values():
            service.start()
        self.await_well()
        await_true(self.has_hosts, "every host has reported")

    def has_hosts(self, since: float = 0.0) -> bool:
        """
        Whether the controllers have heard of every host since then, and hold it
        to be alive; else nothing is launched there.
        """
        ids = [
            f"{topic}.node{number}"
            for topic in ("compute", "volume")
            for number in range(1, self._counts.get(f"cloud-{topic}", 0) + 1)
        ]
        beats, found = self.wait(self.store.beats), self.wait(self.store.read, Service, ids)
        return all(beats.get(id, 0.0) > since for id in ids) and all(each and each.record.alive for each in found)

    @inlineCallbacks
    def _bootstrap(self) -> Generator[Deferred[Any], Any, User]:
        server = Server(self.slapd.endpoint, self.slapd.bind_dn, self.slapd.password)
        directory = LDAPDirectory(self._reactor, server, LAYOUT)
        try:
            user: User = yield bootstrap(directory)
        finally:
            yield directory.stop()
        return user

    def _add(self, name: str, number: int) -> None:
        directory = self.directory / f"node{number}"
        directory.mkdir(exist_ok=True)
        port = free_port()
        arguments = [name, "--data", str(directory / "data"), "--host", f"node{number}"]
        if name == "cloud-api":
            arguments += ["--ec2", f"tcp:{port}:interface=127.0.0.1"]
            self.ports.append(port)
        else:
            arguments += ["--operations", f"tcp:{port}:interface=127.0.0.1"]
        settings = self._connections() | self._settings
        service = f"{name}.{number}"
        self.services[service] = TwistdProcess(service, arguments, self.directory, port, settings)

    def _connections(self) -> dict[str, str]:
        broker = self.rabbitmq.endpoint.removeprefix("tcp:")
        return {
            "queue.url": f"amqp://{ACCOUNT}:{PASSWORD}@{broker}/",
            "store.url": self.redis.url,
            "ldap.url": f"ldap://127.0.0.1:{self.slapd.port}",
            "ldap.base": LAYOUT.base,
            "ldap.bind_dn": self.slapd.bind_dn,
            "ldap.password": self.slapd.password,
            "log.level": "debug",
        }

    @property
    def store(self) -> RedisStore:
        """The state, to be looked at; use it by L{wait}."""
        assert self._store is not None
        return self._store

    def _open_store(self) -> None:
        pool = self.redis.connect()
        self._stops.append(pool.stopService)
        self._store = RedisStore(pool, load_views(), KINDS)

    def of(self, name: str) -> list[TwistdProcess]:
        """All processes of a service."""
        return [process for process in self.services.values() if process.name.startswith(name + ".")]

    def await_well(self) -> None:
        """Wait until every service that runs is well."""
        for process in self.services.values():
            process.await_well()

    def mend(self) -> None:
        """Start whatever has ended, without fault points, and wait until all is well."""
        for process in self.services.values():
            if not process.alive:
                process.start()
        self.await_well()

    def arm(self, name: str, point: str) -> None:
        """Run all processes of a service anew, to be killed at a fault point."""
        for process in self.of(name):
            process.kill()
            process.start({"faults": point})
        for process in self.of(name):
            process.await_well()

    def stop(self) -> None:
        """End everything; what can't be ended in peace is killed."""
        for process in self.services.values():
            process.kill()
        while self._stops:
            self.wait(self._stops.pop())
