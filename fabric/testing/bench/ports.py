"""
The cell of a host's network: what one more port costs, beside how many there are.

Needs root, for namespaces: a host in one, and a guest with a real tap in each other.
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

COUNT = 200
FEW = 20
"""Ports over which the median is taken, at the start and at the end."""

NETWORK = NetworkOrder("net-0000000000000000f", "10.0.0.0/16", "10.0.0.1", "flatdhcp", "br100")
GROUP = GroupOrder("sg-0000000000000000f", 1, (RuleOrder(False, "tcp", 22, 22, "0.0.0.0/0"),))
FIRST = f"ms to add one port, median of the first {FEW}"
LAST = f"ms to add one port, median of the last {FEW} of {COUNT}"
AGAIN = f"ms to plug a port again, of {COUNT}"
BURST = "ms a port, 50 added at once"
LEASE = f"ms from asking to having a lease, guest {COUNT}"


def measure(results: Results, reactor: Any, say: Callable[[str], None]) -> None:
    """
    Add ports, one after the other, as launches do: the network is expressed,
    then the port is plugged, then there is a tap.  Blocks.
    """
    call: Any = blockingCallFromThread
    with tempfile.TemporaryDirectory(prefix="fabric-ports-") as directory:
        host = LinuxHost(reactor, directory)
        driver = host.driver()
        try:
            host.make()
            call(reactor, driver.start)
            call(reactor, driver.apply_groups, [GROUP])
            _add_all(results, reactor, host, driver, say)
        finally:
            call(reactor, driver.stop)
            host.remove()


def judge(results: Results) -> Iterator[Verdict]:
    """What was promised."""
    first, last = results.facts.get(FIRST), results.facts.get(LAST)
    yield Verdict(LAST, last, 50.0)
    growth = last / first if first and last else None
    yield Verdict(f"the last {FEW} ports of {COUNT} beside the first", growth, 1.5)


def _add_all(results: Results, reactor: Any, host: LinuxHost, driver: LinuxNetwork, say: Callable[[str], None]) -> None:
    call: Any = blockingCallFromThread
    took = []
    for number in range(COUNT):
        port = _plug(number)
        began = time.perf_counter()
        call(reactor, driver.express, NETWORK)
        call(reactor, driver.plug, [port])
        took.append((time.perf_counter() - began) * 1e3)
        guest = NetnsGuest(host.namespaces, host.name, f"g{number}", port.mac)
        guest.plug(NETWORK.bridge)
        if number % 50 == 49:
            say(f"  {number + 1} ports")
    began = time.perf_counter()
    if not guest.leases():
        raise RuntimeError("the last guest got no address")
    results.facts[LEASE] = (time.perf_counter() - began) * 1e3
    results.facts[FIRST], results.facts[LAST] = statistics.median(took[:FEW]), statistics.median(took[-FEW:])
    began = time.perf_counter()
    call(reactor, driver.plug, [_plug(7)])
    results.facts[AGAIN] = (time.perf_counter() - began) * 1e3
    began = time.perf_counter()
    call(reactor, _burst, driver)
    results.facts[BURST] = (time.perf_counter() - began) * 1e3 / 50


def _burst(driver: LinuxNetwork) -> Any:
    for number in range(COUNT, COUNT + 49):
        driver.express(NETWORK)
        driver.plug([_plug(number)])
    return driver.plug([_plug(COUNT + 49)])


def _plug(number: int) -> Plug:
    address = f"10.0.{(number + 10) // 256}.{(number + 10) % 256}"
    mac = f"02:16:3e:01:{number // 256:02x}:{number % 256:02x}"
    return Plug(f"i-{number:017x}", NETWORK.id, mac, address, "ip-" + address.replace(".", "-"), (GROUP.id,))
