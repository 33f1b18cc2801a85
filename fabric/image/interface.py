"""
The files of images: what a host is told of one, and how it gets it.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface


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
