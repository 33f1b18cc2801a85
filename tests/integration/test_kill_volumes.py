"""
C{kill -9} at every step in the lives of volumes, snapshots, images and groups:
what follows finishes or undoes the work, and nothing is lost or left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.deployment import BRISK, Deployment
from tests.integration.host_tables import HostTables
from tests.integration.rehearsing import GROUPS, STORAGE, Stubborn, at_rest, services_at
from tests.integration.storage_life import StorageLife
from tests.integration.supervising import Supervisor

LIVES = 4
"""How many lives are lived at most until somebody has died at each point."""

COUNTERS = ("instances", "cores", "ram", "volumes", "gigabytes", "snapshots", "images")


class StorageKillTests(TestCase):
    """
    One deployment, two of each, through all of its deaths.
    """

    timeout = 1200

    def setUp(self) -> Deferred[None]:
        """Start everything."""
        self.cloud = Deployment(reactor, Path(self.mktemp()).resolve(), BRISK)
        points = {point: services_at(point) for point in (*STORAGE, *GROUPS)}
        self.supervisor = Supervisor(self.cloud, points)
        self.client = Stubborn(self.cloud, self.supervisor.mend)
        self.life = StorageLife(self.client, self.supervisor.mend)
        self.hosts = HostTables(self.cloud)
        self.addCleanup(deferToThread, self.cloud.stop)
        return deferToThread(self.cloud.start)

    def _in_thread(self, work: Callable[..., None], *arguments: Any) -> Deferred[None]:
        return deferToThread(work, *arguments)

    def _machines(self, count: int) -> list[str]:
        image = "ami-" + self.client.ask("DescribeImages").partition("<imageId>ami-")[2].partition("<")[0]
        ids = self.client.run(image, count)
        self.client.await_states(ids, {"running"})
        return ids

    def test_every_fault_point(self) -> Deferred[None]:
        """At each named point, those that reach it die, and nothing is lost."""
        return self._in_thread(self._every_fault_point)

    def _every_fault_point(self) -> None:
        machines = self._machines(2)
        self.supervisor.arm()
        for number in range(LIVES):
            try:
                self._live(machines, number)
                self._agree()
            except BaseException as error:
                raise AssertionError(f"life {number}: {error}; died: {self.supervisor.deaths}") from error
            if not self.supervisor.unreached:
                break
        assert not self.supervisor.unreached, f"no process died at {self.supervisor.unreached}"
        self._end(machines)

    def _live(self, machines: list[str], number: int) -> None:
        """
        Every verb, one after the other.
        """
        life = self.life
        web, other = life.group("web"), life.group("other")
        life.allow(web, 1000 + number)
        one, two = life.create(), life.create()
        life.attach(one, machines[0], "/dev/sdf")
        life.attach(two, machines[1], "/dev/sdf")
        for machine in machines:
            life.regroup(machine, [web, other])
        life.allow(web, 2000 + number)
        life.allow(web, 1000 + number, "Revoke")
        snapshot = life.snapshot(one)
        restored, rooted = life.create(snapshot), life.rooted(snapshot)
        life.attach(restored, machines[1], "/dev/sdg")
        for machine in (machines[0], rooted):
            life.image(machine)
            self.client.await_states([machine], {"running"})
        self.client.act("Terminate", [rooted])
        for id in (one, restored, two):
            life.detach(id)
        life.grow(one, 2)
        life.attach(one, machines[1], "/dev/sdf")
        life.detach(one)
        self.client.await_states([rooted], {"terminated"})
        life.clear()

    def _agree(self) -> None:
        """
        No finding in state, and hosts have what state says that they have.
        """
        at_rest(lambda: [*self._check(), *self.hosts.differences()], dict)

    def _check(self) -> list[Any]:
        self.supervisor.mend()
        found: list[Any] = self.cloud.wait(self.cloud.store.check, False)
        return found

    def _end(self, machines: list[str]) -> None:
        """
        When all is given back, nothing is counted, claimed or kept anywhere.
        """
        self.client.act("Terminate", machines)
        self.client.await_states(machines, {"terminated"})
        self.life.clear()
        self._agree()
        at_rest(self._counted, lambda: self.cloud.wait(self.cloud.store.pools))

    def _counted(self) -> list[Any]:
        names = [f"quota:admin:{resource}" for resource in COUNTERS]
        names += [f"load:volume.node{number}:gigabytes" for number in (1, 2)]
        counters = self.cloud.wait(self.cloud.store.counters, names)
        return [f"{name} is {value}" for name, value in counters.items() if value]

    def test_servers_die(self) -> Deferred[None]:
        """RabbitMQ and Redis die while volumes are attached and snapshots made, and nothing is lost."""
        return self._in_thread(self._servers_die)

    def _servers_die(self) -> None:
        machines = self._machines(2)
        volumes = [self.life.create() for _ in range(2)]
        for server in (self.cloud.rabbitmq, self.cloud.redis):
            for number, id in enumerate(volumes):
                self.client.ask(
                    "AttachVolume", VolumeId=id, InstanceId=machines[number % 2], Device=f"/dev/sd{'fghi'[number]}"
                )
            self._crash(server)
            for number, id in enumerate(volumes):
                self.life.attach(id, machines[number % 2], f"/dev/sd{'fghi'[number]}")
            for id in volumes:
                self.client.ask("CreateSnapshot", VolumeId=id)
            self._crash(server)
            self.life.until("snapshots are made", self._all_completed)
            for id in volumes:
                self.life.detach(id)
            self._agree()
        self.life.clear()
        self._end(machines)

    def _all_completed(self) -> bool:
        return set(self.life.snapshots().values()) == {"completed"}

    def _crash(self, server: Any) -> None:
        self.cloud.wait(server.kill)
        time.sleep(0.5)
        self.cloud.wait(server.restart)
