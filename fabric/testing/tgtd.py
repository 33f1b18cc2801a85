"""
An iSCSI target of a test's own: C{tgtd}, which needs nothing of the kernel.

Everything here blocks; a test calls it by C{deferToThread}.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from fabric.testing.namespaces import Namespaces
from fabric.testing.processes import await_true

USER, PASSWORD = "cloud", "secret-of-chap"
PORTAL = "127.0.0.1"


class PrivateTgtd:
    """
    Serves files as disks, to who has the password.
    """

    def __init__(self, namespaces: Namespaces, name: str) -> None:
        """
        @param name: of the namespace, which is there.
        """
        self._namespaces = namespaces
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self.place = Path(tempfile.mkdtemp(prefix="fabric-tgtd-"))
        self._environment = os.environ | {
            "TGT_IPC_SOCKET": str(self.place / "socket"),
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        }

    def start(self) -> None:
        """
        Start it, and wait until it answers.

        @raise AssertionError: it does not.
        """
        found = shutil.which("tgtd", path=self._environment["PATH"])
        assert found, "iSCSI targets need the command tgtd, of Debian's package tgt"
        command = ["tgtd", "-f", "-C", "0", "--iscsi", f"portal={PORTAL}:3260"]
        with open(self.place / "said", "wb") as said:
            self._process = subprocess.Popen(
                self._namespaces.command(self._name, command),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        await_true(lambda: self._ask("--op", "show", "--mode", "system").returncode == 0, "tgtd answers", 20.0)
        self._tell("--op", "new", "--mode", "account", "--user", USER, "--password", PASSWORD)

    def export(self, number: int, size_mb: int) -> Path:
        """@return: the file behind a new target."""
        path = self.place / f"volume-{number}"
        with open(path, "wb") as file:
            file.truncate(size_mb * 1024**2)
        target = ["--mode", "target", "--tid", str(number)]
        self._tell("--op", "new", *target, "--targetname", self.connection(number)["iqn"])
        unit = ["--mode", "logicalunit", "--tid", str(number), "--lun", "1"]
        self._tell("--op", "new", *unit, "--backing-store", str(path))
        self._tell("--op", "bind", *target, "--initiator-address", "ALL")
        self._tell("--op", "bind", "--mode", "account", "--tid", str(number), "--user", USER)
        return path

    def connection(self, number: int) -> dict[str, str]:
        """@return: how it is reached, without the password."""
        iqn = f"iqn.2010-10.org.example:volume-{number}"
        return {"kind": "iscsi", "host": PORTAL, "port": "3260", "iqn": iqn, "lun": "1"}

    def remove(self) -> None:
        """End it, and remove its files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.place, ignore_errors=True)

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["tgtadm", "--lld", "iscsi", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=120, check=False)

    def _tell(self, *arguments: str) -> None:
        done = self._ask(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
