"""
The properties of a message, as bytes and back: the content header of class
basic in AMQP 0-9-1, section 4.2.6.1.
"""

from __future__ import annotations

from io import BytesIO
from struct import Struct
from typing import Any

import attrs

from fabric.rpc.amqp.codec import Codec

_HEADER = Struct("!HHQH")
_BASIC = 60

_STRINGS = (
    (0x8000, "content_type"),
    (0x4000, "content_encoding"),
    (0x2000, "headers"),
    (0x1000, "delivery_mode"),
    (0x0800, "priority"),
    (0x0400, "correlation_id"),
    (0x0200, "reply_to"),
    (0x0100, "expiration"),
    (0x0080, "message_id"),
    (0x0040, "timestamp"),
    (0x0020, "type"),
    (0x0010, "user_id"),
    (0x0008, "app_id"),
    (0x0004, "reserved"),
)
"""The flag of each property, in the order in which they are written."""


@attrs.define
class Properties:
    """
    Those of a message's properties that the queue uses.

    @ivar headers: None also for those that can't be read.
    @ivar delivery_mode: 2 for a message that outlives the broker.
    @ivar expiration: in milliseconds, as text.
    """

    headers: dict[str, Any] | None = None
    delivery_mode: int = 0
    correlation_id: str = ""
    reply_to: str = ""
    expiration: str = ""
    message_id: str = ""
    user_id: str = ""


def pack_header(size: int, properties: Properties) -> bytes:
    """
    The payload of a content header frame for a body of C{size} bytes.

    @raise TypeError: a header can't be said in AMQP.
    @raise ValueError: a property is too long.
    """
    flags = 0
    parts = [b""]
    if properties.headers is not None:
        flags |= 0x2000
        parts.append(_packed_table(properties.headers))
    if properties.delivery_mode:
        flags |= 0x1000
        parts.append(bytes((properties.delivery_mode,)))
    if properties.correlation_id:
        flags |= 0x0400
        parts.append(short(properties.correlation_id))
    if properties.reply_to:
        flags |= 0x0200
        parts.append(short(properties.reply_to))
    if properties.expiration:
        flags |= 0x0100
        parts.append(short(properties.expiration))
    if properties.message_id:
        flags |= 0x0080
        parts.append(short(properties.message_id))
    if properties.user_id:
        flags |= 0x0010
        parts.append(short(properties.user_id))
    parts[0] = _HEADER.pack(_BASIC, 0, size, flags)
    return b"".join(parts)


def unpack_header(payload: bytes) -> tuple[int, Properties]:
    """
    @return: the size of the body, and the properties.
    """
    _, _, size, flags = _HEADER.unpack_from(payload)
    properties = Properties()
    at = _HEADER.size
    for flag, name in _STRINGS:
        if not flags & flag:
            continue
        if flag == 0x2000:
            end = at + 4 + int.from_bytes(payload[at : at + 4], "big")
            properties.headers = _read_table(payload[at:end])
        elif flag in (0x1000, 0x0800):
            end = at + 1
            if flag == 0x1000:
                properties.delivery_mode = payload[at]
        elif flag == 0x0040:
            end = at + 8
        else:
            end = at + 1 + payload[at]
            if flag & 0x0790:
                setattr(properties, name, payload[at + 1 : end].decode("utf-8", "surrogateescape"))
        at = end
    return size, properties


def short(text: str) -> bytes:
    """
    A short string behind its length.

    @raise ValueError: it has more than 255 bytes.
    """
    data = text.encode("utf-8", "surrogateescape")
    if len(data) > 255:
        raise ValueError(f"a short string has at most 255 bytes: {text[:40]!r}…")
    return bytes((len(data),)) + data


def _read_table(data: bytes) -> dict[str, Any] | None:
    """
    The headers; None for those that can't be read, as tables in tables without
    end.  The broker takes them: were that an error of the connection, the
    message would come again over the next one, and over each after that.
    """
    try:
        return Codec(BytesIO(data)).decode_table()
    except Exception:
        return None


def _packed_table(table: dict[str, Any]) -> bytes:
    stream = BytesIO()
    Codec(stream).encode_table(table)
    return stream.getvalue()
