"""
What a volume host does: the worker's interface and the driver's.

Attaching, snapshots and exports come with the real drivers; what is here are
the verbs that every one of them has.
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
    """

    id: str
    size_gb: int


class IVolumeDriver(Interface):
    """
    The volumes of one host.  Every method means "make it so" and may be
    repeated; each may fail with L{fabric.errors.DriverFailure}.  Drivers keep
    no state of record.
    """

    def start() -> Deferred[None]:
        """Call once, before all else."""

    def stop() -> Deferred[None]:
        """Let go; volumes stay."""

    def capacity_gb() -> Deferred[int]:
        """What the host offers to volumes in all, in GiB."""

    def create(volume: VolumeOrder) -> Deferred[None]:
        """
        Have it, with nothing that can be read of who had the room before.
        Nothing when it is there in this size.

        @raise WrongState: it is there in another size.
        @raise NoCapacity: the host has no room for it.
        """

    def delete(id: str) -> Deferred[None]:
        """Have it no more.  Nothing when it is not there."""

    def volumes() -> Deferred[list[VolumeOrder]]:
        """Every volume that the cloud made here."""


class IVolumeWorker(Interface):
    """
    What answers at C{volume} and C{volume.HOST}.  Dicts by
    L{fabric.model.codec}.
    """

    def create(volume: dict[str, Any]) -> Deferred[str]:
        """
        Call: have a L{VolumeOrder}; answers with the host that has it.  To be
        repeated at that host only.

        @raise WrongState: it is there in another size.
        @raise NoCapacity: the host has no room for it.
        """

    def delete(id: str) -> Deferred[None]:
        """Call: remove.  Repeating is safe."""

    def describe_volumes() -> Deferred[list[dict[str, Any]]]:
        """Call: every L{VolumeOrder} of the driver."""
