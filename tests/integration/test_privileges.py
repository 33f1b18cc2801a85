"""
Services on hosts with no more privileges than their units give them: as an
account of nobody's, in namespaces.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fabric.testing.guest_image import tiny_guest
from fabric.testing.guests import NetnsGuest
from fabric.testing.libvirtd import PrivateLibvirtd
from fabric.testing.namespaces import Namespaces
from fabric.testing.processes import SOURCES, await_true
from tests.integration.linux_networks import DHCP, dhcp_plug, mac

ACCOUNT = 65534
"""As good as nobody."""

UNITS = SOURCES / "etc" / "systemd"


def unit(service: str, setting: str) -> list[str]:
    """
    @return: the words of a setting of a service's unit.
    """
    [line] = re.findall(rf"^{setting}=(.*)$", (UNITS / f"{service}.service").read_text(), re.MULTILINE)
    return line.split()  # type: ignore[no-any-return]


def confined(service: str, groups: Sequence[str] = ()) -> list[str]:
    """
    @return: what runs a command as the account, with the unit's capabilities
        alone; and with the right to read the sources, where they are not for all.
    """
    found = [name.removeprefix("CAP_").lower() for name in unit(service, "AmbientCapabilities")]
    as_nobody = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}"]
    as_nobody += [f"--groups={','.join(groups)}"] if groups else ["--clear-groups"]
    reads = subprocess.run([*as_nobody, sys.executable, "-c", "import twisted"], cwd="/", capture_output=True)
    seen = subprocess.run([*as_nobody, "test", "-r", str(SOURCES / "fabric" / "worker.py")], cwd="/")
    if reads.returncode or seen.returncode:
        found.append("dac_read_search")
    sets = ",".join(["-all", *(f"+{name}" for name in found)])
    return [*as_nobody, "--no-new-privs", f"--inh-caps={sets}", f"--ambient-caps={sets}", f"--bounding-set={sets}"]


class NetworkTests(SynchronousTestCase):
    """
    C{cloud-network} with Linux's own network.
    """

    def setUp(self) -> None:
        """A host, and a directory that is the account's."""
        self.namespaces = Namespaces()
        self.addCleanup(self.namespaces.remove)
        self.namespaces.make("host")
        self.directory = Path(tempfile.mkdtemp(prefix="fabric-network-"))
        self.addCleanup(shutil.rmtree, self.directory, True)
        os.chown(self.directory, ACCOUNT, ACCOUNT)

    def start(self) -> None:
        """Have the service there, until two guests are plugged."""
        module = [sys.executable, "-m", "tests.integration.network_process", str(self.directory), ""]
        self.said = self.directory.with_suffix(".said")
        self.addCleanup(self.said.unlink)
        with open(self.said, "wb") as said:
            process = subprocess.Popen(
                self.namespaces.command("host", [*confined("cloud-network"), *module]),
                cwd="/",
                env={"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(self.end_dnsmasq)
        await_true(lambda: "ready" in self.text() or process.poll() is not None, "it has plugged two guests", 60)
        self.assertIn("ready", self.text())
        self.pid = process.pid

    def text(self) -> str:
        """What it wrote."""
        return self.said.read_text()

    def end_dnsmasq(self) -> None:
        """Which stays, as it should."""
        for path in self.directory.glob("dhcp/*.pid"):
            os.kill(int(path.read_text()), signal.SIGKILL)

    def test_does_all(self) -> None:
        """Bridge, filters, sysctls and DHCP are made by an account that has the unit's capabilities only."""
        self.start()
        status = Path(f"/proc/{self.pid}/status").read_text()
        self.assertRegex(status, rf"Uid:\t{ACCOUNT}\t{ACCOUNT}\t{ACCOUNT}")
        self.assertEqual(self.namespaces.run("host", ["cat", "/proc/sys/net/ipv4/ip_forward"]).strip(), "1")
        tables = self.namespaces.run("host", ["nft", "list", "tables"])
        self.assertIn("fabric_filter", tables)
        guest = NetnsGuest(self.namespaces, "host", "g2", mac(2))
        guest.plug(DHCP.bridge)
        self.assertEqual(guest.leases().get("ip"), dhcp_plug(2).address)


class ComputeTests(SynchronousTestCase):
    """
    C{cloud-compute} with a libvirt as Debian makes it: guests have an account of their own.
    """

    security = "none"
    seconds = 200.0

    def setUp(self) -> None:
        """A host, and a directory that is the account's."""
        self.namespaces = Namespaces()
        self.addCleanup(self.namespaces.remove)
        self.libvirtd = PrivateLibvirtd(self.namespaces, "host")
        self.addCleanup(self.libvirtd.remove)
        self.libvirtd.prepare(stock=True, security=self.security)
        self.libvirtd.start(self.seconds)
        [mode] = unit("cloud-compute", "StateDirectoryMode")
        self.directory = Path(tempfile.mkdtemp(prefix="fabric-compute-"))
        self.addCleanup(shutil.rmtree, self.directory, True)
        self.directory.chmod(int(mode, 8))
        os.chown(self.directory, ACCOUNT, ACCOUNT)

    def test_does_all(self) -> None:
        """Guests of one image are booted, copied, restarted and removed by an account with the unit's groups only."""
        guest = tiny_guest()
        [mask] = unit("cloud-compute", "UMask")
        within = confined("cloud-compute", unit("cloud-compute", "SupplementaryGroups"))
        module = [sys.executable, "-m", "tests.integration.compute_process", str(self.directory), self.libvirtd.uri]
        module += [guest.kernel, guest.ramdisk, guest.disk, guest.line]
        done = subprocess.run(
            self.namespaces.command("host", [*within, *module]),
            cwd="/",
            env={"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
            umask=int(mask, 8),
            capture_output=True,
            text=True,
            timeout=self.seconds,
        )
        said = ["running running running", f"confined {self.security != 'none'}", "captured QFI", "console True"]
        said.append("left ")
        self.assertEqual(done.stdout.splitlines(), said, done.stderr[-4000:])

    def test_closed_to_guests(self) -> None:
        """C{check-host} tells of a directory that guests can't enter, and of none where they can."""
        closed = Path(tempfile.mkdtemp(prefix="fabric-closed-"))
        self.addCleanup(shutil.rmtree, closed, True)
        command = [sys.executable, str(SOURCES / "scripts" / "check-host"), f"--uri={self.libvirtd.uri}"]
        for data, word in ((closed / "data", "MISSING"), (self.directory / "data", "ok     ")):
            done = subprocess.run([*command, f"--data={data}"], capture_output=True, text=True, timeout=60)
            self.assertIn(f"  {word}  data: guests, which run as user", done.stdout)
