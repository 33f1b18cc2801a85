"""
What kind of disk a file is, by its first bytes alone.

Nothing that a user brings is opened by a program that guesses its format: a
format may name other files of the host.

@see: U{https://www.qemu.org/docs/master/interop/qcow2.html}
"""

from __future__ import annotations

import struct
import types

from fabric.errors import InvalidValue

NEEDED = 1024
"""Bytes from a file's beginning that tell."""

QCOW2 = b"QFI\xfb"

FOREIGN = types.MappingProxyType(
    {
        b"KDMV": "VMDK",
        b"COWD": "VMDK",
        b"# Disk DescriptorFile": "VMDK",
        b"conectix": "VHD",
        b"vhdxfile": "VHDX",
        b"QED\0": "QED",
        b"LUKS\xba\xbe": "LUKS",
        b"WithoutFreeSpace": "Parallels",
        b"WithouFreSpacExt": "Parallels",
        b"Bochs Virtual HD Image": "Bochs",
        b"#!/bin/sh\n#V2.0 Format": "cloop",
        b"\x1f\x8b": "gzip",
        b"\xfd7zXZ\0": "xz",
        b"\x28\xb5\x2f\xfd": "zstd",
        b"BZh": "bzip2",
        b"PK\x03\x04": "zip",
    }
)
"""Formats that are refused, by how they begin."""

VDI = (64, b"\x7f\x10\xda\xbe")
"""Where VirtualBox's disks tell."""

DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED = (1 << bit for bit in range(5))
"""Bits of a qcow2's incompatible features."""

DISK = "disk"


def disk_format(head: bytes, size: int) -> str:
    """
    @param head: the first L{NEEDED} bytes of a disk, or all of a shorter one.
    @param size: bytes of the file.
    @return: C{raw} or C{qcow2}.
    @raise InvalidValue: it is of another format, or a qcow2 that is not whole
        by itself.
    """
    if head.startswith(QCOW2):
        _check_qcow2(head, size)
        return "qcow2"
    for magic, name in FOREIGN.items():
        if head.startswith(magic):
            raise InvalidValue(DISK, name, "the format must be raw or qcow2; convert it by qemu-img convert")
    place, magic = VDI
    if head[place : place + len(magic)][::-1] == magic or head[place : place + len(magic)] == magic:
        raise InvalidValue(DISK, "VDI", "the format must be raw or qcow2; convert it by qemu-img convert")
    return "raw"


def _check_qcow2(head: bytes, size: int) -> None:
    if len(head) < 72:
        raise InvalidValue(DISK, "qcow2", "its header is cut off")
    version, backing = struct.unpack_from(">IQ", head, 4)
    encryption, entries, table, counts = struct.unpack_from(">IIQQ", head, 32)
    if version not in (2, 3):
        raise InvalidValue(DISK, f"qcow2 version {version}", "the version must be 2 or 3")
    if backing:
        raise InvalidValue(DISK, "qcow2", "it has a backing file; convert it by qemu-img convert into one file")
    if encryption:
        raise InvalidValue(DISK, "qcow2", "it is encrypted")
    if table + 8 * entries > size or counts >= size:
        raise InvalidValue(DISK, "qcow2", "it is cut off")
    features = struct.unpack_from(">Q", head, 72)[0] if version == 3 and len(head) >= 104 else 0
    if features & DATA_FILE:
        raise InvalidValue(DISK, "qcow2", "its data is in another file; convert it by qemu-img convert into one file")
    if features & CORRUPT:
        raise InvalidValue(DISK, "qcow2", "it is marked as corrupt")
    if features & ~(DIRTY | COMPRESSION | EXTENDED):
        raise InvalidValue(DISK, "qcow2", f"it has unknown features, {features:#x}")
