"""
Instance types: what a machine of each name has.
"""

from __future__ import annotations

import attrs

from fabric.model.record import ALL, Derived, Record


@attrs.frozen
class Flavor:
    """
    @ivar vcpus: virtual processors.
    @ivar memory_mb: memory in MiB.
    @ivar disk_gb: root disk in GiB.
    @ivar ephemeral_gb: scratch disk in GiB, 0 for none.
    @ivar requires: what a host must have, by the names of
        L{fabric.model.host.Capacity.features}.
    @ivar gpus: how many GPUs of its host it gets, whole; of any kind unless
        kinds are among C{requires}.
    """

    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    ephemeral_gb: int = 0
    requires: tuple[str, ...] = ()
    gpus: int = 0

    @property
    def gpu_kinds(self) -> tuple[str, ...]:
        """Of which kinds its GPUs may be, as C{gpu:10de:1db4}; empty for any."""
        return tuple(name for name in self.requires if name.startswith("gpu:"))


BUILT_IN = {
    flavor.name: flavor
    for flavor in (
        Flavor("m1.tiny", 1, 512, 2),
        Flavor("m1.small", 1, 2048, 20),
        Flavor("m1.medium", 2, 4096, 40),
        Flavor("m1.large", 4, 8192, 80),
        Flavor("m1.xlarge", 8, 16384, 160),
        Flavor("t2.nano", 1, 512, 8),
        Flavor("t2.micro", 1, 1024, 8),
        Flavor("t2.small", 1, 2048, 8),
        Flavor("t2.medium", 2, 4096, 8),
        Flavor("t3.micro", 2, 1024, 8),
        Flavor("t3.small", 2, 2048, 8),
        Flavor("t3.medium", 2, 4096, 8),
        Flavor("t3.large", 2, 8192, 8),
        Flavor("m5.large", 2, 8192, 8),
        Flavor("m5.xlarge", 4, 16384, 8),
        Flavor("c1.medium", 2, 1740, 20),
        Flavor("c5.large", 2, 4096, 8),
        Flavor("c5.xlarge", 4, 8192, 8),
    )
}
"""The types that every cloud has; m1.small is the default, as on EC2."""

DEFAULT = "m1.small"


@attrs.frozen
class InstanceType(Record):
    """
    What an operator says of one type: that it is there, or is not any more.
    Types of which nothing is said are the L{BUILT_IN} ones.  Instances keep
    what they were launched with, whatever becomes of their type.

    @ivar id: the type's name.
    @ivar flavor: None when there is to be no such type.
    """

    kind = "flavor"

    id: str
    project: str = ""
    flavor: Flavor | None = None

    def derived(self) -> Derived:
        """Filed for all of the cloud."""
        return Derived(scopes=(ALL,))
