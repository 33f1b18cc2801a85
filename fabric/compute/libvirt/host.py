"""
What a host offers to guests.
"""

from __future__ import annotations

from typing import Any

from fabric.model.host import Capacity
from fabric.settings import Libvirt


def capacity(connection: Any, options: Libvirt, disk_gb: int) -> Capacity:
    """
    What libvirt knows of the host, overcommit included.  Blocks.
    """
    architecture, memory_mb, processors, *_ = connection.getInfo()
    return Capacity(
        int(processors * options.cpu_overcommit),
        max(0, int((memory_mb - options.reserved_memory_mb) * options.memory_overcommit)),
        disk_gb,
        architecture,
    )
