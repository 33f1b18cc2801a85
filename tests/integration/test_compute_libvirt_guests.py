"""
What real guests do under the libvirt driver, besides the contract.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import attrs
from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.cloud.interface import ICloudWorker
from fabric.command import Commands
from fabric.compute.interface import DiskOrder
from fabric.compute.worker import ComputeWorker
from fabric.errors import DriverFailure, WrongState
from fabric.rpc.interface import Address
from fabric.rpc.local import LocalQueue
from fabric.testing.processes import SOURCES
from fabric.testing.tgtd import PASSWORD, USER, PrivateTgtd
from fabric.volume.files import FileVolumes
from fabric.volume.interface import SnapshotOrder, VolumeOrder
from tests.integration.libvirt_guests import RACK, LibvirtFixtures
from tests.unit.test_compute_worker import Controller

TOLD = 60.0
"""Seconds within which the watcher hears of a guest.  It hears as soon as libvirt says so, which on a machine
that is not busy takes it less than one."""

LAST = (1 << 30) // 512 - 8
"""A sector at the end of a volume."""

POWER = b"FABRIC power button"
UP = b"FABRIC disk added vda"


class NewsTests(LibvirtFixtures, TestCase):
    """
    The watcher hears what is done to guests from outside, and what they do themselves.
    """

    booted = frozenset({"test_shut_itself_down"})

    @inlineCallbacks
    def setUp(self):
        """One guest."""
        yield super().setUp()
        self.name = self.machine(1).id
        yield self.driver.spawn(self.machine(1))

    @inlineCallbacks
    def told(self, seconds=TOLD):
        """The next news, as the state and the reason."""

        def probe():
            return self.watcher.news[:]

        [(domain, reason)] = yield self.until(probe, seconds)
        self.watcher.news.clear()
        self.assertEqual((domain.id, domain.order), (self.name, 1))
        return domain.condition or domain.state, reason

    @inlineCallbacks
    def test_killed(self):
        """A guest whose process is killed crashed."""
        os.kill(self.libvirtd.pid_of(self.name), signal.SIGKILL)
        state, reason = yield self.told()
        self.assertEqual(state, "crashed")
        self.assertIn("killed", reason)
        [domain] = yield self.driver.domains()
        self.assertEqual((domain.state, domain.order), ("crashed", 1))

    @inlineCallbacks
    def test_destroyed(self):
        """One that virsh destroys is stopped, and one that it starts runs."""
        yield deferToThread(self.libvirtd.virsh, "destroy", self.name)
        state, reason = yield self.told()
        self.assertEqual(state, "stopped")
        self.assertIn("from outside", reason)
        self.assertEqual(self.watcher.own, [False])
        yield deferToThread(self.libvirtd.virsh, "start", self.name)
        state, reason = yield self.told()
        self.assertEqual(state, "running")

    @inlineCallbacks
    def test_paused(self):
        """One that virsh pauses runs, and is said to stand still."""
        yield deferToThread(self.libvirtd.virsh, "suspend", self.name)
        self.assertEqual((yield self.told())[0], "paused")
        yield deferToThread(self.libvirtd.virsh, "resume", self.name)
        self.assertEqual((yield self.told())[0], "running")

    @inlineCallbacks
    def test_undefined(self):
        """One that is removed altogether is stopped."""
        yield deferToThread(self.libvirtd.virsh, "destroy", self.name)
        yield self.told()
        yield self.driver.spawn(self.machine(1))
        yield deferToThread(self.libvirtd.virsh, "undefine", self.name)
        yield deferToThread(self.libvirtd.virsh, "destroy", self.name)
        state, reason = yield self.told()
        self.assertEqual(state, "stopped")
        self.assertIn("removed", reason)

    @inlineCallbacks
    def test_shut_itself_down(self):
        """One that shuts itself down is stopped, and it is said that it was the guest."""
        yield self.said(self.name, UP)

        @inlineCallbacks
        def pressed():
            pressing = deferToThread(self.libvirtd.virsh, "shutdown", self.name, "--mode", "acpi")
            yield pressing.addErrback(lambda failure: failure.trap(subprocess.CalledProcessError))  # it is down by now
            return POWER in (yield self.driver.console_output(self.name))

        yield self.until(pressed)
        self.assertEqual((yield self.told()), ("stopped", "The guest shut itself down."))
        self.assertEqual(self.watcher.own, [True])

    @inlineCallbacks
    def test_killed_while_ordered(self):
        """One that is killed while an order to it is carried out is told of, unless the order fails for it."""
        outcome = []
        paused = self.driver.pause(self.name)
        paused.addCallbacks(outcome.append, lambda failure: failure.trap(DriverFailure, WrongState))
        os.kill(self.libvirtd.pid_of(self.name), signal.SIGKILL)
        yield paused
        if outcome:
            self.assertEqual((yield self.told())[0], "crashed")
        else:  # the order failed, and says so itself

            @inlineCallbacks
            def crashed():
                return [domain.state for domain in (yield self.driver.domains())] == ["crashed"]

            yield self.until(crashed)


class CareTests(LibvirtFixtures, TestCase):
    """
    What operators do to a guest, by the host's compute worker.
    """

    booted = frozenset({"test_conditions"})

    @inlineCallbacks
    def begin(self):
        """A worker with one guest."""
        self.controller = Controller()
        queue = LocalQueue(reactor)
        self.addCleanup(queue.stop)
        yield queue.listen(Address("cloud"), ICloudWorker, self.controller, 1)
        self.driver = self.make_driver()
        self.worker = ComputeWorker("a", self.driver, queue, reactor)
        self.addCleanup(self.driver.stop)
        yield self.driver.start(self.worker)
        yield self.driver.spawn(self.machine(1))
        yield self.worker.adopt()
        self.name = self.machine(1).id

    @inlineCallbacks
    def seen(self):
        """How the driver finds it."""
        [domain] = yield self.driver.domains()
        return domain.state, domain.condition, domain.order

    @inlineCallbacks
    def test_conditions(self):
        """A guest stands still, is on disk and goes on where it was; nobody is told that it stopped."""
        yield self.said(self.name, UP)
        yield self.worker.pause(self.name)
        self.assertEqual((yield self.seen()), ("running", "paused", 1))
        self.assertGreater((yield self.worker.statistics(self.name))["cpu_seconds"], 0)
        yield self.worker.unpause(self.name)
        yield self.worker.suspend(self.name, 2)
        self.assertEqual((yield self.seen()), ("stopped", "suspended", 2))
        printed = yield self.driver.console_output(self.name)
        yield self.worker.resume(self.name, 3)
        self.assertEqual((yield self.seen()), ("running", "", 3))
        after = (yield self.driver.console_output(self.name))[len(printed) :]
        self.assertNotIn(b"Linux version", after)
        self.assertEqual(self.controller.casts, [])

    @inlineCallbacks
    def test_destroyed(self):
        """One that virsh destroys is reported as stopped, and not by its own doing."""
        yield deferToThread(self.libvirtd.virsh, "destroy", self.name)
        yield self.until(lambda: self.controller.casts, TOLD)
        report = self.controller.last()
        self.assertEqual((report["state"], report["code"]), ("stopped", "Server.InternalError"))
        self.assertIn("from outside", report["message"])


class RestartTests(LibvirtFixtures, TestCase):
    """
    libvirtd goes away and comes back.
    """

    @inlineCallbacks
    def test_restarted(self):
        """Guests run on, orders wait, and what happened meanwhile is told."""
        yield gatherResults([self.driver.spawn(self.machine(number)) for number in (1, 2)])
        lost = self.libvirtd.pid_of(self.machine(2).id)
        yield deferToThread(self.libvirtd.kill)
        os.kill(lost, signal.SIGKILL)
        spawned = self.driver.spawn(self.machine(3))
        asked = self.driver.domains()
        yield deferToThread(self.libvirtd.start)
        yield spawned
        domains = yield asked
        self.assertIn(("running", 1), [(domain.state, domain.order) for domain in domains])
        yield self.until(lambda: self.watcher.news, TOLD)
        self.assertEqual([domain.id for domain, _ in self.watcher.news], [self.machine(2).id])
        states = {domain.id: domain.state for domain in (yield self.driver.domains())}
        self.assertEqual([states[self.machine(number).id] == "running" for number in (1, 2, 3)], [True, False, True])
        os.kill(self.libvirtd.pid_of(self.machine(1).id), signal.SIGKILL)
        yield self.until(lambda: len(self.watcher.news) == 2, TOLD)

    @inlineCallbacks
    def test_restarted_under_load(self):
        """Orders that are in hand when it is killed are carried out all the same."""
        spawned = [self.driver.spawn(self.machine(number)) for number in (1, 2)]
        yield deferLater(reactor, 0.4, deferToThread, self.libvirtd.kill)
        yield deferToThread(self.libvirtd.start)
        yield gatherResults(spawned)
        states = [domain.state for domain in (yield self.driver.domains())]
        self.assertEqual(states, ["running", "running"])
        yield gatherResults([self.driver.destroy(self.machine(number).id) for number in (1, 2)])

    @inlineCallbacks
    def test_never_back(self):
        """Orders give up on one that does not come back, and say so."""
        driver = self.make(self.libvirtd, self.place, reconnect_seconds=1.0)
        yield driver.start(self.watcher)
        self.addCleanup(driver.stop)
        yield deferToThread(self.libvirtd.kill)
        try:
            failure = yield self.assertFailure(driver.domains(), DriverFailure)
            self.assertIn("does not answer", failure.what)
        finally:
            yield deferToThread(self.libvirtd.start)


class BootTests(LibvirtFixtures, TestCase):
    """
    Guests that boot, are asked, and keep their disks.
    """

    options = {"shutdown_seconds": 60.0, "reboot_seconds": 60.0}
    booted = frozenset({"test_asked", "test_size", "test_pc"})

    @inlineCallbacks
    def test_asked(self):
        """A guest is asked by its power button to reboot, and to stop; its disk stays the same and is its own."""
        order = self.machine(1)
        yield self.driver.spawn(order)
        disk = Path(self.place, "guests", order.id, "root.qcow2")
        made = disk.stat().st_ino
        yield self.said(order.id, UP)
        process = self.libvirtd.pid_of(order.id)
        yield self.driver.reboot(order.id, False, 2)
        self.assertEqual(self.libvirtd.pid_of(order.id), process)
        self.assertIn(POWER, (yield self.driver.console_output(order.id)))

        @inlineCallbacks
        def ready_again():
            return (yield self.driver.console_output(order.id)).count(UP) == 2

        yield self.until(ready_again)
        yield self.driver.shut_down(order.id, False, 3)
        self.assertEqual((yield self.driver.console_output(order.id)).count(POWER), 2)
        yield self.driver.spawn(attrs.evolve(self.machine(1, 4)))
        self.assertEqual(disk.stat().st_ino, made)
        self.assertEqual(self.watcher.news, [])

    @inlineCallbacks
    def test_size(self):
        """A guest has the disk, the memory and the processors of its type."""
        order = attrs.evolve(self.machine(1), flavor=attrs.evolve(self.machine(1).flavor, ephemeral_gb=1))
        yield self.driver.spawn(order)
        yield self.said(order.id, b"FABRIC disk added vdb 2097152 ")
        yield self.said(order.id, b"FABRIC root 1024 MB")
        statistics = yield self.driver.statistics(order.id)
        self.assertEqual(statistics.memory_mb, 96)
        self.assertTrue(statistics.cpu_seconds > 0 and statistics.disk_read > 0, statistics)

    @inlineCallbacks
    def test_pc(self):
        """The older board boots and takes volumes as well, and gives them back."""
        yield self.driver.stop()
        self.driver = self.make(self.libvirtd, self.place, machine="pc")
        yield self.driver.start(self.watcher)
        order = self.machine(1)
        yield self.driver.spawn(order)
        disk = self.make_disk(1, order.id, "/dev/sdf")
        yield self.said(order.id, UP)
        yield self.driver.attach_disk(disk)
        yield self.said(order.id, b"FABRIC disk added vdb 16384 (512-byte blocks) serial vol00000000000000001")
        yield self.driver.detach_disk(order.id, disk.volume, False)
        yield self.said(order.id, b"FABRIC disk removed vdb")


class FilesTests(LibvirtFixtures, TestCase):
    """
    The files of guests.
    """

    booted = frozenset({"test_killed_while_spawning", "test_captured"})

    @inlineCallbacks
    def test_private(self):
        """Nobody else may read a guest's files, and they go with it."""
        order = attrs.evolve(self.machine(1), flavor=attrs.evolve(self.machine(1).flavor, ephemeral_gb=1))
        yield self.driver.spawn(order)
        directory = Path(self.place, "guests", order.id)
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in directory.iterdir()}
        self.assertEqual(modes, dict.fromkeys(("root.qcow2", "scratch.raw", "console.log"), "0o600"))
        self.assertEqual(oct(directory.stat().st_mode & 0o777), "0o700")
        yield self.driver.destroy(order.id)
        self.assertFalse(directory.exists())

    @inlineCallbacks
    def test_broken_off(self):
        """A spawn that was broken off at any step is completed by the next."""
        order = self.machine(1)
        store = self.driver._store
        yield deferToThread(store.make, order.id)
        Path(self.place, "guests", order.id, "root.qcow2.part").write_bytes(b"half")
        yield self.driver.spawn(order)
        yield deferToThread(self.libvirtd.virsh, "destroy", order.id)
        yield self.driver.spawn(order)
        yield deferToThread(self.libvirtd.virsh, "destroy", order.id)
        yield deferToThread(self.libvirtd.virsh, "undefine", order.id)
        yield self.driver.destroy(order.id)
        self.assertFalse(Path(self.place, "guests", order.id).exists())

    @inlineCallbacks
    def test_killed_while_spawning(self):
        """What a process that is killed while it spawns leaves, the next one completes."""
        for delay in (0.05, 0.3):
            yield deferToThread(self._spawn_and_kill, delay)
            order = self.machine(1, 2)
            yield self.driver.spawn(order)
            [domain] = yield self.driver.domains()
            self.assertEqual((domain.id, domain.state, domain.order), (order.id, "running", 2), delay)
            if delay < 0.1:
                yield self.driver.destroy(order.id)
        yield self.said(order.id, UP)

    def _spawn_and_kill(self, delay):
        code = "import sys; from tests.integration.libvirt_guests import spawn_one; spawn_one(*sys.argv[1:])"
        command = [sys.executable, "-c", code, self.libvirtd.uri, str(Path(self.place).absolute())]
        with subprocess.Popen(command, cwd=SOURCES, stdout=subprocess.PIPE) as process:
            try:
                self.assertEqual(process.stdout.readline(), b"begins\n")
                time.sleep(delay)
            finally:
                process.kill()

    @inlineCallbacks
    def test_disk_lost(self):
        """A guest whose disk is lost is not booted from an empty one."""
        order = self.machine(1)
        yield self.driver.spawn(order)
        yield self.driver.shut_down(order.id, True, 2)
        Path(self.place, "guests", order.id, "root.qcow2").unlink()
        failure = yield self.assertFailure(self.driver.spawn(self.machine(1, 3)), DriverFailure)
        self.assertIn("not there any more", failure.what)

    @inlineCallbacks
    def test_bases_stay(self):
        """The cache is told which files guests are built on, as long as they are there."""
        order = self.machine(1)
        yield self.driver.spawn(order)
        self.assertEqual(self.images.kept, {file.digest for file in order.files})
        yield self.driver.destroy(order.id)
        self.assertEqual(self.images.kept, frozenset())

    @inlineCallbacks
    def test_captured(self):
        """A disk is copied whole, running or not: what is copied is built on nothing, and boots."""
        order = self.machine(1)
        yield self.driver.spawn(order)
        yield self.said(order.id, UP)
        for image, act in (
            ("ami-1", lambda: None),
            ("ami-2", lambda: self.driver.shut_down(order.id, True, 2)),
        ):
            yield act()
            where = yield self.driver.capture(order.id, image, False)
            self.assertEqual(where, f"captured/{image}")
            path = Path(self.place, "captures", f"{image}.qcow2")
            told = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(path)]))
            self.assertEqual((told["format"], told["virtual-size"]), ("qcow2", 1024**3))
            self.assertNotIn("backing-filename", told)
            self.assertEqual(oct(path.stat().st_mode & 0o777), "0o600")
        self.images = type(self.images)(disk=path, kernel=self.guest.kernel, ramdisk=self.guest.ramdisk)
        self.driver._images = self.images
        copy = self.machine(2)
        yield self.driver.spawn(copy)
        yield self.said(copy.id, UP)


class CopyTests(LibvirtFixtures, TestCase):
    """
    Volumes copied while guests write to them.
    """

    booted = frozenset({"test_one_moment"})

    @inlineCallbacks
    def setUp(self):
        """A guest with a volume that is full of something, and the volume's host."""
        yield super().setUp()
        self.volumes = FileVolumes(str(Path(self.place, "v").absolute()), ("here",), Commands(reactor), reactor, 10)
        yield self.volumes.start()
        self.addCleanup(self.volumes.stop)
        self.order = self.machine(1)
        yield self.volumes.create(VolumeOrder("vol-1", 1))
        connection = yield self.volumes.export("vol-1", "here", 2)
        self.path = Path(connection["path"])
        with open(self.path, "r+b") as file:
            file.seek(1 << 20)
            file.write(os.urandom(1 << 20) * 256)
        self.disk = DiskOrder("vol-1", self.order.id, "/dev/sdf", "here", 2, connection=connection)
        yield self.driver.spawn(attrs.evolve(self.order, disks=(self.disk,)))
        self.snapshot = SnapshotOrder("snap-1", "vol-1", 1)

    def written(self, path):
        """The numbers that a guest wrote last to the beginning and to the end."""
        with open(path, "rb") as file:
            first = file.read(10)
            file.seek(LAST * 512)
            return int(first.strip(b"\0") or 0), int(file.read(10).strip(b"\0") or 0)

    def type(self, text):
        """Type something at the guest's console, which stays open: qemu looks once a second whether it is."""
        terminal = os.open(self.libvirtd.virsh("ttyconsole", self.order.id).strip(), os.O_RDWR | os.O_NOCTTY)
        self.addCleanup(os.close, terminal)
        os.write(terminal, text.encode() + b"\r")

    @inlineCallbacks
    def test_one_moment(self):
        """
        A copy has what a guest wrote before a moment, and nothing of what it
        wrote later, though it goes on writing; what comes of it is the volume
        host's own file, and takes the room that was written to.
        """
        yield self.said(self.order.id, b"FABRIC disk added vdb")
        yield self.said(self.order.id, b"guest# ")
        put = "echo 000000000$i | tail -c 11 | dd of=/dev/vdb bs=512 conv=notrunc,fsync seek="
        loop = f"i=0; while :; do i=$((i+1)); {put}0; {put}{LAST}; done 2>/dev/null &"
        yield deferToThread(self.type, loop)
        yield self.until(lambda: self.written(self.path)[1] > 2)
        place = yield self.volumes.lend(self.snapshot)
        copying = self.driver.copy_disk(self.order.id, "vol-1", place)
        other = self.driver.copy_disk(self.order.id, "vol-1", (yield self.volumes.lend(self.snapshot)))
        before = self.written(self.path)[0]
        answer = yield copying
        after = self.written(self.path)[0]
        self.assertEqual(answer, {"state": "copied"})
        yield self.volumes.take(self.snapshot, place, True)
        copy = Path(self.place, "v", "snapshots", "snap-1")
        first, last = self.written(copy)
        self.assertIn(first - last, (0, 1))
        self.assertTrue(before <= first <= after, (before, first, last, after))
        yield self.until(lambda: self.written(self.path)[0] > first)
        self.assertEqual((copy.stat().st_mode & 0o777, copy.stat().st_size), (0o600, 1 << 30))
        self.assertTrue(256 << 20 <= copy.stat().st_blocks * 512 < 300 << 20, copy.stat())
        with open(copy, "rb") as mine, open(self.path, "rb") as its:
            for file in (mine, its):
                file.seek(1 << 20)
            self.assertEqual(mine.read(256 << 20), its.read(256 << 20))
        self.assertEqual((yield other), {"state": "copied"})

    @inlineCallbacks
    def test_stopped(self):
        """A guest may be stopped while its volume is copied: then there is no copy; nobody writes to it any more."""
        place = yield self.volumes.lend(self.snapshot)
        copying, copied = self.driver.copy_disk(self.order.id, "vol-1", place), []
        copying.addCallbacks(copied.append, lambda failure: failure.trap(DriverFailure, WrongState))
        yield deferLater(reactor, 0.05)
        yield self.driver.shut_down(self.order.id, True, 3)
        yield copying
        self.assertIn(copied, ([], [{"state": "copied"}]))  # it may have been the quicker
        answer = yield self.driver.copy_disk(self.order.id, "vol-1", place)
        self.assertEqual(answer, {"state": "quiet"})

    @inlineCallbacks
    def test_another_size(self):
        """A guest whose volume has grown meanwhile sees it as it was: that is told."""
        yield self.volumes.grow(VolumeOrder("vol-1", 2))
        answer = yield self.driver.copy_disk(self.order.id, "vol-1", (yield self.volumes.lend(self.snapshot)))
        self.assertEqual(answer, {"state": "size", "bytes": str(1 << 30)})
        place = yield self.volumes.lend(self.snapshot, 1 << 30)
        answer = yield self.driver.copy_disk(self.order.id, "vol-1", place)
        self.assertEqual(answer, {"state": "copied"})

    @inlineCallbacks
    def test_killed(self):
        """A copy that an earlier life of the service began is in nobody's way."""
        place = yield self.volumes.lend(self.snapshot)
        ended = []
        self.driver.copy_disk(self.order.id, "vol-1", place).addBoth(ended.append)
        looks = partial(deferToThread, self.libvirtd.virsh, "domjobinfo", self.order.id)
        yield self.until(lambda: ended or looks().addCallback(_busy))
        later = self.make_driver()
        yield later.start(self.watcher)
        self.addCleanup(later.stop)
        answer = yield later.copy_disk(self.order.id, "vol-1", (yield self.volumes.lend(self.snapshot)))
        self.assertEqual(answer, {"state": "copied"})


def _busy(told):
    return "None" not in told.splitlines()[0]


class IscsiTests(LibvirtFixtures, TestCase):
    """
    Volumes of an iSCSI target.
    """

    booted = frozenset({"test_attached"})

    @inlineCallbacks
    def setUp(self):
        """A target in the host's namespace."""
        yield super().setUp()
        self.target = PrivateTgtd(RACK.namespaces, "a")
        self.addCleanup(deferToThread, self.target.remove)
        yield deferToThread(self.target.start)

    @inlineCallbacks
    def order(self, number, machine, device, password=PASSWORD):
        """A volume exported to the host."""
        yield deferToThread(self.target.export, number, 8)
        connection = self.target.connection(number) | {"user": USER, "secret": password}
        return DiskOrder(f"vol-{number:017x}", machine, device, "here", 2, connection=connection)

    @inlineCallbacks
    def test_attached(self):
        """One is attached with its password to a guest that runs, taken away, and had at boot."""
        one = self.machine(1)
        disk = yield self.order(1, one.id, "/dev/sdf")
        yield self.driver.spawn(one)
        yield self.said(one.id, UP)
        yield self.driver.attach_disk(disk)
        yield self.said(one.id, b"16384 (512-byte blocks) serial vol00000000000000001")
        yield self.driver.detach_disk(one.id, disk.volume, False)
        yield self.said(one.id, b"FABRIC disk removed")
        yield self.driver.shut_down(one.id, True, 2)
        yield self.driver.spawn(attrs.evolve(self.machine(1, 3), disks=(disk,)))
        yield self.said(one.id, b"16384 (512-byte blocks) serial vol00000000000000001")

    @inlineCallbacks
    def test_wrong_password(self):
        """With a wrong password it is not attached, and nothing of it is left."""
        one = self.machine(1)
        disk = yield self.order(1, one.id, "/dev/sdf", "wrong-password")
        yield self.driver.spawn(one)
        failure = yield self.assertFailure(self.driver.attach_disk(disk), DriverFailure)
        self.assertIn("log in", failure.what)
        yield self.driver.detach_disk(one.id, disk.volume, True)
        self.assertEqual((yield self.disks(one.id)), {})
        self.assertEqual((yield deferToThread(self.libvirtd.virsh, "secret-list")).strip(), "")

    @inlineCallbacks
    def disks(self, id):
        """The volumes that a guest has."""
        return next(domain.disks for domain in (yield self.driver.domains()) if domain.id == id)


class ProbeTests(LibvirtFixtures, TestCase):
    """
    Whether KVM is believed in.
    """

    @inlineCallbacks
    def test_found_out(self):
        """It is found out whether KVM runs guests, once; asked for where it does not, the driver says so."""
        place = self.mktemp()
        first = self.make(self.libvirtd, place, virt_type="auto")
        yield first.start(self.watcher)
        self.addCleanup(first.stop)
        found = (yield first.capacity()).hypervisor
        kept = json.loads(Path(place, "kvm-probe").read_text())
        self.assertEqual(found, "qemu" if kept["why"] else "kvm")
        before = Path(place, "kvm-probe").stat().st_mtime_ns
        second = self.make(self.libvirtd, place, virt_type="kvm")
        self.addCleanup(second.stop)
        if found == "kvm":
            yield second.start(self.watcher)
        else:
            failure = yield self.assertFailure(second.start(self.watcher), DriverFailure)
            self.assertIn("KVM was asked for, but", failure.what)
        self.assertEqual(Path(place, "kvm-probe").stat().st_mtime_ns, before)
