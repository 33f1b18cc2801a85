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
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, TypeVar

import attrs

T = TypeVar("T")
Convert = Callable[[Any], Any]


def encode(value: Any) -> dict[str, Any]:
    """
    @return: an attrs value as dicts, lists and scalars, ready for JSON.
    """
    return typing.cast(dict[str, Any], _encoder(typing.cast(Hashable, type(value)))(value))


def decode(cls: type[T], data: dict[str, Any]) -> T:
    """
    @return: the value of class C{cls} that L{encode} described.
    @raise TypeError: a field without default is missing.
    """
    return typing.cast(T, _decoder(typing.cast(Hashable, cls))(data))


@cache
def _encoder(cls: Hashable) -> Convert:
    hints = typing.get_type_hints(cls)
    plain: list[tuple[str, Any]] = []
    nested: list[tuple[str, Any]] = []
    for field in attrs.fields(typing.cast(Any, cls)):
        convert = _encode_type(hints[field.name])
        (plain if convert is None else nested).append((field.name, convert))
    body = ", ".join(
        [f"{name!r}: v.{name}" for name, _ in plain]
        + [f"{name!r}: c{n}(v.{name})" for n, (name, _) in enumerate(nested)]
    )
    scope = {f"c{n}": convert for n, (_, convert) in enumerate(nested)}
    return typing.cast(Convert, eval(f"lambda v: {{{body}}}", scope))


def _encode_type(hint: Any) -> Convert | None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = _encode_type(next(a for a in arguments if a is not type(None)))
        return None if inner is None else _optional(inner)
    if attrs.has(hint):
        return _encoder(hint)
    if origin is tuple:
        inner = _encode_type(arguments[0])
        return list if inner is None else _items(list, inner)
    if origin is dict:
        inner = _encode_type(arguments[1])
        return None if inner is None else _values(inner)
    return None


@cache
def _decoder(cls: Hashable) -> Convert:
    """
    Every key is there in nearly all that is read, and is fetched by one
    compiled expression; only what another version wrote is looked at key by key.
    """
    hints = typing.get_type_hints(cls)
    fields = [
        (field.name, field.alias, _decode_type(hints[field.name])) for field in attrs.fields(typing.cast(Any, cls))
    ]
    body = ", ".join(
        f"{alias!r}: d[{name!r}]" if convert is None else f"{alias!r}: c{at}(d[{name!r}])"
        for at, (name, alias, convert) in enumerate(fields)
    )
    scope: dict[str, Any] = {f"c{at}": convert for at, (_, _, convert) in enumerate(fields)}
    whole = typing.cast(Convert, eval(f"lambda d: make({{{body}}})", scope | {"make": _maker(cls)}))
    make = typing.cast(Any, cls)

    def decode_any(data: dict[str, Any]) -> Any:
        try:
            return whole(data)
        except KeyError:
            known = [(alias, convert, data[name]) for name, alias, convert in fields if name in data]
            return make(**{alias: value if convert is None else convert(value) for alias, convert, value in known})

    return decode_any


def _decode_type(hint: Any) -> Convert | None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = _decode_type(next(a for a in arguments if a is not type(None)))
        return None if inner is None else _optional(inner)
    if attrs.has(hint):
        return _decoder(hint)
    if origin is tuple:
        inner = _decode_type(arguments[0])
        return tuple if inner is None else _items(tuple, inner)
    if origin is frozenset:
        return frozenset
    if origin is dict:
        inner = _decode_type(arguments[1])
        return None if inner is None else _values(inner)
    return None


def _optional(inner: Convert) -> Convert:
    return lambda value: None if value is None else inner(value)


def _items(kind: Convert, inner: Convert) -> Convert:
    return lambda value: kind([inner(item) for item in value])


def _values(inner: Convert) -> Convert:
    return lambda value: {key: inner(item) for key, item in value.items()}


def _maker(cls: Any) -> Convert:
    """
    What makes a value of all its fields; without slots there is no need to
    go through C{__init__}.
    """
    if "__slots__" in cls.__dict__:
        return lambda fields: cls(**fields)
    new, state = object.__new__, object.__setattr__

    def make(fields: dict[str, Any]) -> Any:
        made = new(cls)
        state(made, "__dict__", fields)
        return made

    return make
