"""
Admin actions: methods whose annotations are the check of what is sent.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred

from fabric.cloud.access import Caller
from fabric.errors import InvalidValue

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "_admin_action"

_LARGEST = 1 << 53
"""Above it state would not keep a number as it is."""

_WORDS = {str: "text", int: "a whole number", bool: "true or false"}


def action(method: F) -> F:
    """
    Mark a method as the admin action of its name.

    It takes the L{Caller}, then keyword arguments of the types C{str},
    C{int}, C{bool}, C{list[str]} or C{dict[str, int]}, or one of these and
    None; it returns a Deferred of what JSON can hold.
    """
    setattr(method, _MARK, True)
    return method


@attrs.frozen
class Action:
    """
    One action, ready to be called with what a client sent.

    @ivar hints: the type of each parameter.
    @ivar required: parameters without a default.
    """

    name: str
    handler: Callable[..., Deferred[Any]]
    hints: Mapping[str, Any]
    required: frozenset[str]

    def __call__(self, caller: Caller, parameters: Mapping[str, Any]) -> Deferred[Any]:
        """
        @raise InvalidValue: a parameter is unknown, missing or of another type.
        """
        for name, value in parameters.items():
            if name not in self.hints:
                raise InvalidValue(name, "", f"{self.name} has no such parameter")
            if not _is(value, self.hints[name]):
                raise InvalidValue(name, "", f"must be {_told(self.hints[name])}")
        for name in sorted(self.required - set(parameters)):
            raise InvalidValue(name, "", f"{self.name} needs it")
        return self.handler(caller, **parameters)


def actions(owners: Iterable[object]) -> dict[str, Action]:
    """
    The marked methods of some objects, by name.
    """
    found: dict[str, Action] = {}
    for owner in owners:
        for name, method in inspect.getmembers(owner, inspect.ismethod):
            if getattr(method, _MARK, False):
                found[name] = _compiled(name, method)
    return found


def _compiled(name: str, method: Any) -> Action:
    hints = typing.get_type_hints(method)
    signature = list(inspect.signature(method).parameters.values())[1:]
    required = frozenset(each.name for each in signature if each.default is inspect.Parameter.empty)
    return Action(name, method, {each.name: hints[each.name] for each in signature}, required)


def _is(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, argument) for argument in arguments)
    if origin is list:
        return isinstance(value, list) and all(_is(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(item, arguments[1]) for item in value.values())
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST
    return isinstance(value, hint)


def _told(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_told(argument) for argument in arguments if argument is not type(None))
    if origin is list:
        return "a list, each of which is " + _told(arguments[0])
    if origin is dict:
        return "an object, each value of which is " + _told(arguments[1])
    return _WORDS.get(hint, str(hint))
