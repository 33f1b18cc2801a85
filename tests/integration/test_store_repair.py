"""Everything that can be corrupted is found by the check, and repaired."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.errors import Conflict
from fabric.store.filing import dump
from fabric.testing.samples import Sample
from fabric.testing.store import make_store

CORRUPTIONS: list[tuple[str, tuple[str, ...]]] = [
    ("derived", ("HSET", "o:sample:a", "d", "{}")),
    ("derived", ("HSET", "o:sample:a", "d", "not JSON")),
    ("derived", ("HDEL", "o:sample:a", "d")),
    ("derived", ("HDEL", "o:sample:a", "s")),
    ("derived", ("HDEL", "o:sample:z", "d")),
    ("derived", ("HSET", "o:sample:a", "v:ec2", "wrong")),
    ("derived", ("HDEL", "o:sample:a", "v:ec2")),
    ("derived", ("HDEL", "o:sample:a", "s:p")),
    ("derived", ("HSET", "o:sample:a", "s:q", "1")),
    ("index", ("ZREM", "x:sample:p", "a")),
    ("index", ("ZADD", "x:sample:p", "77", "a")),
    ("index", ("ZADD", "x:sample:q", "77", "a")),
    ("index", ("ZADD", "x:sample:p", "77", "ghost")),
    ("index", ("DEL", "x:sample:p:state=new")),
    ("index", ("ZADD", "x:sample:p:state=gone", "1", "a")),
    ("index", ("DEL", "w:sample:p:state")),
    ("index", ("ZADD", "w:sample:p:state", "0", "gone")),
    ("index", ("ZADD", "w:sample:p:never", "0", "gone")),
    ("counter", ("HSET", "c", "weight:p", "7")),
    ("counter", ("HSET", "c", "weight:ghost", "7")),
    ("counter", ("DEL", "c")),
    ("unique", ("DEL", "u")),
    ("unique", ("HSET", "u", "sample:p:n", "sample:ghost")),
    ("unique", ("HSET", "u", "sample:p:m", "sample:a")),
    ("due", ("DEL", "due")),
    ("due", ("ZADD", "due", "7", "sample:ghost")),
    ("due", ("ZADD", "due", "7", "sample:a")),
    ("pool", ("SADD", "pool:made:z", "m1")),
    ("pool", ("SADD", "pool:made:z", "stranger")),
    ("pool", ("SREM", "pool:made:z", "m2", "m3")),
    ("pool", ("DEL", "pool:made:z")),
    ("pool", ("HDEL", "held:made:z", "m1")),
    ("pool", ("HSET", "held:made:z", "m1", "sample:ghost")),
    ("pool", ("HSET", "held:made:z", "m2", "sample:ghost")),
    ("pool", ("HSET", "held:made:z", "m2", "sample:a")),
    ("pool", ("DEL", "pools")),
    ("pool", ("HSET", "pools", "made:ghost", "sample:z")),
    ("pool", ("SADD", "pool:made:ghost", "m1")),
]


class RepairTests(TestCase):
    """Deliberate corruption."""

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Generator[Deferred[Any], Any, None]:
        """A store with a bit of everything."""
        self.store = yield make_store(self)
        transaction = self.store.transaction("r")
        transaction.create(Sample("z", makes=("m1", "m2", "m3")))
        yield self.store.commit(transaction)
        transaction = self.store.transaction("r")
        transaction.create(
            Sample("a", name="n", weight=2, of="made:z", holds=("m1",), due=5.0, host="h", tags={"k=": "v:w"})
        )
        transaction.create(Sample("b", refers=("a",)))
        self.a = (yield self.store.commit(transaction)).records[0]

    @inlineCallbacks
    def test_each_corruption(self) -> Generator[Deferred[Any], Any, None]:
        """Each is found as what it is, left alone without repair, and gone after a repair."""
        for what, command in CORRUPTIONS:
            yield self.store._pool.call(*command)
            found = yield self.store.check(False)
            self.assertIn(what, {finding.what for finding in found}, f"{command}: {found}")
            self.assertFalse(any(finding.repaired for finding in found))
            repaired = yield self.store.check(True)
            self.assertTrue(all(finding.repaired for finding in repaired), f"{command}: {repaired}")
            self.assertEqual((yield self.store.check(False)), [], f"{command}")
        self.assertEqual((yield self.store.pools()), {"made:z": (2, 3)})
        self.assertEqual((yield self.store.read(Sample, ["a"]))[0].record, self.a.record)

    @inlineCallbacks
    def test_reference(self) -> Generator[Deferred[Any], Any, None]:
        """A record that points at nothing is told, and not repaired."""
        transaction = self.store.transaction("r")
        transaction.delete(self.a)
        yield self.store.commit(transaction)
        (finding,) = yield self.store.check(True)
        self.assertEqual((finding.what, finding.key, finding.repaired), ("reference", "sample:b", False))

    @inlineCallbacks
    def test_unreadable(self) -> Generator[Deferred[Any], Any, None]:
        """A record that can't be read is told, and nothing of it is taken away."""
        before = yield self.store._pool.call("HGET", "o:sample:z", "r")
        yield self.store._pool.call("HSET", "o:sample:z", "r", "{")
        found = yield self.store.check(True)
        self.assertIn(("derived", "sample:z", False), {(f.what, f.key, f.repaired) for f in found})
        yield self.store._pool.call("HSET", "o:sample:z", "r", before)
        yield self.store.check(True)
        self.assertEqual((yield self.store.check(False)), [])
        self.assertEqual((yield self.store.pools()), {"made:z": (2, 3)})

    @inlineCallbacks
    def test_two_holders(self) -> Generator[Deferred[Any], Any, None]:
        """A member that two records claim is told; no machine can know whose it is."""
        text = dump(Sample("b", of="made:z", holds=("m1",)))
        yield self.store._pool.call("HSET", "o:sample:b", "r", text)
        found = yield self.store.check(True)
        self.assertEqual({(f.what, f.repaired) for f in found}, {("derived", False)})

    @inlineCallbacks
    def test_while_the_cloud_works(self) -> Generator[Deferred[Any], Any, None]:
        """Writes during a check are no findings, and a corruption among them is repaired."""
        yield self.store._pool.call("HINCRBY", "c", "weight:p", "5")
        going = [True]

        @inlineCallbacks
        def work(name: str) -> Generator[Deferred[Any], Any, int]:
            count = 0
            while going[0]:
                count += 1
                transaction = self.store.transaction("r")
                member = transaction.take("made:z") if name == "w0" else ""
                holds = (member,) if member else ()
                sample = Sample(f"{name}-{count}", weight=1, of="made:z", holds=holds, name=f"{name}-{count}", due=1.0)
                transaction.create(sample)
                done = yield self.store.commit(transaction)
                transaction = self.store.transaction("r")
                transaction.delete(done.records[0])
                yield self.store.commit(transaction)
            return count

        workers = [work(f"w{number}") for number in range(2)]
        findings = []
        for _ in range(5):
            findings += yield self.store.check(True)
        going[0] = False
        counts = yield gatherResults(workers)
        self.assertTrue(all(counts))
        self.assertLessEqual({finding.key for finding in findings}, {"weight:p"})
        yield self.store.check(True)
        self.assertEqual((yield self.store.check(False)), [])
        self.assertEqual((yield self.store.counters(["weight:p"])), {"weight:p": 2})

    @inlineCallbacks
    def test_many(self) -> Generator[Deferred[Any], Any, None]:
        """Some thousand records are checked in small pieces."""
        for start in range(0, 2000, 500):
            transaction = self.store.transaction("r")
            for number in range(start, start + 500):
                transaction.create(Sample(f"s{number}", tags={"n": str(number)}))
            yield self.store.commit(transaction)
        yield self.store._pool.call("ZREM", "x:sample:p:tag:n=77", "s77")
        (finding,) = yield self.store.check(True)
        self.assertEqual((finding.what, finding.key), ("index", "x:sample:p:tag:n=77"))

    @inlineCallbacks
    def test_repair_is_a_write(self) -> Generator[Deferred[Any], Any, None]:
        """Who read a record before it was repaired has to read it again."""
        yield self.store._pool.call("HDEL", "o:sample:a", "d")
        yield self.store.check(True)
        transaction = self.store.transaction("r")
        transaction.update(self.a, self.a.record)
        yield self.assertFailure(self.store.commit(transaction), Conflict)
