"""
The libvirt driver over a real libvirtd and real guests: the contract.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.compute import ComputeDriverContract, MigrationContract
from tests.integration.libvirt_guests import LibvirtFixtures


class LibvirtContract(LibvirtFixtures, ComputeDriverContract, TestCase):
    """
    The driver passes the contract.
    """

    booted = frozenset({"test_attach_disk", "test_detach_disk", "test_spawn", "test_suspend", "test_root_volume"})

    many = 3


class LibvirtMigrationContract(LibvirtFixtures, MigrationContract, TestCase):
    """
    Guests move between two libvirts that share no storage.
    """

    booted = frozenset({"test_migrate"})

    @inlineCallbacks
    def begin(self):
        """Both hosts, with a cable between them."""
        yield self.have_other()
        yield MigrationContract.setUp(self)

    def make_hosts(self):
        """Two namespaces."""
        self.elsewhere = self.mktemp()
        return (
            self.make(self.libvirtd, self.place, migration_address="tcp://192.0.2.1"),
            self.make(self.other, self.elsewhere, migration_address="tcp://192.0.2.2"),
        )

    @inlineCallbacks
    def test_asleep(self):
        """A stopped guest's disk comes as it was, and the guest executes nothing on either host."""
        order = self.machine(1)
        yield self.here.spawn(order)
        yield self.until(lambda: self.here.console_output(order.id))
        yield self.here.shut_down(order.id, True, 2)
        yield self.on_disk(self.place, order.id, "write -P 0x5a 1M 64k")
        yield self.here.migrate(order.id, (yield self.there.receive(order)), 3)
        self.assertEqual((yield self.there.console_output(order.id)), b"")

        @inlineCallbacks
        def resting():
            return not (yield deferToThread(self.other.virsh, "list", "--name")).strip()

        yield self.until(resting)
        yield self.on_disk(self.elsewhere, order.id, "read -P 0x5a 1M 64k")
        for place in (self.place, self.elsewhere):
            kept = Path(place, "guests", order.id).exists()
            self.assertEqual(kept, place == self.elsewhere)

    @inlineCallbacks
    def on_disk(self, place, id, command):
        """Have qemu's tool read or write a guest's disk."""
        path = Path(place, "guests", id, "root.qcow2")
        arguments = ("qemu-io", "-f", "qcow2", "-c", command, str(path))
        done = yield deferToThread(subprocess.run, arguments, capture_output=True, text=True)
        self.assertEqual((done.returncode, "failed" in done.stdout), (0, False), done.stdout + done.stderr)
