"""
What shows how a service does: C{/health} and C{/metrics}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.python.failure import Failure

from fabric.api.interface import IDoor
from fabric.api.operations import Health, HealthDoor, MetricsDoor, Probe
from fabric.api.site import Site
from fabric.errors import NotFound
from fabric.metrics import Metrics
from fabric.rpc.interface import IQueue
from fabric.settings import Settings
from fabric.store.interface import IStore
from fabric.tap.listening import Listening
from fabric.tap.queueing import nothing
from fabric.tap.start import Step
from fabric.users.interface import IDirectory


def operations(health: Health, metrics: Metrics, read: Callable[[], Any] = nothing) -> dict[str, IDoor]:
    """
    @param read: what reads the levels before they are shown.
    @return: C{/health} and C{/metrics}.
    """
    return {"/health": HealthDoor(health), "/metrics": MetricsDoor(metrics, read)}


def watched(
    reactor: Any,
    settings: Settings,
    metrics: Metrics,
    name: str,
    asked: Mapping[str, Probe],
    read: Callable[[], Any] = nothing,
) -> list[Step]:
    """
    @param read: as of L{operations}.
    @return: the step that opens C{/health} and C{/metrics} of a service that
        has no other door; none when settings want none.
    """
    if not settings.operations.endpoint:
        return []
    routes = operations(Health(reactor, name, asked), metrics, read)
    return [Listening(reactor, settings.operations.endpoint, Site(reactor, routes)).step("operations")]


def probes(
    store: IStore | None = None, queue: IQueue | None = None, people: IDirectory | None = None
) -> dict[str, Probe]:
    """
    @return: a small question to each part that a service needs.
    """
    found: dict[str, Probe] = {}
    if store is not None:
        found["store"] = lambda: store.counters(["-"])
    if queue is not None:
        found["queue"] = queue.ping
    if people is not None:
        found["directory"] = lambda: people.user("-").addErrback(_is_there)
    return found


def _is_there(failure: Failure) -> None:
    """That nobody has that name is an answer too."""
    failure.trap(NotFound)
