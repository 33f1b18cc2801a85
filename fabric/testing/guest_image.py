"""
A guest that really boots, made once for all tests of a checkout.

Everything here blocks; a test calls it by C{deferToThread}.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
MAKER = ROOT / "scripts" / "make-guest-image"


@attrs.frozen
class GuestImage:
    """
    Paths of what a machine boots.

    @ivar kernel: an ELF kernel.
    @ivar ramdisk: what it unpacks first.
    @ivar disk: a qcow2, not to be written to.
    @ivar line: the kernel's command line, not a path.
    """

    kernel: str
    ramdisk: str
    disk: str
    line: str


def tiny_guest(directory: Path = ROOT / ".guest-test") -> GuestImage:
    """
    The guest of C{scripts/make-guest-image}, made unless this version of it is
    there.  Processes may ask at the same time.

    @raise AssertionError: it can't be made; the text says what is missing.
    """
    return _made(directory, _version(ROOT / "scripts" / "guest"))


def idle_guest(directory: Path = ROOT / ".guest-test") -> GuestImage:
    """
    The tiny guest with a kernel that says C{idle} on the serial port and halts
    for good: for tests of what is done with guests, not by them.  It takes no
    processor, and does not answer the power button or give disks back.

    @raise AssertionError: as of L{tiny_guest}.
    """
    guest = tiny_guest(directory)
    path = directory / "idle"
    made = idle_kernel(b"idle\r\n")
    if not path.exists() or path.read_bytes() != made:
        fresh = directory / f"idle.{os.getpid()}"
        fresh.write_bytes(made)
        fresh.rename(path)
    return attrs.evolve(guest, kernel=str(path))


def idle_kernel(said: bytes) -> bytes:
    """
    A program for a bare x86 machine, which Xen's PVH protocol begins in 32 bits:
    a note of type 18 in an ELF file tells where.

    @param said: written to the first serial port.
    @see: U{https://xenbits.xen.org/docs/unstable/misc/pvh.html}
    """
    begin = 0x100000
    text = begin + 0x20
    code = b"\xbe" + struct.pack("<I", text)  # mov esi, text
    code += b"\x66\xba\xf8\x03"  # mov dx, 0x3f8
    code += b"\xac\x84\xc0\x74\x03\xee\xeb\xf8"  # next: lodsb; test al, al; jz end; out dx, al; jmp next
    code += b"\xfa\xf4\xeb\xfd"  # end: cli; again: hlt; jmp again
    program = code.ljust(text - begin, b"\x90") + said + b"\0"
    note = struct.pack("<III", 4, 8, 18) + b"Xen\0" + struct.pack("<Q", begin)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, begin, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    loaded = struct.pack("<IIQQQQQQ", 1, 5, 0x1000, begin, begin, len(program), len(program), 0x1000)
    noted = struct.pack("<IIQQQQQQ", 4, 4, 64 + 2 * 56, 0, 0, len(note), len(note), 4)
    return (header + loaded + noted + note).ljust(0x1000, b"\0") + program


def cloud_init_guest(directory: Path = ROOT / ".guest-test" / "cloud-init") -> GuestImage:
    """
    Debian with cloud-init, by C{scripts/make-guest-image --cloud-init}; else
    as L{tiny_guest}, but root makes it and it takes minutes.

    @raise AssertionError: as of L{tiny_guest}.
    """
    return _made(directory, _version(), "--cloud-init", "--packages", str(directory.parent / "packages"))


def _made(directory: Path, wanted: str, *options: str) -> GuestImage:
    directory.mkdir(parents=True, exist_ok=True)
    stamp = directory / "made"
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            make_guest(directory, *options)
            stamp.write_text(wanted)
    return guest_in(directory)


def make_guest(directory: Path, *options: str) -> None:
    """
    Run the command.

    @raise AssertionError: it failed, and why.
    """
    command = [sys.executable, str(MAKER), *options, str(directory)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def guest_in(directory: Path) -> GuestImage:
    """
    What the command left in a directory.
    """
    kernel, ramdisk, disk = (str(directory / name) for name in ("vmlinux", "initrd.gz", "root.qcow2"))
    return GuestImage(kernel, ramdisk, disk, (directory / "kernel.line").read_text().strip())


def _version(*parts: Path) -> str:
    """A digest of all that a guest is made of, but for Debian's packages: the maker, and files below directories."""
    paths = [MAKER, *sorted(path for part in parts for path in part.rglob("*") if path.is_file())]
    whole = hashlib.sha256()
    for path in paths:
        whole.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()
