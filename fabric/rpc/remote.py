"""
Remotes: objects that provide a worker's interface and send its calls away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.interface import InterfaceClass, Method

Send = Callable[[str, dict[str, Any]], Deferred[Any]]
"""Sends a method's name and its arguments by name."""


@attrs.frozen
class Signature:
    """
    The arguments that an interface declares for a method.
    """

    names: tuple[str, ...]
    required: frozenset[str]
    allowed: frozenset[str]


def signatures(interface: InterfaceClass) -> dict[str, Signature]:
    """
    The signature of every method that the interface declares or inherits.

    @raise TypeError: one can't be sent by name: it takes C{*args} or
        C{**kwargs}, or an argument called C{context}, which the queue adds.
    """
    return {
        name: _signature(interface, name, element)
        for name, element in interface.namesAndDescriptions(all=True)
        if isinstance(element, Method)
    }


def _signature(interface: InterfaceClass, name: str, method: Method) -> Signature:
    info = method.getSignatureInfo()
    names = tuple(info["positional"])
    if info["varargs"] or info["kwargs"] or "context" in names:
        raise TypeError(f"{interface.__name__}.{name} can't be called over a queue")
    return Signature(names, frozenset(info["required"]), frozenset(names))


class Remotes:
    """
    Makes remotes; builds the class for an interface once.
    """

    def __init__(self) -> None:
        self._classes: dict[InterfaceClass, type[_Remote]] = {}

    def remote(self, interface: InterfaceClass, send: Send) -> Any:
        """
        @return: a provider of C{interface} whose methods return what C{send}
            returns.  A call that does not fit the interface raises TypeError.
        """
        try:
            cls = self._classes[interface]
        except KeyError:
            cls = self._classes[interface] = _build(interface)
        return cls(send)


class _Remote:
    """
    What the classes for all interfaces have in common.
    """

    __slots__ = ("_send",)

    def __init__(self, send: Send) -> None:
        self._send = send


def _build(interface: InterfaceClass) -> type[_Remote]:
    members: dict[str, Any] = {"__slots__": (), "__doc__": f"A remote {interface.__name__}."}
    for name, signature in signatures(interface).items():
        members[name] = _method(name, signature)
    cls = type(f"Remote{interface.__name__}", (_Remote,), members)
    implementer(interface)(cls)
    return cls


def _method(name: str, signature: Signature) -> Callable[..., Deferred[Any]]:
    """
    A method that names its arguments as the interface does, and sends them.
    """
    names, required, allowed = signature.names, signature.required, signature.allowed

    def method(self: _Remote, *args: Any, **kwargs: Any) -> Deferred[Any]:
        if args:
            given = dict(zip(names, args, strict=False))
            if len(args) > len(names) or not given.keys().isdisjoint(kwargs):
                raise TypeError(f"{name}() got too many values for {', '.join(names)}")
            kwargs.update(given)
        if not (kwargs.keys() <= allowed and required <= kwargs.keys()):
            wrong = sorted((kwargs.keys() - allowed) | (required - kwargs.keys()))
            raise TypeError(f"{name}() takes {', '.join(names) or 'nothing'}; missing or unknown: {', '.join(wrong)}")
        return self._send(name, kwargs)

    method.__name__ = name
    return method
