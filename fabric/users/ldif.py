"""
Entries as LDIF text (RFC 2849), the records of content only.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from itertools import groupby

Pairs = list[tuple[bytes, bytes]]
"""Names and values of an entry, in order; the first is C{dn}."""

_HEADER = b"# The people of a cloud.  Change this file only while nothing serves it.\n"


class Malformed(ValueError):
    """The text is not LDIF.  The message says what is wrong, and where."""


def render(entries: Iterable[Pairs]) -> bytes:
    """
    @return: the text of entries, one line a value, unfolded.
    """
    return _HEADER + b"".join(map(render_entry, entries))


def render_entry(pairs: Pairs) -> bytes:
    """
    @return: the text of one entry, with the empty line before it.
    """
    return b"\n" + b"".join(_line(name, value) for name, value in pairs)


def parse(text: bytes) -> list[Pairs]:
    """
    @raise Malformed: such as for a text that was cut off within a value.
    """
    if text and not text.endswith(b"\n"):
        raise Malformed("the last line has no end: the file was cut off")
    entries = []
    for empty, lines in groupby(_unfolded(text), key=lambda line: not line[1]):
        if empty:
            continue
        pairs = [_pair(number, line) for number, line in lines]
        if pairs[0][0].lower() == b"version":
            del pairs[0]
        if pairs and pairs[0][0].lower() != b"dn":
            raise Malformed(f"{pairs[0][0]!r} where an entry should begin with dn")
        if pairs:
            entries.append(pairs)
    return entries


def _line(name: bytes, value: bytes) -> bytes:
    safe = value.isascii() and value[:1] not in (b" ", b":", b"<") and not value.endswith(b" ")
    if safe and not any(bad in value for bad in (b"\0", b"\r", b"\n")):
        return name + b": " + value + b"\n"
    return name + b":: " + base64.b64encode(value) + b"\n"


def _unfolded(text: bytes) -> Iterator[tuple[int, bytes]]:
    """
    The logical lines with the number of the line where each begins.
    """
    held: tuple[int, bytes] | None = None
    for number, line in enumerate(text.split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if line.startswith(b" ") and held is not None:
            held = held[0], held[1] + line[1:]
            continue
        if held is not None and not held[1].startswith(b"#"):
            yield held
        held = number, line
    if held is not None:
        yield held


def _pair(number: int, line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not name:
        raise Malformed(f"line {number} has no name and colon")
    if value.startswith(b"<"):
        raise Malformed(f"line {number} names a file, which is not read")
    if not value.startswith(b":"):
        return name, value.lstrip(b" ")
    try:
        return name, base64.b64decode(value[1:].strip(b" "), validate=True)
    except binascii.Error as why:
        raise Malformed(f"line {number} is not base64: {why}") from why
