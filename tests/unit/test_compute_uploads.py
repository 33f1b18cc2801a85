"""
Copies of disks on their way to the object store: L{fabric.compute.captures}.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from fabric.compute.fake import FakeHypervisor
from fabric.compute.worker import ComputeWorker
from fabric.errors import DriverFailure, FabricError, Unavailable
from fabric.image.interface import CaptureOrder, IKeepsCaptures, IUploader
from fabric.model.codec import encode
from fabric.rpc.interface import Context
from fabric.testing.compute import machine
from tests.unit.test_compute_worker import Host

CONTEXT = Context(request_id="req-1")
LINK = "http://store/_images?signed"


@implementer(IUploader)
class Uploader:
    """
    Notes what it is to bring; fails as it is told.
    """

    def __init__(self) -> None:
        self.brought: list[tuple[str, bytes]] = []
        self.error: FabricError | None = None

    def upload(self, link: str, path: str) -> Deferred[str]:
        """See L{IUploader.upload}."""
        if self.error is not None:
            return fail(self.error)
        with open(path, "rb") as opened:
            self.brought.append((link, opened.read()))
        return succeed("receipt")


class UploadTests(SynchronousTestCase):
    """
    A host with one machine.
    """

    def setUp(self) -> None:
        """Boot it; note what is reported of images."""
        clock = Clock()
        self.directory = self.mktemp()
        self.host: Any = Host(clock, self.directory)
        self.reports: list[dict[str, Any]] = self.host.controller.image_reports
        self.uploader = Uploader()
        hypervisor: FakeHypervisor = self.host.hypervisor
        self.worker = ComputeWorker("one", hypervisor, self.host.queue, clock, uploader=self.uploader)
        self.order = machine(1)
        self.successResultOf(hypervisor.spawn(self.order))

    def capture(self, image: str, upload: str = LINK) -> list[tuple[str, str, str]]:
        """Give an order; what is reported: state, receipt, and the message."""
        del self.reports[:]
        self.successResultOf(
            self.worker.capture([encode(CaptureOrder(self.order.id, image, upload=upload))], context=CONTEXT)
        )
        self.host.clock.pump([0.1] * 50)
        return [(each["state"], each["receipt"], each["message"]) for each in self.reports]

    def left(self) -> list[str]:
        """Copies that are on the host."""
        return [name for name in os.listdir(self.directory) if name.startswith("captured-")]

    def test_interfaces(self) -> None:
        """The fakes provide what the interfaces say."""
        verifyObject(IKeepsCaptures, self.host.hypervisor)
        verifyObject(IUploader, self.uploader)

    def test_brought(self) -> None:
        """A copy is brought by the order's link; the receipt is reported, and the host keeps nothing."""
        self.assertEqual(self.capture("ami-1"), [("made", "receipt", "")])
        [(link, data)] = self.uploader.brought
        self.assertEqual((link, len(data), self.left()), (LINK, 512, []))

    def test_no_store(self) -> None:
        """Without a link the copy stays where it was made."""
        self.assertEqual(self.capture("ami-1", ""), [("made", "", "")])
        self.assertEqual(self.uploader.brought, [])

    def test_away(self) -> None:
        """While the store is away nothing is reported; the order that comes again finds the copy."""
        self.uploader.error = Unavailable("object store", "no answer")
        self.assertEqual(self.capture("ami-1"), [])
        self.uploader.error = None
        self.assertEqual(self.capture("ami-1"), [("made", "receipt", "")])

    def test_refused(self) -> None:
        """What the store does not take is reported as failed, with the reason, and does not stay on the host."""
        self.uploader.error = DriverFailure("not a disk")
        [(state, receipt, message)] = self.capture("ami-1")
        self.assertEqual((state, receipt, "not a disk" in message), ("failed", "", True))
        self.assertEqual(self.left(), [])
