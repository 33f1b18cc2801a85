"""
C{cloud-init} in a network of its own, where the door is at 169.254.169.254 and
knows a guest by the address that its packets come from.

Three guests in three namespaces: C{near} and C{other} next to the door's host,
C{far} behind a router.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.cloud.launch import LaunchSpec
from fabric.model.instance import Instance
from fabric.testing.cloud import CALLER, SAMPLE, STRANGER, CloudUnderTest, make_cloud
from fabric.testing.namespaces import Namespaces
from fabric.testing.processes import SOURCES, await_true

Test = Generator[Deferred[Any], Any, None]

PYTHON = "/usr/bin/python3"
"""The interpreter that Debian's package is for."""

GUEST = Path(__file__).with_name("cloud_init_guest.py")
DOOR = "169.254.169.254"
SCRIPT = gzip.compress(b"#cloud-config\nruncmd: [date]\n")
ASK = """
import sys, urllib.request
method, path, *headers = sys.argv[1:]
asked = urllib.request.Request("http://169.254.169.254" + path, method=method)
for header in headers:
    asked.add_header(*header.split("=", 1))
try:
    print(urllib.request.urlopen(asked, timeout=6).read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    print("lost")
"""
SECONDS = "X-aws-ec2-metadata-token-ttl-seconds=60"


class CloudInitTests(TestCase):
    """
    A guest's first boot.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Test:
        assert Path("/usr/lib/python3/dist-packages/cloudinit").is_dir(), "needs Debian's package cloud-init"
        self.directory = Path(tempfile.mkdtemp(prefix="cloud-init-"))
        self.cloud: CloudUnderTest = yield make_cloud(self)
        pair, _ = yield self.cloud.cloud.key_pairs.create(CALLER, "my key", "ed25519", {})
        self.key = pair.public_key
        spec = LaunchSpec(
            SAMPLE,
            "m1.tiny",
            2,
            2,
            key_name="my key",
            user_data=base64.b64encode(SCRIPT).decode(),
            tags={"Name": "one", "env:stage": "a=b", "with space": "x"},
            metadata={"tags": "enabled"},
        )
        launched = yield self.cloud.cloud.instances.run(CALLER, spec)
        [strange] = yield self.cloud.cloud.instances.run(STRANGER, LaunchSpec(SAMPLE, "m1.tiny"))
        ids = [each.id for each in (*launched, strange)]
        self.near, self.far, self.other = yield self.cloud.until_state("running", *ids)
        self.net = Namespaces()
        self.addCleanup(deferToThread, self.net.remove)
        yield deferToThread(self._wire)
        yield deferToThread(self._open_door)

    def _wire(self) -> None:
        """The door's host, a router, and the guests."""
        self.net.make("host")
        self.net.make("router", forwards=True)
        self.net.run("host", ["ip", "address", "add", f"{DOOR}/32", "dev", "lo"])
        links = {"near": "192.168.1", "other": "192.168.2", "router": "192.168.3"}
        for name, instance in (("near", self.near), ("other", self.other)):
            self._guest("host", name, links[name], instance)
        self.net.join("host", "192.168.3.1/24", "router", "192.168.3.2/24")
        self._guest("router", "far", "192.168.4", self.far)
        self.net.run("router", ["ip", "route", "add", "default", "via", "192.168.3.1"])
        self.net.run("host", ["ip", "route", "add", _address(self.far), "via", "192.168.3.2"])

    def _guest(self, gateway: str, name: str, link: str, instance: Instance) -> None:
        """A namespace that sends from the instance's address."""
        port = instance.ports[0]
        self.net.make(name)
        self.net.join(gateway, f"{link}.1/24", name, f"{link}.2/24", port.mac)
        self.net.run(name, ["ip", "address", "add", f"{port.address}/32", "dev", "lo"])
        self.net.run(name, ["ip", "route", "add", "default", "via", f"{link}.1", "src", port.address])
        self.net.run(gateway, ["ip", "route", "add", port.address, "via", f"{link}.2"])

    def _open_door(self) -> None:
        twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
        options = ["--store", self.redis.url, "--metadata", f"tcp:80:interface={DOOR}"]  # type: ignore[attr-defined]
        command = self.net.command("host", ["env", f"PYTHONPATH={SOURCES}", *twistd, "cloud-metadata", *options])
        with open(self.directory / "log", "wb") as log:
            process = Popen(command, stdin=DEVNULL, stdout=log, stderr=log, cwd=self.directory)

        def end() -> None:
            process.terminate()
            process.wait(120.0)

        self.addCleanup(deferToThread, end)
        try:
            await_true(
                lambda: self.ask("near", "GET", "/latest/meta-data/instance-id") == self.near.id, "the door", 120.0
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{(self.directory / 'log').read_text()[-4000:]}") from None

    def ask(self, name: str, *arguments: str) -> str:
        """What a guest gets for a request; C{lost} when no answer comes."""
        return self.net.run(name, [PYTHON, "-c", ASK, *arguments]).strip()

    def boot(self, name: str, version: str) -> Any:
        """What a guest's C{cloud-init} reads."""
        wrote = self.net.run(name, [PYTHON, str(GUEST), str(self.directory / name), version, f"http://{DOOR}"], 120.0)
        return json.loads(wrote.splitlines()[-1])

    @inlineCallbacks
    def evolve(self, instance: Instance, **options: Any) -> Test:
        """Change an instance's metadata options."""
        yield self.cloud.cloud.metadata_settings.modify(CALLER, instance.id, options)

    def read_whole(self, told: Any, instance: Instance) -> None:
        """See that all was read, and is right."""
        address = _address(instance)
        self.assertEqual((told["found"], told["url"], told["version"]), (True, f"http://{DOOR}", "2021-03-23"))
        self.assertEqual((told["instance_id"], told["zone"]), (instance.id, "nova"))
        self.assertEqual(base64.b64decode(told["user_data"]), SCRIPT)
        self.assertEqual(told["keys"], [self.key])
        self.assertIn("ip-" + address.replace(".", "-"), told["hostname"])
        metadata = told["metadata"]
        self.assertEqual((metadata["local-ipv4"], metadata["ami-id"]), (address, SAMPLE))
        self.assertEqual(metadata["public-keys"], {"my key": self.key})
        self.assertEqual(metadata["tags"], {"instance": {"Name": "one", "env:stage": "a=b"}})
        mac = instance.ports[0].mac
        self.assertEqual(metadata["network"]["interfaces"]["macs"][mac]["local-ipv4s"], address)
        ethernets = told["network"]["ethernets"].values()
        self.assertEqual([each["match"]["macaddress"] for each in ethernets], [mac])

    @inlineCallbacks
    def test_first_version(self) -> Test:
        """Without tokens C{cloud-init} reads everything."""
        told = yield deferToThread(self.boot, "near", "v1")
        self.read_whole(told, self.near)
        self.assertFalse(told["token"])

    @inlineCallbacks
    def test_second_version(self) -> Test:
        """With tokens it reads everything, also where they are required."""
        told = yield deferToThread(self.boot, "near", "v2")
        self.read_whole(told, self.near)
        self.assertEqual((told["token"], told["region"]), (True, "nova"))
        self.assertEqual(told["identity"]["instanceId"], self.near.id)
        yield self.evolve(self.near, tokens="required")
        self.read_whole((yield deferToThread(self.boot, "near", "v2")), self.near)
        refused = yield deferToThread(self.ask, "near", "GET", "/latest/meta-data/instance-id")
        self.assertEqual(refused, "401")

    @inlineCallbacks
    def test_bare_guest(self) -> Test:
        """A guest without key, tags or user data boots as well, and is another's."""
        told = yield deferToThread(self.boot, "other", "v2")
        self.assertEqual((told["instance_id"], told["user_data"], told["keys"]), (self.other.id, "", []))

    @inlineCallbacks
    def test_hops(self) -> Test:
        """A token's answer goes as many hops as the instance's options say, and no further."""
        path = "/latest/api/token"
        near = yield deferToThread(self.ask, "near", "PUT", path, SECONDS)
        self.assertEqual(len(near), 56)
        lost = yield deferToThread(self.ask, "far", "PUT", path, SECONDS)
        self.assertEqual(lost, "lost")
        told = yield deferToThread(self.ask, "far", "GET", "/latest/meta-data/instance-id")
        self.assertEqual(told, self.far.id)
        yield self.evolve(self.far, hops=2)
        far = yield deferToThread(self.ask, "far", "PUT", path, SECONDS)
        self.assertEqual(len(far), 56)
        stolen = yield deferToThread(
            self.ask, "far", "GET", "/latest/meta-data/instance-id", f"X-aws-ec2-metadata-token={near}"
        )
        self.assertEqual(stolen, "401")

    @inlineCallbacks
    def test_switched_off(self) -> Test:
        """An instance whose endpoint is switched off has no data source."""
        yield self.evolve(self.near, endpoint="disabled")
        told = yield deferToThread(self.boot, "near", "v2")
        self.assertFalse(told["found"])


def _address(instance: Instance) -> str:
    return instance.ports[0].address
