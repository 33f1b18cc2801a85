"""
A RabbitMQ of one's own, for tests: private ports, directory and Erlang cookie.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure

from fabric.testing.ports import free_port

_BINARIES = Path("/usr/lib/rabbitmq/bin")
"""Where Debian has RabbitMQ's own scripts; those in PATH insist on another account."""

_BOOT_SECONDS = 90.0
_LOOK_SECONDS = 0.1

ACCOUNT, PASSWORD = "fabric", "fabric-secret"
"""An account that may do everything."""


def password_hash(password: str) -> str:
    """
    A password as RabbitMQ's definitions have it.

    @see: U{https://www.rabbitmq.com/docs/passwords}
    """
    salt = os.urandom(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


class _Child(ProcessProtocol):
    """
    A process of the broker.

    @ivar ended: fires when it has ended.
    """

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.alive = True

    def processEnded(self, reason: Failure) -> None:
        """It is over."""
        self.alive = False
        self.ended.callback(None)


class RabbitMQServer:
    """
    One node, without plugins, on 127.0.0.1 or another address of this machine.

    @ivar endpoint: the client endpoint string of the broker.
    @ivar tls_endpoint: the same over TLS, when there is a certificate.
    @ivar directory: with its data, log and settings; removed by C{stop}.
    """

    def __init__(self, reactor: IReactorProcess, certificate: Path | None = None, address: str = "127.0.0.1") -> None:
        """
        @param certificate: a PEM file with a certificate for C{localhost}, which is
            its own authority, and its key; for a broker that speaks TLS too.
        @param address: where it listens.
        """
        self._reactor: Any = reactor
        self._address = address
        self.directory = Path()
        self.endpoint = self.tls_endpoint = ""
        self._certificate = certificate
        self._port = 0
        self._environment: dict[str, str] = {}
        self._epmd: _Child | None = None
        self._broker: _Child | None = None

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        """
        Start it anew; takes 5 to 10 seconds.

        @raise RuntimeError: with its output, when it does not come up.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        self._port, distribution, epmd_port, tls_port = (free_port() for _ in range(4))
        self.endpoint = f"tcp:{self._address}:{self._port}"
        if self._certificate is not None:
            self.tls_endpoint = f"tls:localhost:{tls_port}:trustRoots={self._certificate.parent}"
        self._environment = self._make_environment(distribution, epmd_port)
        self._write_settings(tls_port)
        self._epmd = self._spawn("epmd", shutil.which("epmd") or "epmd")
        yield self._boot()

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """End it, and remove all that it wrote."""
        yield self.kill()
        yield _end(self._epmd)
        self._epmd = None
        shutil.rmtree(self.directory, ignore_errors=True)

    @inlineCallbacks
    def kill(self) -> Generator[Deferred[Any], Any, None]:
        """End the broker at once, as a lost host would; its data stay."""
        if self._broker is not None and self._broker.alive:
            self._signal(signal.SIGKILL)
            yield self._broker.ended
        self._broker = None

    @inlineCallbacks
    def restart(self) -> Generator[Deferred[Any], Any, None]:
        """Start it again with its data, after ending it if it runs."""
        yield self.kill()
        yield self._boot()

    def pause(self) -> None:
        """Let it hang: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after C{pause}."""
        self._signal(signal.SIGCONT)

    @inlineCallbacks
    def add_user(
        self, name: str, password: str, configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> Generator[Deferred[Any], Any, None]:
        """Make an account; the rest are regular expressions of names that it may use so."""
        yield self.control("add_user", name, password)
        yield self.control("set_permissions", name, configure, write, read)

    def set_topic_permission(self, name: str, exchange: str, write: str, read: str) -> Deferred[str]:
        """Allow an account only some routing keys."""
        return self.control("set_topic_permissions", name, exchange, write, read)

    def load(self, definitions: Path) -> Deferred[str]:
        """Add what a file of definitions has."""
        return self.control("import_definitions", str(definitions))

    def set_policy(self, name: str, pattern: str, definition: dict[str, Any]) -> Deferred[str]:
        """Set a policy for queues whose names match."""
        return self.control("set_policy", name, pattern, json.dumps(definition), "--apply-to", "queues")

    def settle(self) -> Deferred[str]:
        """Have it write down now, not in a second or two, which queues exist: a kill has them forgotten till then."""
        return self.control("eval", "{mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()]}.")

    @inlineCallbacks
    def control(self, *arguments: str) -> Generator[Deferred[Any], Any, str]:
        """
        Run C{rabbitmqctl}; a second or two.

        @raise RuntimeError: it failed; with what it said.
        """
        out, err, code = yield getProcessOutputAndValue(
            str(_BINARIES / "rabbitmqctl"), ("--quiet", *arguments), env=self._environment, reactor=self._reactor
        )
        if code:
            raise RuntimeError((out + err).decode(errors="replace"))
        text: str = out.decode()
        return text

    @inlineCallbacks
    def _boot(self) -> Generator[Deferred[Any], Any, None]:
        """
        Start the broker and wait for what it prints at the end.  It prints to a
        file, which is looked at now and then, since a pipe would be an open
        reader of the reactor between tests.
        """
        (self.directory / "pid").unlink(missing_ok=True)
        self._broker = self._spawn("server", str(_BINARIES / "rabbitmq-server"))
        for _ in range(int(_BOOT_SECONDS / _LOOK_SECONDS)):
            yield deferLater(self._reactor, _LOOK_SECONDS, bool)
            output = (self.directory / "server").read_text(errors="replace")
            if "completed with" in output:
                return
            if not self._broker.alive:
                raise RuntimeError(output)
        raise RuntimeError(f"not up after {_BOOT_SECONDS} seconds: {output}")

    def _spawn(self, name: str, command: str) -> _Child:
        """Start a process that prints to a file called C{name}."""
        child = _Child()
        with open(os.devnull, "rb") as nothing, open(self.directory / name, "wb") as output:
            files = {0: nothing.fileno(), 1: output.fileno(), 2: output.fileno()}
            self._reactor.spawnProcess(
                child, command, [command], env=self._environment, path=str(self.directory), childFDs=files
            )
        return child

    def _signal(self, number: int) -> None:
        """Signal the Erlang machine itself: its script would only pass on some."""
        try:
            os.kill(int((self.directory / "pid").read_text()), number)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            if self._broker is not None and self._broker.transport is not None:
                self._broker.transport.signalProcess(number)

    def _make_environment(self, distribution: int, epmd_port: int) -> dict[str, str]:
        here = self.directory
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"),
            "HOME": str(here),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"fabric{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": self._address,
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_BASE": str(here),
            "RABBITMQ_MNESIA_BASE": str(here / "data"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_PID_FILE": str(here / "pid"),
            "RABBITMQ_CONF_ENV_FILE": str(here / "none"),
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(here / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def _write_settings(self, tls_port: int) -> None:
        (self.directory / "data").mkdir()
        (self.directory / "log").mkdir()
        (self.directory / "plugins").write_text("[].")
        (self.directory / "definitions.json").write_text(json.dumps(_definitions()))
        settings = [
            f"load_definitions = {self.directory / 'definitions.json'}",
            "vm_memory_high_watermark.absolute = 1GB",
            "disk_free_limit.absolute = 1MB",
        ]
        if self._certificate is not None:
            settings += [
                f"listeners.ssl.1 = 127.0.0.1:{tls_port}",
                f"ssl_options.cacertfile = {self._certificate}",
                f"ssl_options.certfile = {self._certificate}",
                f"ssl_options.keyfile = {self._certificate}",
            ]
        (self.directory / "rabbitmq.conf").write_text("\n".join(settings) + "\n")


class SharedRabbitMQ:
    """
    One broker for all the tests of a module, since each start takes seconds:
    started when it is first asked for, and ended with the test run.
    """

    def __init__(self) -> None:
        self._server: RabbitMQServer | None = None

    @inlineCallbacks
    def get(self, reactor: Any) -> Generator[Deferred[Any], Any, RabbitMQServer]:
        """@return: the broker, running."""
        if self._server is None:
            server = RabbitMQServer(reactor)
            reactor.addSystemEventTrigger("before", "shutdown", server.stop)
            yield server.start()
            self._server = server
        return self._server


def _definitions() -> dict[str, Any]:
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "vhosts": [{"name": "/"}],
        "users": [
            {
                "name": ACCOUNT,
                "password_hash": password_hash(PASSWORD),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": "administrator",
            }
        ],
        "permissions": [{"user": ACCOUNT, "vhost": "/", **everything}],
    }


def _end(child: _Child | None) -> Deferred[None]:
    """End a process; fires when it has ended."""
    if child is None or not child.alive or child.transport is None:
        return succeed(None)
    try:
        child.transport.signalProcess("KILL")
    except ProcessExitedAlready:
        return succeed(None)
    return child.ended
