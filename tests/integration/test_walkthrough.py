"""
The walk-through with every genuine client, on both ways to run the cloud.

All walks go at once, as users do, each with names of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from fabric.testing.deployment import BRISK, AllInOne, Deployment
from tests.integration.ec2_clients import CLIENTS, Account
from tests.integration.walking import Guest
from tests.integration.walkthrough import Walk
from tests.integration.walkthrough_aws import AwsWalk
from tests.integration.walkthrough_boto import BotoWalk
from tests.integration.walkthrough_boto3 import Boto3Instances
from tests.integration.walkthrough_boto3_network import Boto3Network
from tests.integration.walkthrough_boto3_storage import Boto3Storage
from tests.integration.walkthrough_libcloud import LibcloudWalk
from tests.integration.walkthrough_quotas import QUOTAS, Boto3Quotas

AT_ONCE = 5
"""Walks that go side by side."""


WALKS: dict[str, Callable[..., Any]] = {
    "aws": AwsWalk,
    "boto": BotoWalk,
    "storage": Boto3Storage,
    "instances": Boto3Instances,
    "network": Boto3Network,
}
"""What each client does of the whole domain; libcloud's besides."""


def _whole(make: Callable[..., Any], account: Account, guest: Guest, name: str) -> None:
    make(account, guest, name).run()


def _basics(make: Callable[[Account], Any], account: Account, name: str) -> None:
    Walk(make, account, name).run()


def walked(accounts: Sequence[Account], guest: Guest, signature: str) -> Deferred[None]:
    """
    All walks, by one door or the other, then the end of the quotas.

    @param signature: the version that libcloud signs with.
    @return: fails with the first failure when all have ended.
    """
    doors = cycle(accounts)
    walks: list[Callable[[], None]] = []
    for name, make in WALKS.items():
        walks.append(partial(_whole, make, next(doors), guest, name))
    walks.append(partial(_whole, partial(LibcloudWalk, signature=signature), next(doors), guest, "libcloud"))
    for name, client in CLIENTS.items():
        walks.append(partial(_basics, client, next(doors), f"{name}-first"))
    lanes = DeferredSemaphore(AT_ONCE)
    failures: list[Failure] = []
    going = [lanes.run(deferToThread, walk).addErrback(failures.append) for walk in walks]

    def ended(_: object) -> Deferred[None] | Failure:
        return failures[0] if failures else deferToThread(_whole, Boto3Quotas, next(doors), guest, "quotas")

    return gatherResults(going).addCallback(ended)


class AllInOneWalkthroughTests(TestCase):
    """C{twistd -n cloud} on embedded parts."""

    timeout = 900

    def setUp(self) -> Deferred[None]:
        """Start it."""
        directory = Path(self.mktemp()).resolve()
        self.guest = Guest.make(directory)
        self.cloud = AllInOne(directory, BRISK | QUOTAS | {"fake.password": self.guest.sealed})
        self.addCleanup(deferToThread, self.cloud.stop)
        return deferToThread(self.cloud.start)

    def test_every_client(self) -> Deferred[None]:
        """Each client walks the whole way."""
        account = Account("127.0.0.1", self.cloud.port, self.cloud.access_key, self.cloud.secret_key)
        return walked([account], self.guest, "2")

    def test_survives_a_kill(self) -> Deferred[None]:
        """What ran before a C{kill -9} is there, and running, after it."""

        def walk() -> None:
            account = Account("127.0.0.1", self.cloud.port, self.cloud.access_key, self.cloud.secret_key)
            client = CLIENTS["boto3"](account)
            image = next(id for id in client.images() if id.startswith("ami-"))
            _, ids = client.run(image, 2)
            Walk.await_state(client, ids, "running")
            self.cloud.kill()
            self.cloud.start()
            assert client.states(ids) == dict.fromkeys(ids, "running"), client.states(ids)
            client.act("terminate", ids)
            Walk.await_state(client, ids, "terminated")

        return deferToThread(walk)


class DeploymentWalkthroughTests(TestCase):
    """Two of each service, on RabbitMQ, Redis and OpenLDAP."""

    timeout = 900

    def setUp(self) -> Deferred[None]:
        """Start everything."""
        directory = Path(self.mktemp()).resolve()
        self.guest = Guest.make(directory)
        self.cloud = Deployment(reactor, directory, BRISK | QUOTAS | {"fake.password": self.guest.sealed})
        self.addCleanup(deferToThread, self.cloud.stop)
        return deferToThread(self.cloud.start)

    def test_every_client(self) -> Deferred[None]:
        """Each client walks the whole way, by one door or the other."""
        keys = self.cloud.access_key, self.cloud.secret_key
        accounts = [Account("127.0.0.1", port, *keys) for port in self.cloud.ports]
        return walked(accounts, self.guest, "4")
