"""
What dnsmasq is told of a network: its arguments, and the two files that it
reads again on SIGHUP.  Pure: from a network and its ports to texts.

It gives exactly the addresses that its files name, keeps no leases on disk,
and never speaks to a guest that is not in them; so what it hands out follows
from the host's state alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

import attrs
from netaddr import EUI, IPNetwork, valid_ipv4

from fabric.network.interface import NetworkOrder, Plug
from fabric.network.linux.plan import gateway_v6

_LINE = re.compile(r"((?:[0-9a-f]{2}:){5}[0-9a-f]{2}),(?:[^,]*,)?([0-9.]+)")

LEASE_SECONDS = 600
"""A guest asks again after half of it.  What a lost release costs at most."""


@attrs.frozen
class Server:
    """
    The dnsmasq of one network.

    @ivar bridge: on which it listens; there must be one of that name.
    @ivar arguments: after the command's name.
    @ivar hosts, names: the files' paths.
    @ivar pid_file: where it writes its process id.
    """

    network: str
    bridge: str
    gateway: str
    arguments: tuple[str, ...]
    hosts: str
    names: str
    pid_file: str


def server(network: NetworkOrder, directory: str, mtu: int, user: str = "") -> Server:
    """
    @param directory: where its files are.
    @param mtu: of guests.
    @param user: as whom it runs; empty for as whom it is started.
    """
    base = os.path.join(directory, network.id)
    hosts, names, pid_file = (f"{base}.{what}" for what in ("hosts", "names", "pid"))
    range_ = IPNetwork(network.cidr)
    arguments = [
        "--conf-file=",
        "--strict-order",
        "--bind-interfaces",
        f"--interface={network.bridge}",
        "--except-interface=lo",
        f"--pid-file={pid_file}",
        f"--dhcp-range={range_.network},static,{range_.netmask},{LEASE_SECONDS}s",
        f"--dhcp-lease-max={range_.size}",
        f"--dhcp-hostsfile={hosts}",
        f"--addn-hosts={names}",
        "--leasefile-ro",
        "--dhcp-authoritative",
        "--dhcp-ignore=tag:!known",
        f"--dhcp-option=option:router,{network.gateway}",
        f"--dhcp-option=option:dns-server,{network.gateway}",
        f"--dhcp-option=option:mtu,{mtu}",
        f"--domain={network.domain}",
        f"--local=/{network.domain}/",
        "--no-hosts",
        "--quiet-dhcp",
        "--quiet-dhcp6",
        "--quiet-ra",
    ]
    if user:
        arguments.append(f"--user={user}")
    if network.dns:
        arguments += ["--no-resolv", *(f"--server={address}" for address in network.dns)]
    if network.cidr_v6:
        prefix = IPNetwork(network.cidr_v6).network
        arguments += ["--enable-ra", f"--dhcp-range={prefix},ra-only,64,{LEASE_SECONDS}s"]
        arguments += [f"--ra-param={network.bridge},mtu:{mtu},60,1800"]
        arguments += [f"--dhcp-option=option6:dns-server,[{gateway_v6(network)}]"]
    return Server(network.id, network.bridge, network.gateway, tuple(arguments), hosts, names, pid_file)


class Lines:
    """
    The lines of one network's two files.  Those of a port are made once: what
    is the same object as before has the lines that it had.
    """

    def __init__(self, network: NetworkOrder) -> None:
        self.network = network
        self._made: dict[str, tuple[Plug, str, str]] = {}

    def texts(self, ports: Mapping[str, Plug]) -> tuple[str, str]:
        """
        @param ports: all of the network, by MAC.
        @return: the two files' contents, L{hosts_text} and L{names_text}.
        """
        before, self._made = self._made, {}
        for mac, port in ports.items():
            made = before.get(mac)
            if made is None or made[0] is not port:
                made = (port, hosts_text([port]), names_text(self.network, [port]))
            self._made[mac] = made
        made_of = self._made.values()
        return "".join(sorted(each[1] for each in made_of)), "".join(sorted(each[2] for each in made_of))


def hosts_text(ports: Iterable[Plug]) -> str:
    """
    @return: C{MAC,name,address} a line, of the ports of one network.
    """
    lines = [
        ",".join(part for part in (port.mac.lower(), port.hostname.split(".")[0], port.address) if part)
        for port in ports
    ]
    return "".join(line + "\n" for line in sorted(lines))


def known(text: str) -> set[tuple[str, str]]:
    """
    @return: address and MAC of each line of a L{hosts_text}; what is none, as
        after a power cut, is passed over.
    """
    lines = (_LINE.fullmatch(line) for line in text.splitlines())
    pairs = {(line[2], line[1]) for line in lines if line is not None}
    return {(address, mac) for address, mac in pairs if valid_ipv4(address)}


def lost(before: str, after: str) -> set[tuple[str, str]]:
    """
    @return: what is L{known} of a L{hosts_text}, and not of the next.
    """
    old, new = (set(text.splitlines(keepends=True)) for text in (before, after))
    return known("".join(old - new)) - known("".join(new - old))


def names_text(network: NetworkOrder, ports: Iterable[Plug]) -> str:
    """
    @return: an address and its names a line, as in C{/etc/hosts}: of each port
        C{ip-a-b-c-d} and the instance's own name, both with the domain and
        without.
    """
    lines = []
    for port in ports:
        own = port.hostname.split(".")[0]
        words = list(dict.fromkeys(["ip-" + port.address.replace(".", "-"), *([own] if own else [])]))
        names = " ".join(f"{word}.{network.domain} {word}" for word in words)
        lines.append(f"{port.address} {names}\n")
        if network.cidr_v6:
            lines.append(f"{guest_v6(network, port.mac)} {names}\n")
    return "".join(sorted(lines))


def guest_v6(network: NetworkOrder, mac: str) -> str:
    """
    @return: the address that a guest makes of the network's prefix and its MAC
        (RFC 4862, 5.3; RFC 2464, 4).
    """
    return str(EUI(mac).ipv6(IPNetwork(network.cidr_v6).first))
