"""
Tests for L{fabric.network.linux}: real bridges, DHCP servers and packet filters.
"""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.linux import LinuxHost
from fabric.testing.network import NetworkDriverContract


class LinuxNetworkContract(NetworkDriverContract, TestCase):
    """
    The driver passes the contract, in a namespace of its own.
    """

    timeout = 60

    def make_driver(self):
        """One over this test's namespace and directory."""
        return self.host.driver()

    @inlineCallbacks
    def setUp(self):
        """Have a host."""
        self.host = LinuxHost(reactor, self.mktemp())
        self.addCleanup(deferToThread, self.host.remove)
        yield deferToThread(self.host.make)
        yield super().setUp()
