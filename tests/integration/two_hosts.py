"""
Two compute hosts, each in a namespace with services of its own, over one
RabbitMQ and Redis; the controllers in a third, and a place outside from which
guests are reached::

    ctl 192.0.2.10 ---+
                      |
    ha  192.0.2.1  ---+--- underlay, of 1550 bytes
        198.51.100.1 ------+
    hb  192.0.2.2  ---+    |
        198.51.100.2 ------+--- public
    out 198.51.100.9 ------+

Everything here blocks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from fabric.manage.client import Client, Credentials
from fabric.manage.cloudrc import render
from fabric.testing.deployment import BRISK
from fabric.testing.guest_image import tiny_guest
from fabric.testing.namespaces import Namespaces
from fabric.testing.processes import SOURCES, await_true
from fabric.testing.realhost import until
from fabric.testing.servers import Servers
from tests.integration.host_in_namespace import Host, Service

UNDERLAY = {"ctl": "192.0.2.10", "ha": "192.0.2.1", "hb": "192.0.2.2"}
PUBLIC = {"ha": "198.51.100.1", "hb": "198.51.100.2", "out": "198.51.100.9"}
FLOATING = "203.0.113.0/24"
RANGE = "10.0.0.0/24"
CONTROLLERS = ("cloud-api", "cloud-controller", "cloud-scheduler", "cloud-objectstore")

TIMES = {key: value for key, value in BRISK.items() if not key.startswith("fake.")} | {
    "controller.service_down_time": "20",
    "controller.resend_seconds": "4",
    "log.level": "debug",
}

_SSH = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=10")
_SSH += ("BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none", "ServerAliveInterval=60")


class Project:
    """
    Somebody's project, and what a guest of it needs to be reached.

    @ivar ec2: boto3's client of its user.
    @ivar key: the file of a key pair's private half, which is called C{key}.
    @ivar group: the id of a group that lets in ssh from outside, and nothing else.
    """

    def __init__(self, ec2: Any, directory: Path) -> None:
        self.ec2 = ec2
        self.key = directory
        self.key.write_text(ec2.create_key_pair(KeyName="key", KeyType="ed25519")["KeyMaterial"])
        self.key.chmod(0o600)
        self.group: str = ec2.create_security_group(GroupName="shore", Description="ssh from outside")["GroupId"]
        shore = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": PUBLIC["out"] + "/32"}]}
        ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[shore])


class TwoHosts:
    """
    @ivar hosts: by name.
    @ivar apples, pears: two projects.
    @ivar admin: the administrator's admin door.
    @ivar dead: a directory with a file for each host that a fence may hold for dead.
    @ivar image: the tiny guest's.
    """

    def __init__(self) -> None:
        self._remove: list[Callable[[], Any]] = []
        self.directory = Path(tempfile.mkdtemp(prefix="fabric-two-"))
        self._remove.append(partial(shutil.rmtree, self.directory, True))
        self.dead = self.directory / "dead"
        self.dead.mkdir()
        try:
            self._start()
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """End all that was started."""
        while self._remove:
            with suppress(AssertionError, OSError):
                self._remove.pop()()

    def _start(self) -> None:
        self._guest = tiny_guest()
        self.namespaces = Namespaces()
        self._remove.append(self.namespaces.remove)
        self.namespaces.make("ctl")
        self.namespaces.make("out")
        self.hosts: dict[str, Host] = {}
        for name in ("ha", "hb"):
            self.hosts[name] = Host(self.namespaces, name, self.directory)
            self._remove.append(self.hosts[name].remove)
        self._lay_cables()
        self.servers = Servers(UNDERLAY["ctl"], self.namespaces.command("ctl", ()))
        self._remove.append(self.servers.stop)
        self.servers.start()
        self._start_controllers()
        for host in self.hosts.values():
            host.libvirtd.start()
            host.add_services(self._of_host(host), self.servers.store)
        self.await_well()
        self._begin()

    def _lay_cables(self) -> None:
        self.namespaces.make("net")
        for wire, places, mtu in (("under", UNDERLAY, "1550"), ("public", PUBLIC, "1500")):
            self.namespaces.run("net", ["ip", "link", "add", wire, "mtu", mtu, "type", "bridge"])
            self.namespaces.run("net", ["ip", "link", "set", wire, "up"])
            for place, address in places.items():
                end = f"{wire}-{place}"
                self.namespaces.cable(place, wire, "net", end)
                self.namespaces.run("net", ["ip", "link", "set", end, "master", wire, "mtu", mtu, "up"])
                self.namespaces.run(place, ["ip", "address", "add", f"{address}/24", "dev", wire])
                self.namespaces.run(place, ["ip", "link", "set", wire, "mtu", mtu, "up"])
        self.namespaces.run("out", ["ip", "route", "add", FLOATING, "dev", "public"])

    def _start_controllers(self) -> None:
        settings = TIMES | self.servers.queue | self.servers.store | self.servers.people
        settings |= {
            "network.manager": "flatdhcp",
            "network.cidr": RANGE,
            "network.floating": FLOATING,
            "objectstore.endpoint": f"tcp:3333:interface={UNDERLAY['ctl']}",
            "objectstore.url": f"http://{UNDERLAY['ctl']}:3333",
            "objectstore.secret": "one that they all have",
        }
        fence = self.directory / "fence"
        fence.write_text(f'#!/bin/sh\ntouch "{self.directory}/asked-$1"\ntest -e "{self.dead}/$1"\n')
        fence.chmod(0o755)
        settings["controller.fence"] = str(fence)
        self.controllers = {}
        for name in CONTROLLERS:
            self.controllers[name] = Service(self.namespaces, "ctl", name, "ctl", self.directory, settings)
            self._remove.append(self.controllers[name].remove)
            self.controllers[name].process.start()

    def _of_host(self, host: Host) -> dict[str, str]:
        """The settings of a compute host."""
        return (
            TIMES
            | self.servers.queue
            | {
                "compute.driver": "libvirt",
                "libvirt.uri": host.libvirtd.uri,
                "libvirt.migration_address": f"tcp://{UNDERLAY[host.name]}",
                "libvirt.virt_type": "qemu",
                "libvirt.kernel_line": self._guest.line,
                "libvirt.hotplug_ports": "2",
                "libvirt.shutdown_seconds": "3",
                "network.driver": "vxlan",
                "network.vxlan_local": UNDERLAY[host.name],
                "network.vxlan_peers": ",".join(UNDERLAY[name] for name in self.hosts),
                "network.mtu": "1500",
                "network.public_interface": "public",
                "metadata.endpoint": "tcp:8775",
            }
        )

    def await_well(self) -> None:
        """Wait until every service is well."""
        for service in (
            *self.controllers.values(),
            *(each for host in self.hosts.values() for each in host.services.values()),
        ):
            service.process.await_well()

    def _begin(self) -> None:
        """Have an image and two projects, once the hosts are known."""
        port = self.controllers["cloud-api"].process.port
        self._url = f"http://127.0.0.1:{port}"
        self.admin = Client(Credentials(self._url, self.servers.access_key, self.servers.secret_key))
        (self.directory / "cloudrc").write_text(render(self._url, self.servers.access_key, self.servers.secret_key))
        guest = self._guest
        files = ["--disk", guest.disk, "--kernel", guest.kernel, "--ramdisk", guest.ramdisk]
        self.image = self.manage("image", "add", "tiny", *files, "--public")["image"]
        await_true(lambda: self.talking >= {"ha", "hb"}, "both hosts have reported")
        self.apples, self.pears = self._project("apples"), self._project("pears")

    def _project(self, name: str) -> Project:
        self.admin.call("RegisterUser", id=name, admin=False)
        self.admin.call("RegisterProject", id=name, manager=name, description="", members=[])
        keys = self.admin.call("GenerateCredentials", user=name, project=name)
        ec2 = boto3.client(
            "ec2",
            endpoint_url=self._url + "/services/Cloud",
            region_name="nova",
            aws_access_key_id=keys["access_key"],
            aws_secret_access_key=keys["secret_key"],
            config=Config(retries={"max_attempts": 4}, read_timeout=60),
        )
        return Project(ec2, self.directory / f"{name}.pem")

    def manage(self, *words: str) -> Any:
        """
        Run C{cloud-manage} where the controllers are.

        @return: what it says.
        """
        command = [sys.executable, "-m", "fabric.manage.main", "--cloudrc", str(self.directory / "cloudrc"), "--json"]
        environment = {"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            self.namespaces.command("ctl", [*command, *words]), env=environment, capture_output=True, text=True
        )
        assert done.returncode in (0, 1), done.stderr
        return json.loads(done.stdout)

    @property
    def talking(self) -> set[str]:
        """The hosts that can be given instances."""
        return {
            each["host"] for each in self.admin.call("DescribeHosts") if each["topic"] == "compute" and each["alive"]
        }

    # Instances.

    def launch(self, project: Project, count: int = 1, groups: Iterable[str] = (), **more: Any) -> list[str]:
        """
        @return: ids of new instances, whatever they do.
        """
        wanted = {"ImageId": self.image, "MinCount": count, "MaxCount": count, "InstanceType": "m1.tiny"} | more
        made = project.ec2.run_instances(KeyName="key", SecurityGroupIds=[project.group, *groups], **wanted)
        return [each["InstanceId"] for each in made["Instances"]]

    def instance(self, project: Project, id: str) -> dict[str, Any]:
        """@return: an instance as it is now."""
        [reservation] = project.ec2.describe_instances(InstanceIds=[id])["Reservations"]
        return reservation["Instances"][0]  # type: ignore[no-any-return]

    def until_state(self, project: Project, ids: Iterable[str], state: str) -> None:
        """Wait until all are so."""
        ids = list(ids)

        def there() -> bool:
            found = project.ec2.describe_instances(InstanceIds=ids)["Reservations"]
            return {each["State"]["Name"] for all in found for each in all["Instances"]} == {state}

        until(there, f"{', '.join(ids)} are {state}")

    def until_said(self, project: Project, id: str, words: str) -> str:
        """@return: the console, once it has said something."""

        def said() -> str:
            text = project.ec2.get_console_output(InstanceId=id).get("Output", "")
            return text if words in text else ""

        return until(said, f"{id} says {words!r}")  # type: ignore[no-any-return]

    def host_of(self, id: str) -> str:
        """@return: the name of the host whose libvirt runs it; those of both if they do."""
        return " ".join(name for name, host in self.hosts.items() if host.libvirtd.alive and id in host.running)

    def floating(self, project: Project, id: str) -> str:
        """@return: a new address that leads to an instance."""
        held = project.ec2.allocate_address()
        project.ec2.associate_address(AllocationId=held["AllocationId"], InstanceId=id)
        return held["PublicIp"]  # type: ignore[no-any-return]

    def terminate(self, project: Project, ids: Iterable[str]) -> None:
        """End instances, and wait until they are gone."""
        ids = list(ids)
        project.ec2.terminate_instances(InstanceIds=ids)
        self.until_state(project, ids, "terminated")

    # Ways into guests.

    def ssh(self, project: Project, address: str, *command: str) -> list[str]:
        """@return: the command that runs one in a guest, from outside."""
        options = [part for option in _SSH for part in ("-o", option)]
        return self.namespaces.command("out", ["ssh", "-i", str(project.key), *options, f"root@{address}", *command])

    def until_ssh(self, project: Project, address: str, command: str) -> str:
        """@return: what a command in a guest wrote, once its ssh answers."""

        def answered() -> Any:
            words = self.ssh(project, address, command)
            try:
                done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90)
            except subprocess.TimeoutExpired:  # as of a connection whose other end was taken away
                return None
            return (done.stdout,) if done.returncode == 0 else None

        return until(answered, f"ssh to {address}: {command}")[0]  # type: ignore[no-any-return]

    # Proofs.

    def amiss(self) -> list[Any]:
        """@return: what C{cloud-manage check} finds."""
        return self.admin.call("CheckState", repair=False)  # type: ignore[no-any-return]
