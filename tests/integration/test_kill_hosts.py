"""
C{kill -9} at every step of taking instances from one host to another: while they
run, while they are stopped, and off a host that is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.manage.client import Client, Credentials, Refused, Unreachable
from fabric.model.instance import Instance
from fabric.testing.deployment import BRISK, Deployment
from fabric.testing.processes import await_true
from tests.integration.host_tables import HostTables
from tests.integration.rehearsing import FENCING, MIGRATIONS, PATIENCE, Stubborn, at_rest, services_at
from tests.integration.supervising import Supervisor

SETTINGS = BRISK | {"controller.service_down_time": "20", "controller.fence": "/bin/true"}
"""A host is fenced only when nobody starts its services again, which on a busy machine takes long."""

MOVES = 12
"""How often an instance is moved at most until somebody has died at each point."""

DEAD = "node2"
"""The host of all processes whose names end with C{.2}."""


class HostKillTests(TestCase):
    """
    One deployment, two of each, through all of its deaths.
    """

    timeout = 1200

    def setUp(self) -> Deferred[None]:
        """Start everything."""
        self.cloud = Deployment(reactor, Path(self.mktemp()).resolve(), SETTINGS)
        points = {point: services_at(point) for point in (*MIGRATIONS, *FENCING)}
        self.supervisor = Supervisor(self.cloud, points)
        self.client = Stubborn(self.cloud, self.supervisor.mend)
        self.hosts = HostTables(self.cloud)
        self.addCleanup(deferToThread, self.cloud.stop)
        return deferToThread(self.cloud.start)

    def test_every_fault_point(self) -> Deferred[None]:
        """At each named point, those that reach it die, and each instance runs on one host."""
        return self._in_thread(self._every_fault_point)

    def _in_thread(self, work: Callable[..., None], *arguments: Any) -> Deferred[None]:
        return deferToThread(work, *arguments)

    def _every_fault_point(self) -> None:
        image = "ami-" + self.client.ask("DescribeImages").partition("<imageId>ami-")[2].partition("<")[0]
        machines = self.client.run(image, 4)
        self.client.await_states(machines, {"running"})
        stopped = machines[1:2]
        self.client.act("Stop", stopped)
        self.client.await_states(stopped, {"stopped"})
        self.supervisor.arm()
        try:
            for number in range(MOVES):
                self._move(machines[number % 2], ("running", "stopped")[number % 2])
                if number and not set(self.supervisor.unreached) & set(MIGRATIONS):
                    break
            self._agree()
            self.client.act("Start", stopped)
            self.client.await_states(stopped, {"running"})
            self._lose(machines)
            self._agree()
        except BaseException as error:
            raise AssertionError(f"{error}; died: {self.supervisor.deaths}") from error
        assert not self.supervisor.unreached, f"no process died at {self.supervisor.unreached}"
        self.client.act("Terminate", machines)
        self.client.await_states(machines, {"terminated"})
        at_rest(self._check, lambda: self.cloud.wait(self.cloud.store.pools))

    def _move(self, id: str, state: str = "running") -> None:
        """
        To the other host; a try that came to nothing leaves it where it was.
        """
        was = self._instances([id])[0].host
        wanted = "node1" if was == "node2" else "node2"

        def moved() -> bool:
            self.supervisor.mend()
            [instance] = self._instances([id])
            assert instance.state == state, instance.state
            if instance.host == was and instance.migration is None:
                self._ask("MigrateInstance", instance=id, host=wanted)
            return bool(instance.host == wanted and instance.migration is None)

        await_true(moved, f"{id} is on {wanted}", PATIENCE, 0.2)

    def _lose(self, machines: list[str]) -> None:
        """
        A host dies for good, and what it had runs elsewhere; then it is back.
        """
        if not any(instance.host == DEAD for instance in self._instances(machines)):
            self._move(machines[0])
        self.supervisor.bury([name for name in self.cloud.services if name.endswith(".2")])

        def elsewhere() -> bool:
            self.supervisor.mend()
            return all(each.state == "running" and each.host != DEAD for each in self._instances(machines))

        try:
            await_true(elsewhere, "all run elsewhere", PATIENCE, 0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._instances(machines)}") from None
        self.supervisor.bury([])
        self.supervisor.await_well()

    def _instances(self, ids: list[str]) -> list[Instance]:
        found = self.cloud.wait(self.cloud.store.read, Instance, ids)
        return [stored.record for stored in found]

    def _ask(self, action: str, **parameters: str) -> None:
        for port in self.cloud.ports:
            there = Credentials(f"http://127.0.0.1:{port}", self.cloud.access_key, self.cloud.secret_key)
            try:
                Client(there).call(action, **parameters)
                return
            except (Refused, Unreachable):
                continue  # it is asked again while it is where it was

    def _agree(self) -> None:
        at_rest(lambda: [*self._check(), *self.hosts.differences()], dict)

    def _check(self) -> list[Any]:
        self.supervisor.mend()
        found: list[Any] = self.cloud.wait(self.cloud.store.check, False)
        return found
