"""
What a compute host does: the orders to it, its reports, and the worker's interface.

The driver's interface is in L{fabric.compute.driver}.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

from fabric.image.interface import FileOrder
from fabric.model.flavor import Flavor


@attrs.frozen
class PortOrder:
    """
    One network interface to be given to a machine; everything that the network
    driver needs is in it, since workers can't read the store.

    @ivar public: of a machine that moves, as of L{fabric.network.interface.Plug}.
    """

    network: str
    mac: str
    address: str
    hostname: str
    cidr: str
    gateway: str
    manager: str = "flat"
    bridge: str = "br100"
    vlan: int | None = None
    dns: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    groups_order: int = 0
    public: str = ""
    domain: str = "novalocal"
    cidr_v6: str = ""


@attrs.frozen
class DiskOrder:
    """
    A volume that a machine is to have, or no longer.

    @ivar device: the user's name for it, C{/dev/sdf}; unique on the machine.
    @ivar host: the volume host, which is asked for the connection; empty to
        take the volume from the machine only.
    @ivar order: of L{fabric.model.volume.Attachment}; an older one than what
        was done with the volume is dropped.
    @ivar force: when it is taken away: whether not to wait for the guest.
    @ivar connection: how the host reaches the volume, as the volume's driver
        said; filled in by the compute worker.
    """

    volume: str
    instance: str
    device: str
    host: str
    order: int
    force: bool = False
    connection: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class DiskReport:
    """
    What a host says of one machine's volume.

    @ivar order: of the L{DiskOrder} that this answers.
    @ivar state: C{attached}, C{detached} (also when the machine does not have
        it, or is not there), C{not_attached} (and nothing of it is left) or
        C{not_detached}.
    """

    volume: str
    instance: str
    order: int
    state: str
    message: str = ""


@attrs.frozen
class MachineOrder:
    """
    One machine as it is to be: what an order to a compute host carries.

    @ivar id: the instance's id; drivers name the domain so.
    @ivar order: L{fabric.model.instance.Instance.order}, echoed in reports.
    @ivar user_data: base64.
    @ivar flavor: with a root disk of 0 GiB where it boots from a volume, and a
        scratch disk only if it is to have that.
    @ivar disks: all volumes that it is to have.
    @ivar root_volume: which of C{disks} it boots from: its first disk, and it
        has none of its own then; empty for its own disk, made of the image.
    @ivar scratch_device: the user's name for the scratch disk, if it has one.
    @ivar files: of the image, the kernel and the ramdisk; drivers that boot
        nothing need none.
    """

    id: str
    order: int
    project: str
    flavor: Flavor
    image: str
    image_location: str = ""
    kernel: str = ""
    ramdisk: str = ""
    key_name: str = ""
    key_material: str = ""
    user_data: str = ""
    ports: tuple[PortOrder, ...] = ()
    disks: tuple[DiskOrder, ...] = ()
    root_volume: str = ""
    scratch_device: str = ""
    files: tuple[FileOrder, ...] = ()
    metadata: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class MigrationOrder:
    """
    A machine that is to be moved, as it is, to another host.

    @ivar machine: as the other host is to have it.
    @ivar destination: the other host.
    @ivar order: L{fabric.model.instance.Migration.order}, echoed in the
        report.
    """

    machine: MachineOrder
    destination: str
    order: int


@attrs.frozen
class MachineReport:
    """
    What a host says of one machine.

    @ivar order: of the order that this answers; 0 for news of the guest's own.
    @ivar after: of news, the last order that was carried out on the guest when
        it happened; 0 where that is not known.
    @ivar state: C{running}, C{stopped}, C{gone} or C{failed}; of a
        L{MigrationOrder} C{moved} (it is there, and nothing of it is here)
        or C{not_moved}.
    @ivar code: reason code for C{failed} or an unexpected C{stopped}, as
        C{Server.InternalError}; empty otherwise.
    @ivar addresses: fixed addresses in use by it.  A C{failed} without any
        left nothing behind; with some, the machine (or a rest of it) is still
        on the host, and they are not free.
    """

    id: str
    order: int
    state: str
    code: str = ""
    message: str = ""
    addresses: tuple[str, ...] = ()
    after: int = 0


@attrs.frozen
class Domain:
    """
    A machine as the driver finds it.

    @ivar state: C{running}, C{stopped} or C{crashed}.
    @ivar order: of the last order carried out on it, kept by the driver.
    @ivar disks: the volumes that it has, C{{device: volume id}}.
    @ivar condition: C{paused} for one that runs but stands still, C{suspended}
        for one that is stopped and goes on from its memory when resumed,
        C{rescue} for one that runs from a rescue disk; else empty.
    @ivar quiet_until: of one that the host itself stopped for a while, when it
        is to run again at the latest, in seconds since 1970; else 0.
    """

    id: str
    state: str
    order: int = 0
    addresses: tuple[str, ...] = ()
    disks: dict[str, str] = attrs.field(factory=dict)
    condition: str = ""
    quiet_until: float = 0.0


@attrs.frozen
class Statistics:
    """
    What a guest has used since it was booted.

    @ivar cpu_seconds: of all its processors together.
    @ivar memory_mb: MiB that it holds now.
    @ivar disk_read, disk_written, received, sent: bytes, of all disks and
        ports together.
    """

    cpu_seconds: float = 0.0
    memory_mb: int = 0
    disk_read: int = 0
    disk_written: int = 0
    received: int = 0
    sent: int = 0


class IComputeWorker(Interface):
    """
    What answers at C{compute} and C{compute.HOST}.  Orders are dicts by
    L{fabric.model.codec} of L{MachineOrder}.  Outcomes are reported by cast to
    L{fabric.cloud.interface.ICloudWorker}.
    """

    def run(machines: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast to C{compute.HOST}: bring the machines up.  Those that run are
        reported again, so repeating is safe.
        """

    def claim(instances: list[str]) -> Deferred[None]:
        """
        Cast to C{compute} by the scheduler C{queue}: this host was the first
        free one; answers with C{ICloudWorker.place(host, instances)}.
        """

    def stop(machines: list[dict[str, Any]], force: bool) -> Deferred[None]:
        """Cast: shut down; C{machines} are C{{"id", "order"}}.  Reported as C{stopped}."""

    def reboot(machines: list[dict[str, Any]], hard: bool) -> Deferred[None]:
        """
        Cast: C{machines} are whole orders, each with a new order number (one
        that was carried out is only reported again); one that is not there
        is spawned.  Reported as C{running}.
        """

    def terminate(machines: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast: remove; C{machines} are C{{"id", "order"}}.  The order may be that
        of the last one to it; 0 is for a machine that state does not know.
        Reported as C{gone} also when it was not there.
        """

    def attach_disks(disks: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast: L{DiskOrder}s: have each exported to this host, and the machines
        have them.  Reported as C{attached} or C{not_attached}.
        """

    def detach_disks(disks: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast: L{DiskOrder}s: take them from the machines, then from this host.
        Reported as C{detached} or C{not_detached}.
        """

    def copy_disk(volume: str, place: dict[str, str]) -> Deferred[dict[str, str]]:
        """
        Call, by a volume host: copy a volume that was exported to this host, as it is at
        one moment, into a place that the volume host's driver lent.  Begins it,
        and is to be repeated until it is over.

        @return: C{{"state": …}}: C{copying}; C{copied}; C{quiet} when no guest runs with it,
            so that nobody writes to it until it is exported again; C{size} when the
            guest sees it in another size than the place has, which are so many C{"bytes"}.
        @raise DriverFailure: it could not be copied, as when the guest stopped meanwhile.
        """

    def capture(machines: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast: L{fabric.image.interface.CaptureOrder}s.  Reported to L{ICloudWorker.report_images}, and
        again when repeated.
        """

    def migrate(orders: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast: L{MigrationOrder}s of machines that are here, running (then
        without volumes) or stopped.  Reported as C{moved} or C{not_moved}, by
        what is the case then; repeating is safe: what was reported is not
        undone, nor tried once more.
        """

    def receive(machine: dict[str, Any]) -> Deferred[dict[str, str]]:
        """
        Call, by the host that a machine is on: make ready for it.  Repeating
        is safe.  The order's number is that of the L{MigrationOrder}.

        @return: what the driver there needs to know.
        @raise WrongState: it is here already, by this or a newer order.
        """

    def give_up(machine: str, order: int) -> Deferred[None]:
        """
        Call: have nothing of a machine that was to come by a
        L{MigrationOrder} of this number and did not.  Nothing when it runs
        here, or when a newer order brings or brought it.
        """

    def console_output(id: str) -> Deferred[dict[str, Any]]:
        """
        Call: C{{"output": base64, "timestamp": seconds}}.

        @raise NotFound: no such guest.
        """

    def screenshot(id: str, wake: bool) -> Deferred[dict[str, Any]]:
        """
        Call: C{{"image": base64}} of a PNG or JPEG.

        @raise NotFound: no such guest.
        @raise WrongState: it does not run.
        """

    def pause(id: str) -> Deferred[None]:
        """
        Call: have a guest stand still, in memory.  It counts as running.
        Repeating is safe, as for the five that follow.

        @raise NotFound: no such guest.
        @raise WrongState: it does not run.
        """

    def unpause(id: str) -> Deferred[None]:
        """
        Call: have it go on.  Errors as of L{pause}.
        """

    def suspend(id: str, order: int) -> Deferred[None]:
        """
        Call: have a guest's memory on disk, and the guest not run.  Nobody is
        told that it stopped.

        @raise NotFound: no such guest.
        @raise WrongState: it does not run, nor was it suspended; or a newer
            order came before.
        """

    def resume(id: str, order: int) -> Deferred[None]:
        """
        Call: have a suspended guest go on where it was.  Errors as of
        L{suspend}.
        """

    def rescue(machine: dict[str, Any]) -> Deferred[None]:
        """
        Call: boot a guest from a new disk of its image, its own disk as the
        second; until it is stopped, or L{unrescue}d.  If that fails and it runs
        no more, that is reported, too.

        @raise NotFound: no such guest.
        @raise WrongState: a newer order came before.
        """

    def unrescue(machine: dict[str, Any]) -> Deferred[None]:
        """
        Call: boot it from its own disk again.  Errors as of L{rescue}.
        """

    def statistics(id: str) -> Deferred[dict[str, Any]]:
        """
        Call: L{Statistics}.  Errors as of L{pause}.
        """

    def describe_machines() -> Deferred[list[dict[str, Any]]]:
        """Call: every L{Domain} of the driver, for operators and checks."""
