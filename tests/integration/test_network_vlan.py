"""
VLANs, in a machine with a kernel that has them.
"""

from __future__ import annotations

from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.machine import Machine, trial_command

SECONDS = 1300.0
ABOUT_LINKS = ("express", "express_changed", "plug_two_networks", "retire", "restart")
"""Tests of the contract in which VLANs matter; the others pass where the kernel is quicker."""


class VlanTests(TestCase):
    """
    One boot for all.
    """

    timeout = SECONDS + 120

    @inlineCallbacks
    def test_in_machine(self):
        """The driver's contract on a trunk, and projects apart on two hosts."""
        module = "tests.integration.vlan_in_machine."
        tests = [f"{module}VlanContract.test_{name}" for name in ABOUT_LINKS]
        tests += [module + "TrunkTests", module + "TwoHostsTests"]
        command = "modprobe -a 8021q br_netfilter && " + trial_command(*tests)
        status, written = yield deferToThread(Machine().run, command, SECONDS)
        self.assertEqual(status, 0, written)
        self.assertIn("PASSED", written)
