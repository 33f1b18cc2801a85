"""
The cells of a host's packet filters: loading all of a thousand instances, and
adding one to few and to many, beside C{nft} given the finished texts; and what
a new connection costs among few and among many, beside none of our rules.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from twisted.internet.threads import blockingCallFromThread

from fabric.network.linux.nft import Nft
from fabric.network.linux.packetfilter import PacketFilter
from fabric.network.linux.ruleset import Outside, ruleset
from fabric.network.linux.tables import change, none, whole
from fabric.testing.bench.cells import Effort
from fabric.testing.bench.report import Results, Sample, Verdict
from fabric.testing.guests import NetnsGuest
from fabric.testing.hostnetworks import NETWORK, crowd, joined
from fabric.testing.namespaces import Namespaces

SIZES = (0, 200, 1000)
"""Instances that are loaded when one more comes."""

OUTSIDE = Outside("eth0", "198.51.100.1")


def measure(results: Results, effort: Effort, reactor: Any) -> None:
    """
    Load and add, in a network namespace of the bench's own; needs root.

    @param reactor: runs in another thread.
    """
    namespaces = Namespaces()
    try:
        namespaces.make("host")
        host = _Host(results, reactor, Nft(reactor, namespaces.command("host", ["nft"])))
        asks = _pair(namespaces)
        for _ in range(effort.rounds):
            host.load(SIZES[-1])
            for size in SIZES:
                host.add(size, max(5, round(effort.seconds * 10)))
                host.connect(max(size, 2), asks, max(50, round(effort.seconds * 200)))
    finally:
        namespaces.remove()


def _pair(namespaces: Namespaces) -> Callable[[], Any]:
    """
    Plug the first two of every crowd.

    @return: has one ask the other for a connection.
    """
    namespaces.run("host", ["ip", "link", "add", NETWORK.bridge, "type", "bridge", "forward_delay", "0"])
    namespaces.run("host", ["ip", "link", "set", NETWORK.bridge, "up"])
    ports = list(crowd(2).ports.values())
    guests = [NetnsGuest(namespaces, "host", port.instance, port.mac) for port in ports]
    for guest, port in zip(guests, ports, strict=True):
        guest.plug(NETWORK.bridge)
        guest.has_address(port.address + "/16")
    return lambda: guests[0].reaches(ports[1].address, 22)


class _Host:
    """
    Where rules are loaded.
    """

    def __init__(self, results: Results, reactor: Any, nft: Nft) -> None:
        self._results = results
        self._reactor = reactor
        self._nft = nft

    def load(self, size: int) -> None:
        """Everything at once, from nothing."""
        host = crowd(size)
        text = whole(ruleset(host, OUTSIDE))
        cell = f"rules-load-{size}"
        filters = [PacketFilter(self._nft, OUTSIDE) for _ in range(5)]
        self._time(cell, "fabric", [partial(each.apply, host) for each in filters], len(text))
        self._time(cell, "nft", [partial(self._nft.apply, text)] * 5, len(text))

    def add(self, size: int, count: int) -> None:
        """One more, and one more, each taken away again."""
        few = crowd(size)
        more = [joined(few, [size + number]) for number in range(count)]
        first = ruleset(few, OUTSIDE)
        texts = [change(first, ruleset(host, OUTSIDE, first)) for host in more]
        back = [change(ruleset(host, OUTSIDE, first), first) for host in more]
        filters = PacketFilter(self._nft, OUTSIDE)
        self._run(filters.apply, few)
        cell, size = f"rules-add-{size}", len(texts[0])
        self._time(cell, "fabric", [partial(filters.apply, host) for host in more], size, partial(filters.apply, few))
        self._time(cell, "nft", [partial(self._nft.apply, text) for text in texts], size, self._undo(back))

    def connect(self, size: int, asks: Callable[[], Any], count: int) -> None:
        """New connections between two guests, which nobody takes, while so many are loaded."""
        self._run(PacketFilter(self._nft, OUTSIDE).apply, crowd(size))
        assert asks(), "the rules let nothing pass"
        self._sample(f"rules-connect-{size}", "fabric", [asks] * count, 0)
        self._run(self._nft.apply, none())
        self._sample(f"rules-connect-{size}", "bare", [asks] * count, 0)

    def _undo(self, texts: list[str]) -> Callable[[], Any]:
        left = iter(texts)
        return lambda: self._nft.apply(next(left))

    def _time(
        self, cell: str, target: str, calls: list[Callable[[], Any]], size: int, after: Callable[[], Any] | None = None
    ) -> None:
        then = None if after is None else partial(self._run, after)
        self._sample(cell, target, [partial(self._run, call) for call in calls], size, then)

    def _sample(
        self, cell: str, target: str, calls: list[Callable[[], Any]], size: int, after: Callable[[], Any] | None = None
    ) -> None:
        walls, cpu = [], 0.0
        for call in calls:
            before, began = _cpu(), time.perf_counter()
            call()
            walls.append(time.perf_counter() - began)
            cpu += _cpu() - before
            if after is not None:
                after()
        walls.sort()
        ops = len(walls)
        self._results.add(
            Sample(
                cell,
                target,
                ops,
                cpu / ops * 1e6,
                ops / sum(walls),
                walls[ops // 2] * 1e3,
                walls[-1] * 1e3,
                0,
                size,
            )
        )

    def _run(self, call: Callable[..., Any], *arguments: Any) -> None:
        blockingCallFromThread(self._reactor, call, *arguments)


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def judge(results: Results) -> Iterator[Verdict]:
    """What a host's packet filters were promised to cost."""
    most = SIZES[-1]
    load = results.median(f"rules-load-{most}", "fabric", "p50_ms")
    yield Verdict(f"seconds to load the rules of {most} instances", load and load / 1000, 0.3)
    yield Verdict(f"ms to add one to {most}", results.median(f"rules-add-{most}", "fabric", "p50_ms"), 20.0)
    for size in SIZES[1:]:
        ratio = results.ratio((f"rules-add-{size}", "fabric"), ("rules-add-0", "fabric"))
        yield Verdict(f"CPU of adding one to {size} over adding one to none", ratio, 1.5)
    ratio = results.ratio((f"rules-connect-{most}", "fabric"), ("rules-connect-2", "fabric"), "p50_ms")
    yield Verdict(f"time of a connection among {most} over one among 2", ratio, 1.2)
