"""
Networks: ranges of fixed addresses, and which one a launch gets.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from netaddr import AddrFormatError, IPAddress, IPNetwork
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.errors import AlreadyExists, InvalidValue, NotFound, Unsupported
from fabric.ids import new_id
from fabric.model.network import Network
from fabric.model.record import ALL, PUBLIC
from fabric.store.interface import IStore, Query, Want

MANAGERS = ("flat",)
LARGEST = 16
"""The shortest prefix that a network may have: its pool is a set of 65,000."""


class Networks:
    """
    @ivar default: the label of the network that launches use.
    """

    def __init__(self, store: IStore, clock: IReactorTime, default: str = "private", memo_seconds: float = 5.0) -> None:
        self._store = store
        self._clock = clock
        self.default = default
        self._memo_seconds = memo_seconds
        self._memo: dict[str, tuple[float, Network]] = {}

    def default_want(self) -> Want:
        """
        What to gather to know the network that launches use.
        """
        return Want(Network, name=_unique(self.default))

    @inlineCallbacks
    def by_id(self, ids: Sequence[str]) -> Generator[Deferred[Any], Any, dict[str, Network]]:
        """
        Networks by id.  What orders need of a network never changes, so
        answers are kept for some seconds.

        @raise NotFound: one does not exist.
        """
        horizon = self._clock.seconds() - self._memo_seconds
        unknown = [id for id in set(ids) if self._memo.get(id, (horizon,))[0] <= horizon]
        if unknown:
            found = yield self._store.read(Network, unknown)
            for id, stored in zip(unknown, found, strict=True):
                if stored is None:
                    self._memo.pop(id, None)
                    raise NotFound("network", id)
                self._memo[id] = (self._clock.seconds(), stored.record)
        return {id: self._memo[id][1] for id in ids}

    @inlineCallbacks
    def create(
        self,
        caller: Caller,
        label: str,
        cidr: str,
        gateway: str | None = None,
        bridge: str = "br100",
        reserved: int = 2,
        dns: Sequence[str] = (),
        project: str = "",
        manager: str = "flat",
    ) -> Generator[Deferred[Any], Any, Network]:
        """
        @raise InvalidValue: the range can't be meant.
        @raise AlreadyExists: a network of that label exists.
        """
        range_ = _range(cidr, reserved)
        if manager not in MANAGERS:
            raise Unsupported(f"network manager {manager}")
        network = Network(
            new_id("network"),
            label,
            str(range_),
            str(_gateway(range_, gateway)),
            manager,
            project,
            reserved,
            bridge,
            None,
            tuple(dns),
            created_at=self._clock.seconds(),
        )
        transaction = self._store.transaction(caller.request_id)
        transaction.create(network)
        try:
            yield self._store.commit(transaction)
        except AlreadyExists as error:
            raise AlreadyExists("network", label, error.holder) from None
        return network

    @inlineCallbacks
    def ensure(self, label: str, cidr: str, **options: Any) -> Generator[Deferred[Any], Any, None]:
        """
        Have a network of that label; what one is there is left as it is.
        """
        try:
            yield self.create(Caller("cloud", "", request_id="first-start"), label, cidr, **options)
        except AlreadyExists:
            return

    @inlineCallbacks
    def delete(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, None]:
        """
        @raise NotFound: no such network.
        @raise InUse: an address of it is held.
        """
        [stored] = yield self._store.read(Network, [id])
        if stored is None:
            raise NotFound("network", id)
        transaction = self._store.transaction(caller.request_id)
        transaction.delete(stored)
        transaction.idle("network", id)
        yield self._store.commit(transaction)
        self._memo.pop(id, None)

    @inlineCallbacks
    def visible(self, caller: Caller) -> Generator[Deferred[Any], Any, Sequence[Network]]:
        """
        The networks that the caller's project may use: the one that launches
        use first, then the others, oldest first.
        """
        found: list[Network] = []
        cursor = ""
        while True:
            page = yield self._store.records(Network, Query("network", (caller.project, PUBLIC), cursor=cursor))
            found += [stored.record for stored in page.items]
            cursor = page.cursor
            if not cursor:
                return sorted(found, key=lambda network: network.label != self.default)

    @inlineCallbacks
    def free(self) -> Generator[Deferred[Any], Any, dict[str, int]]:
        """
        How many addresses of each network, by id, nobody holds.
        """
        pools = yield self._store.pools()
        return {name.removeprefix("fixed:"): free for name, (free, _) in pools.items() if name.startswith("fixed:")}

    @inlineCallbacks
    def list(self, caller: Caller) -> Generator[Deferred[Any], Any, list[Network]]:
        """
        Every network of the cloud, for operators.
        """
        found: list[Network] = []
        cursor = ""
        while True:
            page = yield self._store.records(Network, Query("network", (ALL,), cursor=cursor))
            found += [stored.record for stored in page.items]
            cursor = page.cursor
            if not cursor:
                return found


def _unique(label: str) -> str:
    return f"network:{label}"


def _range(cidr: str, reserved: int) -> IPNetwork:
    try:
        range_ = IPNetwork(cidr)
    except (AddrFormatError, ValueError):
        raise InvalidValue("cidr", cidr, "an IPv4 range, as 10.0.0.0/16") from None
    if range_.version != 4 or range_.ip != range_.network:
        raise InvalidValue("cidr", cidr, "an IPv4 range that begins at its own address")
    if not LARGEST <= range_.prefixlen <= 29:
        raise InvalidValue("cidr", cidr, f"a prefix from /{LARGEST} to /29")
    if not 2 <= reserved < range_.size - 1:
        raise InvalidValue("reserved", str(reserved), "at least 2, and fewer than the range has")
    return range_


def _gateway(range_: IPNetwork, gateway: str | None) -> IPAddress:
    if gateway is None:
        return range_[1]
    try:
        address = IPAddress(gateway)
    except (AddrFormatError, ValueError):
        raise InvalidValue("gateway", gateway, "an IPv4 address") from None
    if address not in range_:
        raise InvalidValue("gateway", gateway, f"an address of {range_}")
    return address
