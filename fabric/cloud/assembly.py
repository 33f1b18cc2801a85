"""
The cloud's logic put together over a store and a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.addresses import Addresses
from fabric.cloud.adoption import Adoption
from fabric.cloud.associations import Associations
from fabric.cloud.attachments import Attachments
from fabric.cloud.captures import Captures
from fabric.cloud.care import Care
from fabric.cloud.cloud import Cloud
from fabric.cloud.controller import CloudWorker, DeadLetters
from fabric.cloud.crossings import Crossings
from fabric.cloud.enforcement import Enforcement
from fabric.cloud.evacuation import Evacuation
from fabric.cloud.fencing import Fencing, IFence, NoFence
from fabric.cloud.flavors import Flavors
from fabric.cloud.groups import Groups
from fabric.cloud.guests import Guests
from fabric.cloud.hosts import DOWN_AFTER, Hosts
from fabric.cloud.image_files import FileLinks, ImageFiles
from fabric.cloud.images import Images
from fabric.cloud.instances import Instances
from fabric.cloud.keypairs import KeyPairs, KeyPool
from fabric.cloud.launch import RESEND_AFTER, Launches
from fabric.cloud.listings import Listings
from fabric.cloud.metadata_options import MetadataSettings
from fabric.cloud.migrations import Migrations
from fabric.cloud.networks import Networks
from fabric.cloud.orders import Orders
from fabric.cloud.placement import Placement
from fabric.cloud.placement_groups import PlacementGroups
from fabric.cloud.quotas import Quotas
from fabric.cloud.ranges import Ranges
from fabric.cloud.reports import Reports
from fabric.cloud.rules import Rules as GroupRules
from fabric.cloud.snapshots import Snapshots
from fabric.cloud.sweep import Sweep
from fabric.cloud.tags import Tags
from fabric.cloud.templates import Templates
from fabric.cloud.volume_adoption import VolumeAdoption
from fabric.cloud.volume_orders import VolumeOrders
from fabric.cloud.volume_placement import VolumePlacement
from fabric.cloud.volume_reports import VolumeReports
from fabric.cloud.volume_sweep import VolumeSweep
from fabric.cloud.volumes import Volumes
from fabric.faults import IFaults, NoFaults
from fabric.image.interface import IStoreDoor
from fabric.objectstore.links import Signer
from fabric.rpc.interface import IQueue
from fabric.store.interface import IStore

QUOTAS = {"instances": 100, "cores": 200, "ram": 512000, "key_pairs": 100, "groups": 100}
QUOTAS |= {"placement_groups": 500, "launch_templates": 5000}
QUOTAS |= {"volumes": 100, "gigabytes": 10_000, "snapshots": 500, "addresses": 50, "images": 1000}


@attrs.frozen
class Rules:
    """
    What an operator may set about the cloud's logic.

    @ivar quotas: the default limit of each resource.
    @ivar network: the label of the network that launches use.
    @ivar own_networks: whether each project launches in a VLAN network of its own instead.
    @ivar resend_after: seconds until an unanswered order is sent again.
    @ivar down_after: seconds without a report until a service counts as dead.
    @ivar stray_grace: seconds for which an unknown machine is kept.
    @ivar accounts: whether each host has its own broker account.
    @ivar ready_keys: RSA keys kept ready.
    """

    quotas: Mapping[str, int] = attrs.field(factory=lambda: dict(QUOTAS))
    network: str = "private"
    own_networks: bool = False
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
    fencing: Fencing


def assemble(
    store: IStore,
    queue: IQueue,
    clock: IReactorTime,
    defer: Callable[..., Deferred[Any]],
    rules: Rules | None = None,
    faults: IFaults | None = None,
    teller: IStore | None = None,
    fence: IFence | None = None,
    signer: Signer | None = None,
    store_door: IStoreDoor | None = None,
) -> Assembly:
    """
    @param defer: runs a function in a thread, as C{threads.deferToThread}.
    @param teller: what reads the groups that hosts are told of, where that is
        to have connections of its own; C{store} otherwise.
    @param fence: makes silent hosts dead for sure; without one nothing of
        theirs is started elsewhere.
    @param signer: makes links to files of images; None without an object store.
    @param store_door: by which files that no image has are removed.
    """
    rules = rules or Rules()
    ground = _ground(store, queue, clock, rules, faults or NoFaults(), teller, signer)
    pool = KeyPool(defer, rules.ready_keys)
    cloud = _cloud(ground, rules, pool, store_door)
    return _controllers(ground, rules, cloud, pool, fence or NoFence())


@attrs.frozen
class _Ground:
    """What the nouns' logic stands on."""

    store: IStore
    queue: IQueue
    clock: IReactorTime
    faults: IFaults
    again: float
    quotas: Quotas
    networks: Networks
    links: FileLinks
    orders: Orders
    enforcement: Enforcement
    hosts: Hosts
    volume_orders: VolumeOrders
    volume_reports: VolumeReports
    volume_placement: VolumePlacement


def _ground(
    store: IStore,
    queue: IQueue,
    clock: IReactorTime,
    rules: Rules,
    faults: IFaults,
    teller: IStore | None,
    signer: Signer | None,
) -> _Ground:
    again = rules.resend_after
    networks = Networks(store, clock, rules.network, own=rules.own_networks)
    links = FileLinks(signer)
    orders = Orders(queue, networks, links)
    hosts = Hosts(store, clock, rules.down_after, rules.zone)
    volume_orders = VolumeOrders(queue)
    volume_reports = VolumeReports(store, volume_orders, orders, clock, faults, again)
    return _Ground(
        store,
        queue,
        clock,
        faults,
        again,
        Quotas(store, rules.quotas),
        networks,
        links,
        orders,
        Enforcement(teller or store, queue, faults),
        hosts,
        volume_orders,
        volume_reports,
        VolumePlacement(store, hosts, volume_orders, volume_reports.fail_volume, clock, faults, again),
    )


def _cloud(ground: _Ground, rules: Rules, pool: KeyPool, store_door: IStoreDoor | None) -> Cloud:
    store, clock, faults, again = ground.store, ground.clock, ground.faults, ground.again
    quotas, orders, hosts, networks = ground.quotas, ground.orders, ground.hosts, ground.networks
    listings, ranges = Listings(store), Ranges(store, clock)
    attachments = Attachments(store, ground.volume_orders, clock, faults, again)
    volumes = Volumes(store, attachments, ground.volume_placement, ground.volume_orders, quotas, clock, faults, again)
    launches = Launches(store, networks, quotas, orders, volumes, hosts, clock, faults, again, rules.zone)
    instances = Instances(store, ground.queue, launches, orders, ground.enforcement, quotas, clock, faults, again)
    snapshots = Snapshots(store, ground.volume_orders, quotas, clock, faults, again)
    images = Images(store, listings, quotas, snapshots, clock)
    return Cloud(
        instances,
        KeyPairs(store, quotas, pool, clock),
        images,
        Groups(store, quotas, clock),
        GroupRules(store, ground.enforcement, clock, faults, again),
        Tags(store),
        hosts,
        networks,
        quotas,
        listings,
        addresses=Addresses(store, ranges, quotas, orders, clock, faults, again),
        ranges=ranges,
        volumes=volumes,
        placement_groups=PlacementGroups(store, quotas, hosts, clock),
        templates=Templates(store, quotas, clock),
        flavors=Flavors(store),
        metadata_settings=MetadataSettings(store),
        guests=Guests(instances, ground.queue),
        migrations=Migrations(store, hosts, orders, clock, faults, again),
        care=Care(store, ground.queue, orders, instances),
        snapshots=snapshots,
        captures=Captures(store, ground.queue, images, snapshots, clock, faults, again, ground.links),
        image_files=ImageFiles(store, quotas, ground.links, clock, store_door),
    )


def _controllers(ground: _Ground, rules: Rules, cloud: Cloud, pool: KeyPool, fence: IFence) -> Assembly:
    store, clock, faults, again = ground.store, ground.clock, ground.faults, ground.again
    orders, hosts, enforcement = ground.orders, ground.hosts, ground.enforcement
    placement = Placement(store, hosts, orders, clock, faults, again)
    reports = Reports(store, orders, ground.volume_orders, enforcement, clock, faults, again)
    worker = CloudWorker(
        hosts,
        reports,
        Adoption(store, ground.queue, orders, reports, clock, faults, rules.stray_grace),
        placement,
        rules.accounts,
        Associations(store, orders, faults),
        ground.volume_reports,
        VolumeAdoption(store, ground.volume_orders),
        enforcement,
        cloud.captures,
    )
    volume_sweep = VolumeSweep(
        store, hosts, ground.volume_placement, ground.volume_reports, ground.volume_orders, clock, again
    )
    sweep = Sweep(store, hosts, orders, enforcement, volume_sweep, cloud.captures, clock, again)
    evacuation = Evacuation(store, orders, Crossings(store, ground.queue, reports), clock, faults, again)
    fencing = Fencing(store, hosts, evacuation, fence, faults)
    return Assembly(cloud, pool, placement, worker, sweep, DeadLetters(reports), fencing)
