"""
The queue over RabbitMQ.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, gatherResults, inlineCallbacks
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.interface import InterfaceClass

from fabric.errors import Unavailable
from fabric.rpc.amqp.calls import Calls, Tally
from fabric.rpc.amqp.casts import Cast, Casts
from fabric.rpc.amqp.channel import Delivery
from fabric.rpc.amqp.client import Client, ClientFactory
from fabric.rpc.amqp.letters import Undertaker, letter_headers
from fabric.rpc.amqp.link import Link
from fabric.rpc.amqp.serving import Server
from fabric.rpc.amqp.subscription import Subscription
from fabric.rpc.amqp.topology import Topology
from fabric.rpc.dead import IDeadLetters, OnDead
from fabric.rpc.dispatch import Dispatcher
from fabric.rpc.envelope import encode_request
from fabric.rpc.interface import Address, Context, IListener, IQueue
from fabric.rpc.measure import QueueMetrics
from fabric.rpc.remote import Remotes


@implementer(IQueue, IDeadLetters)
class AMQPQueue:
    """
    An L{IQueue} over one connection to RabbitMQ, which it makes again whenever
    it is lost, with all that was set up over it.

    @ivar connections: how many connections it has had.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: str,
        username: str,
        password: str,
        vhost: str = "/",
        exchange: str = "fabric",
        metrics: QueueMetrics | None = None,
        heartbeat: int = 20,
        queue_type: str = "quorum",
        patience: float = 10.0,
        max_deliveries: int = 5,
        retry_seconds: float = 1.0,
        max_reconnect_seconds: float = 30.0,
    ) -> None:
        """
        @param endpoint: of the broker, as a client endpoint string:
            C{tcp:HOST:5672}, or C{tls:HOST:5671:trustRoots=/etc/…}.
        @param heartbeat: proposed interval in seconds; a broker that is silent
            for two intervals is given up.
        @param queue_type: C{quorum} or C{classic}, for the queues made here.
        @param patience: seconds for which a cast waits for its confirmation, and
            a call for a connection.
        @param max_deliveries: how often a cast that fails is tried in all.
        @param retry_seconds: before the second try; doubled for each further one.
        @param max_reconnect_seconds: the longest pause between two attempts to connect.
        """
        self.connections = 0
        self._clock = reactor
        self._username = username
        self._password = password
        self._metrics = metrics
        self._max_deliveries = max_deliveries
        self._retry_seconds = retry_seconds
        self._topology = Topology(exchange, queue_type)
        self._tally = Tally()
        self._calls = Calls(reactor, exchange, username, patience, self._tally, metrics)
        self._casts = Casts(reactor, username, patience, self._tally)
        self._remotes = Remotes()
        self._known: set[str] = set()
        self._subscriptions: list[Subscription] = []
        self._client: Client | None = None
        self._first: list[Deferred[None]] = []
        self._stopped = False
        self._link = Link(
            reactor,
            clientFromString(reactor, endpoint),
            ClientFactory(reactor, vhost, heartbeat, "fabric"),
            max_reconnect_seconds,
            self._prepare,
            self._up,
            self._down,
        )

    @property
    def sent(self) -> int:
        """How many messages were sent through it, replies included."""
        return self._tally.sent

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached now."""
        return self._client is not None

    def start(self) -> Deferred[None]:
        """
        Begin to connect; also done by the first use.

        @return: fires when there is a connection.
        """
        self._begin()
        deferred: Deferred[None] = Deferred()
        if self._client is not None:
            deferred.callback(None)
        else:
            self._first.append(deferred)
        return deferred

    def caller(self, interface: InterfaceClass, address: Address, context: Context) -> Any:
        """See L{IQueue.caller}."""
        return self._remotes.remote(interface, partial(self._call, address, context))

    def caster(self, interface: InterfaceClass, address: Address, context: Context) -> Any:
        """See L{IQueue.caster}."""
        return self._remotes.remote(interface, partial(self._cast, address, context))

    def listen(self, address: Address, interface: InterfaceClass, worker: Any, prefetch: int) -> Deferred[IListener]:
        """See L{IQueue.listen}."""
        dispatcher = Dispatcher(address.topic, interface, worker, self._clock, self._metrics)
        key = address.routing_key
        self._known.add(key)
        server = Server(
            self._clock,
            self._topology.exchange,
            self._username,
            dispatcher,
            self._bury,
            self._tally,
            self._max_deliveries,
            self._retry_seconds,
        )
        declare = partial(self._declare_place, key)
        server.subscription = self._subscription(key, prefetch, declare, server)
        return self._subscribe(server.subscription)

    def listen_dead(self, callback: OnDead) -> Deferred[IListener]:
        """See L{IDeadLetters.listen_dead}."""
        undertaker = Undertaker(callback, self._retry_seconds)
        undertaker.subscription = self._subscription(self._topology.dead, 8, self._topology.declare_dead, undertaker)
        return self._subscribe(undertaker.subscription)

    def depths(self) -> Deferred[dict[str, int]]:
        """See L{IQueue.depths}."""
        if self._client is None:
            return fail(Unavailable(service="queue", why="no connection to the broker"))
        return self._topology.depths(self._client, sorted(self._known))

    @inlineCallbacks
    def ping(self) -> Generator[Deferred[Any], Any, None]:
        """See L{IQueue.ping}."""
        client = self._client
        if client is None:
            raise Unavailable(service="queue", why="no connection to the broker")
        if client.blocked:
            raise Unavailable(service="queue", why=f"the broker takes no messages now: {client.blocked}")
        channel = yield client.open_channel()
        yield client.close_channel(channel)

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """See L{IQueue.stop}."""
        yield gatherResults([subscription.stop() for subscription in list(self._subscriptions)])
        if self._client is not None:
            yield self._casts.finished()
        self._stopped = True
        self._calls.stop()
        self._casts.stop()
        self._client = None
        yield self._link.stop()
        waiting, self._first = self._first, []
        for deferred in waiting:
            deferred.errback(Unavailable(service="queue", why="the queue is stopped"))

    def _begin(self) -> None:
        if not self._stopped:
            self._link.start()

    def _call(self, address: Address, context: Context, method: str, arguments: dict[str, Any]) -> Deferred[Any]:
        if not self._use(address):
            return fail(Unavailable(service=address.routing_key, why="the queue is stopped"))
        return self._calls.call(address, context, method, arguments)

    def _cast(self, address: Address, context: Context, method: str, arguments: dict[str, Any]) -> Deferred[None]:
        if not self._use(address):
            return fail(Unavailable(service=address.routing_key, why="the queue is stopped"))
        key = address.routing_key
        began = self._clock.seconds()
        body = encode_request(method, arguments, context.request_id, None)
        sent = self._casts.send(Cast(self._topology.exchange, key, body, partial(self._declare_place, key)))
        if self._metrics is not None:
            sent.addBoth(self._measure, self._metrics, address.topic, method, began)
        return sent

    def _use(self, address: Address) -> bool:
        """
        An address is about to be sent to.

        @return: whether that is still possible.
        """
        self._known.add(address.routing_key)
        self._begin()
        return not self._stopped

    def _measure(self, result: Any, metrics: QueueMetrics, topic: str, method: str, began: float) -> Any:
        outcome = type(result.value).__name__ if isinstance(result, Failure) else "ok"
        metrics.call(topic, method, outcome, self._clock.seconds() - began)
        return result

    def _declare_place(self, key: str, client: Client) -> Deferred[None]:
        return self._topology.declare_place(client, key)

    def _bury(self, delivery: Delivery, reason: str) -> Deferred[None]:
        headers = letter_headers(delivery, reason)
        dead = self._topology.dead
        return self._casts.send(Cast(dead, dead, delivery.body, self._topology.declare_dead, headers))

    def _subscription(self, key: str, prefetch: int, declare: Any, owner: Server | Undertaker) -> Subscription:
        return Subscription(self._clock, key, prefetch, declare, owner.work, self._forget)

    def _forget(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:  # it may be stopped by its worker and by the queue
            self._subscriptions.remove(subscription)

    def _subscribe(self, subscription: Subscription) -> Deferred[IListener]:
        """Open a subscription now, or with the next connection."""
        self._begin()
        self._subscriptions.append(subscription)
        if self._client is not None:
            subscription.open(self._client)
        return subscription.ready

    @inlineCallbacks
    def _prepare(self, client: Client) -> Generator[Deferred[Any], Any, None]:
        """Set up what has to be there over each connection."""
        yield client.authenticate(self._username, self._password, mechanism="PLAIN")
        yield self._topology.declare_exchanges(client)
        yield self._casts.up(client)
        yield self._calls.up(client)

    def _up(self, client: Client) -> None:
        """There is a connection: listen over it."""
        self._client = client
        self.connections += 1
        self.log.info("connected to the broker as {username}", username=self._username)
        for subscription in list(self._subscriptions):
            subscription.open(client)
        waiting, self._first = self._first, []
        for deferred in waiting:
            deferred.callback(None)

    def _down(self, client: Client) -> None:
        if self._client is client:
            self._client = None
            self.log.warn("the connection to the broker is lost")
