"""
Flows that the kernel follows: ended when an address they are of is no longer
somebody's, so that the next to have it does not inherit them.

Nothing but the tool C{conntrack} (Debian's package of that name) can end flows;
without it they end by themselves, minutes or, for idle TCP, days later.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.network.linux.host import HostNetwork
from fabric.network.linux.nft import Tool

_SIDES = ("--orig-src", "--orig-dst", "--reply-src", "--reply-dst")


class Conntrack:
    """
    The tool.
    """

    def __init__(self, reactor: Any, command: Sequence[str] = ("conntrack",)) -> None:
        """
        @param command: what runs C{conntrack}.
        """
        self._tool = Tool(reactor, command)

    @inlineCallbacks
    def forget(self, addresses: Iterable[str]) -> Generator[Deferred[Any], Any, None]:
        """
        End the flows that these addresses are an end of, translated or not.
        Nothing for addresses without any, and where the tool is not there.
        """
        for address in addresses:
            for side in _SIDES:
                yield self._tool.run(("-D", side, address), quiet=True)


def forgotten(before: HostNetwork, after: HostNetwork) -> list[str]:
    """
    @return: addresses whose flows are to end: of ports and floating addresses
        that went or lead elsewhere.
    """
    held = {(port.network, port.address): mac for mac, port in after.ports.items()}
    ports = [
        port.address
        for mac, port in before.ports.items()
        if after.ports.get(mac) is not port and held.get((port.network, port.address)) != mac
    ]
    floating = []
    for public, old in before.floating.items():
        new = after.floating.get(public)
        if new is not old and (new is None or new.private != old.private):
            floating.append(public)
    return sorted({*ports, *floating})
