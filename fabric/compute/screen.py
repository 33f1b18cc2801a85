"""
A small real picture of text: what a fake guest's display shows.

PNG needs no more than C{zlib}; letters are of the 5 by 7 dots that character
displays have.

@see: U{https://www.w3.org/TR/png/}
"""

from __future__ import annotations

import struct
import zlib

COLUMNS, ROWS = 80, 25
WIDTH, HEIGHT = COLUMNS * 6, ROWS * 9

_COLUMNS_OF_DOTS = bytes.fromhex(
    """
    0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649562050 0008070300
    001c224100 0041221c00 2a1c7f1c2a 08083e0808 0080703000 0808080808 0000606000 2010080402
    3e5149453e 00427f4000 7249494946 2141494d33 1814127f10 2745454539 3c4a494931 4121110907
    3649494936 464949291e 0000140000 0040340000 0008142241 1414141414 0041221408 0201590906
    3e415d594e 7c1211127c 7f49494936 3e41414122 7f4141413e 7f49494941 7f09090901 3e41415173
    7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f021c027f 7f0408107f 3e4141413e
    7f09090906 3e4151215e 7f09192946 2649494932 03017f0103 3f4040403f 1f2040201f 3f4038403f
    6314081463 0304780403 6159494d43 007f414141 0204081020 004141417f 0402010204 4040404040
    0003070800 2054547840 7f28444438 3844444428 384444287f 3854545418 00087e0902 18a4a49c78
    7f08040478 00447d4000 2040403d00 7f10284400 00417f4000 7c04780478 7c08040478 3844444438
    fc18242418 18242418fc 7c08040408 4854545424 04043f4424 3c4040207c 1c2040201c 3c4030403c
    4428102844 4c9090907c 4464544c44 0008364100 0000770000 0041360800 0201020402
    """
)
"""Five bytes for each printable ASCII character from the space on, a bit a dot, the lowest on top."""


def picture(text: str) -> bytes:
    """
    @return: a PNG of the text's last lines, white on black.
    """
    lines = [
        line[start : start + COLUMNS] for line in text.splitlines() for start in range(0, max(1, len(line)), COLUMNS)
    ]
    rows = bytearray()
    for line in (lines[-ROWS:] + [""] * ROWS)[:ROWS]:
        rows += _dots(line)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 1, 0, 0, 0, 0)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(bytes(rows))), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _dots(line: str) -> bytes:
    """Nine rows of dots of one line, each after the byte that says that it is not filtered."""
    letters = [_letter(character) for character in line.ljust(COLUMNS)]
    found = bytearray()
    for row in range(9):
        bits = "".join("1" if column >> row & 1 else "0" for letter in letters for column in (*letter, 0))
        found += b"\0" + int(bits, 2).to_bytes(WIDTH // 8, "big")
    return bytes(found)


def _letter(character: str) -> bytes:
    at = ord(character) - 32
    if not 0 <= at < 95:
        at = 0
    return _COLUMNS_OF_DOTS[at * 5 : at * 5 + 5]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
