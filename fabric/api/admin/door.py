"""
The admin door: a signed POST of C{{"action": …, "parameters": {…}}}.

Requests are signed as EC2's are.  The answer is C{{"request_id", "result"}}, or
C{{"request_id", "error": {"code", "message", "fields"}}} where the code is the
name of a class of L{fabric.errors}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric import errors
from fabric.api.admin.registry import Action
from fabric.api.interface import IDoor, IExchange
from fabric.api.signature import Claim, Presented, SignatureRefused, Verifier, claim
from fabric.cloud.access import Caller, permit_admin
from fabric.errors import Denied, FabricError, InvalidValue, NotFound, to_wire
from fabric.metrics import Metrics
from fabric.users.interface import Identity, IDirectory

PATH = "/services/Admin"
CONTENT_TYPE = b"application/json"

_STATUS: dict[type[FabricError], int] = {
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.InUse: 409,
    errors.Conflict: 409,
    errors.WrongState: 409,
    errors.Denied: 403,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 503,
}
"""Errors that are not simply 400."""


@implementer(IDoor)
class AdminDoor:
    """
    Admin actions over HTTP.
    """

    log = Logger()

    def __init__(
        self,
        directory: IDirectory,
        actions: Mapping[str, Action],
        clock: IReactorTime,
        metrics: Metrics | None = None,
        may: Callable[[Caller, str], None] = permit_admin,
    ) -> None:
        self._directory = directory
        self._actions = actions
        self._clock = clock
        self._metrics = metrics
        self._may = may
        self._verifier = Verifier()

    def handle(self, exchange: Any) -> None:
        """See L{IDoor.handle}."""
        started = self._clock.seconds()
        try:
            action, parameters = self._read(exchange)
            presented = Presented(exchange.method, exchange.path, {}, {}, exchange.headers, exchange.body)
            claimed = claim(presented, started)
        except (SignatureRefused, FabricError) as error:
            self._refuse(exchange, error, "unknown", started)
            return
        done = self._directory.identify(claimed.access_key)
        done.addErrback(self._stranger, claimed)
        done.addCallback(self._identified, exchange, claimed, action, parameters)
        done.addCallback(self._answer, exchange, action.name, started)
        done.addErrback(self._failed, exchange, action.name, started)

    def refuse(self, exchange: Any, status: int, why: str) -> None:
        """See L{IDoor.refuse}."""
        self._send(exchange, status, {"error": {"code": "InvalidValue", "message": why, "fields": {}}})

    def _read(self, exchange: IExchange) -> tuple[Action, dict[str, Any]]:
        if exchange.method != "POST" or exchange.query:
            raise InvalidValue("method", exchange.method, "admin requests are POSTs without a query")
        try:
            body = orjson.loads(exchange.body)
            name, parameters = body["action"], body.get("parameters", {})
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise InvalidValue("body", "", 'must be {"action": ..., "parameters": {...}}') from None
        action = self._actions.get(name) if isinstance(name, str) else None
        if action is None or not isinstance(parameters, dict):
            raise InvalidValue("action", str(name)[:100], "no such admin action")
        return action, parameters

    def _stranger(self, failure: Failure, claimed: Claim) -> None:
        failure.trap(NotFound, Denied)
        with suppress(SignatureRefused):
            self._verifier.check_nobody(claimed)
        raise SignatureRefused("mismatch", "no such access key, or the signature is not the one that its secret gives")

    def _identified(
        self, identity: Identity, exchange: IExchange, claimed: Claim, action: Action, parameters: dict[str, Any]
    ) -> Deferred[Any]:
        self._verifier.check(claimed, identity.secret_key)
        held: Deferred[Any] = self._directory.roles(identity.user, None)
        return held.addCallback(self._act, identity, exchange, action, parameters)

    def _act(
        self,
        everywhere: frozenset[str],
        identity: Identity,
        exchange: IExchange,
        action: Action,
        parameters: dict[str, Any],
    ) -> Deferred[Any]:
        """
        These actions are on the whole cloud, so a role held in one project
        does not count.
        """
        caller = Caller(identity.user, identity.project, everywhere, exchange.request_id)
        self._may(caller, action.name)
        self.log.info("{user} asks for {action}", user=caller.user, action=action.name, request_id=caller.request_id)
        return action(caller, parameters)

    def _answer(self, result: Any, exchange: IExchange, name: str, started: float) -> None:
        self._send(exchange, 200, {"result": result})
        self._note(name, "200", started)

    def _failed(self, failure: Failure, exchange: IExchange, name: str, started: float) -> None:
        if not failure.check(SignatureRefused, FabricError):
            self.log.failure("{action} failed", failure, action=name, request_id=exchange.request_id)
        self._refuse(exchange, failure.value, name, started)

    def _refuse(self, exchange: IExchange, error: Any, name: str, started: float) -> None:
        status, code, message, fields = _fault(error)
        self._send(exchange, status, {"error": {"code": code, "message": message, "fields": fields}})
        self._note(name, code, started)

    def _send(self, exchange: IExchange, status: int, content: dict[str, Any]) -> None:
        exchange.answer(status, orjson.dumps({"request_id": exchange.request_id, **content}), CONTENT_TYPE)

    def _note(self, name: str, code: str, started: float) -> None:
        if self._metrics is not None:
            self._metrics.request("admin", name, code, self._clock.seconds() - started)


def _fault(error: Any) -> tuple[int, str, str, dict[str, Any]]:
    """
    @return: status, code, message and fields of an error.
    """
    if isinstance(error, SignatureRefused):
        return 401, "SignatureRefused", error.message, {}
    if isinstance(error, FabricError):
        wire = to_wire(error)
        return _STATUS.get(type(error), 400), wire["error"], message(error), wire["fields"]
    return 500, "InternalError", "the cloud failed; its log says how", {}


def message(error: FabricError) -> str:
    """
    One sentence for people.
    """
    fields = to_wire(error)["fields"]
    sentence = _SENTENCES.get(type(error), "{error}")
    if isinstance(error, InvalidValue) and not error.value:
        sentence = "{name}: {why}"
    if isinstance(error, errors.LimitExceeded) and error.counter.startswith("load:"):
        host = error.counter.split(":")[1]
        return f"There is no room for that on {host}"
    text = sentence.format(error=error, **fields)
    return text[:1].upper() + text[1:]


_SENTENCES: dict[type[FabricError], str] = {
    errors.NotFound: "there is no {kind} {id}",
    errors.AlreadyExists: "{kind} {name} exists already",
    errors.InUse: "{kind} {id} is in use by {by}",
    errors.Denied: "{who} may not {what}",
    errors.InvalidValue: "{name} {value!r}: {why}",
    errors.Unavailable: "{service} is not available: {why}",
    errors.Unsupported: "{what} is not supported",
    errors.Conflict: "{kind} {id} was changed by somebody else; try again",
    errors.DeadlineExceeded: "no answer in {seconds:g} s: {what}; it may have been done",
    errors.WrongState: "{kind} {id} is {found}",
    errors.LimitExceeded: "{counter} would become {wanted}, above its limit of {limit}",
}
