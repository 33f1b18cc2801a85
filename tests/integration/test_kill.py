"""
C{kill -9} at every step: whatever dies at whatever point, what follows after
its restart finishes or undoes the work, and nothing is lost.
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
from tests.integration.rehearsing import INSTANCES, Stubborn, at_rest, services_at
from tests.integration.supervising import Supervisor

LIVES = 6
"""How many lives are lived at most until somebody has died at each point."""

FINAL = {"running", "stopped", "terminated"}


class KillTests(TestCase):
    """
    One deployment, two of each, through all of its deaths.
    """

    timeout = 1500

    def setUp(self) -> Deferred[None]:
        """Start everything."""
        self.cloud = Deployment(reactor, Path(self.mktemp()).resolve(), BRISK)
        self.supervisor = Supervisor(self.cloud, {point: services_at(point) for point in INSTANCES})
        self.client = Stubborn(self.cloud, self.supervisor.mend)
        self.addCleanup(deferToThread, self.cloud.stop)
        return deferToThread(self.cloud.start)

    def _in_thread(self, work: Callable[..., None], *arguments: Any) -> Deferred[None]:
        return deferToThread(work, *arguments)

    def _image(self) -> str:
        body = self.client.ask("DescribeImages")
        return "ami-" + body.partition("<imageId>ami-")[2].partition("<")[0]

    def _live(self, image: str) -> None:
        """
        One instance's whole life, three times over.
        """
        ids = self.client.run(image, 3)
        assert len(ids) == 3, ids
        states = self.client.await_states(ids, FINAL)
        running = [id for id, state in states.items() if state == "running"]
        addresses = self.client.addresses(running)
        assert len(set(addresses)) == len(addresses) == len(running), (addresses, states)
        if running:
            self.client.act("Stop", running[:1])
            self.client.await_states(running[:1], FINAL - {"running"})
            self.client.act("Start", running[:1])
            states = self.client.await_states(running, FINAL)
            for id in [id for id, state in states.items() if state == "running"][-1:]:
                self.client.act("Reboot", [id])
        self.client.act("Terminate", ids)
        self.client.await_states(ids, {"terminated"})

    def _prove(self) -> None:
        store = self.cloud.store
        at_rest(self._check, lambda: self.cloud.wait(store.pools))
        counters = self.cloud.wait(store.counters, ["quota:admin:instances", "quota:admin:cores", "quota:admin:ram"])
        assert not any(counters.values()), counters

    def _check(self) -> list[Any]:
        self.supervisor.mend()
        found: list[Any] = self.cloud.wait(self.cloud.store.check, False)
        return found

    def test_every_fault_point(self) -> Deferred[None]:
        """At each named point, those that reach it die, and nothing is lost."""
        return self._in_thread(self._every_fault_point)

    def _every_fault_point(self) -> None:
        image = self._image()
        self.supervisor.arm()
        for number in range(LIVES):
            try:
                self._live(image)
                self._prove()
            except BaseException as error:
                raise AssertionError(f"life {number}: {error}; died: {self.supervisor.deaths}") from error
            if not self.supervisor.unreached:
                return
        self.fail(f"no process died at {self.supervisor.unreached}")

    def test_servers_die(self) -> Deferred[None]:
        """RabbitMQ and Redis die in the middle of launches and of ends, and nothing is lost."""
        return self._in_thread(self._servers_die)

    def _servers_die(self) -> None:
        image = self._image()
        for server in (self.cloud.rabbitmq, self.cloud.redis):
            ids = self.client.run(image, 20)
            self._crash(server)
            self.client.await_states(ids, FINAL)
            self.client.act("Terminate", ids)
            self._crash(server)
            self.client.await_states(ids, {"terminated"})
            self._prove()

    def _crash(self, server: Any) -> None:
        self.cloud.wait(server.kill)
        time.sleep(0.5)
        self.cloud.wait(server.restart)
