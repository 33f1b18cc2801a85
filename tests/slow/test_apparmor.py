"""
Guests that AppArmor confines, as Debian's libvirt has it when the kernel has AppArmor.
"""

from __future__ import annotations

import shutil

from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.guest_image import idle_guest, tiny_guest
from fabric.testing.machine import Machine, trial_command

SECONDS = 3600.0
CONTRACT = ("confined", "attached", "disks_of_a_boot", "spawn_stopped", "capture", "rescue")
"""Tests of the contract in which guests open files."""

BEFORE = """set -e
export PATH=$PATH:/usr/sbin:/sbin TMPDIR=/var/lib/cloud-compute
modprobe -a br_netfilter tun loop ext4
mkdir -p /var/lib/cloud-compute
truncate -s 8G /run/disk && mkfs.ext4 -q /run/disk
mount -o loop /run/disk /var/lib/cloud-compute  # tmpfs has no direct access
chmod 711 /var/lib/cloud-compute
mount -t securityfs rules /sys/kernel/security
apparmor_parser -r /etc/apparmor.d/usr.sbin.libvirtd /etc/apparmor.d/usr.lib.libvirt.virt-aa-helper
"""
AFTER = """
status=$?
dmesg | grep DENIED
exit $status
"""


class AppArmorTests(TestCase):
    """
    One boot for all.
    """

    timeout = SECONDS + 120

    @inlineCallbacks
    def test_in_machine(self):
        """Guests run, have volumes, stop, are copied and rescued; the service's account needs no more for it."""
        path = "/usr/sbin:/sbin:/usr/bin:/bin"
        self.assertTrue(shutil.which("apparmor_parser", path=path), "there is no apparmor_parser, of Debian's apparmor")
        for guest in (tiny_guest, idle_guest):  # made here, where it is quick
            yield deferToThread(guest)
        module = "tests.slow.apparmor_in_machine."
        tests = [f"{module}ConfinedContract.test_{name}" for name in CONTRACT]
        tests += [module + "ConfinedCopyTests.test_another_size", module + "ConfinedAccountTests.test_does_all"]
        command = BEFORE + "set +e\n" + trial_command(*tests) + AFTER
        status, written = yield deferToThread(Machine(3072, security="apparmor").run, command, SECONDS)
        self.assertEqual(status, 0, written)
        self.assertIn("PASSED", written)
