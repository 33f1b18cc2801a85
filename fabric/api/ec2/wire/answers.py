"""
From dicts by the model's member names to EC2's XML.

A renderer is compiled once per shape to closures over ready-made tags; to
render is then one call a value that is there.  C{None} and missing members are
left out, an empty list is an empty element, and an unknown member name is a
C{KeyError}: a bug of the caller's, not of the client's.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fabric.api.ec2.wire.model import ServiceModel

Render = Callable[[Any], str]

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'

RETURNING = frozenset({"AssociateAddress", "CreatePlacementGroup"})
"""
Actions that EC2's model gives an output without C{return}, and EC2 answers with
one all the same; libcloud looks for it.

@see: U{https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreatePlacementGroup.html}
"""

_unsafe = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]").search
_SPECIAL = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
_ILLEGAL = [*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF]
_ILLEGAL_ONLY = dict.fromkeys(_ILLEGAL)
_ESCAPES = {**dict.fromkeys(_ILLEGAL, "\ufffd"), **_SPECIAL, ord("\r"): "&#13;"}


def can_say(text: str) -> bool:
    """
    @return: whether a client can be told the text, and reads the same.
    """
    return text.translate(_ILLEGAL_ONLY) == text


def escape(text: str) -> str:
    """
    @return: text fit for the content of XML 1.0's elements; a character that
        XML can't hold at all becomes U+FFFD.
    """
    return text.translate(_ESCAPES) if _unsafe(text) else text


def timestamp(value: Any) -> str:
    """
    @param value: seconds since the epoch, or an aware datetime, or a text
        that is one already.
    @return: as C{2026-11-21T10:00:00.000Z}.
    """
    if isinstance(value, str):
        return escape(value)
    moment = value.astimezone(UTC) if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def head(action: str, request_id: str, version: str) -> str:
    """
    @return: all that stands before the members of an action's answer.
    """
    return (
        f'{HEAD}<{action}Response xmlns="http://ec2.amazonaws.com/doc/{version}/"><requestId>{request_id}</requestId>'
    )


def tail(action: str) -> str:
    """
    @return: all that stands after the members of an action's answer.
    """
    return f"</{action}Response>"


def error_document(code: str, message: str, request_id: str) -> bytes:
    """
    @return: the body of a refusal, in the form that all clients of EC2 know.
    """
    text = (
        f"{HEAD}<Response><Errors><Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        f"</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    )
    return text.encode()


class Answers:
    """
    Compiles renderers of a model's shapes, and keeps them.
    """

    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self._inner: dict[str, Render] = {}

    def operation(self, action: str) -> Callable[[dict[str, Any], str, str], bytes]:
        """
        @return: C{render(answer, request id, version)} of the whole body.
            Actions that have no output answer C{<return>true</return>}, as
            EC2 does and boto 2 needs; those of L{RETURNING} besides their
            output.
        """
        output = self._model.outputs[action]
        inner: Render = self._structure(output) if output else lambda answer: ""
        done = "" if output and action not in RETURNING else "<return>true</return>"
        close = tail(action)

        def render(answer: dict[str, Any], request_id: str, version: str) -> bytes:
            return f"{head(action, request_id, version)}{done}{inner(answer)}{close}".encode()

        return render

    def item(self, shape: str, tag: str = "item") -> Callable[[dict[str, Any]], bytes]:
        """
        @return: C{render(value)} of one member of a list, as
            C{<item>…</item>}.
        """
        inner = self._structure(shape)
        return lambda value: f"<{tag}>{inner(value)}</{tag}>".encode()

    def fragment(self, shape: str) -> Callable[[dict[str, Any]], bytes]:
        """
        @return: C{render(value)} of a structure's members, with nothing
            around them.
        """
        inner = self._structure(shape)
        return lambda value: inner(value).encode()

    def _structure(self, name: str) -> Render:
        if name not in self._inner:
            members: dict[str, Render] = {}
            self._inner[name] = _structure(members)
            for member, reference in self._model.shapes[name]["members"].items():
                members[member] = self._tagged(reference["shape"], reference.get("locationName", member))
        return self._inner[name]

    def _tagged(self, name: str, tag: str) -> Render:
        shape = self._model.shapes[name]
        kind = shape["type"]
        if kind == "structure":
            return _wrapped(self._structure(name), tag)
        if kind == "list":
            member = shape["member"]
            return _list(self._tagged(member["shape"], member.get("locationName", "member")), tag)
        return _SCALARS[kind](tag)


def _structure(members: dict[str, Render]) -> Render:
    def render(value: dict[str, Any]) -> str:
        return "".join([members[name](part) for name, part in value.items() if part is not None])

    return render


def _wrapped(inner: Render, tag: str) -> Render:
    return lambda value: f"<{tag}>{inner(value)}</{tag}>"


def _list(item: Render, tag: str) -> Render:
    empty = f"<{tag}/>"
    return lambda value: f"<{tag}>{''.join(map(item, value))}</{tag}>" if value else empty


def _string(tag: str) -> Render:
    opening, closing, unsafe, escapes = f"<{tag}>", f"</{tag}>", _unsafe, _ESCAPES

    def render(value: str) -> str:
        return f"{opening}{value.translate(escapes) if unsafe(value) else value}{closing}"

    return render


def _number(tag: str) -> Render:
    return lambda value: f"<{tag}>{value}</{tag}>"


def _boolean(tag: str) -> Render:
    true, false = f"<{tag}>true</{tag}>", f"<{tag}>false</{tag}>"
    return lambda value: true if value else false


def _timestamp(tag: str) -> Render:
    return lambda value: f"<{tag}>{timestamp(value)}</{tag}>"


def _blob(tag: str) -> Render:
    return lambda value: f"<{tag}>{b64encode(value).decode()}</{tag}>"


_SCALARS: dict[str, Callable[[str], Render]] = {
    "string": _string,
    "integer": _number,
    "long": _number,
    "float": _number,
    "double": _number,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "blob": _blob,
}
