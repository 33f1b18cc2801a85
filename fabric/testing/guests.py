"""
Guests without a machine: network namespaces with the MACs and addresses of
instances, plugged into a host's bridge by what the host calls the tap.

Everything here blocks; a test calls it by C{deferToThread}.
"""

from __future__ import annotations

import errno
import shutil
import socket
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

from fabric.network.interface import device_name
from fabric.testing.namespaces import Namespaces

PATIENCE = 0.6
"""Seconds after which what has not arrived was dropped."""

_SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip address flush dev "$interface"
ip address add "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route replace default via $router
for name in ip mask router mtu hostname domain dns lease; do eval echo "$name=\\$$name"; done > "$LEASE"
"""


class Party:
    """
    Somebody who sends and listens: a guest, or anybody else in a namespace.
    """

    def __init__(self, namespaces: Namespaces, name: str) -> None:
        """
        @param name: of the namespace, which is there.
        """
        self.namespaces = namespaces
        self.name = name

    def run(self, *command: str, seconds: float = 240.0) -> str:
        """See L{Namespaces.run}."""
        return self.namespaces.run(self.name, command, seconds)

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """@return: one of the party's own, which gives up after L{PATIENCE}."""
        made = self.namespaces.open_socket(self.name, family, kind, protocol)
        made.settimeout(PATIENCE)
        return made

    def listens(self, port: int, address: str = "") -> socket.socket:
        """@return: one that takes TCP connections."""
        listening = self.open_socket(_family(address), socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(16)
        return listening

    def connects(self, address: str, port: int, seconds: float = PATIENCE) -> socket.socket | None:
        """
        @return: a TCP connection; None when the address does not answer.
        @raise ConnectionRefusedError: nobody listens there.
        """
        made = self.open_socket(_family(address), socket.SOCK_STREAM)
        made.settimeout(seconds)
        try:
            made.connect((address, port))
        except OSError as error:
            made.close()
            if isinstance(error, TimeoutError) or error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                return None
            raise
        made.settimeout(PATIENCE)
        return made

    def reaches(self, address: str, port: int) -> bool:
        """Whether a TCP connection is made, or refused by whoever has the address."""
        try:
            made = self.connects(address, port)
        except ConnectionRefusedError:
            return True
        if made is None:
            return False
        made.close()
        return True

    def receives_datagrams(self, port: int, address: str = "") -> socket.socket:
        """@return: one that takes UDP datagrams."""
        made = self.open_socket(_family(address), socket.SOCK_DGRAM)
        made.bind((address, port))
        return made

    def sends(self, address: str, port: int, data: bytes = b"hello") -> None:
        """Send a UDP datagram."""
        with closing(self.open_socket(_family(address), socket.SOCK_DGRAM)) as made:
            made.sendto(data, (address, port))

    def pings(self, address: str, *options: str) -> bool:
        """
        Whether an echo is answered.

        @param options: of C{busybox ping}, as C{-I ADDRESS}.
        """
        assert shutil.which("busybox"), "guests need the command busybox, of Debian's package busybox-static"
        version = "-6" if ":" in address else "-4"
        command = self.namespaces.command(
            self.name, ["busybox", "ping", version, "-c", "1", "-W", "1", *options, address]
        )
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


class NetnsGuest(Party):
    """
    One guest; its interface is C{eth0}.

    @ivar tap: what the host calls its tap.
    """

    def __init__(self, namespaces: Namespaces, host: str, name: str, mac: str) -> None:
        """
        Make the guest's namespace; L{plug} it then.

        @param host: the host's namespace.
        """
        super().__init__(namespaces, name)
        namespaces.make(name)
        self.host = host
        self.mac = mac
        self.tap = device_name(mac)

    def plug(self, bridge: str) -> None:
        """Boot: have a tap in the host's bridge."""
        self.namespaces.cable(self.host, self.tap, self.name, "eth0", self.mac)
        self.namespaces.run(self.host, ["ip", "link", "set", self.tap, "master", bridge, "up"])
        self.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad")  # addresses are ready at once
        self.run("ip", "link", "set", "eth0", "up")

    def unplug(self) -> None:
        """End: have no tap any more."""
        self.namespaces.run(self.host, ["ip", "link", "delete", self.tap])

    def has_address(self, address: str, gateway: str = "") -> None:
        """
        Have an address without asking.

        @param address: with its prefix's length.
        """
        options = ["nodad"] if ":" in address else []
        self.run("ip", "address", "add", address, "dev", "eth0", *options)
        if gateway:
            self.run("ip", "-6" if ":" in gateway else "-4", "route", "replace", "default", "via", gateway)

    def leases(self, seconds: int = 5) -> dict[str, str]:
        """
        Ask for an address by DHCP, and have it.

        @return: C{ip}, C{mask} (the prefix's length), C{router}, C{mtu},
            C{hostname}, C{domain}, C{dns} and C{lease} (seconds), as they were
            given; nothing when no answer came.
        """
        assert shutil.which("busybox"), "guests need the command busybox, of Debian's package busybox-static"
        with tempfile.TemporaryDirectory(prefix="fabric-guest-") as directory:
            script, lease = Path(directory, "script"), Path(directory, "lease")
            script.write_text(_SCRIPT)
            script.chmod(0o755)
            asks = ["busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-O", "mtu", "-s", str(script)]
            command = ["env", f"LEASE={lease}", *asks, "-t", str(seconds * 2), "-T", "1", "-A", "1"]
            subprocess.run(
                self.namespaces.command(self.name, command),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds * 3 + 10,
                check=False,
            )
            lines = lease.read_text().splitlines() if lease.exists() else []
            return dict(line.split("=", 1) for line in lines)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
