"""
One real host: the whole cloud with libvirt and Linux's network in a namespace of
its own, and a place outside of it from which guests are reached.

Everything here blocks.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from fabric.testing.deployment import BRISK, AllInOne
from fabric.testing.guest_image import tiny_guest
from fabric.testing.libvirtd import PrivateLibvirtd
from fabric.testing.namespaces import Namespaces
from fabric.testing.processes import SOURCES
from fabric.testing.tunnel import Tunnel

BOOT = 300.0
"""Seconds that a guest may take to its last word on a busy machine without KVM."""

FLOATING = "203.0.113.0/24"


def until(probe: Callable[[], Any], what: str, seconds: float = BOOT, pause: float = 0.2) -> Any:
    """
    Look again and again.

    @return: the first true thing that C{probe} says.
    @raise AssertionError: there was none in time.
    """
    end = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(pause)


class RealHost:
    """
    @ivar ec2: boto3's client of the administrator.
    @ivar image: the tiny guest's.
    @ivar libvirtd: what runs the guests.
    """

    def __init__(self) -> None:
        self._remove: list[Callable[[], Any]] = []
        try:
            self._start()
        except BaseException:
            self.remove()
            raise

    def _start(self) -> None:
        guest = tiny_guest()
        self.namespaces = Namespaces()
        self._remove.append(self.namespaces.remove)
        self.libvirtd = PrivateLibvirtd(self.namespaces, "host")
        self._remove.append(self.libvirtd.remove)
        self.libvirtd.prepare(bridge="")
        self.libvirtd.start()
        self.namespaces.make("out")
        self.namespaces.join("host", "192.0.2.1/24", "out", "192.0.2.2/24")
        self.namespaces.run("out", ["ip", "route", "add", FLOATING, "via", "192.0.2.1"])
        self.directory = Path(tempfile.mkdtemp(prefix="fabric-real-"))
        self._remove.append(lambda: shutil.rmtree(self.directory, ignore_errors=True))
        real = runpy.run_path(str(SOURCES / "scripts" / "cloud"))["REAL"]
        settings = {key: value for key, value in BRISK.items() if not key.startswith("fake.")} | real
        settings |= {
            "libvirt.uri": self.libvirtd.uri,
            "libvirt.kernel_line": guest.line,
            "libvirt.virt_type": "qemu",
            "libvirt.machine": "q35",
            "network.cidr": "10.0.0.0/24",
            "network.floating": FLOATING,
            "objectstore.first_image": os.path.dirname(guest.disk),
        }
        self.cloud = AllInOne(self.directory, settings, self.namespaces.command("host", ()))
        self._remove.append(self.cloud.kill)
        self.tunnel = Tunnel(self.namespaces, "host", self.cloud.port)
        self._remove.append(self.tunnel.close)
        self.cloud.start()
        self._remove.append(self.cloud.stop)
        self.ec2 = self.client()
        tiny = [{"Name": "name", "Values": ["tiny"]}]
        self.image = until(lambda: self.ec2.describe_images(Filters=tiny)["Images"], "an image")[0]["ImageId"]

    def remove(self) -> None:
        """End all that was started."""
        while self._remove:
            with suppress(AssertionError, OSError):
                self._remove.pop()()

    def client(self) -> Any:
        """
        @return: a boto3 client of the administrator.
        """
        return boto3.client(
            "ec2",
            endpoint_url=f"http://127.0.0.1:{self.cloud.port}/services/Cloud",
            region_name="nova",
            aws_access_key_id=self.cloud.access_key,
            aws_secret_access_key=self.cloud.secret_key,
            config=Config(retries={"max_attempts": 4}, read_timeout=60),
        )

    def key_pair(self, name: str) -> Path:
        """
        @return: the file of a new key pair's private half.
        """
        path = self.directory / f"{name}.pem"
        path.write_text(self.ec2.create_key_pair(KeyName=name, KeyType="ed25519")["KeyMaterial"])
        path.chmod(0o600)
        return path

    def open_group(self, name: str) -> str:
        """
        @return: the id of a new group that lets in ssh and pings.
        """
        group: str = self.ec2.create_security_group(GroupName=name, Description=name)["GroupId"]
        self.ec2.authorize_security_group_ingress(
            GroupId=group,
            IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
                {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
            ],
        )
        return group

    def launch(self, **parameters: Any) -> dict[str, Any]:
        """
        @return: a new instance, running; not yet booted.
        """
        wanted = {"ImageId": self.image, "MinCount": 1, "MaxCount": 1, "InstanceType": "m1.tiny"} | parameters
        made = self.ec2.run_instances(**wanted)["Instances"][0]["InstanceId"]
        return self.until_state(made, "running")

    def until_state(self, instance: str, state: str) -> dict[str, Any]:
        """
        @return: the instance, in that state.
        """

        def there() -> Any:
            found = self.instance(instance)
            return found["State"]["Name"] == state and found

        return until(there, f"{instance} is {state}")  # type: ignore[no-any-return]

    def instance(self, instance: str) -> dict[str, Any]:
        """
        @return: an instance as it is now.
        """
        [reservation] = self.ec2.describe_instances(InstanceIds=[instance])["Reservations"]
        return reservation["Instances"][0]  # type: ignore[no-any-return]

    def console(self, instance: str) -> str:
        """
        @return: what it has printed.
        """
        return self.ec2.get_console_output(InstanceId=instance).get("Output", "")  # type: ignore[no-any-return]

    def until_said(self, instance: str, words: str, times: int = 1) -> str:
        """
        @return: the console, once it has said something so many times.
        """

        def said() -> str:
            text = self.console(instance)
            return text if text.count(words) >= times else ""

        return until(said, f"{instance} says {words!r}")  # type: ignore[no-any-return]

    def floating(self, instance: str) -> tuple[str, str]:
        """
        @return: a new address that leads to an instance, and its allocation.
        """
        held = self.ec2.allocate_address()
        self.ec2.associate_address(AllocationId=held["AllocationId"], InstanceId=instance)
        return held["PublicIp"], held["AllocationId"]

    def ssh(self, key: Path, address: str, command: str, place: str = "out") -> subprocess.CompletedProcess[str]:
        """
        Run a command in a guest, by ssh from a namespace.
        """
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=10"]
        options += ["BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none"]
        words = ["ssh", "-i", str(key), *(part for option in options for part in ("-o", option)), f"root@{address}"]
        arguments = self.namespaces.command(place, [*words, command])
        try:
            return subprocess.run(
                arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
            )
        except subprocess.TimeoutExpired:  # as of a connection whose other end was taken away
            return subprocess.CompletedProcess(arguments, 255, "", "not done in time")

    def until_ssh(self, key: Path, address: str, command: str) -> str:
        """
        @return: what a command in a guest wrote, once its ssh answers.
        """

        def answered() -> Any:
            done = self.ssh(key, address, command)
            return (done.stdout,) if done.returncode == 0 else None

        return until(answered, f"ssh to {address}")[0]  # type: ignore[no-any-return]

    def opens(self, address: str, port: int, place: str = "out") -> bool:
        """
        @return: whether a connection is taken there.
        """
        script = f"import socket; socket.create_connection(({address!r}, {port}), 3).close()"
        command = self.namespaces.command(place, ["python3", "-c", script])
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0

    def terminate(self, *instances: str) -> None:
        """End instances, and wait until they are gone."""
        with suppress(ClientError):
            self.ec2.terminate_instances(InstanceIds=list(instances))
        for instance in instances:
            self.until_state(instance, "terminated")

    def state(self) -> dict[str, Any]:
        """
        @return: all that guests could leave behind on the host, each kind by name.
        """
        run = self.namespaces.run
        guests = self.cloud.data / "guests"
        return {
            "links": sorted(line.split()[0] for line in run("host", ["ip", "-br", "link"]).splitlines()),
            "neighbours on bridges": sorted(
                line.split()[1] for line in run("host", ["bridge", "link"]).splitlines() if line
            ),
            "addresses": sorted(line.split()[3] for line in run("host", ["ip", "-o", "addr"]).splitlines()),
            "rules": _rules(run("host", ["nft", "-s", "list", "ruleset"])),
            "domains": sorted(self.libvirtd.virsh("list", "--all", "--name").split()),
            "guests": sorted(os.listdir(guests)) if guests.exists() else [],
            "hosts": {path.name: path.read_text() for path in self.cloud.data.glob("hosts/*/network/dhcp/*.hosts")},
            "names": {path.name: path.read_text() for path in self.cloud.data.glob("hosts/*/network/dhcp/*.names")},
        }


def _rules(text: str) -> list[str]:
    """The rules, without counts."""
    lines = []
    for line in text.splitlines():
        words = line.split()
        while "counter" in words:
            at = words.index("counter")
            del words[at : at + (5 if words[at + 1 : at + 2] == ["packets"] else 1)]
        lines.append(" ".join(words))
    return lines
