"""
Whose IPv4 addresses are whose: those of networks, of the networks that projects
will get, and of floating addresses are each others' only when nobody would mind.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from netaddr import IPNetwork
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.errors import InvalidValue
from fabric.model.address import FloatingRange
from fabric.model.network import Network
from fabric.model.project_range import ProjectRange
from fabric.model.record import ALL
from fabric.store.interface import IStore, Query

WORDS = {
    FloatingRange.kind: "it has addresses of range {label}, {cidr}",
    Network.kind: "it has addresses of network {label}, {cidr}",
    ProjectRange.kind: "it has addresses kept for projects, by {label}",
}
"""Why a range can't be had, by the kind of what has it."""


@attrs.frozen
class Claim:
    """
    A range of addresses that is somebody's.

    @ivar kind: that of the record which claims it.
    @ivar shared: whether another that is shared may have the same: those of
        networks of manager C{flat}, which others see to.
    """

    kind: str
    label: str
    cidr: str
    shared: bool = False

    def clashes(self, other: Claim) -> bool:
        """Whether there can't be both."""
        mine, others = IPNetwork(self.cidr), IPNetwork(other.cidr)
        return not (self.shared and other.shared) and (mine in others or others in mine)


def claim(record: FloatingRange | Network | ProjectRange) -> Claim:
    """
    @return: what a record claims.
    """
    return Claim(record.kind, record.label, record.cidr, isinstance(record, Network) and record.manager == "flat")


@inlineCallbacks
def check_free(store: IStore, wanted: FloatingRange | Network | ProjectRange) -> Generator[Deferred[Any], Any, None]:
    """
    Nothing is said of one whose label another of its kind has: that is refused
    by the write.

    @raise InvalidValue: its addresses are others'.
    """
    own, others = claim(wanted), []
    for cls in (FloatingRange, Network, ProjectRange):
        others += yield _claims(store, cls)
    if (own.kind, own.label) in {(other.kind, other.label) for other in others}:
        return
    for other in others:
        if own.clashes(other):
            raise InvalidValue("cidr", own.cidr, WORDS[other.kind].format(label=other.label, cidr=other.cidr))


@inlineCallbacks
def _claims(store: IStore, cls: Any) -> Generator[Deferred[Any], Any, list[Claim]]:
    found: list[Claim] = []
    cursor = ""
    while True:
        page = yield store.records(cls, Query(cls.kind, (ALL,), cursor=cursor))
        found += [claim(stored.record) for stored in page.items]
        cursor = page.cursor
        if not cursor:
            return found
