"""
The walk-through with every genuine client, on both ways to run the cloud.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.deployment import BRISK, AllInOne, Deployment
from tests.integration.ec2_clients import CLIENTS, Account
from tests.integration.walkthrough import Walk


class AllInOneWalkthroughTests(TestCase):
    """C{twistd -n cloud} on embedded parts."""

    timeout = 300

    def setUp(self) -> Deferred[None]:
        """Start it."""
        self.cloud = AllInOne(Path(self.mktemp()).resolve(), BRISK)
        self.addCleanup(deferToThread, self.cloud.stop)
        return deferToThread(self.cloud.start)

    def test_every_client(self) -> Deferred[None]:
        """Each client walks the whole way."""

        def walk() -> None:
            account = Account("127.0.0.1", self.cloud.port, self.cloud.access_key, self.cloud.secret_key)
            for name, make in CLIENTS.items():
                Walk(make, account, name).run()

        return deferToThread(walk)

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

    timeout = 420

    def setUp(self) -> Deferred[None]:
        """Start everything."""
        self.cloud = Deployment(reactor, Path(self.mktemp()).resolve(), BRISK)
        self.addCleanup(deferToThread, self.cloud.stop)
        return deferToThread(self.cloud.start)

    def test_every_client(self) -> Deferred[None]:
        """Each client walks the whole way, by one door or the other."""

        def walk() -> None:
            for number, (name, make) in enumerate(CLIENTS.items()):
                port = self.cloud.ports[number % len(self.cloud.ports)]
                account = Account("127.0.0.1", port, self.cloud.access_key, self.cloud.secret_key)
                Walk(make, account, name).run()

        return deferToThread(walk)
