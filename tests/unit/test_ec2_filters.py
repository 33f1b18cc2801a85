"""
EC2's filters and page tokens, without a store.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fabric.api.ec2.actions.instance_filters import instance_filters
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.filters import FilterTable, choice, constant, facet, flag, literal, matcher, of_record, own_project
from fabric.api.ec2.pagination import ALL, Bounds, Window, cursor, token, window
from fabric.cloud.access import Caller

ANN = Caller("ann", "alpha")

TABLE = FilterTable(
    {
        "state": facet("state"),
        "code": choice("state", {"0": ("pending",), "16": ("running",), "32": ("stopping", "stopped")}),
        "hypervisor": constant("xen"),
        "vpc-id": constant(),
        "owner-id": own_project,
        "colour": of_record(lambda record: (record,)),
        "bright": flag(lambda record: record == "white"),
    }
)


def by(name: str, *values: str) -> dict[str, object]:
    return {"Name": name, "Values": list(values)}


class MatcherTests(SynchronousTestCase):
    """Values with wildcards."""

    def test_wildcards(self) -> None:
        """A star is any text, a question mark one character, a backslash takes the next literally."""
        for value, text, expected in (
            ("a*", "abc", True),
            ("a*", "a", True),
            ("a?", "ab", True),
            ("a?", "abc", False),
            ("a\\*", "a*", True),
            ("a\\*", "ab", False),
            ("a\\\\*", "a\\b", True),
            ("[ab]", "a", False),
            ("[!a]*", "[!a]x", True),
            ("A", "a", False),
            ("a*", "a\nb", True),
            ("a", "a\n", False),
            ("", "", True),
        ):
            self.assertEqual(matcher((value,))(text), expected, (value, text))

    def test_alternatives(self) -> None:
        """One of the values is enough."""
        fits = matcher(("a", "b*"))
        self.assertEqual([fits(text) for text in ("a", "bcd", "c")], [True, True, False])

    def test_literal(self) -> None:
        """A literal matches itself and nothing else."""
        odd = "a*b?c\\d[e]"
        self.assertTrue(matcher((literal(odd),))(odd))
        self.assertFalse(matcher((literal("a*"),))("ab"))

    def test_hostile(self) -> None:
        """Many stars take no more time than few."""
        self.assertFalse(matcher(("*a" * 60 + "b",))("a" * 256))


class TableTests(SynchronousTestCase):
    """From filters to what the store looks up."""

    def test_facets(self) -> None:
        """What is filed goes to the store as it is, tags included."""
        found = TABLE.narrow(ANN, [by("state", "run*"), by("tag:a=b", "x"), by("tag-key", "k")])
        self.assertEqual(found.facets, (("state", ("run*",)), ("tag:a=b", ("x",)), ("tag-key", ("k",))))
        self.assertEqual((found.tests, found.nothing), ((), False))

    def test_choice(self) -> None:
        """EC2's values become the store's."""
        self.assertEqual(
            TABLE.narrow(ANN, [by("code", "16", "3?")]).facets, (("state", ("running", "stopping", "stopped")),)
        )
        self.assertTrue(TABLE.narrow(ANN, [by("code", "99")]).nothing)

    def test_constants(self) -> None:
        """What is the same for all needs no look-up."""
        for name, value, nothing in (
            ("hypervisor", "x*", False),
            ("hypervisor", "kvm", True),
            ("vpc-id", "*", True),
            ("owner-id", "alpha", False),
            ("owner-id", "beta", True),
        ):
            found = TABLE.narrow(ANN, [by(name, value)])
            self.assertEqual((found.nothing, found.facets, found.tests), (nothing, (), ()))

    def test_records(self) -> None:
        """What is not filed is a test of records; all must hold."""
        found = TABLE.narrow(ANN, [by("colour", "w*"), by("bright", "true")])
        self.assertEqual([found.passes(colour) for colour in ("white", "wine")], [True, False])

    def test_refusals(self) -> None:
        """An unknown name, no name, no value and too many values are refused."""
        for filters, code in (
            ([by("color", "x")], "InvalidParameterValue"),
            ([by("tag:", "x")], "InvalidParameterValue"),
            ([{"Values": ["x"]}], "InvalidParameterValue"),
            ([by("state")], "InvalidParameterValue"),
            ([by("state", *"ab" * 100), by("code", "0")], "FilterLimitExceeded"),
        ):
            error = self.assertRaises(EC2Error, TABLE.narrow, ANN, filters)
            self.assertEqual(error.code, code)

    def test_private_tags(self) -> None:
        """Where others' things are listed, tags find only one's own."""
        table = FilterTable({}, private_tags=True)
        found = table.narrow(Caller("ann", "al*"), [by("tag:a", "b")])
        self.assertEqual(found.facets, (("tag:a", ("b",)), ("owner", ("al\\*",))))

    def test_untagged(self) -> None:
        """A Describe of what has no tags knows no filter for them."""
        self.assertRaises(EC2Error, FilterTable({}, tagged=False).narrow, ANN, [by("tag:a", "b")])

    def test_host_name(self) -> None:
        """A whole DNS name is looked up by what is filed of it."""
        found = instance_filters("cloud.test").narrow(ANN, [by("private-dns-name", "ip-10-0-0-5.cloud.test")])
        self.assertEqual(found.facets, (("hostname", ("ip-10-0-0-5",)),))
        found = instance_filters("cloud.test").narrow(ANN, [by("private-dns-name", "ip-10-*")])
        self.assertEqual((found.facets, len(found.tests)), ((), 1))


class TokenTests(SynchronousTestCase):
    """Pages."""

    def test_round_trip(self) -> None:
        """A token gives its cursor back to the action that made it."""
        for text in ("1", "123|45|é", "x" * 500):
            made = token("DescribeTags", text)
            self.assertRegex(made, "^[A-Za-z0-9_-]+$")
            self.assertEqual(cursor("DescribeTags", made), text)
            self.assertRaises(EC2Error, cursor, "DescribeImages", made)
        self.assertEqual(token("DescribeTags", ""), "")

    def test_nonsense(self) -> None:
        """What is no token is refused, whatever it is."""
        for text in ("a", "====", "é", "AAAAAAAAAAAA", token("DescribeTags", "5")[:-2]):
            error = self.assertRaises(EC2Error, cursor, "DescribeTags", text)
            self.assertEqual(error.code, "InvalidParameterValue")

    def test_window(self) -> None:
        """Without MaxResults all is wanted; with it, no more than the bound."""
        self.assertEqual(window("DescribeTags", {}, Bounds()), ALL)
        self.assertTrue(ALL.whole)
        self.assertEqual(window("DescribeTags", {"MaxResults": 2000}, Bounds()), Window(1000, ""))
        rest = {"MaxResults": 7, "NextToken": token("DescribeTags", "9")}
        self.assertEqual(window("DescribeTags", rest, Bounds()), Window(7, "9"))

    def test_refusals(self) -> None:
        """Below the bound, above one that does not clamp, and together with ids."""
        for parameters, bounds, ids, code in (
            ({"MaxResults": 4}, Bounds(), False, "InvalidParameterValue"),
            ({"MaxResults": 101}, Bounds(5, 100, clamps=False), False, "InvalidParameterValue"),
            ({"MaxResults": 5}, Bounds(ids="instancesSet"), True, "InvalidParameterCombination"),
        ):
            error = self.assertRaises(EC2Error, window, "DescribeTags", parameters, bounds, ids)
            self.assertEqual(error.code, code)
