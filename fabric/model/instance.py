"""
An instance: its lifecycle, its record, and what is filed for it.

C{drawing: doc/lifecycles.rst}
"""

from __future__ import annotations

import time
from typing import Any

import attrs

from fabric.errors import WrongState
from fabric.model.device import bare
from fabric.model.flavor import Flavor
from fabric.model.group import address_facet, host_facet
from fabric.model.image import ImageFile, file_counter
from fabric.model.lifecycle import Deadline, Lifecycle
from fabric.model.metadata_options import MetadataOptions
from fabric.model.network import addresses_v6
from fabric.model.placement_group import Membership
from fabric.model.record import ALL, Derived, Record, changed, iso_time, tag_facets

LIFECYCLE = Lifecycle(
    kind="instance",
    initial="pending",
    final=frozenset({"terminated"}),
    moves={
        # What a user asks for.
        "stop": {"running": "stopping", "stopping": "stopping", "stopped": "stopped"},
        "start": {"stopped": "pending", "pending": "pending", "running": "running"},
        "reboot": {"running": "running"},
        "terminate": {
            "pending": "shutting-down",
            "running": "shutting-down",
            "stopping": "shutting-down",
            "stopped": "shutting-down",
            "shutting-down": "shutting-down",
            "terminated": "terminated",
        },
        # What a worker reports.
        "boot": {"pending": "running", "running": "running"},
        "halt": {"stopping": "stopped", "running": "stopped", "stopped": "stopped"},
        "shut_itself_down": {"running": "shutting-down"},
        "vanish": {"shutting-down": "terminated", "terminated": "terminated"},
        # What the cloud itself decides.
        "fail": {"pending": "terminated", "shutting-down": "terminated", "terminated": "terminated"},
        "fail_start": {"pending": "stopped"},
        "give_up_stop": {"stopping": "stopped"},
        "relocate": {"pending": "pending", "running": "pending"},
    },
    deadlines={
        "pending": Deadline(600.0, "fail"),
        "stopping": Deadline(300.0, "give_up_stop"),
        "shutting-down": Deadline(300.0, "fail"),
    },
)
"""Verbs, states and deadlines of instances; the states' names are EC2's."""

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
"""EC2's numeric code of each state."""

TERMINATED_SHOWN = 3600.0
"""Seconds for which a terminated instance is still listed, as on EC2."""


@attrs.frozen(slots=False)
class StateReason:
    """
    Why an instance is in its state.

    @ivar code: C{Client.UserInitiatedShutdown}, C{Server.InternalError}, …
    @ivar message: one sentence for people.
    """

    code: str
    message: str


@attrs.frozen
class Public:
    """
    A floating address as the port that it leads to shows it; the
    L{fabric.model.address.Address} seen from this side, written by the same
    script.

    @ivar allocation: the address's id.
    @ivar association: the association's id.
    """

    address: str
    allocation: str
    association: str

    @property
    def hostname(self) -> str:
        """The name C{ec2-A-B-C-D} that EC2 gives one."""
        return "ec2-" + self.address.replace(".", "-")


@attrs.frozen(slots=False)
class Port:
    """
    One network interface of an instance.

    @ivar network: the network's id.
    @ivar mac: C{02:…}.
    @ivar address: the fixed IPv4 address; empty before a host was chosen.
    @ivar public: the floating address that leads to it.
    @ivar cidr_v6: L{fabric.model.network.Network.cidr_v6}, of which it has addresses, too.
    """

    network: str
    mac: str
    address: str = ""
    hostname: str = ""
    public: Public | None = None
    cidr_v6: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """All that it has once a host was chosen, of both versions of IP."""
        return (self.address, *addresses_v6(self.cidr_v6, self.mac)) if self.address else ()


@attrs.frozen(slots=False)
class GroupName:
    """A security group as an instance shows it."""

    id: str
    name: str


@attrs.frozen
class Disk:
    """
    A volume that an instance has; its L{fabric.model.volume.Attachment} seen
    from this side, written by the same script.

    @ivar state: C{attaching}, C{attached}, C{detaching} or C{busy}.
    @ivar host: the volume host; empty while the volume has none.
    @ivar order: of the volume's L{fabric.model.volume.Attachment}.
    """

    volume: str
    device: str
    state: str
    attached_at: float
    delete_on_termination: bool = False
    host: str = ""
    order: int = 0


@attrs.frozen
class Migration:
    """
    That an instance is being moved to another host.

    @ivar destination: that host; the instance holds room on both meanwhile.
    @ivar order: of the order to move it.
    """

    destination: str
    order: int
    started_at: float


@attrs.frozen(slots=False)
class Instance(Record):
    """
    One virtual machine.

    @ivar order: grows with each lifecycle verb; orders to workers and their
        reports carry it, and a report about an older one is dropped.
    @ivar review_at: when the sweep looks at it next: to send an order again
        while the state is transitional or something is left on the host.
    @ivar host: the compute host, empty before one is chosen.
    @ivar on_host: whether the host may still have something of it; address
        and room stay claimed until the host says that it is gone.
    @ivar started: whether it has run before (a failed start then leads back
        to stopped, not to terminated).
    @ivar refusals: why each host was not chosen, for C{host explain}.
    @ivar launched_at, changed_at: seconds since the epoch.
    @ivar user_data: base64 text, as given.
    @ivar root_device: where its root is, as its image says; empty where that
        says nothing.
    @ivar boots_volume: whether its root is a volume, the one at C{root_device},
        and not its host's own disk.
    @ivar scratch_device: where the scratch disk of its type is; empty for none.
    @ivar placement: its placement group, None for none.
    @ivar groups_order: grows when it is put into other groups.
    @ivar regrouped, regroup_at: ids of groups that it was in or came into, of
        which the sweep tells the hosts once more, and when; nothing and 0 for
        none.
    @ivar migration: to where it is being moved; None for not at all.
    @ivar booted: the last order that brought it up, or is to while it runs:
        news of its guest as an older one left it is from before.
    @ivar rebooting_since: when its last order was given, if that is a reboot
        which its host has not confirmed; else 0.
    @ivar files: what it boots from, as its image and its kernel had it.
    @ivar reason_text: EC2's one-line C{reason}, with the time of the change.
    """

    kind = "instance"
    taggable = True

    id: str
    project: str
    reservation: str
    launch_index: int
    image: str
    flavor: Flavor
    launched_at: float
    changed_at: float
    state: str = "pending"
    order: int = 1
    review_at: float = 0.0
    reason: StateReason | None = None
    reason_text: str = ""
    zone: str = ""
    wanted_zone: str = ""
    host: str = ""
    on_host: bool = False
    started: bool = False
    image_location: str = ""
    kernel: str = ""
    ramdisk: str = ""
    files: tuple[ImageFile, ...] = ()
    architecture: str = "x86_64"
    key_name: str = ""
    key_material: str = ""
    groups: tuple[GroupName, ...] = ()
    groups_order: int = 0
    regrouped: tuple[str, ...] = ()
    regroup_at: float = 0.0
    ports: tuple[Port, ...] = ()
    disks: tuple[Disk, ...] = ()
    root_device: str = ""
    boots_volume: bool = False
    scratch_device: str = ""
    user_data: str = ""
    client_token: str = ""
    shutdown_behavior: str = "stop"
    api_termination_disabled: bool = False
    api_stop_disabled: bool = False
    ebs_optimized: bool = False
    source_dest_check: bool = True
    ena_support: bool = True
    monitoring: bool = False
    placement: Membership | None = None
    metadata_options: MetadataOptions = MetadataOptions()
    refusals: dict[str, str] = attrs.field(factory=dict)
    migration: Migration | None = None
    booted: int = 0
    rebooting_since: float = 0.0
    tags: dict[str, str] = attrs.field(factory=dict)

    @property
    def live(self) -> bool:
        """Whether it still counts against the project's quota."""
        return self.state != "terminated"

    @property
    def waits(self) -> bool:
        """Whether its host, or the scheduler, still owes something."""
        return self.state in LIFECYCLE.deadlines or self.rebooting_since > 0 or (self.on_host and not self.live)

    @property
    def public(self) -> Public | None:
        """The floating address that leads to it."""
        return self.ports[0].public if self.ports else None

    @property
    def root(self) -> Disk | None:
        """The volume that it boots from; None when that is its host's own disk, or was taken away."""
        if not self.boots_volume:
            return None
        return next((disk for disk in self.disks if bare(disk.device) == bare(self.root_device)), None)

    @property
    def bootable(self) -> bool:
        """Whether what it boots from is made, and not on its way off."""
        root = self.root
        made = root is not None and bool(root.host) and root.state in ("attaching", "attached")
        return made or not self.boots_volume

    @property
    def needs(self) -> Flavor:
        """What of its type its host gives it: a disk only if it boots from that."""
        return attrs.evolve(self.flavor, disk_gb=0) if self.boots_volume else self.flavor

    def derived(self) -> Derived:
        """What is filed: project listing and facets, quota, room, addresses."""
        return Derived(
            scopes=(self.project, ALL),
            lists=self._lists(),
            facets=tuple(self._facets()),
            unique=self._names(),
            counters=self._counters(),
            pools=tuple(("fixed:" + port.network, port.address) for port in self._addressed()),
            due=self._due(),
            references=self._references(),
            event={"state": self.state, "host": self.host},
        )

    def _lists(self) -> tuple[str, ...]:
        """By the host that has it, and by the one that it is on its way to."""
        there = ("arriving:" + self.migration.destination,) if self.migration else ()
        return ("host:" + self.host, *there) if self.host and (self.live or self.on_host) else ()

    def _addressed(self) -> list[Port]:
        """The ports whose address it holds."""
        return [port for port in self.ports if port.address] if self.live or self.on_host else []

    def _names(self) -> tuple[str, ...]:
        """By each floating address, and by each place that its packets come from."""
        public = ["public:" + port.public.address for port in self.ports if port.public]
        return (*public, *(source_name(port.network, port.address) for port in self._addressed()))

    def _counters(self) -> dict[str, int]:
        counters: dict[str, int] = {}
        if self.live:
            quotas = {"instances": 1, "cores": self.flavor.vcpus, "ram": self.flavor.memory_mb}
            counters |= {f"quota:{self.project}:{name}": used for name, used in quotas.items()}
            counters |= {f"uses:group:{group.id}": 1 for group in self.groups}
            counters |= {f"uses:network:{port.network}": 1 for port in self.ports}
            if self.placement:
                counters[f"uses:placement_group:{self.placement.group}"] = 1
        if self.live or self.on_host:
            counters |= {file_counter(file.digest): 1 for file in self.files}
        if self.host and (self.live or self.on_host):
            counters |= self._room(self.host)
            if self.placement:
                counters |= dict.fromkeys(self.placement.counters(self.host, self.zone), 1)
        if self.migration and self.live:
            counters |= self._room(self.migration.destination)
            if self.placement:
                counters |= dict.fromkeys(self.placement.counters(self.migration.destination, self.zone), 1)
        return counters

    def _room(self, host: str) -> dict[str, int]:
        """What it takes of a host."""
        room = {f"load:{host}:{name}": getattr(self.flavor, name) for name in ("vcpus", "memory_mb")}
        if not self.boots_volume:
            room[f"load:{host}:disk_gb"] = self.flavor.disk_gb
        if self.flavor.gpus:
            room[f"load:{host}:gpus"] = self.flavor.gpus
        return room | {f"load:{host}:instances": 1}

    def _due(self) -> float | None:
        if self.migration and self.live:
            return self.review_at
        if self.live and self.regroup_at and not (self.waits and self.review_at < self.regroup_at):
            return self.regroup_at
        if self.waits:
            return self.review_at
        return self.changed_at + TERMINATED_SHOWN if self.state == "terminated" else None

    def _references(self) -> tuple[tuple[str, str], ...]:
        disks = tuple(("volume", disk.volume) for disk in self.disks)
        if not self.live:
            return disks
        groups = tuple(("group", group.id) for group in self.groups)
        if self.placement:
            groups += (("placement_group", self.placement.group),)
        return (("reservation", self.reservation), *disks, *groups, *(("network", port.network) for port in self.ports))

    def _facets(self) -> list[tuple[str, str]]:
        facets = [
            ("id", self.id),
            ("state", self.state),
            ("launched", iso_time(self.launched_at)),
            ("reservation", self.reservation),
            ("image", self.image),
            ("type", self.flavor.name),
            ("zone", self.zone),
            ("index", str(self.launch_index)),
        ]
        perhaps = (
            ("key", self.key_name),
            ("token", self.client_token),
            ("kernel", self.kernel),
            ("ramdisk", self.ramdisk),
            ("host", self.host),
            ("reason", self.reason.code if self.reason else ""),
        )
        facets += [(name, value) for name, value in perhaps if value]
        for group in self.groups:
            facets += [("group", group.id), ("group-name", group.name)]
            if self.host and self.live:
                facets.append((host_facet(group.id), self.host))
                facets += [(address_facet(group.id), each) for port in self.ports for each in port.addresses]
        for port in self.ports:
            facets += [("network", port.network), ("mac", port.mac)]
            if port.address and self.live:  # afterwards it may be another's
                facets += [("address", port.address), ("hostname", port.hostname)]
            if public := port.public:
                facets += [("public", public.address), ("public-hostname", public.hostname)]
                facets += [("allocation", public.allocation), ("association", public.association)]
        if self.placement:
            facets += [("placement-group", self.placement.group), ("placement-group-name", self.placement.name)]
            if self.placement.partition:
                facets.append(("partition", str(self.placement.partition)))
        for disk in self.disks:
            facets += [
                ("block-device-mapping.volume", disk.volume),
                ("block-device-mapping.device", disk.device),
                ("block-device-mapping.status", disk.state),
                ("block-device-mapping.attached", iso_time(disk.attached_at)),
                ("block-device-mapping.delete", "true" if disk.delete_on_termination else "false"),
            ]
        return facets + tag_facets(self.tags)


def source_name(network: str, address: str) -> str:
    """
    @return: the unique name of the instance that holds a fixed address.
    """
    return f"source:{network}:{address}"


def with_disk(instance: Instance, disk: Disk) -> Instance:
    """
    @return: the instance with a disk, in place of what it had of that volume.
    """
    others = tuple(each for each in instance.disks if each.volume != disk.volume)
    return attrs.evolve(instance, disks=(*others, disk))


def without_disk(instance: Instance, volume: str) -> Instance:
    """
    @return: the instance without a volume.
    """
    return attrs.evolve(instance, disks=tuple(each for each in instance.disks if each.volume != volume))


def with_public(instance: Instance, public: Public | None) -> Instance:
    """
    @return: the instance with a floating address, or without one.
    """
    first, *others = instance.ports
    return attrs.evolve(instance, ports=(attrs.evolve(first, public=public), *others))


def moved(instance: Instance, verb: str, now: float, reason: StateReason | None = None, **changes: Any) -> Instance:
    """
    @return: the instance after a verb; the same state with C{changes} where
        the table says that the verb changes nothing.
    @raise WrongState: the table has no such move from its state.
    """
    state = LIFECYCLE.next_state(verb, instance.state)
    if state is None:
        raise WrongState("instance", instance.id, instance.state, LIFECYCLE.sources(verb))
    if state != instance.state:
        changes |= {"state": state, "changed_at": now, "reason": reason, "reason_text": _reason_text(reason, now)}
        changes["rebooting_since"] = 0.0
    return changed(instance, **changes)  # type: ignore[no-any-return]


def _reason_text(reason: StateReason | None, now: float) -> str:
    if reason is None:
        return ""
    opening = "User initiated" if reason.code == "Client.UserInitiatedShutdown" else reason.code
    return time.strftime(f"{opening} (%Y-%m-%d %H:%M:%S GMT)", time.gmtime(now))


def is_overdue(instance: Instance, now: float) -> bool:
    """
    Whether a transitional state has lasted longer than its deadline.
    """
    deadline = LIFECYCLE.deadlines.get(instance.state)
    return deadline is not None and now - instance.changed_at > deadline.seconds
