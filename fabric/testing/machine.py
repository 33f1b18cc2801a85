"""
A machine with Debian's whole kernel, on this machine's own files, for tests of
what the kernel here can't do.

It is emulated, so what computes takes ten times as long.  It sees all files
that are here, as they are; what it writes is its own and gone with it, but for
one directory.  Everything here blocks; a test calls it by C{deferToThread}.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

from fabric.testing.guest_image import MAKER, ROOT

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    VIRTIOFSD: "qemu-system-common",
    "depmod": "kmod",
    "busybox": "busybox-static",
    "lz4": "lz4",
}
"""Commands that it is made of, each with its Debian package."""

PLACES = ("bin", "dev", "modules", "proc", "sys")
DRIVERS = ("virtio_pci", "fuse", "virtiofs", "overlay")
LINE = (
    "console=ttyS0 panic=-1 quiet mitigations=off no_timer_check tsc=reliable cryptomgr.notests init_on_alloc=0 "
    "lsm={security} audit={audited} random.trust_cpu=on rcupdate.rcu_expedited=1 nokaslr"
)

INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc p /proc; $B mount -t devtmpfs d /dev; $B mount -t sysfs s /sys
for module in $($B cat /modules/order); do $B insmod /modules/$module; done
$B mkdir -p /lower /upper /new
$B mount -t virtiofs -o ro root /lower && $B mount -t tmpfs -o size=70% u /upper || $B poweroff -f
$B mkdir /upper/u /upper/w
$B mount -t overlay -o lowerdir=/lower,upperdir=/upper/u,workdir=/upper/w o /new
for where in proc sys dev; do $B mkdir -p /new/$where; $B mount --move /$where /new/$where; done
$B mkdir -p /new/run /new/out /new/lib/modules /new/dev/pts /new/dev/shm
$B mount -t tmpfs r /new/run; $B mount -t tmpfs s /new/dev/shm
$B mount -t devpts p /new/dev/pts; $B mount -t virtiofs out /new/out
$B mount --bind /lower@MODULES@ /new/lib/modules
exec $B switch_root /new /bin/sh /out/begin
"""

BEGIN = """export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
cd / && ip link set lo up
sh /out/command </dev/null >/out/written 2>&1
echo $? >/out/status
sync
busybox poweroff -f
"""


def full_kernel(directory: Path = ROOT / ".machine-test") -> Path:
    """
    Have the kernel, its modules and its first file system, made once.
    Processes may ask at the same time.

    @return: where they are.
    @raise AssertionError: they can't be made; the text says what is missing.
    """
    for tool, package in TOOLS.items():
        assert shutil.which(tool), f"a machine needs {tool}, of Debian's package {package}"
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    stamp = directory / "made"
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = hashlib.sha256(Path(__file__).read_bytes() + MAKER.read_bytes()).hexdigest()
        if not stamp.exists() or stamp.read_text() != wanted:
            _make(directory)
            stamp.write_text(wanted)
    return directory


class Machine:
    """
    One machine, for one command.
    """

    def __init__(self, memory_mb: int = 1024, processors: int = 2, security: str = "") -> None:
        """
        @param security: the kernel's security module, as C{apparmor}; it has no rules yet.
        """
        self._memory = memory_mb
        self._processors = processors
        self._security = security

    def run(self, command: str, seconds: float) -> tuple[int, str]:
        """
        Boot, run a command of C{sh} as root, and power off.

        @return: its exit status, and all that it wrote.
        @raise AssertionError: it did not come to an end in time.
        """
        kernel = full_kernel()
        with tempfile.TemporaryDirectory(prefix="fabric-machine-") as name:
            place = Path(name)
            out = place / "out"
            out.mkdir()
            (out / "begin").write_text(BEGIN)
            (out / "command").write_text(command)
            status = out / "status"
            self._boot(place, kernel, seconds)
            written = out / "written"
            said = written.read_text(errors="replace") if written.exists() else ""
            console = (place / "console").read_text(errors="replace")[-3000:]
            assert status.exists(), f"the machine came to no end in {seconds:g} s: {said[-3000:]}\n{console}"
            return int(status.read_text()), said

    def _boot(self, place: Path, kernel: Path, seconds: float) -> None:
        shares = [
            self._share(place, "root", Path("/"), "always"),
            self._share(place, "out", place / "out", "none"),
        ]
        try:
            for name in ("root", "out"):
                _await(place / f"{name}.socket")
            with open(place / "qemu.log", "wb") as log:
                subprocess.run(
                    self._qemu(place, kernel), stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=seconds
                )
        except subprocess.TimeoutExpired:
            pass  # told by there being no status
        finally:
            for share in shares:
                share.kill()
                share.wait()

    def _share(self, place: Path, name: str, source: Path, cache: str) -> subprocess.Popen[bytes]:
        options = f"source={source},cache={cache},sandbox=chroot,xattr"
        command = [VIRTIOFSD, "-f", f"--socket-path={place}/{name}.socket", "-o", options]
        command += ["--thread-pool-size=2", "--rlimit-nofile=0"]
        with open(place / f"{name}.log", "wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _qemu(self, place: Path, kernel: Path) -> list[str]:
        memory = f"memory-backend-memfd,id=m,size={self._memory}M,share=on"
        command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-m", str(self._memory)]
        command += ["-smp", str(self._processors), "-M", "q35,memory-backend=m", "-object", memory]
        command += ["-accel", "tcg,thread=multi", "-cpu", "qemu64", "-serial", f"file:{place}/console"]
        command += ["-kernel", str(kernel / "vmlinux"), "-initrd", str(kernel / "initrd.gz"), "-append"]
        command += [LINE.format(security=self._security, audited=int(bool(self._security)))]
        for name in ("root", "out"):
            command += ["-chardev", f"socket,id={name},path={place}/{name}.socket"]
            command += ["-device", f"vhost-user-fs-pci,chardev={name},tag={name}"]
        return command


def trial_command(*modules: str) -> str:
    """
    @return: what runs tests of this checkout in a machine, with this Python.
    """
    environment = f"PYTHONPATH={shlex.quote(str(ROOT))} PYTHONDONTWRITEBYTECODE=1"
    trial = f"{shlex.quote(sys.executable)} -m twisted.trial --temp-directory=/tmp/trial {' '.join(modules)}"
    return f"cd {shlex.quote(str(ROOT))} && {environment} {trial}"


def _make(directory: Path) -> None:
    maker = _maker()
    tree = directory / "kernel"
    shutil.rmtree(tree, ignore_errors=True)
    try:
        maker.unpacked([maker.kernel_package()], str(directory / "packages"), str(tree))
        [image] = (tree / "boot").glob("vmlinuz-*")
        (directory / "vmlinux").write_bytes(maker.vmlinux(str(image)))
    except SystemExit as error:
        raise AssertionError(f"there is no kernel to be had: {error.code}") from error
    modules = tree / "lib" / "modules"
    subprocess.run(["depmod", "-b", str(tree), image.name.partition("-")[2]], check=True)
    drivers = maker.Modules(str(modules)).ordered(DRIVERS)
    files: dict[str, tuple[int, bytes | None]] = dict.fromkeys(PLACES, (0o755, None))
    files |= {"init": (0o755, INIT.replace("@MODULES@", str(modules)).encode())}
    busybox = shutil.which("busybox")
    assert busybox is not None
    files["bin/busybox"] = (0o755, Path(busybox).read_bytes())
    files |= {f"modules/{name}.ko": (0o644, data) for name, data in drivers.items()}
    files["modules/order"] = (0o644, "".join(f"{name}.ko\n" for name in drivers).encode())
    (directory / "initrd.gz").write_bytes(gzip.compress(maker.archived(files), 6))


def _maker() -> Any:
    """C{scripts/make-guest-image} as a module: it knows kernels and packages."""
    loader = SourceFileLoader("make_guest_image", str(MAKER))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def _await(path: Path) -> None:
    ends = time.monotonic() + 30.0
    while not os.path.exists(path):
        assert time.monotonic() < ends, f"virtiofsd does not listen: {path.with_suffix('.log').read_text()}"
        time.sleep(0.02)
