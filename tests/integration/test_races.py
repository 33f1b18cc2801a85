"""
A hundred at once: whatever a hundred requests through two doors want at the
same moment, it has exactly one effect, or exactly as many as there is room for.

The doors are processes of their own over real servers.
"""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.bench.sigv4 import Endpoint, request
from fabric.testing.deployment import BRISK, SINGLE, Deployment
from tests.integration.host_tables import HostTables
from tests.integration.rehearsing import Stubborn, at_rest
from tests.integration.storage_life import StorageLife

MANY = 100
DOORS = SINGLE | {"cloud-api": 2}
HOSTS = DOORS | {"cloud-compute": 2, "cloud-network": 2}
ROOM = {
    "quota.addresses": "1000",
    "quota.instances": "1000",
    "quota.cores": "1000",
    "network.floating": "203.0.113.0/25",
}
FREE = 126
"""Addresses in that range."""

_CODE = re.compile(r"<Code>([A-Za-z.]+)</Code>")


class RaceCase(TestCase):
    """
    @ivar counts: processes of each service.
    """

    timeout = 600
    counts: Mapping[str, int] = DOORS

    def setUp(self) -> Deferred[None]:
        """Start everything."""
        self.cloud = Deployment(reactor, Path(self.mktemp()).resolve(), BRISK | ROOM, self.counts)
        self.client = Stubborn(self.cloud, lambda: None)
        self.life = StorageLife(self.client, lambda: None)
        self.addCleanup(deferToThread, self.cloud.stop)
        return deferToThread(self.cloud.start)

    def at_once(self, asked: Sequence[tuple[str, dict[str, str]]]) -> tuple[list[str], Counter[str]]:
        """
        Ask for all of it at the same moment, half of it at each door.

        @return: the answers of those that succeeded; the codes of the others'
            refusals, counted.
        """
        start = threading.Barrier(len(asked))

        def ask(number: int) -> tuple[int, str]:
            action, parameters = asked[number]
            signed = self._signed(self.cloud.ports[number % len(self.cloud.ports)], action, parameters)
            start.wait(120.0)
            try:
                with urllib.request.urlopen(signed, timeout=240.0) as answer:
                    return 200, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        with ThreadPoolExecutor(len(asked)) as pool:
            answers = list(pool.map(ask, range(len(asked))))
        refusals = Counter(code for status, body in answers if status != 200 for code in _CODE.findall(body))
        return [body for status, body in answers if status == 200], refusals

    def _signed(self, port: int, action: str, parameters: dict[str, str]) -> urllib.request.Request:
        there = Endpoint("127.0.0.1", port, "/services/Cloud", self.cloud.access_key, self.cloud.secret_key)
        head, _, body = request(there, action, parameters).partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        return urllib.request.Request(f"http://127.0.0.1:{port}/services/Cloud", body, headers)

    def _in_thread(self, work: Callable[..., None], *arguments: Any) -> Deferred[None]:
        return deferToThread(work, *arguments)

    def _machines(self, count: int) -> list[str]:
        ids = self.client.run(self._image(), count)
        self.client.await_states(ids, {"running"})
        return ids

    def _image(self) -> str:
        return "ami-" + self.client.ask("DescribeImages").partition("<imageId>ami-")[2].partition("<")[0]

    def _sound(self) -> None:
        """No finding, and hosts have what state says."""
        hosts = HostTables(self.cloud)
        at_rest(lambda: [*self.cloud.wait(self.cloud.store.check, False), *hosts.differences()], dict)


class DoorRaceTests(RaceCase):
    """
    For what state alone decides.
    """

    def test_allocations(self) -> Deferred[None]:
        """Who allocates while there are enough gets an address of his own; then as many do as are left."""
        return self._in_thread(self._allocations)

    def _allocations(self) -> None:
        made, refusals = self.at_once([("AllocateAddress", {})] * MANY)
        first = {re.findall(r"<publicIp>([0-9.]+)<", body)[0] for body in made}
        self.assertEqual((len(first), refusals), (MANY, {}))
        made, refusals = self.at_once([("AllocateAddress", {})] * MANY)
        second = {re.findall(r"<publicIp>([0-9.]+)<", body)[0] for body in made}
        self.assertEqual((len(made), len(first | second)), (FREE - MANY, FREE))
        self.assertEqual(refusals, {"InsufficientAddressCapacity": MANY - (FREE - MANY)})
        self._sound()

    def test_launches(self) -> Deferred[None]:
        """One launch asked for by its token many times is one reservation."""
        return self._in_thread(self._launches)

    def _launches(self) -> None:
        launch = {"ImageId": self._image(), "InstanceType": "m1.tiny", "MinCount": "3", "MaxCount": "3"}
        made, refusals = self.at_once([("RunInstances", launch | {"ClientToken": "one"})] * MANY)
        reservations = {re.findall(r"<reservationId>(r-[0-9a-f]+)<", body)[0] for body in made}
        self.assertEqual((len(made), refusals, len(reservations)), (MANY, {}, 1))
        ids = set(re.findall(r"<instanceId>(i-[0-9a-f]+)<", self.client.ask("DescribeInstances")))
        self.assertEqual(len(ids), 3)
        self.client.await_states(sorted(ids), {"running"})
        self._sound()

    def test_rules(self) -> Deferred[None]:
        """One rule added many times is there once, and all but one are told so."""
        return self._in_thread(self._rules)

    def _rules(self) -> None:
        group, [machine] = self.life.group("web"), self._machines(1)
        self.life.regroup(machine, [group])
        rule = {"GroupId": group, "IpPermissions.1.IpProtocol": "tcp", "IpPermissions.1.IpRanges.1.CidrIp": "0.0.0.0/0"}
        ports = {"IpPermissions.1.FromPort": "22", "IpPermissions.1.ToPort": "22"}
        made, refusals = self.at_once([("AuthorizeSecurityGroupIngress", rule | ports)] * MANY)
        self.assertEqual((len(made), refusals), (1, {"InvalidPermission.Duplicate": MANY - 1}))
        shown = self.client.ask("DescribeSecurityGroupRules", Filter_1_Name="group-id", Filter_1_Value_1=group)
        self.assertEqual(shown.count("<isEgress>false</isEgress>"), 1)
        self._sound()


class HostRaceTests(RaceCase):
    """
    For what is then on one of two hosts.
    """

    counts = HOSTS

    def test_associations(self) -> Deferred[None]:
        """One address led to many instances leads to one of them."""
        return self._in_thread(self._associations)

    def _associations(self) -> None:
        machines = self._machines(10)
        allocation = re.findall(r"<allocationId>([a-z0-9-]+)<", self.client.ask("AllocateAddress"))[0]
        wanted = {"AllocationId": allocation, "AllowReassociation": "false"}
        asked = [("AssociateAddress", wanted | {"InstanceId": machines[n % 10]}) for n in range(MANY)]
        made, refusals = self.at_once(asked)
        associations = {re.findall(r"<associationId>([a-z0-9-]+)<", body)[0] for body in made}
        self.assertEqual((len(associations), set(refusals)), (1, {"Resource.AlreadyAssociated"}))
        self.assertEqual(len(made) + refusals.total(), MANY)
        self.assertLessEqual(len(made), MANY // 10)
        body = self.client.ask("DescribeAddresses")
        [holder] = re.findall(r"<instanceId>(i-[0-9a-f]+)<", body)
        [public] = re.findall(r"<publicIp>([0-9.]+)<", body)
        shown = self.client.ask("DescribeInstances", Filter_1_Name="ip-address", Filter_1_Value_1=public)
        self.assertEqual(set(re.findall(r"<instanceId>(i-[0-9a-f]+)<", shown)), {holder})
        self.client.ask("DisassociateAddress", AssociationId=associations.pop())
        self._sound()

    def test_attachments(self) -> Deferred[None]:
        """One volume put on many instances is on one of them."""
        return self._in_thread(self._attachments)

    def _attachments(self) -> None:
        machines, volume = self._machines(10), self.life.create()
        asked = [
            (
                "AttachVolume",
                {"VolumeId": volume, "InstanceId": machines[n % 10], "Device": f"/dev/sd{'fghijklmno'[n // 10]}"},
            )
            for n in range(MANY)
        ]
        made, refusals = self.at_once(asked)
        self.assertEqual((len(made), refusals), (1, {"VolumeInUse": MANY - 1}))
        self.life.until("attached", lambda: self.life.volumes(volume)[volume][1] == "attached")
        self._sound()
