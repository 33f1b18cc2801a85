"""
Floating addresses: ranges of them, and those that projects hold.

A project's address is its own until it releases it, whatever instance it leads
to.  Which hosts may still lead it somewhere is part of the record: an address is
free again only when none does.
"""

from __future__ import annotations

from functools import cache

import attrs
from netaddr import IPNetwork

from fabric.model.record import ALL, Derived, Record, tag_facets


@attrs.frozen
class FloatingRange(Record):
    """
    Addresses that can be reached from outside, for projects to hold.

    @ivar label: the range's name, unique in the cloud.
    @ivar cidr: as C{203.0.113.0/24}.
    """

    kind = "floating"

    id: str
    label: str
    cidr: str
    project: str = ""
    created_at: float = 0.0

    @property
    def pool(self) -> str:
        """The pool that its addresses are taken from."""
        return "floating:" + self.id

    def derived(self) -> Derived:
        """Filed for operators, with its label unique."""
        return Derived(
            scopes=(ALL,),
            facets=(("label", self.label), ("cidr", self.cidr)),
            unique=(f"floating:{self.label}",),
        )

    def pool_members(self) -> dict[str, tuple[str, ...]]:
        """One pool: every address but the network's own and the broadcast."""
        return {self.pool: _addresses(self.cidr)}


@cache
def _addresses(cidr: str) -> tuple[str, ...]:
    network = IPNetwork(cidr)
    own = 1 if network.prefixlen < 31 else 0
    return tuple(str(network[n]) for n in range(own, network.size - own))


@attrs.frozen
class Association:
    """
    What an address leads to.

    @ivar id: C{eipassoc-…}, new with each association.
    @ivar network, private_ip, mac: the port's of the instance.
    @ivar host: where the instance is, which is where the address must be;
        empty while that is on none.
    """

    id: str
    instance: str
    network: str
    private_ip: str
    mac: str
    host: str


@attrs.frozen
class Address(Record):
    """
    A floating address that a project holds, or that is on its way back.

    @ivar range: id of the range that it is of.
    @ivar order: grows with each change; orders to hosts and their reports
        carry it.  It begins with the time of the allocation in milliseconds,
        so that it also grows from one holder of the same address to the next.
    @ivar confirmed: the order that the association's host last said it did.
    @ivar stale: hosts that may still have it and must not.
    @ivar review_at: when the sweep orders again what no host confirmed.
    @ivar released: given back by its project, but not free while C{stale}.
    """

    kind = "address"
    taggable = True

    id: str
    project: str
    public_ip: str
    range: str
    created_at: float
    order: int = 0
    association: Association | None = None
    confirmed: int = 0
    stale: tuple[str, ...] = ()
    review_at: float = 0.0
    released: bool = False
    tags: dict[str, str] = attrs.field(factory=dict)

    @property
    def settled(self) -> bool:
        """Whether every host is known to have what it should; where its instance is on none, nobody is asked."""
        host = self.association.host if self.association else ""
        return not self.stale and (not host or self.confirmed == self.order)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host that is to have it, or may have it."""
        return (*self.stale, self.association.host) if self.association and self.association.host else self.stale

    def derived(self) -> Derived:
        """Filed for its project until released; holds its member of the pool to the end."""
        association = self.association
        return Derived(
            scopes=(ALL,) if self.released else (self.project, ALL),
            lists=tuple("host:" + host for host in self.hosts),
            facets=tuple(self._facets()),
            unique=(unique_name(self.public_ip), *(["association:" + association.id] if association else [])),
            counters={} if self.released else {f"quota:{self.project}:addresses": 1},
            pools=(("floating:" + self.range, self.public_ip),),
            due=None if self.settled else self.review_at,
            references=(
                ("floating", self.range),
                *([("instance", association.instance)] if association else []),
            ),
            event={"address": self.public_ip, "instance": association.instance if association else ""},
        )

    def _facets(self) -> list[tuple[str, str]]:
        facets = [("id", self.id), ("public", self.public_ip), ("range", self.range)]
        if self.association is not None:
            facets += [
                ("association", self.association.id),
                ("instance", self.association.instance),
                ("address", self.association.private_ip),
            ]
        return facets + tag_facets(self.tags)


def unique_name(public_ip: str) -> str:
    """
    The unique name by which the store finds the holder of an address.
    """
    return "address:" + public_ip


def associated(address: Address, association: Association, review_at: float) -> Address:
    """
    An address that leads to an instance from now on, and nowhere else.
    """
    stale = tuple(dict.fromkeys(host for host in address.hosts if host != association.host))
    return attrs.evolve(
        address, association=association, order=address.order + 1, confirmed=0, stale=stale, review_at=review_at
    )


def disassociated(address: Address, review_at: float) -> Address:
    """
    An address that leads nowhere from now on.
    """
    stale = tuple(dict.fromkeys(address.hosts))
    return attrs.evolve(
        address, association=None, order=address.order + 1, confirmed=0, stale=stale, review_at=review_at
    )


def told(address: Address, host: str, order: int, present: bool) -> Address:
    """
    @return: the address after a host said whether it has it; itself when that
        is about an older order, or nothing new.
    """
    if order != address.order:
        return address
    here = address.association is not None and address.association.host == host
    if present and here:
        return attrs.evolve(address, confirmed=order)
    if not present and not here:
        return attrs.evolve(address, stale=tuple(each for each in address.stale if each != host))
    return address
