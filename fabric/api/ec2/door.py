"""
The EC2 door: from an HTTP request to one action's handler, and back.

The order of questions is that of EC2: is it a request at all, is there such an
action, who asks, may they, do the parameters make sense, was it only a DryRun.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.api.ec2.call import Answer, Call, Handler, Listing
from fabric.api.ec2.errors import EC2Error, fault, internal_error, not_validated, would_succeed
from fabric.api.ec2.listing import Pages
from fabric.api.ec2.registry import Registry
from fabric.api.ec2.wire.answers import Answers, error_document
from fabric.api.ec2.wire.model import VERSION, ServiceModel
from fabric.api.ec2.wire.requests import Parse, Requests
from fabric.api.form import BadForm, parse_form
from fabric.api.interface import IDoor, IExchange
from fabric.api.signature import Claim, Presented, SignatureRefused, Verifier, claim
from fabric.cloud.access import Caller, permit
from fabric.errors import Denied, NotFound
from fabric.metrics import Metrics
from fabric.users.interface import Identity, IDirectory

CONTENT_TYPE = b"text/xml;charset=UTF-8"

_is_version = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch


@attrs.frozen
class _Entry:
    """
    An action with all that is compiled for it.

    @ivar rehearse: the handler over a cloud that changes nothing, for C{DryRun}.
    @ivar reads: whether it only looks, so that it may be given up when the
        client leaves.
    """

    name: str
    handler: Handler
    rehearse: Handler
    parse: Parse
    render: Callable[[dict[str, Any], str, str], bytes]
    reads: bool


@attrs.define
class _Asked:
    """
    One request on its way through.
    """

    exchange: Any
    started: float
    action: str = ""
    user: str = ""
    version: str = VERSION
    entry: _Entry | None = None
    fields: dict[str, str] = attrs.field(factory=dict)
    claim: Claim | None = None


@implementer(IDoor)
class EC2Door:
    """
    EC2's query API over a registry of actions.
    """

    log = Logger()

    def __init__(
        self,
        directory: IDirectory,
        registry: Registry,
        model: ServiceModel,
        clock: IReactorTime,
        metrics: Metrics | None = None,
        may: Callable[[Caller, str], None] = permit,
        log_reads: bool = False,
        rehearsal: Registry | None = None,
    ) -> None:
        """
        @param model: of at least the registry's actions.
        @param clock: gives the seconds since the epoch.
        @param may: raises L{Denied} for what a caller may not do.
        @param log_reads: whether descriptions that were answered are logged
            too, as all else is; a line costs as much as half an answer.
        @param rehearsal: the same actions over a cloud that changes nothing,
            which say whether a C{DryRun} would succeed; without it one does
            whose parameters are right.
        """
        self._directory = directory
        self._seconds = clock.seconds
        self._metrics = metrics
        self._may = may
        self._log_reads = log_reads
        self._verifier = Verifier()
        self._all_actions = model.actions
        self._entries = dict(_compiled(registry, rehearsal, model))

    def handle(self, exchange: Any) -> None:
        """See L{IDoor.handle}."""
        asked = _Asked(exchange, self._seconds())
        try:
            self._read(asked)
            who = self._directory.identify(asked.claim.access_key)  # type: ignore[union-attr]
        except Exception as error:
            self._fail(error, asked)
            return
        who.addCallbacks(self._identified, self._stranger, (asked,), {}, (asked,))

    def refuse(self, exchange: Any, status: int, why: str) -> None:
        """See L{IDoor.refuse}."""
        self._refuse(_Asked(exchange, self._seconds()), EC2Error("RequestEntityTooLarge", why, status))

    def _read(self, asked: _Asked) -> None:
        exchange = asked.exchange
        if exchange.method not in ("POST", "GET"):
            raise EC2Error("MethodNotAllowed", "Requests are GET or POST", 405)
        query, form = _forms(exchange)
        asked.fields = fields = {**query, **form} if query else form
        if len(fields) != len(query) + len(form):
            raise EC2Error("MalformedQueryString", "A parameter is given in the query and in the body")
        asked.entry = self._entry(fields)
        asked.action = asked.entry.name
        asked.version = fields.get("Version", VERSION)
        if not _is_version(asked.version):
            raise EC2Error("NoSuchVersion", f"The requested version ({asked.version[:40]}) is not valid")
        presented = Presented(exchange.method, exchange.path, query, form, exchange.headers, exchange.body)
        asked.claim = claim(presented, asked.started)

    def _entry(self, fields: dict[str, str]) -> _Entry:
        action = fields.get("Action")
        if not action:
            raise EC2Error("MissingAction", "The request must contain the parameter Action")
        entry = self._entries.get(action)
        if entry is not None:
            return entry
        if action in self._all_actions:
            raise EC2Error("UnsupportedOperation", f"The action {action} is not supported by this cloud.")
        raise EC2Error("InvalidAction", f"The action {action[:200]} is not valid for this web service.")

    def _stranger(self, failure: Failure, asked: _Asked) -> None:
        error: Any = failure.value
        if isinstance(error, NotFound | Denied):
            try:
                self._verifier.check_nobody(asked.claim)  # type: ignore[arg-type]
            except SignatureRefused:
                error = not_validated()
        self._fail(error, asked, failure)

    def _identified(self, identity: Identity, asked: _Asked) -> None:
        entry = asked.entry
        try:
            assert entry is not None and asked.claim is not None
            self._verifier.check(asked.claim, identity.secret_key)
            asked.user = identity.user
            caller = Caller(identity.user, identity.project, identity.roles, asked.exchange.request_id)
            self._may(caller, entry.name)
            parameters = entry.parse(asked.fields)
            dry = parameters.pop("DryRun", False)
            handler = entry.rehearse if dry else entry.handler
            answer = handler(Call(entry.name, caller, parameters, asked.version))
        except Exception as error:
            self._fail(error, asked)
            return
        if entry.reads:
            asked.exchange.when_gone(answer.cancel)
        answer.addCallback(_refuse_dry if dry else self._send, asked)
        answer.addErrback(self._failed, asked)

    def _send(self, answer: Answer, asked: _Asked) -> Deferred[None] | None:
        exchange = asked.exchange
        if isinstance(answer, Listing):
            pages = Pages(answer, asked.action, exchange.request_id, asked.version)
            if pages.whole is None:
                return self._stream(pages, asked)
            body = pages.whole
        else:
            body = asked.entry.render(answer, exchange.request_id, asked.version)  # type: ignore[union-attr]
        exchange.answer(200, body, CONTENT_TYPE)
        self._note(asked, "200")
        return None

    def _stream(self, pages: Pages, asked: _Asked) -> Deferred[None]:
        sent: Deferred[None] = asked.exchange.stream(200, iter(pages), CONTENT_TYPE)
        return sent.addCallback(lambda _: self._note(asked, "200"))

    def _failed(self, failure: Failure, asked: _Asked) -> None:
        self._fail(failure.value, asked, failure)

    def _fail(self, error: Any, asked: _Asked, failure: Failure | None = None) -> None:
        if isinstance(error, CancelledError) and asked.exchange.gone:
            self._note(asked, "gone")
            return
        refusal = fault(error, asked.action)
        if refusal is None or refusal.status >= 500:
            self.log.failure(
                "{action} of {user} failed",
                failure if failure is not None else Failure(error),
                action=asked.action,
                user=asked.user,
                request_id=asked.exchange.request_id,
            )
        self._refuse(asked, refusal or internal_error())

    def _refuse(self, asked: _Asked, refusal: EC2Error) -> None:
        exchange = asked.exchange
        body = error_document(refusal.code, refusal.message, exchange.request_id)
        exchange.answer(refusal.status, body, CONTENT_TYPE)
        self._note(asked, refusal.code)

    def _note(self, asked: _Asked, code: str) -> None:
        seconds = self._seconds() - asked.started
        if self._metrics is not None:
            self._metrics.request("ec2", asked.action or "unknown", code, seconds)
        if self._log_reads or code != "200" or asked.entry is None or not asked.entry.reads:
            self.log.info(
                "{action} of {user}: {code} in {seconds:.6f} s",
                action=asked.action or "A request",
                user=asked.user or "nobody",
                code=code,
                seconds=seconds,
                request_id=asked.exchange.request_id,
            )


def _refuse_dry(answer: Answer, asked: _Asked) -> None:
    raise would_succeed()


def _at_once(call: Call) -> Deferred[Answer]:
    raise would_succeed()


def _compiled(registry: Registry, rehearsal: Registry | None, model: ServiceModel) -> Iterator[tuple[str, _Entry]]:
    requests, answers = Requests(model), Answers(model)
    for action in registry:
        parse = requests.operation(action.name, action.honours)
        render = answers.operation(action.name)
        reads = action.name.startswith("Describe")
        dry = None if rehearsal is None else rehearsal.find(action.name)
        rehearse = _at_once if dry is None else dry.handler
        yield action.name, _Entry(action.name, action.handler, rehearse, parse, render, reads)


def _forms(exchange: IExchange) -> tuple[dict[str, str], dict[str, str]]:
    try:
        query = parse_form(exchange.query) if exchange.query else {}
        form = parse_form(exchange.body) if exchange.method == "POST" else {}
    except BadForm as error:
        raise EC2Error("MalformedQueryString", f"The query string contains a syntax error: {error}") from None
    return query, form
