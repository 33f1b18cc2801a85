"""
The network worker: what guests on one host are connected to.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger
from zope.interface import implementer

from fabric.faults import IFaults, NoFaults
from fabric.model.codec import decode, encode
from fabric.network.interface import INetworkDriver, INetworkWorker, NetworkOrder, Plug
from fabric.network.managers import express
from fabric.rpc.interface import Context

NOBODY = Context()
"""The context of work that no message asked for."""


@implementer(INetworkWorker)
class NetworkWorker:
    """
    See L{INetworkWorker}.  The driver's typed errors are the caller's.
    """

    log = Logger()

    def __init__(self, driver: INetworkDriver, faults: IFaults | None = None) -> None:
        self._driver = driver
        self._faults = faults or NoFaults()

    @inlineCallbacks
    def attach(
        self, networks: list[dict[str, Any]], ports: list[dict[str, Any]], context: Context = NOBODY
    ) -> Generator[Deferred[Any], Any, None]:
        """See L{INetworkWorker.attach}."""
        plugs = [decode(Plug, port) for port in ports]
        for network in networks:
            yield express(self._driver, decode(NetworkOrder, network))
        self._faults.reach("network.expressed")
        yield self._driver.plug(plugs)
        self._faults.reach("network.plugged")
        self.log.debug("{request_id}: {count} ports plugged", request_id=context.request_id, count=len(plugs))

    @inlineCallbacks
    def detach(self, instances: list[str], context: Context = NOBODY) -> Generator[Deferred[Any], Any, None]:
        """See L{INetworkWorker.detach}."""
        yield self._driver.unplug(instances)
        self._faults.reach("network.unplugged")
        self.log.debug("{request_id}: {count} machines unplugged", request_id=context.request_id, count=len(instances))

    @inlineCallbacks
    def describe_ports(self, context: Context = NOBODY) -> Generator[Deferred[Any], Any, list[dict[str, Any]]]:
        """See L{INetworkWorker.describe_ports}."""
        ports = yield self._driver.ports()
        return [encode(port) for port in ports]
