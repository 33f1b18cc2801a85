"""
Proves that everything that is filed is what the records derive, and repairs it.

It works while the cloud does.  A first look, in small pieces, gathers what seems
wrong; a second look at each of these is a script, so that it sees one moment
(see C{verify.lua}).  A record's own hash is always written as a whole, so what
is in it needs no second look.  Counters are sums over all records: the check
follows the event stream until its picture of the records is of the moment at
which it compares.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import attrs
import orjson
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger

from fabric.errors import FabricError
from fabric.model.record import Record
from fabric.store import scripts
from fabric.store.connection import RedisPool
from fabric.store.filing import Filed, file, load
from fabric.store.interface import Finding, IViews, Transaction
from fabric.store.plan import committed, plan

PIECE = 100
"""Records, or keys, looked at between two turns of the reactor."""

TRIES = 50
"""How often a counter is compared while writes go on."""

Run = Callable[..., Deferred[Any]]
Item = list[Any]


@attrs.define
class Picture:
    """
    What the records have filed, as far as it was read.

    @ivar filed: C{{KIND:ID: what is filed for it}}; see
        L{fabric.store.filing.dump_derived}.
    @ivar places: C{{KIND:ID: place in listings}}.
    @ivar members: C{{pool: all members}} of the pools that records make.
    @ivar references: C{(KIND:ID, generation, KIND:ID that it points at)}.
    @ivar position: in the event stream, up to which it was followed.
    """

    position: str = "0-0"
    filed: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    places: dict[str, bytes] = attrs.field(factory=dict)
    members: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    references: list[tuple[str, str, str]] = attrs.field(factory=list)

    def forget(self, ref: str) -> None:
        """Drop what was read of a record."""
        self.filed.pop(ref, None)
        self.places.pop(ref, None)


class Checker:
    """
    One check.
    """

    log = Logger()

    def __init__(self, pool: RedisPool, views: IViews, kinds: Mapping[str, type[Record]], run: Run) -> None:
        self._pool = pool
        self._views = views
        self._kinds = kinds
        self._run = run
        self._repair = False
        self._findings: list[Finding] = []
        self._picture = Picture()

    @inlineCallbacks
    def check(self, repair: bool) -> Generator[Deferred[Any], Any, list[Finding]]:
        """See L{fabric.store.interface.IStore.check}."""
        self._repair = repair
        self._picture.position = yield self._last_position()
        yield self._read_records()
        yield self._indexes()
        yield self._names()
        yield self._dues()
        yield self._pools()
        yield self._follow()
        yield self._counters()
        yield self._references()
        return self._findings

    # The records, each with what is filed in its own hash.

    @inlineCallbacks
    def _read_records(self) -> Generator[Deferred[Any], Any, None]:
        cursor = b"0"
        while True:
            cursor, keys = yield self._pool.call("SCAN", cursor, "MATCH", "o:*", "COUNT", PIECE)
            yield self._look_at([key.decode()[2:] for key in keys])
            if cursor == b"0":
                return

    @inlineCallbacks
    def _look_at(self, refs: list[str]) -> Generator[Deferred[Any], Any, None]:
        if not refs:
            return
        rows = yield self._pool.batch([("HGETALL", "o:" + ref) for ref in refs])
        for ref, row in zip(refs, rows, strict=True):
            self._picture.forget(ref)
            if row:
                fields = dict(zip(row[::2], row[1::2], strict=True))
                yield self._look_at_one(ref, fields)

    @inlineCallbacks
    def _look_at_one(self, ref: str, fields: dict[bytes, bytes]) -> Generator[Deferred[Any], Any, None]:
        kind = ref.partition(":")[0]
        try:
            record = load(self._kinds[kind], fields[b"r"])
            filed = file(record, self._views.render(record))
            generation = int(fields[b"g"])
        except Exception as reason:
            self._found("derived", ref, f"can't be read: {reason!r}", False)
            return
        expected = orjson.loads(filed.derived)
        wrong = _differences(fields, filed, expected)
        if wrong:
            repaired = self._repair and (yield self._refile(record, generation))
            self._found("derived", ref, wrong, repaired)
        if wrong or _scope_fields(fields, expected):
            yield self._second_look([("derived", ref, ["scopes", ref])])
        self._remember(ref, record, expected, filed, fields)

    @inlineCallbacks
    def _refile(self, record: Record, generation: int) -> Generator[Deferred[Any], Any, bool]:
        """Write the record as it is, at that generation, so that all is filed again."""
        transaction = Transaction("check")
        transaction.puts.append((record, generation))
        sent = plan(transaction, self._views)
        try:
            reply = yield self._run("check", scripts.COMMIT, *sent.arguments)
            committed(transaction, sent, reply)
        except FabricError as reason:
            self.log.warn("{kind} {id} can't be filed again: {reason}", kind=record.kind, id=record.id, reason=reason)
            return False
        return True

    def _remember(
        self, ref: str, record: Record, expected: dict[str, Any], filed: Filed, fields: dict[bytes, bytes]
    ) -> None:
        picture = self._picture
        picture.filed[ref] = expected
        picture.places[ref] = fields.get(b"s", b"")
        picture.members.update(filed.members)
        generation = fields[b"g"].decode()
        for kind, id in record.derived().references:
            picture.references.append((ref, generation, f"{kind}:{id}"))

    # The second look.

    @inlineCallbacks
    def _second_look(self, suspects: Iterable[tuple[str, str, Item]]) -> Generator[Deferred[Any], Any, None]:
        """
        @param suspects: what, key, and the item for the script.
        """
        for piece in _pieces(suspects):
            data = orjson.dumps({"repair": self._repair, "items": [item for _, _, item in piece]})
            answers = yield self._run("check", scripts.VERIFY, data)
            for (what, key, _), answer in zip(piece, answers, strict=True):
                text = answer.decode("utf-8", "replace")
                if text:
                    self._found(what, key, text.removeprefix("!"), self._repair and text[0] != "!")

    def _found(self, what: str, key: str, detail: str, repaired: bool) -> None:
        self.log.warn("check: {what} {key}: {detail}", what=what, key=key, detail=detail, repaired=repaired)
        self._findings.append(Finding(what, key, detail, repaired))

    # Indexes.

    @inlineCallbacks
    def _indexes(self) -> Generator[Deferred[Any], Any, None]:
        expected: dict[str, dict[bytes, float]] = defaultdict(dict)
        for piece in _pieces(list(self._picture.filed.items())):
            for ref, filed in piece:
                kind, _, id = ref.partition(":")
                place = float(self._picture.places[ref] or 0)
                for key in _index_keys(kind, filed):
                    expected[key][id.encode()] = place
            yield self._pause()
        facets = {key for key in expected if key.count(":") > 2}
        cursor = b"0"
        while True:
            cursor, keys = yield self._pool.call("SCAN", cursor, "MATCH", "x:*", "COUNT", PIECE)
            yield self._compare_indexes({key.decode(): expected.pop(key.decode(), {}) for key in keys})
            facets.update(key.decode() for key in keys if key.count(b":") > 2)
            if cursor == b"0":
                break
        for piece in _pieces(list(expected.items())):
            yield self._compare_indexes(dict(piece))
        yield self._values(facets)

    @inlineCallbacks
    def _compare_indexes(self, expected: dict[str, dict[bytes, float]]) -> Generator[Deferred[Any], Any, None]:
        if not expected:
            return
        rows = yield self._pool.batch([("ZRANGE", key, "0", "-1", "WITHSCORES") for key in expected])
        suspects = []
        for (key, wanted), row in zip(expected.items(), rows, strict=True):
            found = dict(zip(row[::2], map(float, row[1::2]), strict=True))
            if found != wanted:
                wrong = {id for id, _ in found.items() ^ wanted.items()}
                suspects += [("index", key, _index_item(key, id.decode())) for id in wrong]
        yield self._second_look(suspects)

    @inlineCallbacks
    def _values(self, facets: set[str]) -> Generator[Deferred[Any], Any, None]:
        """The values of each facet, for wildcards, are those that have an index."""
        expected: dict[str, set[bytes]] = defaultdict(set)
        for key in facets:
            name, _, value = key.partition("=")
            expected["w" + name[1:]].add(value.encode())
        cursor = b"0"
        while True:
            cursor, keys = yield self._pool.call("SCAN", cursor, "MATCH", "w:*", "COUNT", PIECE)
            yield self._compare_values({key.decode(): expected.pop(key.decode(), set()) for key in keys})
            if cursor == b"0":
                break
        yield self._compare_values(expected)

    @inlineCallbacks
    def _compare_values(self, expected: dict[str, set[bytes]]) -> Generator[Deferred[Any], Any, None]:
        suspects = []
        for piece in _pieces(list(expected.items())):
            rows = yield self._pool.batch([("ZRANGE", key, "0", "-1") for key, _ in piece])
            for (key, wanted), row in zip(piece, rows, strict=True):
                _, kind, scope, facet = key.split(":", 3)
                for value in wanted ^ set(row):
                    suspects.append(("index", key, ["value", kind, scope, f"{facet}={value.decode()}"]))
        yield self._second_look(suspects)

    # Names, deadlines, pools.

    @inlineCallbacks
    def _names(self) -> Generator[Deferred[Any], Any, None]:
        expected: dict[str, list[str]] = defaultdict(list)
        for ref, filed in self._picture.filed.items():
            for name in filed["u"]:
                expected[name].append(ref)
        found = yield self._scan_pairs("HSCAN", "u")
        suspects = [
            ("unique", name, ["unique", name, expected.get(name, [])])
            for name in expected.keys() | found.keys()
            if [found.get(name)] != expected.get(name)
        ]
        yield self._second_look(suspects)

    @inlineCallbacks
    def _dues(self) -> Generator[Deferred[Any], Any, None]:
        expected = {ref: float(filed["t"]) for ref, filed in self._picture.filed.items() if "t" in filed}
        found = {ref: float(due) for ref, due in (yield self._scan_pairs("ZSCAN", "due")).items()}
        wrong = {ref for ref, _ in expected.items() ^ found.items()}
        yield self._second_look([("due", ref, ["due", ref]) for ref in wrong])

    @inlineCallbacks
    def _pools(self) -> Generator[Deferred[Any], Any, None]:
        claims: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        owners: dict[str, str] = {}
        for ref, filed in self._picture.filed.items():
            owners |= dict.fromkeys(filed["m"], ref)
            for pool, member in filed["p"]:
                claims[pool][member].append(ref)
        filed_owners = yield self._scan_pairs("HSCAN", "pools")
        names = owners.keys() | filed_owners.keys() | (yield self._pool_keys())
        yield self._second_look([("pool", pool, ["pool", pool, owners.get(pool, "")]) for pool in names])
        for pool in sorted(owners):
            yield self._pool_members(pool, frozenset(self._picture.members.get(pool, ())), claims[pool])
        for pool in claims.keys() - owners.keys():
            for member, refs in claims[pool].items():
                self._found("pool", pool, f"{refs[0]} holds {member} of a pool that does not exist", False)

    @inlineCallbacks
    def _pool_keys(self) -> Generator[Deferred[Any], Any, set[str]]:
        names: set[str] = set()
        for pattern in ("pool:*", "held:*"):
            cursor = b"0"
            while True:
                cursor, keys = yield self._pool.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
                names.update(key.decode()[5:] for key in keys)
                if cursor == b"0":
                    break
        return names

    @inlineCallbacks
    def _pool_members(
        self, pool: str, members: frozenset[str], claims: dict[str, list[str]]
    ) -> Generator[Deferred[Any], Any, None]:
        free: set[str] = set()
        cursor = b"0"
        while True:
            cursor, some = yield self._pool.call("SSCAN", "pool:" + pool, cursor, "COUNT", 1000)
            free.update(member.decode() for member in some)
            if cursor == b"0":
                break
        held = yield self._scan_pairs("HSCAN", "held:" + pool)
        suspects = []
        for member in members | free | held.keys() | claims.keys():
            refs = claims.get(member, [])
            if member not in members:
                suspects.append(("pool", pool, ["stranger", pool, member, refs]))
            else:
                holder = [held[member]] if member in held else []
                if holder != refs or (member in free) is bool(holder):
                    suspects.append(("pool", pool, ["member", pool, member, refs]))
        yield self._second_look(suspects)

    @inlineCallbacks
    def _scan_pairs(self, command: str, key: str) -> Generator[Deferred[Any], Any, dict[str, str]]:
        found: dict[str, str] = {}
        cursor = b"0"
        while True:
            cursor, flat = yield self._pool.call(command, key, cursor, "COUNT", 1000)
            found.update((name.decode(), value.decode()) for name, value in zip(flat[::2], flat[1::2], strict=True))
            if cursor == b"0":
                return found

    # Counters, at one moment.

    @inlineCallbacks
    def _last_position(self) -> Generator[Deferred[Any], Any, str]:
        last = yield self._pool.call("XREVRANGE", "ev", "+", "-", "COUNT", 1)
        return last[0][0].decode() if last else "0-0"

    @inlineCallbacks
    def _follow(self) -> Generator[Deferred[Any], Any, None]:
        """
        Read again what was written since; a busy cloud has more by then, which
        the comparison notices.
        """
        while True:
            start = "(" + self._picture.position
            events = yield self._pool.call("XRANGE", "ev", start, "+", "COUNT", PIECE)
            if not events:
                return
            changed = []
            for position, flat in events:
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                changed.append(f"{fields[b'kind'].decode()}:{fields[b'id'].decode()}")
                self._picture.position = position.decode()
            refs = list(dict.fromkeys(changed))
            for ref, filed in zip(refs, (yield self._filed(refs)), strict=True):
                self._picture.forget(ref)
                if filed is not None:
                    self._picture.filed[ref] = orjson.loads(filed)
            if len(events) < PIECE:
                return

    def _filed(self, refs: list[str]) -> Deferred[list[bytes | None]]:
        return self._pool.batch([("HGET", "o:" + ref, "d") for ref in refs])

    @inlineCallbacks
    def _counters(self) -> Generator[Deferred[Any], Any, None]:
        suspects: set[str] | None = None
        for _ in range(TRIES):
            sums = yield self._sums()
            if suspects is None:
                found = yield self._scan_pairs("HSCAN", "c")
                suspects = {n for n in sums.keys() | found.keys() if str(sums.get(n, 0)) != found.get(n)}
                suspects -= {name for name in suspects if not sums.get(name) and name not in found}
            suspects = yield self._compare_counters(suspects, sums)
            if not suspects:
                return
            yield self._follow()
        self.log.info("{count} counters were written too often to be compared", count=len(suspects or ()))

    @inlineCallbacks
    def _sums(self) -> Generator[Deferred[Any], Any, dict[str, int]]:
        sums: dict[str, int] = defaultdict(int)
        for piece in _pieces(list(self._picture.filed.values()), 10 * PIECE):
            for filed in piece:
                for name, amount in filed["c"].items():
                    sums[name] += amount
            if len(self._picture.filed) > 10 * PIECE:
                yield self._pause()
        return sums

    @inlineCallbacks
    def _compare_counters(self, names: set[str], sums: dict[str, int]) -> Generator[Deferred[Any], Any, set[str]]:
        """
        @return: those that can't be compared, since something was written.
        """
        moved = set()
        for piece in _pieces(sorted(names)):
            items = [["counter", name, sums.get(name, 0), self._picture.position] for name in piece]
            data = orjson.dumps({"repair": self._repair, "items": items})
            for name, answer in zip(piece, (yield self._run("check", scripts.VERIFY, data)), strict=True):
                if answer == b"moved":
                    moved.add(name)
                elif answer:
                    self._found("counter", name, answer.decode(), self._repair)
        return moved

    @inlineCallbacks
    def _references(self) -> Generator[Deferred[Any], Any, None]:
        suspects = [
            ("reference", ref, ["reference", ref, to, generation])
            for ref, generation, to in self._picture.references
            if to not in self._picture.filed
        ]
        yield self._second_look(suspects)

    def _pause(self) -> Deferred[Any]:
        """Let others work."""
        return self._pool.call("PING")


def _pieces(items: Iterable[Any], size: int = PIECE) -> Iterator[list[Any]]:
    iterator = iter(items)
    while piece := list(islice(iterator, size)):
        yield piece


def _differences(fields: dict[bytes, bytes], filed: Filed, expected: dict[str, Any]) -> str:
    """
    @return: what in a record's own hash is not as derived, or "".
    """
    if b"s" not in fields:
        return "its place is lost"
    try:
        found = orjson.loads(fields[b"d"])
    except (KeyError, ValueError):
        return "what is filed is lost"
    wrong = [key for key in sorted(found.keys() | expected.keys()) if found.get(key) != expected.get(key)]
    if wrong:
        return "filed otherwise than derived: " + ", ".join(wrong)
    for name, view in filed.views.items():
        if fields.get(b"v:" + name.encode()) != view:
            return f"the view {name} differs"
    return ""


def _scope_fields(fields: dict[bytes, bytes], expected: dict[str, Any]) -> bool:
    """
    @return: whether the scopes in a record's own hash are wrong.
    """
    found = {field: place for field, place in fields.items() if field[:2] == b"s:"}
    return found != {b"s:" + scope.encode(): fields.get(b"s") for scope in expected["s"] + expected["l"]}


def _index_keys(kind: str, filed: dict[str, Any]) -> Iterator[str]:
    for scope in filed["l"]:
        yield f"x:{kind}:{scope}"
    for scope in filed["s"]:
        base = f"x:{kind}:{scope}"
        yield base
        for facet in filed["f"]:
            yield f"{base}:{facet}"


def _index_item(key: str, id: str) -> Item:
    _, kind, scope, *facet = key.split(":", 3)
    return ["index", kind, id, scope, facet[0] if facet else ""]
