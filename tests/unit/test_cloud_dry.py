"""
A cloud that changes nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from fabric.cloud.dry import DryQueue, DryStore, WouldAct
from fabric.compute.interface import IComputeWorker
from fabric.rpc.interface import Address, Context, IQueue
from fabric.store.interface import IStore, Query, Want
from fabric.testing.store import Sample, make_store

Steps = Generator[Any, Any, None]


class DryStoreTests(TestCase):
    """
    Reads as ever; no write.
    """

    @inlineCallbacks
    def setUp(self) -> Steps:
        self.store = yield make_store(self)
        self.dry = DryStore(self.store)
        transaction = self.store.transaction("req")
        transaction.create(Sample("a", name="one"))
        yield self.store.commit(transaction)

    def test_interface(self) -> None:
        """It is a store."""
        verifyObject(IStore, self.dry)

    @inlineCallbacks
    def test_reads(self) -> Steps:
        """What is read is what the store has."""
        for read in (
            lambda store: store.read(Sample, ["a", "b"]),
            lambda store: store.gather([Want(Sample, id="a")]),
            lambda store: store.resolve(Sample, ["one"]),
            lambda store: store.records(Sample, Query("sample", ("p",))),
            lambda store: store.counters(["quota:p:samples"]),
            lambda store: store.pools(),
            lambda store: store.beats(),
            lambda store: store.due(1e12, 10),
            lambda store: store.events("", 10, None),
            lambda store: store.check(False),
        ):
            self.assertEqual((yield read(self.dry)), (yield read(self.store)))

    @inlineCallbacks
    def test_writes(self) -> Steps:
        """A write fails as itself, and leaves nothing, not even a heartbeat."""
        before = yield self.store.events("", 10, None)
        transaction = self.dry.transaction("req")
        transaction.create(Sample("b"))
        yield self.assertFailure(self.dry.commit(transaction), WouldAct)
        yield self.assertFailure(self.dry.beat("compute.node1", 1.0), WouldAct)
        self.assertEqual((yield self.store.events("", 10, None)), before)
        self.assertEqual((yield self.store.read(Sample, ["b"])), [None])
        self.assertEqual((yield self.store.beats()), {})


class DryQueueTests(TestCase):
    """
    Nobody is asked or told anything.
    """

    def test_interface(self) -> None:
        """It is a queue."""
        verifyObject(IQueue, DryQueue())

    @inlineCallbacks
    def test_calls(self) -> Steps:
        """Questions and orders fail as themselves."""
        queue, where, context = DryQueue(), Address("compute", "node1"), Context("req")
        for make in (queue.caller, queue.caster):
            yield self.assertFailure(make(IComputeWorker, where, context).console_output("i-1"), WouldAct)
        yield self.assertFailure(queue.listen(where, IComputeWorker, None, 1), WouldAct)
        self.assertEqual((yield queue.depths()), {})
        yield self.assertFailure(queue.ping(), WouldAct)
        yield queue.stop()
