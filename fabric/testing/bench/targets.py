"""
What is measured: servers with an EC2 endpoint and processes to count.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fabric.testing.bench import sigv4
from fabric.testing.bench.load import Outcome, Plan, Wire, run
from fabric.testing.bench.processes import cpu_seconds
from fabric.testing.bench.report import Sample
from fabric.testing.ports import free_port

SOURCES = Path(__file__).resolve().parents[3]


def await_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """
    Wait until something listens.

    @raise RuntimeError: it ended, or never listened.
    """
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


class Target:
    """
    @ivar name: as the table shows it.
    @ivar roots: the processes whose trees are counted; none for a server that
        somebody else started.
    """

    def __init__(self, name: str, endpoint: sigv4.Endpoint, roots: Sequence[int]) -> None:
        self.name = name
        self.endpoint = endpoint
        self.roots = list(roots)

    def request(self, action: str, **parameters: str) -> bytes:
        """
        A signed request; C{_} in a name stands for a dot.
        """
        named = {name.replace("_", "."): value for name, value in parameters.items()}
        return sigv4.request(self.endpoint, action, named)

    def wire(self) -> Wire:
        """A connection."""
        return Wire(self.endpoint.host, self.endpoint.port)

    def cpu(self) -> float | None:
        """Seconds used so far."""
        return cpu_seconds(self.roots) if self.roots else None

    def drive(self, requests: Sequence[bytes], in_flight: int, seconds: float, count: int = 0) -> Outcome:
        """Send for so long, or so many."""
        return run(Plan(self.endpoint.host, self.endpoint.port, tuple(requests), in_flight, seconds, count))

    def sample(
        self, cell: str, requests: Sequence[bytes], in_flight: int, seconds: float, count: int = 0, warm: bool = True
    ) -> Sample:
        """
        One round: a little to warm up, then the measured part.

        @param warm: whether the first request may be sent more than once.
        """
        if warm:
            self.drive(requests[:1], min(in_flight, 4), 0.0, min(in_flight, 4))
        before = self.cpu()
        outcome = self.drive(requests, in_flight, seconds, count)
        after = self.cpu()
        cpu = (after - before) / outcome.count * 1e6 if before is not None and after is not None else None
        return sampled(cell, self.name, outcome, cpu)


def sampled(cell: str, target: str, outcome: Outcome, cpu_us: float | None) -> Sample:
    """
    An outcome as a sample.
    """
    return Sample(
        cell,
        target,
        outcome.count,
        cpu_us,
        outcome.rate,
        outcome.quantile(0.5) * 1e3,
        outcome.quantile(0.99) * 1e3,
        outcome.failures,
        outcome.size,
    )


class Started(Target):
    """
    A target in a process that this object starts and ends.
    """

    def __init__(self, name: str, argv: list[str], endpoint: sigv4.Endpoint) -> None:
        environment = os.environ | {"PYTHONPATH": str(SOURCES)}
        self._process = subprocess.Popen(
            argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        Target.__init__(self, name, endpoint, [self._process.pid])
        await_port(endpoint.port, self._process)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def bare() -> Started:
    """
    The yardstick of L{fabric.testing.bench.bare}; its path is set by L{sized}.
    """
    port = free_port()
    argv = [sys.executable, "-m", "fabric.testing.bench.bare", str(port), "AKBENCH", "secret"]
    return Started("bare", argv, sigv4.Endpoint("127.0.0.1", port, "/100", "AKBENCH", "secret"))


def moto(command: str) -> Started:
    """
    moto's server.

    @param command: path of C{moto_server}.
    """
    port = free_port()
    endpoint = sigv4.Endpoint("127.0.0.1", port, "/", "testing", "testing")
    return Started("moto", [command, "-H", "127.0.0.1", "-p", str(port)], endpoint)
