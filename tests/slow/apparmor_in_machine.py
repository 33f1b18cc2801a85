"""
The libvirt driver where AppArmor confines guests and libvirt, as on every Debian
host; C{test_apparmor} runs it in a machine whose kernel has that.  Guests do not
move here: two libvirts over one kernel share the rules of a guest that both have.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.compute import ComputeDriverContract
from tests.integration.compute_process import kept
from tests.integration.libvirt_guests import KeptFiles, LibvirtFixtures, Rack
from tests.integration.test_compute_libvirt_guests import CopyTests
from tests.integration.test_privileges import ComputeTests

PLACE = Path("/var/lib/cloud-compute")
"""Rules are about paths, so files are where services have theirs."""

SECONDS = 1500
CONFINED = Rack(stock=True, security="apparmor")


class ConfinedFixtures(LibvirtFixtures):
    """
    Guests whose files have the paths and names that they have on hosts.
    """

    timeout = SECONDS
    rack = CONFINED

    def begin(self):
        """One driver, and the image's files, whose names in a host's cache do not say what they are."""
        paths = {role: getattr(self.guest, role) for role in ("disk", "kernel", "ramdisk")}
        self.images = KeptFiles(**kept(self.mktemp(), paths))
        return super().begin()

    def mktemp(self):
        """A directory that guests can enter."""
        place = Path(tempfile.mkdtemp(dir=PLACE))
        place.chmod(0o711)
        return str(place)


class ConfinedContract(ConfinedFixtures, ComputeDriverContract, TestCase):
    """
    The driver passes the contract.
    """

    many = 2

    @inlineCallbacks
    def test_confined(self):
        """A guest's process is under rules of its own, which are enforced."""
        machine = self.machine(1)
        yield self.driver.spawn(machine)
        pid = yield deferToThread(self.libvirtd.pid_of, machine.id)
        label = Path(f"/proc/{pid}/attr/current").read_text()
        self.assertRegex(label, r"^libvirt-[0-9a-f-]{36} \(enforce\)")

    @inlineCallbacks
    def test_attached(self):
        """A guest that runs may have a volume's file as soon as it is attached."""
        machine = self.machine(1)
        yield self.driver.spawn(machine)
        yield self.driver.attach_disk(self.make_disk(1, machine.id, "/dev/vdb"))
        [found] = yield self.driver.domains()
        self.assertEqual(list(found.disks), ["/dev/vdb"])


class ConfinedCopyTests(ConfinedFixtures, CopyTests):
    """
    So are the places that volumes are copied into.
    """


class ConfinedAccountTests(ComputeTests):
    """
    The same as the service's own account.
    """

    security = "apparmor"
    seconds = SECONDS
