"""
A host with a network of Linux's own, in a namespace, for tests.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from fabric.network.linux.assembly import linux_network
from fabric.network.linux.driver import LinuxNetwork
from fabric.network.linux.plan import Uplinks
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
        @return: a driver that is not started.
        """
        return linux_network(
            str(self.directory),
            self._reactor,
            uplinks or Uplinks(),
            namespace=self.namespaces.full_name(self.name),
            **options,
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

    def remove(self) -> None:
        """End what the driver left running, and the namespace.  Blocks."""
        for pid in self.dnsmasqs():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.namespaces.remove()
