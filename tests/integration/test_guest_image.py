"""
The tiny guest, booted by plain qemu.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fabric.testing.guest_image import ROOT, GuestImage, guest_in, make_guest, tiny_guest
from fabric.testing.ports import free_port

LONG = 120.0
"""Seconds that a boot may take on a busy machine without KVM."""

METADATA = """\
import sys
line = sys.stdin.buffer.readline().split()
while sys.stdin.buffer.readline().strip():
    pass
answers = {answers!r}
body = answers.get(line[1].decode()) if line else None
status = b"200 OK" if body is not None else b"404 Not Found"
body = (body or "").encode()
sys.stdout.buffer.write(b"HTTP/1.0 %s\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (status, len(body), body))
"""
"""Answers one request at standard input, as qemu's user network runs it."""


class Machine:
    """
    One guest under qemu, on a network within that process.
    """

    def __init__(self, guest: GuestImage, directory: Path, answers: dict[str, str]) -> None:
        self.console = directory / "console"
        self._short = Path(tempfile.mkdtemp(prefix="fabric-"))  # a socket's path has 107 bytes at most
        self._monitor = self._short / "monitor"
        overlay, door = directory / "disk.qcow2", directory / "door.py"
        door.write_text(METADATA.replace("{answers!r}", repr(answers)))
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", guest.disk, str(overlay), "256M"],
            check=True,
        )
        self.port = free_port()
        network = (
            f"user,id=n,net=169.254.0.0/16,hostfwd=tcp:127.0.0.1:{self.port}-:22,"
            f"guestfwd=tcp:169.254.169.254:80-cmd:{sys.executable} {door}"
        )
        command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-m", "128", "-M", "pc", "-cpu", "qemu64"]
        command += ["-accel", "tcg", "-kernel", guest.kernel, "-initrd", guest.ramdisk, "-append", guest.line]
        command += ["-drive", f"file={overlay},if=none,id=d", "-device", "virtio-blk-pci,drive=d,serial=first"]
        command += ["-netdev", network, "-device", "virtio-net-pci,netdev=n,romfile="]
        command += ["-serial", f"file:{self.console}", "-monitor", f"unix:{self._monitor},server,nowait"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def wait_for(self, words: str) -> str:
        """
        Wait until the console says something.

        @return: all that it has said.
        """
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            text = self.console.read_text("utf-8", "replace") if self.console.exists() else ""
            if words in text:
                return text
            assert self.process.poll() is None, text
            time.sleep(0.1)
        raise AssertionError(f"the console never said {words!r}, but:\n{text}")

    def order(self, *lines: str) -> None:
        """Tell qemu's monitor something."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(10)
            monitor.connect(str(self._monitor))
            for line in lines:
                _read_prompt(monitor)
                monitor.sendall(line.encode() + b"\n")
            _read_prompt(monitor)

    def stop(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self._short)


class BootTests(SynchronousTestCase):
    """
    A guest with a network, a disk and metadata.
    """

    def machine(self, user_data: str = "", key: str = "") -> Machine:
        """A guest that boots, and ends with the test."""
        assert shutil.which("qemu-system-x86_64"), "needs qemu, of Debian's package qemu-system-x86"
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        answers = {"/latest/meta-data/instance-id": "i-0123456789abcdef0"}
        if user_data:
            answers["/latest/user-data"] = user_data
        if key:
            answers["/latest/meta-data/public-keys/0/openssh-key"] = key
        machine = Machine(tiny_guest(), directory, answers)
        self.addCleanup(machine.stop)
        return machine

    def test_story(self) -> None:
        """It grows its disk, gets an address, asks for metadata, runs user data, and says so on the console."""
        text = self.machine("#!/bin/sh\necho I run on $(hostname)\nexit 3\n").wait_for("FABRIC ready")
        told = (
            "FABRIC init",
            "FABRIC root 256 MB",
            "vda 524288 (512-byte blocks) serial first",
            "FABRIC dhcp eth0 169.254.",
        )
        ran = ("FABRIC metadata i-0123456789abcdef0", "FABRIC key none", "I run on", "FABRIC user-data exit 3")
        self.assertEqual([line for line in (*told, *ran) if line not in text], [], text)

    def test_ssh(self) -> None:
        """The key of the metadata opens ssh for root, whose file system is as large as its disk."""
        key = Path(self.mktemp()).absolute()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        machine = self.machine(key=key.with_suffix(".pub").read_text())
        self.assertIn("FABRIC key installed", machine.wait_for("FABRIC ready"))
        ssh = ["ssh", "-i", str(key), "-p", str(machine.port), "-o", "BatchMode=yes", "-o", "ConnectTimeout=60"]
        ssh += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        command = [*ssh, "root@127.0.0.1", "id -u; df -m / | tail -1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        user, size = done.stdout.splitlines()
        self.assertEqual(user, "0")
        self.assertGreater(int(size.split()[1]), 200)

    def test_disks_and_power(self) -> None:
        """It tells of disks that come and go, and heeds the power button."""
        machine = self.machine()
        machine.wait_for("FABRIC ready")
        extra = Path(self.mktemp()).absolute()
        extra.write_bytes(b"\0" * (4 << 20))
        machine.order(
            f"drive_add 0 if=none,id=e,format=raw,file={extra}", "device_add virtio-blk-pci,drive=e,id=x,serial=second"
        )
        machine.wait_for("FABRIC disk added vdb 8192 (512-byte blocks) serial second")
        machine.order("device_del x")
        machine.wait_for("FABRIC disk removed vdb")
        machine.order("system_powerdown")
        self.assertEqual(machine.process.wait(LONG), 0)
        self.assertIn("FABRIC power button", machine.console.read_text("utf-8", "replace"))


class MakingTests(SynchronousTestCase):
    """
    The command.
    """

    def test_same_bytes(self) -> None:
        """The same packages make the same bytes."""
        ours = tiny_guest()
        again = Path(self.mktemp()).absolute()
        make_guest(again, "--packages", str(Path(ours.disk).parent / "packages"))
        other = guest_in(again)
        for name in ("kernel", "ramdisk", "disk"):
            self.assertEqual(_digest(getattr(ours, name)), _digest(getattr(other, name)), name)

    def test_missing(self) -> None:
        """What is missing is said in one line, with the command that mends it."""
        tools = Path(self.mktemp()).absolute()
        tools.mkdir()
        command = [sys.executable, str(ROOT / "scripts" / "make-guest-image"), str(tools / "out")]
        script = "import os, runpy, sys; sys.argv = sys.argv[1:]; import shutil; shutil.which = lambda *a, **k: None; "
        script += "runpy.run_path(sys.argv[0], run_name='__main__')"
        done: Any = subprocess.run(
            [sys.executable, "-c", script, *command[1:]],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^scripts/make-guest-image: missing .*: apt-get install .*lz4.*qemu-utils\n$")


def _digest(path: str) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _read_prompt(monitor: socket.socket) -> None:
    text = b""
    while b"(qemu) " not in text[-10:]:
        more = monitor.recv(4096)
        if not more:
            return
        text += more
