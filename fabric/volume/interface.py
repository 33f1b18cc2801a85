"""
What a volume host does: the worker's interface and the driver's.

A volume is given to one compute host at a time: an export names the host, and
a later export to another one takes it away from the first.  The orders' numbers
say which is later, and the driver keeps the last one, so that an order that
comes late can't take a volume back.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface


@attrs.frozen
class VolumeOrder:
    """
    A volume as a host is to have it.

    @ivar id: the volume's id; drivers name it so.
    @ivar size_gb: GiB.
    @ivar order: the volume's order, echoed in reports.
    @ivar snapshot: on the same host, to begin with its content; empty for a
        volume of zeros.
    """

    id: str
    size_gb: int
    order: int = 0
    snapshot: str = ""


@attrs.frozen
class SnapshotOrder:
    """
    A snapshot as a host is to have it.

    @ivar volume: what it is made of.
    @ivar size_gb: of the volume, when it was ordered.
    @ivar source: a snapshot on the same host that it is to be a copy of,
        instead of the volume.
    """

    id: str
    volume: str
    size_gb: int
    order: int = 0
    source: str = ""


@attrs.frozen
class AwaitedSnapshot:
    """
    A snapshot that a compute host asks for once the machine which has the
    volume is quiet.

    @ivar host: the volume host.
    """

    host: str
    snapshot: SnapshotOrder


@attrs.frozen
class Named:
    """An order about what is there: to be deleted, or no longer exported."""

    id: str
    order: int


@attrs.frozen
class HeldVolume:
    """
    A volume as the driver finds it.

    @ivar exported_to: the compute host that may use it, empty for none.
    @ivar order: of the last C{export} or C{unexport}.
    """

    id: str
    size_gb: int
    exported_to: str = ""
    order: int = 0


@attrs.frozen
class HeldSnapshot:
    """A snapshot as the driver finds it, complete."""

    id: str
    size_gb: int


@attrs.frozen
class Holdings:
    """All that the cloud made on a volume host."""

    volumes: tuple[HeldVolume, ...] = ()
    snapshots: tuple[HeldSnapshot, ...] = ()


@attrs.frozen
class VolumeReport:
    """
    What a host says of one volume.

    @ivar order: of the order that this answers.
    @ivar state: C{made} (also when it was grown), C{gone}, C{failed} (an
        order to make it; a rest may be there, and goes when it is deleted),
        C{not_grown} or C{not_gone}.
    @ivar size_gb: as it is.
    """

    id: str
    order: int
    state: str
    size_gb: int = 0
    message: str = ""


@attrs.frozen
class SnapshotReport:
    """
    What a host says of one snapshot.

    @ivar state: C{completed}, C{gone}, C{failed} (a rest may be there, and
        goes when it is deleted) or C{not_gone}.
    """

    id: str
    order: int
    state: str
    message: str = ""


class IVolumeDriver(Interface):
    """
    The volumes of one host.  Every method means "make it so" and may be
    repeated; each may fail with L{fabric.errors.DriverFailure}, and leaves then
    what it found, or what repeating completes.  Drivers keep no state of
    record but what is with the volumes themselves.
    """

    def start() -> Deferred[None]:
        """
        Call once, before all else.  Exports that were there are there again.
        """

    def stop() -> Deferred[None]:
        """Let go; volumes and exports stay."""

    def capacity_gb() -> Deferred[int]:
        """What the host offers to volumes and snapshots in all, in GiB."""

    def describe() -> Deferred[Holdings]:
        """Every volume and snapshot that the cloud made here."""

    def create(volume: VolumeOrder) -> Deferred[None]:
        """
        Have it, with nothing that can be read of who had the room before, or
        with the snapshot's content; larger than the snapshot, zeros follow.
        Nothing when it is there in this size.

        @raise WrongState: it is there in another size.
        @raise NotFound: the snapshot is not here.
        @raise NoCapacity: the host has no room for it.
        """

    def grow(volume: VolumeOrder) -> Deferred[None]:
        """
        Have it in this size, its content kept, exported or not.  Nothing when
        it is that large or larger.

        @raise NotFound: it is not here.
        @raise NoCapacity: the host has no room for it.
        """

    def delete(id: str) -> Deferred[None]:
        """Have it no more, nor any export of it.  Nothing when it is not there."""

    def export(id: str, host: str, order: int) -> Deferred[dict[str, str]]:
        """
        Let one compute host use it, and no other any more.  Does not wait for
        a copy of it: one that needs it unused is broken off.

        @param order: is kept with the volume; an older one than that is
            refused.
        @return: how the host's compute driver reaches it, C{{"kind": …}} and
            what that kind needs; the same each time.
        @raise NotFound: it is not here.
        @raise WrongState: a newer order came before.
        """

    def unexport(id: str, host: str, order: int) -> Deferred[None]:
        """
        Let that host use it no more, and keep the order's number.  Nothing
        when the volume is not there, or a newer order came before.
        """

    def snapshot(snapshot: SnapshotOrder) -> Deferred[None]:
        """
        Have a copy of a volume as it is at one moment now, or of another
        snapshot; fires when it is complete.  Nothing when it is there.

        @raise NotFound: what is to be copied is not here.
        @raise NoCapacity: the host has no room for it.
        @raise InUse: a compute host has the volume, C{by}, and nobody but
            that can copy it as it is at one moment: L{lend} it a place.
        """

    def lend(snapshot: SnapshotOrder, size: int = 0) -> Deferred[dict[str, str]]:
        """
        Have a new, empty place into which the host that has the volume copies
        it.  A restart of this driver takes it away.

        @param size: bytes that the guest sees of the volume; 0 for all of it.
        @return: how that host's compute driver reaches it, C{{"kind": …}} and
            what that kind needs, C{"bytes"} among it.
        @raise NotFound: the volume is not here.
        """

    def take(snapshot: SnapshotOrder, place: dict[str, str], copied: bool) -> Deferred[None]:
        """
        Have a snapshot of what was copied into a place.  Nothing when it is
        there.

        @param copied: False when that host found that no guest runs with the
            volume; then it is copied here.
        @raise DriverFailure: it was exported since the place was lent, and so
            may be written to.
        @raise NotFound, NoCapacity: as of L{snapshot}.
        """

    def drop_lent(place: dict[str, str]) -> Deferred[None]:
        """A place is of no use any more; nothing when it is not there."""

    def delete_snapshot(id: str) -> Deferred[None]:
        """
        Have it no more; volumes that were made of it keep their content.
        Nothing when it is not there.
        """


class IVolumeWorker(Interface):
    """
    What answers at C{volume.HOST}.  Dicts by L{fabric.model.codec}.  Outcomes
    of casts are reported by cast to L{fabric.cloud.interface.ICloudWorker}.
    """

    def create(volumes: list[dict[str, Any]]) -> Deferred[None]:
        """Cast: L{VolumeOrder}s to be had.  Reported as C{made} or C{failed}."""

    def grow(volumes: list[dict[str, Any]]) -> Deferred[None]:
        """Cast: L{VolumeOrder}s.  Reported as C{made} or C{not_grown}."""

    def delete(volumes: list[dict[str, Any]]) -> Deferred[None]:
        """Cast: L{Named} ones.  Reported as C{gone} or C{not_gone}."""

    def snapshot(snapshots: list[dict[str, Any]]) -> Deferred[None]:
        """Cast: L{SnapshotOrder}s.  Reported as C{completed} or C{failed}."""

    def delete_snapshots(snapshots: list[dict[str, Any]]) -> Deferred[None]:
        """Cast: L{Named} ones.  Reported as C{gone} or C{not_gone}."""

    def export(id: str, host: str, order: int) -> Deferred[dict[str, str]]:
        """
        Call by a compute worker: see L{IVolumeDriver.export}.

        @raise NotFound: it is not here.
        @raise WrongState: a newer order came before.
        """

    def unexport(id: str, host: str, order: int) -> Deferred[None]:
        """Call or cast: see L{IVolumeDriver.unexport}."""

    def describe() -> Deferred[dict[str, Any]]:
        """Call: the driver's L{Holdings}."""
