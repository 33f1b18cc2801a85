"""
The doors at one endpoint: EC2, admin, health and metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from twisted.python.failure import Failure

from fabric.api.admin import door as admin
from fabric.api.admin.door import AdminDoor
from fabric.api.admin.guests import GuestActions
from fabric.api.admin.images import ImageActions
from fabric.api.admin.machines import MachineActions
from fabric.api.admin.people import PeopleActions
from fabric.api.admin.registry import actions
from fabric.api.ec2.actions.catalog import ec2_actions
from fabric.api.ec2.door import EC2Door
from fabric.api.ec2.views import EC2Views
from fabric.api.ec2.wire.model import load_model
from fabric.api.interface import IDoor
from fabric.api.metadata.door import PATH as EVERYWHERE
from fabric.api.metadata.door import MetadataDoor
from fabric.api.metadata.tree import Place
from fabric.api.operations import Health, HealthDoor, MetricsDoor, Probe
from fabric.api.site import Limits, Site
from fabric.cloud import Cloud
from fabric.cloud.levels import Levels
from fabric.cloud.sources import Sources
from fabric.errors import NotFound
from fabric.metrics import Metrics
from fabric.rpc.interface import IQueue
from fabric.settings import Settings
from fabric.store.interface import IStore
from fabric.tap.listening import Listening, advertised
from fabric.tap.start import Step
from fabric.tap.transports import nothing
from fabric.users.interface import IDirectory

ASKED = 1024
"""Bytes of a body that a machine may send, who has nothing to say."""


def operations(health: Health, metrics: Metrics, levels: Levels | None = None) -> dict[str, IDoor]:
    """
    @return: C{/health} and C{/metrics}.
    """
    before = levels.read if levels is not None else nothing
    return {"/health": HealthDoor(health), "/metrics": MetricsDoor(metrics, before)}


def watched(
    reactor: Any,
    settings: Settings,
    metrics: Metrics,
    name: str,
    asked: Mapping[str, Probe],
    levels: Levels | None = None,
) -> list[Step]:
    """
    @return: the step that opens C{/health} and C{/metrics} of a service that
        has no other door; none when settings want none.
    """
    if not settings.operations.endpoint:
        return []
    routes = operations(Health(reactor, name, asked), metrics, levels)
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
        found["queue"] = queue.depths
    if people is not None:
        found["directory"] = lambda: people.user("-").addErrback(_is_there)
    return found


def _is_there(failure: Failure) -> None:
    """That nobody has that name is an answer too."""
    failure.trap(NotFound)


def front(
    reactor: Any,
    settings: Settings,
    metrics: Metrics,
    cloud: Cloud,
    rehearsal: Cloud,
    store: IStore,
    people: IDirectory,
    views: EC2Views,
    routes: dict[str, IDoor],
) -> Listening:
    """
    @param rehearsal: the same cloud, changing nothing.
    @param routes: those of L{operations}.
    @return: the endpoint that clients talk to.
    """
    where = advertised(settings.api.endpoint, settings.api.url).partition("://")[2]
    registry = ec2_actions(cloud, views, settings.region, where)
    dry = ec2_actions(rehearsal, views, settings.region, where)
    ec2 = EC2Door(people, registry, load_model(registry.names()), reactor, metrics, rehearsal=dry)
    doors: dict[str, IDoor] = {"/": ec2, "/services/Cloud": ec2, **routes}
    if settings.api.admin:
        owners = (PeopleActions(people), MachineActions(cloud, store), ImageActions(cloud), GuestActions(cloud))
        doors[admin.PATH] = AdminDoor(people, actions(owners), reactor, metrics)
    api = settings.api
    limits = Limits(body=api.body_bytes, header=api.header_bytes, idle=api.idle_seconds, receive=api.request_seconds)
    return Listening(reactor, api.endpoint, Site(reactor, doors, limits))


def metadata(reactor: Any, settings: Settings, metrics: Metrics, store: IStore, endpoint: str) -> list[Step]:
    """
    @return: the step that opens the door that machines ask at; none without
        an endpoint.
    """
    if not endpoint:
        return []
    wanted, api = settings.metadata, settings.api
    services = wanted.services or urlsplit(api.url).hostname or "localhost"
    sources = Sources(store, reactor, wanted.network)
    place = Place(settings.region, services)
    door = MetadataDoor(sources, place, reactor, metrics, wanted.trust_forwarded)
    limits = Limits(body=ASKED, header=api.header_bytes, idle=api.idle_seconds, receive=api.request_seconds)
    return [Listening(reactor, endpoint, Site(reactor, {EVERYWHERE: door}, limits)).step("metadata")]
