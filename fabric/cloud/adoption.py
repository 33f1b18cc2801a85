"""
Adoption: a host says all that it has, and state and host are made to agree.

Neither side is believed over the other without a second look: the host's list is
a hint, and where it says that something is missing, the host is asked again
after state was read.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.cloud.orders import Orders
from fabric.cloud.reports import Reports
from fabric.compute.interface import Domain, IComputeWorker, MachineReport
from fabric.errors import AlreadyExists, MemberTaken
from fabric.faults import IFaults
from fabric.model.codec import decode
from fabric.model.host import Stray
from fabric.model.instance import Instance
from fabric.model.network import Network
from fabric.model.record import ALL
from fabric.rpc.interface import Address, Context, IQueue
from fabric.store.interface import IStore, Query

LOST = "Server.InstanceLost"
ASK_SECONDS = 20.0


class Adoption:
    """
    @ivar grace: seconds for which an unknown machine is kept.
    """

    log = Logger()

    def __init__(
        self,
        store: IStore,
        queue: IQueue,
        orders: Orders,
        reports: Reports,
        clock: IReactorTime,
        faults: IFaults,
        grace: float = 86400.0,
    ) -> None:
        self._store = store
        self._queue = queue
        self._orders = orders
        self._reports = reports
        self._clock = clock
        self._faults = faults
        self._grace = grace

    @inlineCallbacks
    def adopt(self, request_id: str, host: str, domains: Sequence[Domain]) -> Generator[Deferred[Any], Any, None]:
        """
        Make state and host agree.  Repeating is safe.
        """
        instances = yield self._of_host(host)
        present = {domain.id: domain for domain in domains}
        if any(_missing(instance, present) for instance in instances.values()):
            instances = yield self._of_host(host)
            present = yield self._ask(request_id, host)
        yield self._agree(request_id, host, instances, present)
        unknown = [domain for id, domain in present.items() if id not in instances]
        yield self._sort_out(request_id, host, unknown)
        self._faults.reach("cloud.adopted")

    @inlineCallbacks
    def _agree(
        self, request_id: str, host: str, instances: dict[str, Instance], present: dict[str, Domain]
    ) -> Generator[Deferred[Any], Any, None]:
        news: list[MachineReport] = []
        again: list[Instance] = []
        stop: list[Instance] = []
        for id, instance in instances.items():
            domain = present.get(id)
            if instance.migration is not None:
                continue
            if _missing(instance, present):
                news.append(_lost(instance, domain))
            elif domain is not None and domain.state == "running" and _answers(instance, domain):
                news.append(MachineReport(id, domain.order, "running"))
            elif domain is not None and domain.state == "running" and instance.state == "stopped":
                stop.append(instance)
            elif instance.waits:
                again.append(instance)
        if news:
            yield self._reports.take(request_id, host, news)
        yield self._orders.resend(request_id, again)
        yield self._orders.stop(request_id, stop)

    @inlineCallbacks
    def _sort_out(self, request_id: str, host: str, domains: Sequence[Domain]) -> Generator[Deferred[Any], Any, None]:
        """
        Machines that this host should not have: those that state has ended or
        has elsewhere are removed, those that it does not know are kept aside.
        """
        found = yield self._store.read(Instance, [domain.id for domain in domains])
        ours = {
            domain.id: domain.order
            for domain, stored in zip(domains, found, strict=True)
            if stored is not None and not _expected(stored.record, host)
        }
        if ours:
            yield self._orders.remove(request_id, host, ours)
        for domain, stored in zip(domains, found, strict=True):
            if stored is None:
                yield self._quarantine(request_id, host, domain)
        yield self._forget_strays(request_id, host, {domain.id for domain in domains})

    @inlineCallbacks
    def _quarantine(self, request_id: str, host: str, domain: Domain) -> Generator[Deferred[Any], Any, None]:
        holdings = yield self._holdings(domain)
        now = self._clock.seconds()
        stray = Stray(f"{host}/{domain.id}", host, domain.id, now, now + self._grace, holdings=holdings)
        while True:
            transaction = self._store.transaction(request_id)
            transaction.create(stray)
            try:
                yield self._store.commit(transaction)
            except AlreadyExists:
                return
            except MemberTaken as error:
                held = f"{error.pool} {error.member}"
                stray = attrs.evolve(stray, holdings=tuple(each for each in stray.holdings if each != held))
            else:
                self.log.warn(
                    "{host} has {name}, which state does not know: kept until an operator or its grace time ends it",
                    host=host,
                    name=domain.id,
                )
                return

    @inlineCallbacks
    def _holdings(self, domain: Domain) -> Generator[Deferred[Any], Any, tuple[str, ...]]:
        if not domain.addresses:
            return ()
        page = yield self._store.records(Network, Query("network", (ALL,), limit=1000))
        pools = [(pool, members) for stored in page.items for pool, members in stored.record.pool_members().items()]
        return tuple(
            f"{pool} {address}" for address in domain.addresses for pool, members in pools if address in members
        )

    @inlineCallbacks
    def _forget_strays(self, request_id: str, host: str, names: set[str]) -> Generator[Deferred[Any], Any, None]:
        page = yield self._store.records(Stray, Query("stray", ("host:" + host,), limit=1000))
        for stored in page.items:
            if stored.record.name not in names:
                transaction = self._store.transaction(request_id)
                transaction.delete(stored)
                yield self._store.commit(transaction)

    @inlineCallbacks
    def _of_host(self, host: str) -> Generator[Deferred[Any], Any, dict[str, Instance]]:
        found: dict[str, Instance] = {}
        cursor = ""
        while True:
            page = yield self._store.records(Instance, Query("instance", ("host:" + host,), cursor=cursor, limit=500))
            found.update((stored.record.id, stored.record) for stored in page.items)
            cursor = page.cursor
            if not cursor:
                return found

    @inlineCallbacks
    def _ask(self, request_id: str, host: str) -> Generator[Deferred[Any], Any, dict[str, Domain]]:
        remote = self._queue.caller(IComputeWorker, Address("compute", host), Context(request_id, ASK_SECONDS))
        answer = yield remote.describe_machines()
        return {domain.id: domain for domain in (decode(Domain, each) for each in answer)}


def _expected(instance: Instance, host: str) -> bool:
    """Whether it is on its way to a host, or came there since its instances were listed."""
    if instance.host == host and (instance.live or instance.on_host):
        return True
    return instance.migration is not None and instance.migration.destination == host


def _missing(instance: Instance, present: dict[str, Domain]) -> bool:
    """
    Whether state says that it runs and its host says that it does not; one that an
    operator suspended goes on where it was, one that its host stopped for a
    while is started again: both count as running.
    """
    if instance.migration is not None:
        return False  # it may be there already; the order to move it, sent again, finds out
    if instance.rebooting_since:
        return False  # it is brought up by that, or reported as stopped
    domain = present.get(instance.id)
    if domain is not None and (domain.condition == "suspended" or domain.quiet_until):
        return False
    return instance.state == "running" and (domain is None or domain.state != "running")


def _answers(instance: Instance, domain: Domain) -> bool:
    """Whether a running domain is what a pending instance waits for."""
    return instance.state == "pending" and domain.order == instance.order


def _lost(instance: Instance, domain: Domain | None) -> MachineReport:
    what = "its host does not have it any more" if domain is None else f"its host found it {domain.state}"
    return MachineReport(instance.id, instance.order, "stopped", LOST, what)
