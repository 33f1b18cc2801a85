"""
C{kill -9} at every step of a floating address's life.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.deployment import BRISK, Deployment
from fabric.testing.processes import await_true, healthy
from tests.integration.rehearsing import ADDRESSES, Refused, Stubborn, at_rest, services_at

_HELD = re.compile(r"<allocationId>(eipalloc-[0-9a-f]+)</allocationId>")
_PUBLIC = re.compile(r"<publicIp>([0-9.]+)</publicIp>")


class AddressKillTests(TestCase):
    """
    One deployment, two of each, through all of its deaths.
    """

    timeout = 1200

    def setUp(self) -> Deferred[None]:
        """Start everything."""
        self.cloud = Deployment(reactor, Path(self.mktemp()).resolve(), BRISK)
        self.deaths: list[str] = []
        self.client = Stubborn(self.cloud, self.mend)
        self.addCleanup(deferToThread, self.cloud.stop)
        return deferToThread(self.cloud.start)

    def mend(self) -> None:
        """Start the dead again, and remember who died."""
        dead = [process for process in self.cloud.services.values() if not process.alive]
        self.deaths += [process.name for process in dead]
        for process in dead:
            process.start()

    def _in_thread(self, work: Callable[..., None], *arguments: Any) -> Deferred[None]:
        return deferToThread(work, *arguments)

    def test_every_fault_point(self) -> Deferred[None]:
        """At each named point, all processes that reach it die, and no address is lost or leads astray."""
        return self._in_thread(self._every_fault_point)

    def _every_fault_point(self) -> None:
        image = "ami-" + self.client.ask("DescribeImages").partition("<imageId>ami-")[2].partition("<")[0]
        armed, unreached = set[str](), []
        for point in ADDRESSES:
            services = set(services_at(point))
            self.deaths = []
            self._rearm(armed - services, services, point)
            armed = services
            try:
                self._live(image)
                at_rest(
                    lambda: self.cloud.wait(self.cloud.store.check, False),
                    lambda: self.cloud.wait(self.cloud.store.pools),
                )
            except BaseException as error:
                raise AssertionError(f"{point}: {error}; died: {self.deaths}") from error
            self.mend()
            if not self.deaths:
                unreached.append(point)
        assert not unreached, f"no process died at {unreached}"

    def _live(self, image: str) -> None:
        ids = self.client.run(image, 2)
        self.client.await_states(ids, {"running"})
        public = _PUBLIC.findall(self.client.ask("AllocateAddress"))[0]
        for id in (ids[0], ids[1]):
            self.client.ask("AssociateAddress", PublicIp=public, InstanceId=id)
            self._leads(ids, {id: public})
        self.client.ask("DisassociateAddress", PublicIp=public)
        self._leads(ids, {})
        self.client.ask("AssociateAddress", PublicIp=public, InstanceId=ids[0])
        self.client.act("Terminate", ids)
        self._leads(ids, {})
        self.client.await_states(ids, {"terminated"})
        # One more may be held: an allocation whose answer was lost is repeated.
        for allocation in _HELD.findall(self.client.ask("DescribeAddresses")):
            try:
                self.client.ask("ReleaseAddress", AllocationId=allocation)
            except Refused as error:
                assert "InvalidAllocationID.NotFound" in str(error), error

    def _leads(self, ids: list[str], wanted: dict[str, str]) -> None:
        body = self.client.ask("DescribeInstances", **{f"InstanceId_{n}": id for n, id in enumerate(ids, 1)})
        shown = {}
        for item in body.split("<instancesSet>", 1)[1].split("<instanceId>")[1:]:
            address = re.search(r"<ipAddress>([0-9.]+)</ipAddress>", item)
            if address and item.startswith("i-"):
                shown[item.partition("<")[0]] = address.group(1)
        assert shown == wanted, (shown, wanted)

    def _rearm(self, disarmed: set[str], armed: set[str], point: str) -> None:
        for process in self.cloud.services.values():
            service = process.name.partition(".")[0]
            if service in disarmed | armed:
                process.kill()
                process.start({"faults": point} if service in armed else None)
        began = time.time()
        await_true(lambda: self._settled() and self.cloud.has_hosts(began), f"all are well, armed with {point}")
        if point == "cloud.network_adopted":
            self._restart("cloud-network")

    def _restart(self, service: str) -> None:
        """Anew, and so with something to say to the controller."""
        for process in self.cloud.services.values():
            if process.name.partition(".")[0] == service:
                process.kill()
                process.start()

    def _settled(self) -> bool:
        self.mend()
        return all(healthy(process.port) for process in self.cloud.services.values())
