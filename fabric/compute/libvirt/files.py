"""
The files of guests on this host: one directory each, that nobody else may look into.

Everything here blocks.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress

import attrs

from fabric.compute.interface import MachineOrder
from fabric.errors import DriverFailure

GIB = 1024**3

CONSOLE_BYTES = 65536
"""How much of a console is told."""

TOOL_SECONDS = 1500.0
"""Longest run of C{qemu-img}."""

_PATH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"


@attrs.frozen
class GuestFiles:
    """
    Where the files of one guest are.

    @ivar directory: absolute.
    """

    directory: str

    @property
    def root(self) -> str:
        """Its own disk: a qcow2 over the image's."""
        return os.path.join(self.directory, "root.qcow2")

    @property
    def rescue(self) -> str:
        """The disk that a rescue boots from."""
        return os.path.join(self.directory, "rescue.qcow2")

    @property
    def scratch(self) -> str:
        """Its ephemeral disk, raw."""
        return os.path.join(self.directory, "scratch.raw")

    @property
    def console(self) -> str:
        """What it wrote to its serial console since it was booted."""
        return os.path.join(self.directory, "console.log")


@attrs.frozen
class ImageFiles:
    """
    The files of an image, fetched.

    @ivar disk: path; empty for a machine that boots from a volume.
    @ivar format: of the disk, C{raw} or C{qcow2}.
    @ivar disk_bytes: what a guest sees of it.
    @ivar kernel, ramdisk: paths; empty for none.
    @ivar digests: of all of them.
    """

    disk: str = ""
    format: str = "raw"
    disk_bytes: int = 0
    kernel: str = ""
    ramdisk: str = ""
    digests: tuple[str, ...] = ()


class Store:
    """
    The directories of all guests.
    """

    def __init__(self, directory: str, user: str = "") -> None:
        """
        @param directory: of the guests; made when need be.
        @param user: who is to own the files; empty for whoever makes them.
        """
        self._directory = os.path.abspath(directory)
        self._user = user

    def of(self, id: str) -> GuestFiles:
        """@raise DriverFailure: that can't be an id."""
        if not id or "/" in id or id.startswith("."):
            raise DriverFailure(what=f"not a guest's id: {id!r}")
        return GuestFiles(os.path.join(self._directory, "guests", id))

    def make(self, id: str, anew: bool = False) -> GuestFiles:
        """
        Have the guest's directory, with a console's log.  That is made here,
        since who may read it is up to who makes it.

        @param anew: whether it is to be empty.
        """
        files = self.of(id)
        try:
            self._own_directory(self._directory, 0o711)
            self._own_directory(os.path.dirname(files.directory), 0o711)
            self._own_directory(files.directory, 0o700)
            if anew:
                for path in (files.console, *glob.glob(glob.escape(files.console) + ".[0-9]*")):
                    _empty(path)
            if not os.path.exists(files.console):
                self._place(files.console, _touch)
        except OSError as error:
            raise DriverFailure(what=f"cannot use {files.directory}: {error.strerror}") from error
        return files

    def furnish(self, machine: MachineOrder, image: ImageFiles, there: bool, rescue: bool) -> GuestFiles:
        """
        Have all files of a guest that does not run; disks that there are stay
        as they are.

        @param there: whether it was made before, and so must have its disk.
        @param rescue: whether it needs a rescue disk, too.
        """
        files = self.make(machine.id, True)
        if not machine.root_volume and not os.path.exists(files.root):
            if there:
                raise DriverFailure(what=f"the disk {files.root} is not there any more")
            self.overlay(files.root, image, machine.flavor.disk_gb)
        if machine.flavor.ephemeral_gb:
            self.scratch(files.scratch, machine.flavor.ephemeral_gb)
        if rescue:
            self.overlay(files.rescue, image, 0)
        return files

    def expect(self, machine: MachineOrder, image: ImageFiles) -> bool:
        """
        Have files for a guest that comes from another host, to be filled.

        @return: whether its own are here already, on storage that the hosts
            share.
        """
        files = self.of(machine.id)
        mark = os.path.join(files.directory, "expected")
        if os.path.exists(files.directory) and not os.path.exists(mark):
            return True
        self.make(machine.id)
        self._place(mark, _touch)
        self.furnish(machine, image, False, False)
        return False

    def end_rescue(self, id: str) -> None:
        """Have no rescue disk."""
        path = self.of(id).rescue
        if os.path.exists(path):
            os.remove(path)

    def overlay(self, path: str, image: ImageFiles, size_gb: int) -> None:
        """
        Have a disk that begins as the image, and is as large as that or
        C{size_gb}, whichever is more.  Nothing when it is there.
        """
        if not image.disk:
            raise DriverFailure(what="the image has no disk")
        size = max(image.disk_bytes, size_gb * GIB)
        base = ["-b", image.disk, "-F", image.format]
        sized = [str(size)] if size else []
        if not os.path.exists(path):
            self._place(path, lambda part: _tool("qemu-img", "create", "-q", "-f", "qcow2", *base, part, *sized))

    def scratch(self, path: str, size_gb: int) -> None:
        """Have an empty disk, with a file system where C{mke2fs} is at hand.  Nothing when it is there."""

        def create(part: str) -> None:
            with open(part, "wb") as file:
                file.truncate(size_gb * GIB)
            if shutil.which("mke2fs", path=_PATH):
                _tool("mke2fs", "-q", "-F", "-t", "ext4", "-L", "ephemeral0", part)

        if not os.path.exists(path):
            self._place(path, create)

    def remove(self, id: str) -> None:
        """Remove all files of a guest; nothing when there are none."""
        directory = self.of(id).directory
        if os.path.isdir(directory):
            shutil.rmtree(directory)

    def captured(self, image: str) -> str:
        """Where the copy of a disk is that became an image."""
        if not image or "/" in image or image.startswith("."):
            raise DriverFailure(what=f"not an image's id: {image!r}")
        directory = os.path.join(self._directory, "captures")
        self._own_directory(directory, 0o700)
        return os.path.join(directory, image + ".qcow2")

    def drop_captured(self, image: str) -> None:
        """Remove that copy, or what there is of it."""
        for end in ("", ".part"):
            with suppress(FileNotFoundError):
                os.unlink(self.captured(image) + end)

    def copy(self, source: str, target: str) -> None:
        """Copy a disk that no guest writes to, without what it is built on.  Nothing when it is there."""
        if not os.path.exists(target):
            self._place(target, lambda part: _tool("qemu-img", "convert", "-q", "-O", "qcow2", source, part))

    def blank(self, path: str, size: int) -> None:
        """Have an empty disk, a qcow2 of so many bytes, in place of whatever is there."""
        with suppress(FileNotFoundError):
            os.remove(path)
        _tool("qemu-img", "create", "-q", "-f", "qcow2", path, str(size))
        self.handed(path)

    def handed(self, path: str) -> None:
        """Have a file belong to whom all belong."""
        os.chmod(path, 0o600)
        if self._user:
            entry = pwd.getpwnam(self._user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def console(self, id: str) -> bytes:
        """The end of what the guest wrote, of the log that was put aside too."""
        path = self.of(id).console
        tail = _tail(path)
        if len(tail) < CONSOLE_BYTES:
            tail = (_tail(path + ".0") + tail)[-CONSOLE_BYTES:]
        return tail

    def total_gb(self) -> int:
        """@return: GiB of the whole file system."""
        os.makedirs(self._directory, exist_ok=True)
        found = os.statvfs(self._directory)
        return int(found.f_blocks * found.f_frsize // GIB)

    def _own_directory(self, path: str, mode: int) -> None:
        os.makedirs(path, mode=mode, exist_ok=True)
        if self._user and mode == 0o700:
            entry = pwd.getpwnam(self._user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def _place(self, path: str, create: Callable[[str], object]) -> None:
        """Have a file whole or not at all."""
        part = path + ".part"
        if os.path.exists(part):
            os.remove(part)
        create(part)
        self.handed(part)
        os.replace(part, path)


def _empty(path: str) -> None:
    """Have nothing in a log; who writes to it just now writes on."""
    with suppress(FileNotFoundError):
        try:
            os.truncate(path, 0)
        except PermissionError:  # one that virtlogd began
            os.remove(path)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def _tail(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - CONSOLE_BYTES))
            return file.read(CONSOLE_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise DriverFailure(what=f"cannot read {path}: {error.strerror}") from error


def _tool(*command: str) -> None:
    """Run a program that must succeed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TOOL_SECONDS,
            env=os.environ | {"PATH": _PATH, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverFailure(what=f"{command[0]}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        raise DriverFailure(what=f"{command[0]}: {said or done.returncode}")
