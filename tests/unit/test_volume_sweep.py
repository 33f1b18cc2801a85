"""
Tests for L{fabric.cloud.volume_sweep}: what a sweep costs that finds much to do.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.cloud.volume_sweep import VolumeSweep
from fabric.errors import DeadlineExceeded
from fabric.model.flavor import BUILT_IN
from fabric.model.host import Service
from fabric.model.instance import Instance
from fabric.model.volume import Attachment, Volume
from fabric.store.interface import Stored, Transaction

COUNT = 20

INSTANCE = Instance("i-1", "apples", "r-1", 0, "ami-1", BUILT_IN["m1.tiny"], 0.0, 0.0, state="running", host="dead")


def forced(number: int) -> Volume:
    """A volume that is forced off a machine whose host is silent."""
    attachment = Attachment("i-1", f"/dev/sd{number}", "detaching", 0.0, 0.0, 1, host="dead", force=True)
    return Volume(
        f"vol-{number}", "apples", 1, "nova", 0.0, 0.0, "in-use", review_at=1.0, host="v", attachment=attachment
    )


class Collaborators:
    """
    State with those volumes, and hosts that note what they are asked.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.records: dict[str, Any] = {volume.id: volume for volume in map(forced, range(COUNT))} | {"i-1": INSTANCE}

    def read(self, cls: Any, ids: Any) -> Deferred[Any]:
        """As a store."""
        return succeed([Stored(self.records[id], 1) for id in ids])

    def transaction(self, request_id: str) -> Transaction:
        """As a store."""
        return Transaction(request_id)

    def commit(self, transaction: Transaction) -> Deferred[None]:
        """As a store."""
        return succeed(None)

    def alive(self) -> Deferred[frozenset[str]]:
        """As the hosts: that of the machine is silent."""
        self.asked.append("alive")
        return succeed(frozenset())

    def volume_services(self) -> Deferred[list[Service]]:
        """As the hosts: that of the volumes reports."""
        self.asked.append("volume_services")
        return succeed([Service("volume.v", "volume", "v")])

    def fence(self, request_id: str, volume: Volume) -> Deferred[None]:
        """As the orders: it does not answer."""
        self.asked.append("fence")
        return fail(DeadlineExceeded("unexport", 10.0))

    def place(self, request_id: str, ids: Any) -> Deferred[None]:
        """As the placement."""
        return succeed(None)

    def detach(self, request_id: str, volumes: Any) -> Deferred[None]:
        """As the orders."""
        return succeed(None)


class SweepTests(SynchronousTestCase):
    """
    Many volumes at once.
    """

    def test_asked_once(self) -> None:
        """Who reports is asked once a sweep, and a volume host that does not answer is not waited for again."""
        world: Any = Collaborators()
        clock = Clock()
        clock.advance(10)
        sweep = VolumeSweep(world, world, world, world, world, clock)
        self.successResultOf(sweep.volumes([f"vol-{number}" for number in range(COUNT)]))
        self.assertEqual(world.asked, ["alive", "volume_services", "fence"])
