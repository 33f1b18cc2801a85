"""
Images as entries: who may launch what.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.cloud.listings import Listings
from fabric.errors import AlreadyExists
from fabric.model.image import Image
from fabric.store.interface import IStore

SAMPLE_OWNER = "cloud"
"""The project that owns the sample images."""


class Images:
    """
    The entries; bytes are the image store's.
    """

    def __init__(self, store: IStore, listings: Listings) -> None:
        self._store = store
        self._listings = listings

    @inlineCallbacks
    def get(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Image]]:
        """
        Images that the caller may launch.

        @raise NotFound: one is not there, or not the caller's to use.
        """
        page = yield self._listings.records(caller, Image, ids=ids)
        return [stored.record for stored in page.items]

    @inlineCallbacks
    def ensure_samples(self, now: float) -> Generator[Deferred[Any], Any, None]:
        """
        Make the public sample images that every new cloud has.  Safe to repeat
        and to run on several controllers at once.
        """
        for images in _samples(now):
            transaction = self._store.transaction("first-start")
            for image in images:
                transaction.create(image)
            try:
                yield self._store.commit(transaction)
            except AlreadyExists:
                continue


def _samples(now: float) -> list[list[Image]]:
    kernel, ramdisk = "aki-00000000000000001", "ari-00000000000000001"
    parts = [
        Image(kernel, SAMPLE_OWNER, "sample-kernel", "sample/vmlinuz", type="kernel", public=True, created_at=now),
        Image(ramdisk, SAMPLE_OWNER, "sample-ramdisk", "sample/initrd", type="ramdisk", public=True, created_at=now),
    ]
    tiny = Image(
        "ami-00000000000000001",
        SAMPLE_OWNER,
        "sample-tiny",
        "sample/tiny.img",
        description="A tiny sample image with its own kernel and ramdisk",
        kernel=kernel,
        ramdisk=ramdisk,
        public=True,
        created_at=now,
    )
    server = Image(
        "ami-00000000000000002",
        SAMPLE_OWNER,
        "sample-server",
        "sample/server.qcow2",
        description="A sample whole-disk server image",
        public=True,
        created_at=now,
    )
    return [[*parts, tiny], [server]]
