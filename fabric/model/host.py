"""
A service on a host, and the room that a compute host has.
"""

from __future__ import annotations

import attrs

from fabric.model.flavor import Flavor
from fabric.model.record import ALL, Derived, Record

CLOSED = "closed"
"""The kind, with a service's id, that has a user while nothing new is to come there."""


@attrs.frozen
class Capacity:
    """
    What a compute host offers to instances: totals, not what is free.

    @ivar vcpus: virtual processors that may be promised, overcommit included.
    @ivar memory_mb: MiB.
    @ivar disk_gb: GiB.
    @ivar cpu_model: what its processors are called.
    @ivar features: what else it has, that types may require: flags of its
        processors (C{avx2}), kinds of its GPUs (C{gpu}, and C{gpu:VENDOR:DEVICE}
        by their PCI ids, as C{gpu:10de:1db4}), sorted.
    @ivar gpus: whole ones, of all kinds together.
    """

    vcpus: int = 0
    memory_mb: int = 0
    disk_gb: int = 0
    architecture: str = "x86_64"
    hypervisor: str = "fake"
    cpu_model: str = ""
    features: tuple[str, ...] = ()
    gpus: int = 0

    def lacks(self, flavor: Flavor) -> str:
        """
        @return: what a type requires and this host does not have, in words;
            empty when it has all.
        """
        return ", ".join(sorted(set(flavor.requires) - set(self.features)))

    def room(self) -> dict[str, int]:
        """
        The most that each of the host's C{load:HOST:NAME} counters may be.
        """
        return {"vcpus": self.vcpus, "memory_mb": self.memory_mb, "disk_gb": self.disk_gb, "gpus": self.gpus}


@attrs.frozen
class Service(Record):
    """
    One worker service on one host, known from its reports.

    Heartbeats are not part of the record: the store keeps them aside, since
    they change nothing else.

    @ivar id: C{TOPIC.HOST}, as C{compute.node1}.
    @ivar disabled: an operator wants nothing new there.
    @ivar alive: what the sweep last concluded from the heartbeats.
    @ivar started_at: when the process that reported last was started.
    @ivar fenced: the host was silent and made dead for sure; it has nothing of
        anybody until it reports again.
    """

    kind = "service"

    id: str
    topic: str
    host: str
    zone: str = "nova"
    project: str = ""
    disabled: bool = False
    disabled_reason: str = ""
    alive: bool = True
    started_at: float = 0.0
    capacity: Capacity = Capacity()
    fenced: bool = False

    def derived(self) -> Derived:
        """Filed for operators and schedulers only."""
        return Derived(
            scopes=(ALL,),
            facets=(
                ("topic", self.topic),
                ("host", self.host),
                ("zone", self.zone),
                ("alive", "yes" if self.alive else "no"),
                ("disabled", "yes" if self.disabled else "no"),
            ),
            counters={f"uses:{CLOSED}:{self.id}": 1} if self.disabled else {},
            event={"alive": "yes" if self.alive else "no"},
        )


@attrs.frozen
class Stray(Record):
    """
    Something on a host that state does not know: kept, shown, and removed
    only when its grace time has passed or an operator says so.

    @ivar id: C{HOST/NAME}; C{name} is what the driver calls it.
    @ivar pool_holdings: C{POOL MEMBER} texts: addresses that it uses and that
        were free when it was found; they are not handed out while it lives.
    """

    kind = "stray"

    id: str
    host: str
    name: str
    found_at: float
    remove_at: float
    project: str = ""
    holdings: tuple[str, ...] = ()

    def derived(self) -> Derived:
        """Filed for operators; holds its addresses."""
        return Derived(
            scopes=(ALL,),
            lists=("host:" + self.host,),
            pools=tuple((holding.split(" ", 1)[0], holding.split(" ", 1)[1]) for holding in self.holdings),
            due=self.remove_at,
        )
