"""
A cloud of three hosts in one process, on a clock that a test turns: messages that come
once more, workers that are killed, hosts that die and are fenced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from fabric.cloud.assembly import Rules, assemble
from fabric.cloud.fencing import IFence
from fabric.cloud.interface import ICloudWorker
from fabric.compute.fake import FakeHypervisor
from fabric.compute.service import ComputeService
from fabric.errors import DriverFailure, FabricError
from fabric.faults import NoFaults
from fabric.network.fake import FakeNetwork
from fabric.network.service import NetworkService
from fabric.rpc.interface import Address, Context, IListener, IQueue
from fabric.rpc.local import LocalQueue
from fabric.rpc.remote import Remotes
from fabric.scheduler.service import SchedulerService
from fabric.settings import Fake
from fabric.store.redis import RedisStore
from fabric.volume.fake import FakeVolumes
from fabric.volume.service import VolumeService

HOSTS = ("a", "b", "c")
RULES = Rules(ready_keys=0, resend_after=30.0, down_after=100.0)
BEAT = 40.0
"""Seconds between heartbeats."""

LOOK = 20.0
"""Seconds between the controller's looks at what is due."""

SOON = 0.02
"""Seconds that are this moment still: what is to be done within them is done."""


HELD = ("report_machines", "report_disks")
"""What may be held up."""


class Postbox(LocalQueue):
    """
    A queue that remembers what was cast, to deliver it once more, and may hold
    up what hosts say of orders.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._was_cast: dict[str, list[tuple[Address, Context, dict[str, Any]]]] = defaultdict(list)
        self._held: list[Any] | None = None

    def _cast(self, address: Address, context: Context, method: str, arguments: dict[str, Any]) -> Deferred[None]:
        self._was_cast[method].append((address, context, arguments))
        if self._held is not None and method in HELD:
            self._held.append((address, context, method, arguments))
            return succeed(None)
        return super()._cast(address, context, method, arguments)

    def hold(self, up: bool) -> None:
        """Hold reports up, or deliver those that were."""
        if up:
            self._held = self._held or []
            return
        held, self._held = self._held or [], None
        for message in held:
            super()._cast(*message)

    def again(self, method: str, back: int) -> None:
        """Deliver the last but C{back} cast of a method once more; nothing when there were not so many."""
        was_cast = self._was_cast[method]
        if back < len(was_cast):
            address, context, arguments = was_cast[-1 - back]
            super()._cast(address, context, method, arguments)


class CountedStore:
    """A store that knows whether anybody waits for it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.waiting = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def asked(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            if isinstance(answer, Deferred) and not answer.called:
                self.waiting += 1
                answer.addBoth(self._answered)
            return answer

        return asked

    def _answered(self, result: Any) -> Any:
        self.waiting -= 1
        return result


class ProcessClock:
    """The clock of a process, which calls nothing when that was killed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.killed = False

    def seconds(self) -> float:
        """The time."""
        return float(self._clock.seconds())

    def callLater(self, delay: float, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See C{IReactorTime.callLater}."""

        def due() -> None:
            if not self.killed:
                work(*args, **kwargs)

        return self._clock.callLater(delay, due)

    def getDelayedCalls(self) -> Any:
        """See C{IReactorTime.getDelayedCalls}."""
        return self._clock.getDelayedCalls()


@implementer(IQueue)
class ProcessQueue:
    """The queue as a process has it: one that was killed neither hears nor says anything."""

    def __init__(self, queue: Postbox) -> None:
        self._queue = queue
        self._remotes = Remotes()
        self._listeners: list[IListener] = []
        self._killed = False

    def caller(self, interface: Any, address: Address, context: Context) -> Any:
        """See L{IQueue.caller}."""
        return self._remotes.remote(interface, partial(self._sent, self._queue._call, address, context))

    def caster(self, interface: Any, address: Address, context: Context) -> Any:
        """See L{IQueue.caster}."""
        return self._remotes.remote(interface, partial(self._sent, self._queue._cast, address, context))

    def _sent(self, send: Any, address: Address, context: Context, method: str, arguments: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()

        def pass_on(result: Any) -> None:
            if not self._killed and not answer.called:
                answer.callback(result)

        if not self._killed:
            send(address, context, method, arguments).addBoth(pass_on)
        return answer

    @inlineCallbacks
    def listen(
        self, address: Address, interface: Any, worker: Any, prefetch: int
    ) -> Generator[Deferred[Any], Any, IListener]:
        """See L{IQueue.listen}."""
        listener = yield self._queue.listen(address, interface, worker, prefetch)
        self._listeners.append(listener)
        return listener  # type: ignore[no-any-return]

    def depths(self) -> Deferred[dict[str, int]]:
        """See L{IQueue.depths}."""
        return self._queue.depths()

    def ping(self) -> Deferred[None]:
        """See L{IQueue.ping}."""
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """See L{IQueue.stop}."""
        return succeed(None)

    def kill(self) -> None:
        """Hear and say nothing any more; what is in hand is lost."""
        self._killed = True
        for listener in self._listeners:
            listener.stop()


class Host:
    """
    One host: its drivers, and the services that drive them while they live.

    @ivar power: whether its guests can run.
    """

    def __init__(self, name: str, directory: str, queue: Postbox, clock: Clock) -> None:
        self.name = name
        self.power = True
        self._directory = directory
        self._shared_queue = queue
        self._shared_clock = clock
        self.start()

    def start(self) -> None:
        """A new process over what the last one left."""
        self.clock = clock = ProcessClock(self._shared_clock)
        self._queue = queue = ProcessQueue(self._shared_queue)
        options = Fake(boot_seconds=1.0, stop_seconds=0.5)
        self.hypervisor = FakeHypervisor(self._directory + "/machines", clock, options)
        self.network = FakeNetwork(self._directory + "/network", clock)
        self.volumes = FakeVolumes(self._directory + "/volumes", clock, options)
        if not self.power:
            self._lost_power()
        named: tuple[Any, ...] = (self.name, "nova", clock)
        self._services = [
            NetworkService(queue, self.network, *named, report_interval=BEAT),
            ComputeService(queue, self.hypervisor, *named, report_interval=BEAT),
            VolumeService(queue, self.volumes, *named, report_interval=BEAT),
        ]
        for service in self._services:
            service.startService()
        self.up = True

    def _lost_power(self) -> None:
        """What its guests were doing is over."""
        self.power = True
        self.hypervisor._journal.open()
        for id in list(self.hypervisor._guests):
            self.hypervisor.kill(id)
        self.hypervisor._journal.close()

    def kill(self) -> None:
        """End its processes without a word; its guests run on."""
        if self.up:
            self.up = False
            self.clock.killed = True
            self._queue.kill()
            for journal in (self.hypervisor._journal, self.volumes._volumes, self.volumes._snapshots):
                journal.close()
            self.network.stop()

    def calm(self) -> None:
        """Let nothing go wrong any more."""
        for driver in (self.hypervisor, self.network, self.volumes):
            driver.rehearsal.forget()  # type: ignore[attr-defined]

    def mark(self) -> None:
        """Have the disks of all guests known again."""
        for id, guest in self.hypervisor._guests.items():
            self.hypervisor._put(attrs.evolve(guest, images=(id,)))

    def marked(self) -> set[str]:
        """The guests whose disks are those that were marked."""
        return {id for id, guest in self.hypervisor._guests.items() if id in guest.images}

    def guests(self) -> dict[str, Any]:
        """The guests as they are, by id."""
        arrived = (
            self.hypervisor._domains() if self.up else [each.domain() for each in self.hypervisor._guests.values()]
        )
        return {each.id: each if self.power else attrs.evolve(each, state="stopped") for each in arrived}


@implementer(IFence)
class Switches:
    """
    The power of all hosts.

    @ivar lost: the guests that were on a host when it lost power, with their
        disks.
    """

    def __init__(self, hosts: dict[str, Host]) -> None:
        self._hosts = hosts
        self.work = True
        self.lost: set[str] = set()

    def fence(self, host: str) -> Deferred[bool]:
        """See L{IFence.fence}."""
        if not self.work:
            return fail(DriverFailure(what="no answer of its switch"))
        self.lost |= self._hosts[host].guests().keys()
        self._hosts[host].kill()
        self._hosts[host].power = False
        return succeed(True)


class World:
    """
    The whole cloud.

    @ivar unexpected: what nobody should have met.
    """

    def __init__(self, store: RedisStore, directory: str) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000.0)
        self.queue = Postbox(self.clock)
        self.store = CountedStore(store)
        self.hosts: dict[str, Host] = {}
        self.switches = Switches(self.hosts)
        self.unexpected: list[Any] = []
        self._looking: set[str] = set()
        self._looks_at = self.clock.seconds() + LOOK
        self._directory = directory
        parts: Any = (self.store, self.queue, self.clock)
        self.parts = assemble(*parts, lambda work, *args: succeed(work(*args)), RULES, fence=self.switches)
        self.cloud = self.parts.cloud

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        """Bring it up."""
        yield self.cloud.networks.ensure("private", "10.0.0.0/24")
        yield self.cloud.images.ensure_samples(0.0)
        self.queue.listen(Address("cloud"), ICloudWorker, self.parts.worker, 32)
        self.queue.listen_dead(self.parts.dead_letters.take)
        named: Any = ("control", "nova", self.clock)
        SchedulerService(self.queue, self.parts.placement, "simple", *named, NoFaults()).startService()
        for name in HOSTS:
            self.hosts[name] = Host(name, f"{self._directory}/{name}", self.queue, self.clock)
        yield self.passes(1.0)

    def stop(self) -> None:
        """End it."""
        for host in self.hosts.values():
            host.kill()

    def ask(self, what: Callable[[], Deferred[Any]]) -> None:
        """Have somebody ask for something; it may be refused."""

        def failed(failure: Any) -> None:
            if not failure.check(FabricError):
                self.unexpected.append(failure.getTraceback())

        what().addErrback(failed)

    @inlineCallbacks
    def passes(self, seconds: float) -> Generator[Deferred[Any], Any, None]:
        """Let time pass; the controller looks around every so often."""
        ends = self.clock.seconds() + seconds
        while (yield self._idle_until(min(ends, self._looks_at))):
            if self.clock.seconds() >= self._looks_at:
                self._looks_at += LOOK
                self._look()
            elif self.clock.seconds() >= ends:
                return

    @inlineCallbacks
    def _idle_until(self, until: float) -> Generator[Deferred[Any], Any, bool]:
        """Have all happen that is to happen until then."""
        yield self.idle()
        while (due := self._due()) is not None and due < until:
            self.clock.advance(due - self.clock.seconds() + 1e-6)
            yield self.idle()
        self.clock.advance(max(until - self.clock.seconds(), 0.0))
        yield self.idle()
        return True

    def _due(self) -> float | None:
        return min((call.getTime() for call in self.clock.getDelayedCalls()), default=None)

    def _look(self) -> None:
        turns = {"hosts": self.cloud.hosts.review, "sweep": self.parts.sweep.turn, "fencing": self.parts.fencing.turn}
        for name, turn in turns.items():
            if name not in self._looking:
                self._looking.add(name)
                turn().addErrback(self._went_wrong).addBoth(lambda _, name=name: self._looking.discard(name))

    def _went_wrong(self, failure: Any) -> None:
        if not failure.check(FabricError):
            self.unexpected.append(failure.getTraceback())

    @inlineCallbacks
    def idle(self) -> Generator[Deferred[Any], Any, None]:
        """Wait until nothing is left to be done at this moment."""
        while True:
            while self.store.waiting:
                yield deferLater(reactor, 0)  # type: ignore[arg-type]
            due = self._due()
            wait = SOON if due is None else due - self.clock.seconds()
            if wait >= SOON:
                return
            self.clock.advance(max(wait, 0.0) + 1e-6)

    @inlineCallbacks
    def read(self, cls: Any, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Any]]:
        """Records, without those that are no more."""
        found = yield self.store.read(cls, ids)
        return [stored.record for stored in found if stored is not None]
