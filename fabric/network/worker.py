"""
The network worker: what guests on one host are connected to.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from fabric.cloud.interface import ICloudWorker
from fabric.faults import IFaults, NoFaults
from fabric.model.codec import decode, encode
from fabric.network.groups import HostGroups
from fabric.network.interface import (
    Floating,
    FloatingReport,
    GroupOrder,
    INetworkDriver,
    INetworkWorker,
    NetworkOrder,
    Plug,
)
from fabric.network.managers import express
from fabric.rpc.interface import Address, Context, IQueue
from fabric.timeouts import in_time
from fabric.turns import Turns

REPORT_WAIT = 3600.0
"""Seconds for which a report may wait in the queue; the controller orders again before."""

DRIVER_SECONDS = 120.0
"""How long the driver may take before a machine's next order has its turn."""

WHO = "the network"

NOBODY = Context()
"""The context of work that no message asked for."""


@implementer(INetworkWorker)
class NetworkWorker:
    """
    See L{INetworkWorker}.  The driver's typed errors are the caller's.

    Orders about one machine's ports are carried out one after the other, also
    when their callers have given up: what was slow can't undo what came after.
    """

    log = Logger()

    def __init__(
        self,
        driver: INetworkDriver,
        clock: IReactorTime,
        faults: IFaults | None = None,
        host: str = "",
        queue: IQueue | None = None,
    ) -> None:
        """
        @param host: for which it reports.
        @param queue: by which it reports; without one it does not.
        """
        self._driver = driver
        self._clock = clock
        self._turns = Turns(clock)
        self._faults = faults or NoFaults()
        self._host = host
        self._queue = queue
        self._one_by_one = DeferredLock()
        self._last: dict[str, int] = {}
        self._groups = HostGroups(driver, self._faults)
        self._used: set[str] | None = None

    def attach(
        self, networks: list[dict[str, Any]], ports: list[dict[str, Any]], context: Context = NOBODY
    ) -> Deferred[None]:
        """See L{INetworkWorker.attach}."""
        plugs = [decode(Plug, port) for port in ports]
        orders = [decode(NetworkOrder, network) for network in networks]
        instances = {plug.instance for plug in plugs}
        return self._turns.run_all(instances, partial(self._attach, orders, plugs, context))

    def detach(self, instances: list[str], context: Context = NOBODY) -> Deferred[None]:
        """See L{INetworkWorker.detach}."""
        return self._turns.run_all(set(instances), partial(self._detach, instances, context))

    @inlineCallbacks
    def _attach(
        self, networks: list[NetworkOrder], plugs: list[Plug], context: Context
    ) -> Generator[Deferred[Any], Any, None]:
        if self._used is not None:
            self._used.update(network.id for network in networks)
        for network in networks:
            yield in_time(express(self._driver, network), DRIVER_SECONDS, self._clock, WHO)
        self._faults.reach("network.expressed")
        yield in_time(self._driver.plug(self._groups.latest(plugs)), DRIVER_SECONDS, self._clock, WHO)
        self._faults.reach("network.plugged")
        self.log.debug("{request_id}: {count} ports plugged", request_id=context.request_id, count=len(plugs))

    @inlineCallbacks
    def _detach(self, instances: list[str], context: Context) -> Generator[Deferred[Any], Any, None]:
        yield in_time(self._driver.unplug(instances), DRIVER_SECONDS, self._clock, WHO)
        self._groups.forget(instances)
        self._faults.reach("network.unplugged")
        self.log.debug("{request_id}: {count} machines unplugged", request_id=context.request_id, count=len(instances))

    def associate(self, floating: list[dict[str, Any]], context: Context = NOBODY) -> Deferred[None]:
        """See L{INetworkWorker.associate}."""
        wanted = {each.public: each for each in (decode(Floating, item) for item in floating)}
        return self._one_by_one.run(self._associate, wanted, context)

    def disassociate(self, addresses: list[dict[str, Any]], context: Context = NOBODY) -> Deferred[None]:
        """See L{INetworkWorker.disassociate}."""
        unwanted = {each["public"]: each["order"] for each in addresses}
        return self._one_by_one.run(self._disassociate, unwanted, context)

    @inlineCallbacks
    def adopt(self) -> Generator[Deferred[Any], Any, None]:
        """
        Tell the controller what floating addresses and ports are here, and so
        be told all that should be.
        """
        if self._queue is None:
            return
        floating = yield self._driver.floating()
        cloud = self._queue.caster(ICloudWorker, Address("cloud"), Context(seconds=REPORT_WAIT))
        yield cloud.adopt_network(self._host, [encode(each) for each in floating])
        ports = yield self._driver.ports()
        if ports:
            yield cloud.report_ports(self._host, sorted({port.instance for port in ports}))

    @inlineCallbacks
    def tidy(self) -> Generator[Deferred[Any], Any, None]:
        """
        Have nothing of networks that nobody here is in, and that no launch has
        asked for since this was last called.
        """
        first = self._used is None
        used: set[str] = self._used or set()
        self._used = used
        ports = yield self._driver.ports()
        networks = yield self._driver.networks()
        occupied = {port.network for port in ports}
        for network in networks:
            if not first and network.id not in occupied and network.id not in used:
                self.log.info("Network {network} is not used here any more", network=network.id)
                yield self._driver.retire(network.id)
        self._used = set()

    @inlineCallbacks
    def _associate(self, wanted: Mapping[str, Floating], context: Context) -> Generator[Deferred[Any], Any, None]:
        news = yield self._news({public: each.order for public, each in wanted.items()})
        yield self._driver.associate([wanted[public] for public in news])
        self._faults.reach("network.associated")
        yield self._report(news, True, context)

    @inlineCallbacks
    def _disassociate(self, unwanted: Mapping[str, int], context: Context) -> Generator[Deferred[Any], Any, None]:
        news = yield self._news(unwanted)
        yield self._driver.disassociate(list(news))
        self._faults.reach("network.disassociated")
        yield self._report(news, False, context)

    @inlineCallbacks
    def _news(self, orders: Mapping[str, int]) -> Generator[Deferred[Any], Any, dict[str, int]]:
        """
        @return: those that are not older than the last about the same address.
        """
        present = yield self._driver.floating()
        for each in present:
            self._last[each.public] = max(each.order, self._last.get(each.public, 0))
        news = {public: order for public, order in orders.items() if order >= self._last.get(public, 0)}
        self._last.update(news)
        return news

    @inlineCallbacks
    def _report(
        self, orders: Mapping[str, int], present: bool, context: Context
    ) -> Generator[Deferred[Any], Any, None]:
        self.log.debug(
            "{request_id}: floating addresses {addresses} are {state}",
            request_id=context.request_id,
            addresses=", ".join(orders),
            state="here" if present else "not here",
        )
        if orders and self._queue is not None:
            reports: Sequence[dict[str, Any]] = [
                encode(FloatingReport(public, order, present)) for public, order in orders.items()
            ]
            cloud = self._queue.caster(ICloudWorker, Address("cloud"), Context(context.request_id, REPORT_WAIT))
            yield cloud.report_addresses(self._host, reports)
            self._faults.reach("network.reported")

    def apply_groups(self, groups: list[dict[str, Any]], whole: int, context: Context = NOBODY) -> Deferred[None]:
        """See L{INetworkWorker.apply_groups}."""
        return self._groups.apply([decode(GroupOrder, group) for group in groups], whole, context.request_id)

    def regroup(self, ports: list[dict[str, Any]], context: Context = NOBODY) -> Deferred[None]:
        """See L{INetworkWorker.regroup}."""
        orders = {port["instance"]: (port["order"], tuple(port["groups"])) for port in ports}
        return self._turns.run_all(orders, partial(self._groups.regroup, orders, context.request_id))

    @inlineCallbacks
    def describe_groups(self, context: Context = NOBODY) -> Generator[Deferred[Any], Any, list[dict[str, Any]]]:
        """See L{INetworkWorker.describe_groups}."""
        groups = yield self._driver.groups()
        return [encode(group) for group in groups]

    @inlineCallbacks
    def describe_floating(self, context: Context = NOBODY) -> Generator[Deferred[Any], Any, list[dict[str, Any]]]:
        """See L{INetworkWorker.describe_floating}."""
        floating = yield self._driver.floating()
        return [encode(each) for each in floating]

    @inlineCallbacks
    def describe_ports(self, context: Context = NOBODY) -> Generator[Deferred[Any], Any, list[dict[str, Any]]]:
        """See L{INetworkWorker.describe_ports}."""
        ports = yield self._driver.ports()
        return [encode(port) for port in ports]
