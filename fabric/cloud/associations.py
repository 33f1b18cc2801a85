"""
What floating addresses lead to: kept the same in address, instance and host.

An association is written in the address and in the instance by one script.  Then
hosts are ordered to follow; what they report, and what the sweep finds
unconfirmed, is compared with the address's order number.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.orders import Orders
from fabric.cloud.retry import until_written
from fabric.faults import IFaults
from fabric.model.address import Address, disassociated, told, unique_name
from fabric.model.instance import Instance, with_public
from fabric.network.interface import Floating, FloatingReport
from fabric.store.interface import IStore, Query, Stored, Transaction

KEEPS = ("pending", "running", "stopping", "stopped")
"""The states of an instance in which a floating address may lead to it."""

PAGE = 200
ATTEMPTS = 100


@inlineCallbacks
def end_associations(
    store: IStore, transaction: Transaction, records: Sequence[Instance], review_at: float
) -> Generator[Deferred[Any], Any, tuple[list[Instance], list[Address]]]:
    """
    Take their floating addresses from instances that are on their way out, in
    the transaction that moves them.

    @param records: instances as they are to be written.
    @return: the same without the addresses that have ended, and those
        addresses, of which hosts are to be told when the write is done.
    """
    ending = {record.public.allocation for record in records if _ends(record) and record.public}
    if not ending:
        return list(records), []
    found = yield store.read(Address, sorted(ending))
    freed: list[Address] = []
    for stored in found:
        if stored is not None and stored.record.association is not None:
            address = disassociated(stored.record, review_at)
            transaction.update(stored, address)
            freed.append(address)
    return [with_public(record, None) if _ends(record) else record for record in records], freed


def _ends(record: Instance) -> bool:
    return record.public is not None and record.state not in KEEPS


class Associations:
    """
    Makes hosts and state agree about floating addresses.
    """

    def __init__(self, store: IStore, orders: Orders, faults: IFaults) -> None:
        self._store = store
        self._orders = orders
        self._faults = faults

    @inlineCallbacks
    def take(
        self, request_id: str, host: str, reports: Sequence[FloatingReport]
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Note what a host has done.  Where it has something else than it should,
        it is ordered again.  Repeating is safe.
        """
        again, unknown = yield until_written(lambda: self._take_once(request_id, host, reports), ATTEMPTS)
        self._faults.reach("cloud.addresses_confirmed")
        yield self._orders.addresses(request_id, again, (host,))
        yield self._orders.drop_addresses(request_id, host, unknown)

    @inlineCallbacks
    def _take_once(
        self, request_id: str, host: str, reports: Sequence[FloatingReport]
    ) -> Generator[Deferred[Any], Any, tuple[list[Address], list[FloatingReport]]]:
        latest = {report.public: report for report in sorted(reports, key=lambda report: report.order)}
        found = yield self._store.resolve(Address, [unique_name(public) for public in latest])
        transaction = self._store.transaction(request_id)
        again: list[Address] = []
        unknown: list[FloatingReport] = []
        for stored, report in zip(found, latest.values(), strict=True):
            if stored is None:
                unknown += [report] if report.present else []
                continue
            address = told(stored.record, host, report.order, report.present)
            if address is not stored.record:
                self._put(transaction, stored, address)
            elif _disagrees(address, host, report):
                again.append(_with_stale(transaction, stored, host) if report.present else address)
        if transaction.puts or transaction.deletes:
            yield self._store.commit(transaction)
        return again, unknown

    def _put(self, transaction: Transaction, stored: Stored[Address], address: Address) -> None:
        """A released address that no host has any more is free."""
        if address.released and address.settled:
            transaction.delete(stored)
        elif address != stored.record:
            transaction.update(stored, address)

    @inlineCallbacks
    def adopt(self, request_id: str, host: str, floating: Sequence[Floating]) -> Generator[Deferred[Any], Any, None]:
        """
        Order everything that a host is to have of networks, ports and floating
        addresses, and that it is to have no others.  Repeating is safe.
        """
        yield self._each_page(Instance, host, lambda page: self._orders.attach(request_id, host, _here(page, host)))
        yield self._each_page(Address, host, lambda page: self._orders.addresses(request_id, page, (host,)))
        reports = [FloatingReport(each.public, each.order, True) for each in floating]
        yield self.take(request_id, host, reports)
        self._faults.reach("cloud.network_adopted")

    @inlineCallbacks
    def ports(self, request_id: str, host: str, instances: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Order the ports of instances that are over, and of which no host has
        anything more, away from a host that has them: an order to plug them
        may have come late.  What state does not know is left.
        """
        over: list[str] = []
        for first in range(0, len(instances), PAGE):
            found = yield self._store.read(Instance, instances[first : first + PAGE])
            records = [stored.record for stored in found if stored is not None]
            over += [each.id for each in records if not each.live and not each.on_host]
        yield self._orders.unplug(request_id, host, over)

    @inlineCallbacks
    def _each_page(self, cls: Any, host: str, act: Any) -> Generator[Deferred[Any], Any, None]:
        cursor = ""
        while True:
            query = Query(cls.kind, ("host:" + host,), cursor=cursor, limit=PAGE)
            page = yield self._store.records(cls, query)
            yield act([stored.record for stored in page.items])
            cursor = page.cursor
            if not cursor:
                return


def _here(instances: Sequence[Instance], host: str) -> list[Instance]:
    """
    Those that the host has, or is about to have, running; not those that are
    being moved, which may be gone, and their ports with them, when it hears.
    """
    return [
        each
        for each in instances
        if each.host == host and each.on_host and each.state in ("pending", "running") and not each.migration
    ]


def _disagrees(address: Address, host: str, report: FloatingReport) -> bool:
    """Whether what a host says is not what it should have; a repeated answer is no news."""
    here = address.association is not None and address.association.host == host
    return report.present != here


def _with_stale(transaction: Transaction, stored: Stored[Address], host: str) -> Address:
    """An address that a host has and should not, whether or not state knew it."""
    address = stored.record
    if host in address.stale:
        return address
    known = attrs.evolve(address, stale=(*address.stale, host))
    transaction.update(stored, known)
    return known
