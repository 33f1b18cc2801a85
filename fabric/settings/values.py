"""
The settings themselves: sections of values, each with what it means.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import attrs


def _one_of_or_from(choice: float, least: float) -> Callable[[Any, Any, float], None]:
    def check(instance: Any, attribute: Any, value: float) -> None:
        if value != choice and value < least:
            raise ValueError(f"must be {choice:g}, or at least {least:g}, not {value!r}")

    return check


def _hidden(text: str) -> str:
    return repr("..." if text else "")


def _without_password(text: str) -> str:
    return repr(re.sub(r"(//[^:/@]*):[^@]*@", r"\1:...@", text))


def _one_of(*choices: str) -> Callable[[Any, Any, str], None]:
    def check(instance: Any, attribute: Any, value: str) -> None:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {value!r}")

    return check


def _from(least: float) -> Callable[[Any, Any, float], None]:
    def check(instance: Any, attribute: Any, value: float) -> None:
        if value < least:
            raise ValueError(f"must be at least {least:g}, not {value!r}")

    return check


def _places(instance: Any, attribute: Any, value: tuple[str, ...]) -> None:
    for place in value:
        address, _, port = place.rpartition(":")
        try:
            known = place == "api" or ("%" not in str(ip_address(address.strip("[]"))) and 0 < int(port) < 65536)
        except ValueError:
            known = False
        if not known:
            raise ValueError(f"must name api, 192.0.2.1:8774, 0.0.0.0:8774 or the like, not {place!r}")


def _setting(default: Any, what: str, **keywords: Any) -> Any:
    return attrs.field(default=default, metadata={"what": what}, **keywords)


def _section(cls: type) -> Any:
    return attrs.field(factory=cls, metadata={"what": " ".join((cls.__doc__ or "").split())})


@attrs.frozen
class Api:
    """The doors that clients talk to."""

    endpoint: str = _setting("tcp:8773:interface=127.0.0.1", "Where EC2 and admin requests are taken.")
    url: str = _setting("", "The URL that clients are told, when a proxy stands before the endpoint.")
    admin: bool = _setting(True, "Whether the admin door is open at this endpoint too.")
    body_bytes: int = _setting(1048576, "Largest request body.", validator=_from(1024))
    header_bytes: int = _setting(16384, "Largest request header, all lines together.", validator=_from(1024))
    idle_seconds: float = _setting(60.0, "An idle or stalled client is cut off after this.", validator=_from(0.1))
    request_seconds: float = _setting(30.0, "A request must have arrived whole within this.", validator=_from(0.1))


@attrs.frozen
class Metadata:
    """The door at which machines ask for their own metadata and user data."""

    endpoint: str = _setting(
        "", "As tcp:8775; empty for none in cloud and cloud-api, and for tcp:8775 in cloud-metadata."
    )
    network: str = _setting(
        "", "Label or id of the only network that is asked from; empty for all, whose ranges must not overlap then."
    )
    trust_forwarded: bool = _setting(
        False, "Whether requests from this host itself are by a proxy that says truly whose they are."
    )
    services: str = _setting("", "The domain of the cloud's services that machines are told; that of api.url if empty.")


@attrs.frozen
class Queue:
    """How the services reach one another."""

    url: str = _setting(
        "local:",
        "local: for within one process, else amqp://user:password@host:port/vhost, or amqps:// over verified TLS.",
        repr=_without_password,
    )
    endpoint: str = _setting("", "A Twisted client endpoint to reach the broker by, in place of the URL's host.")
    exchange: str = _setting("fabric", "The topic exchange.")
    type: str = _setting("quorum", "What kind of queues are made.", validator=_one_of("quorum", "classic"))
    accounts: bool = _setting(False, "Whether each host has a broker account of its name, and speaks for itself only.")
    prefetch: int = _setting(64, "Messages that a worker has in work at once.", validator=_from(1))
    heartbeat: int = _setting(20, "Seconds between heartbeats to the broker.", validator=_from(1))
    seconds: float = _setting(10.0, "How long to wait for the broker.", validator=_from(0.1))


@attrs.frozen
class Store:
    """Where state is kept."""

    url: str = _setting(
        "embedded:",
        "embedded: for a redis-server of our own; redis://:password@host:port/db, rediss:// over TLS, unix:/path, or "
        "sentinel://host:port,host:port/name.",
        repr=_without_password,
    )
    durable: bool = _setting(False, "Whether the embedded server flushes each write to disk, not each second.")
    connections: int = _setting(4, "Connections that each service keeps.", validator=_from(1))
    seconds: float = _setting(5.0, "A Redis that does not answer within this is unavailable.", validator=_from(0.1))


@attrs.frozen
class Ldap:
    """Where people are."""

    url: str = _setting(
        "embedded:",
        "embedded: for a directory of our own in one file; ldap://host:port, ldaps://host:port, or ldapi:/path.",
    )
    bind_dn: str = _setting("cn=cloud,dc=cloud", "Whom the cloud binds as.")
    password: str = _setting("", "That entry's password.", repr=_hidden)
    first_user: str = _setting(
        "", "An administrator to be made by cloud-api when missing, whose cloudrc is left in the data directory."
    )
    base: str = _setting("dc=cloud", "The entry under which the subtrees are.")
    users: str = _setting("", "Where users are; ou=Users of the base if empty.")
    projects: str = _setting("", "Where projects are; ou=Groups of the base if empty.")
    roles: str = _setting("", "Where the roles for the whole cloud are; ou=Roles of the base if empty.")
    start_tls: bool = _setting(False, "Whether to ask an ldap:// server for TLS.")
    authority: str = _setting("", "PEM file of authorities to verify the server with; the system's if empty.")
    memo_seconds: float = _setting(10.0, "How long an answer may be used again.", validator=_from(0))
    stale_seconds: float = _setting(60.0, "And how long when the server can't be asked.", validator=_from(0))
    seconds: float = _setting(5.0, "A server that does not answer within this is unavailable.", validator=_from(0.1))


@attrs.frozen
class Network:
    """How hosts make networks, and the first of a new cloud; later ones are made with cloud-manage."""

    driver: str = _setting(
        "fake",
        "How a host makes networks: linux_net with interfaces and VLANs, vxlan with tunnels between hosts.",
        validator=_one_of("fake", "linux_net", "vxlan"),
    )
    manager: str = _setting(
        "flat",
        "flat: bridges only; flatdhcp: also gateway and DHCP; vlan: each project gets a network of its own as well.",
        validator=_one_of("flat", "flatdhcp", "vlan"),
    )
    label: str = _setting("private", "The first network's name; empty for none.")
    cidr: str = _setting("10.0.0.0/16", "Its range.")
    bridge: str = _setting("br100", "Its bridge on compute hosts.")
    reserved: int = _setting(2, "How many of its first addresses are not given away.", validator=_from(2))
    dns: tuple[str, ...] = _setting((), "Its name servers.")
    cidr_v6: str = _setting("", "Its IPv6 range, a /64; empty for none. Not with manager flat.")
    floating: str = _setting("203.0.113.0/24", "The first range of floating addresses; empty for none.")
    vlan_start: int = _setting(100, "With manager vlan, the first project's VLAN.", validator=_from(1))
    vlan_count: int = _setting(256, "How many projects can get a VLAN, and a part of cidr.", validator=_from(1))
    vlan_network_size: int = _setting(256, "How many addresses of cidr each of them gets.", validator=_from(8))
    flat_interface: str = _setting("", "The host's interface that joins flat and flatdhcp networks of all hosts.")
    vlan_interface: str = _setting("", "The host's interface on which VLANs are made.")
    vxlan_local: str = _setting("", "The address at which this host's tunnels end.")
    vxlan_interface: str = _setting("", "The interface of the tunnels; as routes say if empty.")
    vxlan_group: str = _setting("", "The multicast group by which hosts find one another; empty for vxlan_peers.")
    vxlan_peers: tuple[str, ...] = _setting((), "The addresses at which the other hosts' tunnels end.")
    mtu: int = _setting(
        0, "Bytes of a guest's largest packet; 0 for 1500, or 1450 in tunnels.", validator=_one_of_or_from(0, 1280)
    )
    public_interface: str = _setting("", "What answers for floating addresses; empty where they are routed here.")
    snat: str = _setting("", "What guests without a floating address are seen as; the public interface's if empty.")
    metadata_port: int = _setting(8775, "Where the host answers guests that ask for metadata.", validator=_from(1))
    guests_reach: tuple[str, ...] = _setting(
        ("api",),
        "What else of their own host guests reach by TCP: api for the API's door of cloud, where others than the host "
        "reach it too; other doors as 192.0.2.1:8774, or 0.0.0.0:8774 for any address of the host.",
        validator=_places,
    )


@attrs.frozen
class ObjectStore:
    """Where the files of images are."""

    endpoint: str = _setting(
        "", "Where files are given and taken; empty for a free port in cloud, and for tcp:3333 in cloud-objectstore."
    )
    url: str = _setting("", "The URL by which hosts and uploading people reach it; that of the endpoint if empty.")
    secret: str = _setting(
        "",
        "What links are signed with, the same for cloud-api, cloud-controller and cloud-objectstore; if empty, kept in "
        "the data directory.",
        repr=_hidden,
    )
    directory: str = _setting("", "Where the files are; images in the data directory if empty.")
    file_gb: int = _setting(64, "GiB of the largest file.", validator=_from(1))
    disk_gb: int = _setting(1024, "GiB of the largest disk that an image may give to guests.", validator=_from(1))
    first_image: str = _setting(
        "",
        "Directory of the image that cloud makes when it is missing: root.qcow2, and vmlinux and initrd.gz if that "
        "does not boot by itself; empty for none.",
    )


@attrs.frozen
class Scheduler:
    """How hosts are chosen."""

    algorithm: str = _setting(
        "simple",
        "queue: the first free host; chance: any; simple: the least loaded; zone: the least loaded of the zone.",
        validator=_one_of("queue", "chance", "simple", "zone"),
    )


@attrs.frozen
class Quota:
    """What a project may have that has no limits of its own."""

    instances: int = _setting(100, "Instances.", validator=_from(0))
    cores: int = _setting(200, "Virtual processors.", validator=_from(0))
    ram: int = _setting(512000, "Memory in MiB.", validator=_from(0))
    key_pairs: int = _setting(100, "Key pairs.", validator=_from(0))
    groups: int = _setting(100, "Security groups.", validator=_from(0))
    placement_groups: int = _setting(500, "Placement groups.", validator=_from(0))
    launch_templates: int = _setting(5000, "Launch templates.", validator=_from(0))
    volumes: int = _setting(100, "Volumes.", validator=_from(0))
    gigabytes: int = _setting(10000, "GiB in all volumes together.", validator=_from(0))
    snapshots: int = _setting(500, "Snapshots of volumes.", validator=_from(0))
    addresses: int = _setting(50, "Floating addresses.", validator=_from(0))
    images: int = _setting(1000, "Images.", validator=_from(0))


@attrs.frozen
class Controller:
    """How the controller watches over the cloud."""

    report_interval: float = _setting(10.0, "Seconds between a worker's heartbeats.", validator=_from(0.05))
    service_down_time: float = _setting(60.0, "A worker silent for this long is down.", validator=_from(0.1))
    sweep_interval: float = _setting(5.0, "Seconds between looks for what is stuck or unsent.", validator=_from(0.05))
    resend_seconds: float = _setting(30.0, "An order unanswered for this long is sent again.", validator=_from(0.05))
    stray_grace: float = _setting(
        86400.0, "Seconds for which a machine that state does not know is kept.", validator=_from(0)
    )
    fence: tuple[str, ...] = _setting(
        (),
        "Command that makes a silent host dead for sure, its name added as last argument; what it had is started "
        "elsewhere when that ends with status 0.  It may be run again.  Empty for none: then it all waits.",
    )
    fence_seconds: float = _setting(120.0, "How long that command may take.", validator=_from(0.1))


@attrs.frozen
class Compute:
    """A compute host."""

    driver: str = _setting("fake", "The hypervisor.", validator=_one_of("fake", "libvirt"))
    concurrency: int = _setting(32, "Machines brought up at once.", validator=_from(1))
    adopt_interval: float = _setting(300.0, "Seconds between reports of all that runs here.", validator=_from(1))
    image_cache_mb: int = _setting(20480, "MiB of image files that are kept here.", validator=_from(1))


@attrs.frozen
class Libvirt:
    """Guests by libvirt, when that is the hypervisor."""

    uri: str = _setting("qemu:///system", "The libvirt that runs this host's guests.")
    virt_type: str = _setting(
        "auto",
        "kvm, qemu (slow: without the processor's help), or auto: kvm if a guest that is tried runs on it.",
        validator=_one_of("auto", "kvm", "qemu"),
    )
    machine: str = _setting("q35", "The board: q35, or pc for guests that know no PCI Express.")
    cpu: str = _setting(
        "", "host-model, host-passthrough, maximum or a model's name; empty for host-model on kvm, else the default."
    )
    kernel_line: str = _setting("console=ttyS0 root=/dev/vda", "What kernels of images that have one are told.")
    vnc_listen: str = _setting("127.0.0.1", "The private address at which displays are served by VNC.")
    mtu: int = _setting(0, "Of guests' interfaces; that of the bridge if 0.", validator=_from(0))
    hotplug_ports: int = _setting(12, "Volumes that a running guest can be given, on q35.", validator=_from(0))
    disk_cache: str = _setting(
        "none",
        "How the host caches guests' own disks.",
        validator=_one_of("none", "writeback", "writethrough", "directsync", "unsafe"),
    )
    cpu_shares: int = _setting(
        100, "Weight of each virtual processor against others, by control groups; 0 to leave it.", validator=_from(0)
    )
    cpu_overcommit: float = _setting(4.0, "Virtual processors promised for each real one.", validator=_from(0.01))
    memory_overcommit: float = _setting(1.0, "The same of memory.", validator=_from(0.01))
    reserved_memory_mb: int = _setting(512, "MiB that are kept for the host itself.", validator=_from(0))
    user: str = _setting("", "Who owns guests' files: the user of libvirt's qemu, if not that of this service.")
    shutdown_seconds: float = _setting(60.0, "A guest asked to stop is forced to after this.", validator=_from(0))
    reboot_seconds: float = _setting(60.0, "And one asked to reboot is reset.", validator=_from(0))
    detach_seconds: float = _setting(60.0, "How long a guest may hold on to a volume.", validator=_from(0))
    reconnect_seconds: float = _setting(
        60.0, "How long orders wait for a libvirt that does not answer.", validator=_from(0)
    )
    threads: int = _setting(16, "Calls to libvirt at once.", validator=_from(1))
    migration_uri: str = _setting(
        "", "How other hosts' libvirt reaches this one's, as qemu+tls://host/system; uri if empty."
    )
    migration_address: str = _setting(
        "", "As tcp://192.0.2.1, where moving guests' memory arrives; libvirt's choice if empty."
    )


@attrs.frozen
class Volume:
    """A volume host."""

    driver: str = _setting(
        "fake", "How volumes are kept: files are for this host's own guests.", validator=_one_of("fake", "files")
    )
    directory: str = _setting("", "Where files are kept; in the data directory if empty.")
    shared_with: tuple[str, ...] = _setting((), "Hosts that have this directory, too, at the same path.")
    capacity_gb: int = _setting(0, "GiB that may be promised; 0 for all of the file system.", validator=_from(0))
    copy_seconds: float = _setting(1800.0, "How long copying one volume may take.", validator=_from(0.1))


@attrs.frozen
class Fake:
    """The fake hypervisor; faults are for rehearsals."""

    vcpus: int = _setting(1000, "Virtual processors that it offers.", validator=_from(0))
    memory_mb: int = _setting(4096000, "Memory that it offers, in MiB.", validator=_from(0))
    disk_gb: int = _setting(100000, "Disk that it offers, in GiB.", validator=_from(0))
    gpus: int = _setting(0, "GPUs that it offers, of the kind gpu:1234:1111.", validator=_from(0))
    boot_seconds: float = _setting(0.5, "How long a machine boots.", validator=_from(0))
    stop_seconds: float = _setting(0.1, "How long one takes to shut down.", validator=_from(0))
    fail_next: tuple[str, ...] = _setting((), "Methods of the driver that fail once, as spawn, destroy.")
    lose_next: tuple[str, ...] = _setting((), "Methods that do the work once without an answer.")
    slow: tuple[str, ...] = _setting((), "Methods that take long, as spawn=5.")
    password: str = _setting(
        "", "Base64 that guests print as their encrypted password, as EC2Config does; none if empty."
    )


@attrs.frozen
class Log:
    """What is logged."""

    format: str = _setting("text", "text, or json: one object a line.", validator=_one_of("text", "json"))
    level: str = _setting("info", "The least level.", validator=_one_of("debug", "info", "warn", "error", "critical"))


@attrs.frozen
class Operations:
    """Where a service without a door shows its health and metrics."""

    endpoint: str = _setting("", "As tcp:9100:interface=127.0.0.1, with /health and /metrics; empty for none.")


@attrs.frozen
class Settings:
    """
    All settings.  Sections are values of their own; pass those, not this.
    """

    data_dir: str = _setting("cloud-data", "Where the embedded parts and the fake hypervisor keep their files.")
    host: str = _setting("", "This host's name in the cloud; what the system calls it if empty.")
    zone: str = _setting("nova", "This host's availability zone.")
    region: str = _setting("nova", "The cloud's region.")
    faults: tuple[str, ...] = _setting((), "Fault points that kill the process when reached, for rehearsals.")
    api: Api = _section(Api)
    metadata: Metadata = _section(Metadata)
    queue: Queue = _section(Queue)
    store: Store = _section(Store)
    ldap: Ldap = _section(Ldap)
    network: Network = _section(Network)
    objectstore: ObjectStore = _section(ObjectStore)
    scheduler: Scheduler = _section(Scheduler)
    quota: Quota = _section(Quota)
    controller: Controller = _section(Controller)
    compute: Compute = _section(Compute)
    libvirt: Libvirt = _section(Libvirt)
    volume: Volume = _section(Volume)
    fake: Fake = _section(Fake)
    log: Log = _section(Log)
    operations: Operations = _section(Operations)

    @property
    def host_name(self) -> str:
        """C{host}, or what the system calls this machine."""
        return self.host or socket.gethostname()
