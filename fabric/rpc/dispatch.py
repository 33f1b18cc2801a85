"""
Serving: from a message to the one method of the worker that it names.

Only what the interface declares can be reached, and only with the arguments
that it declares.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface.interface import InterfaceClass

from fabric.errors import Conflict, DeadlineExceeded, FabricError, RemoteFailure, Unavailable, UnknownMethod
from fabric.rpc.envelope import Request, encode_answer, encode_error
from fabric.rpc.interface import Context
from fabric.rpc.measure import QueueMetrics
from fabric.rpc.remote import Signature, signatures


class Verdict(Enum):
    """
    What is to become of a message after the work.
    """

    DONE = "done"
    RETRY = "retry"
    DEAD = "dead"


Done = Callable[[Verdict, bytes, str], None]
"""Takes the verdict, the reply (empty for a cast) and, unless done, the reason."""


class Dispatcher:
    """
    Serves one worker at one address.
    """

    log = Logger()

    def __init__(
        self,
        topic: str,
        interface: InterfaceClass,
        worker: Any,
        clock: IReactorTime,
        metrics: QueueMetrics | None = None,
    ) -> None:
        """
        @raise TypeError: the worker does not provide the interface.
        """
        provided: bool = interface.providedBy(worker)
        if not provided:
            raise TypeError(f"{worker!r} does not provide {interface.__name__}")
        self._topic = topic
        self._interface = interface.__name__
        self._methods: dict[str, tuple[Callable[..., Any], Signature]] = {
            name: (getattr(worker, name), signature) for name, signature in signatures(interface).items()
        }
        self._clock = clock
        self._metrics = metrics

    def handle(self, request: Request, context: Context, wants_reply: bool, done: Done) -> None:
        """
        Do the work of a message; C{done} is called once, when it is over.
        """
        began = self._clock.seconds()

        def finished(answer: Any) -> None:
            try:
                reply = encode_answer(answer) if wants_reply else b""
            except TypeError:
                failed(Failure())
                return
            self._measure(request.method, "ok", began)
            done(Verdict.DONE, reply, "")

        def failed(failure: Failure) -> None:
            error = self._typed(failure, request)
            self._measure(request.method, type(error).__name__, began)
            if wants_reply:
                done(Verdict.DONE, encode_error(error), "")
            else:
                done(self._verdict(error, request), b"", str(error))

        try:
            result = self._begin(request, context)
        except Exception:
            failed(Failure())
            return
        if isinstance(result, Deferred):
            result.addCallbacks(finished, failed).addErrback(self._broken)
        else:
            finished(result)

    def _begin(self, request: Request, context: Context) -> Any:
        """Call the method that a request names."""
        try:
            method, signature = self._methods[request.method]
        except KeyError:
            raise UnknownMethod(interface=self._interface, method=request.method, why="no such method") from None
        given = request.arguments.keys()
        if not (given <= signature.allowed and signature.required <= given):
            wrong = sorted(given - signature.allowed) + sorted(signature.required - given)
            why = f"missing or unknown arguments: {', '.join(wrong)}"
            raise UnknownMethod(interface=self._interface, method=request.method, why=why)
        return method(context=context, **request.arguments)

    def _typed(self, failure: Failure, request: Request) -> FabricError:
        """The error for the wire; one that nobody declared is logged whole and told blankly."""
        if isinstance(failure.value, FabricError):
            return failure.value
        self.log.failure(
            "{interface}.{method} failed unexpectedly (request {request_id})",
            failure=failure,
            interface=self._interface,
            method=request.method,
            request_id=request.request_id,
        )
        return RemoteFailure(what=f"{self._interface}.{request.method}: {type(failure.value).__name__}")

    def _verdict(self, error: FabricError, request: Request) -> Verdict:
        """
        What a failed cast deserves.  Typed errors are the worker's last word,
        but for those that a later try may not meet.
        """
        if isinstance(error, UnknownMethod):
            return Verdict.DEAD
        if isinstance(error, RemoteFailure | Unavailable | DeadlineExceeded | Conflict):
            return Verdict.RETRY
        self.log.warn(
            "cast {interface}.{method} refused: {error} (request {request_id})",
            interface=self._interface,
            method=request.method,
            error=str(error),
            request_id=request.request_id,
        )
        return Verdict.DONE

    def _measure(self, method: str, outcome: str, began: float) -> None:
        if self._metrics is not None:
            name = method if method in self._methods else "unknown"
            self._metrics.handled(self._topic, name, outcome, self._clock.seconds() - began)

    def _broken(self, failure: Failure) -> None:
        self.log.failure("a message of {interface} could not be finished", failure=failure, interface=self._interface)
