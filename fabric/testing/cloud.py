"""
A whole cloud in one process, for tests: the real logic, queue codec, scheduler
and workers over a private Redis, with fake drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from fabric.cloud.access import Caller
from fabric.cloud.assembly import Assembly, Rules, assemble
from fabric.cloud.cloud import Cloud
from fabric.cloud.events import EventReader
from fabric.cloud.fencing import IFence
from fabric.cloud.service import ControllerService
from fabric.compute.fake import FakeHypervisor
from fabric.compute.service import ComputeService
from fabric.faults import IFaults, NoFaults
from fabric.image.interface import IStoreDoor
from fabric.model.instance import Instance
from fabric.network.fake import FakeNetwork
from fabric.network.service import NetworkService
from fabric.objectstore.links import Signer
from fabric.rpc.local import LocalQueue
from fabric.scheduler.service import SchedulerService
from fabric.settings import Fake
from fabric.store.interface import IViews
from fabric.store.redis import RedisStore
from fabric.testing.store import make_store
from fabric.volume.fake import FakeVolumes
from fabric.volume.service import VolumeService

CALLER = Caller("alice", "apples", frozenset({"projectmanager"}), "req-test")
STRANGER = Caller("bob", "pears", frozenset({"projectmanager"}), "req-test")
OPERATOR = Caller("root", "admin", frozenset({"cloudadmin"}), "req-test")
QUICK = Fake(boot_seconds=0.0, stop_seconds=0.0)
SAMPLE = "ami-00000000000000001"


@attrs.define
class Host:
    """
    One compute host: its drivers and services.
    """

    name: str
    hypervisor: FakeHypervisor
    network: FakeNetwork
    volumes: FakeVolumes
    services: list[Any]
    directory: str

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """End its services, as an upgrade does; guests stay."""
        for service in reversed(self.services):
            yield service.stopService()


class CloudUnderTest:
    """
    A cloud; made by L{make_cloud}, which also ends it with the test.
    """

    def __init__(
        self,
        test: Any,
        store: RedisStore,
        queue: LocalQueue,
        assembly: Assembly,
        algorithm: str,
        faults: IFaults,
        report_interval: float = 10.0,
    ) -> None:
        from twisted.internet import reactor

        self.test = test
        self.reactor: Any = reactor
        self.store = store
        self.queue = queue
        self.assembly = assembly
        self.cloud: Cloud = assembly.cloud
        self.hosts: dict[str, Host] = {}
        self._algorithm = algorithm
        self._faults = faults
        self._report_interval = report_interval

    @inlineCallbacks
    def start(self, hosts: Sequence[str], options: Fake) -> Generator[Deferred[Any], Any, None]:
        """
        Bring up controller, scheduler and hosts, and wait until they reported.
        """
        yield self.cloud.networks.ensure("private", "10.0.0.0/22")
        yield self.cloud.images.ensure_samples(0.0)
        parts = self.assembly
        events = EventReader(self.store, lambda event: None, self.reactor.seconds())
        self.run(
            ControllerService(
                self.queue,
                parts.worker,
                parts.sweep,
                self.cloud.hosts,
                events,
                parts.dead_letters,
                "control",
                "nova",
                self.reactor,
                sweep_interval=0.2,
                review_interval=0.5,
                fencing=parts.fencing,
            )
        )
        self.run(
            SchedulerService(
                self.queue, parts.placement, self._algorithm, "control", "nova", self.reactor, self._faults
            )
        )
        for name in hosts:
            self.add_host(name, options)
        yield self.until(lambda: self._reported(hosts))

    @inlineCallbacks
    def _reported(self, hosts: Sequence[str]) -> Generator[Deferred[Any], Any, bool]:
        views = yield self.cloud.hosts.views()
        volumes = yield self.cloud.hosts.volume_services()
        stores = {service.host for service in volumes if service.alive}
        return {view.name for view in views if view.alive} & stores >= set(hosts)

    def add_host(self, name: str, options: Fake = QUICK, directory: str | None = None) -> Host:
        """
        Start a compute host, over the same directory as before when it was
        stopped and is added again.
        """
        directory = directory or self.test.mktemp()
        hypervisor = FakeHypervisor(directory + "/machines", self.reactor, options)
        network = FakeNetwork(directory + "/network", self.reactor)
        volumes = FakeVolumes(directory + "/volumes", self.reactor, options)
        every = self._report_interval
        services: list[Any] = [
            NetworkService(self.queue, network, name, "nova", self.reactor, report_interval=every),
            ComputeService(self.queue, hypervisor, name, "nova", self.reactor, self._faults, report_interval=every),
            VolumeService(self.queue, volumes, name, "nova", self.reactor, self._faults, report_interval=every),
        ]
        for service in services:
            self.run(service)
        host = self.hosts[name] = Host(name, hypervisor, network, volumes, services, directory)
        return host

    def run(self, service: Any) -> None:
        """Start a service, and stop it when the test ends."""
        service.startService()
        self.test.addCleanup(lambda: service.stopService() if service.running else None)

    @inlineCallbacks
    def until(self, probe: Callable[[], Any], seconds: float = 50.0) -> Generator[Deferred[Any], Any, Any]:
        """
        Look until a probe, which may return a Deferred, says something true.

        @raise AssertionError: it did not in time.
        """
        ends = self.reactor.seconds() + seconds
        while True:
            value = probe()
            if isinstance(value, Deferred):
                value = yield value
            if value:
                return value
            if self.reactor.seconds() > ends:
                raise AssertionError(f"not within {seconds} s")
            yield deferLater(self.reactor, 0.01)

    @inlineCallbacks
    def get(self, *ids: str) -> Generator[Deferred[Any], Any, list[Instance]]:
        """Instances as state has them."""
        found = yield self.store.read(Instance, ids)
        return [stored.record for stored in found if stored is not None]

    @inlineCallbacks
    def until_state(self, state: str, *ids: str) -> Generator[Deferred[Any], Any, list[Instance]]:
        """Wait until all of these are in a state."""

        @inlineCallbacks
        def there() -> Generator[Deferred[Any], Any, Any]:
            found = yield self.get(*ids)
            return all(each.state == state for each in found) and found

        return (yield self.until(there))  # type: ignore[no-any-return]

    @inlineCallbacks
    def sound(self) -> Generator[Deferred[Any], Any, None]:
        """See that C{check} finds nothing."""
        findings = yield self.store.check(False)
        self.test.assertEqual(findings, [])


@inlineCallbacks
def make_cloud(
    test: Any,
    hosts: Sequence[str] = ("node1",),
    options: Fake | None = None,
    rules: Rules | None = None,
    algorithm: str = "simple",
    views: IViews | None = None,
    faults: IFaults | None = None,
    fence: IFence | None = None,
    report_interval: float = 10.0,
    signer: Signer | None = None,
    store_door: IStoreDoor | None = None,
) -> Generator[Deferred[Any], Any, CloudUnderTest]:
    """
    @param faults: what all services tell how far they have come.
    @param report_interval: seconds between heartbeats; less than what C{rules}
        call silent.
    @param signer, store_door: links to files of images, and what removes these.
    @return: a L{CloudUnderTest} with hosts that reported.
    """
    from twisted.internet import reactor

    store = yield make_store(test, views)
    queue = LocalQueue(reactor)
    test.addCleanup(queue.stop)
    rules = rules or Rules(ready_keys=0)
    assembly = assemble(store, queue, reactor, deferToThread, rules, faults, None, fence, signer, store_door)
    cloud = CloudUnderTest(test, store, queue, assembly, algorithm, faults or NoFaults(), report_interval)
    yield cloud.start(hosts, options or QUICK)
    return cloud
