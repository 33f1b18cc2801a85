"""
What the object store's server and what it serves know of each other.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from zope.interface import Attribute, Interface


class IHandler(Interface):
    """
    One request's answer.
    """

    def received(data: bytes) -> None:
        """A part of the body came."""

    def whole() -> None:
        """All of the request came; only now may it be answered."""

    def lost() -> None:
        """The client left before it was answered."""


class IRequest(Interface):
    """
    One request, as far as handlers need it.
    """

    verb = Attribute("The method, a C{str}.")
    place = Attribute("The path, a C{str}, still quoted.")
    asked = Attribute("The query, a C{str}.")
    length = Attribute("Bytes of the body; None when the client does not say.")
    gone = Attribute("Whether the client left.")

    def header(name: str) -> str:
        """A header's value; empty without one."""

    def hold() -> None:
        """Take no more of the body until L{go_on}."""

    def go_on() -> None:
        """Take more of the body."""

    def unless_idle(act: Callable[[], None]) -> IDelayedCall:
        """Call C{act} after the time that a connection may be idle, unless that is cancelled."""

    def loseConnection() -> None:
        """Break off at once."""

    def reply(status: int, body: bytes, headers: dict[str, str]) -> None:
        """Answer in one piece; nothing when the client left."""

    def begin(status: int, headers: dict[str, str]) -> None:
        """Answer in pieces, by C{write} and C{finish}; C{headers} say how long it is."""
