"""
Pictures of displays, as people's programs read them.
"""

from __future__ import annotations

import re
import struct
import zlib

from fabric.errors import DriverFailure

_HEADER = re.compile(rb"P6\s+(\d+)\s+(\d+)\s+255\s")


def png(shown: bytes) -> bytes:
    """
    @param shown: PNG, or PPM as older qemus make it.
    @return: PNG.
    @raise DriverFailure: it is neither.
    """
    if shown.startswith(b"\x89PNG\r\n\x1a\n"):
        return shown
    header = _HEADER.match(shown)
    if header is None:
        raise DriverFailure(what="the picture of the display is neither PNG nor PPM")
    width, height = int(header[1]), int(header[2])
    begin, row = header.end(), 3 * width
    rows = b"".join(b"\0" + shown[begin + number * row : begin + (number + 1) * row] for number in range(height))
    parts = (
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(rows)),
        _chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
