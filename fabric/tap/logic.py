"""
The controller's logic, wired: what doors, scheduler and controller share.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.threads import deferToThread

from fabric.cloud import Cloud
from fabric.cloud.adoption import Adoption
from fabric.cloud.controller import CloudWorker
from fabric.cloud.groups import Groups
from fabric.cloud.hosts import Hosts
from fabric.cloud.images import Images
from fabric.cloud.instances import Instances
from fabric.cloud.keypairs import KeyPairs, KeyPool
from fabric.cloud.launch import Launches
from fabric.cloud.listings import Listings
from fabric.cloud.networks import Networks
from fabric.cloud.orders import Orders
from fabric.cloud.placement import Placement
from fabric.cloud.quotas import Quotas
from fabric.cloud.reports import Reports
from fabric.cloud.sweep import Sweep
from fabric.cloud.tags import Tags
from fabric.faults import IFaults
from fabric.rpc.interface import IQueue
from fabric.settings import Settings
from fabric.store.interface import IStore


@attrs.frozen
class Logic:
    """
    @ivar key_pool: to be filled once the reactor runs, where there is a door.
    """

    cloud: Cloud
    key_pool: KeyPool
    placement: Placement
    reports: Reports
    sweep: Sweep
    worker: CloudWorker


def wire(reactor: Any, settings: Settings, store: IStore, queue: IQueue, faults: IFaults) -> Logic:
    """
    @return: all of C{fabric.cloud}, over a store and a queue.
    """
    controller = settings.controller
    resend = controller.resend_seconds
    networks = Networks(store, reactor, settings.network.label)
    hosts = Hosts(store, reactor, controller.service_down_time, settings.zone)
    orders = Orders(queue, networks)
    quotas = Quotas(store, attrs.asdict(settings.quota))
    listings = Listings(store)
    key_pool = KeyPool(deferToThread)
    launches = Launches(store, networks, quotas, orders, reactor, faults, resend)
    reports = Reports(store, orders, reactor, faults, resend)
    placement = Placement(store, hosts, orders, reactor, faults, resend)
    adoption = Adoption(store, queue, orders, reports, reactor, faults, controller.stray_grace)
    cloud = Cloud(
        instances=Instances(store, queue, launches, orders, quotas, reactor, faults, resend),
        key_pairs=KeyPairs(store, quotas, key_pool, reactor),
        images=Images(store, listings),
        groups=Groups(store, quotas, reactor),
        tags=Tags(store),
        hosts=hosts,
        networks=networks,
        quotas=quotas,
        listings=listings,
    )
    return Logic(
        cloud=cloud,
        key_pool=key_pool,
        placement=placement,
        reports=reports,
        sweep=Sweep(store, hosts, orders, reactor, resend),
        worker=CloudWorker(hosts, reports, adoption, placement, settings.queue.accounts),
    )
