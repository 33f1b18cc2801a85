"""
Flows that the kernel follows: ended when an address they are of is no longer
somebody's, so that the next to have it does not inherit them.

Nothing but the tool C{conntrack} (Debian's package of that name) can end flows;
without it they end by themselves, minutes or, for idle TCP, days later.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger

from fabric.command import NOT_THERE, Commands, Finished
from fabric.network.linux.host import HostNetwork

Side = tuple[str, str]
"""An address, and which end of a flow it is: an option of the tool."""


class Conntrack:
    """
    The tool.
    """

    log = Logger()

    def __init__(self, reactor: Any, command: Sequence[str] = ("conntrack",)) -> None:
        """
        @param command: what runs C{conntrack}.
        """
        self._commands = Commands(reactor)
        self._command = tuple(command)

    @inlineCallbacks
    def forget(self, sides: Iterable[Side]) -> Generator[Deferred[Any], Any, None]:
        """
        End the flows of which an address is such an end, by one process for
        all.  Nothing where there are none, or the tool is not there.
        """
        ends = list(sides)
        if not ends:
            return
        text = "".join(f"-D {side} {address}\n" for address, side in ends)
        done: Finished = yield self._commands.run((*self._command, "--load-file", "-"), text.encode())
        if done.status in (0, NOT_THERE):
            return
        self.log.info("conntrack takes no list, so flows are ended one by one: {why}", why=done.complaint)
        for address, side in ends:
            yield self._commands.run((*self._command, "-D", side, address))


def parted(before: HostNetwork, after: HostNetwork) -> HostNetwork:
    """
    @return: what a host is to have, with all whose flows are to end because of
        it, or were to end already.
    """
    ending = dict.fromkeys((*before.ending, *after.ending, *forgotten(before, after)))
    return attrs.evolve(after, ending=tuple(ending)) if tuple(ending) != after.ending else after


def forgotten(before: HostNetwork, after: HostNetwork) -> list[Side]:
    """
    @return: whose flows are to end: what ports and floating addresses that
        went, or lead elsewhere, began and answered.
    """
    held = {(port.network, port.address): mac for mac, port in after.ports.items()}
    ports = {
        port.address
        for mac, port in before.ports.items()
        if after.ports.get(mac) is not port and held.get((port.network, port.address)) != mac
    }
    floating = {
        public
        for public, old in before.floating.items()
        if public not in after.floating or after.floating[public].private != old.private
    }
    return [
        *((address, side) for address in sorted(ports) for side in ("--orig-src", "--reply-src")),
        *((address, side) for address in sorted(floating) for side in ("--orig-dst", "--reply-dst")),
    ]
