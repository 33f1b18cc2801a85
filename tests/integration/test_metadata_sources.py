"""
Finding the machine that asks, on a real store.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from fabric.cloud.launch import LaunchSpec
from fabric.cloud.sources import KEPT, Sources
from fabric.model.flavor import BUILT_IN
from fabric.model.instance import Instance, Port
from fabric.model.network import Network
from fabric.model.reservation import Reservation
from fabric.testing.cloud import CALLER, SAMPLE, make_cloud
from fabric.testing.store import make_store

Test = Generator[Deferred[Any], Any, None]


def machine(number: int, network: str, address: str, **changes: Any) -> Instance:
    """A running instance that holds an address."""
    made = Instance(
        f"i-{number:017x}",
        f"project{number % 3}",
        "r-1",
        number,
        "ami-1",
        BUILT_IN["m1.tiny"],
        0.0,
        0.0,
        state="running",
        host="node1",
        on_host=True,
        ports=(Port(network, f"02:00:00:00:00:{number:02x}", address),),
    )
    return attrs.evolve(made, **changes)


class SourcesTests(TestCase):
    """
    Addresses and networks.
    """

    @inlineCallbacks
    def setUp(self) -> Test:
        self.store = yield make_store(self)
        self.clock = Clock()
        self.sources = Sources(self.store, self.clock)
        one, two = (Network(f"net-{n}", f"label{n}", f"10.{n}.0.0/24", f"10.{n}.0.1") for n in (1, 2))
        yield self.write(Reservation("r-1", "project1", 0.0, ()), one, two)

    def write(self, *records: Any) -> Deferred[Any]:
        """Create records, or update C{(stored, record)}."""
        transaction = self.store.transaction("req")
        for record in records:
            if isinstance(record, tuple):
                transaction.update(*record)
            else:
                transaction.create(record)
        return self.store.commit(transaction)  # type: ignore[no-any-return]

    @inlineCallbacks
    def found(self, address: str, network: str = "", sources: Any = None) -> Generator[Deferred[Any], Any, str]:
        """The id of who holds an address, empty for nobody."""
        guest = yield (sources or self.sources).find(address, network)
        return guest.instance.id if guest else ""

    @inlineCallbacks
    def test_holder(self) -> Test:
        """The holder is found by its address, and nobody by another."""
        yield self.write(machine(1, "net-1", "10.1.0.5"), machine(2, "net-2", "10.2.0.5"))
        self.assertEqual((yield self.found("10.1.0.5")), f"i-{1:017x}")
        self.assertEqual((yield self.found("10.2.0.5")), f"i-{2:017x}")
        for address in ("10.1.0.6", "10.3.0.5", "", "::1", "10.1.0.05", "10.1.0.5 ", "10.1.0.256", "10.1.0", "*"):
            self.assertEqual((yield self.found(address)), "", address)

    @inlineCallbacks
    def test_address_changes_hands(self) -> Test:
        """In the write that gives an address to another, the door's answer changes."""
        first = machine(1, "net-1", "10.1.0.5")
        [stored] = (yield self.write(first)).records
        self.assertEqual((yield self.found("10.1.0.5")), first.id)
        gone = attrs.evolve(first, state="terminated", on_host=False)
        yield self.write((stored, gone), machine(2, "net-1", "10.1.0.5"))
        self.assertEqual((yield self.found("10.1.0.5")), f"i-{2:017x}")
        self.assertEqual((yield self.store.check(False)), [])

    @inlineCallbacks
    def test_while_the_host_has_it(self) -> Test:
        """A terminated machine that its host may still have is still itself."""
        [stored] = (yield self.write(machine(1, "net-1", "10.1.0.5", state="terminated"))).records
        self.assertEqual((yield self.found("10.1.0.5")), stored.record.id)

    @inlineCallbacks
    def test_same_range(self) -> Test:
        """With two networks of one range a source must say which, or the door must be told; else it is nobody."""
        yield self.write(Network("net-3", "label3", "10.1.0.0/16", "10.1.0.1"))
        yield self.write(machine(1, "net-1", "10.1.0.5"), machine(2, "net-3", "10.1.0.5"))
        self.assertEqual((yield self.found("10.1.0.5")), "")
        self.assertEqual((yield self.found("10.1.0.5", "net-1")), f"i-{1:017x}")
        self.assertEqual((yield self.found("10.1.0.5", "label3")), f"i-{2:017x}")
        self.assertEqual((yield self.found("10.1.0.5", "label2")), "")
        told = Sources(self.store, self.clock, "label1")
        self.assertEqual((yield self.found("10.1.0.5", sources=told)), f"i-{1:017x}")
        self.assertEqual((yield self.found("10.1.0.5", "label3", told)), "")

    @inlineCallbacks
    def test_new_network(self) -> Test:
        """A new network is known after a second."""
        self.assertEqual((yield self.found("10.9.0.5")), "")
        yield self.write(Network("net-9", "label9", "10.9.0.0/24", "10.9.0.1"), machine(9, "net-9", "10.9.0.5"))
        self.clock.advance(KEPT)
        self.assertEqual((yield self.found("10.9.0.5")), f"i-{9:017x}")

    @inlineCallbacks
    def test_one_read(self) -> Test:
        """A request is one round trip, however many networks and machines there are."""
        yield self.write(*(machine(n, "net-1", f"10.1.0.{n}") for n in range(2, 200)))
        yield self.found("10.1.0.5")
        before = self.store.round_trips
        for n in range(2, 12):
            yield self.found(f"10.1.0.{n}")
        self.assertEqual(self.store.round_trips - before, 10)

    @inlineCallbacks
    def test_never_another(self) -> Test:
        """Over any history of machines that come and go, an address is found as its holder's or nobody's."""
        chance = random.Random(7)
        holders: dict[tuple[str, str], Any] = {}
        for number in range(150):
            place = (f"net-{chance.randrange(1, 3)}", "")
            place = (place[0], f"10.{place[0][-1]}.0.{chance.randrange(2, 8)}")
            stored = holders.pop(place, None)
            if stored is None:
                [holders[place]] = (yield self.write(machine(number, *place))).records
            else:
                yield self.write((stored, attrs.evolve(stored.record, state="terminated", on_host=False)))
            looked = [(net, f"10.{net[-1]}.0.{last}") for net in ("net-1", "net-2") for last in range(2, 8)]
            ids = yield gatherResults([self.found(address) for _, address in looked])
            self.assertEqual(ids, [holders[at].record.id if at in holders else "" for at in looked])

    @inlineCallbacks
    def test_secret(self) -> Test:
        """Doors that start at once agree on one secret."""
        doors = [Sources(self.store, self.clock) for _ in range(5)]
        secrets = yield gatherResults([door.secret() for door in doors])
        self.assertEqual((len(set(secrets)), len(secrets[0])), (1, 32))


class LaunchedTests(TestCase):
    """
    Machines of the whole cloud.
    """

    @inlineCallbacks
    def test_launched(self) -> Test:
        """A machine is found from the moment that it has an address until its host is rid of it."""
        cloud = yield make_cloud(self)
        sources = Sources(cloud.store, cloud.reactor)
        launched = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny", 2, 2))
        one, two = yield cloud.until_state("running", *[each.id for each in launched])
        guest = yield sources.find(one.ports[0].address)
        self.assertEqual((guest.instance, guest.network.label), (one, "private"))
        together = yield sources.launched_with(one)
        self.assertEqual({each.id for each in together}, {one.id, two.id})
        yield cloud.cloud.instances.terminate(CALLER, [one.id])

        @inlineCallbacks
        def gone() -> Generator[Deferred[Any], Any, bool]:
            return (yield sources.find(one.ports[0].address)) is None

        yield cloud.until(gone)
        [after] = yield cloud.get(one.id)
        self.assertEqual((after.state, after.on_host), ("terminated", False))
        yield cloud.sound()
