"""
Names of devices, as users give them.
"""

from __future__ import annotations

ROOTS = frozenset({"sda", "sda1", "xvda", "xvda1", "vda", "vda1", "hda", "hda1"})
"""What a root disk is called where the image does not say."""


def root_names(device: str) -> frozenset[str]:
    """
    @param device: where an image says that its root is; empty where it doesn't.
    @return: the names, without directories, that are the root's.
    """
    return frozenset({bare(device)}) if device else ROOTS


def bare(device: str) -> str:
    """
    @return: a device's name without its directory: C{/dev/sda1} and C{sda1} are
        the same.
    """
    return device.removeprefix("/dev/")
