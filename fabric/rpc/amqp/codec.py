"""
AMQP's data types as bytes.

Field tables follow RabbitMQ's reading of the specification
(U{https://www.rabbitmq.com/amqp-0-9-1-errata}, "Field types").
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from txamqp.codec import Codec as TxCodec

_INT32 = range(-(2**31), 2**31)

_FIXED = {
    b"b": "!b",
    b"B": "!B",
    b"s": "!h",
    b"u": "!H",
    b"I": "!i",
    b"i": "!I",
    b"l": "!q",
    b"T": "!Q",
    b"f": "!f",
    b"d": "!d",
}
"""The types of one number, and how that is packed."""


class Codec(TxCodec):  # type: ignore[misc]
    """
    txamqp's codec, with the strings counted in bytes and all types of table values.
    """

    def enc_str(self, fmt: str, s: str | bytes) -> None:
        """
        Write a string behind its length.

        @raise ValueError: it is longer than its length can say.
        """
        data = s.encode() if isinstance(s, str) else s
        if fmt == "!B" and len(data) > 255:
            raise ValueError(f"a short string has at most 255 bytes: {s[:40]!r}…")
        self.pack(fmt, len(data))
        self.write(data)

    def encode_table(self, tbl: dict[str, Any]) -> None:
        """
        Write a field table, or nothing at all when a value can't be said.

        @raise TypeError: AMQP has no type for a value.
        @raise ValueError: an integer of more than 64 bits, or a key too long.
        """
        self._encode_sized(_table(tbl))

    def decode_table(self) -> dict[str, Any]:
        """Read a field table."""
        end = self.decode_long() + self.nread
        result = {}
        while self.nread < end:
            key = self.decode_shortstr()
            result[key] = self._value()
        return result

    def _encode_sized(self, data: bytes) -> None:
        self.encode_long(len(data))
        self.write(data)

    def _value(self) -> Any:
        """Read a value behind its type."""
        kind = self.read(1)
        fmt = _FIXED.get(kind)
        if fmt is not None:
            return self.unpack(fmt)
        match kind:
            case b"S":
                return self.decode_longstr()
            case b"t":
                return self.decode_octet() != 0
            case b"F":
                return self.decode_table()
            case b"A":
                return self._array()
            case b"x":
                return self.decode_longbytes()
            case b"V":
                return None
            case b"D":
                scale = self.decode_octet()
                return self.unpack("!i") / 10**scale
        raise ValueError(f"no type of a table's value: {kind!r}")

    def _array(self) -> list[Any]:
        end = self.decode_long() + self.nread
        result = []
        while self.nread < end:
            result.append(self._value())
        return result


def _table(table: dict[str, Any]) -> bytes:
    """The inside of a table."""
    stream = BytesIO()
    codec = Codec(stream)
    for key, value in table.items():
        codec.encode_shortstr(key)
        _write_value(codec, value)
    return stream.getvalue()


def _write_value(codec: Codec, value: Any) -> None:
    """Write a value behind its type."""
    if value is None:
        codec.write(b"V")
    elif isinstance(value, bool):
        codec.write(b"t\1" if value else b"t\0")
    elif isinstance(value, int):
        _write_integer(codec, value)
    elif isinstance(value, float):
        codec.write(b"d")
        codec.pack("!d", value)
    elif isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        codec.write(b"S" if isinstance(value, str) else b"x")
        codec._encode_sized(data)
    elif isinstance(value, dict):
        codec.write(b"F")
        codec.encode_table(value)
    elif isinstance(value, list | tuple):
        codec.write(b"A")
        codec._encode_sized(_array(value))
    else:
        raise TypeError(f"AMQP has no type for {value!r}")


def _write_integer(codec: Codec, value: int) -> None:
    if value in _INT32:
        codec.write(b"I")
        codec.pack("!i", value)
    elif -(2**63) <= value < 2**63:
        codec.write(b"l")
        codec.pack("!q", value)
    else:
        raise ValueError(f"AMQP has no type for integers beyond 64 bits: {value}")


def _array(values: list[Any] | tuple[Any, ...]) -> bytes:
    """The inside of an array."""
    stream = BytesIO()
    codec = Codec(stream)
    for value in values:
        _write_value(codec, value)
    return stream.getvalue()
