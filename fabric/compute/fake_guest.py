"""
A guest of the fake hypervisor: what it has, and how it boots and ends.
"""

from __future__ import annotations

import attrs

from fabric.compute.console import Run
from fabric.compute.interface import Domain
from fabric.errors import WrongState

RUNS_KEPT = 8
"""Boots of a guest that its console remembers."""


@attrs.frozen
class Guest:
    """
    A domain as the fake keeps it.

    @ivar state: C{running}, C{stopped} or C{crashed}.
    @ivar hardware: what it has, in words.
    @ivar runs: its last boots.
    @ivar disks: its volumes, C{{device: volume id}}.
    @ivar images: what its disk was copied to.
    @ivar root: the volume that it boots from; empty for its own disk.
    @ivar condition: as of L{Domain}.
    @ivar gpus: how many of its host's it has.
    @ivar quiet_until: as of L{Domain}.
    """

    id: str
    state: str
    order: int
    addresses: tuple[str, ...]
    hardware: str
    runs: tuple[Run, ...]
    disks: dict[str, str] = attrs.field(factory=dict)
    images: tuple[str, ...] = ()
    root: str = ""
    condition: str = ""
    gpus: int = 0
    quiet_until: float = 0.0

    @property
    def described(self) -> str:
        """What it has, and what it boots from when that is a volume."""
        return f"{self.hardware}, root {self.root}" if self.root else self.hardware

    def domain(self) -> Domain:
        """As the interface shows it."""
        return Domain(
            self.id, self.state, self.order, self.addresses, dict(self.disks), self.condition, self.quiet_until
        )

    def see_awake(self) -> None:
        """
        @raise WrongState: it is suspended.
        """
        if self.condition == "suspended":
            raise WrongState(kind="guest", id=self.id, found="suspended", wanted=["running", "stopped"])

    def see_no_gpus(self, wanted: str) -> None:
        """
        @raise WrongState: it runs with GPUs, which C{wanted} does not.
        """
        if self.gpus and self.state == "running":
            raise WrongState(kind="guest", id=self.id, found="running with GPUs", wanted=[wanted])

    def booted(self, order: int, now: float) -> Guest:
        """The same, started anew from its disk."""
        ended = self.ended("stopped", order, now) if self.state == "running" else self
        runs = (*ended.runs, Run(now))[-RUNS_KEPT:]
        return attrs.evolve(ended, state="running", order=order, condition="", quiet_until=0.0, runs=runs)

    def ended(self, state: str, order: int, now: float) -> Guest:
        """The same, no longer running."""
        runs = self.runs
        if self.state == "running":
            runs = (*runs[:-1], attrs.evolve(runs[-1], until=now, crashed=state == "crashed"))
        condition = self.condition if self.condition == "rescue" else ""
        return attrs.evolve(self, state=state, order=order, runs=runs, condition=condition, quiet_until=0.0)
