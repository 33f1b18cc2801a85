"""
The contract of L{IComputeDriver}, as tests that every driver passes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from zope.interface import implementer
from zope.interface.verify import verifyObject

from fabric.compute.driver import IComputeDriver, IDomainWatcher
from fabric.compute.interface import DiskOrder, Domain, MachineOrder, PortOrder
from fabric.errors import NotFound, WrongState
from fabric.model.flavor import BUILT_IN

Steps = Generator[Deferred[Any], Any, None]


@implementer(IDomainWatcher)
class Heard:
    """
    An L{IDomainWatcher} that remembers.

    @ivar news: C{(domain, reason)} pairs.
    @ivar own: of each, whether the guest did it by itself.
    """

    def __init__(self) -> None:
        self.news: list[tuple[Domain, str]] = []
        self.own: list[bool] = []

    def domain_changed(self, domain: Domain, reason: str, own: bool) -> None:
        """Remember it."""
        self.news.append((domain, reason))
        self.own.append(own)


def machine(number: int, order: int = 1, flavor: str = "m1.tiny") -> MachineOrder:
    """
    @return: a small machine with one port, its id and address made from
        C{number}.
    """
    port = PortOrder(
        network="net-00000000000000001",
        mac=f"02:00:00:00:{number // 256:02x}:{number % 256:02x}",
        address=f"10.0.{number // 250}.{number % 250 + 2}",
        hostname=f"host-{number}",
        cidr="10.0.0.0/16",
        gateway="10.0.0.1",
    )
    return MachineOrder(f"i-{number:017x}", order, "project", BUILT_IN[flavor], "ami-00000001", ports=(port,))


class ComputeDriverContract:
    """
    Mix with L{twisted.trial.unittest.TestCase} and say how a driver is made.
    """

    many = 8
    """How many machines it brings up at once."""

    watcher: Heard
    driver: IComputeDriver

    def make_driver(self) -> IComputeDriver:
        """
        @return: a driver that is not started, over this test's one place:
            called again, it gives one that finds what the first left.
        """
        raise NotImplementedError

    def machine(self, number: int, order: int = 1) -> MachineOrder:
        """
        @return: an order for a small machine that boots here, its id and
            address made from C{number}.
        """
        return machine(number, order)

    def lose_reply(self, driver: IComputeDriver, verb: str) -> None:
        """
        Have the driver do C{verb} once without an answer.  Where that can't be
        had, do nothing: then the verb is merely repeated.
        """

    @inlineCallbacks
    def setUp(self) -> Steps:
        """Start a driver."""
        self.watcher = Heard()
        self.driver = self.make_driver()
        yield self.driver.start(self.watcher)
        self.addCleanup(lambda: self.driver.stop())  # type: ignore[attr-defined]

    @inlineCallbacks
    def assertDomains(self, *expected: Domain) -> Steps:
        """The driver has these and no others."""
        domains = yield self.driver.domains()
        by_id = sorted(domains, key=lambda domain: str(domain.id))
        self.assertEqual(by_id, sorted(expected, key=lambda domain: domain.id))  # type: ignore[attr-defined]

    def test_interface(self) -> None:
        """The driver provides IComputeDriver."""
        verifyObject(IComputeDriver, self.driver)

    @inlineCallbacks
    def test_empty(self) -> Steps:
        """A new place has no domains."""
        yield self.assertDomains()

    @inlineCallbacks
    def test_capacity(self) -> Steps:
        """A host offers something of everything."""
        capacity = yield self.driver.capacity()
        self.assertTrue(min(capacity.vcpus, capacity.memory_mb, capacity.disk_gb) > 0, capacity)  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_spawn(self) -> Steps:
        """A machine that was spawned runs, with the order's number and addresses."""
        order = self.machine(1, 7)
        yield self.driver.spawn(order)
        yield self.assertDomains(_running(order))

    @inlineCallbacks
    def test_spawn_again(self) -> Steps:
        """Spawning what runs changes nothing but the number."""
        yield self.driver.spawn(self.machine(1, 7))
        yield self.driver.spawn(self.machine(1, 8))
        yield self.assertDomains(_running(self.machine(1, 8)))

    @inlineCallbacks
    def test_spawn_many(self) -> Steps:
        """Machines may be spawned all at once."""
        orders = [self.machine(number) for number in range(1, self.many + 1)]
        yield gatherResults([self.driver.spawn(order) for order in orders])
        yield self.assertDomains(*map(_running, orders))

    @inlineCallbacks
    def test_spawn_twice_at_once(self) -> Steps:
        """The same machine spawned twice at once is there once."""
        yield gatherResults([self.driver.spawn(self.machine(1)), self.driver.spawn(self.machine(1))])
        yield self.assertDomains(_running(self.machine(1)))

    @inlineCallbacks
    def test_shut_down(self) -> Steps:
        """What was shut down is there, stopped, under the new number; twice is as once."""
        yield self.driver.spawn(self.machine(1))
        for _ in range(2):
            yield self.driver.shut_down(self.machine(1).id, False, 2)
            yield self.assertDomains(attrs.evolve(_running(self.machine(1, 2)), state="stopped"))

    @inlineCallbacks
    def test_shut_down_by_force(self) -> Steps:
        """So it is by force."""
        yield self.driver.spawn(self.machine(1))
        yield self.driver.shut_down(self.machine(1).id, True, 2)
        yield self.assertDomains(attrs.evolve(_running(self.machine(1, 2)), state="stopped"))

    @inlineCallbacks
    def test_shut_down_unknown(self) -> Steps:
        """Shutting down what is not there is nothing."""
        yield self.driver.shut_down(self.machine(1).id, False, 2)
        yield self.assertDomains()

    @inlineCallbacks
    def test_spawn_stopped(self) -> Steps:
        """A stopped machine is booted by spawning it."""
        yield self.driver.spawn(self.machine(1))
        yield self.driver.shut_down(self.machine(1).id, True, 2)
        yield self.driver.spawn(self.machine(1, 3))
        yield self.assertDomains(_running(self.machine(1, 3)))

    @inlineCallbacks
    def test_reboot(self) -> Steps:
        """A rebooted machine runs under the new number, soft or hard, stopped before or not."""
        yield self.driver.spawn(self.machine(1))
        for order, hard in ((2, False), (3, True)):
            yield self.driver.reboot(self.machine(1).id, hard, order)
            yield self.assertDomains(_running(self.machine(1, order)))
        yield self.driver.shut_down(self.machine(1).id, True, 4)
        yield self.driver.reboot(self.machine(1).id, False, 5)
        yield self.assertDomains(_running(self.machine(1, 5)))

    @inlineCallbacks
    def test_reboot_unknown(self) -> Steps:
        """Rebooting what is not there is NotFound."""
        yield self.assertFailure(self.driver.reboot(self.machine(1).id, False, 2), NotFound)  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_destroy(self) -> Steps:
        """What was destroyed is gone, running or stopped; the others stay; twice is as once."""
        yield gatherResults([self.driver.spawn(self.machine(number)) for number in (1, 2, 3)])
        yield self.driver.shut_down(self.machine(2).id, True, 2)
        for _ in range(2):
            yield self.driver.destroy(self.machine(1).id)
            yield self.driver.destroy(self.machine(2).id)
            yield self.assertDomains(_running(self.machine(3)))

    @inlineCallbacks
    def test_destroy_unknown(self) -> Steps:
        """Destroying what is not there is nothing."""
        yield self.driver.destroy(self.machine(1).id)
        yield self.assertDomains()

    @inlineCallbacks
    def disks(self, id: str) -> Generator[Deferred[Any], Any, dict[str, str]]:
        """The volumes that a guest has, by device."""
        domains = yield self.driver.domains()
        return next(domain.disks for domain in domains if domain.id == id)

    def make_disk(self, number: int, machine: str, device: str) -> DiskOrder:
        """
        @return: an order for a volume that can be attached here; real drivers
            make one and say how it is reached.
        """
        connection = {"kind": "fake", "volume": f"vol-{number:017x}"}
        return DiskOrder(f"vol-{number:017x}", machine, device, "here", 2, connection=connection)

    @inlineCallbacks
    def test_attach_disk(self) -> Steps:
        """A guest has the volumes that were attached and not detached; twice is as once."""
        one = self.machine(1)
        yield self.driver.spawn(one)
        first, second = self.make_disk(1, one.id, "/dev/sdf"), self.make_disk(2, one.id, "/dev/sdg")
        for disk in (first, first, second):
            yield self.driver.attach_disk(disk)
        self.assertEqual((yield self.disks(one.id)), {"/dev/sdf": first.volume, "/dev/sdg": second.volume})  # type: ignore[attr-defined]
        for force in (False, True):
            yield self.driver.detach_disk(one.id, first.volume, force)
            self.assertEqual((yield self.disks(one.id)), {"/dev/sdg": second.volume})  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_attach_disk_refusals(self) -> Steps:
        """A device holds one volume; there is no attaching to a guest that is not there."""
        one = self.machine(1)
        yield self.driver.spawn(one)
        yield self.driver.attach_disk(self.make_disk(1, one.id, "/dev/sdf"))
        taken = self.driver.attach_disk(self.make_disk(2, one.id, "/dev/sdf"))
        yield self.assertFailure(taken, WrongState)  # type: ignore[attr-defined]
        nowhere = self.driver.attach_disk(self.make_disk(2, self.machine(2).id, "/dev/sdf"))
        yield self.assertFailure(nowhere, NotFound)  # type: ignore[attr-defined]
        yield self.driver.detach_disk(self.machine(2).id, "vol-00000000000000002", False)

    @inlineCallbacks
    def test_disks_of_suspended(self) -> Steps:
        """What a suspended guest has in memory knows its disks: they are not changed until it runs, or boots."""
        one = self.machine(1)
        yield self.driver.spawn(one)
        first, second = self.make_disk(1, one.id, "/dev/sdf"), self.make_disk(2, one.id, "/dev/sdg")
        yield self.driver.attach_disk(first)
        yield self.driver.suspend(one.id, 2)
        yield self.driver.attach_disk(first)
        yield self.assertFailure(self.driver.attach_disk(second), WrongState)  # type: ignore[attr-defined]
        yield self.assertFailure(self.driver.detach_disk(one.id, first.volume, True), WrongState)  # type: ignore[attr-defined]
        yield self.driver.detach_disk(one.id, second.volume, False)
        yield self.driver.resume(one.id, 3)
        self.assertEqual((yield self.disks(one.id)), {"/dev/sdf": first.volume})  # type: ignore[attr-defined]
        yield self.driver.shut_down(one.id, True, 4)

    @inlineCallbacks
    def test_disks_of_a_boot(self) -> Steps:
        """A guest that is brought up has the volumes of the order, and no others that it had before."""
        one = self.machine(1)
        first, second = self.make_disk(1, one.id, "/dev/sdf"), self.make_disk(2, one.id, "/dev/sdg")
        yield self.driver.spawn(attrs.evolve(one, disks=(first,)))
        self.assertEqual((yield self.disks(one.id)), {"/dev/sdf": first.volume})  # type: ignore[attr-defined]
        yield self.driver.reboot(one.id, True, 2)
        self.assertEqual((yield self.disks(one.id)), {"/dev/sdf": first.volume})  # type: ignore[attr-defined]
        yield self.driver.shut_down(one.id, True, 3)
        yield self.driver.spawn(attrs.evolve(one, order=4, disks=(second,)))
        self.assertEqual((yield self.disks(one.id)), {"/dev/sdg": second.volume})  # type: ignore[attr-defined]
        yield self.driver.destroy(one.id)

    @inlineCallbacks
    def test_root_volume(self) -> Steps:
        """A guest that boots from a volume has it as one of its volumes, and another once that is its root."""
        one = self.machine(1)
        flavor = attrs.evolve(one.flavor, disk_gb=0)
        first, second = self.make_disk(1, one.id, "/dev/sda1"), self.make_disk(2, one.id, "/dev/sda1")
        rooted = attrs.evolve(one, flavor=flavor, disks=(first,), root_volume=first.volume)
        yield self.driver.spawn(rooted)
        self.assertEqual((yield self.disks(one.id)), {"/dev/sda1": first.volume})  # type: ignore[attr-defined]
        yield self.driver.shut_down(one.id, True, 2)
        yield self.driver.spawn(attrs.evolve(rooted, order=3, disks=(second,), root_volume=second.volume))
        self.assertEqual((yield self.disks(one.id)), {"/dev/sda1": second.volume})  # type: ignore[attr-defined]
        yield self.assertDomains(attrs.evolve(_running(self.machine(1, 3)), disks={"/dev/sda1": second.volume}))
        yield self.driver.destroy(one.id)

    @inlineCallbacks
    def test_capture(self) -> Steps:
        """A disk is copied once under a name, and its guest runs or is stopped as before."""
        order = self.machine(1, 7)
        yield self.driver.spawn(order)
        where = yield self.driver.capture(order.id, "ami-00000001", True)
        again = yield self.driver.capture(order.id, "ami-00000001", True)
        other = yield self.driver.capture(order.id, "ami-00000002", False)
        self.assertEqual((where, other == where, bool(where)), (again, False, True))  # type: ignore[attr-defined]
        yield self.assertDomains(_running(order))
        yield self.driver.shut_down(order.id, True, 8)
        yield self.driver.capture(order.id, "ami-00000003", True)
        [domain] = yield self.driver.domains()
        self.assertEqual((domain.state, domain.order), ("stopped", 8))  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_capture_unknown(self) -> Steps:
        """What is not there can't be copied."""
        yield self.assertFailure(self.driver.capture("i-9", "ami-00000001", False), NotFound)  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_console(self) -> Steps:
        """A guest's console is bytes, at most 64 KiB of them."""
        yield self.driver.spawn(self.machine(1))
        output = yield self.driver.console_output(self.machine(1).id)
        self.assertIsInstance(output, bytes)  # type: ignore[attr-defined]
        self.assertTrue(len(output) <= 65536)  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_console_unknown(self) -> Steps:
        """The console of what is not there is NotFound."""
        yield self.assertFailure(self.driver.console_output(self.machine(1).id), NotFound)  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_screenshot(self) -> Steps:
        """A running guest's screen is a picture; that of one that is stopped is not to be had."""
        yield self.driver.spawn(self.machine(1))
        image = yield self.driver.screenshot(self.machine(1).id, True)
        self.assertTrue(image.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")), image[:8])  # type: ignore[attr-defined]
        yield self.driver.shut_down(self.machine(1).id, True, 2)
        yield self.assertFailure(self.driver.screenshot(self.machine(1).id, False), WrongState)  # type: ignore[attr-defined]
        yield self.assertFailure(self.driver.screenshot(self.machine(2).id, False), NotFound)  # type: ignore[attr-defined]

    @inlineCallbacks
    def condition(self) -> Generator[Deferred[Any], Any, tuple[str, str, int]]:
        """The state, the condition and the order of the only domain."""
        [domain] = yield self.driver.domains()
        return domain.state, domain.condition, domain.order

    @inlineCallbacks
    def test_pause(self) -> Steps:
        """A paused guest runs still, and goes on when it is told to; twice is as once."""
        yield self.driver.spawn(self.machine(1))
        for verb, condition in ((self.driver.pause, "paused"), (self.driver.unpause, "")):
            for _ in range(2):
                yield verb(self.machine(1).id)
                self.assertEqual((yield self.condition()), ("running", condition, 1))  # type: ignore[attr-defined]
        yield self.driver.pause(self.machine(1).id)
        yield self.driver.reboot(self.machine(1).id, True, 2)
        self.assertEqual((yield self.condition()), ("running", "", 2))  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_suspend(self) -> Steps:
        """A suspended guest is stopped, and resumed or spawned; twice is as once."""
        yield self.driver.spawn(self.machine(1))
        for verb, order, found in (
            (self.driver.suspend, 2, ("stopped", "suspended", 2)),
            (self.driver.resume, 3, ("running", "", 3)),
            (self.driver.suspend, 4, ("stopped", "suspended", 4)),
        ):
            for _ in range(2):
                yield verb(self.machine(1).id, order)
                self.assertEqual((yield self.condition()), found)  # type: ignore[attr-defined]
        yield self.driver.spawn(self.machine(1, 5))
        self.assertEqual((yield self.condition()), ("running", "", 5))  # type: ignore[attr-defined]
        yield self.driver.suspend(self.machine(1).id, 6)
        yield self.driver.shut_down(self.machine(1).id, False, 7)
        self.assertEqual((yield self.condition()), ("stopped", "", 7))  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_standing_refused(self) -> Steps:
        """What is stopped is neither paused nor suspended, nor counted; what is not there neither."""
        verbs = (
            self.driver.pause,
            self.driver.unpause,
            self.driver.statistics,
            lambda id: self.driver.suspend(id, 3),
            lambda id: self.driver.resume(id, 3),
        )
        for verb in verbs:
            yield self.assertFailure(verb(self.machine(1).id), NotFound)  # type: ignore[attr-defined]
        yield self.driver.spawn(self.machine(1))
        yield self.driver.shut_down(self.machine(1).id, True, 2)
        for verb in verbs:
            yield self.assertFailure(verb(self.machine(1).id), WrongState)  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_rescue(self) -> Steps:
        """A rescued guest runs, and says that it is one, until it is to boot from its own disk; twice is as once."""
        yield self.assertFailure(self.driver.rescue(self.machine(1)), NotFound)  # type: ignore[attr-defined]
        yield self.driver.spawn(self.machine(1))
        for verb, order, condition in (
            (self.driver.rescue, 2, "rescue"),
            (self.driver.rescue, 3, "rescue"),
            (self.driver.unrescue, 4, ""),
            (self.driver.unrescue, 5, ""),
            (self.driver.rescue, 6, "rescue"),
        ):
            yield verb(self.machine(1, order))
            self.assertEqual((yield self.condition()), ("running", condition, order))  # type: ignore[attr-defined]
        yield self.driver.shut_down(self.machine(1).id, True, 7)
        yield self.driver.spawn(self.machine(1, 8))
        self.assertEqual((yield self.condition()), ("running", "", 8))  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_statistics(self) -> Steps:
        """What a guest used is counted."""
        yield self.driver.spawn(self.machine(1))
        statistics = yield self.driver.statistics(self.machine(1).id)
        self.assertTrue(min(attrs.astuple(statistics)) >= 0 and statistics.memory_mb, statistics)  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_restart(self) -> Steps:
        """A driver finds what another one left, stopped properly."""
        yield self._left_behind()
        yield self.driver.stop()
        yield self._found()

    @inlineCallbacks
    def test_killed(self) -> Steps:
        """A driver finds what another one left without having been stopped."""
        yield self._left_behind()
        self.addCleanup(self.driver.stop)  # type: ignore[attr-defined]
        yield self._found()

    @inlineCallbacks
    def test_quiet(self) -> Steps:
        """One that is quiet is stopped until it is woken, and the next driver knows; any order ends that."""
        order = self.machine(1, 3)
        stopped = attrs.evolve(_running(order), state="stopped")
        yield self.driver.quiet(order.id, 100.0)
        yield self.driver.spawn(order)
        for until in (100.0, 200.5):
            yield self.driver.quiet(order.id, until)
            yield self.assertDomains(attrs.evolve(stopped, quiet_until=until))
        yield self.driver.stop()
        self.driver = self.make_driver()
        yield self.driver.start(self.watcher)
        yield self.assertDomains(attrs.evolve(stopped, quiet_until=200.5))
        yield self.driver.wake(order.id)
        yield self.driver.wake(order.id)
        yield self.assertDomains(_running(order))
        yield self.driver.quiet(order.id, 300.0)
        yield self.driver.shut_down(order.id, False, 3)
        yield self.driver.wake(order.id)
        yield self.assertDomains(stopped)
        self.assertEqual(self.watcher.news, [])  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_lost_reply(self) -> Steps:
        """Each verb is repeated safely after its answer was lost."""
        order = self.machine(1)
        for verb, act in (
            ("spawn", lambda: self.driver.spawn(order)),
            ("reboot", lambda: self.driver.reboot(order.id, False, 2)),
            ("shut_down", lambda: self.driver.shut_down(order.id, False, 3)),
            ("destroy", lambda: self.driver.destroy(order.id)),
        ):
            self.lose_reply(self.driver, verb)
            yield act().addErrback(lambda failure: None)
            yield act()
            domains = yield self.driver.domains()
            expected = {"shut_down": ["stopped"], "destroy": []}.get(verb, ["running"])
            self.assertEqual([domain.state for domain in domains], expected, verb)  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_silent_about_orders(self) -> Steps:
        """The watcher hears nothing of what was ordered."""
        yield self.driver.spawn(self.machine(1))
        yield self.driver.reboot(self.machine(1).id, True, 2)
        yield self.driver.shut_down(self.machine(1).id, False, 3)
        yield self.driver.destroy(self.machine(1).id)
        self.assertEqual(self.watcher.news, [])  # type: ignore[attr-defined]

    @inlineCallbacks
    def _left_behind(self) -> Steps:
        yield gatherResults([self.driver.spawn(self.machine(number)) for number in (1, 2, 3)])
        yield self.driver.shut_down(self.machine(2).id, True, 5)
        yield self.driver.destroy(self.machine(3).id)

    @inlineCallbacks
    def _found(self) -> Steps:
        self.driver = self.make_driver()
        yield self.driver.start(self.watcher)
        yield self.assertDomains(_running(self.machine(1)), attrs.evolve(_running(self.machine(2, 5)), state="stopped"))
        yield self.driver.destroy(self.machine(1).id)
        yield self.driver.destroy(self.machine(2).id)
        yield self.assertDomains()


def _running(order: MachineOrder) -> Domain:
    return Domain(order.id, "running", order.order, tuple(port.address for port in order.ports))


class MigrationContract:
    """
    Mix with L{twisted.trial.unittest.TestCase} for a driver that can move
    guests, and say how two hosts of it are made.
    """

    def make_hosts(self) -> tuple[IComputeDriver, IComputeDriver]:
        """@return: drivers of two hosts, not started, that can reach one another."""
        raise NotImplementedError

    def machine(self, number: int, order: int = 1) -> MachineOrder:
        """See L{ComputeDriverContract.machine}."""
        return machine(number, order)

    @inlineCallbacks
    def setUp(self) -> Steps:
        """Start both."""
        self.here, self.there = self.make_hosts()
        self.watchers = (Heard(), Heard())
        for driver, watcher in zip((self.here, self.there), self.watchers, strict=True):
            yield driver.start(watcher)
            self.addCleanup(driver.stop)  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_migrate(self) -> Steps:
        """A guest that is moved runs on there, by that order's number, and is here no more; twice is as once."""
        order = self.machine(1, 7)
        yield self.here.spawn(order)
        destination = yield self.there.receive(order)
        for _ in range(2):
            yield self.here.migrate(order.id, destination, 8)
            self.assertEqual((yield self.here.domains()), [])  # type: ignore[attr-defined]
            self.assertEqual((yield self.there.domains()), [_running(self.machine(1, 8))])  # type: ignore[attr-defined]
        yield self.there.reboot(order.id, True, 9)
        yield self.there.destroy(order.id)
        self.assertEqual([watcher.news for watcher in self.watchers], [[], []])  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_migrate_stopped(self) -> Steps:
        """A guest that is stopped is moved as it is, and runs there when it is spawned; twice is as once."""
        order = self.machine(1, 7)
        yield self.here.spawn(order)
        yield self.here.shut_down(order.id, True, 8)
        destination = yield self.there.receive(order)
        for _ in range(2):
            yield self.here.migrate(order.id, destination, 9)
            self.assertEqual((yield self.here.domains()), [])  # type: ignore[attr-defined]
            stopped = attrs.evolve(_running(order), state="stopped", order=9)
            self.assertEqual((yield self.there.domains()), [stopped])  # type: ignore[attr-defined]
        yield self.there.spawn(attrs.evolve(order, order=10))
        self.assertEqual((yield self.there.domains()), [attrs.evolve(_running(order), order=10)])  # type: ignore[attr-defined]
        yield self.there.destroy(order.id)
        self.assertEqual([watcher.news for watcher in self.watchers], [[], []])  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_migrate_refused(self) -> Steps:
        """What is suspended is not moved, and keeps the number of the order; what was made ready for it goes."""
        order = self.machine(1, 7)
        yield self.here.spawn(order)
        yield self.here.suspend(order.id, 8)
        destination = yield self.there.receive(order)
        yield self.assertFailure(self.here.migrate(order.id, destination, 9), WrongState)  # type: ignore[attr-defined]
        yield self.here.number(order.id, 9)
        suspended = attrs.evolve(_running(self.machine(1, 9)), state="stopped", condition="suspended")
        self.assertEqual((yield self.here.domains()), [suspended])  # type: ignore[attr-defined]
        yield self.there.number(order.id, 9)
        yield self.there.destroy(order.id)
        yield self.here.destroy(order.id)
