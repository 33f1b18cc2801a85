"""
The queue's cell: round trips of this project's calls beside pika's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from fabric.testing.bench.load import Outcome
from fabric.testing.bench.processes import cpu_seconds
from fabric.testing.bench.report import Results, Verdict
from fabric.testing.bench.targets import SOURCES, sampled

IMPLEMENTATIONS = ("fabric", "pika")


class Peer:
    """
    One side of a round trip; see L{fabric.testing.bench.queue_peer}.
    """

    def __init__(self, implementation: str, side: str, port: int) -> None:
        argv = [sys.executable, "-m", "fabric.testing.bench.queue_peer", implementation, side, str(port)]
        self._process = subprocess.Popen(
            argv,
            env=os.environ | {"PYTHONPATH": str(SOURCES)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._line() != "ready":
            raise RuntimeError(f"{implementation} {side} did not come up")

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return cpu_seconds([self._process.pid])

    def drive(self, count: int, in_flight: int) -> dict[str, Any]:
        """Have the driving side make calls."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count} {in_flight}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def round_trips(results: Results, rounds: int, port: int, counts: dict[int, int]) -> None:
    """
    CPU of both sides together, each implementation in turn; the broker's own is
    not ours to better and is left out.

    @param counts: calls a round, by how many are in flight.
    """
    pairs = {name: (Peer(name, "serve", port), Peer(name, "drive", port)) for name in IMPLEMENTATIONS}
    try:
        for _serving, driving in pairs.values():
            driving.drive(500, 16)
        for _ in range(rounds):
            for flight, count in counts.items():
                for name, (serving, driving) in pairs.items():
                    before = serving.cpu + driving.cpu
                    measured = driving.drive(count, flight)
                    cpu = (serving.cpu + driving.cpu - before) / count * 1e6
                    outcome = Outcome(measured["seconds"], measured["latencies"])
                    results.add(sampled(f"queue-{flight}", name, outcome, cpu))
    finally:
        for pair in pairs.values():
            for peer in pair:
                peer.stop()


def judge(results: Results) -> Iterator[Verdict]:
    """The queue keeps up with the best of Twisted's."""
    ratio = results.ratio(("queue-64", "fabric"), ("queue-64", "pika"))
    yield Verdict(
        "CPU of a queue round trip at 64 in flight, over pika's Twisted adapter", ratio, 1.0, note="both sides"
    )
