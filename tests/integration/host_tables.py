"""
What the fake hosts of a deployment have, read from their files, beside what
state says that they have.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from fabric.compute.fake_guest import Guest
from fabric.journal import Journal
from fabric.model.group import SecurityGroup
from fabric.model.instance import Instance
from fabric.model.record import ALL
from fabric.model.snapshot import Snapshot
from fabric.model.volume import Volume
from fabric.network.fake import Plugged
from fabric.network.interface import Floating, GroupOrder
from fabric.store.interface import Query
from fabric.testing.deployment import Deployment
from fabric.volume.fake import Disk


class HostTables:
    """
    Compares; blocks.
    """

    def __init__(self, cloud: Deployment) -> None:
        self._cloud = cloud
        self._hosts = [process.name.replace("cloud-compute.", "node") for process in cloud.of("cloud-compute")]

    def table(self, host: str, what: str, row: type[Any]) -> dict[str, Any]:
        """
        One table of a host.

        @param what: as C{volume/snapshots}.
        """
        there = self._cloud.directory / host / "data" / "hosts" / host / what
        with tempfile.TemporaryDirectory() as here:
            if there.exists():
                shutil.copy(there, Path(here) / "table")
            copy: Journal[Any] = Journal(str(Path(here) / "table"), row)
            copy.open()
            copy.close()
        return copy.rows

    def stored(self, cls: type[Any]) -> list[Any]:
        """All records of a kind."""
        page = self._cloud.wait(self._cloud.store.records, cls, Query(cls.kind, (ALL,)))
        return [stored.record for stored in page.items]

    def differences(self) -> list[str]:
        """
        @return: what a host has and state does not know, or the reverse.
        """
        found: list[str] = []
        volumes, snapshots = self.stored(Volume), self.stored(Snapshot)
        instances = [each for each in self.stored(Instance) if each.state == "running"]
        groups = {group.id: group for group in self.stored(SecurityGroup)}
        for host in self._hosts:
            stored = [volume for volume in volumes if volume.host == host and volume.state != "error"]
            there = self.table(host, "volume/volumes", Disk)
            self._same(found, f"volumes of {host}", _wanted(stored), _held(there))
            mine = {each.id for each in snapshots if each.host == host and each.state != "error"}
            self._same(found, f"snapshots of {host}", mine, set(self.table(host, "volume/snapshots", Disk)))
            here = [each for each in instances if each.host == host]
            guests = self.table(host, "compute/domains", Guest)
            wanted = {each.id: {disk.device: disk.volume for disk in each.disks} for each in here}
            self._same(found, f"disks of {host}", wanted, {id: dict(guest.disks) for id, guest in guests.items()})
            ports = self.table(host, "network/ports", Plugged)
            members = {each.id: tuple(group.id for group in each.groups) for each in here}
            shown = {id: port.groups for id, plugged in ports.items() for port in plugged.ports}
            self._same(found, f"ports of {host}", members, shown)
            used = {id for ids in members.values() for id in ids}
            self._same(found, f"rules of {host}", _rules(groups, used), self._enforced(host, used))
            self._same(found, f"addresses of {host}", {}, self.table(host, "network/floating", Floating))
        return found

    def _enforced(self, host: str, used: set[str]) -> dict[str, int]:
        groups = self.table(host, "network/groups", GroupOrder)
        return {id: len(groups[id].rules) if id in groups else -1 for id in used}

    def _same(self, found: list[str], what: str, wanted: Any, there: Any) -> None:
        if wanted != there:
            found.append(f"{what}: state says {wanted}, there is {there}")


def _wanted(volumes: list[Volume]) -> dict[str, tuple[int, str]]:
    return {each.id: (each.size_gb, each.attachment.host if each.attachment else "") for each in volumes}


def _held(disks: dict[str, Disk]) -> dict[str, tuple[int, str]]:
    return {id: (disk.size_gb, disk.exported_to) for id, disk in disks.items()}


def _rules(groups: dict[str, SecurityGroup], used: set[str]) -> dict[str, int]:
    return {id: len(groups[id].rules) for id in used}
