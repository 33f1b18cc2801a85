"""
Tests for L{fabric.compute.libvirt.domain} and L{fabric.compute.libvirt.notes}.

What domains look like is in C{golden/libvirt}; after a change that is meant,
C{python -m tests.unit.test_libvirt_domain} writes them anew.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import fromstring, tostring

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fabric.compute.interface import DiskOrder
from fabric.compute.libvirt.domain import (
    Abilities,
    alias_of,
    domain_xml,
    notes_of,
    secret_xml,
    serial_of,
    target_for,
    uuid_of,
    volume_element,
)
from fabric.compute.libvirt.files import GuestFiles, ImageFiles
from fabric.compute.libvirt.notes import read
from fabric.errors import DriverFailure
from fabric.settings import Libvirt
from fabric.testing.compute import machine

GOLDEN = Path(__file__).parent / "golden" / "libvirt"

QEMU = Abilities("qemu", "/usr/bin/qemu-system-x86_64")
KVM = Abilities("kvm", "/usr/bin/qemu-system-x86_64")
FILES = GuestFiles("/var/lib/cloud/guests/i-00000000000000001")
PARTS = ImageFiles("/c/disk", "raw", 2**26, "/c/kernel", "/c/ramdisk", ("d" * 64, "e" * 64, "f" * 64))
WHOLE = ImageFiles("/c/disk", "qcow2", 2**31, digests=("d" * 64,))

FEW = Libvirt(hotplug_ports=1)


def volume(number, device, **connection):
    """An order for a volume."""
    connection = connection or {"kind": "file", "path": f"/v/{number}"}
    return DiskOrder(f"vol-{number:017x}", machine(1).id, device, "here", 1, connection=connection)


ISCSI = volume(
    7, "/dev/sdf", kind="iscsi", host="10.0.0.9", port="3260", iqn="iqn.2010-10.org.example:v7", lun="1", user="u",
    secret="s",
)  # fmt: skip


def domains():
    """Every golden domain: its name and what it is made of."""
    plain = machine(1, 7)
    large = attrs.evolve(plain, flavor=attrs.evolve(plain.flavor, vcpus=4, ephemeral_gb=3), scratch_device="/dev/sdb")
    mixed = (volume(1, "/dev/sdf"), ISCSI, volume(2, "/dev/sdb", kind="block", path="/dev/cloud/v2"))
    from_volume = attrs.evolve(
        plain,
        flavor=attrs.evolve(plain.flavor, disk_gb=0),
        disks=(volume(3, "/dev/sdf"), volume(4, "/dev/sda1")),
        root_volume=volume(4, "").volume,
    )
    gpus = attrs.evolve(plain, flavor=attrs.evolve(plain.flavor, gpus=2))
    return {
        "kernel": (plain, FILES, PARTS, QEMU, FEW),
        "whole-disk": (plain, FILES, WHOLE, KVM, FEW),
        "volumes": (attrs.evolve(large, disks=mixed), FILES, WHOLE, KVM, FEW),
        "from-volume": (from_volume, FILES, ImageFiles(), KVM, FEW),
        "rescue": (attrs.evolve(plain, disks=mixed[:1]), FILES, PARTS, KVM, FEW, True),
        "gpus": (gpus, FILES, WHOLE, KVM, FEW, False, ("0000:3b:00.0", "0001:af:00.1")),
        "pc": (plain, FILES, WHOLE, QEMU, attrs.evolve(FEW, machine="pc", cpu="Nehalem", mtu=1450, cpu_shares=0)),
    }


class DomainTests(SynchronousTestCase):
    """
    Domain XML is a function of the order, the files, the host and the settings.
    """

    maxDiff = None

    def test_golden(self):
        """Domains look as they are to."""
        for name, parts in domains().items():
            self.assertEqual(domain_xml(*parts), (GOLDEN / f"{name}.xml").read_text(), name)

    def test_pure(self):
        """The same order makes the same domain."""
        for parts in domains().values():
            self.assertEqual(domain_xml(*parts), domain_xml(*parts))

    def test_hostile(self):
        """What users wrote stays what it is: text."""
        text = '</cloud:project><b a="\'">&\0'.replace("\0", "")
        order = attrs.evolve(machine(1), project=text)
        self.assertEqual(read(fromstring(domain_xml(order, FILES, WHOLE, KVM, FEW))).project, text)

    def test_says_of_itself(self):
        """Order, addresses, volumes and files are read again as they were written."""
        for name, parts in domains().items():
            order, _, image = parts[:3]
            self.assertEqual(read(fromstring(domain_xml(*parts))), notes_of(order, image, name == "rescue"), name)

    def test_strangers(self):
        """A domain that somebody else made says nothing."""
        self.assertEqual(read(fromstring("<domain><name>mine</name></domain>")), None)
        self.assertEqual(read(fromstring("<domain><metadata><x xmlns='urn:x'/></metadata></domain>")), None)

    def test_shares_bounded(self):
        """The weight of the largest machine is one that control groups know."""
        order = attrs.evolve(machine(1), flavor=attrs.evolve(machine(1).flavor, vcpus=500))
        self.assertIn("<shares>10000</shares>", domain_xml(order, FILES, WHOLE, KVM, FEW))


class VolumeTests(SynchronousTestCase):
    """
    How volumes are put into domains.
    """

    def test_unknown_kind(self):
        """A connection that libvirt has no way to make is refused by name."""
        error = self.assertRaises(DriverFailure, volume_element, volume(1, "/dev/sdf", kind="fake"), "vdb")
        self.assertIn("'fake'", error.what)

    def test_no_password_in_domains(self):
        """Passwords are told to libvirt as secrets, and are in no domain, nor in the secret's description."""
        whole = tostring(volume_element(ISCSI, "vdb"), encoding="unicode") + secret_xml(ISCSI.volume)
        self.assertNotIn(">s<", whole)
        self.assertNotIn('"s"', whole)

    def test_names(self):
        """A guest sees as much of a volume's id as virtio has room for; libvirt's names are its own."""
        self.assertEqual(serial_of("vol-0123456789abcdef0"), "vol0123456789abcdef0")
        self.assertEqual(alias_of("vol-1"), "ua-vol-1")
        self.assertEqual(uuid_of("i-1"), uuid_of("i-1"))
        self.assertNotEqual(uuid_of("i-1"), uuid_of("i-2"))

    def test_targets(self):
        """A volume is the letter that was asked for, if it is free, and the first free one else."""
        self.assertEqual(target_for("/dev/sdf", ()), "vdf")
        self.assertEqual(target_for("/dev/xvdc", ("vda",)), "vdc")
        self.assertEqual(target_for("/dev/sda1", ("vda",)), "vdb")
        self.assertEqual(target_for("", ("vda", "vdb")), "vdc")
        taken = [target_for("", ())]
        while len(taken) < 40:
            taken.append(target_for("/dev/sdf", taken))
        self.assertEqual(len(set(taken)), 40)


if __name__ == "__main__":
    for written, told in domains().items():
        (GOLDEN / f"{written}.xml").write_text(domain_xml(*told))
