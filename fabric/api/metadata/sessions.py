"""
Session tokens of the metadata door's second version.

A token says until when it is good, and carries a code over that and the
instance's id.  So no door keeps any, every door of the cloud knows them all,
and one machine's is of no use to another.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

SHORTEST, LONGEST = 1, 21600
"""Seconds that a token may be asked for."""

_TIME = 8
_CODE = 32
_TEXT = 56
"""Characters of a token."""


def seconds_asked(text: str | None) -> int | None:
    """
    @param text: of the header that asks for a token.
    @return: for how many seconds; None where that can't be given.
    """
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= len(str(LONGEST))):
        return None
    seconds = int(text)
    return seconds if SHORTEST <= seconds <= LONGEST else None


def issue(secret: bytes, instance: str, now: float, seconds: int) -> str:
    """
    @return: a token for an instance.
    """
    ends = int(now + seconds).to_bytes(_TIME, "big")
    return urlsafe_b64encode(ends + _code(secret, instance, ends)).decode()


def good(secret: bytes, instance: str, now: float, token: str) -> bool:
    """
    Whether a token was issued to this instance and its time is not over.
    """
    if len(token) != _TEXT or not token.isascii():
        return False
    try:
        raw = urlsafe_b64decode(token)
    except ValueError:
        return False
    ends, code = raw[:_TIME], raw[_TIME:]
    return hmac.compare_digest(code, _code(secret, instance, ends)) and now <= int.from_bytes(ends, "big")


def _code(secret: bytes, instance: str, ends: bytes) -> bytes:
    return hmac.digest(secret, b"session\0" + instance.encode() + b"\0" + ends, sha256)[:_CODE]
