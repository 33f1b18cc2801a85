"""
The cell of a launch: from the order to a guest's first answer on ssh's port,
beside the same domain started by plain libvirt.

Each instance that the cloud has launched is stopped, and its domain's XML, with
a name and an overlay of its own, given to libvirt while the instance's port still
stands: so the same DHCP server, metadata and packet filters serve both.  Then the
cloud starts the instance again.

From the first instruction on, all of them are the same guest; a machine without
KVM takes seconds over it, a busy one more or less by a second.  So what the cloud
adds is also told without the guest: as the time until the process of qemu is there.
That the rest is the same is seen by what qemu uses of the processor; what the cloud
uses meanwhile is told beside what it uses while a plain guest boots.
Needs root.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring, tostring

import libvirt

from fabric.testing.bench.processes import TICK, cpu_seconds
from fabric.testing.bench.report import Results, Sample, Verdict
from fabric.testing.realhost import BOOT, RealHost, until

CLOUD, AGAIN, PLAIN = "RunInstances", "StartInstances", "plain libvirt"
SSH, QEMU = "order to ssh", "order to qemu"
WORK, SERVICE = "qemu's processor time to ssh", "the cloud's processor time to ssh"
CELLS = (SSH, QEMU, WORK, SERVICE)
PAUSE = 0.02
"""Seconds between looks whether ssh answers."""

Took = dict[str, float]
"""Seconds, by cell."""


def measure(results: Results, pairs: int, say: Callable[[str], None]) -> None:
    """
    Launch, start plainly, start again, so many times.  Blocks.
    """
    host = RealHost()
    try:
        stage = _Boots(host)
        for number in range(pairs + 1):
            took = stage.pair()
            if not number:
                continue  # the first fetches the image, and makes the network
            for target, figures in took.items():
                for cell, seconds in figures.items():
                    results.add(Sample(cell, target, 1, None, 1 / (seconds or TICK), seconds * 1e3, seconds * 1e3))
            say("  " + ", ".join(f"{name}: {each[SSH]:.2f} s ({each[QEMU]:.2f} s)" for name, each in took.items()))
    finally:
        host.remove()
        shutil.rmtree(host.directory, ignore_errors=True)
    for cell in CELLS:
        for target in (CLOUD, PLAIN, AGAIN):
            results.facts[f"s {cell}, {target}, shortest"] = min(_seconds(results, cell, target))
    results.notes.append(f"load while the guests booted: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def judge(results: Results) -> Iterator[Verdict]:
    """
    What was promised; of the seconds until ssh by the shortest, since whatever
    else the machine does only adds to them.
    """
    cloud, plain = (min(_seconds(results, SSH, target)) for target in (CLOUD, PLAIN))
    yield Verdict(f"s that the cloud adds to {SSH}, shortest", cloud - plain, 0.5)
    yield Verdict(f"{SSH} over that of plain libvirt, shortest", cloud / plain, 1.1)
    cloud, plain = (statistics.median(_seconds(results, QEMU, target)) for target in (CLOUD, PLAIN))
    yield Verdict(f"s that the cloud adds to {QEMU}, median", cloud - plain, 0.5)
    cloud, plain = (
        sum(statistics.median(_seconds(results, cell, target)) for cell in (WORK, SERVICE)) for target in (CLOUD, PLAIN)
    )
    yield Verdict("processor time of both to ssh over that with plain libvirt, median", cloud / plain, 1.1)


def _seconds(results: Results, cell: str, target: str) -> list[float]:
    return [each.p50_ms / 1e3 for each in results.samples if (each.cell, each.target) == (cell, target)]


class _Boots:
    """
    One instance after the other.
    """

    def __init__(self, host: RealHost) -> None:
        self._host = host
        self._libvirt = libvirt.open(host.libvirtd.uri)
        self._key = host.key_pair("bench")
        self._group = host.open_group("bench")

    def pair(self) -> dict[str, Took]:
        """
        @return: what each way took.
        """
        ec2, took = self._host.ec2, {}
        began, used = self._begin()
        instance = ec2.run_instances(
            ImageId=self._host.image,
            MinCount=1,
            MaxCount=1,
            InstanceType="m1.tiny",
            KeyName="bench",
            SecurityGroupIds=[self._group],
        )["Instances"][0]
        id = instance["InstanceId"]
        address = instance.get("PrivateIpAddress") or self._address(id)
        took[CLOUD] = self._answered(began, used, address, id)
        until(lambda: self._host.ssh(self._key, address, "true", "host").returncode == 0, f"ssh of {id}")
        xml = self._libvirt.lookupByName(id).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        self._stop(id)
        took[PLAIN] = self._plain(id, address, xml)
        began, used = self._begin()
        ec2.start_instances(InstanceIds=[id])
        took[AGAIN] = self._answered(began, used, address, id)
        self._host.terminate(id)
        return took

    def _begin(self) -> tuple[float, float]:
        """@return: now, when the host knows no guest that it talked with before; what the cloud has used so far."""
        self._host.namespaces.run("host", ["ip", "neighbour", "flush", "all"])
        used = cpu_seconds([self._host.cloud.process.pid])
        return time.monotonic(), used

    def _stop(self, id: str) -> None:
        self._host.ec2.stop_instances(InstanceIds=[id], Force=True)
        self._host.until_state(id, "stopped")

    def _address(self, id: str) -> str:
        return until(lambda: self._host.instance(id).get("PrivateIpAddress"), "an address", BOOT, 0.01)  # type: ignore[no-any-return]

    def _plain(self, id: str, address: str, xml: str) -> Took:
        """Start the domain without the cloud, and end it."""
        files = self._host.cloud.data / "guests" / id
        name, place = f"plain-{id}", self._host.directory / "plain"
        place.mkdir()
        base, form, size = _overlaid(files / "root.qcow2")
        domain = _renamed(xml, name).replace(str(files), str(place))
        began, used = self._begin()
        _tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", form, str(place / "root.qcow2"), size)
        started = self._libvirt.createXML(domain)
        try:
            return self._answered(began, used, address, name)
        finally:
            with suppress(libvirt.libvirtError):
                started.destroy()
            shutil.rmtree(place)

    def _answered(self, began: float, used: float, address: str, domain: str) -> Took:
        """
        @return: what it took since it began.
        """
        until(lambda: self._banner(address), f"ssh of {domain}", BOOT, PAUSE)
        ended = time.monotonic()
        service = cpu_seconds([self._host.cloud.process.pid]) - used
        qemu = self._host.libvirtd.pid_of(domain)
        return {SSH: ended - began, QEMU: _born(qemu) - began, WORK: cpu_seconds([qemu]), SERVICE: service}

    def _banner(self, address: str) -> bool:
        """Whether a server of ssh says what it is; from the host, whose packets are filtered as anybody's."""
        probe = self._host.namespaces.open_socket("host", socket.AF_INET, socket.SOCK_STREAM)
        with closing(probe), suppress(OSError):
            probe.settimeout(0.2)
            probe.connect((address, 22))
            probe.settimeout(5.0)
            return probe.recv(64).startswith(b"SSH-")
        return False


def _renamed(xml: str, name: str) -> str:
    """@return: the same domain, which is not an instance any more."""
    domain: Element = fromstring(xml)
    for tag, text in (("name", name), ("uuid", str(uuid.uuid4()))):
        found = domain.find(tag)
        assert found is not None, f"a domain without a {tag}"
        found.text = text
    for tag in ("metadata", "sysinfo"):
        found = domain.find(tag)
        if found is not None:
            domain.remove(found)
    for mode in domain.findall("os/smbios"):
        domain.find("os").remove(mode)  # type: ignore[union-attr]
    return tostring(domain, encoding="unicode")


def _overlaid(disk: Path) -> tuple[str, str, str]:
    """@return: what a disk is laid over, the format of that, and the disk's size."""
    said: dict[str, Any] = json.loads(_tool("qemu-img", "info", "-U", "--output=json", str(disk)))
    return said["full-backing-filename"], said["backing-filename-format"], str(said["virtual-size"])


def _born(pid: int) -> float:
    """@return: when a process began, by the monotonic clock; to a clock tick."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return ticks * TICK - time.clock_gettime(time.CLOCK_BOOTTIME) + time.monotonic()


def _tool(*command: str) -> str:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
