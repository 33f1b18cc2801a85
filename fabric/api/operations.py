"""
What a service shows to those who watch it: C{/health} and C{/metrics}.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import orjson
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from fabric.api.interface import IDoor
from fabric.metrics import CONTENT_TYPE, Metrics

Probe = Callable[[], Deferred[Any]]
"""Asks a part something small; fails when the part can't be used."""

PATIENCE = 2.0
"""Seconds after which a part that did not answer counts as unwell."""


class Health:
    """
    Whether the parts that a service needs answer.
    """

    def __init__(self, clock: IReactorTime, service: str, probes: Mapping[str, Probe]) -> None:
        """
        @param service: its name, as C{cloud-compute}.
        @param probes: by the part's name.
        """
        self._clock = clock
        self._service = service
        self._probes = probes

    @inlineCallbacks
    def look(self) -> Generator[Deferred[Any], Any, tuple[bool, dict[str, Any]]]:
        """
        @return: whether all is well, and what to tell: C{{"service", "status",
            "parts": {name: "ok" or why not}}}.  Never fails.
        """
        asked = {name: self._ask(probe) for name, probe in self._probes.items()}
        parts: dict[str, str] = {}
        for name, answer in asked.items():
            parts[name] = yield answer
        well = all(part == "ok" for part in parts.values())
        return well, {"service": self._service, "status": "ok" if well else "unwell", "parts": parts}

    def _ask(self, probe: Probe) -> Deferred[str]:
        answer: Deferred[Any] = maybeDeferred(probe).addTimeout(PATIENCE, self._clock)
        return answer.addCallbacks(lambda _: "ok", lambda failure: str(failure.value) or failure.type.__name__)


class _ReadOnly:
    """
    What both doors have in common.
    """

    def handle(self, exchange: Any) -> None:
        """Answer GET and HEAD."""
        if exchange.method in ("GET", "HEAD"):
            self.show(exchange)
        else:
            self.refuse(exchange, 405, "only GET is answered here")

    def refuse(self, exchange: Any, status: int, why: str) -> None:
        """Say why, in a line."""
        exchange.answer(status, why.encode() + b"\n", b"text/plain")

    def show(self, exchange: Any) -> None:
        """Answer a GET."""
        raise NotImplementedError


@implementer(IDoor)
class HealthDoor(_ReadOnly):
    """
    200 when all is well, 503 when not; JSON either way.
    """

    def __init__(self, health: Health) -> None:
        self._health = health

    def show(self, exchange: Any) -> None:
        """Answer when every part has."""
        self._health.look().addCallback(self._answer, exchange)

    def _answer(self, found: tuple[bool, dict[str, Any]], exchange: Any) -> None:
        well, told = found
        exchange.answer(200 if well else 503, orjson.dumps(told) + b"\n", b"application/json")


@implementer(IDoor)
class MetricsDoor(_ReadOnly):
    """
    Everything counted, in Prometheus' text format.

    @ivar before: called before the metrics are read, to set levels.
    """

    def __init__(self, metrics: Metrics, before: Callable[[], Any]) -> None:
        self._metrics = metrics
        self._before = before

    def show(self, exchange: Any) -> None:
        """Answer with all metrics, of which the levels may be a scrape old when they can't be had."""
        reading = maybeDeferred(self._before)
        reading.addErrback(lambda failure: None)
        reading.addCallback(lambda _: exchange.answer(200, self._metrics.exposition(), CONTENT_TYPE))
