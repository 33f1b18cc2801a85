"""
Links to image files, receipts for them, and what disks are by their first bytes.
"""

from __future__ import annotations

import struct
from urllib.parse import urlsplit

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import Denied, InvalidValue, Unsupported
from fabric.image.header import disk_format
from fabric.image.interface import StoredFile
from fabric.objectstore.images import chosen
from fabric.objectstore.links import RECEIPT_SECONDS, Signer, image_path

DIGEST = "ab" * 32


class LinkTests(SynchronousTestCase):
    """
    A link allows what it says, for a while.
    """

    def setUp(self) -> None:
        """A signer."""
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.signer = Signer(lambda: b"secret", lambda: "http://store:3333", self.clock)

    def parts(self, link: str) -> tuple[str, str]:
        """Path and query."""
        split = urlsplit(link)
        return split.path, split.query

    def test_round(self) -> None:
        """What the link carries comes back."""
        path, query = self.parts(self.signer.link("PUT", image_path(DIGEST), 60, role="disk", odd="a=b&c d/é"))
        self.assertEqual(self.signer.check("PUT", path, query), {"role": "disk", "odd": "a=b&c d/é"})

    def test_head(self) -> None:
        """A link to get a file allows to ask for its headers only."""
        path, query = self.parts(self.signer.link("GET", image_path(DIGEST), 60))
        self.assertEqual(self.signer.check("HEAD", path, query), {})

    def test_nothing_else(self) -> None:
        """Another method, path, field or secret is refused, and so is what is no link at all."""
        path, query = self.parts(self.signer.link("GET", image_path(DIGEST), 60))
        self.assertRaises(Denied, self.signer.check, "PUT", path, query)
        self.assertRaises(Denied, self.signer.check, "GET", image_path("cd" * 32), query)
        self.assertRaises(Denied, self.signer.check, "GET", path, query + "&role=disk")
        self.assertRaises(Denied, self.signer.check, "GET", path, query + "&expires=9999999999")
        other = Signer(lambda: b"other", lambda: "", self.clock)
        self.assertRaises(Denied, other.check, "GET", path, query)
        for odd in ("", "signature", "signature=", "signature=é", "%", "expires=1&signature=" + "0" * 64, "\udcff=1"):
            self.assertRaises(Denied, self.signer.check, "GET", path, odd)

    def test_expires(self) -> None:
        """After its time a link is refused."""
        path, query = self.parts(self.signer.link("GET", image_path(DIGEST), 60))
        self.clock.advance(59)
        self.signer.check("GET", path, query)
        self.clock.advance(1)
        self.assertRaises(Denied, self.signer.check, "GET", path, query)

    def test_no_store(self) -> None:
        """A cloud without an object store gives no links."""
        signer = Signer(lambda: b"secret", lambda: "", self.clock)
        self.assertRaises(Unsupported, signer.link, "GET", image_path(DIGEST), 60)

    def test_receipt(self) -> None:
        """A receipt tells what the store has, until it is too old."""
        stored = StoredFile(DIGEST, "qcow2", 5, 1 << 30, used_at=self.clock.seconds())
        receipt = self.signer.receipt("disk", stored)
        self.assertEqual(self.signer.redeem(receipt), ("disk", stored))
        self.clock.advance(RECEIPT_SECONDS + 1)
        self.assertRaises(InvalidValue, self.signer.redeem, receipt)

    def test_forged_receipt(self) -> None:
        """A receipt that was changed, or made up, is refused."""
        receipt = self.signer.receipt("kernel", StoredFile(DIGEST, "raw", 5))
        for forged in (receipt.replace("kernel", "disk"), receipt[:-1], "", "::::::", "é"):
            self.assertRaises(InvalidValue, self.signer.redeem, forged)


class RangeTests(SynchronousTestCase):
    """
    Which part of a file a C{Range} asks for.
    """

    def test_parts(self) -> None:
        """From, up to, from until, and the last so many bytes."""
        cases = {"": (0, 10), "bytes=3-": (3, 10), "bytes=3-5": (3, 6), "bytes=3-99": (3, 10), "bytes=-4": (6, 10)}
        cases |= {"bytes=-99": (0, 10), "bytes=0-0": (0, 1)}
        self.assertEqual({header: chosen(header, 10) for header in cases}, cases)

    def test_not_there(self) -> None:
        """A part that begins behind the end is not there."""
        self.assertEqual([chosen(header, 10) for header in ("bytes=10-", "bytes=-0", "bytes=11-12")], [None] * 3)

    def test_ignored(self) -> None:
        """What means nothing, or several parts, is answered with the whole."""
        odd = ("bytes=", "bytes=-", "lines=1-2", "bytes=1-2,4-5", "bytes=5-3", "bytes=x-", "bytes=" + "9" * 40 + "-")
        self.assertEqual([chosen(header, 10) for header in odd], [(0, 10)] * len(odd))


def qcow2(version: int = 3, backing: int = 0, encryption: int = 0, features: int = 0, table: int = 512) -> bytes:
    """The beginning of a qcow2."""
    head = bytearray(1024)
    struct.pack_into(">4sIQ", head, 0, b"QFI\xfb", version, backing)
    struct.pack_into(">IIQ", head, 32, encryption, 1, table)
    struct.pack_into(">Q", head, 72, features)
    struct.pack_into(">I", head, 100, 104)
    return bytes(head)


class HeaderTests(SynchronousTestCase):
    """
    What a disk is by its first bytes.
    """

    def test_ours(self) -> None:
        """Disks are raw or whole qcow2s."""
        self.assertEqual(disk_format(qcow2(), 1024), "qcow2")
        self.assertEqual(disk_format(qcow2(version=2), 1024), "qcow2")
        self.assertEqual(disk_format(b"\0" * 1024, 1024), "raw")
        self.assertEqual(disk_format(b"", 0), "raw")

    def test_refers(self) -> None:
        """A qcow2 that names another file is refused, and so is an encrypted, corrupt or unknown one."""
        odd = (qcow2(backing=512), qcow2(encryption=1), qcow2(features=4), qcow2(features=2), qcow2(features=1 << 40))
        for head in (*odd, qcow2(version=4), qcow2(table=1024), qcow2()[:50]):
            self.assertRaises(InvalidValue, disk_format, head, len(head))

    def test_foreign(self) -> None:
        """Other formats are refused by name."""
        vdi = b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe"
        for head, name in ((b"KDMV....", "VMDK"), (b"conectix", "VHD"), (b"LUKS\xba\xbe", "LUKS"), (vdi, "VDI")):
            self.assertEqual(self.assertRaises(InvalidValue, disk_format, head, len(head)).value, name)
