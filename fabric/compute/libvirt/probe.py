"""
Whether this host's KVM runs guests, found out by running one.

C{/dev/kvm} may open, and libvirt offer it, on machines where no guest gets
anywhere: hosts that are guests themselves, of a hypervisor that lends them half of
what KVM needs, and emulates the rest instruction by instruction.  So the guest that is
tried has work to do, and a time for it.

Everything here blocks.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any
from xml.etree.ElementTree import fromstring

import libvirt
import orjson
from twisted.logger import Logger

from fabric.compute.libvirt.domain import Abilities
from fabric.errors import DriverFailure

SECONDS = 6.0
"""A processor that is virtual needs less than one; an emulated one needs minutes."""

DENIED = "Permission denied"

LOOK = 0.05
"""Seconds between looks at it."""

# mov ecx, 100000000; loop: dec ecx; jnz loop; mov dx, 0x3f8; mov al, 'K'; out dx, al; hlt; jmp $-1
# which is: count, then say so on the serial port.
_WORK = bytes.fromhex("66b900e1f505 6649 75fc baf803 b04b ee f4 ebfd")
_BOOT_SECTOR = _WORK.ljust(510, b"\0") + b"\x55\xaa"

_DOMAIN = """
<domain type="kvm">
  <name>cloud-kvm-probe-{pid}</name>
  <memory unit="MiB">32</memory>
  <vcpu>1</vcpu>
  <os><type arch="{architecture}" machine="pc">hvm</type></os>
  <cpu mode="host-model"/>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type="usb" model="none"/>
    <disk type="file" device="disk">
      <driver name="qemu" type="raw"/><source file="{disk}"/><target dev="hda" bus="ide"/>
    </disk>
    <serial type="file"><source path="{said}"/></serial>
    <memballoon model="none"/>
  </devices>
</domain>
"""

log = Logger()


def abilities(connection: Any, wanted: str, machine: str, directory: str) -> Abilities:
    """
    What guests can be given here.  Whether KVM works is found out once for each
    boot of the host and each qemu.

    @param wanted: C{kvm}, C{qemu} or C{auto}.
    @param machine: the board.
    @param directory: where the outcome is kept.
    @raise DriverFailure: C{kvm} was wanted, and does not work.
    """
    architecture = fromstring(connection.getCapabilities()).findtext("host/cpu/arch") or "x86_64"
    plain = Abilities("qemu", _emulator(connection, architecture, machine, "qemu"), architecture)
    if wanted == "qemu":
        return plain
    why = _remembered(connection, architecture, machine, directory)
    if not why:
        return Abilities("kvm", _emulator(connection, architecture, machine, "kvm"), architecture)
    if wanted == "kvm":
        raise DriverFailure(what=f"KVM was asked for, but {why}")
    log.warn("guests run without KVM, slowly: {why}", why=why)
    return plain


def _emulator(connection: Any, architecture: str, machine: str, virt_type: str) -> str:
    """@return: path of the qemu for such guests."""
    found = connection.getDomainCapabilities(None, architecture, machine, virt_type, 0)
    return fromstring(found).findtext("path") or ""


def _remembered(connection: Any, architecture: str, machine: str, directory: str) -> str:
    """@return: why KVM does not work, empty when it does."""
    try:
        emulator = _emulator(connection, architecture, machine, "kvm")
    except libvirt.libvirtError as error:
        return f"libvirt does not offer it: {error}"
    key = _key(emulator)
    path = os.path.join(directory, "kvm-probe")
    try:
        with open(path, "rb") as file:
            kept = orjson.loads(file.read())
        if kept["key"] == key:
            return str(kept["why"])
    except (OSError, ValueError, KeyError, TypeError):
        log.debug("KVM was not tried since the host was booted")
    why = _tried(connection, architecture, emulator, directory)
    if DENIED in why:  # which somebody may mend before the host is booted again
        return why
    with open(path + ".part", "wb") as file:
        file.write(orjson.dumps({"key": key, "why": why}))
    os.replace(path + ".part", path)
    return why


def _key(emulator: str) -> str:
    """What the outcome depends on."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    found = os.stat(emulator)
    return f"{boot} {emulator} {found.st_size} {found.st_mtime_ns}"


def _tried(connection: Any, architecture: str, emulator: str, directory: str) -> str:
    """@return: why a guest did not run, empty when it did."""
    if architecture != "x86_64":
        return ""
    disk, said = (os.path.join(directory, f"kvm-probe.{name}") for name in ("disk", "said"))
    for path, content in ((disk, _BOOT_SECTOR), (said, b"")):
        with suppress(FileNotFoundError):
            os.unlink(path)
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, 0o644)  # libvirt may give it to somebody else
    xml = _DOMAIN.format(pid=os.getpid(), architecture=architecture, emulator=emulator, disk=disk, said=said)
    try:
        domain = connection.createXML(xml, libvirt.VIR_DOMAIN_START_AUTODESTROY)
    except libvirt.libvirtError as error:
        return f"a guest that was tried did not start: {str(error).splitlines()[0]}"
    try:
        return _outcome(said)
    finally:
        _remove(domain)


def _outcome(path: str) -> str:
    """Wait for what the guest says."""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        with open(path, "rb") as file:
            if b"K" in file.read():
                return ""
        time.sleep(LOOK)
    return f"a guest that was tried got nowhere within {SECONDS:g} s"


def _remove(domain: Any) -> None:
    try:
        domain.destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
