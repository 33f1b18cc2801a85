"""Random histories of the store, beside a model in a few lines of Python."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from typing import Any

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase

from fabric import errors
from fabric.model.record import ALL
from fabric.store.interface import Query, Stored
from fabric.testing.samples import Sample
from fabric.testing.store import make_store

HISTORIES = int(os.environ.get("FABRIC_HISTORIES", "2000"))
"""How many random histories one run tries."""

IDS = "abcde"
MEMBERS = ("m1", "m2", "m3")
POOL = "made:z"

samples = st.builds(
    Sample,
    id=st.sampled_from(IDS),
    project=st.sampled_from(["p", "q"]),
    name=st.sampled_from(["", "", "n", "o"]),
    state=st.sampled_from(["new", "up"]),
    weight=st.integers(0, 3),
    of=st.just(POOL),
    holds=st.sampled_from([(), (), ("m1",), ("m1", "m2"), ("take",), ("take", "take"), ("m1", "take"), ("m9",)]),
    host=st.sampled_from(["", "h"]),
    due=st.sampled_from([None, 1.5, 20.0]),
    shared=st.sampled_from([(), ("p",), ("s",)]),
    shown=st.sampled_from([True, True, False]),
    tags=st.dictionaries(st.sampled_from(["k", "k=", "é"]), st.sampled_from(["v", "w*", ""]), max_size=2),
)
pools = st.builds(Sample, id=st.just("z"), makes=st.just(MEMBERS), weight=st.integers(0, 1))
deeds = st.one_of(
    st.tuples(st.just("put"), st.one_of(samples, samples, samples, pools), st.sampled_from([0, 0, 0, 1])),
    st.tuples(st.just("delete"), st.sampled_from(IDS + "z"), st.sampled_from([0, 0, 0, 1])),
    st.tuples(st.just("need"), st.sampled_from(IDS), st.just(0)),
    st.tuples(st.just("limit"), st.sampled_from(["p", "q"]), st.integers(0, 6)),
)
histories = st.lists(st.lists(deeds, min_size=1, max_size=4), min_size=1, max_size=8)


class Model:
    """What the store should have."""

    def __init__(self) -> None:
        self.records: dict[str, Stored[Sample]] = {}

    def refusals(self, transaction: Any, before: dict[str, Stored[Sample]]) -> set[type]:
        """Every error that the store may refuse the transaction with."""
        found: set[type] = set()
        after = {id: stored.record for id, stored in before.items()}
        for record, generation in transaction.puts:
            found |= self._seen(before, record.id, generation)
            after[record.id] = record
        for _, id, generation in transaction.deletes:
            found |= self._seen(before, id, generation)
            after.pop(id, None)
        if any(id not in after for _, id in transaction.needs):
            found.add(errors.NotFound)
        return found | self._names(after) | self._members(transaction, before, after) | self._limits(transaction, after)

    def _seen(self, before: dict[str, Stored[Sample]], id: str, generation: int) -> set[type]:
        if generation == 0:
            return {errors.AlreadyExists} if id in before else set()
        if id not in before:
            return {errors.NotFound}
        return {errors.Conflict} if before[id].generation != generation else set()

    def _names(self, after: dict[str, Sample]) -> set[type]:
        names = Counter((sample.project, sample.name) for sample in after.values() if sample.name)
        return {errors.AlreadyExists} if any(count > 1 for count in names.values()) else set()

    def _members(self, transaction: Any, before: Any, after: dict[str, Sample]) -> set[type]:
        members = set(MEMBERS) if "z" in after else set()
        held = Counter(member for sample in after.values() for member in sample.holds if member[0] != "~")
        found: set[type] = set()
        if any(count > 1 or member not in members for member, count in held.items()):
            found.add(errors.MemberTaken)
        if "z" in before and "z" not in after and (held or transaction.takes):
            found |= {errors.InUse, errors.MemberTaken}
        before_held = {m for stored in before.values() for m in stored.record.holds}
        free = (set(MEMBERS) if "z" in before else set()) - before_held - set(held)
        if len(transaction.takes) > len(free):
            found.add(errors.PoolEmpty)
        return found

    def _limits(self, transaction: Any, after: dict[str, Sample]) -> set[type]:
        for counter, maximum in transaction.limits:
            used, wanted = self.weight(counter[7:]), sum(s.weight for s in after.values() if s.project == counter[7:])
            if wanted > used and wanted > maximum:
                return {errors.LimitExceeded}
        return set()

    def weight(self, project: str) -> int:
        """What the counter of a project's weight should be."""
        return sum(stored.record.weight for stored in self.records.values() if stored.record.project == project)

    def apply(self, transaction: Any, done: Any) -> None:
        """Note what was written."""
        for _, id, _ in transaction.deletes:
            del self.records[id]
        for stored in done.records:
            if stored.generation == 1:
                self.records.pop(stored.record.id, None)
            self.records[stored.record.id] = stored


class HistoryTests(TestCase):
    """What the store does, in any order, is what the model does."""

    timeout = 900

    @inlineCallbacks
    def setUp(self) -> Generator[Deferred[Any], Any, None]:
        """A store."""
        self.store = yield make_store(self)

    def test_histories(self) -> Deferred[None]:
        """No history makes the store differ from the model, or check find anything."""
        run = settings(max_examples=HISTORIES, deadline=None, database=None, suppress_health_check=list(HealthCheck))(
            given(histories)(lambda history: blockingCallFromThread(reactor, self.play, history))
        )
        return deferToThread(run)

    @inlineCallbacks
    def play(self, history: Any) -> Generator[Deferred[Any], Any, None]:
        """One history on an empty database."""
        yield self.store._pool.call("FLUSHDB")
        model = Model()
        for deeds in history:
            transaction = self.transaction(deeds, model)
            expected = model.refusals(transaction, model.records)
            try:
                done = yield self.store.commit(transaction)
            except errors.FabricError as reason:
                self.assertIn(type(reason), expected, f"{reason} of {transaction}")
            else:
                self.assertEqual(expected, set(), f"nothing refused {transaction}")
                model.apply(transaction, done)
        yield self.compare(model)

    def transaction(self, deeds: Any, model: Model) -> Any:
        """The transaction of some deeds; no record is written twice."""
        transaction = self.store.transaction("r")
        written = set()
        for what, subject, number in deeds:
            id = subject.id if what == "put" else subject
            if what in ("put", "delete"):
                if id in written:
                    continue
                written.add(id)
            if what == "put":
                stored = model.records.get(id)
                transaction.puts.append(
                    (self.taking(transaction, subject), stored.generation + number if stored else number)
                )
            elif what == "delete":
                stored = model.records.get(id)
                transaction.deletes.append(("sample", id, stored.generation + number if stored else 1))
            elif what == "need":
                transaction.need("sample", id)
            else:
                transaction.limit("weight:" + id, number)
        return transaction

    def taking(self, transaction: Any, sample: Sample) -> Sample:
        """The record with placeholders for what it is to take."""
        holds = tuple(transaction.take(POOL) if member == "take" else member for member in sample.holds)
        return attrs.evolve(sample, holds=holds)

    @inlineCallbacks
    def compare(self, model: Model) -> Generator[Deferred[Any], Any, None]:
        """The store has what the model has, and check finds nothing."""
        self.assertEqual((yield self.store.check(False)), [])
        found = yield self.store.read(Sample, list(IDS + "z"))
        self.assertEqual(found, [model.records.get(id) for id in IDS + "z"])
        for project in "pq":
            counter = f"weight:{project}"
            self.assertEqual((yield self.store.counters([counter])), {counter: model.weight(project)})
        for scope in ("p", "s", ALL, "host:h"):
            yield self.compare_listing(model, scope, ())
            yield self.compare_listing(model, scope, (("state", ("u*",)), ("tag:k=", ("v", "w\\*"))))
        due = sorted((s.record.due, id) for id, s in model.records.items() if s.record.due is not None)
        found = yield self.store.due(30.0, 100)
        self.assertEqual(found, [("sample", id) for _, id in due])

    @inlineCallbacks
    def compare_listing(self, model: Model, scope: str, filters: Any) -> Generator[Deferred[Any], Any, None]:
        """A listing has what the model finds by looking at each record."""
        wanted = []
        for stored in model.records.values():
            derived = stored.record.derived()
            if scope not in derived.scopes + derived.lists:
                continue
            if not filters or (stored.record.state == "up" and stored.record.tags.get("k=") in ("v", "w*")):
                wanted.append(stored)
        page = yield self.store.records(Sample, Query("sample", (scope,), filters))
        self.assertEqual(page.items, wanted, f"{filters} in {scope}")
