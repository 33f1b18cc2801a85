"""
The cell of a host's network: what one more port costs, beside how many there are.

Two hosts, one with few ports and one with many, are given more by turns: so both
are measured on the same machine, however busy it is at the moment.  Needs root,
for namespaces: each host in one, and each guest with a real tap in another.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.threads import blockingCallFromThread

from fabric.network.interface import GroupOrder, NetworkOrder, Plug, RuleOrder
from fabric.network.linux.driver import LinuxNetwork
from fabric.testing.bench.report import Results, Verdict
from fabric.testing.guests import NetnsGuest
from fabric.testing.linux import LinuxHost
from fabric.testing.namespaces import Namespaces

COUNT = 200
FEW = 20
"""Ports of the smaller host, and ports that both are given to be measured."""

NETWORK = NetworkOrder("net-0000000000000000f", "10.0.0.0/16", "10.0.0.1", "flatdhcp", "br100")
GROUP = GroupOrder("sg-0000000000000000f", 1, (RuleOrder(False, "tcp", 22, 22, "0.0.0.0/0"),))
FIRST = f"ms to add one port beside {FEW} and more, median of {FEW}"
LAST = f"ms to add one port beside {COUNT - FEW} and more, median of {FEW}"
AGAIN = f"ms to plug a port again, of {COUNT}"
BURST = "ms a port, 50 added at once"
LEASE = f"ms from asking to having a lease, guest {COUNT}"


def measure(results: Results, reactor: Any, say: Callable[[str], None]) -> None:
    """
    Add ports, one after the other, as launches do: the network is expressed,
    then the port is plugged, then there is a tap.  Blocks.
    """
    namespaces = Namespaces()
    with tempfile.TemporaryDirectory(prefix="fabric-ports-") as directory:
        hosts = [_Crowded(reactor, f"{directory}/{name}", namespaces, name) for name in ("few", "many")]
        try:
            for host, count in zip(hosts, (FEW, COUNT - FEW), strict=True):
                host.start()
                while len(host.took) < count:
                    host.add()
                say(f"  {count} ports on one host")
            for _ in range(FEW):
                for host in hosts:
                    host.add()
            for host, fact in zip(hosts, (FIRST, LAST), strict=True):
                results.facts[fact] = statistics.median(host.took[-FEW:])
            hosts[1].more(results)
        finally:
            for host in hosts:
                host.stop()
            namespaces.remove()


def judge(results: Results) -> Iterator[Verdict]:
    """What was promised."""
    first, last = results.facts.get(FIRST), results.facts.get(LAST)
    yield Verdict(LAST, last, 50.0)
    growth = last / first if first and last else None
    yield Verdict(f"one port beside {COUNT - FEW} and more, over one beside {FEW} and more", growth, 1.2)


class _Crowded:
    """
    A host and its guests.

    @ivar took: milliseconds for each port.
    """

    def __init__(self, reactor: Any, directory: str, namespaces: Namespaces, name: str) -> None:
        self._reactor = reactor
        self._host = LinuxHost(reactor, directory, namespaces, name)
        self._driver = self._host.driver()
        self._guest: NetnsGuest | None = None
        self.took: list[float] = []

    def start(self) -> None:
        """Have it, without a port."""
        self._host.make()
        self._call(self._driver.start)
        self._call(self._driver.apply_groups, [GROUP])

    def stop(self) -> None:
        """End it."""
        self._call(self._driver.stop)
        self._host.end()

    def add(self) -> None:
        """One port more, then a guest there."""
        port = _plug(len(self.took))
        self.took.append(self._timed(self._call, self._add, port))
        self._guest = NetnsGuest(self._host.namespaces, self._host.name, f"{self._host.name}{len(self.took)}", port.mac)
        self._guest.plug(NETWORK.bridge)

    def more(self, results: Results) -> None:
        """A lease, a port that is there, and many at once."""
        guest = self._guest
        assert guest is not None
        results.facts[LEASE] = self._timed(_lease, guest)
        results.facts[AGAIN] = self._timed(self._call, self._driver.plug, [_plug(7)])
        results.facts[BURST] = self._timed(self._call, _burst, self._driver) / 50

    def _add(self, port: Plug) -> Any:
        return self._driver.express(NETWORK).addCallback(lambda _: self._driver.plug([port]))

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return blockingCallFromThread(self._reactor, function, *arguments)

    def _timed(self, function: Callable[..., Any], *arguments: Any) -> float:
        """@return: milliseconds."""
        began = time.perf_counter()
        function(*arguments)
        return (time.perf_counter() - began) * 1e3


def _lease(guest: NetnsGuest) -> None:
    if not guest.leases():
        raise RuntimeError("the last guest got no address")


def _burst(driver: LinuxNetwork) -> Any:
    for number in range(COUNT, COUNT + 49):
        driver.express(NETWORK)
        driver.plug([_plug(number)])
    return driver.plug([_plug(COUNT + 49)])


def _plug(number: int) -> Plug:
    address = f"10.0.{(number + 10) // 256}.{(number + 10) % 256}"
    mac = f"02:16:3e:01:{number // 256:02x}:{number % 256:02x}"
    return Plug(f"i-{number:017x}", NETWORK.id, mac, address, "ip-" + address.replace(".", "-"), (GROUP.id,))
