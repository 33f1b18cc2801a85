"""
The files of images: what a host is told of one, how it gets it, and how it
makes one.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

from fabric.volume.interface import AwaitedSnapshot


@attrs.frozen
class FileOrder:
    """
    One file of an image, as a host is told of it.

    @ivar role: C{disk}, C{kernel} or C{ramdisk}.
    @ivar digest: SHA-256 of the file, in hex; files are kept by it, so two
        images of the same bytes are one file.
    @ivar format: C{raw} or C{qcow2} for a disk, else C{raw}.
    @ivar size: bytes of the file.
    @ivar disk_bytes: what a guest sees of a disk; 0 for other files.
    @ivar link: where the file is served: an URL that is signed and expires.
    """

    role: str
    digest: str
    format: str
    size: int
    disk_bytes: int = 0
    link: str = ""


@attrs.frozen
class CaptureOrder:
    """
    A machine whose own disk is to become an image.

    @ivar id: the instance's id.
    @ivar image: the image's id; drivers name the copy so.
    @ivar restart: whether to stop the guest for it, so that its file systems
        are whole.
    @ivar copies: of a machine that boots from a volume: what is made while it
        is stopped, instead of a copy of a disk of its own.
    @ivar upload: a link for POST by which the copy is brought to the object
        store; empty where there is none.
    """

    id: str
    image: str
    restart: bool = False
    copies: tuple[AwaitedSnapshot, ...] = ()
    upload: str = ""


@attrs.frozen
class ImageReport:
    """
    What a host says of one L{CaptureOrder}.

    @ivar state: C{made} or C{failed}.
    @ivar location: where the bytes are, in the image store's terms.
    @ivar receipt: the object store's, if the copy was brought there.
    """

    image: str
    state: str
    location: str = ""
    message: str = ""
    receipt: str = ""


class IKeepsCaptures(Interface):
    """
    A compute driver whose copies of disks are files, to be brought to the
    image store.
    """

    def captured_file(image: str) -> Deferred[str]:
        """
        @return: the path of the copy that C{capture} made.
        """

    def drop_captured(image: str) -> Deferred[None]:
        """
        The copy is elsewhere now, or of no use: remove it, or the part of it
        that was made.  Nothing when it is not there.
        """


class IUploader(Interface):
    """
    Brings files to the image store.
    """

    def upload(link: str, path: str) -> Deferred[str]:
        """
        Bring a file; the caller bounds the time.  Repeating is safe.

        @param link: for POST.
        @return: the store's receipt.
        @raise DriverFailure: it can't be read, or the store does not take it.
        @raise Unavailable: the store does not answer; later it may.
        """


class IImageCache(Interface):
    """
    The files of images on one host.
    """

    def fetch(file: FileOrder) -> Deferred[str]:
        """
        Have a file here, verified.  Fetched once for all who ask at the same
        time, from where an earlier attempt was cut off; kept while it is in
        use and as long as there is room.

        @return: its path, which nobody may write to.
        @raise DriverFailure: it can't be had, or is not what the digest says;
            the text says which.
        """

    def keep(digests: frozenset[str]) -> Deferred[None]:
        """
        Say which files guests of this host are built on: those stay, whatever
        the room; others may go, the ones fetched longest ago first.
        """


@attrs.frozen
class StoredFile:
    """
    A whole, verified file of the image store.

    @ivar format: C{raw} or C{qcow2}.
    @ivar size: bytes of the file.
    @ivar disk_bytes: what a guest sees of a disk; 0 for other files.
    @ivar used_at: when it was last put, or asked for to be used; seconds since 1970.
    """

    digest: str
    format: str
    size: int
    disk_bytes: int = 0
    used_at: float = 0.0


class IIncoming(Interface):
    """
    A file on its way into the store.
    """

    def write(data: bytes) -> Deferred[None]:
        """
        Take the next part; fires when it, and all before it, is written.  A
        sender that does not wait may have too much of it in memory.

        @raise InvalidValue: the file is longer than the store takes.
        """

    def finish() -> Deferred[StoredFile]:
        """
        It is whole: verify it, and keep it for good.

        @raise InvalidValue: it is not what its digest says, or not a disk that
            guests may be given; nothing of it is left.
        """

    def abandon() -> Deferred[None]:
        """Leave nothing of it.  Repeating is safe, and after L{finish} too."""


class IImageStore(Interface):
    """
    The files of all images, by the SHA-256 of what is in them.
    """

    def start() -> Deferred[None]:
        """
        Make it ready, and remove what dead processes left half done, not what
        others are about to bring.  Call once, before all else.
        """

    def stop() -> Deferred[None]:
        """Let go; what is on its way is lost.  Repeating is safe."""

    def receive(digest: str, role: str) -> IIncoming:
        """
        Begin to take a file.  Several may bring the same one.

        @param role: of L{FileOrder}; a C{disk} is looked into.
        @raise InvalidValue: that is no digest, or no role.
        """

    def find(digest: str, use: bool) -> Deferred[StoredFile]:
        """
        What there is of a file.

        @param use: whether it is about to be used, and so is to stay for a
            while though no image has it.
        @raise NotFound: the store has no such file.
        """

    def read(digest: str, start: int, length: int) -> Deferred[bytes]:
        """
        A part of a file; shorter at its end.

        @raise NotFound: the store has no such file.
        """

    def files() -> Deferred[list[StoredFile]]:
        """Every file."""

    def delete(digest: str, unused_since: float) -> Deferred[bool]:
        """
        Remove a file unless it was used later than that; C{inf} for anyway.

        @return: whether the store is without it now.
        """


class IStoreDoor(Interface):
    """
    The image store as other services see it.
    """

    def files() -> Deferred[list[StoredFile]]:
        """
        Every file; only digest, size and when it was used last are told.

        @raise Unavailable: it does not answer.
        """

    def delete(digest: str, unused_since: float) -> Deferred[None]:
        """
        Remove a file unless it was used later than that.  Repeating is safe.

        @raise Unavailable: it does not answer.
        """
