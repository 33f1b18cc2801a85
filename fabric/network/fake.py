"""
A host network that carries nothing, but remembers what it was told to be.

What is expressed and plugged is in files, so it survives the worker that
drives it; and it can be told to fail, to be slow, to hang or to lose an answer
(L{fabric.rehearsal}).  The directory's file C{faults} is read while it runs.
"""

from __future__ import annotations

import os
from functools import partial

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from fabric.errors import NotFound
from fabric.journal import Journal
from fabric.network.interface import Floating, GroupOrder, INetworkDriver, NetworkOrder, Plug
from fabric.rehearsal import Rehearsal, rehearsed
from fabric.settings import Fake

VERBS: tuple[str, ...] = (
    "express",
    "retire",
    "plug",
    "unplug",
    "networks",
    "ports",
    "associate",
    "disassociate",
    "floating",
)
VERBS += ("apply_groups", "groups")
"""The methods that a rehearsal may spoil."""


@attrs.frozen
class Plugged:
    """All ports of one instance, as the fake keeps them."""

    ports: tuple[Plug, ...]


@implementer(INetworkDriver)
class FakeNetwork:
    """
    @ivar rehearsal: what goes wrong; L{Rehearsal.tell} it more.
    """

    def __init__(self, directory: str, clock: IReactorTime, options: Fake | None = None) -> None:
        """
        @param directory: where it keeps its tables; made when need be.
        @param options: its mishaps.
        @raise InvalidValue: a mishap means nothing.
        """
        self._networks = Journal(os.path.join(directory, "networks"), NetworkOrder)
        self._plugged = Journal(os.path.join(directory, "ports"), Plugged)
        self._floating = Journal(os.path.join(directory, "floating"), Floating)
        self._groups = Journal(os.path.join(directory, "groups"), GroupOrder)
        lines = rehearsed(options or Fake(), VERBS)
        self.rehearsal = Rehearsal(clock, VERBS, lines, os.path.join(directory, "faults"))

    def start(self) -> Deferred[None]:
        """See L{INetworkDriver.start}."""
        return self.rehearsal.perform("start", "", self._open)

    def stop(self) -> Deferred[None]:
        """See L{INetworkDriver.stop}."""
        self._networks.close()
        self._plugged.close()
        self._floating.close()
        self._groups.close()
        return succeed(None)

    def express(self, network: NetworkOrder) -> Deferred[None]:
        """See L{INetworkDriver.express}."""
        return self.rehearsal.perform("express", network.id, partial(self._express, network))

    def retire(self, network: str) -> Deferred[None]:
        """See L{INetworkDriver.retire}; its ports go with it."""
        return self.rehearsal.perform("retire", network, partial(self._retire, network))

    def plug(self, ports: list[Plug]) -> Deferred[None]:
        """See L{INetworkDriver.plug}."""
        return self.rehearsal.perform("plug", ports[0].instance if ports else "", partial(self._plug, ports))

    def unplug(self, instances: list[str]) -> Deferred[None]:
        """See L{INetworkDriver.unplug}."""
        return self.rehearsal.perform("unplug", instances[0] if instances else "", partial(self._unplug, instances))

    def associate(self, floating: list[Floating]) -> Deferred[None]:
        """See L{INetworkDriver.associate}."""
        return self.rehearsal.perform(
            "associate", floating[0].public if floating else "", partial(self._associate, floating)
        )

    def disassociate(self, addresses: list[str]) -> Deferred[None]:
        """See L{INetworkDriver.disassociate}."""
        return self.rehearsal.perform(
            "disassociate", addresses[0] if addresses else "", partial(self._disassociate, addresses)
        )

    def floating(self) -> Deferred[list[Floating]]:
        """See L{INetworkDriver.floating}."""
        return self.rehearsal.perform("floating", "", lambda: list(self._floating.rows.values()))

    def apply_groups(self, groups: list[GroupOrder]) -> Deferred[None]:
        """See L{INetworkDriver.apply_groups}."""
        return self.rehearsal.perform("apply_groups", "", partial(self._apply_groups, groups))

    def groups(self) -> Deferred[list[GroupOrder]]:
        """See L{INetworkDriver.groups}."""
        return self.rehearsal.perform("groups", "", lambda: list(self._groups.rows.values()))

    def networks(self) -> Deferred[list[NetworkOrder]]:
        """See L{INetworkDriver.networks}."""
        return self.rehearsal.perform("networks", "", lambda: list(self._networks.rows.values()))

    def ports(self) -> Deferred[list[Plug]]:
        """See L{INetworkDriver.ports}."""
        return self.rehearsal.perform("ports", "", self._ports)

    def _open(self) -> None:
        self._networks.open()
        self._plugged.open()
        self._floating.open()
        self._groups.open()

    def _express(self, network: NetworkOrder) -> None:
        if self._networks.rows.get(network.id) != network:
            self._networks.put(network.id, network)

    def _retire(self, network: str) -> None:
        for instance, plugged in list(self._plugged.rows.items()):
            kept = tuple(port for port in plugged.ports if port.network != network)
            if kept != plugged.ports:
                self._set(instance, kept)
        self._networks.remove(network)

    def _plug(self, ports: list[Plug]) -> None:
        for port in ports:
            if port.network not in self._networks.rows:
                raise NotFound(kind="network", id=port.network)
        for port in ports:
            plugged = self._plugged.rows.get(port.instance)
            others = () if plugged is None else tuple(old for old in plugged.ports if not _same_port(old, port))
            if plugged is None or port not in plugged.ports or len(others) != len(plugged.ports) - 1:
                self._set(port.instance, (*others, port))

    def _unplug(self, instances: list[str]) -> None:
        for instance in instances:
            self._plugged.remove(instance)

    def _associate(self, floating: list[Floating]) -> None:
        for each in floating:
            if self._floating.rows.get(each.public) != each:
                self._floating.put(each.public, each)

    def _disassociate(self, addresses: list[str]) -> None:
        for address in addresses:
            self._floating.remove(address)

    def _ports(self) -> list[Plug]:
        return [port for plugged in self._plugged.rows.values() for port in plugged.ports]

    def _apply_groups(self, groups: list[GroupOrder]) -> None:
        wanted = {group.id: group for group in groups}
        for id in [id for id in self._groups.rows if id not in wanted]:
            self._groups.remove(id)
        for id, group in wanted.items():
            if self._groups.rows.get(id) != group:
                self._groups.put(id, group)

    def _set(self, instance: str, ports: tuple[Plug, ...]) -> None:
        if ports:
            self._plugged.put(instance, Plugged(ports))
        else:
            self._plugged.remove(instance)


def _same_port(one: Plug, other: Plug) -> bool:
    """Whether C{other} takes the place of C{one}: an instance has one port on a network."""
    return one.network == other.network
