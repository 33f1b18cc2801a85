"""
The EC2 door over L{tests.integration.ec2_world}: requests as botocore signs them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any
from urllib.parse import urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import EC2QueryParser
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed

from fabric.api.ec2.actions.catalog import ec2_actions
from fabric.api.ec2.door import EC2Door
from fabric.api.ec2.wire.model import VERSION, load_model
from fabric.cloud.access import Caller
from fabric.cloud.assembly import QUOTAS, Rules, assemble
from fabric.cloud.dry import DryQueue, DryStore
from fabric.users.interface import Identity
from tests.integration.ec2_world import WorldCase
from tests.unit.ec2_stage import ANN, BOB, ENDPOINT, REGION, botocore_model, views

FORM = "application/x-www-form-urlencoded; charset=utf-8"


class Exchange:
    """
    One request in memory.

    @ivar answered: fires with status and body.
    """

    method, path, query, request_id, peer, gone, status = "POST", "/", b"", "req", "127.0.0.1", False, 0

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers = headers
        self.body = body
        self.answered: Deferred[tuple[int, bytes]] = Deferred()

    def answer(self, status: int, body: bytes, content_type: bytes, headers: Any = ()) -> None:
        """See L{IExchange.answer}."""
        self.answered.callback((status, body))

    @inlineCallbacks
    def stream(self, status: int, chunks: Iterator[Any], content_type: bytes) -> Generator[Any, Any, None]:
        """See L{IExchange.stream}."""
        body = b""
        for chunk in chunks:
            body += (yield chunk) if isinstance(chunk, Deferred) else chunk
        self.answered.callback((status, body))

    def when_gone(self, act: Callable[[], None]) -> None:
        """The client stays."""


class People:
    """
    Everybody whom a test asks as; an access key is C{user:project:role,role}.
    """

    def identify(self, access_key: str) -> Deferred[Identity]:
        """See L{IDirectory.identify}."""
        user, project, roles = access_key.split(":")
        return succeed(Identity(user, project, frozenset(roles.split(",")), access_key, "secret"))


class DoorCase(WorldCase):
    """
    The world behind a door.
    """

    @inlineCallbacks
    def setUp(self) -> Generator[Any, Any, None]:
        from twisted.internet import reactor

        yield super().setUp()
        rules = Rules(quotas=QUOTAS, ready_keys=0)
        dry = assemble(DryStore(self.store), DryQueue(), self.clock, maybeDeferred, rules).cloud
        rehearsal = ec2_actions(dry, views(), REGION, ENDPOINT)
        people: Any = People()
        clock: Any = reactor
        self.door = EC2Door(people, self.registry, load_model(self.registry.names()), clock, rehearsal=rehearsal)

    @inlineCallbacks
    def knock(self, name: str, caller: Caller, parameters: dict[str, Any]) -> Generator[Any, Any, tuple[int, str]]:
        """
        @return: the answer's status, and the code of a refusal.
        """
        return (yield self.send(self.fields(name, parameters), caller))  # type: ignore[no-any-return]

    @inlineCallbacks
    def send(self, fields: dict[str, str], caller: Caller) -> Generator[Any, Any, tuple[int, str]]:
        """The same, of parameters as they are sent."""
        body = urlencode({"Version": VERSION, **fields}).encode()
        request = AWSRequest("POST", "http://cloud:8773/", data=body, headers={"Content-Type": FORM})
        key = f"{caller.user}:{caller.project}:{','.join(sorted(caller.roles))}"
        SigV4Auth(Credentials(key, "secret"), "ec2", REGION).add_auth(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        exchange = Exchange({**headers, "host": "cloud:8773"}, body)
        self.door.handle(exchange)
        status, answer = yield exchange.answered
        if status == 200:
            return status, ""
        parsed = EC2QueryParser().parse({"body": answer, "headers": {}, "status_code": status}, None)
        return status, parsed["Error"]["Code"]


def has_dry_run(name: str) -> bool:
    """Whether EC2's model knows C{DryRun} of an action."""
    shape = botocore_model().operation_model(name).input_shape
    return shape is not None and "DryRun" in shape.members


def with_roles(*roles: str, of: Caller = ANN) -> Caller:
    """Somebody else of a project."""
    return Caller("carol", of.project, frozenset(roles), "req")


__all__ = ["ANN", "BOB", "DoorCase", "has_dry_run", "with_roles"]
