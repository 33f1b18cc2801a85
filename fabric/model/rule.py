"""
The rules of a security group: what may pass, in one form for each meaning.

Two rules are the same when their L{Permission}s are equal, so whatever a client
may write in several ways (host bits in a range, C{6} for C{tcp}, ports of a
protocol that has none) has one form here.

@see: U{https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html}
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

import attrs

from fabric.errors import InvalidValue
from fabric.ids import new_id

ANY = "-1"
"""The protocol of a rule about all traffic."""

NAMED = {"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6"}
"""Protocols that have a name, and numbers with a meaning: ports, or type and code."""

MOST = 60
"""Rules that a group may have in each direction."""

LONGEST_DESCRIPTION = 255

CHARACTERS = "a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*"
"""Of which names and descriptions of groups and rules are, as EC2 says it."""

_RANGE = re.compile(r"^[0-9a-fA-F:.]{2,49}/[0-9]{1,3}\Z")
_SPELT = re.compile(r"^[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]*\Z")
_LARGEST = {"tcp": 65535, "udp": 65535, "icmp": 255, "icmpv6": 255}


@attrs.frozen
class Permission:
    """
    What may pass.  Made by L{permission}, which gives it its one form.

    @ivar egress: whether it is about what members send.
    @ivar protocol: C{tcp}, C{udp}, C{icmp}, C{icmpv6}, another's number, or L{ANY}.
    @ivar from_port, to_port: of tcp and udp; type and code of icmp, -1 for
        all; -1 both for other protocols.
    @ivar cidr, cidr6, group: one of them is the other side: an IPv4 range, an
        IPv6 range, or the members of a group.
    @ivar owner: the group's project.
    @ivar group_name: the group's name, as shown.
    """

    egress: bool
    protocol: str
    from_port: int = -1
    to_port: int = -1
    cidr: str = ""
    cidr6: str = ""
    group: str = ""
    owner: str = ""
    group_name: str = attrs.field(default="", eq=False)

    @property
    def traffic(self) -> tuple[str, int, int]:
        """What passes, whoever is on the other side."""
        return (self.protocol, self.from_port, self.to_port)

    def __str__(self) -> str:
        """As EC2's messages have it."""
        peer = self.cidr or self.cidr6 or self.group or self.group_name
        if self.protocol == ANY:
            return f"peer: {peer}, ALL, ALLOW"
        if self.protocol in ("tcp", "udp"):
            ports = f", from port: {self.from_port}, to port: {self.to_port}"
        elif self.protocol in _LARGEST:
            ports = f", type: {_or_all(self.from_port)}, code: {_or_all(self.to_port)}"
        else:
            ports = ""
        return f"peer: {peer}, {self.protocol.upper()}{ports}, ALLOW"


@attrs.frozen
class Rule:
    """
    @ivar id: C{sgr-…}.
    """

    id: str
    permission: Permission
    description: str = ""
    tags: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Traffic:
    """
    Rules that let the same pass, from or to different sides.
    """

    protocol: str
    from_port: int
    to_port: int
    rules: tuple[Rule, ...]


def permission(
    egress: bool,
    protocol: str,
    from_port: int | None = None,
    to_port: int | None = None,
    cidr: str = "",
    cidr6: str = "",
    group: str = "",
    owner: str = "",
    group_name: str = "",
) -> Permission:
    """
    @return: what is meant, in its one form.
    @raise InvalidValue: it can't be meant; C{name} is C{permission} and
        C{why} a whole sentence.
    """
    name = protocol_name(protocol)
    first, last = _ports(name, from_port, to_port)
    return Permission(
        egress,
        name,
        first,
        last,
        network(cidr, 4) if cidr else "",
        network(cidr6, 6) if cidr6 else "",
        group,
        owner,
        group_name,
    )


def protocol_name(text: str) -> str:
    """
    @return: a protocol's name where it has one here, else its number.
    @raise InvalidValue: there is no such protocol.
    """
    given = text.strip().lower()
    if given == ANY or given in NAMED.values():
        return given
    if given.isascii() and given.isdecimal() and len(given) <= 3 and int(given) <= 255:
        number = str(int(given))
        return NAMED.get(number, number)
    raise _wrong(text, f"Invalid value '{text[:60]}' for IP protocol. Unknown protocol.")


def network(text: str, version: int) -> str:
    """
    @param version: 4 or 6.
    @return: the range, with host bits cleared.
    @raise InvalidValue: it is none.
    """
    try:
        if _RANGE.match(text):
            found = ipaddress.ip_network(text, strict=False)
            if found.version == version:
                return str(found)
    except ValueError:
        pass
    raise _wrong(text, f"CIDR block {text[:60]} is malformed")


def described(text: str) -> str:
    """
    @return: the text of a rule's description.
    @raise InvalidValue: it is too long or has other characters than EC2 takes.
    """
    if not spelt(text):
        why = (
            "Invalid rule description. Valid descriptions are strings less than 256 characters "
            f"from the following set:  {CHARACTERS}"
        )
        raise _wrong(text[:60], why)
    return text


def spelt(text: str) -> bool:
    """
    @return: whether a text is short enough, and of L{CHARACTERS} only.
    """
    return len(text) <= LONGEST_DESCRIPTION and _SPELT.match(text) is not None


def new_rule(permission: Permission, description: str = "", tags: dict[str, str] | None = None) -> Rule:
    """
    @return: a rule with an id of its own.
    """
    return Rule(new_id("rule"), permission, description, dict(tags or {}))


def opening_rules(id: str, project: str, name: str, own: bool, v6: bool = False) -> tuple[Rule, ...]:
    """
    The rules that a new group has: its members may send anything.

    @param own: whether members also take anything from each other, as in a
        default group.
    @param v6: whether they have IPv6 to send by, as in EC2's networks that do.
    """
    send = [new_rule(Permission(True, ANY, cidr="0.0.0.0/0"))]
    if v6:
        send.append(new_rule(Permission(True, ANY, cidr6="::/0")))
    if not own:
        return tuple(send)
    return (new_rule(Permission(False, ANY, group=id, owner=project, group_name=name)), *send)


def merged(rules: Iterable[Rule], egress: bool) -> list[Traffic]:
    """
    @return: the rules of one direction, those of the same traffic together.
    """
    by_traffic: dict[tuple[str, int, int], list[Rule]] = {}
    for rule in rules:
        if rule.permission.egress == egress:
            by_traffic.setdefault(rule.permission.traffic, []).append(rule)
    return [Traffic(*traffic, tuple(found)) for traffic, found in by_traffic.items()]


def meant(wanted: Permission, rule: Permission) -> bool:
    """
    Whether C{wanted}, which may name a group by its id alone or by its name,
    is the permission of a rule.
    """
    if wanted == rule:
        return True
    if not rule.group or wanted.egress != rule.egress or wanted.traffic != rule.traffic:
        return False
    if wanted.owner and wanted.owner != rule.owner:
        return False
    if wanted.group:
        return wanted.group == rule.group
    return bool(wanted.group_name) and wanted.group_name == rule.group_name


def _ports(protocol: str, first: int | None, last: int | None) -> tuple[int, int]:
    if protocol not in _LARGEST or (protocol == "icmpv6" and first is None and last is None):
        return -1, -1
    if protocol in ("tcp", "udp"):
        return _tcp_ports(first, last)
    if first is None or last is None:
        raise _wrong("", "Invalid value 'Must specify both type and code with ICMP.' for portRange.")
    for what, value in (("type", first), ("code", last)):
        if not -1 <= value <= _LARGEST[protocol]:
            raise _wrong(str(value), f"ICMP {what} ({value}) out of range")
    if first == -1 and last != -1:
        raise _wrong(str(last), f"ICMP code ({last}) must be -1 when the ICMP type is -1")
    return first, last


def _tcp_ports(first: int | None, last: int | None) -> tuple[int, int]:
    if first is None or last is None:
        raise _wrong("", "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.")
    for port in (first, last):
        if not 0 <= port <= 65535:
            raise _wrong(str(port), f"TCP/UDP port ({port}) out of range")
    if first > last:
        raise _wrong(f"{first}:{last}", f"Invalid TCP/UDP port range ({first}:{last})")
    return first, last


def _or_all(number: int) -> str:
    return "ALL" if number == -1 else str(number)


def _wrong(value: str, why: str) -> InvalidValue:
    return InvalidValue(name="permission", value=value, why=why)
