"""
A compute host in a network namespace: a libvirtd and the three services of its
own.

Everything here blocks.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fabric.testing.libvirtd import PrivateLibvirtd
from fabric.testing.namespaces import Namespaces
from fabric.testing.ports import free_port
from fabric.testing.processes import TwistdProcess
from fabric.testing.tunnel import Tunnel

SERVICES = ("cloud-compute", "cloud-network", "cloud-metadata")

_KILLED = re.compile(rb"^killed at (\S+)$", re.M)


class Service:
    """
    C{twistd -n NAME} in a namespace.

    @ivar process: as L{TwistdProcess}.
    """

    def __init__(
        self, namespaces: Namespaces, place: str, name: str, host: str, directory: Path, settings: Mapping[str, str]
    ) -> None:
        """
        @param place: the namespace.
        @param host: its name in the cloud.
        """
        port = free_port()
        data = str(directory / host)
        arguments = [name, "--data", data, "--host", host]
        arguments += ["--ec2" if name == "cloud-api" else "--operations", f"tcp:{port}:interface=127.0.0.1"]
        within = namespaces.command(place, ())
        self.process = TwistdProcess(f"{name}.{host}", arguments, directory, port, settings, within)
        self._tunnel = Tunnel(namespaces, place, port)
        self._read = 0

    @property
    def died_at(self) -> list[str]:
        """The fault points at which its lives ended since L{arm}."""
        return [point.decode() for point in _KILLED.findall(self.process.log.read_bytes()[self._read :])]

    def arm(self, points: str) -> None:
        """Run it anew, to be killed at the first of these points that it reaches; does not wait until it is well."""
        self.process.kill()
        self._read = self.process.log.stat().st_size
        self.process.start({"faults": points})

    def remove(self) -> None:
        """End it."""
        self.process.kill()
        self._tunnel.close()


class Host:
    """
    @ivar name: its name in the cloud, and the namespace's.
    @ivar services: by name, as C{cloud-compute}.
    @ivar libvirtd: what runs the guests.
    """

    def __init__(self, namespaces: Namespaces, name: str, directory: Path) -> None:
        """Have a namespace and a libvirtd."""
        self._namespaces = namespaces
        self.name = name
        self._directory = directory
        self.services: dict[str, Service] = {}
        self.libvirtd = PrivateLibvirtd(namespaces, name)
        self.libvirtd.prepare(bridge="")

    def add_services(self, settings: Mapping[str, str], store: Mapping[str, str]) -> None:
        """
        Have all services, started; does not wait until they are well.

        @param settings: for all of them.
        @param store: for the metadata door besides.
        """
        for name in SERVICES:
            known = {**settings, **store} if name == "cloud-metadata" else settings
            self.services[name] = Service(self._namespaces, self.name, name, self.name, self._directory, known)
            self.services[name].process.start()

    @property
    def running(self) -> list[str]:
        """The guests that run."""
        return self.libvirtd.virsh("list", "--name").split()

    def run(self, *command: str) -> str:
        """@return: what a command here writes."""
        return self._namespaces.run(self.name, command)

    def remove(self) -> None:
        """End all that is here."""
        for service in self.services.values():
            service.remove()
        self._end_dhcp()
        self.libvirtd.remove()

    def power_off(self, *cables: str) -> None:
        """
        Have nothing of it run, and nobody hear of it.

        @param cables: its interfaces to others.
        """
        for service in self.services.values():
            service.process.kill()
        self._end_dhcp()
        for guest in self.running:
            self.libvirtd.virsh("destroy", guest)
        self.libvirtd.kill()
        for cable in cables:
            self.run("ip", "link", "set", cable, "down")

    def power_on(self, *cables: str) -> None:
        """Have it run again, with the disks that it had."""
        for cable in cables:
            self.run("ip", "link", "set", cable, "up")
        self.libvirtd.start()
        for service in self.services.values():
            service.process.start()

    def _end_dhcp(self) -> None:
        """What survives its service."""
        for path in (self._directory / self.name).glob("hosts/*/network/dhcp/*.pid"):
            with suppress(OSError, ValueError):
                pid = int(path.read_text())
                if str(path).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    def state(self) -> dict[str, Any]:
        """
        @return: all that guests could leave behind here, each kind by name.
        """
        data = self._directory / self.name
        guests = data / "guests"
        return {
            "links": sorted(line.split()[0] for line in self.run("ip", "-br", "link").splitlines()),
            "addresses": sorted(line.split()[3] for line in self.run("ip", "-o", "-4", "addr").splitlines()),
            "rules": rules(self.run("nft", "-s", "list", "ruleset")),
            "domains": sorted(self.libvirtd.virsh("list", "--all", "--name").split()),
            "guests": sorted(os.listdir(guests)) if guests.exists() else [],
            "hosts": {path.name: path.read_text() for path in data.glob("hosts/*/network/dhcp/*.hosts")},
            "names": {path.name: path.read_text() for path in data.glob("hosts/*/network/dhcp/*.names")},
        }

    def mentions(self, *words: str) -> dict[str, list[str]]:
        """
        @return: what of the state names one of these: instances' ids, MACs, taps or addresses.
        """
        pattern = re.compile("|".join(rf"(?<![\w.]){re.escape(word)}(?![\w.])" for word in words))
        found = {kind: [line for line in _lines(what) if pattern.search(line)] for kind, what in self.state().items()}
        return {kind: lines for kind, lines in found.items() if lines}


def rules(text: str) -> list[str]:
    """
    @return: the packet filters without counts, sorted, each element of a set for itself.
    """
    plain = re.sub(r"counter( packets \d+ bytes \d+)?|elements = \{|\}", "", text)
    return sorted(
        " ".join(part.strip(" ,").split())
        for line in plain.splitlines()
        for part in line.split(", ")
        if part.strip(" ,\t")
    )


def _lines(what: Any) -> list[str]:
    return [line for text in what.values() for line in text.splitlines()] if isinstance(what, dict) else list(what)
