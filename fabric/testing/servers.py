"""
RabbitMQ, Redis and OpenLDAP in a process of their own: for tests that run no
reactor, or that need them in a network namespace.

Everything here but L{main} blocks.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.python.failure import Failure

from fabric.testing.processes import SOURCES
from fabric.testing.rabbitmq import ACCOUNT, PASSWORD, RabbitMQServer
from fabric.testing.redis import RedisServer
from fabric.testing.slapd import LAYOUT, Slapd
from fabric.users.bootstrap import bootstrap
from fabric.users.interface import User
from fabric.users.ldap import LDAPDirectory
from fabric.users.session import Server

SECONDS = 60.0
"""How long they may take to end."""


class Servers:
    """
    The three of them, with a first administrator.

    @ivar queue: settings of all services.
    @ivar store: those of services that keep or read state.
    @ivar people: those of C{cloud-api}.
    @ivar access_key, secret_key: the administrator's.
    """

    def __init__(self, address: str = "127.0.0.1", within: Sequence[str] = ()) -> None:
        """
        @param address: where RabbitMQ listens.
        @param within: a command that runs another, as C{ip netns exec NAME}.
        """
        self._command = [*within, sys.executable, "-m", "fabric.testing.servers", address]
        self._process: subprocess.Popen[str] | None = None
        self.queue: dict[str, str] = {}
        self.store: dict[str, str] = {}
        self.people: dict[str, str] = {}
        self.access_key = self.secret_key = ""
        atexit.register(self.stop)

    def start(self) -> None:
        """
        Start them, and wait until they answer.

        @raise AssertionError: they do not; why is on standard error.
        """
        environment = os.environ | {"PYTHONPATH": str(SOURCES)}
        self._process = subprocess.Popen(
            self._command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said, "RabbitMQ, Redis and OpenLDAP did not start"
        told = json.loads(said)
        self.queue, self.store, self.people = told["queue"], told["store"], told["people"]
        self.access_key, self.secret_key = told["keys"]

    def stop(self) -> None:
        """End them.  Nothing when they do not run."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(SECONDS)
            finally:
                process.kill()


class _Until(Protocol):
    """
    @ivar ended: fires when standard input does.
    """

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """It did."""
        if not self.ended.called:
            self.ended.callback(None)


@inlineCallbacks
def main(reactor: Any, address: str) -> Generator[Deferred[Any], Any, None]:
    """
    Run them until standard input ends; says how they are reached in one line
    of JSON.
    """
    until = _Until()
    rabbitmq, redis, slapd = RabbitMQServer(reactor, address=address), RedisServer(reactor), Slapd(reactor)
    try:
        for server in (slapd, redis, rabbitmq):
            yield server.start()
        user = yield _administrator(reactor, slapd)
        told = _told(rabbitmq, redis, slapd) | {"keys": (user.access_key, user.secret_key)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        StandardIO(until)
        yield until.ended
    finally:
        for server in (rabbitmq, redis, slapd):
            yield server.stop()


def _told(rabbitmq: RabbitMQServer, redis: RedisServer, slapd: Slapd) -> dict[str, Any]:
    broker = rabbitmq.endpoint.removeprefix("tcp:")
    return {
        "queue": {"queue.url": f"amqp://{ACCOUNT}:{PASSWORD}@{broker}/"},
        "store": {"store.url": redis.url},
        "people": {
            "ldap.url": f"ldap://127.0.0.1:{slapd.port}",
            "ldap.base": LAYOUT.base,
            "ldap.bind_dn": slapd.bind_dn,
            "ldap.password": slapd.password,
        },
    }


@inlineCallbacks
def _administrator(reactor: Any, slapd: Slapd) -> Generator[Deferred[Any], Any, User]:
    directory = LDAPDirectory(reactor, Server(slapd.endpoint, slapd.bind_dn, slapd.password), LAYOUT)
    try:
        user: User = yield bootstrap(directory)
    finally:
        yield directory.stop()
    return user


if __name__ == "__main__":
    react(main, sys.argv[1:])
