"""
What an HTTP door is, and what it gets to answer with.

One listening port has one table of doors by path (L{fabric.api.site.Site}).
The site reads requests whole, within its limits; a door is given one that is
complete and answers it, now or later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface


class IExchange(Interface):
    """
    One request and the way to its answer.
    """

    method: str = Attribute("As C{POST}.")
    path: str = Attribute("Without the query, still escaped.")
    query: bytes = Attribute("What follows C{?}, still escaped.")
    body: bytes = Attribute("The whole body.")
    headers: dict[str, str] = Attribute("By lower-case name; several of a name are joined by commas.")
    request_id: str = Attribute("Also sent back as C{x-amzn-RequestId}.")
    peer: str = Attribute("The client's address.")
    gone: bool = Attribute("Whether the client has left.")
    status: int = Attribute("Of the answer; 0 while there is none.")

    def answer(status: int, body: bytes, content_type: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """
        Send a whole answer.  Nothing when the client is gone.
        """

    def stream(status: int, chunks: Iterator[Any], content_type: bytes) -> Deferred[None]:
        """
        Send an answer in pieces, as fast as the client takes them and letting
        others have the reactor between two.

        @param chunks: gives bytes, or Deferreds of bytes; only as many are
            asked for as were sent.
        @return: fires when all is sent or the client is gone.  When a chunk
            fails the connection is aborted, so that no client takes half an
            answer for a whole one, and the Deferred fails likewise.
        """

    def limit_hops(hops: int) -> None:
        """
        Let no packet of this connection go further than so many hops from now on,
        where it goes by packets.
        """

    def when_gone(act: Callable[[], None]) -> None:
        """
        Call C{act} if the client leaves before the answer is sent.
        """


class IDoor(Interface):
    """
    Answers the requests below some paths.
    """

    def handle(exchange: Any) -> None:
        """
        Answer an L{IExchange}, now or later.  Never raises.
        """

    def refuse(exchange: Any, status: int, why: str) -> None:
        """
        Answer that the request broke a limit of HTTP, in the door's own form:
        413 for a body too long.
        """
