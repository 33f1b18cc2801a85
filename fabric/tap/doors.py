"""
The doors at one endpoint: EC2, admin, health and metrics.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fabric.api.admin import door as admin
from fabric.api.admin.door import AdminDoor
from fabric.api.admin.guests import GuestActions
from fabric.api.admin.images import ImageActions
from fabric.api.admin.machines import MachineActions
from fabric.api.admin.people import PeopleActions
from fabric.api.admin.quotas import QuotaActions
from fabric.api.admin.registry import actions
from fabric.api.ec2.actions.catalog import ec2_actions
from fabric.api.ec2.door import EC2Door
from fabric.api.ec2.views import EC2Views
from fabric.api.ec2.wire.model import load_model
from fabric.api.interface import IDoor
from fabric.api.metadata.door import PATH as EVERYWHERE
from fabric.api.metadata.door import MetadataDoor
from fabric.api.metadata.tree import Place
from fabric.api.site import Limits, Site
from fabric.cloud.cloud import Cloud
from fabric.cloud.sources import Sources
from fabric.metrics import Metrics
from fabric.settings import Settings
from fabric.store.interface import IStore
from fabric.tap.listening import Listening, advertised
from fabric.tap.start import Step
from fabric.users.interface import IDirectory

ASKED = 1024
"""Bytes of a body that a machine may send, who has nothing to say."""


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
        machines = (MachineActions(cloud, store, people), ImageActions(cloud, people), GuestActions(cloud))
        owners = (PeopleActions(people), QuotaActions(cloud.quotas, people), *machines)
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
