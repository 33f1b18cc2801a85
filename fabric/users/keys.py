"""
Access and secret keys.
"""

from __future__ import annotations

import base64
import os

from fabric import errors


def new_access_key() -> str:
    """A fresh access key: 20 of A-Z and 2-7, 100 random bits."""
    return base64.b32encode(os.urandom(13)).decode()[:20]


def new_secret_key() -> str:
    """A fresh secret key: 40 of A-Z a-z 0-9 + /, 240 random bits."""
    return base64.b64encode(os.urandom(30)).decode()


def is_key(text: str) -> bool:
    """
    Whether C{text} can be an access or secret key.
    """
    return 1 <= len(text) <= 128 and text.isascii() and text.isprintable() and " " not in text


def require_key(name: str, text: str) -> None:
    """
    @raise InvalidValue: C{text} can't be a key.  A secret one is not told.
    """
    if not is_key(text):
        raise errors.InvalidValue(name=name, value="", why="must be 1 to 128 of printable ASCII without spaces")
    if name == "access_key" and ":" in text:
        raise errors.InvalidValue(name=name, value=text, why="a colon would separate a project")
