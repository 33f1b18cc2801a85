"""
Floating addresses through the whole cloud in one process: state, queue, hosts.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.cloud.addresses import Named
from fabric.cloud.assembly import QUOTAS, Rules
from fabric.cloud.launch import LaunchSpec
from fabric.errors import InUse, MemberTaken, NotFound, PoolEmpty, QuotaExceeded, WrongState
from fabric.model.address import Address
from fabric.model.instance import Instance
from fabric.network.interface import Floating, Plug
from fabric.testing.cloud import CALLER, OPERATOR, QUICK, SAMPLE, STRANGER, CloudUnderTest, make_cloud
from fabric.testing.network import floating

Test = Generator[Deferred[Any], Any, None]

RULES = Rules(ready_keys=0, resend_after=0.5, quotas=QUOTAS | {"addresses": 100})


class AddressCase(TestCase):
    """
    A cloud with two hosts and a range of fourteen addresses.
    """

    rules = RULES
    cidr = "203.0.113.0/28"

    @inlineCallbacks
    def setUp(self) -> Test:
        self.cloud: CloudUnderTest = yield make_cloud(self, ("node1", "node2"), rules=self.rules)
        yield self.cloud.cloud.ranges.ensure("public", self.cidr)
        self.verbs = self.cloud.cloud.addresses

    @inlineCallbacks
    def launch(self, number: int = 1) -> Generator[Any, Any, list[Instance]]:
        """Running instances."""
        made = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny", number, number))
        return (yield self.cloud.until_state("running", *[each.id for each in made]))  # type: ignore[no-any-return]

    @inlineCallbacks
    def read(self, id: str) -> Generator[Any, Any, Address | None]:
        """An address as state has it."""
        [stored] = yield self.cloud.store.read(Address, [id])
        return stored and stored.record  # type: ignore[no-any-return]

    @inlineCallbacks
    def public(self, *ids: str) -> Generator[Any, Any, list[str]]:
        """The public address of each instance, empty for none."""
        found = yield self.cloud.get(*ids)
        return [each.public.address if each.public else "" for each in found]

    @inlineCallbacks
    def on_hosts(self) -> Generator[Any, Any, dict[str, tuple[str, str]]]:
        """What really leads where: C{{public: (host, private)}}; each address once."""
        found: dict[str, tuple[str, str]] = {}
        for name, host in self.cloud.hosts.items():
            for each in (yield host.network.floating()):
                self.assertNotIn(each.public, found)
                found[each.public] = (name, each.private)
        return found

    @inlineCallbacks
    def settled(self) -> Test:
        """Wait until every host has what it should, and see that nothing is out of tune."""

        @inlineCallbacks
        def agreed() -> Generator[Any, Any, bool]:
            page = yield self.cloud.store.records(Address, self.everything())
            return all(stored.record.settled for stored in page.items)

        yield self.cloud.until(agreed)
        page = yield self.cloud.store.records(Address, self.everything())
        wanted = {
            stored.record.public_ip: (stored.record.association.host, stored.record.association.private_ip)
            for stored in page.items
            if stored.record.association
        }
        self.assertEqual((yield self.on_hosts()), wanted)
        yield self.cloud.sound()

    def everything(self) -> Any:
        """All addresses, released ones too."""
        from fabric.model.record import ALL
        from fabric.store.interface import Query

        return Query("address", (ALL,), limit=1000)

    @inlineCallbacks
    def free(self) -> Generator[Any, Any, int]:
        """How many addresses nobody holds."""
        pools = yield self.cloud.store.pools()
        return next(free for name, (free, _) in pools.items() if name.startswith("floating:"))


class HoldTests(AddressCase):
    """Allocating and releasing."""

    @inlineCallbacks
    def test_allocate_and_release(self) -> Test:
        """An address is taken from the pool, and is free again when released."""
        held = yield self.verbs.allocate(CALLER, tags={"a": "b"})
        self.assertEqual((yield self.free()), 13)
        self.assertEqual((yield self.cloud.cloud.quotas.usage(CALLER.project))["addresses"], 1)
        yield self.cloud.sound()
        yield self.verbs.release(CALLER, Named(held.id))
        self.assertEqual((yield self.free()), 14)
        yield self.assertFailure(self.verbs.release(CALLER, Named(held.id)), NotFound)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_certain_address(self) -> Test:
        """A certain address is had if it is free and of a range."""
        held = yield self.verbs.allocate(CALLER, "203.0.113.7")
        self.assertEqual(held.public_ip, "203.0.113.7")
        yield self.assertFailure(self.verbs.allocate(STRANGER, "203.0.113.7"), MemberTaken)
        yield self.assertFailure(self.verbs.allocate(CALLER, "198.51.100.1"), NotFound)
        yield self.assertFailure(self.verbs.allocate(CALLER, range_id="pool-00000000"), NotFound)

    @inlineCallbacks
    def test_next_range(self) -> Test:
        """When a range is used up the next one gives; a range in use is not deleted."""
        for _ in range(14):
            yield self.verbs.allocate(CALLER)
        yield self.assertFailure(self.verbs.allocate(CALLER), PoolEmpty)
        more = yield self.cloud.cloud.ranges.create(OPERATOR, "more", "198.51.100.0/30")
        held = yield self.verbs.allocate(CALLER)
        self.assertEqual(held.range, more.id)
        yield self.assertFailure(self.cloud.cloud.ranges.delete(OPERATOR, more.id), InUse)
        yield self.verbs.release(CALLER, Named(held.id))
        yield self.cloud.cloud.ranges.delete(OPERATOR, more.id)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_strangers(self) -> Test:
        """Another project's address is not there."""
        held = yield self.verbs.allocate(CALLER)
        [instance] = yield self.launch()
        for named in (Named(held.id), Named(public_ip=held.public_ip)):
            yield self.assertFailure(self.verbs.release(STRANGER, named), NotFound)
            yield self.assertFailure(self.verbs.disassociate(STRANGER, named), NotFound)
            error = yield self.assertFailure(self.verbs.associate(STRANGER, named, instance.id), NotFound)
            self.assertEqual(error.kind, "instance")
        association = yield self.verbs.associate(CALLER, Named(held.id), instance.id)
        yield self.assertFailure(self.verbs.disassociate(STRANGER, association=association), NotFound)
        self.assertEqual((yield self.public(instance.id)), [held.public_ip])


class RaceTests(AddressCase):
    """Many at once."""

    cidr = "203.0.113.0/26"

    @inlineCallbacks
    def test_hundred_allocations_of_fifty(self) -> Test:
        """A hundred allocations at once of what has fifty free: fifty different ones, and fifty refusals."""
        for _ in range(12):
            yield self.verbs.allocate(STRANGER)
        results: list[Any] = []
        for attempt in [self.verbs.allocate(CALLER) for _ in range(100)]:
            attempt.addBoth(results.append)
        yield self.cloud.until(lambda: len(results) == 100)
        held = [each for each in results if isinstance(each, Address)]
        self.assertEqual(len({each.public_ip for each in held}), 50)
        self.assertEqual([each.type for each in results if not isinstance(each, Address)], [PoolEmpty] * 50)
        yield self.cloud.sound()
        yield gatherResults([self.verbs.release(CALLER, Named(each.id)) for each in held])
        self.assertEqual((yield self.free()), 50)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_one_address_many_instances(self) -> Test:
        """An address led to many instances at once leads to one, which alone shows it."""
        instances = yield self.launch(20)
        ids = [each.id for each in instances]
        held = yield self.verbs.allocate(CALLER)
        attempts = [self.verbs.associate(CALLER, Named(held.id), id, move=False) for id in ids]
        results: list[Any] = []
        for attempt in attempts:
            attempt.addBoth(results.append)
        yield self.cloud.until(lambda: len(results) == len(ids))
        self.assertEqual(sum(isinstance(each, str) for each in results), 1)
        self.assertEqual(sorted((yield self.public(*ids)))[-2:], ["", held.public_ip])
        yield self.settled()
        yield gatherResults([self.verbs.associate(CALLER, Named(held.id), id) for id in ids])
        self.assertEqual(sorted((yield self.public(*ids)))[-2:], ["", held.public_ip])
        yield self.settled()

    @inlineCallbacks
    def test_many_addresses_one_instance(self) -> Test:
        """Many addresses led to one instance at once: the last one counts, the others lead nowhere."""
        [instance] = yield self.launch()
        held = yield gatherResults([self.verbs.allocate(CALLER) for _ in range(6)])
        yield gatherResults([self.verbs.associate(CALLER, Named(each.id), instance.id) for each in held])
        [public] = yield self.public(instance.id)
        self.assertIn(public, {each.public_ip for each in held})
        yield self.settled()

    @inlineCallbacks
    def test_terminate_against_associate(self) -> Test:
        """Of association and termination at once, nothing is left that leads to what is gone."""
        instances = yield self.launch(5)
        held = yield gatherResults([self.verbs.allocate(CALLER) for _ in instances])
        results: list[Any] = []
        for address, instance in zip(held, instances, strict=True):
            self.verbs.associate(CALLER, Named(address.id), instance.id).addBoth(results.append)
            self.cloud.cloud.instances.terminate(CALLER, [instance.id]).addBoth(results.append)
        yield self.cloud.until(lambda: len(results) == 10)
        yield self.cloud.until_state("terminated", *[each.id for each in instances])
        self.assertEqual(set((yield self.public(*[each.id for each in instances]))), {""})
        yield self.settled()
        self.assertEqual((yield self.on_hosts()), {})


class QuotaTests(AddressCase):
    """The quota."""

    rules = attrs.evolve(RULES, quotas=QUOTAS | {"addresses": 3})

    @inlineCallbacks
    def test_quota(self) -> Test:
        """Allocations at once get what the quota has."""
        results: list[Any] = []
        for attempt in [self.verbs.allocate(CALLER) for _ in range(9)]:
            attempt.addBoth(results.append)
        yield self.cloud.until(lambda: len(results) == 9)
        self.assertEqual(sum(isinstance(each, Address) for each in results), 3)
        refused = [each for each in results if not isinstance(each, Address)]
        self.assertEqual({each.type for each in refused}, {QuotaExceeded})
        self.assertEqual((yield self.free()), 11)


class LeadTests(AddressCase):
    """Associating and disassociating."""

    @inlineCallbacks
    def setUp(self) -> Test:
        yield super().setUp()
        self.one, self.two = yield self.launch(2)
        self.held = yield self.verbs.allocate(CALLER)
        self.named = Named(self.held.id)

    @inlineCallbacks
    def test_associate(self) -> Test:
        """Instance, address and host agree; repeating changes nothing."""
        first = yield self.verbs.associate(CALLER, self.named, self.one.id)
        again = yield self.verbs.associate(CALLER, Named(public_ip=self.held.public_ip), self.one.id, move=False)
        self.assertEqual(first, again)
        self.assertEqual((yield self.public(self.one.id, self.two.id)), [self.held.public_ip, ""])
        yield self.settled()
        where = yield self.on_hosts()
        self.assertEqual(where, {self.held.public_ip: (self.one.host, self.one.ports[0].address)})

    @inlineCallbacks
    def test_disassociate(self) -> Test:
        """By the address or by the association; an address may be disassociated twice."""
        for by in ("address", "association"):
            association = yield self.verbs.associate(CALLER, self.named, self.one.id)
            if by == "address":
                yield self.verbs.disassociate(CALLER, self.named)
                yield self.verbs.disassociate(CALLER, self.named)
            else:
                yield self.verbs.disassociate(CALLER, association=association)
            yield self.assertFailure(self.verbs.disassociate(CALLER, association=association), NotFound)
            self.assertEqual((yield self.public(self.one.id)), [""])
            yield self.settled()
            self.assertEqual((yield self.on_hosts()), {})

    @inlineCallbacks
    def test_move(self) -> Test:
        """An address moves to another instance only when it may, and leaves the first."""
        yield self.verbs.associate(CALLER, self.named, self.one.id)
        yield self.assertFailure(self.verbs.associate(CALLER, self.named, self.two.id, move=False), InUse)
        yield self.verbs.associate(CALLER, self.named, self.two.id)
        self.assertEqual((yield self.public(self.one.id, self.two.id)), ["", self.held.public_ip])
        yield self.settled()

    @inlineCallbacks
    def test_replace(self) -> Test:
        """A second address takes the place of an instance's first, which stays the project's."""
        other = yield self.verbs.allocate(CALLER)
        yield self.verbs.associate(CALLER, self.named, self.one.id)
        yield self.verbs.associate(CALLER, Named(other.id), self.one.id)
        self.assertEqual((yield self.public(self.one.id)), [other.public_ip])
        self.assertIsNone((yield self.read(self.held.id)).association)
        yield self.settled()

    @inlineCallbacks
    def test_release_in_use(self) -> Test:
        """An address that leads somewhere is not released."""
        yield self.verbs.associate(CALLER, self.named, self.one.id)
        yield self.assertFailure(self.verbs.release(CALLER, self.named), InUse)

    @inlineCallbacks
    def test_release_while_the_host_is_silent(self) -> Test:
        """A released address is nobody's, and not free, until its host has let go of it."""
        yield self.verbs.associate(CALLER, self.named, self.one.id)
        yield self.settled()
        host = self.cloud.hosts[self.one.host]
        yield host.services[0].stopService()
        yield self.verbs.disassociate(CALLER, self.named)
        yield self.verbs.release(CALLER, self.named)
        self.assertEqual((yield self.free()), 13)
        self.assertEqual((yield self.cloud.cloud.quotas.usage(CALLER.project))["addresses"], 0)
        yield self.assertFailure(self.verbs.associate(CALLER, self.named, self.two.id), NotFound)
        yield self.assertFailure(self.verbs.allocate(STRANGER, self.held.public_ip), MemberTaken)
        self.cloud.add_host(self.one.host, QUICK, host.directory)

        @inlineCallbacks
        def freed() -> Generator[Any, Any, bool]:
            return (yield self.free()) == 14  # type: ignore[no-any-return]

        yield self.cloud.until(freed)
        self.assertIsNone((yield self.read(self.held.id)))
        self.assertEqual((yield self.on_hosts()), {})
        yield self.cloud.sound()

    @inlineCallbacks
    def test_stop_keeps_terminate_ends(self) -> Test:
        """A stopped instance keeps its address, a terminated one loses it in the write that ends it."""
        yield self.verbs.associate(CALLER, self.named, self.one.id)
        yield self.cloud.cloud.instances.stop(CALLER, [self.one.id])
        yield self.cloud.until_state("stopped", self.one.id)
        self.assertEqual((yield self.public(self.one.id)), [self.held.public_ip])
        yield self.cloud.cloud.instances.start(CALLER, [self.one.id])
        yield self.cloud.until_state("running", self.one.id)
        self.assertEqual((yield self.public(self.one.id)), [self.held.public_ip])
        yield self.cloud.cloud.instances.terminate(CALLER, [self.one.id])
        self.assertEqual((yield self.public(self.one.id)), [""])
        self.assertIsNone((yield self.read(self.held.id)).association)
        yield self.settled()
        yield self.verbs.associate(CALLER, self.named, self.two.id)
        yield self.settled()

    @inlineCallbacks
    def test_guest_that_ends_itself(self) -> Test:
        """A guest that powers off and is terminated for it loses its address too."""
        yield self.verbs.associate(CALLER, self.named, self.one.id)
        yield self.cloud.cloud.instances.modify(CALLER, self.one.id, shutdown_behavior="terminate")
        self.cloud.hosts[self.one.host].hypervisor.halt(self.one.id)
        yield self.cloud.until_state("terminated", self.one.id)
        self.assertIsNone((yield self.read(self.held.id)).association)
        yield self.settled()

    @inlineCallbacks
    def test_late_port(self) -> Test:
        """A port that an old order brought back to a host goes when its instance is over; no other does."""
        [over, _] = yield self.launch(2)
        host = self.cloud.hosts[over.host]
        late, unknown = yield (
            host.network.ports(),
            Plug("i-00000000000000abc", over.ports[0].network, "02:00:00:00:00:99", "10.0.3.9"),
        )
        yield self.cloud.cloud.instances.terminate(CALLER, [over.id])
        yield self.cloud.until_state("terminated", over.id)
        yield self.cloud.until(lambda: self.gone(over.id))
        before = {port.instance for port in (yield host.network.ports())}
        yield host.network.plug([*[port for port in late if port.instance == over.id], unknown])
        yield host.services[0].worker.adopt()

        @inlineCallbacks
        def unplugged() -> Generator[Any, Any, bool]:
            return {port.instance for port in (yield host.network.ports())} == before | {unknown.instance}

        yield self.cloud.until(unplugged)

    @inlineCallbacks
    def gone(self, id: str) -> Generator[Any, Any, bool]:
        """Whether no host has anything of an instance."""
        [instance] = yield self.cloud.get(id)
        return not instance.on_host

    @inlineCallbacks
    def test_states(self) -> Test:
        """What is not up yet, or is gone, is given no address."""
        [pending] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        error = yield self.assertFailure(self.verbs.associate(CALLER, self.named, pending.id), WrongState)
        self.assertEqual(error.found, "pending")
        yield self.cloud.cloud.instances.terminate(CALLER, [self.one.id])
        yield self.assertFailure(self.verbs.associate(CALLER, self.named, self.one.id), WrongState)
        yield self.assertFailure(self.verbs.associate(CALLER, self.named, "i-00000000"), NotFound)

    @inlineCallbacks
    def test_failing_driver(self) -> Test:
        """What a host could not do at first is ordered again until it has."""
        network = self.cloud.hosts[self.one.host].network
        for line in ("associate fail", "associate lose", "disassociate fail", "disassociate lose"):
            network.rehearsal.tell(line)
        yield self.verbs.associate(CALLER, self.named, self.one.id)
        yield self.settled()
        yield self.verbs.disassociate(CALLER, self.named)
        yield self.settled()

    @inlineCallbacks
    def test_restored(self) -> Test:
        """A host whose network lost everything is given it all again when its worker starts."""
        yield self.verbs.associate(CALLER, self.named, self.one.id)
        yield self.settled()
        host = self.cloud.hosts[self.one.host]
        yield host.network.disassociate([self.held.public_ip])
        yield host.network.unplug([self.one.id])
        yield host.network.associate([floating(40, order=1)])
        yield host.stop()
        host = self.cloud.add_host(self.one.host, QUICK, host.directory)
        wanted = Floating(
            self.held.public_ip,
            self.one.ports[0].address,
            self.one.id,
            self.one.ports[0].network,
            self.one.ports[0].mac,
        )

        @inlineCallbacks
        def there() -> Generator[Any, Any, bool]:
            ports = yield host.network.ports()
            here = yield host.network.floating()
            plugged = self.one.ports[0].address in {port.address for port in ports}
            return plugged and [attrs.evolve(each, order=0) for each in here] == [wanted]

        yield self.cloud.until(there)
        yield self.settled()
