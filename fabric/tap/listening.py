"""
Steps that listen at an endpoint.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString

from fabric.tap.start import Refusal, Step


def advertised(description: str, url: str = "", port: int | None = None) -> str:
    """
    The URL of a server endpoint, as clients on this machine would use it.

    @param description: of a C{tcp:} or C{ssl:} endpoint.
    @param url: what it was set to, if it was.
    @param port: the one that was really got, where the description says 0.
    @return: without a slash at the end.
    """
    if url:
        return url.rstrip("/")
    kind, host, place = bound(description)
    number = port or place
    if host in ("", "0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"{'https' if kind == 'ssl' else 'http'}://{f'[{host}]' if ':' in host else host}:{number}"


def bound(description: str) -> tuple[str, str, str]:
    """
    What a server endpoint is, where the description says so.

    @return: its kind, the address of its interface and its port; an empty
        address for any, an empty port for one that has none, as a socket's.
    """
    kind, *arguments = [part.replace("\0", ":") for part in description.replace("\\:", "\0").split(":")]
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    places = [argument for argument in arguments if "=" not in argument]
    return kind, named.get("interface", ""), named.get("port") or (places[0] if places else "")


class Listening:
    """
    A factory at an endpoint.

    @ivar port: the port, once it listens.
    """

    port: Any

    def __init__(self, reactor: Any, description: str, factory: Any) -> None:
        self._reactor = reactor
        self._description = description
        self._factory = factory

    def step(self, name: str) -> Step:
        """
        @return: the step that listens, and then does not.
        """
        return Step(name, self._listen, self._stop)

    def claim(self) -> Step:
        """
        @return: a step before all others: it takes the port, so that one that
            is taken is found out at once, but lets clients wait.
        """
        return Step("port", lambda: self._listen().addCallback(lambda _: self.port.stopReading()), self._stop)

    def open(self, name: str) -> Step:
        """
        @return: the step that lets clients in after L{claim}.
        """
        return Step(name, lambda: self.port.startReading(), lambda: self.port.stopReading())

    def url(self, wanted: str = "") -> str:
        """
        The URL at which it listens.

        @param wanted: what it is to be instead.
        """
        return advertised(self._description, wanted, getattr(self.port.getHost(), "port", None))

    def _listen(self) -> Deferred[None]:
        try:
            endpoint = serverFromString(self._reactor, self._description)
        except (ValueError, TypeError, KeyError) as failure:
            raise Refusal(f"{self._description} is no endpoint: {failure}") from None
        listening: Deferred[Any] = endpoint.listen(self._factory)
        return listening.addCallback(self._listens)

    def _listens(self, port: Any) -> None:
        self.port = port

    def _stop(self) -> Any:
        return self.port.stopListening()
