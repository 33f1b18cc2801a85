"""
EC2's service model, as botocore ships it, reduced to what is implemented.

Only the data file is read; botocore itself is not imported.  The whole model
is some 4 MB of JSON with 830 operations.  What this cloud implements is kept
and the rest is let go of, so a door's memory does not carry it.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import orjson

from fabric.errors import Unsupported

VERSION = "2016-11-15"
"""The API version of the model, and of answers to who names none."""

_KEPT_OF_MEMBER = ("shape", "locationName", "queryName")
_KEPT_OF_SHAPE = ("type", "required")


@attrs.frozen
class ServiceModel:
    """
    @ivar actions: the name of every operation of EC2, implemented or not.
    @ivar inputs: the input shape's name by action; None where it has none.
    @ivar outputs: the output shape's name by action; None where it has none.
    @ivar shapes: C{{name: {"type", "members" or "member", "required", …}}},
        those that the implemented actions reach.
    """

    actions: frozenset[str]
    inputs: dict[str, str | None]
    outputs: dict[str, str | None]
    shapes: dict[str, dict[str, Any]]


def load_model(actions: Iterable[str], shapes: Iterable[str] = ()) -> ServiceModel:
    """
    Read the model file; takes some 50 ms, so once at start.

    @param actions: the implemented actions, whose shapes are kept.
    @param shapes: further shapes to keep.
    @raise Unsupported: botocore has no such file, or the model no such name.
    """
    data = orjson.loads(gzip.decompress(_path().read_bytes()))
    operations, everything = data["operations"], data["shapes"]
    inputs: dict[str, str | None] = {}
    outputs: dict[str, str | None] = {}
    for action in actions:
        if action not in operations:
            raise Unsupported(what=f"EC2's model has no action {action}")
        inputs[action] = operations[action].get("input", {}).get("shape")
        outputs[action] = operations[action].get("output", {}).get("shape")
    roots = [name for name in (*inputs.values(), *outputs.values(), *shapes) if name]
    return ServiceModel(frozenset(operations), inputs, outputs, _reachable(everything, roots))


def _path() -> Path:
    found = find_spec("botocore")
    if found is None or found.origin is None:
        raise Unsupported(what="botocore, whose data describes EC2, is not installed")
    return Path(found.origin).parent / "data" / "ec2" / VERSION / "service-2.json.gz"


def _reachable(everything: dict[str, Any], roots: list[str]) -> dict[str, dict[str, Any]]:
    kept: dict[str, dict[str, Any]] = {}
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name in kept:
            continue
        if name not in everything:
            raise Unsupported(what=f"EC2's model has no shape {name}")
        kept[name] = _slim(everything[name])
        todo += [member["shape"] for member in kept[name].get("members", {}).values()]
        if "member" in kept[name]:
            todo.append(kept[name]["member"]["shape"])
    return kept


def _slim(shape: dict[str, Any]) -> dict[str, Any]:
    slim = {key: shape[key] for key in _KEPT_OF_SHAPE if key in shape}
    if "members" in shape:
        slim["members"] = {name: _slim_member(member) for name, member in shape["members"].items()}
    if "member" in shape:
        slim["member"] = _slim_member(shape["member"])
    return slim


def _slim_member(member: dict[str, Any]) -> dict[str, Any]:
    return {key: member[key] for key in _KEPT_OF_MEMBER if key in member}
