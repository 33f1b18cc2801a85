"""
What a fake guest writes to its serial console.

The text is a function of when the guest was booted and stopped, so it grows
with time without anything being written.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs

LIMIT = 65536
"""Bytes of console that are kept."""

TICK = 10.0
"""Seconds between lines that a running guest writes."""


@attrs.frozen
class Run:
    """
    One boot of a guest.

    @ivar since: seconds since the epoch.
    @ivar until: when it ended; 0 while it goes on.
    @ivar crashed: whether it ended badly.
    """

    since: float
    until: float = 0.0
    crashed: bool = False


def console_text(
    name: str, hardware: str, addresses: Sequence[str], runs: Sequence[Run], now: float, password: str = ""
) -> bytes:
    """
    @param name: the guest's host name.
    @param hardware: what it has, in words.
    @param runs: its boots, in order.
    @param password: what a guest that makes its own password prints; base64.
    @return: its console's last 64 KiB.
    """
    text = "".join(_run_text(name, hardware, addresses, run, now, password) for run in runs)
    return text.encode()[-LIMIT:]


def _run_text(name: str, hardware: str, addresses: Sequence[str], run: Run, now: float, password: str) -> str:
    booted = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.since))
    lines = [
        f"[    0.000000] Booting {name} at {booted}",
        f"[    0.004000] Hardware: {hardware} (fake)",
        *(f"[    0.100000] eth{n}: address {address}" for n, address in enumerate(addresses)),
        *([f"<Password>{password}</Password>"] if password else ()),
        "",
        f"{name} login: ",
    ]
    end = (run.until or now) - run.since
    last = int(end / TICK)
    lines += [f"[{n * TICK:12.6f}] up {n * TICK:.0f} s" for n in range(max(1, last - LIMIT // 24), last + 1)]
    if run.crashed:
        lines.append(f"[{end:12.6f}] Kernel panic - not syncing: rehearsed")
    elif run.until:
        lines.append(f"[{end:12.6f}] reboot: Power down")
    return "\r\n".join(lines) + "\r\n"
