"""
The network of a host by Linux itself: L{INetworkDriver} over bridges, dnsmasq
and nftables.

What it was told is one value (L{HostNetwork}), written to one file before
anything is done about it.  Links, DHCP servers and packet filters are derived
from that value and made so; where they are so already, nothing is done.  So
repeating, restarting and catching up after a crash are the same thing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredLock, inlineCallbacks, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from fabric.errors import DriverFailure, FabricError
from fabric.network.interface import Floating, GroupOrder, INetworkDriver, NetworkOrder, Plug, device_name
from fabric.network.linux import changes
from fabric.network.linux.conntrack import parted
from fabric.network.linux.host import HostNetwork
from fabric.network.linux.leases import Leases
from fabric.network.linux.links import Links
from fabric.network.linux.packetfilter import PacketFilter
from fabric.network.linux.plan import Bridge, Uplinks, bridge, is_gateway
from fabric.network.linux.statefile import StateFile
from fabric.periodic import Periodic

VERIFY_SECONDS = 30.0
"""How often is looked whether somebody removed the packet filters."""

Failures = dict[str, FabricError]
"""Why networks are not as they should be, by their ids."""


@attrs.frozen(eq=False)
class _Verb:
    """
    @ivar about: networks whose failure is the verb's.
    @ivar looks: networks whose links are to be looked at though nothing changed.
    """

    change: changes.Change
    about: frozenset[str]
    looks: frozenset[str]
    done: Deferred[None]


@implementer(INetworkDriver)
class LinuxNetwork:
    """
    Verbs that come while others are in work are done together.
    """

    log = Logger()

    def __init__(
        self,
        directory: str,
        reactor: Any,
        links: Links,
        leases: Leases,
        filters: PacketFilter,
        uplinks: Uplinks | None = None,
        public_interface: str = "",
    ) -> None:
        """
        @param directory: where it keeps its file.
        @param uplinks: how bridges are joined to other hosts'.
        @param public_interface: what answers for floating addresses; empty
            where they are routed to this host.
        """
        self._state = StateFile(directory)
        self._reactor = reactor
        self._links = links
        self._leases = leases
        self._filters = filters
        self._uplinks = uplinks or Uplinks()
        self._public = public_interface
        self._watch = Periodic("filters", VERIFY_SECONDS, filters.verify, reactor, first=VERIFY_SECONDS)
        self._threads = _thread()
        self._ending: object = None
        self._one_by_one = DeferredLock()
        self._waiting: list[_Verb] = []
        self._host = HostNetwork()
        self._touched: set[str] = set()
        self._made: dict[str, Bridge] = {}
        self._anew: set[str] = set()
        self._filtered: HostNetwork | None = None
        self._answers: frozenset[str] | None = None

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        """See L{INetworkDriver.start}.  Makes everything that is missing."""
        self._host = self._state.load()
        if self._threads.joined:  # by a start that failed; a pool that was stopped takes no more work
            self._threads = _thread()
        self._threads.start()
        if self._ending is None:  # else they keep the process
            self._ending = self._reactor.addSystemEventTrigger("during", "shutdown", self._end_threads)
        try:
            v6 = any(network.cidr_v6 for network in self._host.networks.values())
            yield self._in_thread(self._links.open, v6)
            yield self._tidy()
            for network, error in (yield self._settle(frozenset())).items():
                self.log.error("Network {network} is not as it should be: {why}", network=network, why=error)
            self._watch.startService()
        except Exception:
            yield self.stop()
            raise

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """See L{INetworkDriver.stop}.  Bridges, DHCP and filters stay."""
        watching = self._watch.stopService()
        if watching is not None:
            yield watching
        yield self._one_by_one.acquire()
        try:
            self._leases.let_go()
            if self._threads.started and not self._threads.joined:
                yield self._in_thread(self._links.close)
                self._end_threads()
        finally:
            self._one_by_one.release()

    def _end_threads(self) -> None:
        if self._threads.started and not self._threads.joined:
            self._threads.stop()

    def express(self, network: NetworkOrder) -> Deferred[None]:
        """See L{INetworkDriver.express}."""
        try:
            bridge(network, self._uplinks)
        except FabricError as error:
            return self._refused(DriverFailure(str(error)))
        return self._do(changes.expressed(network), [network.id], [network.id])

    def retire(self, network: str) -> Deferred[None]:
        """See L{INetworkDriver.retire}; its ports go with it."""
        return self._do(changes.retired(network), [network])

    def plug(self, ports: list[Plug]) -> Deferred[None]:
        """See L{INetworkDriver.plug}."""
        return self._do(changes.plugged(ports), [port.network for port in ports])

    def unplug(self, instances: list[str]) -> Deferred[None]:
        """See L{INetworkDriver.unplug}."""
        gone = set(instances)
        about = [port.network for port in self._host.ports.values() if port.instance in gone]
        return self._do(changes.unplugged(gone), about)

    def associate(self, floating: list[Floating]) -> Deferred[None]:
        """See L{INetworkDriver.associate}."""
        return self._do(changes.associated(floating))

    def disassociate(self, addresses: list[str]) -> Deferred[None]:
        """See L{INetworkDriver.disassociate}."""
        return self._do(changes.disassociated(addresses))

    def apply_groups(self, groups: list[GroupOrder]) -> Deferred[None]:
        """See L{INetworkDriver.apply_groups}."""
        return self._do(changes.regrouped(groups))

    def floating(self) -> Deferred[list[Floating]]:
        """See L{INetworkDriver.floating}."""
        return succeed(list(self._host.floating.values()))

    def groups(self) -> Deferred[list[GroupOrder]]:
        """See L{INetworkDriver.groups}."""
        return succeed(list(self._host.groups.values()))

    def networks(self) -> Deferred[list[NetworkOrder]]:
        """See L{INetworkDriver.networks}."""
        return succeed(list(self._host.networks.values()))

    def ports(self) -> Deferred[list[Plug]]:
        """See L{INetworkDriver.ports}."""
        return succeed(list(self._host.ports.values()))

    def _refused(self, error: FabricError) -> Deferred[None]:
        refused: Deferred[None] = Deferred()
        refused.errback(error)
        return refused

    def _do(self, change: changes.Change, about: Iterable[str] = (), looks: Iterable[str] = ()) -> Deferred[None]:
        verb = _Verb(change, frozenset(about), frozenset(looks), Deferred())
        self._waiting.append(verb)
        self._one_by_one.run(self._work)
        return verb.done

    @inlineCallbacks
    def _work(self) -> Generator[Deferred[Any], Any, None]:
        """Do all that waits; nothing when the turn before did it."""
        verbs, self._waiting = self._waiting, []
        host, lawful = self._host, []
        for verb in verbs:
            try:
                host = verb.change(host)
                lawful.append(verb)
            except FabricError as error:
                verb.done.errback(error)
        if not lawful:
            return
        try:
            failures = yield self._become(host, frozenset().union(*(verb.looks for verb in lawful)))
        except Exception as error:
            for verb in lawful:
                verb.done.errback(error)
            return
        for verb in lawful:
            why = next((failures[network] for network in verb.about if network in failures), None)
            verb.done.callback(None) if why is None else verb.done.errback(why)

    @inlineCallbacks
    def _become(self, host: HostNetwork, looks: frozenset[str]) -> Generator[Deferred[Any], Any, Failures]:
        """
        Write what is wanted, then make it so.  A network that could not be
        made is as it was before; one that was not there is not there.
        """
        before = self._host
        if host is not before:
            self._keep(host)
        failures = yield self._settle(looks)
        kept = host = self._host
        for network in failures:
            old = before.networks.get(network)
            if old is None:
                kept = changes.retired(network)(kept)
            elif host.networks.get(network, old) != old:
                kept = changes.expressed(old)(kept)
        if kept is not host:
            self._keep(kept)
            yield self._settle(frozenset())
        return failures  # type: ignore[no-any-return]

    def _keep(self, host: HostNetwork) -> None:
        """Write what is wanted, and whose flows end with what no longer is: who comes after a crash ends them."""
        host = parted(self._host, host)
        self._state.save(host)
        self._host = host

    @inlineCallbacks
    def _settle(self, looks: frozenset[str]) -> Generator[Deferred[Any], Any, Failures]:
        """Make it so."""
        host = self._host
        failures: Failures = {}
        for id in [id for id in self._touched if id not in host.networks]:
            try:
                yield self._remove(id)
            except DriverFailure as error:
                failures[id] = error
        wanted = {id: bridge(network, self._uplinks) for id, network in host.networks.items()}
        failures |= yield self._in_thread(self._link, wanted, looks)
        ready = [network for id, network in host.networks.items() if id not in failures and is_gateway(network)]
        if self._filtered is not host:
            # An address that leads nowhere is not to be the host's own even for a moment: it would answer.
            if self._answers is not None:
                yield self._answer_for(self._answers.intersection(host.floating))
            self._filtered = None
            yield self._filters.apply(host)
            self._filtered = host
            self._parted()
        failures |= yield self._leases.ensure(ready, host.ports.values(), frozenset(self._anew), self._in_thread)
        if new := [each for id, each in wanted.items() if id in self._anew and id not in failures]:
            failures |= yield self._in_thread(self._finish, new)
        self._anew.intersection_update(failures)
        yield self._answer_for(frozenset(host.floating))
        return failures

    def _parted(self) -> None:
        """The flows that were to end have ended, and are not to end again when others have the addresses."""
        if not self._host.ending:
            return
        self._host = self._filtered = attrs.evolve(self._host, ending=())
        try:
            self._state.save(self._host)
        except DriverFailure as error:
            self.log.warn("{why}: flows that have ended may be ended once more by the next start", why=error)

    @inlineCallbacks
    def _remove(self, network: str) -> Generator[Deferred[Any], Any, None]:
        """
        Have nothing of a network.

        @raise DriverFailure: something of it stays; what is next done tries again.
        """
        try:
            yield self._leases.remove(network)
        except OSError as error:
            raise DriverFailure(f"DHCP of network {network} stays: {error}") from error
        yield self._in_thread(self._links.remove, network)
        self._made.pop(network, None)
        self._touched.discard(network)

    def _link(self, wanted: dict[str, Bridge], looks: frozenset[str]) -> Failures:
        """
        In the thread: have these bridges.  Those that may not be the ones that
        their taps and DHCP servers knew are noted as such, until their DHCP
        servers are told.
        """
        failures: Failures = {}
        for id, each in wanted.items():
            if self._made.get(id) == each and not (id in looks and not self._links.intact(each)):
                continue
            self._made.pop(id, None)
            unseen = id not in self._touched
            self._touched.add(id)
            try:
                if self._links.ensure(each):
                    self._anew.add(id)
                if unseen or id in self._anew:
                    taps = [device_name(port.mac) for port in self._host.ports.values() if port.network == id]
                    self._links.join(each, taps)
                self._made[id] = each
            except DriverFailure as error:
                failures[id] = error
                self._anew.add(id)  # for it may have been made before that
        return failures

    def _finish(self, made: Sequence[Bridge]) -> Failures:
        """In the thread: these are what their taps and DHCP servers know."""
        failures: Failures = {}
        for each in made:
            try:
                self._links.finish(each)
            except DriverFailure as error:
                failures[each.network] = error
        return failures

    @inlineCallbacks
    def _answer_for(self, addresses: frozenset[str]) -> Generator[Deferred[Any], Any, None]:
        if self._public and addresses != self._answers:
            self._answers = None
            yield self._in_thread(self._links.answer_for, self._public, addresses)
            self._answers = addresses

    @inlineCallbacks
    def _tidy(self) -> Generator[Deferred[Any], Any, None]:
        """
        Take away what a crash left of networks that are retired; not where
        guests are still connected.
        """
        made = yield self._in_thread(self._links.made)
        for network, ports in made.items():
            if network in self._host.networks:
                continue
            if ports:
                which = ", ".join(ports)
                self.log.warn(
                    "Links of unknown network {network} stay: they join {ports}", network=network, ports=which
                )
                continue
            yield self._tidied(network)
        for network in self._leases.left():
            if network not in self._host.networks and network not in made:
                yield self._tidied(network)

    @inlineCallbacks
    def _tidied(self, network: str) -> Generator[Deferred[Any], Any, None]:
        try:
            yield self._remove(network)
        except DriverFailure as error:
            self.log.error("Of network {network}, which is unknown, something stays: {why}", network=network, why=error)

    def _in_thread(self, call: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._threads, call, *arguments)


def _thread() -> ThreadPool:
    """One: the kernel is told one thing after the other."""
    return ThreadPool(1, 1, "network")
