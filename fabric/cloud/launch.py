"""
Launching: what a request asks for becomes a reservation and pending instances,
in one write together with quota and client token.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.flavors import chosen
from fabric.cloud.groups import DEFAULT, default_group, unique_name
from fabric.cloud.hosts import Hosts
from fabric.cloud.launch_disks import (
    disk_costs,
    merged,
    scratch_device,
    snapshot_wants,
    usable,
    zone_with_volumes,
)
from fabric.cloud.metadata_options import agreed
from fabric.cloud.networks import Networks
from fabric.cloud.orders import Orders
from fabric.cloud.placement_groups import joined, placement_want
from fabric.cloud.quotas import Quotas, counter, quota_error
from fabric.cloud.volumes import Volumes
from fabric.errors import (
    AlreadyExists,
    IdempotencyMismatch,
    InvalidValue,
    LimitExceeded,
    NotFound,
    QuotaExceeded,
    TokenSpent,
    WrongState,
)
from fabric.faults import IFaults
from fabric.ids import new_id
from fabric.model import flavor as flavors
from fabric.model.flavor import Flavor, InstanceType
from fabric.model.group import SecurityGroup
from fabric.model.image import Image, ImageFile, boot_files, may_use
from fabric.model.instance import GroupName, Instance, Port
from fabric.model.keypair import KeyPair
from fabric.model.metadata_options import MetadataDefaults, MetadataOptions
from fabric.model.network import Network
from fabric.model.placement_group import Membership
from fabric.model.quota import Quota
from fabric.model.record import changed
from fabric.model.reservation import Reservation
from fabric.model.snapshot import Snapshot
from fabric.model.volume import AskedDisk, NewDisk, Volume
from fabric.store.interface import IStore, Stored, Want

RESEND_AFTER = 30.0
"""Seconds after which the sweep sends an unanswered order again, at first."""

TOKEN_KEPT = 3600.0
"""Seconds for which a reservation is kept at least, and with it its token."""


@attrs.frozen
class LaunchSpec:
    """
    What one launch asks for.

    @ivar flavor: an instance type's name.
    @ivar groups, group_names: security groups; both empty means the default.
    @ivar user_data: base64.
    @ivar placement_group, placement_group_id: one of them, or neither.
    @ivar partition: of a group of partitions; 0 for any.
    @ivar metadata: fields of L{MetadataOptions} that were asked for.
    @ivar disks: volumes that each of the instances gets besides those of the
        image, or what is to be different about these; the root may be one.
    @ivar volume_tags: of all of them, the image's too.
    @ivar omitted: devices of the image, or of the type, that they do not get.
    @ivar scratch: where the scratch disk is to be, C{{"/dev/sdb": "ephemeral0"}}.
    @ivar network: an id; empty for the cloud's default network.
    @ivar digest_of: the request's parameters as text, without the token: a
        token may be used again only with the same.
    """

    image: str
    flavor: str = flavors.DEFAULT
    min_count: int = 1
    max_count: int = 1
    key_name: str = ""
    groups: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    zone: str = ""
    user_data: str = ""
    client_token: str = ""
    tags: dict[str, str] = attrs.field(factory=dict)
    shutdown_behavior: str = "stop"
    api_termination_disabled: bool = False
    api_stop_disabled: bool = False
    monitoring: bool = False
    kernel: str = ""
    ramdisk: str = ""
    ebs_optimized: bool = False
    placement_group: str = ""
    placement_group_id: str = ""
    partition: int = 0
    metadata: dict[str, Any] = attrs.field(factory=dict)
    disks: tuple[AskedDisk, ...] = ()
    volume_tags: dict[str, str] = attrs.field(factory=dict)
    omitted: tuple[str, ...] = ()
    scratch: dict[str, str] = attrs.field(factory=dict)
    network: str = ""
    digest_of: str = ""


@attrs.frozen
class _Parts:
    """
    What a launch refers to, as read.

    @ivar costs: what each instance takes of each quota.
    @ivar disks: the volumes that each of the instances gets.
    @ivar scratch: where its scratch disk is, empty for none.
    @ivar zone: in which it will be, empty while nobody knows.
    """

    image: Image
    flavor: Flavor
    network: Network
    limits: dict[str, int]
    key: KeyPair | None
    groups: tuple[SecurityGroup, ...]
    new_default: bool
    placement: Membership | None
    metadata: MetadataOptions
    snapshots: dict[str, Snapshot]
    costs: dict[str, int]
    disks: tuple[NewDisk, ...] = ()
    scratch: str = ""
    files: tuple[ImageFile, ...] = ()
    zone: str = ""


class Launches:
    """
    Turns L{LaunchSpec}s into pending instances.
    """

    def __init__(
        self,
        store: IStore,
        networks: Networks,
        quotas: Quotas,
        orders: Orders,
        volumes: Volumes,
        hosts: Hosts,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
        zone: str = "nova",
    ) -> None:
        """
        @param zone: in which volumes are made by preference.
        """
        self._volumes = volumes
        self._hosts = hosts
        self._zone = zone
        self._store = store
        self._networks = networks
        self._quotas = quotas
        self._orders = orders
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def run(self, caller: Caller, spec: LaunchSpec) -> Generator[Deferred[Any], Any, list[Instance]]:
        """
        Launch between C{min_count} and C{max_count} instances, as many as the
        quota allows.  Repeating with the same client token gives the same
        instances and makes nothing.

        @raise NotFound: the project has no such image, key pair, group or network.
        @raise WrongState: the image is not available.
        @raise InvalidValue: no such instance type.
        @raise QuotaExceeded: not even C{min_count} may run.
        @raise IdempotencyMismatch: the token was used with other parameters.
        @raise TokenSpent: none of its instances is there any more.
        """
        try:
            return (yield self._run(caller, spec))  # type: ignore[no-any-return]
        except (NotFound, WrongState, InvalidValue, QuotaExceeded):
            if not spec.client_token:
                raise
            # What the launch named may be gone since; it is a repeat all the same.
            [done] = yield self._store.gather([Want(Reservation, name=_token_name(caller, spec))])
            if done is None:
                raise
            return (yield self._repeated(caller, spec, done.record.id))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _run(self, caller: Caller, spec: LaunchSpec) -> Generator[Deferred[Any], Any, list[Instance]]:
        """
        Launch what was not launched yet; a token that was used is found by the write.
        """
        parts: _Parts = yield self._gather(caller, spec)
        if spec.disks or spec.scratch or spec.omitted or parts.image.disks or parts.flavor.ephemeral_gb:
            spec, parts = yield self._disks(caller, spec, parts)
        parts = attrs.evolve(parts, zone=spec.zone or (yield self._hosts.sole_zone()))
        try:
            instances, volumes = yield self._write(caller, spec, parts)
        except AlreadyExists as error:
            if error.kind == "reservation":
                return (yield self._repeated(caller, spec, error.holder))  # type: ignore[no-any-return]
            if parts.new_default:
                return (yield self.run(caller, spec))  # type: ignore[no-any-return]
            raise
        self._faults.reach("cloud.launch_written")
        self._orders.schedule(caller.request_id, instances)
        if volumes:
            self._volumes.place(caller.request_id, volumes)
        return instances  # type: ignore[no-any-return]

    @inlineCallbacks
    def _gather(self, caller: Caller, spec: LaunchSpec) -> Generator[Deferred[Any], Any, _Parts]:
        names = spec.group_names if spec.groups or spec.group_names else (DEFAULT,)
        project = caller.project
        network = Want(Network, id=spec.network) if spec.network else self._networks.default_want(project)
        key = Want(KeyPair, name=f"key_pair:{project}:{spec.key_name}") if spec.key_name else None
        common = [Want(Quota, id=project), Want(InstanceType, id=spec.flavor), Want(MetadataDefaults, id=project)]
        placement = placement_want(caller, spec.placement_group, spec.placement_group_id)
        wants = [Want(Image, id=spec.image), network, *common, *([key] if key else []), *placement]
        parts = [Want(Image, id=id) for id in (spec.kernel, spec.ramdisk) if id]
        groups = [Want(SecurityGroup, id=id) for id in spec.groups]
        groups += [Want(SecurityGroup, name=unique_name(project, name)) for name in names]
        found = yield self._store.gather([*wants, *parts, *groups])
        self._check_images(caller, spec, found[0], found[len(wants) : len(wants) + len(parts)])
        if spec.network and (found[1] is None or found[1].record.project not in ("", project)):
            raise NotFound("network", spec.network)
        if found[1] is None or found[1].record.project not in ("", project):
            found = [found[0], (yield self._networks.missing(caller)), *found[2:]]
        if key is not None and found[5] is None:
            raise NotFound("key_pair", spec.key_name)
        v6 = bool(found[1].record.cidr_v6)
        groups_of, new = self._groups(caller, (*spec.groups, *names), found[len(wants) + len(parts) :], v6)
        flavor = chosen(spec.flavor, found[3])
        return _Parts(
            found[0].record,
            flavor,
            found[1].record,
            self._quotas.of(found[2]),
            found[5].record if key is not None else None,
            groups_of,
            new,
            joined(caller, spec.placement_group or spec.placement_group_id, spec.partition, found[len(wants) - 1])
            if placement
            else None,
            agreed(spec.metadata, found[4]),
            {},
            {"instances": 1, "cores": flavor.vcpus, "ram": flavor.memory_mb},
            files=boot_files(*(each.record for each in (found[0], *found[len(wants) : len(wants) + len(parts)]))),
        )

    @inlineCallbacks
    def _disks(
        self, caller: Caller, spec: LaunchSpec, parts: _Parts
    ) -> Generator[Deferred[Any], Any, tuple[LaunchSpec, _Parts]]:
        """
        The same with all volumes that are to be made, what they begin with,
        and the zone in which they are to be.
        """
        disks = merged(parts.image, spec.disks, spec.omitted, spec.scratch)
        disks = tuple(attrs.evolve(disk, tags=spec.volume_tags) for disk in disks)
        wants = snapshot_wants(disks)
        found = (yield self._store.gather(wants)) if wants else []
        snapshots = usable(caller, parts.image, wants, found)
        costs = parts.costs | disk_costs(disks, snapshots)
        zone = spec.zone
        if disks and not zone:
            zone = yield zone_with_volumes(self._hosts, self._zone, snapshots)
        scratch = scratch_device(parts.flavor, disks, spec.scratch, spec.omitted)
        spec = attrs.evolve(spec, zone=zone)
        return spec, attrs.evolve(parts, snapshots=snapshots, costs=costs, disks=disks, scratch=scratch)

    def _check_images(self, caller: Caller, spec: LaunchSpec, image: Any, parts: list[Any]) -> None:
        for id, stored in zip([spec.image, *filter(None, (spec.kernel, spec.ramdisk))], [image, *parts], strict=True):
            if stored is None or not may_use(stored.record, caller.project):
                raise NotFound("image", id)
        if image.record.state != "available":
            raise WrongState("image", spec.image, image.record.state, ["available"])
        if image.record.type != "machine":
            raise InvalidValue("ImageId", spec.image, f"a {image.record.type} can't be launched")

    def _groups(
        self, caller: Caller, names: tuple[str, ...], found: list[Stored[SecurityGroup] | None], v6: bool
    ) -> tuple[tuple[SecurityGroup, ...], bool]:
        groups: dict[str, SecurityGroup] = {}
        new = False
        for name, stored in zip(names, found, strict=True):
            if stored is not None and stored.record.project == caller.project:
                groups[stored.record.id] = stored.record
            elif name == DEFAULT and stored is None:
                group = default_group(caller.project, self._clock.seconds(), v6)
                groups[group.id] = group
                new = True
            else:
                raise NotFound("group", name)
        return tuple(groups.values()), new

    @inlineCallbacks
    def _write(
        self, caller: Caller, spec: LaunchSpec, parts: _Parts
    ) -> Generator[Deferred[Any], Any, tuple[list[Instance], list[Volume]]]:
        count = yield self._within_limits(caller, spec, parts)
        while True:
            instances, reservation = self._records(caller, spec, parts, count)
            transaction = self._transaction(caller, parts, reservation)
            instances, volumes = self._with_disks(transaction, parts, instances)
            try:
                yield self._store.commit(transaction)
            except LimitExceeded as error:
                count = _affordable(error, parts.costs)
                if count < spec.min_count or count < 1:
                    raise _shortage(error, parts.costs, spec.min_count) from None
            except AlreadyExists as error:
                kind = "reservation" if error.name == _token_name(caller, spec) else error.kind
                raise AlreadyExists(kind, error.name, error.holder) from None
            else:
                return instances, volumes

    def _with_disks(
        self, transaction: Any, parts: _Parts, instances: list[Instance]
    ) -> tuple[list[Instance], list[Volume]]:
        """
        Have the instances created, each with its volumes.
        """
        volumes: list[Volume] = []
        if parts.disks:
            for index, instance in enumerate(instances):
                args = (transaction, instance, parts.disks, parts.limits, parts.snapshots)
                instances[index], made = self._volumes.launched(*args)
                volumes += made
        for instance in instances:
            transaction.create(instance)
        return instances, volumes

    @inlineCallbacks
    def _within_limits(self, caller: Caller, spec: LaunchSpec, parts: _Parts) -> Generator[Deferred[Any], Any, int]:
        """
        As many as the quota could ever allow, so that no more are prepared.
        """
        most = {name: parts.limits[name] // cost for name, cost in parts.costs.items()}
        resource = min(most, key=lambda name: most[name])
        if most[resource] >= spec.min_count:
            return min(spec.max_count, most[resource])
        name = counter(caller.project, resource)
        used = yield self._store.counters([name])
        raise _shortage(LimitExceeded(name, parts.limits[resource], used[name], 0), parts.costs, spec.min_count)

    def _transaction(self, caller: Caller, parts: _Parts, reservation: Reservation) -> Any:
        transaction = self._store.transaction(caller.request_id)
        transaction.create(reservation)
        for group in parts.groups:
            if parts.new_default and group.name == DEFAULT:
                transaction.create(group)
            else:
                transaction.need("group", group.id)
        transaction.need("network", parts.network.id)
        if parts.placement is not None:
            transaction.need("placement_group", parts.placement.group)
        for resource in parts.costs:
            transaction.limit(counter(caller.project, resource), parts.limits[resource])
        return transaction

    def _records(
        self, caller: Caller, spec: LaunchSpec, parts: _Parts, count: int
    ) -> tuple[list[Instance], Reservation]:
        now = self._clock.seconds()
        reservation_id = new_id("reservation")
        first = self._first(caller, spec, parts, reservation_id, now)
        instances = [
            changed(
                first,
                id=new_id("instance"),
                launch_index=index,
                ports=(Port(parts.network.id, new_mac(), cidr_v6=parts.network.cidr_v6),),
            )
            for index in range(count)
        ]
        reservation = Reservation(
            reservation_id,
            caller.project,
            now,
            tuple(instance.id for instance in instances),
            spec.client_token,
            _digest(spec.digest_of),
            now + TOKEN_KEPT,
        )
        return instances, reservation

    def _first(self, caller: Caller, spec: LaunchSpec, parts: _Parts, reservation: str, now: float) -> Instance:
        image, key = parts.image, parts.key
        return Instance(
            id="",
            project=caller.project,
            reservation=reservation,
            launch_index=0,
            image=image.id,
            flavor=parts.flavor,
            launched_at=now,
            changed_at=now,
            review_at=now + self._resend_after,
            wanted_zone=spec.zone,
            zone=parts.zone,
            image_location=image.location,
            kernel=spec.kernel or image.kernel,
            ramdisk=spec.ramdisk or image.ramdisk,
            files=parts.files,
            architecture=image.architecture,
            key_name=spec.key_name,
            key_material=key.public_key if key else "",
            groups=tuple(GroupName(group.id, group.name) for group in parts.groups),
            root_device=image.root_device,
            boots_volume=image.root_type == "ebs",
            scratch_device=parts.scratch,
            user_data=spec.user_data,
            client_token=spec.client_token,
            shutdown_behavior=spec.shutdown_behavior,
            api_termination_disabled=spec.api_termination_disabled,
            api_stop_disabled=spec.api_stop_disabled,
            ebs_optimized=spec.ebs_optimized,
            monitoring=spec.monitoring,
            placement=parts.placement,
            metadata_options=parts.metadata,
            tags=dict(spec.tags),
        )

    @inlineCallbacks
    def _repeated(self, caller: Caller, spec: LaunchSpec, holder: str) -> Generator[Deferred[Any], Any, list[Instance]]:
        [stored] = yield self._store.read(Reservation, [holder])
        if stored is None:  # it expired just now: the token is free again
            return (yield self.run(caller, spec))  # type: ignore[no-any-return]
        if stored.record.token_digest != _digest(spec.digest_of):
            raise IdempotencyMismatch(spec.client_token)
        instances = [each.record for each in (yield self._store.read(Instance, stored.record.instances)) if each]
        if not instances:
            raise TokenSpent(spec.client_token)
        return instances


def new_mac() -> str:
    """A random MAC address of the range that is free for local use."""
    return "02:" + os.urandom(5).hex(":")


def _token_name(caller: Caller, spec: LaunchSpec) -> str:
    return f"token:{caller.project}:{spec.client_token}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _each(error: LimitExceeded, costs: dict[str, int]) -> int:
    return costs[error.counter.rsplit(":", 1)[1]]


def _affordable(error: LimitExceeded, costs: dict[str, int]) -> int:
    return max(0, (error.limit - error.used) // _each(error, costs))


def _shortage(error: LimitExceeded, costs: dict[str, int], wanted: int) -> QuotaExceeded:
    resource = quota_error(error).resource
    return QuotaExceeded(resource, error.limit, error.used, error.used + wanted * _each(error, costs))
