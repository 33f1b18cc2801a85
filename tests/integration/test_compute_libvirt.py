"""
The libvirt driver over a real libvirtd and real guests: the contract.
"""

from __future__ import annotations

from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.compute import ComputeDriverContract, MigrationContract
from tests.integration.libvirt_guests import RACK, LibvirtFixtures


class LibvirtContract(LibvirtFixtures, ComputeDriverContract, TestCase):
    """
    The driver passes the contract.
    """

    many = 3


class LibvirtMigrationContract(LibvirtFixtures, MigrationContract, TestCase):
    """
    Guests move between two libvirts that share no storage.
    """

    @inlineCallbacks
    def begin(self):
        """Both hosts, with a cable between them."""
        joined = "b" in RACK.hosts
        self.other = yield RACK.get("b")
        if not joined:
            yield deferToThread(RACK.namespaces.join, "a", "192.0.2.1/24", "b", "192.0.2.2/24")
        self.addCleanup(deferToThread, self.other.remove_guests)
        yield MigrationContract.setUp(self)

    def make_hosts(self):
        """Two namespaces."""
        return (
            self.make(self.libvirtd, self.place, migration_address="tcp://192.0.2.1"),
            self.make(self.other, self.mktemp(), migration_address="tcp://192.0.2.2"),
        )
