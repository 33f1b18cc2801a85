"""
What a service counts and times, for Prometheus.

Timings are kept in plain lists and only become Prometheus samples when they are
scraped: a request makes several observations, so one must cost well under a
microsecond or two.  All of it is for the reactor's thread alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets, in seconds."""

MOST_CHILDREN = 2000
"""Label sets a metric keeps apart; what comes after is counted as C{other}."""

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
"""Of L{Metrics.exposition}: Prometheus' text format."""


class Metrics:
    """
    The metrics of one process, in a registry of their own.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = _Timings("fabric_request_seconds", "Requests at a door.", ("door", "action", "code"))
        self._calls = _Timings("fabric_call_seconds", "Calls and casts sent.", ("topic", "method", "outcome"))
        self._handled = _Timings("fabric_handled_seconds", "Messages worked on.", ("topic", "method", "outcome"))
        self._store = _Timings("fabric_store_seconds", "Round trips to the store.", ("operation", "outcome"))
        self._free = _Levels("fabric_pool_free", "Members of a pool that nobody holds.", "pool")
        self._members = _Levels("fabric_pool_members", "Members of a pool in all.", "pool")
        self._alive = _Levels("fabric_service_alive", "1 while a service sends heartbeats.", "service")
        self._stuck = _Levels("fabric_stuck", "Records past the deadline of their state.", "kind")
        self._depth = _Levels("fabric_queue_depth", "Messages that wait at an address.", "address")
        for timings in (self._requests, self._calls, self._handled, self._store):
            self.registry.register(timings)
        for levels in (self._free, self._members, self._alive, self._stuck, self._depth):
            self.registry.register(levels)
        ProcessCollector(registry=self.registry)

    def request(self, door: str, action: str, code: str, seconds: float) -> None:
        """
        A door answered.

        @param action: of those that the door knows, so that strangers can't
            invent label values.
        @param code: the HTTP status, or the fault's code.
        """
        self._requests.observe((door, action, code), seconds)

    def call(self, topic: str, method: str, outcome: str, seconds: float) -> None:
        """A message that was sent was answered, confirmed, or failed."""
        self._calls.observe((topic, method, outcome), seconds)

    def handled(self, topic: str, method: str, outcome: str, seconds: float) -> None:
        """A message that came was worked on."""
        self._handled.observe((topic, method, outcome), seconds)

    def store(self, operation: str, outcome: str, seconds: float) -> None:
        """The store answered, or failed."""
        self._store.observe((operation, outcome), seconds)

    def pool_levels(self, levels: Mapping[str, tuple[int, int]]) -> None:
        """How full all pools are: free members, and members in all."""
        self._free.values = {pool: free for pool, (free, _) in levels.items()}
        self._members.values = {pool: members for pool, (_, members) in levels.items()}

    def services_alive(self, alive: Mapping[str, bool]) -> None:
        """Whether C{TOPIC.HOST} sends heartbeats, of all services."""
        self._alive.values = {service: int(each) for service, each in alive.items()}

    def stuck(self, kind: str, count: int) -> None:
        """How many records of a kind are past their deadline."""
        self._stuck.values[kind] = count

    def queue_depths(self, counts: Mapping[str, float]) -> None:
        """How many messages wait at each C{topic} and C{topic.host}."""
        self._depth.values = dict(counts)

    def exposition(self) -> bytes:
        """
        @return: everything in Prometheus' text format.
        """
        return generate_latest(self.registry)


class _Timings(Collector):
    """
    A histogram by labels.

    @ivar _children: C{{labels: [count in each bucket…, sum]}}.
    """

    def __init__(self, name: str, what: str, labels: tuple[str, ...]) -> None:
        self._name = name
        self._what = what
        self._labels = labels
        self._children: dict[tuple[str, ...], list[float]] = {}

    def observe(self, labels: tuple[str, ...], seconds: float) -> None:
        child = self._children.get(labels)
        if child is None:
            child = self._child(labels)
        child[bisect_left(BOUNDS, seconds)] += 1
        child[-1] += seconds

    def _child(self, labels: tuple[str, ...]) -> list[float]:
        if len(self._children) >= MOST_CHILDREN:
            labels = ("other",) * len(labels)
        return self._children.setdefault(labels, [0] * (len(BOUNDS) + 2))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._what, labels=self._labels)
        for labels, child in self._children.items():
            buckets: list[tuple[str, float]] = []
            total = 0.0
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), child[:-1], strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric(labels, buckets, child[-1])
        yield family


class _Levels(Collector):
    """
    A gauge by one label.

    @ivar values: set whole where things come and go: what is gone has no level.
    """

    def __init__(self, name: str, what: str, label: str) -> None:
        self._name = name
        self._what = what
        self._label = label
        self.values: dict[str, float] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._what, labels=(self._label,))
        for label, value in self.values.items():
            family.add_metric((label,), value)
        yield family
