"""
The packet filters of a host: a pure function of what its network is to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from fabric.errors import InvalidValue
from fabric.network.interface import GroupOrder, NetworkOrder, Plug
from fabric.network.linux import filtering, guards, translation
from fabric.network.linux.groups import (
    combination_piece,
    combined,
    group_piece,
    members_key,
    members_piece,
    referenced,
)
from fabric.network.linux.host import HostNetwork
from fabric.network.linux.plan import Uplinks, is_gateway, uplink
from fabric.network.linux.tables import Element, Key, Piece, Ruleset


@attrs.frozen
class Outside:
    """
    What is around the networks of a host, which orders don't say.

    @ivar public_interface: by which packets leave to the outside; empty for any.
    @ivar snat: the address that guests without a floating one have there;
        empty for that of C{public_interface}, or for their own when that is
        empty too.
    @ivar metadata_port: where this host answers for the metadata, at the
        address of each gateway.
    @ivar uplinks: how bridges are joined to those of other hosts.
    """

    public_interface: str = ""
    snat: str = ""
    metadata_port: int = 8775
    uplinks: Uplinks = Uplinks()


Source = tuple[object, ...]
Made = tuple[Key, Source, Callable[[Source], Piece]]
"""A piece's key, what it is made of, and what makes it of that."""


def ruleset(host: HostNetwork, outside: Outside, before: Ruleset | None = None) -> Ruleset:
    """
    @param before: what an earlier call gave; pieces of it that would be made
        of the same are taken from it.
    @return: what our tables are to hold.  A port whose network is not there,
        or whose address a newer one has, has nothing and may send nothing.
    @raise InvalidValue: a name can't be that of an interface.
    """
    known = {} if before is None else before.pieces
    pieces: dict[Key, Piece] = {}
    for key, source, make in _made(host, outside):
        piece = known.get(key)
        pieces[key] = piece if piece is not None and piece.source == source else make(source)
    return Ruleset(pieces)


def _made(host: HostNetwork, outside: Outside) -> Iterator[Made]:
    yield ("fixed",), (outside,), lambda source: _fixed(outside, source)
    yield ("networks",), (outside, *host.networks.values()), lambda source: _networks(host, outside, source)
    yield from _ports(host)
    yield from _groups(host)
    yield from _floating(host)


def _fixed(outside: Outside, source: Source) -> Piece:
    _checked(outside.public_interface)
    return Piece(
        source,
        named=(*guards.NAMED, *filtering.NAMED, *translation.NAMED),
        chains=(
            *guards.CHAINS,
            *filtering.chains(outside.metadata_port),
            *translation.chains(outside.public_interface, outside.snat),
        ),
    )


def _networks(host: HostNetwork, outside: Outside, source: Source) -> Piece:
    elements: dict[tuple[str, ...], Element] = {}
    for network in host.networks.values():
        _checked(network.bridge)
        joint = uplink(network, outside.uplinks) if is_gateway(network) else None
        for element in (
            *filtering.network_elements(network),
            *translation.network_elements(network, outside.metadata_port),
            *(guards.uplink_elements(network, _checked(joint.name)) if joint else ()),
        ):
            elements.setdefault(element[:3], element)
    ranges = translation.range_elements(host.networks.values())
    return Piece(source, elements=(*elements.values(), *ranges))


def _ports(host: HostNetwork) -> Iterator[Made]:
    holders = {(port.network, port.address): mac for mac, port in host.ports.items()}
    combinations = {port.groups: combined(port.groups, host.groups) for port in host.ports.values()}
    for mac, port in host.ports.items():
        network = host.networks.get(port.network)
        if network is not None and holders[port.network, port.address] == mac:
            groups = combinations[port.groups]
            yield ("port", mac), (port, network, groups), _port(port, network, groups)
    for groups in set(combinations.values()):
        yield ("combination", *groups), (), _combination(groups)


def _port(port: Plug, network: NetworkOrder, groups: tuple[str, ...]) -> Callable[[Source], Piece]:
    def make(source: Source) -> Piece:
        elements = (*guards.port_elements(port, network), *filtering.port_elements(port, network, groups))
        return Piece(source, elements=elements)

    return make


def _combination(groups: tuple[str, ...]) -> Callable[[Source], Piece]:
    return lambda source: combination_piece(groups, source)


def _groups(host: HostNetwork) -> Iterator[Made]:
    peers: set[str] = set()
    for group in host.groups.values():
        peers |= referenced(group)
        yield ("group", group.id), (group.rules,), _group(group)
    for id in peers:
        known = host.groups.get(id)
        addresses = known.addresses if known else ()
        yield members_key(id), (addresses,), _members(id, addresses)


def _group(group: GroupOrder) -> Callable[[Source], Piece]:
    return lambda source: group_piece(group, source)


def _members(id: str, addresses: tuple[str, ...]) -> Callable[[Source], Piece]:
    return lambda source: members_piece(id, addresses, source)


def _floating(host: HostNetwork) -> Iterator[Made]:
    led: dict[str, tuple[str, ...]] = {}
    for public, floating in host.floating.items():
        led[floating.private] = (*led.get(floating.private, ()), public)
    for private, publics in led.items():
        yield ("floating", private), (publics,), _led(private, publics)


def _led(private: str, publics: tuple[str, ...]) -> Callable[[Source], Piece]:
    return lambda source: Piece(source, elements=tuple(translation.floating_elements(private, publics)))


def _checked(device: str) -> str:
    if any(character in '"\\*' or not character.isprintable() for character in device):
        raise InvalidValue(name="interface", value=device, why="has characters that no packet filter can name")
    return device
