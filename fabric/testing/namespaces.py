"""
Networks of a test's own: Linux network namespaces joined by cables.

Needs root and C{iproute2}; nothing outside of the namespaces is changed.
Everything here blocks; a test calls it by C{deferToThread}.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Sequence
from contextlib import suppress

_CLONE_NEWNET = 0x40000000


class Namespaces:
    """
    Some namespaces with names of this test's own.
    """

    def __init__(self) -> None:
        self._prefix = "fab" + uuid.uuid4().hex[:6]
        self._made: list[str] = []
        self._cables = 0

    def make(self, name: str, forwards: bool = False) -> None:
        """
        Add one, with its loopback up.

        @param name: short.
        @param forwards: whether it is a router.
        @raise AssertionError: this machine can't; the text says why not.
        """
        assert shutil.which("ip"), "network namespaces need the command ip, of Debian's package iproute2"
        assert os.geteuid() == 0, "network namespaces need root"
        self._ip("netns", "add", self._prefix + name)
        self._made.append(name)
        self.run(name, ["ip", "link", "set", "lo", "up"])
        if forwards:
            self.run(name, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])

    def join(self, one: str, ours: str, other: str, theirs: str, mac: str = "") -> None:
        """
        Lay a cable between two.

        @param ours, theirs: the address of each end, with its prefix's length.
        @param mac: of the second end.
        """
        self._cables += 1
        ends = [f"{self._prefix}{self._cables}{end}" for end in "ab"]
        self._ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for end, name, address in zip(ends, (one, other), (ours, theirs), strict=True):
            self._ip("link", "set", end, "netns", self._prefix + name)
            if mac and name == other:
                self.run(name, ["ip", "link", "set", end, "address", mac])
            self.run(name, ["ip", "address", "add", address, "dev", end])
            self.run(name, ["ip", "link", "set", end, "up"])

    def cable(self, one: str, ours: str, other: str, theirs: str, mac: str = "") -> None:
        """
        Lay a cable between two, with ends of these names, which are still down.

        @param mac: of the second end.
        """
        names = [self._prefix + name for name in (one, other)]
        address = ["address", mac] if mac else []
        peer = ["peer", "name", theirs, "netns", names[1], *address]
        self._ip("link", "add", ours, "netns", names[0], "type", "veth", *peer)

    def full_name(self, name: str) -> str:
        """
        @return: what the kernel calls a namespace.
        """
        return self._prefix + name

    def command(self, name: str, arguments: Sequence[str]) -> list[str]:
        """
        @return: what runs a command in a namespace.
        """
        return ["ip", "netns", "exec", self._prefix + name, *arguments]

    def run(self, name: str, arguments: Sequence[str], seconds: float = 240.0) -> str:
        """
        Run a command there.

        @return: what it wrote.
        @raise AssertionError: it failed; the text is what it complained of.
        """
        return _run(self.command(name, arguments), seconds)

    def open_socket(self, name: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """
        @return: a socket of that namespace, to be used from anywhere.
        """
        with open("/proc/thread-self/ns/net") as here, open("/run/netns/" + self._prefix + name) as there:
            _enter(there.fileno())
            try:
                return socket.socket(family, kind, protocol)
            finally:
                _enter(here.fileno())

    def interface_number(self, name: str, device: str) -> int:
        """
        @return: the number of a namespace's interface, as addresses of scope link have it.
        """
        return int(self.run(name, ["ip", "-o", "link", "show", "dev", device]).partition(":")[0])

    def remove(self) -> None:
        """Remove all that was made, and end what runs there still: daemons that outlive who started them."""
        while self._made:
            name = self._prefix + self._made.pop()
            for pid in _run(["ip", "netns", "pids", name], 240.0).split():
                with suppress(ProcessLookupError):
                    if int(pid) != os.getpid():
                        os.kill(int(pid), signal.SIGKILL)
            self._ip("netns", "del", name)

    def _ip(self, *arguments: str) -> None:
        _run(["ip", *arguments], 240.0)


def _enter(descriptor: int) -> None:
    """Have this thread, and no other, be in a namespace."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _run(command: list[str], seconds: float) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout
