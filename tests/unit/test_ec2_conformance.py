"""
Every parameter of every implemented action: honoured, or refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import botocore.loaders
from botocore.model import ServiceModel
from botocore.serialize import EC2Serializer
from twisted.trial.unittest import SynchronousTestCase

from fabric.api.ec2.coverage import whole_registry
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.wire.model import load_model
from fabric.api.ec2.wire.requests import Requests
from fabric.api.form import parse_form

THEIRS = ServiceModel(botocore.loaders.Loader().load_service_model("ec2", "service-2"))

_SAMPLES: dict[str, Any] = {
    "string": "text",
    "integer": 7,
    "long": 7,
    "boolean": True,
    "double": 0.5,
    "float": 0.5,
    "timestamp": "2026-01-02T03:04:05Z",
    "blob": b"blob",
}


def leaves(shape: Any, seen: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """
    Every scalar of a shape: the path of members to it, and a value of the
    whole shape that has this one and what it can't be without.
    """
    if shape.name in seen:
        return
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            for path, value in leaves(member, (*seen, shape.name)):
                yield (name, *path), _needed(shape) | {name: value}
    elif shape.type_name == "list":
        for path, value in leaves(shape.member, (*seen, shape.name)):
            yield path, [value]
    else:
        yield (), _SAMPLES[shape.type_name]


def holds(value: Any, path: tuple[str, ...]) -> bool:
    """Whether what was parsed has something at a path."""
    if isinstance(value, list):
        return bool(value) and holds(value[0], path)
    if not path:
        return value is not None
    return isinstance(value, dict) and path[0] in value and holds(value[path[0]], path[1:])


class ConformanceTests(SynchronousTestCase):
    """
    The registry against EC2's model.
    """

    def setUp(self) -> None:
        """Compile each action's parser as the door does."""
        self.registry = whole_registry()
        self.requests = Requests(load_model(self.registry.names()))

    def test_each_parameter_is_honoured_or_refused(self) -> None:
        """Each parameter, sent alone, is handed to the action or refused by its name; none is dropped."""
        dropped, sent = [], 0
        for action in self.registry:
            operation = THEIRS.operation_model(action.name)
            parse = self.requests.operation(action.name, action.honours)
            for path, value in leaves(operation.input_shape) if operation.input_shape is not None else ():
                sent += 1
                body = EC2Serializer().serialize_to_request(value, operation)["body"]
                if not self._well(parse, body, path):
                    dropped.append(f"{action.name} {'.'.join(path)}")
        self.assertEqual(dropped, [])
        self.assertGreater(sent, 1000)

    def _well(self, parse: Any, body: dict[str, Any], path: tuple[str, ...]) -> bool:
        try:
            parsed = parse(parse_form(urlencode(body).encode()))
        except EC2Error as error:
            # The message has the name as it was sent: a list's is in the singular.
            named = any(member in error.message or member.removesuffix("s") in error.message for member in path)
            return error.code == "UnsupportedOperation" and named
        return holds(parsed, path)


def _needed(shape: Any) -> dict[str, Any]:
    """The least that a structure must have."""
    return {name: _least(shape.members[name]) for name in shape.required_members}


def _least(shape: Any) -> Any:
    if shape.type_name == "structure":
        return _needed(shape) or next(value for _, value in leaves(shape))
    if shape.type_name == "list":
        return [_least(shape.member)]
    return _SAMPLES[shape.type_name]
