"""
What a network host does: the worker's interface and the driver's.

A compute host runs a network worker beside its compute worker: the compute
worker asks it to make the bridge and plug the machine's ports before the guest
boots.  What a network needs on one host only (DHCP, gateway, floating
addresses) is asked of the network's own host by C{express}.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface


def device_name(mac: str) -> str:
    """
    @return: what the host calls the tap of the port with this MAC.  The compute
        driver makes it so when it boots the guest, and the network driver's
        rules are about it from before then.
    """
    return "tap" + mac.replace(":", "").lower()


@attrs.frozen
class NetworkOrder:
    """
    A network as a host is to have it.

    @ivar manager: C{flat}, C{flatdhcp} or C{vlan}: what is made of it.
    @ivar dns: name servers that answer what the host's own doesn't know; the
        host's if empty.
    @ivar domain: in which the host names the network's guests.
    @ivar cidr_v6: a /64 of IPv6 addresses, which guests choose for themselves
        from their MACs; or empty.  Its first one is the gateway's.
    """

    id: str
    cidr: str
    gateway: str
    manager: str = "flat"
    bridge: str = "br100"
    vlan: int | None = None
    dns: tuple[str, ...] = ()
    domain: str = "novalocal"
    cidr_v6: str = ""


@attrs.frozen
class Plug:
    """
    A machine's port as a host is to have it.

    @ivar instance: the instance's id.
    @ivar groups: ids of the security groups whose rules say what passes;
        nothing of one that the host does not have yet.
    @ivar groups_order: L{fabric.model.instance.Instance.groups_order}.
    @ivar public: the floating address that follows a machine which comes from
        another host: what it sends comes from that already, while the address
        itself is still there.  Until any is L{associated<INetworkDriver.associate>}.
    """

    instance: str
    network: str
    mac: str
    address: str
    hostname: str = ""
    groups: tuple[str, ...] = ()
    groups_order: int = 0
    public: str = ""


@attrs.frozen
class RuleOrder:
    """
    What may pass a port of a group's member; see
    L{fabric.model.rule.Permission}.

    @ivar peer: the range on the other side, of IPv4 or IPv6; or empty.
    @ivar group: the group whose members' addresses are the other side.
    """

    egress: bool
    protocol: str
    from_port: int
    to_port: int
    peer: str = ""
    group: str = ""


@attrs.frozen
class GroupOrder:
    """
    A security group as a host is to know it: its rules, for the ports here
    that are in it, and the addresses of its members everywhere, for rules that
    are about it.  Either may be unknown.

    @ivar rules_order: of the rules; greater in a newer order, 0 for unknown.
    @ivar members_order: the same of the addresses.
    """

    id: str
    rules_order: int = 0
    rules: tuple[RuleOrder, ...] = ()
    members_order: int = 0
    addresses: tuple[str, ...] = ()


@attrs.frozen
class Floating:
    """
    A floating address as a host is to have it: what comes to C{public} goes to
    C{private}, and what C{private} sends out comes from C{public}.

    @ivar instance, network, mac: of the port that C{private} is of.
    @ivar order: L{fabric.model.address.Address.order}; kept by the driver.
    """

    public: str
    private: str
    instance: str
    network: str
    mac: str
    order: int = 0


@attrs.frozen
class FloatingReport:
    """
    What a host says of one floating address.

    @ivar order: of the order that this answers.
    @ivar present: whether the host has it now.
    """

    public: str
    order: int
    present: bool


class INetworkDriver(Interface):
    """
    The network of one host.  Every method means "make it so" and may be
    repeated; each may fail with L{fabric.errors.DriverFailure}.  Nothing that
    the cloud did not make is touched.
    """

    def start() -> Deferred[None]:
        """Call once, before all else."""

    def stop() -> Deferred[None]:
        """Let go; traffic flows on."""

    def express(network: NetworkOrder) -> Deferred[None]:
        """Have the bridge (and VLAN, DHCP, gateway as the manager says)."""

    def retire(network: str) -> Deferred[None]:
        """Have nothing of the network any more.  Nothing when it is not there."""

    def plug(ports: list[Plug]) -> Deferred[None]:
        """
        Let these ports pass traffic as themselves and nobody else.  A port
        that is there with another address or MAC is changed.

        @raise NotFound: a port's network was not expressed here.
        """

    def unplug(instances: list[str]) -> Deferred[None]:
        """Have no port of these instances.  Nothing for those not there."""

    def associate(floating: list[Floating]) -> Deferred[None]:
        """
        Have these floating addresses lead where they say, also before a port
        of theirs is plugged.  One that led elsewhere leads there no longer.
        """

    def disassociate(addresses: list[str]) -> Deferred[None]:
        """Have these floating addresses lead nowhere.  Nothing for those not there."""

    def floating() -> Deferred[list[Floating]]:
        """Which floating addresses are here."""

    def apply_groups(groups: list[GroupOrder]) -> Deferred[None]:
        """
        Know exactly these security groups, and let pass what their rules say:
        at a port what any of its groups' rules allows, with the answers to it,
        and nothing else.  A rule about a group that is not here, or whose
        members are unknown, lets nothing pass.
        """

    def groups() -> Deferred[list[GroupOrder]]:
        """The security groups that are here."""

    def networks() -> Deferred[list[NetworkOrder]]:
        """What is expressed here."""

    def ports() -> Deferred[list[Plug]]:
        """What is plugged here."""


class INetworkWorker(Interface):
    """
    What answers at C{network} and C{network.HOST}.  Dicts by
    L{fabric.model.codec}.
    """

    def attach(networks: list[dict[str, Any]], ports: list[dict[str, Any]]) -> Deferred[None]:
        """Call: express the networks, then plug the ports.  Repeating is safe."""

    def detach(instances: list[str]) -> Deferred[None]:
        """Call: unplug.  Repeating is safe."""

    def associate(floating: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast to C{network.HOST}: have these L{Floating}.  Reported as present
        by cast to L{fabric.cloud.interface.ICloudWorker}.  One of an older
        order than the last about the same address is dropped; repeating is safe.
        """

    def disassociate(addresses: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast: have these no more; C{addresses} are C{{"public", "order"}}.
        Reported as not present also when they were not.  Older orders are
        dropped; repeating is safe.
        """

    def apply_groups(groups: list[dict[str, Any]], whole: int) -> Deferred[None]:
        """
        Cast to C{network.HOST}: have these L{GroupOrder}.  Rules, or
        addresses, of an older order than those that are here are dropped;
        repeating is safe.

        @param whole: not 0 when these are all groups of the host: others of
            an older order than this go.
        """

    def regroup(ports: list[dict[str, Any]]) -> Deferred[None]:
        """
        Cast to C{network.HOST}: have the ports of instances that are plugged
        here in these groups.  C{ports} are C{{"instance", "order", "groups"}}.
        Older orders are dropped; repeating is safe.
        """

    def describe_groups() -> Deferred[list[dict[str, Any]]]:
        """Call: every L{GroupOrder} of the driver."""

    def describe_ports() -> Deferred[list[dict[str, Any]]]:
        """Call: every L{Plug} of the driver."""

    def describe_floating() -> Deferred[list[dict[str, Any]]]:
        """Call: every L{Floating} of the driver."""
