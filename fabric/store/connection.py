"""
Connections to Redis: txredisapi's pool, with the hot path made short and every
call bounded in time.

txredisapi by itself waits for ever for a server that is down, spends a queue of
Deferreds on each command, and gives up for good after one refused password.  The
protocol here keeps its command set and its reconnecting pool, and replaces how
a command is sent and its reply is taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

import hiredis
import txredisapi
from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric.errors import Unavailable
from fabric.store.address import Address

Command = Sequence[str | bytes | int]

AWAY = frozenset(
    ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "MISCONF", "NOREPLICAS", "BUSY", "OOM", "NOAUTH", "WRONGPASS")
)
"""First words of the replies of a server that can't do its work at the moment."""

_NOTHING = object()
_pack: Callable[[tuple[str | bytes | int, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


class _Batch(Deferred[list[Any]]):
    """The replies of several commands that were sent together."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.wanted = wanted
        self.replies: list[Any] = []


class Connection(txredisapi.HiredisProtocol):  # type: ignore[misc]
    """
    One connection.

    @ivar waiting: a Deferred for each reply that is still to come, oldest
        first.
    """

    log = Logger()
    factory: _Factory
    _waiting_for_connect: list[Deferred[Any]]
    _waiting_for_disconnect: list[Deferred[Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waiting: deque[Deferred[Any]] = deque()
        self._replies = hiredis.Reader(
            protocolError=txredisapi.InvalidData, replyError=txredisapi.ResponseError, notEnoughData=_NOTHING
        )
        self._watch: Any = None
        self._asked = 0
        self._seen = 0

    def send(self, command: Command) -> Deferred[Any]:
        """
        @return: the reply, numbers as int and texts as bytes; fails with
            C{txredisapi.ResponseError} or L{Unavailable}.
        """
        reply: Deferred[Any] = Deferred()
        self.waiting.append(reply)
        self.transport.write(_pack(tuple(command)))
        if self._watch is None:
            self._watch_over()
        return reply

    def send_many(self, commands: Sequence[Command]) -> Deferred[list[Any]]:
        """
        Send several commands in one piece.

        @return: their replies; an error is an element, not a failure.
        """
        batch = _Batch(len(commands))
        self.waiting.append(batch)
        self.transport.write(b"".join([_pack(tuple(command)) for command in commands]))
        if self._watch is None:
            self._watch_over()
        return batch

    def execute_command(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """All of txredisapi's commands come through here."""
        return self.send(args)

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Give each complete reply to who waits for it."""
        replies, waiting = self._replies, self.waiting
        replies.feed(data)
        self._seen += 1
        while (reply := replies.gets()) is not _NOTHING:
            first = waiting[0]
            if type(first) is _Batch:
                first.replies.append(reply)
                if len(first.replies) == first.wanted:
                    waiting.popleft()
                    first.callback(first.replies)
                continue
            waiting.popleft()
            if isinstance(reply, txredisapi.ResponseError):
                first.errback(Failure(self._refusal(reply)))
            else:
                first.callback(reply)

    def _refusal(self, reply: Exception) -> Exception:
        """
        @return: L{Unavailable} for a server that can't work now.  One that is
            no longer the primary is left, so that the new one is found.
        """
        text = str(reply)
        if "READONLY " in text:
            self.transport.loseConnection()
        elif text.split(" ", 1)[0] not in AWAY and "-OOM " not in text and "-MISCONF " not in text:
            return reply
        return Unavailable("redis", text)

    def _watch_over(self) -> None:
        """
        See to it that a silent server is noticed.  One timer a connection,
        not one a command: it looks whether anything came since.
        """
        self._asked = self._seen
        self._watch = self.factory.clock.callLater(self.factory.timeout, self._look)

    def _look(self) -> None:
        self._watch = None
        if not self.waiting:
            return
        if self._asked == self._seen:
            self.transport.abortConnection()
        else:
            self._watch_over()

    @inlineCallbacks
    def connectionMade(self) -> Generator[Deferred[Any], Any, None]:
        """Log in, and see that this is a primary that is ready to work."""
        try:
            if self.password:
                yield self.auth(self.password, self.username)
            if self.dbid:
                yield self.select(self.dbid)
            yield self.send(("PING",))
            role = yield self.send(("ROLE",))
            if role[0] != b"master":
                raise txredisapi.ResponseError("READONLY not the primary")
        except (txredisapi.RedisError, Unavailable) as reason:
            self.log.warn("no use of the server yet: {reason}", reason=str(reason))
            self.transport.loseConnection()
            return
        self.connected = 1
        self._ready = True
        waiting, self._waiting_for_connect = self._waiting_for_connect, []
        for deferred in waiting:
            deferred.callback(self)

    def connectionLost(self, why: Any = None) -> None:
        """Fail what waits for a reply."""
        self.connected = 0
        self._ready = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        gone, self._waiting_for_disconnect = self._waiting_for_disconnect, []
        for deferred in gone:
            deferred.callback(self)
        lost, self.waiting = self.waiting, deque()
        for reply in lost:
            reply.errback(Unavailable("redis", "the connection was lost before the answer came"))


class _Factory(txredisapi.RedisFactory):  # type: ignore[misc]
    """
    Keeps the pool's connections open.

    @ivar arrived: called for each connection that became usable.
    """

    protocol = Connection
    initialDelay = 0.05
    maxDelay = 1.0

    def __init__(self, clock: Any, address: Address, size: int, timeout: float, arrived: Callable[[], None]) -> None:
        super().__init__(
            None,
            address.database,
            size,
            isLazy=True,
            charset=None,
            password=address.password or None,
            username=address.user or None,
            convertNumbers=False,
        )
        self.clock = clock
        self.timeout = timeout
        self.arrived = arrived

    def addConnection(self, connection: Connection) -> None:
        """Take a connection into use."""
        if self.disconnectCalled:
            connection.transport.loseConnection()
        elif connection.connected:
            connection.whenDisconnected().addCallback(self.delConnection)
            self.pool.append(connection)
            self.size = len(self.pool)
            self.arrived()


class RedisPool(Service):
    """
    A few connections to one server, opened again whenever they are lost.

    A command goes to the connection that waits for the fewest replies, so that
    a long listing does not stand before a short read.  While no connection is
    open, commands wait for one, for as long as the timeout says.

    @ivar round_trips: how many times something was sent.
    """

    log = Logger()

    def __init__(self, reactor: Any, address: Address, size: int = 4, timeout: float = 5.0) -> None:
        """
        @param timeout: seconds after which a silent server counts as lost.
        """
        self.round_trips = 0
        self.timeout = timeout
        self._reactor = reactor
        self._address = address
        self._size = size
        self._factory: _Factory | None = None
        self._connections: list[Connection] = []
        self._queue: list[Deferred[None]] = []

    def startService(self) -> None:
        """Begin to connect."""
        if self.running:
            return
        super().startService()
        factory = _Factory(self._reactor, self._address, self._size, self.timeout, self._arrived)
        self._factory, self._connections = factory, factory.pool
        factory.startConnecting(endpoint(self._reactor, self._address, self.timeout))

    def stopService(self) -> Deferred[None]:
        """Close all connections."""
        super().stopService()
        factory, self._factory, self._connections = self._factory, None, []
        queue, self._queue = self._queue, []
        for waiter in queue:
            waiter.errback(Unavailable("redis", "the store is being closed"))
        if factory is None:
            return succeed(None)
        for connection in list(factory.pool):
            connection.transport.abortConnection()
        done: Deferred[None] = factory.disconnect()
        return done

    def call(self, *command: str | bytes | int) -> Deferred[Any]:
        """
        Send one command.

        @raise Unavailable: no server answered in time.
        @raise txredisapi.ResponseError: the server refused the command.
        """
        self.round_trips += 1
        connection = self._idlest()
        if connection is None:
            return self._later(lambda: self._sure().send(command))
        return connection.send(command)

    def batch(self, commands: Sequence[Command]) -> Deferred[list[Any]]:
        """
        Send several commands in one piece; fails like L{call}, but a refused
        command is an element of the answer.
        """
        self.round_trips += 1
        connection = self._idlest()
        if connection is None:
            return self._later(lambda: self._sure().send_many(commands))
        return connection.send_many(commands)

    def _idlest(self) -> Connection | None:
        best, fewest = None, 1 << 30
        for connection in self._connections:
            count = len(connection.waiting)
            if count < fewest:
                if not count:
                    return connection
                best, fewest = connection, count
        return best

    def _sure(self) -> Connection:
        connection = self._idlest()
        if connection is None:
            raise Unavailable("redis", "the connection was lost")
        return connection

    def _arrived(self) -> None:
        queue, self._queue = self._queue, []
        for waiter in queue:
            waiter.callback(None)

    def _later(self, send: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        waiter: Deferred[None] = Deferred()
        self._queue.append(waiter)

        def too_late() -> None:
            self._queue.remove(waiter)
            waiter.errback(Unavailable("redis", "no connection"))

        timer = self._reactor.callLater(self.timeout, too_late)

        def stop_timer(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            return result

        waiter.addBoth(stop_timer)
        return waiter.addCallback(lambda _: send())


def endpoint(reactor: Any, address: Address, timeout: float) -> IStreamClientEndpoint:
    """
    @return: what connects to the server, or to whichever server Sentinel
        names as the primary at that moment.
    """
    if address.path:
        unix: IStreamClientEndpoint = UNIXClientEndpoint(reactor, address.path, timeout=timeout)
        return unix
    if address.service:
        return SentinelEndpoint(reactor, address, timeout)
    host, port = address.hosts[0]
    plain: IStreamClientEndpoint = HostnameEndpoint(reactor, host, port, timeout=timeout)
    return wrapClientTLS(optionsForClientTLS(host), plain) if address.tls else plain


@implementer(IStreamClientEndpoint)
class SentinelEndpoint:
    """
    Asks each Sentinel in turn where the primary is, and connects there.
    """

    def __init__(self, reactor: Any, address: Address, timeout: float) -> None:
        self._reactor = reactor
        self._address = address
        self._timeout = timeout

    @inlineCallbacks
    def connect(self, factory: Any) -> Generator[Deferred[Any], Any, Any]:
        """See L{IStreamClientEndpoint.connect}."""
        why: Exception = Unavailable("redis", "no Sentinel is named")
        for host, port in self._address.hosts:
            try:
                name, number = yield self._ask(host, port)
                primary = HostnameEndpoint(self._reactor, name, number, timeout=self._timeout)
                return (yield primary.connect(factory))
            except Exception as reason:
                why = reason
        raise why

    @inlineCallbacks
    def _ask(self, host: str, port: int) -> Generator[Deferred[Any], Any, tuple[str, int]]:
        where = HostnameEndpoint(self._reactor, host, port, timeout=self._timeout)
        question = yield where.connect(Factory.forProtocol(_Question))
        try:
            found = yield question.primary(self._address.service).addTimeout(self._timeout, self._reactor)
        finally:
            question.transport.loseConnection()
        if not found:
            raise Unavailable("redis", f"Sentinel at {host} knows no primary {self._address.service}")
        return found[0].decode(), int(found[1])


class _Question(txredisapi.HiredisProtocol):  # type: ignore[misc]
    """A connection to a Sentinel, for one question."""

    def __init__(self) -> None:
        super().__init__(charset=None, convertNumbers=False)

    def primary(self, service: str) -> Deferred[Any]:
        answer: Deferred[Any] = self.sentinel_get_master_addr_by_name(service)
        return answer
