"""
What a message looks like on the wire: one JSON object.

A request is C{{"v", "method", "args", "request", "deadline"}}, an answer is
C{{"v", "ok"}} and an error C{{"v", "error"}}.  Between two versions keys are
only added, each with a default, so that a service reads what the version before
it wrote; keys that it does not know it ignores.
"""

from __future__ import annotations

from typing import Any

import attrs
import orjson

from fabric.errors import FabricError, RemoteFailure, from_wire, to_wire
from fabric.rpc.interface import Address

VERSION = 1
"""Written into every message; this and the one before are read."""

# orjson would turn these into strings on its own, and the other side would get
# another type than was sent: better that sending them fails.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


class BadEnvelope(ValueError):
    """
    A message that no version of the envelope looks like.
    """


@attrs.define
class Request:
    """
    A message to a worker.

    @ivar deadline: in seconds since the epoch, by the sender's clock, after
        which nobody waits any more; C{None} for a cast.
    """

    method: str
    arguments: dict[str, Any]
    request_id: str = ""
    deadline: float | None = None


def encode_request(method: str, arguments: dict[str, Any], request_id: str, deadline: float | None) -> bytes:
    """
    @raise TypeError: an argument is not a JSON value.
    """
    envelope = {"v": VERSION, "method": method, "args": arguments, "request": request_id, "deadline": deadline}
    return orjson.dumps(envelope, option=_OPTIONS)


def decode_request(body: bytes) -> Request:
    """
    @raise BadEnvelope: it is not a request.
    """
    envelope = _open(body)
    method, arguments = envelope.get("method"), envelope.get("args", {})
    deadline = envelope.get("deadline")
    if not isinstance(method, str) or not isinstance(arguments, dict):
        raise BadEnvelope("no method, or arguments that have no names")
    if deadline is not None and not isinstance(deadline, float | int):
        raise BadEnvelope("a deadline that is no number")
    return Request(method, arguments, str(envelope.get("request", "")), deadline)


def encode_answer(value: Any) -> bytes:
    """
    @raise TypeError: the value is not a JSON value.
    """
    return orjson.dumps({"v": VERSION, "ok": value}, option=_OPTIONS)


def encode_error(error: FabricError) -> bytes:
    """
    An error as a reply.  One with fields that JSON can't say becomes a
    L{RemoteFailure} with its text.
    """
    try:
        return orjson.dumps({"v": VERSION, "error": to_wire(error)}, option=_OPTIONS)
    except TypeError:
        return orjson.dumps({"v": VERSION, "error": to_wire(RemoteFailure(what=repr(error)))})


def decode_reply(body: bytes) -> Any:
    """
    @return: the worker's answer.
    @raise FabricError: the worker's error, or L{RemoteFailure} for what is no reply.
    """
    try:
        envelope = _open(body)
    except BadEnvelope as bad:
        raise RemoteFailure(what=f"not a reply: {bad}") from bad
    error = envelope.get("error")
    if error is not None:
        raise from_wire(error) if isinstance(error, dict) else RemoteFailure(what=str(error))
    return envelope.get("ok")


def address_of(routing_key: str) -> Address:
    """
    The address that a routing key stands for: a topic has no dot, a host may.
    """
    topic, _, host = routing_key.partition(".")
    return Address(topic, host)


def _open(body: bytes) -> dict[str, Any]:
    """The JSON object of a message of a version that is read here."""
    try:
        envelope = orjson.loads(body)
    except orjson.JSONDecodeError as bad:
        raise BadEnvelope(f"not JSON: {bad}") from bad
    if not isinstance(envelope, dict):
        raise BadEnvelope("not a JSON object")
    version = envelope.get("v", 0)
    if not isinstance(version, int) or not VERSION - 1 <= version <= VERSION:
        raise BadEnvelope(f"version {version!r}; {VERSION - 1} and {VERSION} are read")
    return envelope
