"""
Volumes that are files.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.command import Commands
from fabric.errors import DriverFailure
from fabric.testing.volume import COPY, ONE, SNAPSHOT, VolumeDriverContract
from fabric.volume.files import UNFINISHED, FileVolumes
from fabric.volume.interface import IVolumeDriver

Steps = Generator[Deferred[Any], Any, None]


class FileVolumesTests(VolumeDriverContract, TestCase):
    """The contract, and what is special to files."""

    timeout = 60

    def make_driver(self) -> IVolumeDriver:
        """Over one directory of this test."""
        from twisted.internet import reactor

        if not hasattr(self, "directory"):
            self.directory = self.mktemp()
        return FileVolumes(self.directory, ("a", "b"), Commands(reactor), 10)

    def path(self, id: str) -> str:
        """A volume's file."""
        return os.path.join(self.directory, "volumes", id)

    def write(self, driver: IVolumeDriver, id: str, content: str) -> None:
        """Write to its beginning."""
        with open(self.path(id), "r+b") as opened:
            opened.write(content.encode().ljust(64, b"\0"))

    def read(self, driver: IVolumeDriver, id: str) -> str:
        """Read its beginning."""
        with open(self.path(id), "rb") as opened:
            return opened.read(64).rstrip(b"\0").decode()

    @inlineCallbacks
    def test_private(self) -> Steps:
        """Nobody else may read a volume or a snapshot."""
        yield self.driver.create(ONE)
        yield self.driver.snapshot(SNAPSHOT)
        for kind, id in (("volumes", ONE.id), ("snapshots", SNAPSHOT.id)):
            self.assertEqual(os.stat(os.path.join(self.directory, kind, id)).st_mode & 0o777, 0o600)

    @inlineCallbacks
    def test_sparse(self) -> Steps:
        """A volume, and one of a snapshot, take only what was written to."""
        yield self.driver.create(ONE)
        yield self.driver.snapshot(SNAPSHOT)
        yield self.driver.create(COPY)
        for id in (ONE.id, COPY.id):
            self.assertTrue(os.stat(self.path(id)).st_blocks * 512 < 1 << 20)

    @inlineCallbacks
    def test_unfinished(self) -> Steps:
        """What a crash left half made is no volume, and is removed at the start."""
        yield self.driver.stop()
        with open(self.path(ONE.id) + UNFINISHED, "wb") as opened:
            opened.write(b"half")
        self.driver = self.make_driver()
        yield self.driver.start()
        self.assertEqual((yield self.volumes()), {})
        self.assertEqual(os.listdir(os.path.join(self.directory, "volumes")), [])

    @inlineCallbacks
    def test_elsewhere(self) -> Steps:
        """A file can't be given to another host, and nothing is changed by trying."""
        yield self.driver.create(ONE)
        yield self.assertFailure(self.driver.export(ONE.id, "another", 5), DriverFailure)
        found = yield self.volumes()
        self.assertEqual(found[ONE.id].exported_to, "")

    @inlineCallbacks
    def test_snapshot_in_use(self) -> Steps:
        """While a guest has a volume its snapshot is of one moment, or there is none."""
        yield self.driver.create(ONE)
        yield self.driver.export(ONE.id, "a", 1)
        try:
            yield self.driver.snapshot(SNAPSHOT)
        except DriverFailure as error:
            self.assertIn("detach it first", error.what)
            holdings = yield self.driver.describe()
            self.assertEqual(holdings.snapshots, ())
            self.assertEqual(os.listdir(os.path.join(self.directory, "snapshots")), [])
        else:
            yield self.assertSnapshots(SNAPSHOT)
