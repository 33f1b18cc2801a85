"""
Admin actions on the cloud itself: hosts, networks, the state's check.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.admin.registry import action
from fabric.cloud.access import Caller
from fabric.cloud.cloud import Cloud
from fabric.model.codec import encode
from fabric.model.flavor import Flavor
from fabric.store.interface import IStore
from fabric.users.interface import IDirectory

Result = Generator[Deferred[Any], Any, Any]


class MachineActions:
    """
    Answers from the cloud's logic.
    """

    def __init__(self, cloud: Cloud, store: IStore, directory: IDirectory) -> None:
        self._cloud = cloud
        self._store = store
        self._directory = directory

    @action
    @inlineCallbacks
    def DescribeHosts(self, caller: Caller) -> Result:
        """Every service that ever reported, with its load."""
        views = yield self._cloud.hosts.services()
        return [encode(view.service) | {"last_beat": view.last_beat, "load": view.load} for view in views]

    @action
    def ModifyHost(
        self, caller: Caller, host: str, disabled: bool, topic: str | None = None, reason: str = ""
    ) -> Deferred[None]:
        """Let nothing new on a host's services, or let it again."""
        return self._cloud.hosts.set_disabled(caller, host, topic, disabled, reason)

    @action
    @inlineCallbacks
    def EvacuateHost(self, caller: Caller, host: str) -> Result:
        """Let nothing new on a host, and begin to move away what is there."""
        departures = yield self._cloud.migrations.evacuate(caller, host)
        return [encode(departure) for departure in departures]

    @action
    @inlineCallbacks
    def MigrateInstance(self, caller: Caller, instance: str, host: str = "") -> Result:
        """Begin to move an instance to another host, while it runs or stopped."""
        departure = yield self._cloud.migrations.migrate(caller, instance, host)
        return encode(departure)

    @action
    def DescribeRefusals(self, caller: Caller, instance: str) -> Deferred[dict[str, str]]:
        """Why each host was not chosen for an instance."""
        return self._cloud.hosts.explain(instance)

    @action
    @inlineCallbacks
    def DescribeStrays(self, caller: Caller) -> Result:
        """What hosts have that state does not know."""
        strays = yield self._cloud.hosts.strays()
        return [encode(stray) for stray in strays]

    @action
    @inlineCallbacks
    def DescribeNetworks(self, caller: Caller) -> Result:
        """Every network, with how many of its addresses are free."""
        networks = yield self._cloud.networks.list(caller)
        pools = yield self._store.pools()
        rows = []
        for network in networks:
            free, members = pools.get("fixed:" + network.id, (0, 0))
            rows.append(encode(network) | {"addresses": members, "free": free})
        return rows

    @action
    @inlineCallbacks
    def CreateNetwork(
        self,
        caller: Caller,
        label: str,
        cidr: str = "",
        gateway: str | None = None,
        bridge: str = "",
        reserved: int = 2,
        dns: list[str] = [],  # noqa: B006
        project: str = "",
        manager: str = "flat",
        vlan: int | None = None,
        cidr_v6: str = "",
    ) -> Result:
        """Make a network and its pool of addresses, for a project that there is or for all."""
        if project:
            yield self._directory.project(project)
        network = yield self._cloud.networks.create(
            caller, label, cidr, gateway, bridge, reserved, dns, project, manager, vlan, cidr_v6
        )
        return encode(network)

    @action
    def DeleteNetwork(self, caller: Caller, id: str) -> Deferred[None]:
        """Remove a network that nothing uses."""
        return self._cloud.networks.delete(caller, id)

    @action
    @inlineCallbacks
    def DescribeFlavors(self, caller: Caller) -> Result:
        """Every instance type."""
        flavors = yield self._cloud.flavors.all()
        return [encode(flavor) for flavor in flavors.values()]

    @action
    @inlineCallbacks
    def CreateFlavor(
        self,
        caller: Caller,
        name: str,
        vcpus: int,
        memory_mb: int,
        disk_gb: int,
        ephemeral_gb: int = 0,
        requires: list[str] = [],  # noqa: B006
        gpus: int = 0,
    ) -> Result:
        """Make an instance type."""
        wanted = Flavor(name, vcpus, memory_mb, disk_gb, ephemeral_gb, tuple(sorted(set(requires))), gpus)
        flavor = yield self._cloud.flavors.create(caller, wanted)
        return encode(flavor)

    @action
    @inlineCallbacks
    def DeleteFlavor(self, caller: Caller, name: str) -> Result:
        """Let nothing more be launched of an instance type."""
        yield self._cloud.flavors.delete(caller, name)

    @action
    @inlineCallbacks
    def DescribeFloatingRanges(self, caller: Caller) -> Result:
        """Every range of floating addresses, with how many of them are free."""
        ranges = yield self._cloud.ranges.list()
        pools = yield self._store.pools()
        rows = []
        for each in ranges:
            free, members = pools.get(each.pool, (0, 0))
            rows.append(encode(each) | {"addresses": members, "free": free})
        return rows

    @action
    @inlineCallbacks
    def CreateFloatingRange(self, caller: Caller, label: str, cidr: str) -> Result:
        """Make a range of floating addresses, for projects to hold."""
        made = yield self._cloud.ranges.create(caller, label, cidr)
        return encode(made)

    @action
    def DeleteFloatingRange(self, caller: Caller, id: str) -> Deferred[None]:
        """Remove a range of which no address is held."""
        return self._cloud.ranges.delete(caller, id)

    @action
    @inlineCallbacks
    def CheckState(self, caller: Caller, repair: bool = False) -> Result:
        """Prove that indexes, counters, pools and references agree with the records."""
        findings = yield self._store.check(repair)
        return [attrs.asdict(finding) for finding in findings]

    @action
    @inlineCallbacks
    def DescribePools(self, caller: Caller) -> Result:
        """Each pool's free members, and all of them."""
        pools = yield self._store.pools()
        return [{"pool": name, "free": free, "members": members} for name, (free, members) in sorted(pools.items())]

    @action
    @inlineCallbacks
    def DescribeEvents(self, caller: Caller, after: str = "", limit: int = 100, project: str | None = None) -> Result:
        """The event stream after a position."""
        events = yield self._store.events(after, max(1, min(limit, 1000)), project)
        return [{"position": position, **event} for position, event in events]
