"""
Orders that can't be made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from fabric.cloud.orders import Orders, machine, network_order
from fabric.compute.orders import network_orders
from fabric.errors import Unavailable
from fabric.model.codec import encode
from fabric.model.flavor import BUILT_IN
from fabric.model.instance import Instance, Port
from fabric.model.network import Network


class NoNetworks:
    """
    Networks of a store that does not answer.
    """

    def by_id(self, ids: Sequence[str]) -> Deferred[Any]:
        """It can't be known."""
        return fail(Unavailable("redis", "the connection was lost"))


class OrderTests(SynchronousTestCase):
    """
    L{Orders} whose Deferreds nobody waits for.
    """

    def test_unknown_networks(self) -> None:
        """An order whose network can't be read is not sent, said, and no failure."""
        port = Port("net-1", "02:00:00:00:00:01", "10.0.0.2", "ip-10-0-0-2")
        instance = Instance(
            "i-1", "apples", "r-1", 0, "ami-1", BUILT_IN["m1.tiny"], 0.0, 0.0, host="node1", ports=(port,)
        )
        nothing: Any = NoNetworks()
        orders = Orders(nothing, nothing)
        for send in (orders.run, orders.reboot):
            self.assertIsNone(self.successResultOf(send("req", [instance])))


class NetworkTests(SynchronousTestCase):
    """
    What a host is told of a network.
    """

    def test_alike(self) -> None:
        """A launch tells it what the controller tells it by itself: no part of a network comes and goes."""
        network = Network(
            "net-1",
            "private",
            "10.0.0.0/24",
            "10.0.0.1",
            "flatdhcp",
            vlan=7,
            dns=("10.0.0.9",),
            domain="example",
            cidr_v6="fd00::/64",
        )
        port = Port("net-1", "02:00:00:00:00:01", "10.0.0.2", "ip-10-0-0-2")
        instance = Instance(
            "i-1", "apples", "r-1", 0, "ami-1", BUILT_IN["m1.tiny"], 0.0, 0.0, host="node1", ports=(port,)
        )
        order = machine(instance, {"net-1": network})
        networks, _ = network_orders([order])
        self.assertEqual(networks, [encode(network_order(network))])
