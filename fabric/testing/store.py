"""
A store for tests, and the promises of L{IStore} as tests.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface.verify import verifyObject

from fabric.errors import (
    AlreadyExists,
    Conflict,
    InUse,
    InvalidValue,
    LimitExceeded,
    MemberTaken,
    NotFound,
    PoolEmpty,
)
from fabric.model.keypair import KeyPair
from fabric.model.record import ALL, Record
from fabric.store.interface import IStore, IViews, Query, Stored, Want
from fabric.store.redis import RedisStore
from fabric.testing.redis import RedisServer
from fabric.testing.samples import KINDS, PlainViews, Sample

__all__ = ["KINDS", "PlainViews", "Sample", "StoreContract", "make_store"]


@inlineCallbacks
def make_store(
    test: Any, views: IViews | None = None, kinds: Mapping[str, type[Record]] = KINDS, metrics: Any = None
) -> Generator[Deferred[Any], Any, RedisStore]:
    """
    Start a private server for a trial test case, which stops it when it ends.

    @return: the store on it; C{test.redis} is its L{RedisServer} from then on.
    """
    from twisted.internet import reactor

    server = RedisServer(reactor)
    test.addCleanup(server.stop)
    yield server.start()
    pool = server.connect()
    test.addCleanup(pool.stopService)
    test.redis = server
    return RedisStore(pool, views or PlainViews(), kinds, metrics)


class StoreContract:
    """
    What every L{IStore} promises; mix it into a trial C{TestCase} whose
    C{make} returns a Deferred with an empty store for L{Sample}s.
    """

    make: Callable[[], Deferred[Any]]
    assertEqual: Callable[..., None]
    assertGreater: Callable[..., None]
    assertFailure: Callable[..., Deferred[Any]]

    @inlineCallbacks
    def setUp(self) -> Generator[Deferred[Any], Any, None]:
        """An empty store."""
        self.store = yield self.make()

    @inlineCallbacks
    def write(self, *records: Any, request: str = "req") -> Generator[Deferred[Any], Any, Any]:
        """Create records, or update from C{(stored, record)}, in one transaction."""
        transaction = self.store.transaction(request)
        for record in records:
            if isinstance(record, tuple):
                transaction.update(*record)
            else:
                transaction.create(record)
        done = yield self.store.commit(transaction)
        return done.records

    @inlineCallbacks
    def ids(self, filters: Any = (), scopes: Any = ("p",), **more: Any) -> Generator[Deferred[Any], Any, list[str]]:
        """The ids that a listing of records has."""
        query = Query("sample", tuple(scopes), tuple(filters), **more)
        page = yield self.store.records(Sample, query)
        return [stored.record.id for stored in page.items]

    @inlineCallbacks
    def refused(self, error: type, *changes: Callable[[Any], None]) -> Generator[Deferred[Any], Any, Any]:
        """Commit a transaction that must be refused, and leave nothing."""
        before = yield self.store.events("", 1000, None)
        transaction = self.store.transaction("refused")
        for change in changes:
            change(transaction)
        reason = yield self.assertFailure(self.store.commit(transaction), error)
        self.assertEqual((yield self.store.events("", 1000, None)), before)
        self.assertEqual((yield self.store.check(False)), [])
        return reason

    def test_interface(self) -> None:
        """It provides the interface."""
        verifyObject(IStore, self.store)

    @inlineCallbacks
    def test_create_and_read(self) -> Generator[Deferred[Any], Any, None]:
        """A created record is read back with generation 1; an unknown id is None."""
        sample = Sample("a", name='é "<&\n', tags={"k": "v"})
        written = yield self.write(sample)
        self.assertEqual(written, [Stored(sample, 1)])
        self.assertEqual((yield self.store.read(Sample, ["a", "b"])), [Stored(sample, 1), None])
        self.assertEqual((yield self.store.read(Sample, [])), [])

    @inlineCallbacks
    def test_update_needs_generation(self) -> Generator[Deferred[Any], Any, None]:
        """Of two writes of the same generation, the second is a conflict."""
        (first,) = yield self.write(Sample("a"))
        (second,) = yield self.write((first, Sample("a", state="old")))
        self.assertEqual(second.generation, 2)
        reason = yield self.refused(Conflict, lambda t: t.update(first, Sample("a", state="lost")))
        self.assertEqual((reason.kind, reason.id), ("sample", "a"))

    @inlineCallbacks
    def test_repeated_commit(self) -> Generator[Deferred[Any], Any, None]:
        """Repeating a commit whose outcome is unknown changes nothing."""
        (stored,) = yield self.write(Sample("a"), request="one")
        yield self.refused(AlreadyExists, lambda t: t.create(Sample("a")))
        yield self.write((stored, Sample("a", weight=1)))
        yield self.refused(Conflict, lambda t: t.update(stored, Sample("a", weight=1)))

    @inlineCallbacks
    def test_unknown_is_no_new_record(self) -> Generator[Deferred[Any], Any, None]:
        """An update, delete or need of what does not exist is refused."""
        ghost = Stored(Sample("a"), 1)
        yield self.refused(NotFound, lambda t: t.update(ghost, Sample("a")))
        yield self.refused(NotFound, lambda t: t.delete(ghost))
        yield self.refused(NotFound, lambda t: t.create(Sample("b")), lambda t: t.need("sample", "a"))

    @inlineCallbacks
    def test_need(self) -> Generator[Deferred[Any], Any, None]:
        """A need is met by what exists or is made in the same write, and not by what goes."""
        (a,) = yield self.write(Sample("a"))
        transaction = self.store.transaction("")
        transaction.create(Sample("b"))
        transaction.need("sample", "a")
        transaction.need("sample", "b")
        yield self.store.commit(transaction)
        yield self.refused(NotFound, lambda t: t.delete(a), lambda t: t.need("sample", "a"))

    @inlineCallbacks
    def test_delete_removes_all(self) -> Generator[Deferred[Any], Any, None]:
        """Nothing is left of a deleted record but its events."""
        (a,) = yield self.write(Sample("a", name="n", weight=2, due=1.0, host="h", tags={"k": "v"}, makes=("m1",)))
        transaction = self.store.transaction("bye")
        transaction.delete(a)
        yield self.store.commit(transaction)
        self.assertEqual((yield self.store.read(Sample, ["a"])), [None])
        self.assertEqual((yield self.store.resolve(Sample, ["sample:p:n"])), [None])
        self.assertEqual((yield self.store.counters(["weight:p"])), {"weight:p": 0})
        self.assertEqual((yield self.store.due(9.0, 9)), [])
        self.assertEqual((yield self.store.pools()), {})
        self.assertEqual((yield self.ids(scopes=("p", ALL, "host:h"))), [])
        self.assertEqual((yield self.store.check(False)), [])

    @inlineCallbacks
    def test_values(self) -> Generator[Deferred[Any], Any, None]:
        """The values that a facet has in a scope, while any record has them; and a time that grows."""
        yield self.write(
            Sample("s1", "p", state="on", holds=()), Sample("s2", "p", state="on"), Sample("s3", "p", state="a=b")
        )
        yield self.write(Sample("s4", "q", state="off"))
        first = yield self.store.values("sample", [("p", "state"), ("q", "state"), ("p", "nothing")])
        self.assertEqual([sorted(values) for values in first.found], [["a=b", "on"], ["off"], []])
        one, two = yield self.store.read(Sample, ["s1", "s3"])
        yield self.write((one, attrs.evolve(one.record, state="off")), (two, attrs.evolve(two.record, state="off")))
        later = yield self.store.values("sample", [("p", "state")])
        self.assertEqual([sorted(values) for values in later.found], [["off", "on"]])
        self.assertGreater(later.at, first.at)
        nothing = yield self.store.values("sample", [])
        self.assertEqual(nothing.found, [])
        self.assertGreater(nothing.at, later.at)

    @inlineCallbacks
    def test_unique(self) -> Generator[Deferred[Any], Any, None]:
        """A unique name has one holder, resolves to it, and moves in one write."""
        (a,) = yield self.write(Sample("a", name="n"))
        reason = yield self.refused(AlreadyExists, lambda t: t.create(Sample("b", name="n")))
        self.assertEqual((reason.name, reason.holder), ("sample:p:n", "a"))
        yield self.refused(
            AlreadyExists, lambda t: t.create(Sample("c", name="m")), lambda t: t.create(Sample("d", name="m"))
        )
        yield self.write((a, Sample("a", name="o")), Sample("b", name="n"))
        found = yield self.store.resolve(Sample, ["sample:p:n", "sample:p:o", "sample:p:x"])
        self.assertEqual([stored and stored.record.id for stored in found], ["b", "a", None])

    @inlineCallbacks
    def test_gather(self) -> Generator[Deferred[Any], Any, None]:
        """Several kinds are read at once, by id and by name; a name's kind counts."""
        a, key = yield self.write(Sample("a", name="n"), KeyPair("key-1", "p", "k", "f", "ssh-rsa A"))
        wants = [Want(KeyPair, name="key_pair:p:k"), Want(Sample, id="a"), Want(KeyPair, name="sample:p:n")]
        self.assertEqual((yield self.store.gather(wants)), [key, a, None])

    @inlineCallbacks
    def test_limit(self) -> Generator[Deferred[Any], Any, None]:
        """Growth past a limit is refused as a whole; a write that does not grow passes."""
        (a,) = yield self.write(Sample("a", weight=3))
        reason = yield self.refused(
            LimitExceeded, lambda t: t.create(Sample("b", weight=2)), lambda t: t.limit("weight:p", 4)
        )
        self.assertEqual((reason.limit, reason.used, reason.wanted), (4, 3, 5))
        transaction = self.store.transaction("")
        transaction.update(a, Sample("a", weight=2))
        transaction.limit("weight:p", 1)
        yield self.store.commit(transaction)
        self.assertEqual((yield self.store.counters(["weight:p", "x"])), {"weight:p": 2, "x": 0})

    @inlineCallbacks
    def test_take(self) -> Generator[Deferred[Any], Any, None]:
        """Taken members are distinct, stand in record and view, and are given back."""
        yield self.write(Sample("pool", makes=("m1", "m2", "m3")))
        transaction = self.store.transaction("")
        one, two = transaction.take("made:pool"), transaction.take("made:pool")
        transaction.create(Sample("a", of="made:pool", holds=(one, two), tags={"of": one + one}))
        done = yield self.store.commit(transaction)
        (stored,) = done.records
        self.assertEqual(set(stored.record.holds), set(done.taken.values()))
        self.assertEqual(stored.record.tags["of"], stored.record.holds[0] * 2)
        self.assertEqual((yield self.store.read(Sample, ["a"])), [stored])
        page = yield self.store.views("ec2", Query("sample", ("p",), (("holds", (done.taken[two],)),)))
        self.assertEqual(page.items, [PlainViews().render(stored.record)["ec2"]])
        self.assertEqual((yield self.store.pools()), {"made:pool": (1, 3)})
        yield self.write((stored, Sample("a")))
        self.assertEqual((yield self.store.pools()), {"made:pool": (3, 3)})
        self.assertEqual((yield self.store.check(False)), [])

    @inlineCallbacks
    def test_pool_empty(self) -> Generator[Deferred[Any], Any, None]:
        """Asking for more members than are free takes none."""
        yield self.write(Sample("pool", makes=("m1",)))

        def take(transaction: Any) -> None:
            holds = (transaction.take("made:pool"), transaction.take("made:pool"))
            transaction.create(Sample("a", of="made:pool", holds=holds))

        reason = yield self.refused(PoolEmpty, take)
        self.assertEqual((reason.pool, reason.wanted), ("made:pool", 2))
        self.assertEqual((yield self.store.pools()), {"made:pool": (1, 1)})

    @inlineCallbacks
    def test_named_member(self) -> Generator[Deferred[Any], Any, None]:
        """A member is taken by name once, is not taken twice, and moves between records in one write."""
        _, a = yield self.write(Sample("pool", makes=("m1", "m2")), Sample("a", of="made:pool", holds=("m1",)))
        b = Sample("b", of="made:pool", holds=("m1",))
        reason = yield self.refused(MemberTaken, lambda t: t.create(b))
        self.assertEqual((reason.member, reason.holder), ("m1", "sample:a"))
        yield self.refused(MemberTaken, lambda t: t.create(attrs.evolve(b, holds=("m9",))))
        twice = [attrs.evolve(b, id=id, holds=("m2",)) for id in ("x", "y")]
        yield self.refused(MemberTaken, lambda t: t.create(twice[0]), lambda t: t.create(twice[1]))
        yield self.write((a, Sample("a")), b)
        self.assertEqual((yield self.store.pools()), {"made:pool": (1, 2)})
        self.assertEqual((yield self.store.check(False)), [])

    @inlineCallbacks
    def test_pool_in_use(self) -> Generator[Deferred[Any], Any, None]:
        """What a pool exists by stays while a member is held."""
        pool, a = yield self.write(Sample("pool", makes=("m1",)), Sample("a", of="made:pool", holds=("m1",)))
        reason = yield self.refused(InUse, lambda t: t.delete(pool))
        self.assertEqual(reason.by, "sample:a")
        transaction = self.store.transaction("")
        transaction.delete(pool)
        transaction.delete(a)
        yield self.store.commit(transaction)
        self.assertEqual((yield self.store.pools()), {})

    @inlineCallbacks
    def test_member_text(self) -> Generator[Deferred[Any], Any, None]:
        """A member that could break a record's text can't be of a pool."""
        yield self.refused(InvalidValue, lambda t: t.create(Sample("pool", makes=('"',))))

    @inlineCallbacks
    def test_listing_order_and_pages(self) -> Generator[Deferred[Any], Any, None]:
        """Pages go through all records in the order of their creation, without gap or repeat."""
        yield self.write(*(Sample(id) for id in "gfe"))
        (d,) = yield self.write(Sample("d"))
        yield self.write(*(Sample(id) for id in "cab"))
        yield self.write((d, Sample("d", state="old")))
        seen, cursor = [], ""
        while True:
            page = yield self.store.views("ec2", Query("sample", ("p",), cursor=cursor, limit=2))
            seen += [item.split()[1].decode() for item in page.items]
            cursor = page.cursor
            if not cursor:
                break
        self.assertEqual("".join(seen), "gfedcab")

    @inlineCallbacks
    def test_pages_while_the_scope_changes(self) -> Generator[Deferred[Any], Any, None]:
        """What stays is paged exactly once although records before and after a page's end come and go."""
        store = self.store
        for index in range(9):
            yield self.write(Sample(f"s{index}"))
        seen: list[bytes] = []
        cursor = ""
        for gone in ("s0", "s2", "s8", None, None):
            page = yield store.views("ec2", Query("sample", ("p",), cursor=cursor, limit=2))
            seen += [view.split()[1] for view in page.items]
            cursor = page.cursor
            if not cursor:
                break
            if gone is not None:
                [stored] = yield store.read(Sample, [gone])
                leaving = store.transaction("test")
                leaving.delete(stored)
                yield store.commit(leaving)
        self.assertEqual(seen, [f"s{index}".encode() for index in range(8)])

    @inlineCallbacks
    def test_bad_cursor(self) -> Generator[Deferred[Any], Any, None]:
        """A cursor that no page gave is refused."""
        for query in (Query("sample", ("p",), cursor="x"), Query("sample", ("p",), ids=("a",), cursor="-1")):
            reason = yield self.assertFailure(self.store.views("ec2", query), InvalidValue)
            self.assertEqual(reason.name, "cursor")

    @inlineCallbacks
    def test_scopes(self) -> Generator[Deferred[Any], Any, None]:
        """A record is found in its scopes only, and once when several have it."""
        yield self.write(Sample("a", shared=("q",), host="h:1"), Sample("b", project="q"), Sample("c", project="%3A"))
        for scopes, wanted in (
            (("p",), "a"),
            (("q",), "ab"),
            (("p", "q"), "ab"),
            (("host:h:1",), "a"),
            ((ALL,), "abc"),
            ((":",), ""),
        ):
            self.assertEqual("".join((yield self.ids(scopes=scopes))), wanted)
            self.assertEqual("".join((yield self.ids([("state", ("new",))], scopes))), wanted)
            self.assertEqual("".join((yield self.ids(scopes=scopes, ids=("c", "b", "a")))), wanted)

    @inlineCallbacks
    def test_filters(self) -> Generator[Deferred[Any], Any, None]:
        """Values are alternatives, filters are joined, wildcards and their escapes work, in every scope."""
        yield self.write(
            Sample("a", state="up", tags={"n": "web*1", "a=b": "c"}),
            Sample("b", state="up", tags={"n": "web22", "a": "b=c"}),
            Sample("c", state="down", tags={"n": "wéb"}, host="h"),
        )
        for filters, wanted in (
            ([("state", ("up",))], "ab"),
            ([("state", ("up", "down"))], "abc"),
            ([("state", ("up",)), ("tag:n", ("web22",))], "b"),
            ([("tag:n", ("web*",))], "ab"),
            ([("tag:n", ("w?b",))], "c"),
            ([("tag:n", ("web\\*?",))], "a"),
            ([("tag:n", ("*b*2", "wé?"))], "bc"),
            ([("tag:n", ("web??",)), ("state", ("*",))], "ab"),
            ([("tag:n", ("\\web22",))], "b"),
            ([("tag:a=b", ("c",))], "a"),
            ([("tag:a", ("b=c",))], "b"),
            ([("state", ())], ""),
            ([("nothing", ("*",))], ""),
            ([("tag:n", ("*x",))], ""),
        ):
            for scopes in (("p",), (ALL,), ("p", ALL)):
                self.assertEqual("".join((yield self.ids(filters, scopes))), wanted, f"{filters} in {scopes}")
                self.assertEqual("".join((yield self.ids(filters, scopes, ids=("c", "b", "a", "z")))), wanted)

    @inlineCallbacks
    def test_missing(self) -> Generator[Deferred[Any], Any, None]:
        """Ids that no scope has are named, filters or not."""
        yield self.write(Sample("a"), Sample("b", project="q"))
        for filters in ((), (("state", ("new",)),)):
            page = yield self.store.views("ec2", Query("sample", ("p",), filters, ids=("x", "b", "a", "a")))
            self.assertEqual((len(page.items), page.missing), (1, ("x", "b")))

    @inlineCallbacks
    def test_views_follow(self) -> Generator[Deferred[Any], Any, None]:
        """A view is of the last write; a record without one is in no listing of views."""
        (a,) = yield self.write(Sample("a"))
        (a,) = yield self.write((a, Sample("a", state="old")))
        page = yield self.store.views("ec2", Query("sample", ("p",)))
        self.assertEqual(page.items, [PlainViews().render(a.record)["ec2"]])
        yield self.write((a, Sample("a", shown=False)))
        self.assertEqual((yield self.store.views("ec2", Query("sample", ("p",)))).items, [])
        self.assertEqual((yield self.store.views("ec2", Query("sample", ("p",), ids=("a",)))).items, [])
        self.assertEqual((yield self.store.check(False)), [])

    @inlineCallbacks
    def test_due(self) -> Generator[Deferred[Any], Any, None]:
        """What is due comes oldest first, and follows the record."""
        a, *_ = yield self.write(Sample("a", due=3.5), Sample("b", due=2.0), Sample("c", due=9.0), Sample("d"))
        self.assertEqual((yield self.store.due(5.0, 9)), [("sample", "b"), ("sample", "a")])
        self.assertEqual((yield self.store.due(5.0, 1)), [("sample", "b")])
        yield self.write((a, Sample("a")))
        self.assertEqual((yield self.store.due(5.0, 9)), [("sample", "b")])

    @inlineCallbacks
    def test_beats(self) -> Generator[Deferred[Any], Any, None]:
        """The last heartbeat of each service is kept."""
        for service, now in (("compute.a", 1.5), ("compute.b", 2.0), ("compute.a", 3.25)):
            yield self.store.beat(service, now)
        self.assertEqual((yield self.store.beats()), {"compute.a": 3.25, "compute.b": 2.0})

    @inlineCallbacks
    def test_events(self) -> Generator[Deferred[Any], Any, None]:
        """Each write is an event of its project and of all, in order, read on from a position."""
        (a,) = yield self.write(Sample("a"), request="r1")
        yield self.write(Sample("b", project="q"), request="r2")
        transaction = self.store.transaction("r3")
        transaction.delete(a)
        yield self.store.commit(transaction)
        events = yield self.store.events("", 10, None)
        told = [(event["id"], event["what"], event["request"], event["state"]) for _, event in events]
        self.assertEqual(
            told, [("a", "created", "r1", "new"), ("b", "created", "r2", "new"), ("a", "deleted", "r3", "new")]
        )
        self.assertEqual((yield self.store.events(events[0][0], 1, None)), events[1:2])
        self.assertEqual([event["what"] for _, event in (yield self.store.events("", 9, "p"))], ["created", "deleted"])
        yield self.assertFailure(self.store.events("x", 1, None), InvalidValue)
