"""
Names of devices, as users give them.
"""

from __future__ import annotations


def bare(device: str) -> str:
    """
    @return: a device's name without its directory: C{/dev/sda1} and C{sda1} are
        the same.
    """
    return device.removeprefix("/dev/")
