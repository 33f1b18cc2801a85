"""
Tests for L{fabric.compute.fake}.
"""

from __future__ import annotations

import os
import shutil
import sys

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from fabric.compute.fake import ARRIVED, GPU, FakeHypervisor
from fabric.compute.interface import DiskOrder
from fabric.errors import DriverFailure, InvalidValue, WrongState
from fabric.model.flavor import BUILT_IN
from fabric.settings import Fake
from fabric.testing.compute import ComputeDriverContract, Heard, MigrationContract, machine

QUICK = Fake(boot_seconds=0.0, stop_seconds=0.0)


class FakeHypervisorContract(ComputeDriverContract, TestCase):
    """
    The fake passes the contract.
    """

    def make_driver(self):
        """One over this test's directory, which takes no time."""
        return FakeHypervisor(os.path.join(self.mktemp_once(), "compute"), Clock(), QUICK)

    def mktemp_once(self):
        """This test's directory."""
        if not hasattr(self, "_place"):
            self._place = self.mktemp()
        return self._place

    def lose_reply(self, driver, verb):
        """Told by a rehearsal."""
        driver.rehearsal.tell(f"{verb} lose")


class FakeMigrationContract(MigrationContract, TestCase):
    """
    Guests move between fakes.
    """

    def make_hosts(self):
        """Two directories."""
        return tuple(FakeHypervisor(self.mktemp(), Clock(), QUICK) for _ in range(2))


class FakeHypervisorTests(SynchronousTestCase):
    """
    What the fake does besides the contract.
    """

    def setUp(self):
        """A fake hypervisor that needs five seconds to boot and two to stop."""
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.directory = self.mktemp()
        self.watcher = Heard()
        self.driver = self.make(Fake(boot_seconds=5.0, stop_seconds=2.0))

    def make(self, options):
        """A started one."""
        driver = FakeHypervisor(self.directory, self.clock, options)
        self.successResultOf(driver.start(self.watcher))
        return driver

    def states(self, driver=None):
        """The state of each domain."""
        return [domain.state for domain in self.successResultOf((driver or self.driver).domains())]

    def spawn(self):
        """Have machine 1 run."""
        spawned = self.driver.spawn(machine(1))
        self.clock.advance(5)
        self.successResultOf(spawned)

    def test_boot_takes_time(self):
        """A machine runs after its boot's time, not before."""
        spawned = self.driver.spawn(machine(1))
        self.clock.advance(4.9)
        self.assertNoResult(spawned)
        self.clock.advance(0.2)
        self.successResultOf(spawned)
        self.assertEqual(self.states(), ["running"])

    def test_stop_takes_time(self):
        """A guest that is asked to stop takes its time; forced, it takes none."""
        self.spawn()
        stopped = self.driver.shut_down(machine(1).id, False, 2)
        self.assertNoResult(stopped)
        self.clock.advance(2)
        self.successResultOf(stopped)
        self.assertEqual(self.states(), ["stopped"])
        started = self.driver.spawn(machine(1, 3))
        self.clock.advance(5)
        self.successResultOf(started)
        self.successResultOf(self.driver.shut_down(machine(1).id, True, 4))

    def test_root_volume(self):
        """A guest says which volume it boots from, and boots from none that it has not."""
        order = attrs.evolve(machine(1), root_volume="vol-1")
        self.failureResultOf(self.driver.spawn(order), DriverFailure)
        self.assertEqual(self.states(), [])
        disk = DiskOrder("vol-1", order.id, "/dev/sda1", "here", 1)
        spawned = self.driver.spawn(attrs.evolve(order, disks=(disk,)))
        self.clock.advance(5)
        self.successResultOf(spawned)
        self.assertIn(b"root vol-1", self.successResultOf(self.driver.console_output(order.id)))

    def test_resized(self):
        """A guest that is started as another type has what that has, and its console says so."""
        for number, flavor in enumerate(("m1.tiny", "m1.large"), 1):
            spawned = self.driver.spawn(machine(1, number, flavor))
            self.clock.advance(5)
            self.successResultOf(spawned)
            said = f"{BUILT_IN[flavor].memory_mb} MiB".encode()
            self.assertIn(said, self.successResultOf(self.driver.console_output(machine(1).id)))
            self.successResultOf(self.driver.shut_down(machine(1).id, True, number))

    def test_destroyed_while_booting(self):
        """What is destroyed while it boots never runs, and the boot says so."""
        spawned = self.driver.spawn(machine(1))
        self.successResultOf(self.driver.destroy(machine(1).id))
        self.failureResultOf(spawned, DriverFailure)
        self.clock.advance(10)
        self.assertEqual(self.states(), [])

    def test_stopped_while_booting(self):
        """Stopping the driver fails a boot under way instead of leaving its caller waiting."""
        spawned = self.driver.spawn(machine(1))
        self.successResultOf(self.driver.stop())
        self.failureResultOf(spawned, DriverFailure)
        self.clock.advance(10)

    def test_crash_and_halt(self):
        """The watcher hears of a crash and of a guest's own halt, once each."""
        self.spawn()
        self.driver.crash(machine(1).id)
        self.driver.crash(machine(1).id)
        self.assertEqual([domain.state for domain, _ in self.watcher.news], ["crashed"])
        self.spawn()
        self.driver.halt(machine(1).id)
        self.assertEqual([domain.state for domain, _ in self.watcher.news], ["crashed", "stopped"])

    def test_console_grows(self):
        """A running guest's console grows, a stopped one's does not, a boot adds to it."""

        def console():
            return self.successResultOf(self.driver.console_output(machine(1).id))

        self.spawn()
        first = console()
        self.clock.advance(60)
        second = console()
        self.assertTrue(second.startswith(first) and len(second) > len(first))
        self.driver.crash(machine(1).id)
        third = console()
        self.assertIn(b"Kernel panic", third)
        self.clock.advance(60)
        self.assertEqual(console(), third)
        self.spawn()
        self.assertTrue(console().startswith(third))
        self.clock.advance(86400 * 365)
        self.assertEqual(len(console()), 65536)

    def test_settings_mishaps(self):
        """Settings make a method fail once, lose an answer once, or be slow."""
        driver = self.make(
            Fake(boot_seconds=0, fail_next=("spawn", "plug"), lose_next=("destroy",), slow=("reboot=3",))
        )
        self.failureResultOf(driver.spawn(machine(1)), DriverFailure)
        self.successResultOf(driver.spawn(machine(1)))
        rebooted = driver.reboot(machine(1).id, True, 2)
        self.assertNoResult(rebooted)
        self.clock.advance(3)
        self.successResultOf(rebooted)
        self.failureResultOf(driver.destroy(machine(1).id), DriverFailure)
        self.assertEqual(self.states(driver), [])

    def test_bad_settings(self):
        """A mishap that means nothing is refused at once."""
        self.assertRaises(InvalidValue, self.make, Fake(slow=("spawn=soon",)))

    def test_faults_file(self):
        """The file beside the domains is read while it runs."""
        self.spawn()
        with open(os.path.join(self.directory, "faults"), "w") as file:
            file.write(f"nonsense\nspawn fail always {machine(2).id}  # never works\ncrash {machine(1).id}\n")
        self.clock.advance(1)
        for _ in range(3):
            self.failureResultOf(self.driver.spawn(machine(2)), DriverFailure)
        self.assertEqual(self.states(), ["crashed"])
        os.remove(os.path.join(self.directory, "faults"))
        self.clock.advance(1)
        self.assertNoResult(self.driver.spawn(machine(2)))

    def test_hang(self):
        """A hung method never answers."""
        self.driver.rehearsal.tell("spawn hang")
        spawned = self.driver.spawn(machine(1))
        self.clock.advance(10_000)
        self.assertNoResult(spawned)

    def test_gpus(self):
        """It offers GPUs when told to, gives each to one guest, defined or running, and none of another kind."""
        self.assertEqual(self.successResultOf(self.driver.capacity()).features, ())
        driver = self.make(attrs.evolve(QUICK, gpus=2))
        capacity = self.successResultOf(driver.capacity())
        self.assertEqual((capacity.gpus, capacity.features), (2, ("gpu", GPU)))

        def wanting(number, count, order=1, requires=()):
            flavor = attrs.evolve(machine(number).flavor, gpus=count, requires=requires)
            return attrs.evolve(machine(number, order), flavor=flavor)

        self.failureResultOf(driver.spawn(wanting(1, 1, requires=("gpu:10de:1db4",))), DriverFailure)
        self.successResultOf(driver.spawn(wanting(1, 2, requires=(GPU,))))
        self.assertIn(b"2 GPUs", self.successResultOf(driver.console_output(machine(1).id)))
        self.failureResultOf(driver.spawn(wanting(2, 1)), DriverFailure)
        for refused in (driver.suspend(machine(1).id, 2), driver.migrate(machine(1).id, {"directory": "/nowhere"}, 2)):
            self.assertEqual(self.failureResultOf(refused, WrongState).value.found, "running with GPUs")
        self.successResultOf(driver.shut_down(machine(1).id, True, 2))
        self.failureResultOf(driver.spawn(wanting(2, 1)), DriverFailure)
        self.successResultOf(driver.spawn(wanting(1, 1, 3)))
        self.successResultOf(driver.spawn(wanting(2, 1)))
        self.successResultOf(driver.destroy(machine(1).id))
        self.successResultOf(driver.spawn(wanting(3, 1)))

    def test_torn_line(self):
        """A last line that a crash cut short is as if never written."""
        self.spawn()
        with open(os.path.join(self.directory, "domains"), "ab") as file:
            file.write(b'["i-0000')
        self.assertEqual(self.states(self.make(Fake())), ["running"])

    def test_compacted(self):
        """The file is written anew when most of its lines are past."""
        driver = self.make(QUICK)
        for order in range(12_000):
            self.successResultOf(driver.spawn(machine(1, order)))
            self.successResultOf(driver.destroy(machine(1).id))
        self.successResultOf(driver.spawn(machine(2)))
        with open(os.path.join(self.directory, "domains")) as file:
            self.assertTrue(len(file.readlines()) < 20_000)
        self.assertEqual(self.states(self.make(QUICK)), ["running"])

    def test_unusable_directory(self):
        """A place that can't be used is a DriverFailure that names it."""
        with open(self.directory + "-file", "w"):
            pass
        driver = FakeHypervisor(self.directory + "-file", self.clock)
        failure = self.failureResultOf(driver.start(self.watcher), DriverFailure)
        self.assertIn(self.directory, failure.value.what)

    def test_destroyed_with_what_came(self):
        """What a kill left of a guest's coming goes when the guest is destroyed."""
        driver, there = self.make(QUICK), self.mktemp()
        os.mkdir(there)
        self.successResultOf(driver.spawn(machine(1)))
        self.successResultOf(driver.migrate(machine(1).id, {"kind": "fake", "directory": there}, 2))
        other = FakeHypervisor(there, self.clock, QUICK)
        [come] = [name for name in os.listdir(there) if name.startswith(ARRIVED)]
        shutil.copy(os.path.join(there, come), self.directory + "-copy")
        self.successResultOf(other.start(self.watcher))
        self.assertEqual(len(self.successResultOf(other.domains())), 1)
        shutil.copy(self.directory + "-copy", os.path.join(there, come))
        self.successResultOf(other.destroy(machine(1).id))
        self.assertEqual(self.successResultOf(other.domains()), [])
        other.stop()

    def test_cheap(self):
        """Spawning is at most 75 calls of functions, which take some 30 microseconds of a quick processor."""
        driver, calls = self.make(QUICK), []

        def count(frame, event, argument):
            if event in ("call", "c_call"):
                calls.append(frame.f_code.co_name)

        self.successResultOf(driver.spawn(machine(1)))
        order, before = machine(2), sys.getprofile()
        sys.setprofile(count)
        try:
            driver.spawn(order)
        finally:
            sys.setprofile(before)
        self.assertTrue(len(calls) <= 75, calls)
