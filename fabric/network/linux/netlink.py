"""
The kernel's links and addresses, by pyroute2.  Everything here blocks.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError

from fabric.errors import DriverFailure

T = TypeVar("T")

UP = 1
"""The flag C{IFF_UP} of C{linux/if.h}."""
NO_DETECTION = 2
"""The flag C{IFA_F_NODAD} of C{linux/if_addr.h}: the same address is on other hosts, on purpose."""


@attrs.frozen
class Link:
    """
    @ivar kind: C{bridge}, C{vlan}, C{vxlan}, …; empty for hardware.
    @ivar master: index of the bridge that it is a port of; 0 for none.
    @ivar settings: what its kind has, by the kernel's names without C{IFLA_}
        and the kind's, in lower case; C{link} is the index of its parent.
    """

    index: int
    name: str
    kind: str
    alias: str
    mac: str
    mtu: int
    master: int
    up: bool
    settings: Mapping[str, Any]


class Netlink:
    """
    One conversation with the kernel, for one thread.
    """

    def __init__(self, namespace: str = "") -> None:
        """
        @param namespace: the network namespace's name; empty for the process's.
            The thread that calls L{open} is in it from then on.
        """
        self._namespace = namespace
        self._route: Any = None

    def open(self) -> None:
        """
        @raise DriverFailure: there is no such namespace, or no right to it.
        """
        if self._namespace:
            self._do("enter namespace " + self._namespace, lambda: netns.setns(self._namespace))
        self._route = self._do("ask the kernel for its links", lambda: IPRoute(groups=0))

    def close(self) -> None:
        """Let go; closing twice is safe."""
        if self._route is not None:
            self._route.close()
            self._route = None

    def find(self, name: str) -> Link | None:
        """A link by its name."""
        try:
            found = self._route.link("get", ifname=name)
        except NetlinkError as error:
            if error.code == 19:  # ENODEV
                return None
            raise _failure(f"look at link {name}", error) from error
        return _link(next(iter(found)))

    def all(self) -> list[Link]:
        """Every link."""
        return [_link(message) for message in self._do("list links", lambda: list(self._route.get_links()))]

    def add(self, name: str, kind: str, **settings: Any) -> Link:
        """
        Make a link, down.

        @raise DriverFailure: the kernel refused.
        """
        self._do(f"make {kind} {name}", lambda: self._route.link("add", ifname=name, kind=kind, **settings))
        made = self.find(name)
        if made is None:
            raise DriverFailure(f"{kind} {name} was taken away as soon as it was made")
        return made

    def change(self, link: Link, **settings: Any) -> None:
        """Set what pyroute2 calls C{ifalias}, C{state}, C{mtu}, C{master}, …"""
        what = ", ".join(f"{name} {value}" for name, value in settings.items())
        self._do(f"set {what} of {link.name}", lambda: self._route.link("set", index=link.index, **settings))

    def remove(self, link: Link) -> None:
        """Nothing when it is gone already."""
        self._unless((19,), f"remove {link.name}", lambda: self._route.link("del", index=link.index))

    def addresses(self, link: Link) -> dict[str, str]:
        """
        @return: the label of each address, as C{10.0.0.1/24}, but for those
            of IPv6 that links give themselves.
        """
        found = self._do(f"list addresses of {link.name}", lambda: list(self._route.get_addr(index=link.index)))
        pairs = {f"{each.get('address')}/{each['prefixlen']}": str(each.get("label") or "") for each in found}
        return {address: label for address, label in pairs.items() if not address.startswith("fe80:")}

    def add_address(self, link: Link, address: str, label: str = "") -> None:
        """
        @param address: as C{10.0.0.1/24}; of IPv6, others may have it too.
        @param label: a mark on it, for IPv4.
        """
        settings: dict[str, Any] = {"label": label} if label else {}
        if ":" in address:
            settings = {"flags": NO_DETECTION}
        self._address("add", link, address, (17,), settings)

    def remove_address(self, link: Link, address: str) -> None:
        """Nothing when it is gone already."""
        self._address("del", link, address, (19, 99), {})

    def peers(self, link: Link) -> set[str]:
        """Where a vxlan link sends what it knows no place for."""
        found = self._do(f"list peers of {link.name}", lambda: list(self._route.fdb("dump", ifindex=link.index)))
        return {str(each.get("dst")) for each in found if each.get("dst") and each.get("lladdr") == EVERYBODY}

    def add_peer(self, link: Link, address: str) -> None:
        """Send what it knows no place for there too."""
        self._peer("append", link, address, (17,))

    def remove_peer(self, link: Link, address: str) -> None:
        """No longer."""
        self._peer("del", link, address, (2,))

    def _unless(self, so_already: tuple[int, ...], what: str, act: Callable[[], object]) -> None:
        """
        @param so_already: errors that say that it is.
        """
        try:
            self._do(what, act)
        except DriverFailure as error:
            if getattr(error.__cause__, "code", None) not in so_already:
                raise

    def _address(self, verb: str, link: Link, address: str, gone: tuple[int, ...], settings: dict[str, Any]) -> None:
        host, length = address.split("/")
        call = {"index": link.index, "address": host, "prefixlen": int(length), **settings}
        self._unless(gone, f"{verb} address {address} of {link.name}", lambda: self._route.addr(verb, **call))

    def _peer(self, verb: str, link: Link, address: str, gone: tuple[int, ...]) -> None:
        call = {"ifindex": link.index, "lladdr": EVERYBODY, "dst": address}
        self._unless(gone, f"{verb} peer {address} of {link.name}", lambda: self._route.fdb(verb, **call))

    def _do(self, what: str, act: Callable[[], T]) -> T:
        """Have the kernel do something; its refusal in words."""
        try:
            return act()
        except NetlinkError as error:
            raise _failure(what, error) from error
        except OSError as error:
            raise DriverFailure(f"cannot {what}: {error.strerror or error}") from error


EVERYBODY = "00:00:00:00:00:00"
"""The MAC under which a vxlan link keeps whom it floods to."""


def _failure(what: str, error: Any) -> DriverFailure:
    return DriverFailure(f"cannot {what}: {os.strerror(error.code)}")


def _link(message: Any) -> Link:
    info = message.get("linkinfo")
    kind = str(info.get("kind") or "") if info else ""
    data = info.get("data") if info else None
    return Link(
        int(message["index"]),
        str(message.get("ifname")),
        kind,
        str(message.get("ifalias") or ""),
        str(message.get("address") or ""),
        int(message.get("mtu") or 0),
        int(message.get("master") or 0),
        bool(message["flags"] & UP),
        {"link": int(message.get("link") or 0)} | _settings(kind, data),
    )


def _settings(kind: str, data: Any) -> dict[str, Any]:
    prefix = f"IFLA_{kind.upper()}_"
    pairs = data.get("attrs", ()) if data else ()
    return {str(name).removeprefix(prefix).lower(): value for name, value in pairs if name != "UNKNOWN"}


class Sysctls:
    """
    Settings of the kernel's network, in the calling thread's namespace.
    """

    def set(self, name: str, value: str) -> None:
        """
        @param name: as C{net/ipv4/ip_forward}.
        @raise DriverFailure: there is no such setting, or no right to it.
        """
        path = f"/proc/sys/{name}"
        try:
            with open(path) as file:
                if file.read().strip() == value:
                    return
            with open(path, "w") as file:
                file.write(value)
        except OSError as error:
            raise DriverFailure(f"cannot set {name} to {value}: {error.strerror}") from error


def release_lease(bridge: str, server: str, address: str, mac: str) -> None:
    """
    Tell a DHCP server on this host, in a guest's name, that the guest is gone,
    by a DHCPRELEASE (RFC 2131, 4.4.4); else it would keep the address for the
    MAC until the lease's end.  Nobody answers.

    @raise DriverFailure: it could not be sent.
    """
    try:
        hardware = bytes.fromhex(mac.replace(":", ""))
        packet = b"\x01\x01\x06\x00" + os.urandom(4) + bytes(4) + socket.inet_aton(address) + bytes(12)
        packet += hardware.ljust(16, b"\0") + bytes(192) + b"\x63\x82\x53\x63"  # the magic cookie
        packet += b"\x35\x01\x07" + b"\x36\x04" + socket.inet_aton(server) + b"\xff"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode())
            sender.sendto(packet, (server, 67))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DriverFailure(f"cannot release {address} on {bridge}: {why}") from error


def announce(device: str, mac: str, address: str) -> None:
    """
    Tell a link's neighbours that an IPv4 address is here now, by a gratuitous
    ARP request (RFC 5227, 1.1).

    @raise DriverFailure: it could not be sent.
    """
    hardware, number = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(address)
    packet = b"\xff" * 6 + hardware + b"\x08\x06" + b"\x00\x01\x08\x00\x06\x04\x00\x01"
    packet += hardware + number + bytes(6) + number
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((device, 0))
            sender.send(packet)
    except OSError as error:
        raise DriverFailure(f"cannot announce {address} on {device}: {error.strerror}") from error
