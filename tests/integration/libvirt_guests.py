"""
Guests by libvirt, for tests: a host, its driver, and orders for what boots on it.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import attrs
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks, succeed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from fabric.compute.interface import DiskOrder
from fabric.compute.libvirt.driver import LibvirtHypervisor
from fabric.image.interface import FileOrder, IImageCache
from fabric.model.flavor import Flavor
from fabric.settings import Libvirt
from fabric.testing.compute import Heard, machine
from fabric.testing.guest_image import idle_guest, tiny_guest
from fabric.testing.libvirtd import PrivateLibvirtd
from fabric.testing.namespaces import Namespaces

FLAVOR = Flavor("t.tiny", 1, 96, 1)


@implementer(IImageCache)
class KeptFiles:
    """
    A cache of files that are here anyway, named by their roles.

    @ivar kept: what was last said to be in use.
    """

    def __init__(self, **paths):
        self._paths = paths
        self.kept = frozenset()

    def fetch(self, file):
        """Its path."""
        return succeed(self._paths[file.role])

    def keep(self, digests):
        """Remember it."""
        self.kept = digests
        return succeed(None)


class Rack:
    """
    Hosts, each with a libvirtd, shared by the module's tests.
    """

    def __init__(self, **options):
        """
        @param options: of L{PrivateLibvirtd.prepare}.
        """
        self.options = options
        self.namespaces = Namespaces()
        self.hosts = {}

    @inlineCallbacks
    def get(self, name):
        """The daemon of a host, running."""
        if not self.hosts:
            reactor.addSystemEventTrigger("after", "shutdown", self._remove)
        if name not in self.hosts:
            self.hosts[name] = libvirtd = PrivateLibvirtd(self.namespaces, name)
            yield deferToThread(libvirtd.prepare, **self.options)
            yield deferToThread(libvirtd.start)
        return self.hosts[name]

    def _remove(self):
        for host in self.hosts.values():
            host.remove()
        self.namespaces.remove()


RACK = Rack()


class LibvirtFixtures:
    """
    Drivers whose guests are gone when the test is.
    """

    timeout = 500
    rack = RACK
    options = {}
    booted: frozenset[str] = frozenset()
    """Names of tests whose guests are to answer; others' guests only run."""

    @inlineCallbacks
    def setUp(self):
        """A libvirtd and a guest's image."""
        self.guest = yield deferToThread(tiny_guest if self._testMethodName in self.booted else idle_guest)
        self.images = KeptFiles(disk=self.guest.disk, kernel=self.guest.kernel, ramdisk=self.guest.ramdisk)
        self.libvirtd = yield self.rack.get("a")
        self.place = self.mktemp()
        self.addCleanup(self.remove_guests, self.libvirtd)
        yield self.begin()

    def begin(self):
        """Have one driver, started."""
        self.watcher = Heard()
        self.driver = self.make_driver()
        self.addCleanup(lambda: self.driver.stop())
        return self.driver.start(self.watcher)

    @inlineCallbacks
    def have_other(self):
        """A second libvirtd, at 192.0.2.2, with a cable to the first one's 192.0.2.1."""
        joined = "b" in self.rack.hosts
        self.other = yield self.rack.get("b")
        if not joined:
            yield deferToThread(self.rack.namespaces.join, "a", "192.0.2.1/24", "b", "192.0.2.2/24")
        self.addCleanup(deferToThread, self.other.remove_guests)

    @inlineCallbacks
    def remove_guests(self, libvirtd):
        """Whatever a test left."""
        yield deferToThread(libvirtd.remove_guests)

    def make(self, libvirtd, place, **options):
        """A driver."""
        known = {
            "uri": libvirtd.uri,
            "virt_type": "qemu",
            "kernel_line": self.guest.line,
            "cpu_shares": 0,
            "hotplug_ports": 3,
            "disk_cache": "unsafe",
            "shutdown_seconds": 0.5,
            "reboot_seconds": 0.5,
        }
        return LibvirtHypervisor(place, reactor, self.images, Libvirt(**(known | self.options | options)))

    def make_driver(self):
        """One over this test's directory."""
        return self.make(self.libvirtd, self.place)

    def machine(self, number, order=1):
        """One that boots in seconds."""
        sizes = {role: os.path.getsize(getattr(self.guest, role)) for role in ("disk", "kernel", "ramdisk")}
        files = tuple(
            FileOrder(role, role * 8, "qcow2" if role == "disk" else "raw", size, 64 * 1024**2 * (role == "disk"))
            for role, size in sizes.items()
        )
        return attrs.evolve(machine(number, order), flavor=FLAVOR, files=files)

    def make_disk(self, number, machine, device):
        """A file."""
        path = Path(self.place, f"volume-{number}").absolute()
        path.parent.mkdir(exist_ok=True)
        with open(path, "ab") as file:
            file.truncate(8 * 1024**2)
        connection = {"kind": "file", "path": str(path)}
        return DiskOrder(f"vol-{number:017x}", machine, device, "here", 2, connection=connection)

    @inlineCallbacks
    def until(self, probe, seconds=200.0):
        """Look until C{probe} says something; the reactor is free meanwhile."""
        ends = reactor.seconds() + seconds
        while True:
            result = yield probe()
            if result:
                return result
            self.assertTrue(reactor.seconds() < ends, "not in time")
            yield deferLater(reactor, 0.05)

    def said(self, id, what, seconds=200.0):
        """Fires when the guest's console has said something."""

        @inlineCallbacks
        def probe():
            return what in (yield self.driver.console_output(id))

        return self.until(probe, seconds)


def spawn_one(uri, place):
    """
    Spawn machine 1, and say when that begins: for a process that is killed
    meanwhile.
    """
    fixtures = LibvirtFixtures()
    fixtures.guest = tiny_guest()
    fixtures.images = KeptFiles(disk=fixtures.guest.disk, kernel=fixtures.guest.kernel, ramdisk=fixtures.guest.ramdisk)
    driver = fixtures.make(SimpleNamespace(uri=uri), place)

    @inlineCallbacks
    def spawn():
        yield driver.start(Heard())
        print("begins", flush=True)
        yield driver.spawn(fixtures.machine(1))

    reactor.callWhenRunning(spawn)
    reactor.run()
