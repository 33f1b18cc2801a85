"""
The libvirt driver and what guests get besides memory and disks: processors' flags
and GPUs.

No machine for tests has a GPU to give away: its devices are told of by a tree like
sysfs, libvirt defines guests that have them, and fails to boot those.
"""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree.ElementTree import fromstring, tostring

import attrs
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.compute.libvirt import graphics
from fabric.compute.libvirt.driver import LibvirtHypervisor
from fabric.compute.libvirt.graphics import given
from fabric.errors import DriverFailure
from fabric.settings import Libvirt
from fabric.testing.compute import Heard
from tests.integration.libvirt_guests import LibvirtFixtures

CARDS = ("0000:f1:00.0", "0000:f2:00.0")
"""Addresses at which no machine has anything."""


def tree(root: str) -> str:
    """Have a directory tell of the cards as sysfs does, each alone in its IOMMU group."""
    top = Path(os.path.abspath(root))
    for address in CARDS:
        place = top / "bus/pci/devices" / address
        members = top / "kernel/iommu_groups" / address[5:7] / "devices"
        for directory in (place, members):
            directory.mkdir(parents=True)
        (members / address).symlink_to(place)
        (place / "iommu_group").symlink_to(members.parent)
        (place / "driver").symlink_to("../../../../bus/pci/drivers/vfio-pci")
        for name, text in (("class", "0x030200"), ("vendor", "0x10de"), ("device", "0x1db4")):
            (place / name).write_text(text + "\n")
    return str(top)


class FeatureTests(LibvirtFixtures, TestCase):
    """
    What a host says that guests may require.
    """

    @inlineCallbacks
    def test_processor(self):
        """A guest of which nothing is said has the processor that libvirt says, and its flags are the host's."""
        capacity = yield self.driver.capacity()
        yield self.driver.spawn(self.machine(1))
        shown = yield deferToThread(self.libvirtd.virsh, "dumpxml", self.machine(1).id)
        self.assertEqual(capacity.cpu_model, fromstring(shown).findtext("cpu/model"))
        self.assertTrue({"lm", "sse2", "cx16"} <= set(capacity.features), capacity.features)
        self.assertFalse({"avx2", "gpu"} & set(capacity.features), capacity.features)
        self.assertEqual(capacity.gpus, 0)

    @inlineCallbacks
    def test_nothing_left(self):
        """To find that out defines nothing."""
        yield self.driver.capacity()
        self.assertEqual((yield deferToThread(self.libvirtd.virsh, "list", "--all", "--name")).strip(), "")


class GpuFixtures(LibvirtFixtures):
    """
    Drivers of hosts that have two cards to give away.
    """

    def begin(self):
        """Have a driver over such a host."""
        self.root = tree(self.mktemp())
        return super().begin()

    def make(self, libvirtd, place, **options):
        """A driver that is told of the cards."""
        known = {"uri": libvirtd.uri, "virt_type": "qemu", "kernel_line": self.guest.line, "hotplug_ports": 1}
        known |= {"cpu_shares": 0, "disk_cache": "unsafe", "shutdown_seconds": 0.5}
        return LibvirtHypervisor(place, reactor, self.images, Libvirt(**(known | options)), self.root)

    def wanting(self, number, count, order=1, requires=()):
        """A machine that wants so many."""
        plain = self.machine(number, order)
        return attrs.evolve(plain, flavor=attrs.evolve(plain.flavor, gpus=count, requires=requires))

    @inlineCallbacks
    def has(self, id, libvirtd=None):
        """The cards in a domain as it is kept."""
        shown = yield deferToThread((libvirtd or self.libvirtd).virsh, "dumpxml", "--inactive", id)
        return given(fromstring(shown))

    @inlineCallbacks
    def defined(self, machine):
        """It can't boot, and libvirt says that it is for the card."""
        failure = yield self.assertFailure(self.driver.spawn(machine), DriverFailure)
        self.assertNotIn("wanted", failure.what)
        return (yield self.has(machine.id))


class GpuTests(GpuFixtures, TestCase):
    """
    One such host.
    """

    @inlineCallbacks
    def test_offered(self):
        """The host says what it has; what a domain of somebody else's has is not counted."""
        capacity = yield self.driver.capacity()
        self.assertEqual(capacity.gpus, 2)
        self.assertTrue({"gpu", "gpu:10de:1db4", "sse2"} <= set(capacity.features), capacity.features)
        card = graphics.element(CARDS[0], 0)
        path = Path(self.mktemp()).absolute()
        path.write_text(
            "<domain type='qemu'><name>theirs</name><memory unit='MiB'>32</memory>"
            "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
            f"{tostring(card, encoding='unicode')}</devices></domain>"
        )
        yield deferToThread(self.libvirtd.virsh, "define", str(path))
        self.assertEqual((yield self.driver.capacity()).gpus, 1)
        self.assertEqual((yield self.defined(self.wanting(1, 1))), CARDS[1:])

    @inlineCallbacks
    def test_one_each(self):
        """Guests that come at once get one each, those that are stopped count, and the third gets none."""
        yield DeferredList([self.driver.spawn(self.wanting(n, 1)) for n in (1, 2)], consumeErrors=True)
        found = []
        for number in (1, 2):
            found.append((yield self.has(self.machine(number).id)))
        self.assertEqual(sorted(found), [CARDS[:1], CARDS[1:]])
        failure = yield self.assertFailure(self.driver.spawn(self.wanting(3, 1)), DriverFailure)
        self.assertEqual(failure.what, "1 GPUs of any kind wanted, 0 free on this host")
        self.assertEqual(len((yield self.driver.domains())), 2)
        yield self.driver.destroy(self.machine(1).id)
        self.assertEqual((yield self.defined(self.wanting(3, 1))), found[0])

    @inlineCallbacks
    def test_kept(self):
        """A guest that is made anew, or rescued, has the cards that it had, also when others became free."""
        yield self.defined(self.wanting(1, 1))
        self.assertEqual((yield self.defined(self.wanting(2, 1))), CARDS[1:])
        yield self.driver.destroy(self.machine(1).id)
        self.assertEqual((yield self.defined(self.wanting(2, 1, 2))), CARDS[1:])
        yield self.assertFailure(self.driver.rescue(self.wanting(2, 1, 3)), DriverFailure)
        self.assertEqual((yield self.has(self.machine(2).id)), CARDS[1:])
        yield self.assertFailure(self.driver.unrescue(self.wanting(2, 1, 4)), DriverFailure)
        yield self.assertFailure(self.driver.reboot(self.machine(2).id, True, 5), DriverFailure)
        self.assertEqual((yield self.has(self.machine(2).id)), CARDS[1:])
        self.assertEqual((yield self.defined(self.wanting(2, 2, 6))), CARDS[::-1])
        yield self.driver.spawn(self.wanting(2, 0, 7))
        self.assertEqual((yield self.has(self.machine(2).id)), ())

    @inlineCallbacks
    def test_kind(self):
        """A type that requires another kind gets none."""
        failure = yield self.assertFailure(
            self.driver.spawn(self.wanting(1, 1, requires=("avx2", "gpu:1002:744c"))), DriverFailure
        )
        self.assertEqual(failure.what, "1 GPUs of gpu:1002:744c wanted, 0 free on this host")
        self.assertEqual((yield self.driver.domains()), [])

    @inlineCallbacks
    def test_many_ports(self):
        """There is a port for each card, and what the guest could be given while it runs before."""
        yield self.defined(self.wanting(1, 2))
        shown = yield deferToThread(self.libvirtd.virsh, "dumpxml", "--inactive", self.machine(1).id)
        cards = fromstring(shown).findall("devices/hostdev")
        at = [each.find("address").get("bus") for each in cards]
        self.assertEqual(len(set(at)), 2)
        self.assertNotIn("0x00", at)


class GpuMoveTests(GpuFixtures, TestCase):
    """
    Two such hosts, with a cable between them.
    """

    @inlineCallbacks
    def begin(self):
        """A driver on each."""
        yield self.have_other()
        self.root = tree(self.mktemp())
        self.driver = self.make(self.libvirtd, self.place, migration_address="tcp://192.0.2.1")
        self.there = self.make(self.other, self.mktemp(), migration_address="tcp://192.0.2.2")
        for each in (self.driver, self.there):
            self.addCleanup(each.stop)
            yield each.start(Heard())

    @inlineCallbacks
    def test_stopped(self):
        """One that is stopped is moved without its cards, which are free then, and given others where it is booted."""
        order = self.wanting(1, 1)
        self.assertEqual((yield self.defined(order)), CARDS[:1])
        yield self.driver.migrate(order.id, (yield self.there.receive(order)), 2)
        self.assertEqual((yield self.driver.domains()), [])
        self.assertEqual((yield self.has(order.id, self.other)), ())
        self.assertEqual((yield self.defined(self.wanting(2, 1))), CARDS[:1])
        yield self.assertFailure(self.there.spawn(attrs.evolve(order, order=2)), DriverFailure)
        self.assertEqual((yield self.has(order.id, self.other)), CARDS[:1])
