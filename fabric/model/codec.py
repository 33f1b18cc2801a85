"""
Between immutable values and what JSON can hold.

Converters are compiled once per class from its annotations and kept, since a
launch converts each of its records several times.  Unknown keys are ignored and
missing ones take the field's default, so that a service reads records and
messages written by the version before and after its own.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import attrs

T = TypeVar("T")
Convert = Callable[[Any], Any]


def encode(value: Any) -> dict[str, Any]:
    """
    @return: an attrs value as dicts, lists and scalars, ready for JSON.
    """
    return _encoder(type(value))(value)  # type: ignore[no-any-return]


def decode(cls: type[T], data: dict[str, Any]) -> T:
    """
    @return: the value of class C{cls} that L{encode} described.
    @raise TypeError: a field without default is missing.
    """
    return _decoder(cls)(data)  # type: ignore[no-any-return]


@cache
def _encoder(cls: Any) -> Convert:
    hints = typing.get_type_hints(cls)
    plain, nested = [], []
    for field in attrs.fields(cls):
        convert = _encode_type(hints[field.name])
        (plain if convert is None else nested).append((field.name, convert))
    body = ", ".join(
        [f"{name!r}: v.{name}" for name, _ in plain] + [f"{name!r}: c{n}(v.{name})" for n, (name, _) in enumerate(nested)]
    )
    scope = {f"c{n}": convert for n, (_, convert) in enumerate(nested)}
    return eval(f"lambda v: {{{body}}}", scope)  # type: ignore[no-any-return]


def _encode_type(hint: Any) -> Convert | None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = _encode_type(next(a for a in arguments if a is not type(None)))
        return None if inner is None else lambda v: None if v is None else inner(v)
    if attrs.has(hint):
        return _encoder(hint)
    if origin is tuple:
        inner = _encode_type(arguments[0])
        return list if inner is None else lambda v: [inner(item) for item in v]
    if origin is dict:
        inner = _encode_type(arguments[1])
        return None if inner is None else lambda v: {key: inner(item) for key, item in v.items()}
    return None


@cache
def _decoder(cls: Any) -> Convert:
    hints = typing.get_type_hints(cls)
    converts = {field.name: _decode_type(hints[field.name]) for field in attrs.fields(cls)}
    aliases = {field.name: field.alias for field in attrs.fields(cls)}

    def convert(data: dict[str, Any]) -> Any:
        arguments = {}
        for key, value in data.items():
            inner = converts.get(key, _unknown)
            if inner is not _unknown:
                arguments[aliases[key]] = value if inner is None else inner(value)
        return cls(**arguments)

    return convert


def _unknown(value: Any) -> Any:
    raise AssertionError("a marker, never called")


def _decode_type(hint: Any) -> Convert | None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = _decode_type(next(a for a in arguments if a is not type(None)))
        return None if inner is None else lambda v: None if v is None else inner(v)
    if attrs.has(hint):
        return _decoder(hint)
    if origin is tuple:
        inner = _decode_type(arguments[0])
        return tuple if inner is None else lambda v: tuple(inner(item) for item in v)
    if origin is frozenset:
        return frozenset
    if origin is dict:
        inner = _decode_type(arguments[1])
        return None if inner is None else lambda v: {key: inner(item) for key, item in v.items()}
    return None
