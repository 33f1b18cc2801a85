"""
What hosts say, crossed by what is written meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.cloud.adoption import Adoption
from fabric.cloud.assembly import Rules
from fabric.cloud.launch import LaunchSpec
from fabric.cloud.orders import Orders
from fabric.cloud.reports import Reports
from fabric.cloud.volume_orders import VolumeOrders
from fabric.faults import NoFaults
from fabric.model.instance import Instance
from fabric.store.interface import Page, Query, Stored
from fabric.testing.cloud import CALLER, SAMPLE, CloudUnderTest, make_cloud

Test = Generator[Deferred[Any], Any, None]


class LateStore:
    """
    A store that takes its time to answer a listing of instances: something
    happens between the second one's reading and its answer.
    """

    def __init__(self, store: Any, meanwhile: Callable[[], Deferred[Any]]) -> None:
        self._store = store
        self._meanwhile = meanwhile
        self._listings = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @inlineCallbacks
    def records(self, cls: Any, query: Query) -> Generator[Deferred[Any], Any, Page]:
        """What was the case."""
        page = yield self._store.records(cls, query)
        self._listings += 1
        if self._listings == 2:
            yield self._meanwhile()
        return page  # type: ignore[no-any-return]


class PastStore:
    """
    A store whose answers are from before instances had hosts.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @inlineCallbacks
    def records(self, cls: Any, query: Query) -> Generator[Deferred[Any], Any, Page]:
        """No instance is on any host."""
        page = yield self._store.records(cls, query)
        return Page([], "") if cls is Instance else page

    @inlineCallbacks
    def read(self, cls: Any, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Stored[Any] | None]]:
        """Each is still to be placed."""
        found = yield self._store.read(cls, ids)
        return [each and attrs.evolve(each, record=attrs.evolve(each.record, host="")) for each in found]


class AdoptionTests(TestCase):
    """
    A host that tells all that it has.
    """

    timeout = 60

    @inlineCallbacks
    def setUp(self) -> Test:
        """One instance runs."""
        self.cloud: CloudUnderTest = yield make_cloud(self, rules=Rules(ready_keys=0, resend_after=0.5))
        self.host = self.cloud.hosts["node1"]
        self.made = yield self.launched()

    @inlineCallbacks
    def launched(self) -> Generator[Deferred[Any], Any, Instance]:
        """Another instance, once it runs."""
        [made] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        [running] = yield self.cloud.until_state("running", made.id)
        return running  # type: ignore[no-any-return]

    def adoption(self, store: Any) -> Adoption:
        """One that sees state by another store."""
        cloud, queue = self.cloud, self.cloud.queue
        orders, enforcement = Orders(queue, cloud.cloud.networks), cloud.assembly.worker._enforcement
        reports = Reports(cloud.store, orders, VolumeOrders(queue), enforcement, cloud.reactor, NoFaults())
        return Adoption(store, queue, orders, reports, cloud.reactor, NoFaults())

    @inlineCallbacks
    def here(self, id: str) -> Generator[Deferred[Any], Any, bool]:
        """Whether the host has a machine when it has done all that was ordered of it."""
        yield self.cloud.cloud.instances.stop(CALLER, [id])
        yield self.cloud.until_state("stopped", id)
        domains = yield self.host.hypervisor.domains()
        return id in {domain.id for domain in domains}

    @inlineCallbacks
    def test_launched_meanwhile(self) -> Test:
        """A machine that is placed and comes up while its host is asked what it has goes on."""
        late: list[Instance] = []
        store = LateStore(self.cloud.store, lambda: self.launched().addCallback(late.append))
        yield self.host.hypervisor.destroy(self.made.id)
        yield self.adoption(store).adopt("test", "node1", [])
        [other] = late
        self.assertTrue((yield self.here(other.id)))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_removed_late(self) -> Test:
        """The order to remove an old copy does nothing to what was brought up there since."""
        [domain] = yield self.host.hypervisor.domains()
        yield self.cloud.cloud.instances.reboot(CALLER, [self.made.id])
        yield self.adoption(PastStore(self.cloud.store)).adopt("test", "node1", [domain])
        self.assertTrue((yield self.here(self.made.id)))
        yield self.cloud.sound()
