"""
Frames: AMQP 0-9-1, section 4.2.3.
"""

from __future__ import annotations

from io import BytesIO
from struct import Struct
from typing import Any

from txamqp.connection import Frame, Heartbeat
from txamqp.connection import Method as MethodPayload
from txamqp.spec import Spec

from fabric.rpc.amqp.codec import Codec

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8

_START = Struct("!BHI")
_OVERHEAD = _START.size + 1
_END = 0xCE

BEAT = _START.pack(HEARTBEAT, 0, 0) + b"\xce"
"""A whole heartbeat frame."""

PROTOCOL = b"AMQP\x00\x00\x09\x01"
"""What a client of AMQP 0-9-1 says first."""


class BadFrame(Exception):
    """
    The other side does not speak AMQP, or a frame is larger than was agreed.
    """


class FrameBuffer:
    """
    Cuts a stream of bytes into frames.

    @ivar limit: the size of the largest frame that is taken, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """
        @return: type, channel and payload of each frame that is complete now.
        @raise BadFrame: what came can't be AMQP; the connection is of no more use.
        """
        if self._rest:
            data = self._rest + data
        frames = []
        at, end = 0, len(data)
        while end - at >= _OVERHEAD:
            kind, channel, size = _START.unpack_from(data, at)
            if size > self.limit:
                raise BadFrame(f"a frame of {size} bytes; {self.limit} were agreed")
            last = at + _START.size + size
            if last >= end:
                break
            if data[last] != _END:
                raise BadFrame("a frame without its end")
            frames.append((kind, channel, data[at + _START.size : last]))
            at = last + 1
        self._rest = data[at:]
        return frames


def pack_frame(kind: int, channel: int, payload: bytes) -> bytes:
    """A whole frame."""
    return _START.pack(kind, channel, len(payload)) + payload + b"\xce"


def pack_payload(frame: Frame) -> bytes:
    """
    One of txamqp's method or heartbeat frames as a whole frame.

    @raise TypeError, ValueError: an argument can't be said in AMQP.
    """
    if isinstance(frame.payload, Heartbeat):
        return BEAT
    method = frame.payload.method
    stream = BytesIO()
    codec = Codec(stream)
    codec.encode_short(method.klass.id)
    codec.encode_short(method.id)
    for field, argument in zip(method.fields, frame.payload.args, strict=True):
        codec.encode(field.type, argument)
    codec.flush()
    return pack_frame(METHOD, frame.channel, stream.getvalue())


def unpack_method(spec: Spec, payload: bytes) -> MethodPayload:
    """
    @raise BadFrame: a method that the specification in use does not have.
    """
    codec = Codec(BytesIO(payload))
    class_id, method_id = codec.decode_short(), codec.decode_short()
    try:
        method: Any = spec.classes.byid[class_id].methods.byid[method_id]
    except KeyError:
        raise BadFrame(f"method {method_id} of class {class_id} is not known") from None
    return MethodPayload(method, *[codec.decode(field.type) for field in method.fields])
