"""
Volumes that are files.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.command import Commands
from fabric.errors import DriverFailure, InUse, NoCapacity
from fabric.testing.volume import COPY, ONE, SNAPSHOT, TWO, VolumeDriverContract
from fabric.volume.files import UNFINISHED, FileVolumes
from fabric.volume.interface import IVolumeDriver, VolumeOrder

Steps = Generator[Deferred[Any], Any, None]


class FileVolumesTests(VolumeDriverContract, TestCase):
    """The contract, and what is special to files."""

    timeout = 60

    def make_driver(self) -> IVolumeDriver:
        """Over one directory of this test."""
        if not hasattr(self, "directory"):
            self.directory = self.mktemp()
        return FileVolumes(self.directory, ("a", "b"), Commands(reactor), reactor, 10)

    def kill(self, driver: IVolumeDriver) -> None:
        """Its lock ends."""
        os.close(driver._lock)  # type: ignore[attr-defined]
        driver._lock = -1  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_alone(self) -> Steps:
        """A second volume service does not start in the same directory, and spoils nothing there."""
        yield self.driver.create(ONE)
        begun = self.path(TWO.id) + UNFINISHED
        open(begun, "wb").close()
        error = yield self.assertFailure(self.make_driver().start(), DriverFailure)
        self.assertIn("another volume service", error.what)
        yield self.driver.export(ONE.id, "a", 1)
        self.assertTrue(os.path.exists(begun))
        yield self.driver.stop()
        self.driver = self.make_driver()
        yield self.driver.start()
        self.assertEqual((yield self.volumes())[ONE.id].exported_to, "a")

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
        """While a guest has a volume its snapshot is of one moment, or it is said who can make one."""
        yield self.driver.create(ONE)
        yield self.driver.export(ONE.id, "a", 1)
        try:
            yield self.driver.snapshot(SNAPSHOT)
        except InUse as error:
            self.assertEqual((error.id, error.by), (ONE.id, "a"))
            self.assertEqual(self.snapshots(), [])
        else:
            yield self.assertSnapshots(SNAPSHOT)

    def snapshots(self) -> list[str]:
        """All files of snapshots."""
        return os.listdir(os.path.join(self.directory, "snapshots"))

    @inlineCallbacks
    def lent(self, size: int = 0) -> Generator[Deferred[Any], Any, dict[str, str]]:
        """A place for a snapshot of a volume that a guest has."""
        yield self.driver.create(ONE)
        yield self.write(self.driver, ONE.id, "old")
        yield self.driver.export(ONE.id, "a", 1)
        return (yield self.driver.lend(SNAPSHOT, size))  # type: ignore[no-any-return]

    @inlineCallbacks
    def qemu_img(self, *arguments: str) -> Steps:
        """What qemu, or a guest that broke out of it, does to a file."""
        finished = yield Commands(reactor).run(["qemu-img", *arguments])
        self.assertEqual(finished.status, 0, finished)

    @inlineCallbacks
    def test_taken(self) -> Steps:
        """What a host copied into its place is a snapshot, sparse and private; nothing else is left of it."""
        place = yield self.lent()
        self.assertEqual(os.stat(place["path"]).st_mode & 0o777, 0o600)
        yield self.qemu_img("convert", "-n", "-f", "raw", "-O", "qcow2", self.path(ONE.id), place["path"])
        for _ in range(2):
            yield self.driver.take(SNAPSHOT, place, True)
        yield self.driver.drop_lent(place)
        yield self.assertSnapshots(SNAPSHOT)
        self.assertEqual(self.snapshots(), [SNAPSHOT.id])
        found = os.stat(os.path.join(self.directory, "snapshots", SNAPSHOT.id))
        self.assertEqual((found.st_mode & 0o777, found.st_blocks * 512 < 1 << 20), (0o600, True))
        yield self.driver.create(COPY)
        yield self.assertContent(COPY.id, "old")

    @inlineCallbacks
    def test_taken_smaller(self) -> Steps:
        """A guest that sees less of its volume than there is has that copied; zeros follow."""
        place = yield self.lent(1 << 20)
        yield self.driver.take(SNAPSHOT, place, True)
        yield self.assertSnapshots(SNAPSHOT)

    @inlineCallbacks
    def test_taken_hostile(self) -> Steps:
        """A copy that names other files of the host is not opened."""
        place = yield self.lent()
        secret = os.path.abspath(self.path("secret"))
        with open(secret, "wb") as opened:
            opened.write(b"secret".ljust(1 << 20, b"\0"))
        path = place["path"]
        for odd in (("-F", "raw", "-b", secret), ("-o", f"data_file={secret},data_file_raw=on")):
            yield self.qemu_img("create", "-q", "-f", "qcow2", *odd, path, "1M")
            yield self.assertFailure(self.driver.take(SNAPSHOT, place, True), DriverFailure)
        for content in (b"raw", b""):
            with open(path, "wb") as opened:
                opened.write(content)
            yield self.assertFailure(self.driver.take(SNAPSHOT, place, True), DriverFailure)
        yield self.assertSnapshots()

    @inlineCallbacks
    def test_taken_in_vain(self) -> Steps:
        """What can't be lent, or taken, leaves nothing that takes room."""
        place = yield self.lent()
        run = self.driver._commands.run

        def broken(command: Sequence[str]) -> Deferred[Any]:
            return run(["false"] if command[0] == "sh" else command)

        self.patch(self.driver._commands, "run", broken)
        yield self.assertFailure(self.driver.take(SNAPSHOT, place, True), DriverFailure)
        yield self.assertFailure(self.driver.lend(SNAPSHOT), DriverFailure)
        yield self.driver.drop_lent(place)
        self.assertEqual(self.snapshots(), [])

    @inlineCallbacks
    def test_lent_elsewhere(self) -> Steps:
        """Only what was lent is taken, or removed."""
        place = yield self.lent()
        for path in (self.path(ONE.id), f"../volumes/{ONE.id}", SNAPSHOT.id):
            odd = place | {"path": path}
            yield self.assertFailure(self.driver.drop_lent(odd), DriverFailure)
            yield self.assertFailure(self.driver.take(SNAPSHOT, odd, True), DriverFailure)
        self.assertTrue(os.path.exists(self.path(ONE.id)))

    @inlineCallbacks
    def test_lent_and_killed(self) -> Steps:
        """A place that was lent before a crash is gone after it, whoever writes to it still."""
        yield self.lent()
        yield self.driver.stop()
        self.driver = self.make_driver()
        yield self.driver.start()
        self.assertEqual(self.snapshots(), [])

    @inlineCallbacks
    def test_quiet(self) -> Steps:
        """What a host has of which no guest runs is copied, unless it was given to one since it was asked for."""
        place = yield self.lent()
        yield self.driver.export(ONE.id, "a", 1)
        yield self.assertFailure(self.driver.take(SNAPSHOT, place, False), DriverFailure)
        place = yield self.driver.lend(SNAPSHOT)
        yield self.driver.take(SNAPSHOT, place, False)
        yield self.driver.create(COPY)
        yield self.assertContent(COPY.id, "old")

    @inlineCallbacks
    def test_answers_last(self) -> Steps:
        """Who has a volume, and how large it is, is on the disk before it is answered for."""
        synced: list[str] = []
        run = self.driver._commands.run

        def noting(command: Sequence[str]) -> Deferred[Any]:
            if command[0] != "sync":
                return run(command)
            return run(command).addCallback(lambda finished: (synced.append(os.path.basename(command[1])), finished)[1])

        yield self.driver.create(ONE)
        self.patch(self.driver._commands, "run", noting)
        yield self.driver.export(ONE.id, "a", 1)
        yield self.driver.unexport(ONE.id, "a", 2)
        yield self.driver.grow(VolumeOrder(ONE.id, ONE.size_gb + 1, 3))
        self.assertEqual(synced, ["exports", "exports", ONE.id])

    def held_back(self) -> tuple[list[str], Deferred[None]]:
        """Copies wait, once begun, for the second, and are noted in the first."""
        begun: list[str] = []
        go: Deferred[None] = Deferred()
        run = self.driver._commands.run

        def waiting(command: Sequence[str]) -> Deferred[Any]:
            if command[0] != "cp":
                return run(command)
            begun.append(command[-1])
            answer: Deferred[Any] = Deferred()
            go.addCallback(lambda _: run(command).addCallback(answer.callback))
            return answer

        self.patch(self.driver._commands, "run", waiting)
        return begun, go

    @inlineCallbacks
    def test_given_up(self) -> Steps:
        """
        A copy that nobody waits for any more is not begun a second time while
        it is written.
        """
        yield self.driver.create(ONE)
        begun, go = self.held_back()
        given_up = self.driver.snapshot(SNAPSHOT)
        given_up.cancel()
        yield self.assertFailure(given_up, CancelledError)
        again, late = self.driver.snapshot(SNAPSHOT), self.driver.delete_snapshot(SNAPSHOT.id)
        late.cancel()
        yield self.assertFailure(late, CancelledError)
        go.callback(None)
        yield again
        self.assertEqual(len(begun), 1)
        yield self.assertSnapshots(SNAPSHOT)

    @inlineCallbacks
    def test_given_meanwhile(self) -> Steps:
        """A volume that is copied is given to a guest at once: what was copied till then is no snapshot."""
        yield self.driver.create(ONE)
        self.held_back()
        copying = self.driver.snapshot(SNAPSHOT)
        yield self.driver.export(ONE.id, "a", 1)
        yield self.assertFailure(copying, DriverFailure)
        yield self.assertSnapshots()
        self.assertEqual(self.snapshots(), [])

    @inlineCallbacks
    def test_not_behind_a_copy(self) -> Steps:
        """A volume need not wait for another's copy, nor take the room that it will need; its own source stays."""
        yield self.driver.create(ONE)
        _, go = self.held_back()
        copying = self.driver.snapshot(SNAPSHOT)
        yield self.driver.create(TWO).addTimeout(5, reactor)
        yield self.assertFailure(self.driver.create(VolumeOrder("vol-00000000000000009", 7)), NoCapacity)
        deleting = self.driver.delete(ONE.id)
        self.assertTrue(os.path.exists(self.path(ONE.id)))
        go.callback(None)
        yield copying
        yield deleting
        yield self.assertSnapshots(SNAPSHOT)
        self.assertFalse(os.path.exists(self.path(ONE.id)))
        yield self.driver.create(VolumeOrder("vol-00000000000000009", 7))

    @inlineCallbacks
    def test_power_cut(self) -> Steps:
        """Content is on the disk before it has its name, and the name before it is told."""
        steps: list[tuple[str, ...]] = []
        run = self.driver._commands.run
        named = os.path.join(self.directory, "snapshots", SNAPSHOT.id)

        def noting(command: Sequence[str]) -> Any:
            steps.append((command[0], os.path.basename(command[-1]), str(os.path.exists(named))))
            return run(command)

        yield self.driver.create(ONE)
        self.patch(self.driver._commands, "run", noting)
        yield self.driver.snapshot(SNAPSHOT)
        fresh = SNAPSHOT.id + UNFINISHED
        self.assertEqual(steps, [("cp", fresh, "False"), ("sync", fresh, "False"), ("sync", "snapshots", "True")])
