"""
Identifiers: what a kind's ids look like, and how new ones are made.
"""

from __future__ import annotations

import os
import re

PREFIXES = {
    "instance": "i",
    "reservation": "r",
    "launch_template": "lt",
    "placement_group": "pg",
    "image": "ami",
    "kernel": "aki",
    "ramdisk": "ari",
    "group": "sg",
    "key_pair": "key",
    "network": "net",
    "volume": "vol",
    "snapshot": "snap",
    "address": "eipalloc",
    "association": "eipassoc",
    "floating": "pool",
    "project_range": "range",
    "rule": "sgr",
}
"""The prefix of each kind's ids, as EC2's users know them."""

_SHAPE = re.compile(r"^[a-z]+-([0-9a-f]{8}|[0-9a-f]{17})$")


def new_id(kind: str) -> str:
    """
    @return: a fresh random id of a kind, C{prefix-} and 17 hexadecimal digits.
    """
    return f"{PREFIXES[kind]}-{os.urandom(9).hex()[:17]}"


def is_id(kind: str, text: str) -> bool:
    """
    Whether C{text} has the shape of an id of C{kind}, the short form included.
    """
    return text.startswith(PREFIXES[kind] + "-") and _SHAPE.match(text) is not None


def new_request_id() -> str:
    """
    @return: a fresh request id in the form of a random UUID.
    """
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
