"""
The cloud's logic put together over a store and a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fabric.cloud import Cloud
from fabric.cloud.adoption import Adoption
from fabric.cloud.controller import CloudWorker, DeadLetters
from fabric.cloud.groups import Groups
from fabric.cloud.hosts import DOWN_AFTER, Hosts
from fabric.cloud.images import Images
from fabric.cloud.instances import Instances
from fabric.cloud.keypairs import KeyPairs, KeyPool
from fabric.cloud.launch import RESEND_AFTER, Launches
from fabric.cloud.listings import Listings
from fabric.cloud.networks import Networks
from fabric.cloud.orders import Orders
from fabric.cloud.placement import Placement
from fabric.cloud.quotas import Quotas
from fabric.cloud.reports import Reports
from fabric.cloud.sweep import Sweep
from fabric.cloud.tags import Tags
from fabric.faults import IFaults, NoFaults
from fabric.rpc.interface import IQueue
from fabric.store.interface import IStore

QUOTAS = {"instances": 100, "cores": 200, "ram": 512000, "key_pairs": 100, "groups": 100}


@attrs.frozen
class Rules:
    """
    What an operator may set about the cloud's logic.

    @ivar quotas: the default limit of each resource.
    @ivar network: the label of the network that launches use.
    @ivar resend_after: seconds until an unanswered order is sent again.
    @ivar down_after: seconds without a report until a service counts as dead.
    @ivar stray_grace: seconds for which an unknown machine is kept.
    @ivar accounts: whether each host has its own broker account.
    @ivar ready_keys: RSA keys kept ready.
    """

    quotas: Mapping[str, int] = attrs.field(factory=lambda: dict(QUOTAS))
    network: str = "private"
    zone: str = "nova"
    resend_after: float = RESEND_AFTER
    down_after: float = DOWN_AFTER
    stray_grace: float = 86400.0
    accounts: bool = False
    ready_keys: int = 8


@attrs.frozen
class Assembly:
    """
    The parts, for doors (C{cloud}), schedulers (C{placement}) and controllers.
    """

    cloud: Cloud
    key_pool: KeyPool
    placement: Placement
    worker: CloudWorker
    sweep: Sweep
    dead_letters: DeadLetters


def assemble(
    store: IStore,
    queue: IQueue,
    clock: IReactorTime,
    defer: Callable[..., Deferred[Any]],
    rules: Rules | None = None,
    faults: IFaults | None = None,
) -> Assembly:
    """
    @param defer: runs a function in a thread, as C{threads.deferToThread}.
    """
    rules = rules or Rules()
    faults = faults or NoFaults()
    again = rules.resend_after
    quotas = Quotas(store, rules.quotas)
    networks = Networks(store, clock, rules.network)
    orders = Orders(queue, networks)
    hosts = Hosts(store, clock, rules.down_after, rules.zone)
    listings = Listings(store)
    pool = KeyPool(defer, rules.ready_keys)
    launches = Launches(store, networks, quotas, orders, clock, faults, again)
    cloud = Cloud(
        Instances(store, queue, launches, orders, quotas, clock, faults, again),
        KeyPairs(store, quotas, pool, clock),
        Images(store, listings),
        Groups(store, quotas, clock),
        Tags(store),
        hosts,
        networks,
        quotas,
        listings,
    )
    placement = Placement(store, hosts, orders, clock, faults, again)
    reports = Reports(store, orders, clock, faults, again)
    adoption = Adoption(store, queue, orders, reports, clock, faults, rules.stray_grace)
    worker = CloudWorker(hosts, reports, adoption, placement, rules.accounts)
    sweep = Sweep(store, hosts, orders, clock, again)
    return Assembly(cloud, pool, placement, worker, sweep, DeadLetters(reports))
