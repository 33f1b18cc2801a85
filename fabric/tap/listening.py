"""
Steps that listen at an endpoint.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from fabric.tap.start import Refusal, Step


class Listening:
    """
    A factory at an endpoint.

    @ivar port: the port, once it listens.
    """

    port: IListeningPort

    def __init__(self, reactor: Any, description: str, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._description = description
        self._factory = factory

    def step(self, name: str) -> Step:
        """
        @return: the step that listens, and then does not.
        """
        return Step(name, self._start, self._stop)

    def _start(self) -> Deferred[None]:
        try:
            endpoint = serverFromString(self._reactor, self._description)
        except (ValueError, TypeError) as failure:
            raise Refusal(f"{self._description} is no endpoint: {failure}") from None
        listening: Deferred[IListeningPort] = endpoint.listen(self._factory)
        return listening.addCallback(self._listens)

    def _listens(self, port: IListeningPort) -> None:
        self.port = port

    def _stop(self) -> Any:
        return self.port.stopListening()
