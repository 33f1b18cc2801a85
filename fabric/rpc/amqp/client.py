"""
A connection to the broker.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from importlib import resources
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp import spec as txspec
from txamqp.client import Closed
from txamqp.connection import Frame
from txamqp.message import Message
from txamqp.protocol import AMQClient

from fabric.rpc.amqp.channel import Channel
from fabric.rpc.amqp.delegate import Delegate
from fabric.rpc.amqp.frames import (
    BEAT,
    BODY,
    HEADER,
    HEARTBEAT,
    METHOD,
    PROTOCOL,
    BadFrame,
    FrameBuffer,
    pack_payload,
    unpack_method,
)

_DELIVER, _RETURN = b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x32"
_ACK, _NACK = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"

FRAME_MAX = 131072
"""In bytes; what RabbitMQ proposes, and what we do when it sets no limit."""

_SILENT_CHECKS = 4
"""Half heartbeat intervals in a row without a byte, after which the broker is given up."""


def load_spec() -> txspec.Spec:
    """The protocol as data, from the file beside this module."""
    return txspec.load_string(resources.files(__package__).joinpath("spec.xml").read_bytes())


class _Outgoing:
    """
    Stands in for txamqp's queue of frames: what can't be encoded fails at whoever
    sent it, where txamqp's writer would die and take the connection with it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, frame: Frame) -> None:
        """Send a frame now."""
        self._client.write(pack_payload(frame))


class Client(AMQClient):  # type: ignore[misc]
    """
    txamqp's client, reading and writing frames in its own way.

    @ivar body_limit: the largest piece of a body that fits a frame, in bytes.
    @ivar heartbeat: agreed interval in seconds; 0 for none.
    @ivar blocked: why the broker takes no messages now; empty while it does.
    """

    log = Logger()
    channelClass = Channel

    def __init__(self, clock: IReactorTime, vhost: str, spec: txspec.Spec, heartbeat: int, product: str) -> None:
        """
        @param heartbeat: proposed interval in seconds; 0 for none.
        @param product: told to the broker, for its operator.
        """
        AMQClient.__init__(self, Delegate(), vhost, spec, heartbeat=0, clock=clock)
        self.outgoing = _Outgoing(self)
        self.body_limit = FRAME_MAX - 8
        self.heartbeat = heartbeat
        self.product = product
        self.blocked = ""
        self.closed = False
        self.MAX_LENGTH = FRAME_MAX
        self._buffer = FrameBuffer(FRAME_MAX)
        self._channel_max = 2047
        self._last_channel = 0
        self._wrote = self._read = False
        self._silent_checks = 0
        self._beat = LoopingCall(self._check_heartbeat)
        self._beat.clock = clock

    def connectionMade(self) -> None:
        """Say which protocol this is; small messages are to leave at once."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.channels[0] = self.channelFactory(0, self.outgoing, self)
        self.write(PROTOCOL)

    def write(self, data: bytes) -> None:
        """Send bytes: whole frames only."""
        self._wrote = True
        self.transport.write(data)

    def send_frame(self, frame: Frame) -> None:
        """Send one of txamqp's frames."""
        self.write(pack_payload(frame))

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from the broker; any of them prove that it lives."""
        self._read = True
        try:
            for kind, number, payload in self._buffer.feed(data):
                if kind != HEARTBEAT:
                    self._frame(kind, number, payload)
        except Exception:
            self.log.failure("what the broker sent can't be understood; connection dropped")
            self.do_close(Failure())
            self.transport.abortConnection()

    def tuned(self, channel_max: int, frame_max: int, heartbeat: int) -> tuple[int, int, int]:
        """
        Agree on limits with the broker, 0 standing for none, and begin to watch it.

        @return: what is agreed, in the same order.
        """
        self._channel_max = channel_max or self._channel_max
        frame_max = min(frame_max or FRAME_MAX, FRAME_MAX)
        self.MAX_LENGTH = self._buffer.limit = frame_max
        self.body_limit = frame_max - 8
        both = self.heartbeat and heartbeat
        self.heartbeat = min(self.heartbeat, heartbeat) if both else self.heartbeat or heartbeat
        if self.heartbeat:
            self._beat.start(self.heartbeat / 2, now=False)
        return self._channel_max, frame_max, self.heartbeat

    @inlineCallbacks
    def open_channel(self) -> Generator[Deferred[Any], Any, Channel]:
        """
        @return: a new channel, open.
        @raise Closed: the connection is lost.
        """
        if self.closed:
            raise Closed("the connection is closed")
        number = self._free_channel()
        channel: Channel = self.channelFactory(number, self.outgoing, self)
        self.channels[number] = channel
        try:
            yield channel.channel_open()
        except BaseException:  # given up, perhaps: the broker may still open it
            self.let_go(channel)
            raise
        return channel

    @inlineCallbacks
    def close_channel(self, channel: Channel) -> Generator[Deferred[Any], Any, None]:
        """Close a channel; nothing when it is closed."""
        if channel.closed:
            return
        channel.on_closed = lambda reason: None
        with suppress(Closed, ValueError):  # lost meanwhile, or the answer to a method that was given up came first
            yield channel.channel_close(reply_code=200, reply_text="done")
        channel.closed_by_us()

    def let_go(self, channel: Channel) -> None:
        """Close a channel whenever the broker gets to it; nobody waits."""
        self.close_channel(channel).addErrback(
            lambda failure: self.log.failure("a channel could not be closed", failure=failure)
        )

    @inlineCallbacks
    def hang_up(self, seconds: float) -> Generator[Deferred[Any], Any, None]:
        """
        Close the connection in order, or after C{seconds} at once.
        """
        if self.closed:
            return
        goodbye: Deferred[Any] = self.channels[0].connection_close(reply_code=200, reply_text="goodbye")
        goodbye.addTimeout(seconds, self.clock)
        try:
            yield goodbye
        except Exception:
            self.transport.abortConnection()
        self.do_close(Closed("closed here"))

    def do_close(self, reason: Any) -> None:
        """The connection is lost or given up: fail all who wait on it."""
        if self.closed:
            return
        self.closed = True
        for channel in list(self.channels.values()):
            channel.close(reason)
        self.delegate.close(reason)

    def connectionLost(self, reason: Failure) -> None:
        """The transport is gone."""
        if self._beat.running:
            self._beat.stop()
        self.do_close(reason)
        self.disconnected.fire()

    def _frame(self, kind: int, number: int, payload: bytes) -> None:
        """Give a frame to its channel; one for a channel that was closed meanwhile is late."""
        channel = self.channels.get(number)
        if channel is None or channel.closed:
            return
        if kind == BODY:
            channel.content(payload)
        elif kind == HEADER:
            channel.header(payload)
        elif kind == METHOD:
            self._method(channel, payload)
        else:
            raise BadFrame(f"a frame of type {kind}")

    def _method(self, channel: Channel, payload: bytes) -> None:
        """The frequent methods by hand; the rest through txamqp."""
        which = payload[:4]
        if which == _DELIVER:
            channel.deliver(payload)
        elif which == _ACK:
            channel.confirmed(payload, True)
        elif which == _RETURN:
            channel.returned(payload)
        elif which == _NACK:
            channel.confirmed(payload, False)
        else:
            method = unpack_method(self.spec, payload)
            if method.method.response:
                channel.receive(method)
            else:
                self.delegate.dispatch(channel, Message(method.method, method.args))

    def _free_channel(self) -> int:
        """A number that has not been in use for as long as possible."""
        for _ in range(self._channel_max):
            self._last_channel = self._last_channel % self._channel_max + 1
            if self._last_channel not in self.channels:
                return self._last_channel
        raise Closed("all channels are in use")

    def _check_heartbeat(self) -> None:
        """
        Twice in an interval: send a beat when nothing else was sent, and give
        the broker up when nothing came for two intervals.  Counted in checks,
        not in seconds, so that a reactor that was held up blames itself.
        """
        if not self._wrote:
            self.transport.write(BEAT)
        self._wrote = False
        self._silent_checks = 0 if self._read else self._silent_checks + 1
        self._read = False
        if self._silent_checks >= _SILENT_CHECKS:
            self.log.warn("the broker is silent; connection dropped")
            self.transport.abortConnection()


class ClientFactory(Factory):
    """
    Makes a L{Client} for each connection.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, vhost: str, heartbeat: int, product: str) -> None:
        self._clock = clock
        self._vhost = vhost
        self._heartbeat = heartbeat
        self._product = product
        self._spec: txspec.Spec | None = None

    def buildProtocol(self, addr: Any) -> Client:
        """A client for a connection that was just made."""
        if self._spec is None:
            self._spec = load_spec()
        return Client(self._clock, self._vhost, self._spec, self._heartbeat, self._product)
