"""
EC2's actions over a real store, without HTTP: requests as botocore writes them
go through the door's parser, handler and renderer, and answers through
botocore's parser.
"""

from __future__ import annotations

import base64
from collections.abc import Generator
from functools import cache
from itertools import count
from typing import Any

import attrs
from botocore.loaders import Loader
from botocore.model import ServiceModel as BotocoreModel
from botocore.parsers import EC2QueryParser
from botocore.serialize import EC2Serializer
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from fabric.api.ec2.actions.catalog import ec2_actions
from fabric.api.ec2.call import Call, Listing
from fabric.api.ec2.errors import EC2Error, fault
from fabric.api.ec2.listing import Pages
from fabric.api.ec2.views import EC2Views, load_views
from fabric.api.ec2.wire.answers import Answers
from fabric.api.ec2.wire.model import VERSION, load_model
from fabric.api.ec2.wire.requests import Requests
from fabric.cloud.access import Caller
from fabric.cloud.assembly import QUOTAS, Rules, assemble
from fabric.cloud.cloud import Cloud
from fabric.model.host import Capacity
from fabric.model.instance import Instance, moved
from fabric.model.network import Network
from fabric.testing.store import make_store

NOW = 1_790_000_000.0
REGION, ENDPOINT = "here", "cloud.example:8773"
TINY, SERVER = "ami-00000000000000001", "ami-00000000000000002"
LIMITS = {"instances": 20, "cores": 40, "ram": 80_000, "key_pairs": 10, "groups": 10, "addresses": 5}

ANN = Caller("ann", "alpha", frozenset({"projectmanager"}), "req-ann")
BOB = Caller("bob", "beta", frozenset({"projectmanager"}), "req-bob")


@cache
def botocore_model() -> BotocoreModel:
    """EC2's model as clients have it."""
    return BotocoreModel(Loader().load_service_model("ec2", "service-2"), service_name="ec2")


@cache
def views() -> EC2Views:
    """EC2's views."""
    return load_views()


@cache
def compiled(names: tuple[str, ...]) -> tuple[Requests, Answers]:
    """What parses requests and renders answers of some actions."""
    model = load_model(names)
    return Requests(model), Answers(model)


class SilentQueue:
    """
    A queue whose casts go nowhere, and whose calls give C{answer}.
    """

    def __init__(self) -> None:
        self.cast: list[tuple[str, str, tuple[Any, ...]]] = []
        self.answer: Any = None

    def caster(self, interface: Any, address: Any, context: Any) -> Any:
        return _Remote(self, address, None)

    def caller(self, interface: Any, address: Any, context: Any) -> Any:
        return _Remote(self, address, self.answer)


class _Remote:
    def __init__(self, queue: SilentQueue, address: Any, answer: Any) -> None:
        self._queue = queue
        self._address = address
        self._answer = answer

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any) -> Deferred[Any]:
            self._queue.cast.append((self._address.routing_key, method, arguments))
            return succeed(self._answer)

        return call


class EC2Case(TestCase):
    """
    A cloud with one network, one compute host and the sample images.
    """

    @inlineCallbacks
    def setUp(self) -> Generator[Deferred[Any], Any, None]:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.queue = SilentQueue()
        self.free = count(10)
        self.store = yield make_store(self, views())
        self.cloud = self._cloud()
        self.registry = ec2_actions(self.cloud, views(), REGION, ENDPOINT)
        self.requests, self.answers = compiled(tuple(self.registry.names()))
        yield self.cloud.images.ensure_samples(NOW)
        yield self.write(Network("net-00000001", "private", "10.0.0.0/24", "10.0.0.1"))
        # Remembered from here on, so that orders are sent without delay.
        yield self.cloud.networks.by_id(["net-00000001"])
        yield self.cloud.hosts.report("compute", "node1", "nova", NOW, Capacity(64, 64_000, 1000))

    def _cloud(self) -> Cloud:
        rules = Rules(quotas=QUOTAS | LIMITS, ready_keys=0)
        queue: Any = self.queue
        parts = assemble(self.store, queue, self.clock, maybeDeferred, rules)
        return parts.cloud

    def ask(self, name: str, /, caller: Caller = ANN, **parameters: Any) -> Deferred[dict[str, Any]]:
        """
        One request, from botocore's parameters to botocore's answer.

        @raise EC2Error: it is refused.
        """
        return self.answered(name, self.fields(name, parameters), caller)

    @inlineCallbacks
    def answered(
        self, name: str, fields: dict[str, str], caller: Caller
    ) -> Generator[Deferred[Any], Any, dict[str, Any]]:
        """
        One request, from what is sent to botocore's answer.

        @raise EC2Error: it is refused.
        """
        action = self.registry.find(name)
        assert action is not None
        try:
            found = self.requests.operation(name, action.honours)(fields)
            answer = yield action.handler(Call(name, caller, found, VERSION))
        except Exception as error:
            refusal = fault(error, name)
            if refusal is None:
                raise
            raise refusal from None
        body = yield self.body(name, answer)
        shape = botocore_model().operation_model(name).output_shape
        parsed = EC2QueryParser().parse({"body": body, "headers": {}, "status_code": 200}, shape)
        parsed.pop("ResponseMetadata", None)
        return parsed  # type: ignore[no-any-return]

    def fields(self, name: str, parameters: dict[str, Any]) -> dict[str, str]:
        """What botocore would send."""
        serializer = EC2Serializer()
        sent = serializer.serialize_to_request(parameters, botocore_model().operation_model(name))["body"]
        return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in sent.items()}

    @inlineCallbacks
    def body(self, name: str, answer: Any) -> Generator[Deferred[Any], Any, bytes]:
        """The whole document that is sent."""
        if not isinstance(answer, Listing):
            return self.answers.operation(name)(answer, "req", VERSION)
        pages = Pages(answer, name, "req", VERSION)
        if pages.whole is not None:
            return pages.whole
        body = b""
        for part in pages:
            body += (yield part) if isinstance(part, Deferred) else part
        return body

    @inlineCallbacks
    def refused(self, code: str, name: str, /, caller: Caller = ANN, **parameters: Any) -> Generator[Any, Any, str]:
        """
        See that a request is refused with a code.

        @return: the message.
        """
        error = yield self.assertFailure(self.ask(name, caller, **parameters), EC2Error)
        self.assertEqual(error.code, code, error.message)
        return error.message  # type: ignore[no-any-return]

    @inlineCallbacks
    def run_instances(
        self, number: int = 1, /, caller: Caller = ANN, **parameters: Any
    ) -> Generator[Any, Any, list[str]]:
        """
        Launch.

        @return: the instances' ids.
        """
        wanted = {"ImageId": SERVER, "InstanceType": "m1.tiny", **parameters}
        answer = yield self.ask("RunInstances", caller, MinCount=number, MaxCount=number, **wanted)
        return [instance["InstanceId"] for instance in answer["Instances"]]

    @inlineCallbacks
    def move(self, ids: list[str], verb: str) -> Generator[Any, Any, None]:
        """
        What a worker's report does: C{boot} gives a host and an address, too.
        """
        for stored in (yield self.store.read(Instance, ids)):
            record = moved(stored.record, verb, self.clock.seconds())
            if verb == "boot" and not record.host:
                number = next(self.free)
                port = attrs.evolve(record.ports[0], address=f"10.0.0.{number}", hostname=f"ip-10-0-0-{number}")
                record = attrs.evolve(record, host="node1", on_host=True, zone="nova", ports=(port,))
            transaction = self.store.transaction("report")
            transaction.update(stored, record)
            yield self.store.commit(transaction)

    @inlineCallbacks
    def boot(self, number: int = 1, /, caller: Caller = ANN, **parameters: Any) -> Generator[Any, Any, list[str]]:
        """
        Launch, and let it run.
        """
        ids = yield self.run_instances(number, caller, **parameters)
        yield self.move(ids, "boot")
        return ids  # type: ignore[no-any-return]

    def write(self, *records: Any) -> Deferred[Any]:
        """
        Write new records, past the cloud's rules.
        """
        transaction = self.store.transaction("test")
        for record in records:
            transaction.create(record)
        return self.store.commit(transaction)

    @inlineCallbacks
    def listed(self, caller: Caller = ANN, **parameters: Any) -> Generator[Any, Any, list[dict[str, Any]]]:
        """
        DescribeInstances, without reservations.
        """
        answer = yield self.ask("DescribeInstances", caller, **parameters)
        return [instance for part in answer.get("Reservations", []) for instance in part["Instances"]]

    @inlineCallbacks
    def matching(self, name: str, *values: str) -> Generator[Any, Any, list[str]]:
        """
        The ids of instances that a filter finds.
        """
        found = yield self.listed(Filters=[{"Name": name, "Values": list(values)}])
        return [instance["InstanceId"] for instance in found]


def encoded(data: bytes) -> str:
    """Base64 as text."""
    return base64.b64encode(data).decode("ascii")
