"""
A libvirtd of a test's own, in a network namespace of its own: it shares no
guest, file or port with the machine's.

Needs root.  Everything here blocks; a test calls it by C{deferToThread}.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

from fabric.testing.namespaces import Namespaces
from fabric.testing.processes import await_true

CACHE = Path(__file__).resolve().parents[2] / ".guest-test" / "libvirt"
"""What libvirtd found out about qemu, which takes it eight seconds."""

_PLACES = {
    "etc": "/etc/libvirt",
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}

_DAEMON = """\
unix_sock_dir = "{place}/sock"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "{uuid}"
log_outputs = "3:file:{place}/libvirtd.log"
"""

_QEMU = """\
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = "file"
"""

_STOCK_DAEMON = """\
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
"""

_STOCK_QEMU = """\
security_driver = "{security}"
namespaces = [ ]
cgroup_controllers = [ ]
"""


class PrivateLibvirtd:
    """
    One host's libvirt.  The namespace has a bridge C{br100}.
    """

    def __init__(self, namespaces: Namespaces, name: str) -> None:
        """
        @param name: of the namespace to make.
        """
        self._namespaces = namespaces
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._first = ""
        self.place = Path(tempfile.mkdtemp(prefix="fabric-libvirt-"))
        atexit.register(self.remove)

    @property
    def uri(self) -> str:
        """Where drivers find it."""
        return f"qemu+unix:///system?socket={self.place}/sock/libvirt-sock"

    def prepare(self, bridge: str = "br100", stock: bool = False, security: str = "none") -> None:
        """
        Make the namespace and the directories.

        @param bridge: one to make there, for ports that nobody else plugs; empty for none.
        @param stock: whether it is as Debian has it: guests have an account of
            their own, their consoles go through virtlogd, and the group
            libvirt may use it.
        @param security: what confines the guests of such a one, as C{apparmor}.

        @raise AssertionError: this machine can't; the text says why not.
        """
        for command, package in (
            ("libvirtd", "libvirt-daemon-system"),
            ("qemu-system-x86_64", "qemu-system-x86"),
            ("qemu-img", "qemu-utils"),
        ):
            found = shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/sbin")
            assert found, f"guests need the command {command}, of Debian's package {package}"
        self._namespaces.make(self._name)
        for arguments in (["add", bridge, "type", "bridge"], ["set", bridge, "up"]) if bridge else ():
            self._namespaces.run(self._name, ["ip", "link", *arguments])
        for name in (*_PLACES, "sock", "lib/qemu", "lib/images", "lib/boot", "log/qemu"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        (self.place / "etc" / "libvirtd.conf").write_text(_DAEMON.format(place=self.place, uuid=uuid.uuid4()))
        (self.place / "etc" / "qemu.conf").write_text(_STOCK_QEMU.format(security=security) if stock else _QEMU)
        if stock:
            self.place.chmod(0o711)
            with open(self.place / "etc" / "libvirtd.conf", "a") as daemon:
                daemon.write(_STOCK_DAEMON)
        self._first = "[ -S /run/libvirt/virtlogd-sock ] || virtlogd -d -p /run/libvirt/virtlogd.pid\n" if stock else ""
        if security != "none":  # the namespace has a /sys of its own
            self._first += "mount -t securityfs rules /sys/kernel/security\n"
        if CACHE.is_dir():
            shutil.copytree(CACHE, self.place / "cache", dirs_exist_ok=True)

    def start(self, seconds: float = 90.0) -> None:
        """
        Start it, and wait until it answers.

        @raise AssertionError: it does not, in time.
        """
        mounts = "".join(f"mkdir -p {at}; mount --bind {self.place}/{name} {at}\n" for name, at in _PLACES.items())
        script = (
            f"set -e\n{mounts}{self._first}exec libvirtd -f /etc/libvirt/libvirtd.conf -p {self.place}/libvirtd.pid"
        )
        alone = ["unshare", "-m", "--propagation", "private", "sh", "-c", script]
        with open(self.place / "said", "ab") as said:
            self._process = subprocess.Popen(
                self._namespaces.command(self._name, alone),
                env=os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        process = self._process
        try:
            await_true(lambda: process.poll() is not None or self._answers(), "libvirtd answers", seconds)
            assert process.poll() is None, "libvirtd ended"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{(self.place / 'said').read_text()}") from None
        self._keep_cache()

    def kill(self) -> None:
        """C{kill -9}; its guests run on.  Nothing when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            (self.place / "libvirtd.pid").unlink(missing_ok=True)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def virsh(self, *arguments: str) -> str:
        """
        Do something behind the driver's back.

        @return: what it wrote.
        """
        command = ["virsh", "-q", "-c", self.uri, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def remove_guests(self) -> None:
        """Have no guest, running or not."""
        running = self.virsh("list", "--name").split()
        for name in self.virsh("list", "--all", "--name").split():
            if name in running:
                self.virsh("destroy", name)
            self.virsh("undefine", name, "--managed-save")

    def pid_of(self, domain: str) -> int:
        """The process of a guest."""
        return int((self.place / "run" / "qemu" / f"{domain}.pid").read_text())

    def remove(self) -> None:
        """Kill it and its guests, and remove its files; twice is as once."""
        self.kill()
        for path in (self.place / "run" / "qemu").glob("*.pid"):
            _kill_guest(int(path.read_text() or 0), path.stem)
        for path in (self.place / "run").glob("virtlogd.pid"):
            _kill_guest(int(path.read_text() or 0), "virtlogd")
        shutil.rmtree(self.place, ignore_errors=True)

    def _answers(self) -> bool:
        if not (self.place / "sock" / "libvirt-sock").exists():
            return False
        command = ["virsh", "-q", "-c", self.uri, "version"]
        try:
            return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def _keep_cache(self) -> None:
        if not CACHE.exists():
            CACHE.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(dir=CACHE.parent))
            shutil.copytree(self.place / "cache", part / "cache")
            with suppress(OSError):  # another test was quicker
                (part / "cache").rename(CACHE)
            shutil.rmtree(part)


def _kill_guest(pid: int, name: str) -> None:
    """End a qemu that is this guest's for sure, or virtlogd."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if name.encode() in command and (b"qemu" in command or name == "virtlogd"):
            os.kill(pid, signal.SIGKILL)
    except OSError:
        return
