"""
Instances that boot from volumes, broken off at every step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.cloud.assembly import QUOTAS, Rules
from fabric.cloud.captures import CaptureSpec
from fabric.cloud.images import ImageSpec
from fabric.cloud.launch import LaunchSpec
from fabric.cloud.volumes import VolumeSpec
from fabric.model.image import Image, ImageDisk
from fabric.model.instance import Instance
from fabric.model.record import ALL
from fabric.model.snapshot import Snapshot
from fabric.model.volume import Volume
from fabric.store.interface import Query
from fabric.testing.cloud import CALLER, CloudUnderTest, make_cloud
from tests.integration.test_cloud_volumes import BreakOnce, Broken

Steps = Generator[Deferred[Any], Any, Any]

ROOT = "/dev/xvda"

LAUNCH = (
    *("cloud.launch_written", "scheduler.received", "scheduler.claimed", "scheduler.ordered", "cloud.volume_placed"),
    *("volume.created", "volume.reported", "cloud.volume_report_written", "cloud.root_volume_ordered"),
    *("compute.received", "volume.exported", "compute.spawned", "compute.reported"),
    *("cloud.report_received", "cloud.report_written"),
)
"""What a launch passes."""

REST = (
    *("cloud.image_written", "compute.image_quiet", "volume.snapshot_made", "compute.image_captured"),
    *("cloud.image_reported", "cloud.stop_written", "compute.stopped", "cloud.start_written"),
    *("cloud.terminate_written", "compute.destroyed", "compute.detached", "volume.deleted"),
)
"""What is passed afterwards."""


class FaultTests(TestCase):
    """
    What is broken off at any step has its effect all the same, and leaves nothing.
    """

    timeout = 300
    cloud: CloudUnderTest

    @inlineCallbacks
    def begin(self) -> Steps:
        """A cloud with an image whose root is a snapshot."""
        self.faults = BreakOnce()
        rules = Rules(ready_keys=0, resend_after=0.4, quotas=QUOTAS)
        self.cloud = yield make_cloud(self, rules=rules, faults=self.faults)
        parts = self.cloud.cloud
        volume = yield parts.volumes.create(CALLER, VolumeSpec("nova", 2))
        yield self.every(Volume, "available")
        snapshot = yield parts.snapshots.create(CALLER, volume.id)
        yield self.every(Snapshot, "completed")
        yield parts.volumes.delete(CALLER, volume.id)
        yield self.none(Volume)
        spec = ImageSpec("rooted", root_device=ROOT, disks=(ImageDisk(ROOT, snapshot.id),))
        self.image = yield parts.images.register(CALLER, spec)
        self.snapshot = snapshot

    @inlineCallbacks
    def all(self, cls: Any) -> Steps:
        """All records of a kind."""
        page = yield self.cloud.store.records(cls, Query(cls.kind, (ALL,)))
        return [stored.record for stored in page.items]

    def every(self, cls: Any, state: str) -> Any:
        """Wait until there are some of a kind, all in a state."""

        @inlineCallbacks
        def there() -> Steps:
            found = yield self.all(cls)
            return found and all(each.state == state for each in found) and found

        return self.cloud.until(there)

    def none(self, cls: Any) -> Any:
        """Wait until there are none of a kind."""

        @inlineCallbacks
        def gone() -> Steps:
            return not (yield self.all(cls))

        return self.cloud.until(gone)

    @inlineCallbacks
    def tried(self, work: Any) -> Steps:
        """Ask; where that breaks off, what was written has its effect all the same."""
        with contextlib.suppress(Broken):
            yield work

    @inlineCallbacks
    def machine(self, state: str) -> Steps:
        """Wait for the state of the instance; its record."""

        @inlineCallbacks
        def there() -> Steps:
            found = [each for each in (yield self.all(Instance)) if each.id not in self.over]
            return found and found[0].state == state and found[0]

        return (yield self.cloud.until(there))

    @inlineCallbacks
    def life(self, whole: bool) -> Steps:
        """
        Launched, and terminated.

        @param whole: whether it is made into an image, stopped and started between.
        """
        parts = self.cloud.cloud
        self.over = {each.id for each in (yield self.all(Instance))}
        yield self.tried(parts.instances.run(CALLER, LaunchSpec(self.image.id, "m1.tiny")))
        record = yield self.machine("running")
        if whole:
            yield self.tried(parts.captures.create(CALLER, CaptureSpec(record.id, "captured")))
            yield self.captured()
            yield self.cloud.until(lambda: self.up(record.id))
            yield self.tried(parts.instances.stop(CALLER, [record.id]))
            yield self.machine("stopped")
            yield self.tried(parts.instances.start(CALLER, [record.id]))
            record = yield self.machine("running")
        self.assertEqual([disk.device for disk in record.disks], [ROOT])
        yield self.tried(parts.instances.terminate(CALLER, [record.id]))
        yield self.machine("terminated")

    @inlineCallbacks
    def up(self, id: str) -> Steps:
        """Whether a machine runs, on its host and as state has it."""
        found = yield self.cloud.hosts["node1"].hypervisor.domains()
        [record] = yield self.cloud.get(id)
        return record.state == "running" and [each.state for each in found if each.id == id] == ["running"]

    @inlineCallbacks
    def captured(self) -> Steps:
        """Wait for the image, then forget it and its snapshot."""
        parts = self.cloud.cloud

        @inlineCallbacks
        def there() -> Steps:
            found = [each for each in (yield self.all(Image)) if each.name == "captured"]
            return found and found[0].state == "available" and found[0]

        image = yield self.cloud.until(there)
        yield parts.images.deregister(CALLER, image.id)
        yield parts.snapshots.delete(CALLER, image.disks[0].snapshot)

    @inlineCallbacks
    def each(self, points: Any, whole: bool) -> Steps:
        """Live once for each point, broken off there."""
        yield self.begin()
        for point in points:
            self.faults.point, self.faults.broken = point, False
            try:
                yield self.life(whole)
                yield self.clean()
                self.assertTrue(self.faults.broken)
            except BaseException as error:
                raise AssertionError(f"{point}: {error!r}") from error
            finally:
                self.flushLoggedErrors(Broken)

    @inlineCallbacks
    def clean(self) -> Steps:
        """See that nothing but the image's snapshot is left anywhere."""
        yield self.none(Volume)

        @inlineCallbacks
        def gone() -> Steps:
            host = self.cloud.hosts["node1"]
            holdings = yield host.volumes.describe()
            held = [snapshot.id for snapshot in holdings.snapshots]
            machines = yield host.hypervisor.domains()
            return not holdings.volumes and held == [self.snapshot.id] and not machines

        yield self.cloud.until(gone)
        yield self.cloud.sound()

    def test_launch(self) -> Any:
        """A launch that is broken off anywhere boots from its root in the end."""
        return self.each(LAUNCH, False)

    def test_rest(self) -> Any:
        """So do images of it, stops, starts and ends."""
        return self.each(REST, True)
