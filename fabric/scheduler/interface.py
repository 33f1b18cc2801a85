"""
What answers at the topic C{scheduler}, and what it needs of the cloud.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

from fabric.model.flavor import Flavor
from fabric.model.host import Capacity
from fabric.model.placement_group import Membership


class ISchedulerWorker(Interface):
    """
    Chooses hosts.
    """

    def schedule(instances: list[str]) -> Deferred[None]:
        """
        Cast: find a host for each pending instance that has none, claim its
        room and addresses, and order it from the host.  Those placed already
        are skipped, so repeating is safe.
        """


@attrs.frozen
class Wanted:
    """
    An instance that needs a host.

    @ivar zone: the zone asked for, empty for any.
    @ivar group: its placement group, None for none.
    """

    id: str
    flavor: Flavor
    zone: str = ""
    architecture: str = "x86_64"
    group: Membership | None = None


@attrs.frozen
class HostView:
    """
    A compute host as a scheduler sees it.

    @ivar load: what is promised already: C{vcpus}, C{memory_mb}, C{disk_gb}
        and C{instances}; C{gpus} of a host that has any.
    """

    name: str
    zone: str
    capacity: Capacity
    load: Mapping[str, int]
    alive: bool = True
    disabled: bool = False


@attrs.frozen
class Claimed:
    """
    What became of a claim.

    @ivar placed: instances that are on their way now.
    @ivar full: hosts that had no room after all, and why; their instances are
        still to be placed.
    """

    placed: Sequence[str]
    full: Mapping[str, str]


class IPlacement(Interface):
    """
    The scheduler's way to state: it chooses, this claims.
    """

    def wanted(ids: Sequence[str]) -> Deferred[list[Wanted]]:
        """Those of the instances that are pending without a host."""

    def hosts() -> Deferred[list[HostView]]:
        """Every compute host, dead and disabled ones too."""

    def members(groups: Sequence[Membership], hosts: Sequence[str]) -> Deferred[dict[str, dict[str, dict[int, int]]]]:
        """
        How many members of each placement group are on each of the hosts, in
        each partition (0 in groups without): C{{group: {host: {partition: count}}}}.
        """

    def claim(request_id: str, choice: Mapping[str, Sequence[str]]) -> Deferred[Claimed]:
        """
        Claim room and addresses for instances on hosts, C{{host: ids}}, and
        order them.  Each host's instances are claimed together or not at all,
        unless a placement group keeps them apart; instances that need no host any more are left out.
        """

    def refuse(request_id: str, ids: Sequence[str], reasons: Mapping[str, str]) -> Deferred[None]:
        """
        End instances for want of a host, with each host's reason; of many
        hosts some are kept.  Where there is no reason there was no host: the
        cloud is coming up, and they wait until their deadline.
        """

    def offer(request_id: str, ids: Sequence[str]) -> Deferred[None]:
        """Let the first free compute worker take these."""
