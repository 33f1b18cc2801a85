"""
Who gets which address of a host: the files of its DHCP servers, kept as its
ports are.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger

from fabric.errors import DriverFailure, FabricError
from fabric.network.interface import NetworkOrder, Plug
from fabric.network.linux.dhcp import Lines, Server, lost, server
from fabric.network.linux.dnsmasq import Dnsmasqs
from fabric.network.linux.links import Links
from fabric.network.linux.statefile import write_whole

InThread = Callable[..., Deferred[Any]]


class Leases:
    """
    The DHCP servers, their files, and the release of what they gave.
    """

    log = Logger()

    def __init__(self, directory: str, servers: Dnsmasqs, links: Links, mtu: int) -> None:
        """
        @param directory: of the files; made when need be.
        @param mtu: of guests.
        """
        self._directory = os.path.abspath(directory)
        self._servers = servers
        self._links = links
        self._mtu = mtu
        self._user = "root" if os.geteuid() == 0 else ""
        self._served: dict[str, tuple[NetworkOrder, dict[str, Plug]]] = {}
        self._lines: dict[str, Lines] = {}
        self._unread: set[str] = set()

    @inlineCallbacks
    def ensure(
        self, networks: Iterable[NetworkOrder], ports: Iterable[Plug], anew: Iterable[str], in_thread: InThread
    ) -> Generator[Deferred[Any], Any, dict[str, FabricError]]:
        """
        Serve exactly these ports of these networks.  Nothing is done for a
        network that is served so already.

        @param anew: ids of networks whose bridge is another than it was.
        @param in_thread: calls what blocks.
        @return: why networks could not be served, by id.
        """
        by_network: dict[str, dict[str, Plug]] = defaultdict(dict)
        for port in ports:
            by_network[port.network][port.mac] = port
        failures: dict[str, FabricError] = {}
        for network in networks:
            mine = by_network[network.id]
            if network.id not in anew and self._served.get(network.id) == (network, mine):
                continue
            self._served.pop(network.id, None)
            try:
                yield self._serve(network, mine, network.id in anew, in_thread)
                self._served[network.id] = (network, mine)
            except DriverFailure as error:
                failures[network.id] = error
            except OSError as error:
                failures[network.id] = DriverFailure(f"cannot serve {network.bridge}: {error}")
        return failures

    @inlineCallbacks
    def remove(self, network: str) -> Generator[Deferred[Any], Any, None]:
        """Serve this network no longer.  Nothing when it was not."""
        self._served.pop(network, None)
        self._lines.pop(network, None)
        self._unread.discard(network)
        yield self._servers.remove(self._server(NetworkOrder(network, "0.0.0.0/0", "0.0.0.0")))

    def left(self) -> list[str]:
        """
        @return: ids of the networks of which there are files.
        """
        try:
            return sorted({name.rsplit(".", 1)[0] for name in os.listdir(self._directory)})
        except FileNotFoundError:
            return []

    def let_go(self) -> None:
        """Watch the servers no longer; they run on."""
        self._served.clear()
        self._servers.let_go()

    def _server(self, network: NetworkOrder) -> Server:
        return server(network, self._directory, self._mtu, self._user)

    @inlineCallbacks
    def _serve(
        self, network: NetworkOrder, ports: dict[str, Plug], anew: bool, in_thread: InThread
    ) -> Generator[Deferred[Any], Any, None]:
        its = self._server(network)
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        lines = self._lines.get(network.id)
        if lines is None or lines.network != network:
            lines = self._lines[network.id] = Lines(network)
        hosts, names = lines.texts(ports)
        before = _read(its.hosts)
        gone = lost(before, hosts)
        forgets = True
        if gone:  # first: should we die here, they are still in the file, and are released by the next
            its_gone = [(its.bridge, its.gateway, address, mac) for address, mac in sorted(gone)]
            try:
                yield in_thread(self._links.release, its_gone)
            except DriverFailure as error:
                self.log.warn("{why}; its DHCP server is started anew, and so knows no leases", why=error)
                forgets = False
        if before != hosts or _read(its.names) != names:
            self._unread.add(network.id)
            write_whole(its.hosts, hosts.encode())
            write_whole(its.names, names.encode())
        yield self._servers.ensure(its, network.id in self._unread, anew or not forgets)
        self._unread.discard(network.id)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
