"""
Ranges of floating addresses, which operators make.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from netaddr import AddrFormatError, IPNetwork
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.claims import check_free
from fabric.errors import AlreadyExists, InvalidValue, NotFound
from fabric.ids import new_id
from fabric.model.address import FloatingRange
from fabric.model.record import ALL
from fabric.store.interface import IStore, Query

LARGEST = 16
"""The shortest prefix that a range may have: its pool is a set of 65,000."""


class Ranges:
    """
    Makes, lists and removes ranges.
    """

    def __init__(self, store: IStore, clock: IReactorTime) -> None:
        self._store = store
        self._clock = clock

    @inlineCallbacks
    def create(self, caller: Caller, label: str, cidr: str) -> Generator[Deferred[Any], Any, FloatingRange]:
        """
        @raise InvalidValue: the range can't be meant, or its addresses are
            those of networks or another range.
        @raise AlreadyExists: a range of that label exists.
        """
        check_label(label)
        wanted = ipv4_range(cidr)
        made = FloatingRange(new_id("floating"), label, str(wanted), created_at=self._clock.seconds())
        yield check_free(self._store, made)
        transaction = self._store.transaction(caller.request_id)
        transaction.create(made)
        try:
            yield self._store.commit(transaction)
        except AlreadyExists as error:
            raise AlreadyExists("floating", label, error.holder) from None
        return made

    @inlineCallbacks
    def ensure(self, label: str, cidr: str) -> Generator[Deferred[Any], Any, None]:
        """
        Have a range of that label; what one is there is left as it is.
        """
        found = yield self.list()
        if label in [each.label for each in found]:
            return
        try:
            yield self.create(Caller("cloud", "", request_id="first-start"), label, cidr)
        except AlreadyExists:
            return

    @inlineCallbacks
    def delete(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        """
        @raise NotFound: no such range.
        @raise InUse: a project holds an address of it.
        """
        [stored] = yield self._store.read(FloatingRange, [id])
        if stored is None:
            raise NotFound("floating", id)
        transaction = self._store.transaction(caller.request_id)
        transaction.delete(stored)
        yield self._store.commit(transaction)

    @inlineCallbacks
    def list(self) -> Generator[Deferred[Any], Any, list[FloatingRange]]:
        """
        Every range, oldest first.
        """
        found: list[FloatingRange] = []
        cursor = ""
        while True:
            page = yield self._store.records(FloatingRange, Query("floating", (ALL,), cursor=cursor))
            found += [stored.record for stored in page.items]
            cursor = page.cursor
            if not cursor:
                return found


def check_label(label: str) -> None:
    """
    @raise InvalidValue: a range or network can't be called so.
    """
    if not label.strip() or not label.isprintable():
        raise InvalidValue("label", label, "must be of printable characters, and not empty")


def ipv4_range(cidr: str) -> IPNetwork:
    try:
        network = IPNetwork(cidr)
    except (AddrFormatError, ValueError):
        raise InvalidValue("cidr", cidr, "an IPv4 range, as 203.0.113.0/24") from None
    if network.version != 4 or network.ip != network.network:
        raise InvalidValue("cidr", cidr, "an IPv4 range that begins at its own address")
    if network.prefixlen < LARGEST:
        raise InvalidValue("cidr", cidr, f"a prefix of /{LARGEST} or longer")
    return network
