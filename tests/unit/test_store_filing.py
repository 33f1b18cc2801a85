"""What is sent to the server for a record."""

from __future__ import annotations

import attrs
import orjson
from twisted.trial.unittest import SynchronousTestCase

from fabric import errors
from fabric.errors import InvalidValue
from fabric.model.record import ALL, Derived, Record
from fabric.store.filing import check_members, dump, dump_derived, facet_key, file, load, scope_key, wanted
from fabric.store.plan import Taking, plan, refusal
from fabric.testing.samples import PlainViews, Sample


@attrs.frozen
class OfAll(Record):
    """A record that only operators see."""

    kind = "of_all"
    id: str
    project: str = ""


class FilingTests(SynchronousTestCase):
    """L{fabric.store.filing}."""

    def test_record_and_back(self) -> None:
        """A record's text has its version and becomes the record again; what another version added is ignored."""
        sample = Sample("a", holds=("m",), tags={"é": "<"})
        data = orjson.loads(dump(sample))
        self.assertEqual(data["v"], 1)
        data["later"] = 1
        self.assertEqual(load(Sample, orjson.dumps(data)), sample)

    def test_facets_of_operators(self) -> None:
        """Facets are filed in the operators' scope only where it is the only one."""
        shared = orjson.loads(file(Sample("a", host="h"), {}).derived)
        self.assertEqual((shared["s"], shared["l"]), (["p"], ["host%3Ah", "*all"]))
        self.assertEqual(shared["c"], {"~unfaceted:sample:host%3Ah": 1, "~unfaceted:sample:*all": 1})
        alone = orjson.loads(dump_derived(OfAll("a"), Derived(scopes=(ALL,)), {}, {}))
        self.assertEqual((alone["s"], alone["l"], alone["c"]), (["*all"], [], {}))

    def test_keys_can_not_be_forged(self) -> None:
        """No project, facet or value makes another's key."""
        self.assertEqual(scope_key("p:state=x%"), "p%3Astate=x%25")
        self.assertEqual(facet_key("tag:a=b%"), "tag:a%3Db%25")

    def test_wildcards(self) -> None:
        """A value is plain, or pieces between stars and question marks; a backslash escapes."""
        for value, read in (
            ("plain", "plain"),
            ("a\\*b\\\\", "a*b\\"),
            ("a*b", [["a"], ["b"]]),
            ("?", [["", ""]]),
            ("*a?b\\?", [[""], ["a", "b?"]]),
            ("\\", "\\"),
        ):
            self.assertEqual(wanted(value), read)

    def test_members(self) -> None:
        """A pool's members have no character that a text would have to escape."""
        check_members("p", ("10.0.0.1", "e1.2", "fd00::1", "a/b-c_d"))
        for member in ("", "a b", '"', "<", "\\", "~take-", "é"):
            self.assertRaises(InvalidValue, check_members, "p", (member,))


class PlanTests(SynchronousTestCase):
    """L{fabric.store.plan}."""

    def test_written_twice(self) -> None:
        """A transaction that writes one record twice is a mistake of the caller."""
        transaction = Taking("r")
        transaction.create(Sample("a"))
        transaction.deletes.append(("sample", "a", 1))
        self.assertRaises(ValueError, plan, transaction, PlainViews())

    def test_placeholders(self) -> None:
        """Placeholders differ within and between transactions."""
        one, other = Taking("r"), Taking("r")
        self.assertEqual(len({one.take("p"), one.take("p"), other.take("p")}), 3)

    def test_refusals(self) -> None:
        """A script's refusal is the typed error, numbers as numbers."""
        error = refusal([b"LimitExceeded", b"c", b"1", b"2", b"3"])
        self.assertIsInstance(error, errors.LimitExceeded)
        self.assertEqual(errors.to_wire(error)["fields"], {"counter": "c", "limit": 1, "used": 2, "wanted": 3})
        self.assertIsInstance(refusal([b"PoolEmpty", b"p", b"2"]), errors.PoolEmpty)
