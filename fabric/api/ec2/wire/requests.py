"""
From EC2's flat query parameters to dicts by the model's member names.

C{Filter.1.Name=x&Filter.1.Value.1=y} becomes
C{{"Filters": [{"Name": "x", "Values": ["y"]}]}}.  For each action a tree of
what may be sent is compiled once from its input shape; a request then costs one
walk a parameter.  List indexes order the items and may have gaps: nothing is
allocated by them.

@see: U{https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-reference.html}
    and botocore's C{EC2Serializer}, which is what most clients are.
"""

from __future__ import annotations

import binascii
import math
from base64 import b64decode
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import attrs

from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.wire.model import ServiceModel

Fields = dict[str, str]
Parse = Callable[[Fields], dict[str, Any]]

PROTOCOL = frozenset(
    {"Action", "Version", "AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "SecurityToken"}
    | {"Timestamp", "Expires"}
)
"""Parameters that belong to the door, besides C{X-Amz-…}."""

_INDEX_DIGITS = 5
_WORDS = {"true": True, "false": False, "1": True, "0": False}


@attrs.define
class _Scalar:
    convert: Callable[[str, str], Any]


@attrs.define
class _List:
    item: _Node


@attrs.define
class _Structure:
    members: dict[str, tuple[str, _Node]] = attrs.field(factory=dict)
    required: list[tuple[str, str]] = attrs.field(factory=list)


@attrs.define
class _Refused:
    pass


_Node = _Scalar | _List | _Structure | _Refused
_Honours = dict[str, Any] | None


class Requests:
    """
    Compiles parsers of a model's input shapes.
    """

    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self._whole: dict[str, _Structure] = {}

    def operation(self, action: str, honours: Iterable[str] | None = None) -> Parse:
        """
        @param honours: see L{fabric.api.ec2.registry.Action.honours}; None
            for all that the model knows.
        @return: C{parse(fields)}, which raises L{EC2Error} for what can't be
            meant: C{UnknownParameter}, C{MissingParameter},
            C{InvalidParameterValue}, C{UnsupportedOperation}.
        @raise KeyError: C{honours} names a member that the model doesn't know.
        """
        name = self._model.inputs[action]
        tree = None if honours is None else _tree([*honours, "DryRun"])
        root = _Structure() if name is None else self._structure(name, tree)

        def parse(fields: Fields) -> dict[str, Any]:
            return _parse(root, fields)

        return parse

    def _node(self, name: str, honours: _Honours) -> _Node:
        shape = self._model.shapes[name]
        kind = shape["type"]
        if kind == "structure":
            return self._structure(name, honours)
        if kind == "list":
            return _List(self._node(shape["member"]["shape"], honours))
        return _Scalar(_SCALARS[kind])

    def _structure(self, name: str, honours: _Honours) -> _Structure:
        if honours is None and name in self._whole:
            return self._whole[name]
        node = _Structure()
        if honours is None:
            self._whole[name] = node
        shape = self._model.shapes[name]
        _check(name, honours, shape["members"])
        for member, reference in shape["members"].items():
            query = _query_name(member, reference)
            if honours is not None and member not in honours:
                node.members[query] = (member, _Refused())
            else:
                within = None if honours is None else honours[member]
                node.members[query] = (member, self._node(reference["shape"], within))
            if member in shape.get("required", ()):
                node.required.append((member, query))
        return node


def _query_name(member: str, reference: dict[str, str]) -> str:
    if "queryName" in reference:
        return reference["queryName"]
    name = reference.get("locationName", member)
    return name[0].upper() + name[1:]


def _tree(honours: Iterable[str]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path in sorted(honours):
        *above, last = path.split(".")
        here: _Honours = root
        for step in above:
            here = here.setdefault(step, {}) if here is not None else None
        if here is not None:
            here[last] = None
    return root


def _check(shape: str, honours: _Honours, members: dict[str, Any]) -> None:
    for name in honours or ():
        if name not in members and name != "DryRun":
            raise KeyError(f"{shape} has no member {name}")


def _parse(root: _Structure, fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    lists: list[tuple[Any, Any]] = []
    structures: list[tuple[dict[str, Any], _Structure, str]] = [(found, root, "")]
    members = root.members
    for name, text in fields.items():
        member = members.get(name)
        if member is not None and type(member[1]) is _Scalar:
            found[member[0]] = member[1].convert(name, text)
        elif name not in PROTOCOL and name[:6].lower() != "x-amz-":
            _place(root, found, name, text, lists, structures)
    for container, key in reversed(lists):
        items = container[key]
        container[key] = [items[index] for index in sorted(items)]
    for values, node, path in structures:
        for member_name, query in node.required:
            if member_name not in values:
                raise EC2Error("MissingParameter", f"The request must contain the parameter {path}{query}")
    return found


def _place(
    root: _Structure,
    found: dict[Any, Any],
    name: str,
    text: str,
    lists: list[tuple[Any, Any]],
    structures: list[tuple[dict[str, Any], _Structure, str]],
) -> None:
    steps = name.split(".")
    node: _Node = root
    here = found
    for depth, step in enumerate(steps, 1):
        key, node = _step(node, step, name)
        if depth == len(steps) or (isinstance(node, _Scalar) and steps[depth:] == ["1"]):
            break  # boto 2 sends GetConsoleOutput's InstanceId as InstanceId.1
        below = here.get(key)
        if below is None:
            below = here[key] = {}
            if isinstance(node, _List):
                lists.append((here, key))
            elif isinstance(node, _Structure) and node.required:
                structures.append((below, node, ".".join(steps[:depth]) + "."))
        here = below
    if isinstance(node, _Scalar):
        if key in here:
            raise _repeated(name)
        here[key] = node.convert(name, text)
    elif not isinstance(node, _List) or (text and not isinstance(node.item, _Scalar)):
        raise _unknown(name)
    elif text:
        _only(node, here, key, name, text, lists)


def _only(node: _List, here: dict[Any, Any], key: Any, name: str, text: str, lists: list[tuple[Any, Any]]) -> None:
    """
    A list's one item without an index, as libcloud sends C{KeyName=mine}.
    """
    assert isinstance(node.item, _Scalar)
    if key in here:
        raise _repeated(name)
    here[key] = {1: node.item.convert(name, text)}
    lists.append((here, key))


def _step(node: _Node, step: str, name: str) -> tuple[Any, _Node]:
    if isinstance(node, _Structure) and step in node.members:
        key, below = node.members[step]
        if isinstance(below, _Refused):
            raise EC2Error("UnsupportedOperation", f"The parameter {name} is not supported by this cloud")
        return key, below
    if isinstance(node, _List) and step.isascii() and step.isdigit() and len(step) <= _INDEX_DIGITS:
        return int(step), node.item
    raise _unknown(name)


def _unknown(name: str) -> EC2Error:
    return EC2Error("UnknownParameter", f"The parameter {name[:200]} is not recognized")


def _repeated(name: str) -> EC2Error:
    return EC2Error("MalformedQueryString", f"The parameter {name[:200]} is given more than once")


def _invalid(name: str, text: str, why: str) -> EC2Error:
    return EC2Error("InvalidParameterValue", f"Value ({text[:200]}) for parameter {name} is invalid. {why}")


def _string(name: str, text: str) -> str:
    return text


def _whole_number(bits: int) -> Callable[[str, str], int]:
    least, most = -(1 << bits - 1), (1 << bits - 1) - 1

    def convert(name: str, text: str) -> int:
        digits = text[1:] if text[:1] in ("-", "+") else text
        if not digits.isascii() or not digits.isdigit() or len(digits) > 19:
            raise _invalid(name, text, "Expecting an integer.")
        value = int(text)
        if not least <= value <= most:
            raise _invalid(name, text, f"Expecting an integer of {bits} bits.")
        return value

    return convert


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _invalid(name, text, "Expecting a number.")
    return value


def _boolean(name: str, text: str) -> bool:
    value = _WORDS.get(text.lower())
    if value is None:
        raise _invalid(name, text, "Expecting true or false.")
    return value


def _timestamp(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _invalid(name, text, "Expecting a date and time of ISO 8601.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _blob(name: str, text: str) -> bytes:
    try:
        return b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(name, text[:40], "Expecting base64.") from None


_SCALARS: dict[str, Callable[[str, str], Any]] = {
    "string": _string,
    "integer": _whole_number(32),
    "long": _whole_number(64),
    "float": _number,
    "double": _number,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "blob": _blob,
}
