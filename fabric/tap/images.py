"""
The image store, its door, its links, and the cache of a compute host.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache as once
from typing import Any

from twisted.internet.threads import deferToThread

from fabric.image.cache import ImageCache
from fabric.image.download import Downloader
from fabric.image.inspection import Inspector
from fabric.image.store import FileStore
from fabric.objectstore.images import Images
from fabric.objectstore.links import IMAGES, Signer
from fabric.objectstore.site import Site
from fabric.settings import Settings
from fabric.tap.listening import Listening, advertised
from fabric.tap.start import Step

WITHIN = "tcp:0:interface=127.0.0.1"
"""Where the door of C{twistd cloud} is if nothing else is said: its hosts are in the same process."""

IDLE_SECONDS = 60.0
"""How long a store may send nothing."""


def signer(reactor: Any, settings: Settings, base: Callable[[], str] | None = None) -> Signer:
    """
    What makes and checks links.

    @param base: the door's URL, where the settings do not tell.
    """
    return Signer(secret(settings), base or (lambda: where(settings)), reactor)


def where(settings: Settings) -> str:
    """
    @return: the door's URL; empty when the settings name none.
    """
    wanted = settings.objectstore
    return advertised(wanted.endpoint, wanted.url) if wanted.endpoint or wanted.url else ""


def secret(settings: Settings) -> Callable[[], bytes]:
    """
    @return: gives the secret that links are signed with; that of a file in
        the data directory, made by who asks first, where the settings have none.
    """
    if settings.objectstore.secret:
        return settings.objectstore.secret.encode
    path = os.path.join(settings.data_dir, "objectstore-secret")
    return once(lambda: _kept_secret(path))


def _kept_secret(path: str) -> bytes:
    """Whole or not there, also when two processes make it in the same moment."""
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    made = f"{path}.{os.getpid()}"
    with suppress(FileNotFoundError):
        if not os.path.getsize(path):  # as a power cut may leave it; nothing is no secret
            os.unlink(path)
    if not os.path.exists(path):
        with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
            opened.write(os.urandom(32).hex().encode())
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(made, path)
        os.unlink(made)
    with open(path, "rb") as opened:
        return opened.read()


def door(reactor: Any, settings: Settings, endpoint: str) -> tuple[Signer, list[Step]]:
    """
    @param endpoint: where it is if the settings do not say.
    @return: the links that it believes, and the steps that open it.
    """
    wanted = settings.objectstore
    inspector = Inspector(reactor, wanted.disk_gb << 30)
    largest = wanted.file_gb << 30
    directory = wanted.directory or os.path.join(settings.data_dir, "images")
    store = FileStore(directory, inspector, reactor, deferToThread, largest)
    links = signer(reactor, settings, lambda: listening.url(wanted.url))
    site = Site(reactor, {IMAGES: Images(store, links, largest).start})
    listening = Listening(reactor, wanted.endpoint or endpoint, site)
    return links, [Step("image store", store.start, store.stop), listening.step("object store")]


def cache(reactor: Any, settings: Settings) -> ImageCache:
    """
    The image files of this host.
    """
    directory = os.path.join(settings.data_dir, "hosts", settings.host_name, "images")
    downloader = Downloader(reactor, deferToThread, IDLE_SECONDS)
    return ImageCache(directory, downloader, reactor, deferToThread, settings.compute.image_cache_mb << 20)
