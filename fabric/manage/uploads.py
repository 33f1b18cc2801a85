"""
Files put into the image store, by links that the admin door gives.
"""

from __future__ import annotations

import hashlib
import http.client
import os
from typing import Any
from urllib.parse import urlsplit

import attrs

from fabric.manage.client import SECONDS, Client, Refused, Unreachable

BLOCK = 1 << 20


@attrs.frozen
class _Answer:
    """
    Of the object store.
    """

    status: int
    receipt: str
    text: str


def upload(client: Client, path: str, role: str, project: str = "") -> str:
    """
    Have a file in the store, which is not sent when it is there already.

    @param role: C{disk}, C{kernel} or C{ramdisk}.
    @param project: for whom; the caller's own without it.
    @return: the store's receipt, by which an image may be made of it.
    @raise Refused: the store does not want it, or it can't be read.
    @raise Unreachable: there is no cloud, or no store.
    """
    try:
        with open(path, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            links = client.call("LinkImageFile", role=role, digest=digest, project=project or None)
            found = _ask("HEAD", links["find"], None)
            if found.status != 200:
                opened.seek(0)
                found = _ask("PUT", links["put"], opened)
    except OSError as error:
        raise Refused("InvalidValue", f"{path}: {error.strerror or error}") from None
    if found.status != 200 or not found.receipt:
        raise Refused("InvalidValue", f"{path}: {found.text or f'the object store answered {found.status}'}")
    return found.receipt


def _ask(method: str, link: str, body: Any) -> _Answer:
    parts = urlsplit(link)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=SECONDS, blocksize=BLOCK)
    headers = {"Content-Length": str(os.fstat(body.fileno()).st_size)} if body is not None else {}
    try:
        try:
            connection.request(method, f"{parts.path}?{parts.query}", body, headers)
        except (BrokenPipeError, ConnectionResetError):
            if body is None:
                raise
        response = connection.getresponse()  # also of a store that did not want to hear all
        text = response.read().decode("utf-8", "replace").strip()
        return _Answer(response.status, response.getheader("X-Receipt") or "", text)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"no answer from the object store at {parts.netloc}: {error}") from None
    finally:
        connection.close()
