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
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fabric.testing.guests import NetnsGuest
from fabric.testing.namespaces import Namespaces
from fabric.testing.processes import SOURCES, await_true
from tests.integration.linux_networks import DHCP, dhcp_plug, mac

ACCOUNT = 65534
"""As good as nobody."""

UNITS = SOURCES / "etc" / "systemd"


def capabilities(service: str) -> list[str]:
    """
    @return: those of a service's unit, as C{net_admin}.
    """
    [line] = re.findall(r"^AmbientCapabilities=(.*)$", (UNITS / f"{service}.service").read_text(), re.MULTILINE)
    return [name.removeprefix("CAP_").lower() for name in line.split()]


def confined(service: str) -> list[str]:
    """
    @return: what runs a command as the account, with the unit's capabilities
        alone; and with the right to read the sources, where they are not for all.
    """
    found = capabilities(service)
    as_nobody = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
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
