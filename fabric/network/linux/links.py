"""
The links of a host's networks, made so, and only ours taken away.  Everything here blocks.

Ours is what bears our mark as alias.  A bridge is made with the network's own
MAC, and any other link with the parent and number that say whose it is; the
alias follows, so what a crash left between them is known by those.  That of a
bridge comes last of all, when its DHCP server is its own, too: one without it
is not known to have one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from fabric.errors import DriverFailure
from fabric.network.linux.netlink import Link, Netlink, Sysctls, announce, release_lease
from fabric.network.linux.plan import MARK, Bridge, Uplink, gateway_mac

VXLAN_PORT = 4789
"""The UDP port of RFC 7348."""

LABEL = "fabric"
"""What marks an IPv4 address that we gave to a link of somebody else's."""


class Links:
    """
    Makes bridges and their uplinks.
    """

    def __init__(self, netlink: Netlink, sysctls: Sysctls) -> None:
        self._netlink = netlink
        self._sysctls = sysctls

    def open(self, v6: bool = False) -> None:
        """
        Have the kernel forward, and show bridged frames to packet filters.

        @param v6: whether IPv6 is forwarded too.
        @raise DriverFailure: it can't.
        """
        self._netlink.open()
        if not os.path.exists("/proc/sys/net/bridge"):
            raise DriverFailure("bridged frames can't be filtered: load the kernel module br_netfilter")
        for name in ("iptables", "ip6tables", "arptables"):
            self._sysctls.set(f"net/bridge/bridge-nf-call-{name}", "1")
        self._sysctls.set("net/ipv4/ip_forward", "1")
        if v6:
            self.forward_v6()

    def forward_v6(self) -> None:
        """Have the kernel forward IPv6."""
        self._sysctls.set("net/ipv6/conf/all/forwarding", "1")

    def close(self) -> None:
        """Let go; everything stays as it is."""
        self._netlink.close()

    def ensure(self, bridge: Bridge) -> bool:
        """
        Have a bridge as it says, with what joins it to other hosts.

        @return: whether there was none before that was L{finished<finish>}.
        @raise DriverFailure: a link of that name is somebody else's, or the
            kernel refused.
        """
        there = self._netlink.find(bridge.name)
        link = there or self._add_bridge(bridge)
        self._own(link, bridge, link.kind == "bridge" and link.mac == bridge.mac)
        if link.mac != bridge.mac:
            self._netlink.change(link, address=bridge.mac)
        self._let_go(bridge, [link, *([self._uplink(bridge, link)] if bridge.uplink else [])])
        self._addresses(bridge, link)
        wrong = {} if link.mtu == bridge.mtu else {"mtu": bridge.mtu}
        if wrong or not link.up:
            self._netlink.change(link, state="up", **wrong)
        return link.alias != bridge.mark

    def finish(self, bridge: Bridge) -> None:
        """
        Mark a bridge that L{ensure} made: all that it needs knows of it now.
        Repeating is safe.
        """
        link = self._netlink.find(bridge.name)
        if link is not None and link.alias != bridge.mark:
            self._netlink.change(link, ifalias=bridge.mark)

    def intact(self, bridge: Bridge) -> bool:
        """
        @return: whether the links that L{ensure} made are still there, by a
            few looks whose cost does not grow with the ports.
        """
        link = self._netlink.find(bridge.name)
        if link is None or link.alias != bridge.mark or not link.up or link.mtu != bridge.mtu:
            return False
        uplink = self._netlink.find(bridge.uplink.name) if bridge.uplink else None
        return bridge.uplink is None or (uplink is not None and uplink.master == link.index and uplink.up)

    def join(self, bridge: Bridge, taps: Iterable[str]) -> None:
        """
        Have these in a bridge again that was taken away under them; nothing
        for those that are not there, or in another.
        """
        master = self._netlink.find(bridge.name)
        for tap in taps if master is not None else ():
            link = self._netlink.find(tap)
            if master is not None and link is not None and not link.master:
                self._netlink.change(link, master=master.index)

    def remove(self, network: str) -> None:
        """
        Have no link of this network, nor a bridge of its that was not finished;
        nothing for one that has none.
        """
        ours = [link for link in self._netlink.all() if _is_of(network, link)]
        for link in ours:
            if link.kind == "bridge":
                self._netlink.remove(link)
        for link in ours:
            if link.kind != "bridge":
                self._netlink.remove(link)

    def made(self) -> dict[str, list[str]]:
        """
        @return: the networks of which there are links of ours, and the ports
            of their bridges that are not.
        """
        links = self._netlink.all()
        owners = {link.index: link.alias.removeprefix(MARK) for link in links if link.alias.startswith(MARK)}
        found: dict[str, list[str]] = {network: [] for network in owners.values()}
        for link in links:
            if link.master in owners and link.index not in owners:
                found[owners[link.master]].append(link.name)
        return found

    def release(self, leases: Iterable[tuple[str, str, str, str]]) -> None:
        """
        Have DHCP servers forget guests.

        @param leases: of each the bridge, the server's address, and the
            guest's address and MAC.
        """
        for bridge, server, address, mac in leases:
            release_lease(bridge, server, address, mac)

    def answer_for(self, device: str, addresses: Iterable[str]) -> None:
        """
        Have an interface answer for exactly these floating addresses, besides
        what it has of others.

        @raise DriverFailure: there is no such interface.
        """
        link = self._netlink.find(device)
        if link is None:
            raise DriverFailure(f"there is no interface {device} for floating addresses")
        wanted = {f"{address}/32" for address in addresses}
        there = self._netlink.addresses(link)
        for address in sorted(wanted - set(there)):
            self._netlink.add_address(link, address, LABEL)
            announce(link.name, link.mac, address.removesuffix("/32"))
        for address, label in there.items():
            if label == LABEL and address not in wanted:
                self._netlink.remove_address(link, address)

    def _add_bridge(self, bridge: Bridge) -> Link:
        return self._netlink.add(bridge.name, "bridge", address=bridge.mac, br_forward_delay=0, br_stp_state=0)

    def _own(self, link: Link, bridge: Bridge, half_made: bool) -> None:
        if link.alias == bridge.mark:
            return
        if link.alias or not half_made:
            whose = f"it is of network {link.alias.removeprefix(MARK)}" if link.alias.startswith(MARK) else "not ours"
            raise DriverFailure(f"network {bridge.network} needs the name {link.name}, but a link has it: {whose}")
        if link.kind == "bridge":
            self._quiet(link.name, bool([each for each in bridge.addresses if ":" in each]))
        else:
            self._quiet(link.name, False)
            self._netlink.change(link, ifalias=bridge.mark)

    def _quiet(self, name: str, v6: bool) -> None:
        """Nothing of the host's own on it but the gateway."""
        self._sysctls.set(f"net/ipv6/conf/{name}/disable_ipv6", "0" if v6 else "1")
        self._sysctls.set(f"net/ipv6/conf/{name}/accept_ra", "0")
        self._sysctls.set(f"net/ipv6/conf/{name}/accept_dad", "0")
        self._sysctls.set(f"net/ipv4/conf/{name}/rp_filter", "1")
        self._sysctls.set(f"net/ipv4/conf/{name}/arp_ignore", "1")

    def _addresses(self, bridge: Bridge, link: Link) -> None:
        there = self._netlink.addresses(link)
        if any(":" in each for each in bridge.addresses):
            self._quiet(link.name, True)
            self.forward_v6()
        for address in there:  # first: with a range's first address its others go
            if address not in bridge.addresses:
                self._netlink.remove_address(link, address)
        there = self._netlink.addresses(link)
        for address in bridge.addresses:
            if address not in there:
                self._netlink.add_address(link, address)

    def _uplink(self, bridge: Bridge, master: Link) -> Link:
        uplink = bridge.uplink
        assert uplink is not None
        link = self._netlink.find(uplink.name)
        if uplink.kind == "interface":
            link = self._foreign(uplink, link, master)
        else:
            if link is not None and link.alias == bridge.mark and not self._fits(uplink, link):
                self._netlink.remove(link)  # made by other settings
                link = None
            if link is None:
                link = self._add_owned(bridge, uplink)
            else:
                self._own(link, bridge, self._fits(uplink, link))
            self._flood(uplink, link)
        if link.master not in (0, master.index):
            raise DriverFailure(f"interface {link.name} is in another bridge than {bridge.name}")
        wrong = {} if uplink.kind == "interface" or link.mtu == bridge.mtu else {"mtu": bridge.mtu}
        if wrong or link.master != master.index or not link.up:
            self._netlink.change(link, master=master.index, state="up", **wrong)
        return link

    def _add_owned(self, bridge: Bridge, uplink: Uplink) -> Link:
        """A new one; none when it can't be marked, since nobody would know whose it is."""
        try:
            made = self._add_uplink(uplink)
            self._own(made, bridge, True)
        except DriverFailure:
            left = self._netlink.find(uplink.name)
            if left is not None and not left.alias and self._fits(uplink, left):
                self._netlink.remove(left)
            raise
        return made

    def _foreign(self, uplink: Uplink, link: Link | None, master: Link) -> Link:
        if link is None:
            raise DriverFailure(f"there is no interface {uplink.name} to put into bridge {master.name}")
        if link.master != master.index and (own := self._netlink.addresses(link)):
            has = ", ".join(own)
            raise DriverFailure(
                f"interface {link.name} has addresses ({has}), which would be lost in bridge {master.name}"
            )
        return link

    def _parent(self, uplink: Uplink) -> int:
        if not uplink.parent:
            return 0
        parent = self._netlink.find(uplink.parent)
        if parent is None:
            raise DriverFailure(f"there is no interface {uplink.parent} to make {uplink.name} on")
        if not parent.up:
            self._netlink.change(parent, state="up")
        return parent.index

    def _add_uplink(self, uplink: Uplink) -> Link:
        parent = self._parent(uplink)
        if uplink.kind == "vlan":
            return self._netlink.add(uplink.name, "vlan", link=parent, vlan_id=uplink.number)
        settings = {"vxlan_id": uplink.number, "vxlan_port": VXLAN_PORT, "vxlan_learning": True}
        options = {"vxlan_link": parent, "vxlan_local": uplink.local, "vxlan_group": uplink.group}
        return self._netlink.add(uplink.name, "vxlan", **settings, **{k: v for k, v in options.items() if v})

    def _fits(self, uplink: Uplink, link: Link) -> bool:
        """Whether a link is what C{uplink} would be made as."""
        if link.kind != uplink.kind or link.settings.get("id") != uplink.number:
            return False
        parent = self._parent(uplink)
        if uplink.kind == "vlan":
            return bool(link.settings["link"] == parent)
        have = [link.settings.get(name) or missing for name, missing in (("link", 0), ("local", ""), ("group", ""))]
        return have == [parent, uplink.local, uplink.group]

    def _flood(self, uplink: Uplink, link: Link) -> None:
        if uplink.kind != "vxlan" or uplink.group:
            return
        there = self._netlink.peers(link)
        for peer in uplink.peers:
            if peer not in there and peer != uplink.local:
                self._netlink.add_peer(link, peer)
        for peer in there - set(uplink.peers):
            self._netlink.remove_peer(link, peer)

    def _let_go(self, bridge: Bridge, keep: Iterable[Link]) -> None:
        """What an earlier order or setting had made is no longer there."""
        kept = {link.index for link in keep}
        for link in self._netlink.all():
            if _is_of(bridge.network, link) and link.index not in kept:
                self._netlink.remove(link)


def _is_of(network: str, link: Link) -> bool:
    """Whether a link is a network's, also a bridge that was not finished."""
    return link.alias == MARK + network or (link.kind, link.alias, link.mac) == ("bridge", "", gateway_mac(network))
