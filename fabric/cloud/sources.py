"""
Which machine asks: instances by the address that their packets come from.

A fixed address is unique within its network only, so a source is a network and
an address.  A door that stands before one network is told which.  One that
serves several takes the network whose range has the address, and knows nobody
when several ranges have it: better no answer than another machine's.

An instance is read anew for each request.  Were it kept, then for as long an
address that has changed hands would still show what it showed before.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import attrs
from netaddr import IPNetwork
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.errors import AlreadyExists
from fabric.model.instance import Instance, source_name
from fabric.model.network import Network
from fabric.model.record import ALL
from fabric.model.secret import Secret
from fabric.store.interface import IStore, Query

KEPT = 1.0
"""Seconds for which the list of networks is used again."""

_SECRET = "metadata"
_SECRET_BYTES = 32
_WHOLE = 0xFFFFFFFF


@attrs.frozen
class Guest:
    """
    A machine, and the network by which it asks.
    """

    instance: Instance
    network: Network


class Sources:
    """
    Finds machines for the metadata door.
    """

    log = Logger()

    def __init__(self, store: IStore, clock: IReactorTime, network: str = "") -> None:
        """
        @param network: label or id of the only network that is asked from;
            empty for all.
        """
        self._store = store
        self._clock = clock
        self._network = network
        self._ranges = _Ranges([])
        self._read_at: float | None = None
        self._waiting: list[Deferred[None]] | None = None
        self._secret: bytes | None = None

    @inlineCallbacks
    def find(self, address: str, network: str = "") -> Generator[Deferred[Any], Any, Guest | None]:
        """
        The machine that holds an address, in one read besides that of the
        networks, which is done once a second.

        @param address: IPv4, in dots.
        @param network: label or id of the network that it asks from, where
            that is known.
        @return: None where no machine holds it, or which one can't be told.
        """
        number = _number(address)
        if number is None:
            return None
        if self._read_at is None or self._clock.seconds() - self._read_at >= KEPT:
            yield self._know_networks()
        possible = self._ranges.having(number)
        for wanted in filter(None, (self._network, network)):
            possible = [each for each in possible if wanted in (each.id, each.label)]
        if len(possible) != 1:
            if possible:
                self.log.warn("{address} is of several networks: name one in metadata.network", address=address)
            return None
        [stored] = yield self._store.resolve(Instance, [source_name(possible[0].id, address)])
        return Guest(stored.record, possible[0]) if stored else None

    @inlineCallbacks
    def launched_with(self, instance: Instance) -> Generator[Deferred[Any], Any, list[Instance]]:
        """
        The live machines of an instance's own launch.
        """
        found: list[Instance] = []
        cursor = ""
        while True:
            filters = (("reservation", (instance.reservation,)),)
            page = yield self._store.records(Instance, Query("instance", (instance.project,), filters, cursor=cursor))
            found += [stored.record for stored in page.items if stored.record.live]
            cursor = page.cursor
            if not cursor:
                return found

    def secret(self) -> Deferred[bytes]:
        """
        What all doors of the cloud sign sessions with; made by the first one
        that needs it.
        """
        return succeed(self._secret) if self._secret else self._learn()

    @inlineCallbacks
    def _learn(self) -> Generator[Deferred[Any], Any, bytes]:
        [stored] = yield self._store.read(Secret, [_SECRET])
        if stored is None:
            transaction = self._store.transaction("metadata")
            transaction.create(Secret(_SECRET, os.urandom(_SECRET_BYTES).hex()))
            try:
                committed = yield self._store.commit(transaction)
                [stored] = committed.records
            except AlreadyExists:  # by another door in this moment
                [stored] = yield self._store.read(Secret, [_SECRET])
        self._secret = bytes.fromhex(stored.record.value)
        return self._secret

    def _know_networks(self) -> Deferred[None]:
        """Read them, once for all who ask at the same time."""
        waiter: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(waiter)
            return waiter
        self._waiting = [waiter]
        self._read_networks().addBoth(self._tell_all)
        return waiter

    @inlineCallbacks
    def _read_networks(self) -> Generator[Deferred[Any], Any, None]:
        now = self._clock.seconds()
        found: list[Network] = []
        cursor = ""
        while True:
            page = yield self._store.records(Network, Query("network", (ALL,), cursor=cursor))
            found += [stored.record for stored in page.items]
            cursor = page.cursor
            if not cursor:
                break
        self._ranges, self._read_at = _Ranges(found), now

    def _tell_all(self, result: Any) -> None:
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            waiter.callback(result)


class _Ranges:
    """
    Networks by their ranges: looking costs as much as there are different
    lengths of prefixes, however many networks there are.
    """

    def __init__(self, networks: list[Network]) -> None:
        self._by_length: dict[int, dict[int, list[Network]]] = {}
        for network in networks:
            range_ = IPNetwork(network.cidr)
            same = self._by_length.setdefault(range_.prefixlen, {})
            same.setdefault(int(range_.first), []).append(network)

    def having(self, number: int) -> list[Network]:
        """The networks whose range has an address."""
        found: list[Network] = []
        for length, networks in self._by_length.items():
            found += networks.get(number & (_WHOLE << (32 - length)) & _WHOLE, ())
        return found


def _number(address: str) -> int | None:
    """An IPv4 address as a number, None when the text is none."""
    parts = address.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        return None
    numbers = [int(part) for part in parts]
    if max(numbers) > 255 or ".".join(map(str, numbers)) != address:
        return None
    return int.from_bytes(bytes(numbers), "big")
