"""
What a service shows to those who watch it: C{/health} and C{/metrics}.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import orjson
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import SERVICE_UNAVAILABLE, Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

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
            "parts": {name: "ok" or why not}}}.
        """
        asked = {name: self._ask(probe) for name, probe in self._probes.items()}
        parts: dict[str, str] = {}
        for name, answer in asked.items():
            parts[name] = yield answer
        well = all(part == "ok" for part in parts.values())
        return well, {"service": self._service, "status": "ok" if well else "unwell", "parts": parts}

    def _ask(self, probe: Probe) -> Deferred[str]:
        answer = maybeDeferred(probe).addTimeout(PATIENCE, self._clock)
        return answer.addCallbacks(lambda _: "ok", lambda failure: str(failure.value) or failure.type.__name__)


class OperationsResource(Resource):
    """
    The root of a service that has no other door.
    """

    def __init__(self, health: Health, metrics: Metrics) -> None:
        super().__init__()
        self.putChild(b"health", HealthResource(health))
        self.putChild(b"metrics", MetricsResource(metrics))


class HealthResource(Resource):
    """
    200 when all is well, 503 when not; JSON either way.
    """

    isLeaf = True

    def __init__(self, health: Health) -> None:
        super().__init__()
        self._health = health

    def render_GET(self, request: Request) -> int:
        """Answer when every part has."""
        left: list[Failure] = []
        request.notifyFinish().addErrback(left.append)
        self._health.look().addCallback(_answer, request, left)
        return NOT_DONE_YET


def _answer(found: tuple[bool, dict[str, Any]], request: Request, left: list[Failure]) -> None:
    well, told = found
    if left:
        return
    if not well:
        request.setResponseCode(SERVICE_UNAVAILABLE)
    request.setHeader(b"content-type", b"application/json")
    request.write(orjson.dumps(told) + b"\n")
    request.finish()


class MetricsResource(Resource):
    """
    Prometheus' text format.
    """

    isLeaf = True

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def render_GET(self, request: Request) -> bytes:
        """All metrics of the process."""
        request.setHeader(b"content-type", CONTENT_TYPE)
        return self._metrics.exposition()
