"""
What the kill tests share: fault points as the sources have them, a client that
does not give up, and the proof that nothing was lost.
"""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from fabric.testing.bench.sigv4 import Endpoint, request
from fabric.testing.deployment import Deployment
from fabric.testing.processes import await_true

ROOMS = Path(__file__).resolve().parents[2] / "fabric"

DOORS = ("cloud-api", "cloud-controller")
EVERYONE = (*DOORS, "cloud-compute", "cloud-network", "cloud-scheduler", "cloud-volume")
SERVICES = {
    "cloud": DOORS,
    "compute": ("cloud-compute",),
    "network": ("cloud-network",),
    "scheduler": ("cloud-scheduler",),
    "volume": ("cloud-volume",),
}
"""Which services may reach the points of a room; all of them for other rooms."""

INSTANCES = (
    *("cloud.launch_written", "cloud.start_written", "cloud.stop_written", "cloud.reboot_written"),
    *("cloud.terminate_written", "cloud.report_received", "cloud.report_written", "cloud.adopted"),
    *("scheduler.received", "scheduler.chosen", "scheduler.claimed", "scheduler.ordered"),
    *("compute.received", "compute.attached", "compute.spawned", "compute.stopped", "compute.reported"),
    *("compute.destroyed", "compute.detached"),
    *("network.expressed", "network.plugged", "network.unplugged"),
)
"""Steps in the plain life of an instance."""

ADDRESSES = (
    *("cloud.address_allocated", "cloud.address_associated", "cloud.address_disassociated"),
    *("cloud.address_released", "cloud.addresses_confirmed", "cloud.network_adopted"),
    *("network.associated", "network.disassociated", "network.reported"),
)
"""Steps in the life of a floating address."""

STORAGE = (
    *("cloud.volume_written", "cloud.volume_placed", "cloud.volume_report_written", "cloud.grow_written"),
    *("cloud.volume_deleted", "cloud.attach_written", "cloud.detach_written", "cloud.disk_report_written"),
    *("cloud.snapshot_written", "cloud.snapshot_deleted", "cloud.image_written", "cloud.image_reported"),
    *("volume.received", "volume.created", "volume.grown", "volume.deleted", "volume.exported"),
    *("volume.unexported", "volume.snapshot_made", "volume.snapshot_deleted", "volume.reported"),
    *("compute.exported", "compute.disk_attached", "compute.disk_detached", "compute.image_captured"),
    *("cloud.root_volume_ordered", "compute.disks_exported", "compute.image_quiet"),
)
"""Steps in the lives of volumes, snapshots and images."""

GROUPS = (
    *("cloud.rules_written", "cloud.rules_sent", "cloud.groups_written", "cloud.regrouped"),
    *("cloud.members_sent", "cloud.groups_adopted", "network.groups_applied", "network.regrouped"),
)
"""Steps in the lives of security groups."""

MIGRATIONS = (
    *("cloud.migration_written", "compute.receive_attached", "compute.received_machine"),
    *("compute.migration_ready", "compute.migrated", "compute.migration_reported"),
)
"""Steps of moving an instance that runs."""

FENCING = ("cloud.fenced", "cloud.fence_written", "cloud.evacuation_written")
"""Steps of giving up a host that is dead."""

LISTS = {
    "test_kill": INSTANCES,
    "test_kill_addresses": ADDRESSES,
    "test_kill_hosts": (*MIGRATIONS, *FENCING),
    "test_kill_volumes": (*STORAGE, *GROUPS),
}
"""Which module's processes die at which points."""

PATIENCE = 240.0
"""Seconds within which everything must have come to rest."""

_INSTANCE = re.compile(r"<instanceId>(i-[0-9a-f]+)</instanceId>")
_ITEM = re.compile(r"<instanceId>(i-[0-9a-f]+)</instanceId>.*?<instanceState>.*?<name>([a-z-]+)</name>", re.S)
_ADDRESS = re.compile(r"<instanceId>(i-[0-9a-f]+)</instanceId>.*?<privateIpAddress>([0-9.]+)</privateIpAddress>", re.S)
_POINT = re.compile(r'reach\("([a-z_]+\.[a-z_]+)"\)')


def fault_points() -> list[str]:
    """
    Every point that the sources name.
    """
    found: set[str] = set()
    for path in ROOMS.rglob("*.py"):
        if path.name != "faults.py" and "testing" not in path.parts:
            found.update(_POINT.findall(path.read_text()))
    return sorted(found)


def services_at(point: str) -> tuple[str, ...]:
    """
    The services that may reach a point.
    """
    return SERVICES.get(point.partition(".")[0], EVERYONE)


class Refused(Exception):
    """
    The cloud answered, and said no.
    """


class Stubborn:
    """
    An EC2 client that asks one door after the other until one answers, as
    clients with a retry policy do; what it asks is safe to repeat.
    """

    def __init__(self, deployment: Deployment, mend: Callable[[], None]) -> None:
        """
        @param mend: called after each failure, to see to what is dead.
        """
        self._deployment = deployment
        self._mend = mend

    def ask(self, action: str, **parameters: str) -> str:
        """
        The answer's body; C{_} in a name stands for a dot.

        @raise Refused: the cloud said no for good.
        @raise AssertionError: nobody answered in time.
        """
        named = {name.replace("_", "."): value for name, value in parameters.items()}
        ends = time.monotonic() + PATIENCE
        while True:
            for port in self._deployment.ports:
                try:
                    return self._ask(port, action, named)
                except (OSError, urllib.error.URLError) as error:
                    said = str(error)
            assert time.monotonic() < ends, f"{action}: {said}"
            self._mend()
            time.sleep(0.1)

    def _ask(self, port: int, action: str, parameters: dict[str, str]) -> str:
        there = Endpoint("127.0.0.1", port, "/services/Cloud", self._deployment.access_key, self._deployment.secret_key)
        head, _, body = request(there, action, parameters).partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/services/Cloud", body, headers)
        try:
            with urllib.request.urlopen(asked, timeout=15.0) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            if error.code < 500:
                raise Refused(said) from None
            raise OSError(said) from None

    def run(self, image: str, count: int) -> list[str]:
        """Launch once, however often it is asked; the instances' ids."""
        body = self.ask(
            "RunInstances",
            ImageId=image,
            MinCount=str(count),
            MaxCount=str(count),
            InstanceType="m1.tiny",
            ClientToken=str(uuid.uuid4()),
        )
        return _INSTANCE.findall(body)

    def act(self, verb: str, ids: Iterable[str]) -> None:
        """C{Stop}, C{Start}, C{Reboot} or C{Terminate}."""
        self.ask(f"{verb}Instances", **{f"InstanceId_{n}": id for n, id in enumerate(ids, 1)})

    def states(self, ids: Iterable[str]) -> dict[str, str]:
        """State of each."""
        body = self.ask("DescribeInstances", **{f"InstanceId_{n}": id for n, id in enumerate(ids, 1)})
        return dict(_ITEM.findall(body))

    def addresses(self, ids: Iterable[str]) -> list[str]:
        """The first address of each; an answer may repeat it within an instance."""
        body = self.ask("DescribeInstances", **{f"InstanceId_{n}": id for n, id in enumerate(ids, 1)})
        return list(dict(_ADDRESS.findall(body)).values())

    def await_states(self, ids: Sequence[str], wanted: set[str]) -> dict[str, str]:
        """
        Look, and see to what is dead, until each is in one of the states.
        """
        seen: dict[str, str] = {}

        def settled() -> bool:
            self._mend()
            seen.update(self.states(ids))
            return all(state in wanted for state in seen.values())

        try:
            await_true(settled, f"all in {wanted}", PATIENCE, 0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen}") from None
        return seen


def at_rest(check: Callable[[], list[Any]], pools: Callable[[], dict[str, tuple[int, int]]]) -> None:
    """
    Prove that nothing is lost: no finding, and every address back in its pool.

    @raise AssertionError: something is still amiss after a while.
    """
    found: list[Any] = []

    def proved() -> bool:
        found[:] = check()
        found.extend(f"{pool}: {free} of {size} free" for pool, (free, size) in pools().items() if free != size)
        return not found

    try:
        await_true(proved, "nothing amiss", PATIENCE, 0.3)
    except AssertionError as error:
        raise AssertionError(f"{error}: {found}") from None
