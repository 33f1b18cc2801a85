"""The store when its server is slow, gone, new, or another one."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.errors import Unavailable
from fabric.metrics import Metrics
from fabric.store.address import Address
from fabric.store.connection import RedisPool
from fabric.store.interface import Query
from fabric.store.redis import RedisStore
from fabric.testing.redis import RedisServer
from fabric.testing.samples import KINDS, PlainViews, Sample
from fabric.testing.store import make_store


class FailureTests(TestCase):
    """Every call ends, in time, with a typed error or an answer."""

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Generator[Deferred[Any], Any, None]:
        """A store, and another with little patience."""
        self.store = yield make_store(self)
        self.hasty_pool = self.redis.connect(size=1, timeout=1.0)
        self.addCleanup(self.hasty_pool.stopService)
        self.hasty = RedisStore(self.hasty_pool, PlainViews(), KINDS)
        yield self.hasty.beats()

    @inlineCallbacks
    def write(self, store: Any, id: str) -> Generator[Deferred[Any], Any, Any]:
        """Create one sample."""
        transaction = store.transaction("r")
        transaction.create(Sample(id))
        return (yield store.commit(transaction))

    @inlineCallbacks
    def test_kept_over_a_crash(self) -> Generator[Deferred[Any], Any, None]:
        """What was acknowledged is there after a kill -9 of the server, which the store finds again by itself."""
        for number in range(20):
            yield self.write(self.store, str(number))
        yield self.redis.restart()
        page = yield self.store.views("ec2", Query("sample", ("p",)))
        self.assertEqual(len(page.items), 20)
        yield self.write(self.store, "after")
        self.assertEqual((yield self.store.check(False)), [])

    @inlineCallbacks
    def test_in_flight(self) -> Generator[Deferred[Any], Any, None]:
        """What waits for an answer when the server dies fails at once."""
        os.kill(self.redis.pid, signal.SIGSTOP)
        waiting = [self.write(self.store, str(number)) for number in range(8)]
        dead = self.redis.kill()
        yield gatherResults([self.assertFailure(answer, Unavailable) for answer in waiting])
        yield dead

    @inlineCallbacks
    def test_silent(self) -> Generator[Deferred[Any], Any, None]:
        """A server that does not answer is given up after the timeout."""
        os.kill(self.redis.pid, signal.SIGSTOP)
        start = reactor.seconds()
        try:
            yield self.assertFailure(self.hasty.beats(), Unavailable)
            yield self.assertFailure(self.write(self.hasty, "a"), Unavailable)
        finally:
            os.kill(self.redis.pid, signal.SIGCONT)
        self.assertLess(reactor.seconds() - start, 9.0)
        self.assertEqual((yield self.hasty.beats()), {})

    @inlineCallbacks
    def test_gone(self) -> Generator[Deferred[Any], Any, None]:
        """Without a server a call fails after the timeout, and works again when there is one."""
        yield self.redis.kill()
        yield self.assertFailure(self.hasty.read(Sample, ["a", "b"]), Unavailable)
        yield self.redis.start()
        while True:
            try:
                found = yield self.hasty.read(Sample, ["a", "b"])
                break
            except Unavailable:
                continue
        self.assertEqual(found, [None, None])

    @inlineCallbacks
    def test_scripts_unknown(self) -> Generator[Deferred[Any], Any, None]:
        """A server that forgot the scripts is told them."""
        yield self.write(self.store, "a")
        yield self.store._pool.call("SCRIPT", "FLUSH")
        yield self.write(self.store, "b")

    @inlineCallbacks
    def test_not_the_primary(self) -> Generator[Deferred[Any], Any, None]:
        """A server that became a replica is left, and used again as a primary."""
        yield self.store._pool.call("REPLICAOF", "127.0.0.1", "1")
        yield self.assertFailure(self.write(self.hasty, "a"), Unavailable)
        yield self.assertFailure(self.hasty.beats(), Unavailable)
        yield self.store._pool.call("REPLICAOF", "NO", "ONE")
        while True:
            try:
                yield self.write(self.hasty, "a")
                break
            except Unavailable:
                continue

    @inlineCallbacks
    def test_full(self) -> Generator[Deferred[Any], Any, None]:
        """A server without memory refuses writes whole, and still reads."""
        yield self.write(self.store, "a")
        yield self.store._pool.call("CONFIG", "SET", "maxmemory", "1")
        yield self.assertFailure(self.write(self.store, "b"), Unavailable)
        self.assertEqual((yield self.store.read(Sample, ["b"])), [None])
        yield self.store._pool.call("CONFIG", "SET", "maxmemory", "0")
        self.assertEqual((yield self.store.check(False)), [])

    @inlineCallbacks
    def test_close(self) -> Generator[Deferred[Any], Any, None]:
        """Closing fails what waits."""
        yield self.redis.kill()
        waiting = self.store.beats()
        yield self.store._pool.stopService()
        yield self.assertFailure(waiting, Unavailable)

    @inlineCallbacks
    def test_password(self) -> Generator[Deferred[Any], Any, None]:
        """A server with a password and a database number is logged in to; a wrong one is Unavailable."""
        server = RedisServer(reactor)
        server.settings += ["--requirepass", "secret"]
        self.addCleanup(server.stop)
        yield server.start()
        for password, right in (("secret", True), ("wrong", False)):
            pool = RedisPool(reactor, Address(path=server.socket, password=password, database=3), 1, 2.0)
            pool.startService()
            self.addCleanup(pool.stopService)
            store = RedisStore(pool, PlainViews(), KINDS)
            if right:
                yield self.write(store, "a")
            else:
                yield self.assertFailure(store.beats(), Unavailable)

    @inlineCallbacks
    def test_one_round_trip(self) -> Generator[Deferred[Any], Any, None]:
        """Every call is one round trip, whatever it writes or reads."""
        yield self.write(self.store, "a")
        query = Query("sample", ("p",))
        yield self.store.records(Sample, query)  # the server knows each script from its first run on
        calls = (
            lambda: self.write(self.store, "b"),
            lambda: self.store.read(Sample, ["a", "b", "c"]),
            lambda: self.store.views("ec2", query),
            lambda: self.store.views("ec2", Query("sample", ("p",), ids=("a", "b"))),
            lambda: self.store.records(Sample, Query("sample", ("p",), (("state", ("n*",)),))),
        )
        for call in calls:
            before = self.store.round_trips
            yield call()
            self.assertEqual(self.store.round_trips - before, 1)

    @inlineCallbacks
    def test_metrics(self) -> Generator[Deferred[Any], Any, None]:
        """Every round trip is timed, with its outcome."""
        metrics = Metrics()
        store = RedisStore(self.hasty_pool, PlainViews(), KINDS, metrics)
        yield self.write(store, "a")
        yield self.redis.kill()
        yield self.assertFailure(store.beats(), Unavailable)
        text = metrics.exposition().decode()
        self.assertIn('fabric_store_seconds_count{operation="commit",outcome="ok"} 1', text)
        self.assertIn('fabric_store_seconds_count{operation="beats",outcome="Unavailable"} 1', text)
