"""
A host with a network of Linux's own, in a namespace, for tests.
"""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

from fabric.network.linux.assembly import linux_network
from fabric.network.linux.driver import LinuxNetwork
from fabric.network.linux.plan import Uplinks
from fabric.network.linux.ruleset import Outside
from fabric.testing.namespaces import Namespaces


class LinuxHost:
    """
    A namespace that a driver works in.

    @ivar directory: where the driver keeps what it must not forget.
    """

    def __init__(self, reactor: Any, directory: str, namespaces: Namespaces | None = None, name: str = "host") -> None:
        """
        @param namespaces: of several hosts together; one of its own without.
        """
        self.directory = Path(directory).absolute()
        self.name = name
        self.namespaces = namespaces or Namespaces()
        self._reactor = reactor

    def make(self) -> None:
        """Have the namespace.  Blocks."""
        self.namespaces.make(self.name)

    def driver(self, uplinks: Uplinks | None = None, **options: Any) -> LinuxNetwork:
        """
        @param options: fields of L{Outside}.
        @return: a driver that is not started.
        """
        namespace = self.namespaces.full_name(self.name)
        return linux_network(
            str(self.directory), self._reactor, uplinks or Uplinks(), Outside(**options), namespace=namespace
        )

    def run(self, *arguments: str) -> str:
        """Run a command there; gives what it wrote.  Blocks."""
        return self.namespaces.run(self.name, arguments)

    def dnsmasqs(self) -> dict[int, str]:
        """The arguments of each dnsmasq of this host's driver, by process id."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if line.startswith("dnsmasq ") and f"--pid-file={self.directory}" in line:
                found[int(path.parent.name)] = line
        return found

    def state(self) -> dict[str, Any]:
        """
        All that there is, but for counters and the driver's one file; of rules
        the words, whose order may differ.  Blocks.
        """
        files = sorted(str(path) for path in self.directory.rglob("*") if path.is_file())
        names = ("ifname", "address", "mtu", "master", "ifalias", "flags", "ifindex")
        links = json.loads(self.run("ip", "-j", "link", "show"))
        addresses = self.run("ip", "-o", "address", "show", "scope", "global")
        return {
            "links": sorted(json.dumps({name: link.get(name) for name in names}) for link in links),
            "addresses": [line.partition(":")[2] for line in addresses.splitlines()],
            "routes": self.run("ip", "route", "show"),
            "rules": sorted(re.split(r"[\s,]+", self.run("nft", "-s", "list", "ruleset"))),
            "processes": self.dnsmasqs(),
            "files": [path for path in files if not path.endswith("/network.json")],
        }

    def forget(self) -> None:
        """Be as after a power cut: no process, no link, no rule of ours.  Blocks."""
        self.end()
        for link in json.loads(self.run("ip", "-j", "link", "show")):
            if link["ifname"] != "lo":
                self.namespaces.run(self.name, ["sh", "-c", f"ip link delete {link['ifname']} || true"])
        self.run("nft", "flush", "ruleset")

    def remove(self) -> None:
        """End what the driver left running, and the namespace.  Blocks."""
        self.end()
        self.namespaces.remove()

    def end(self) -> None:
        """Kill what the driver left running.  Blocks."""
        for pid in self.dnsmasqs():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
