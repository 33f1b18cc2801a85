"""
What a process tree has used, read from C{/proc} (Linux only).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TICK = 1.0 / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _parents() -> dict[int, int]:
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))) is not None:
            found[int(entry)] = int(fields[1])
    return found


def tree(roots: Iterable[int]) -> list[int]:
    """
    @return: the roots and all of their descendants that live now.
    """
    children: dict[int, list[int]] = {}
    for pid, parent in _parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.append(pid)
            waiting += children.get(pid, [])
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """
    Processor time, user and system, that the trees have used so far, dead and
    reaped children included; in steps of a clock tick.
    """
    total = 0
    for pid in tree(roots):
        fields = _stat(pid)
        if fields is not None:
            total += sum(int(field) for field in fields[11:15])
    return total * TICK


def memory_bytes(roots: Iterable[int]) -> int:
    """
    Proportional resident memory of the trees: pages shared between processes
    are counted once.
    """
    total = 0
    for pid in tree(roots):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
