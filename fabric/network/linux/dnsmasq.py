"""
The dnsmasq of each bridge: one, with the right arguments, whatever happened
to the service or to it.

It is a daemon of its own, so it serves on while the service is away.  A
service that comes finds it by its pid file and its arguments, and takes it on
or puts another in its place.  Its end is noticed by a descriptor of the process.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredLock, inlineCallbacks, succeed
from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.errors import DriverFailure
from fabric.network.linux.dhcp import Server
from fabric.network.linux.nft import Tool

KILL_AFTER = 5.0
"""Seconds that it is given to end."""

CALM = 5.0
"""Seconds until another is started when the last was started in another's place sooner than this ago."""


@implementer(IReadDescriptor)
class Pidfd:
    """
    One process, by a descriptor that becomes readable when it ends; no other
    process is ever meant, whatever becomes of its number.

    @ivar pid: its number.
    """

    log = Logger()

    def __init__(self, pid: int, reactor: IReactorFDSet) -> None:
        """
        @raise ProcessLookupError: there is none.
        """
        self.pid = pid
        self._reactor = reactor
        self._descriptor = os.pidfd_open(pid)
        self._on_end: list[Callable[[], None]] = []

    def fileno(self) -> int:
        """See L{IReadDescriptor}."""
        return self._descriptor

    def logPrefix(self) -> str:
        """See L{IReadDescriptor}."""
        return f"process {self.pid}"

    def watch(self, on_end: Callable[[], None]) -> None:
        """
        @param on_end: called once when the process has ended.
        """
        self._on_end.append(on_end)
        self._reactor.addReader(self)

    def doRead(self) -> None:
        """It has ended."""
        self.close()
        for call in self._on_end:
            call()

    def connectionLost(self, reason: Failure) -> None:
        """See L{IReadDescriptor}."""
        self.close()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing when it has ended."""
        try:
            if self._descriptor >= 0:
                signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            return

    def close(self) -> None:
        """Look no longer; closing twice is safe."""
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1

    def arguments(self) -> tuple[str, ...]:
        """What it was started with; nothing when it has ended, or hides that."""
        try:
            with open(f"/proc/{self.pid}/cmdline", "rb") as file:
                return tuple(part.decode(errors="replace") for part in file.read().split(b"\0")[:-1])
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return ()


def found(server: Server, reactor: IReactorFDSet) -> Pidfd | None:
    """
    @return: the dnsmasq that a pid file names, if it is one that was started
        for it; whether with today's arguments is another question.
    """
    try:
        with open(server.pid_file) as file:
            return _its(server, int(file.read()), reactor)
    except (FileNotFoundError, ValueError):
        return None


def stray(server: Server, reactor: IReactorFDSet) -> Pidfd | None:
    """
    @return: the dnsmasq that was started for a pid file, whatever became of
        the file; looked for among all processes.
    """
    numbers = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return next((process for number in numbers if (process := _its(server, number, reactor))), None)


def _its(server: Server, pid: int, reactor: IReactorFDSet) -> Pidfd | None:
    try:
        process = Pidfd(pid, reactor)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_PROCESS:
            raise
        return None
    if f"--pid-file={server.pid_file}" in process.arguments():
        return process
    process.close()
    return None


_NO_PROCESS = (errno.ESRCH, errno.EINVAL, errno.ENOENT)
"""What C{pidfd_open} says to a number that is no process's, or a thread's by now."""


@attrs.define(eq=False)
class _Running:
    server: Server
    process: Pidfd


class Dnsmasqs:
    """
    All of a host.
    """

    log = Logger()

    def __init__(self, reactor: Any, command: Sequence[str] = ("dnsmasq",)) -> None:
        """
        @param reactor: provides processes, time and descriptors.
        @param command: what runs dnsmasq.
        """
        self._reactor: Any = reactor
        self._clock: IReactorTime = reactor
        self._tool = Tool(reactor, command)
        self._one_by_one = DeferredLock()
        self._wanted: dict[str, Server] = {}
        self._running: dict[str, _Running] = {}
        self._coming: dict[str, Any] = {}
        self._revivals: dict[str, float] = {}

    def ensure(self, server: Server, reread: bool, anew: bool = False) -> Deferred[None]:
        """
        Have this server run.  Repeating is safe.

        @param reread: whether its files have changed.
        @param anew: whether its bridge is another than it was.
        @return: fires when it answers; L{DriverFailure} with its own words
            when it can't be started.
        """
        self._wanted[server.network] = server
        return self._one_by_one.run(self._ensure, server, reread, anew)

    def remove(self, server: Server) -> Deferred[None]:
        """Have no such server, nor its files.  Nothing when there is none."""
        self._wanted.pop(server.network, None)
        return self._one_by_one.run(self._remove, server)

    @inlineCallbacks
    def _ensure(self, server: Server, reread: bool, anew: bool) -> Generator[Deferred[Any], Any, None]:
        self._cancel(server.network)
        running = self._running.get(server.network)
        process = running.process if running else found(server, self._reactor)
        if process is not None and not anew and process.arguments()[1:] == server.arguments:
            if running is None:
                self._take(server, process)
            if reread or running is None:  # who wrote the files may not have lived to say so
                process.send(signal.SIGHUP)
            return
        if process is not None:
            self._running.pop(server.network, None)
            yield self._end(process)
        yield self._start(server)

    @inlineCallbacks
    def _remove(self, server: Server) -> Generator[Deferred[Any], Any, None]:
        self._cancel(server.network)
        running = self._running.pop(server.network, None)
        process = running.process if running else found(server, self._reactor) or stray(server, self._reactor)
        if process is not None:
            yield self._end(process)
        for path in (server.pid_file, server.hosts, server.names):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue

    def let_go(self) -> None:
        """Watch no longer; they run on."""
        self._wanted.clear()
        for network in list(self._coming):
            self._cancel(network)
        for running in self._running.values():
            running.process.close()
        self._running.clear()

    @inlineCallbacks
    def _start(self, server: Server) -> Generator[Deferred[Any], Any, None]:
        try:
            yield self._tool.run(server.arguments)  # returns when its sockets are open
        except DriverFailure:
            other = stray(server, self._reactor)
            if other is None:
                raise
            self.log.warn("dnsmasq of {bridge} is there without its pid file; replaced", bridge=server.bridge)
            yield self._end(other)
            yield self._tool.run(server.arguments)
        process = found(server, self._reactor)
        if process is None:
            raise DriverFailure(f"dnsmasq of {server.bridge} ended as soon as it was started")
        self._take(server, process)
        self.log.info("dnsmasq of {bridge} is process {pid}", bridge=server.bridge, pid=process.pid)

    def _take(self, server: Server, process: Pidfd) -> None:
        running = _Running(server, process)
        self._running[server.network] = running
        process.watch(lambda: self._ended(running))

    def _ended(self, running: _Running) -> None:
        """It ended without being told to."""
        server = running.server
        if self._running.get(server.network) is not running:
            return
        del self._running[server.network]
        self.log.error(
            "dnsmasq of {bridge}, process {pid}, has ended; starting another",
            bridge=server.bridge,
            pid=running.process.pid,
        )
        self._again(server)

    def _again(self, server: Server) -> None:
        calm = self._clock.seconds() - self._revivals.get(server.network, 0.0) > CALM
        seconds = 0.0 if calm else CALM
        self._coming[server.network] = self._clock.callLater(seconds, self._revive, server)

    def _revive(self, server: Server) -> None:
        self._coming.pop(server.network, None)

        def failed(failure: Failure) -> None:
            self.log.error("dnsmasq of {bridge} does not start: {why}", bridge=server.bridge, why=failure.value)
            self._again(server)

        self._revivals[server.network] = self._clock.seconds()
        if self._wanted.get(server.network) == server:
            self._one_by_one.run(self._revived, server).addErrback(failed)

    def _revived(self, server: Server) -> Deferred[None]:
        if self._wanted.get(server.network) != server:
            return succeed(None)
        return self._ensure(server, False, False)

    def _cancel(self, network: str) -> None:
        coming = self._coming.pop(network, None)
        if coming is not None and coming.active():
            coming.cancel()

    def _end(self, process: Pidfd) -> Deferred[None]:
        """
        @return: fires when it has ended.
        """
        ended: Deferred[None] = Deferred()
        if not process.arguments():
            process.close()
            return succeed(None)
        late = self._clock.callLater(KILL_AFTER, process.send, signal.SIGKILL)

        def end() -> None:
            if late.active():
                late.cancel()
            ended.callback(None)

        process.watch(end)
        process.send(signal.SIGTERM)
        return ended
