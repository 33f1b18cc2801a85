"""
A guest's own disk copied, to become an image; and its volumes, to become snapshots.

qemu copies a disk as it is at the moment when that begins, while the guest writes
on, and one disk of a guest at a time.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import libvirt
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.compute.libvirt import guests
from fabric.compute.libvirt.connection import Connection
from fabric.compute.libvirt.domain import alias_of
from fabric.compute.libvirt.files import Store
from fabric.compute.libvirt.power import Power
from fabric.errors import DriverFailure, NotFound

SECONDS = 1500.0
"""Longest copy of a disk."""

VOLUME_SECONDS = 3600.0
"""Longest copy of a volume, for which nobody waits."""

AT_ONCE = 1.0
"""When one is to run again whose copy dies with this process."""

LOOK = 2.0
"""Seconds between looks whether a copy is done; its end is news, too."""


class Capture:
    """
    One copy at a time of one guest is the caller's business.
    """

    def __init__(self, connection: Connection, store: Store, power: Power) -> None:
        self._connection = connection
        self._store = store
        self._power = power

    @inlineCallbacks
    def make(self, id: str, image: str, restart: bool) -> Generator[Deferred[Any], Any, str]:
        """See L{fabric.compute.driver.IComputeDriver.capture}."""
        found = yield self._connection.call(guests.look, id)
        if found is None:
            raise NotFound(kind="guest", id=id)
        target = yield self._connection.work(self._store.captured, image)
        try:
            if not (yield self._connection.work(os.path.exists, target)):
                if "ua-root" not in found.targets:
                    raise DriverFailure(what=f"{id} has no disk of its own")
                if restart:
                    yield self._power.quiet(id, AT_ONCE)
                yield self._copy(id, target)
        finally:  # also a guest of which there is no copy
            if restart:
                yield self._connection.call(guests.wake, id)
        return f"captured/{image}"

    @inlineCallbacks
    def begin(
        self, id: str, volume: str, place: dict[str, str]
    ) -> Generator[Deferred[Any], Any, tuple[dict[str, str], int]]:
        """
        Begin to copy a volume into a place.

        @return: C{{"state": "copying"}} and what L{finish} is to be told; or
            what is the case instead.
        """
        found = yield self._connection.call(guests.look, id)
        if found is None or found.domain.state != "running":
            if found is not None and found.domain.condition == "suspended":
                raise DriverFailure(what=f"{id} is suspended; it is to be resumed or stopped first")
            if found is not None and found.domain.quiet_until:
                raise DriverFailure(what=f"{id} is stopped for a moment only")
            return {"state": "quiet"}, 0
        name = found.live.get(alias_of(volume), "")
        if not name:
            return {"state": "quiet"}, 0
        size = yield self._connection.call(_end_and_measure, id, name)
        if size != int(place["bytes"]):
            return {"state": "size", "bytes": str(size)}, 0
        life = yield self._connection.call(_begin, id, name, place["path"])
        return {"state": "copying"}, life

    @inlineCallbacks
    def finish(self, id: str, life: int) -> Generator[Deferred[Any], Any, dict[str, str]]:
        """
        Wait until what was begun is over.

        @raise DriverFailure: it failed, as when the guest was stopped.
        """

        @inlineCallbacks
        def done() -> Generator[Deferred[Any], Any, bool]:
            return (yield self._connection.call(_done, id, life))  # type: ignore[no-any-return]

        if not (yield self._power.until(id, VOLUME_SECONDS, done, LOOK)):
            yield self._connection.call(_abort, id)
            raise DriverFailure(what=f"a volume of {id} was not copied within {VOLUME_SECONDS:g} s")
        return {"state": "copied"}

    @inlineCallbacks
    def _copy(self, id: str, target: str) -> Generator[Deferred[Any], Any, None]:
        found = yield self._connection.call(guests.look, id)
        if found is None:
            raise NotFound(kind="guest", id=id)
        if found.domain.state != "running":
            yield self._connection.work(self._store.copy, self._store.of(id).root, target)
            return
        part, name = target + ".part", found.live["ua-root"]
        size = yield self._connection.call(_end_and_measure, id, name)
        # Made by us, so that it is ours again when libvirt, which lends it to the guest's account, is done.
        yield self._connection.work(self._store.blank, part, size)
        life = yield self._connection.call(_begin, id, name, part)

        @inlineCallbacks
        def done() -> Generator[Deferred[Any], Any, bool]:
            return (yield self._connection.call(_done, id, life))  # type: ignore[no-any-return]

        if not (yield self._power.until(id, SECONDS, done, LOOK)):
            yield self._connection.call(_abort, id)
            raise DriverFailure(what=f"the disk of {id} was not copied within {SECONDS:g} s")
        yield self._connection.work(self._store.handed, part)
        yield self._connection.work(os.replace, part, target)


def _end_and_measure(connection: Any, id: str, name: str) -> int:
    """
    Have no copy under way.

    @return: how many bytes a disk has for the guest.
    """
    domain = guests.running(connection, id)
    _abort(connection, id)
    return int(domain.blockInfo(name)[0])


def _begin(connection: Any, id: str, name: str, path: str) -> int:
    """
    Have qemu copy the disk as it is now, while the guest writes on, to a file that is there.

    @return: a number that the guest has until it is stopped.
    """
    domain = guests.running(connection, id)
    _abort(connection, id)
    backup = Element("domainbackup", mode="push")
    disks = SubElement(backup, "disks")
    for target in guests.disks_of(fromstring(domain.XMLDesc(0))).values():
        disk = SubElement(disks, "disk", name=target, backup="yes" if target == name else "no")
        if target == name:
            disk.set("type", "file")
            SubElement(disk, "driver", type="qcow2")
            SubElement(disk, "target", file=path)
    flags = libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
    domain.backupBegin(tostring(backup, encoding="unicode"), None, flags)
    return int(domain.ID())


def _done(connection: Any, id: str, life: int) -> bool:
    """
    @raise DriverFailure: it failed, or the guest was stopped.
    """
    domain = guests.running(connection, id)
    if domain.ID() != life:
        raise DriverFailure(what=f"{id} was stopped while its disk was copied")
    if domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
        return False
    outcome = domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED)
    ended = outcome.get("type") == libvirt.VIR_DOMAIN_JOB_COMPLETED
    if not ended or not outcome.get("success", True) or outcome.get("errmsg"):
        raise DriverFailure(what=f"the disk of {id} was not copied: {outcome.get('errmsg', 'qemu broke it off')}")
    return True


def _abort(connection: Any, id: str) -> None:
    """Have no copy under way, as one that an earlier life of this service began."""
    domain = guests.handle(connection, id)
    if domain is not None and domain.isActive() and domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
        domain.abortJob()
