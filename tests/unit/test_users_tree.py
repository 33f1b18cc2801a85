"""
The tree of the embedded directory, and its text.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from ldaptor.protocols import pureber, pureldap
from ldaptor.protocols.ldap import ldaperrors
from twisted.trial.unittest import SynchronousTestCase

from fabric.users import ldif
from fabric.users.tree import ADD, BASE, DELETE, ONE, REPLACE, SUBTREE, Entry, Tree, compile_filter, load

names = st.sampled_from([b"description", b"cn", b"member", b"Member", b"accessKey", b"x-y"])
values = st.one_of(st.binary(max_size=40), st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")))
pairs = st.lists(st.tuples(names, values), max_size=8)
ids = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=',=\\"+<>;#'), min_size=1, max_size=12)

TOP = [(b"objectClass", b"top"), (b"dc", b"cloud")]


def held(tree: Tree) -> list[tuple[str, dict[bytes, tuple[bytes, ...]]]]:
    """All that a tree says, but for the case of attributes' names."""
    return [(entry.dn, entry.values) for entry in tree.search("dc=cloud", SUBTREE, lambda _: True)]


def small() -> Tree:
    """A tree with one group and a person."""
    tree = Tree({}).add("dc=cloud", TOP).add("ou=Users,dc=cloud", [(b"objectClass", b"top"), (b"ou", b"Users")])
    person = [
        (b"objectClass", b"person"),
        (b"uid", b"Ann"),
        (b"accessKey", b"KEY"),
        (b"mail", b"a@x"),
        (b"mail", b"b@x"),
    ]
    tree = tree.add("uid=Ann,ou=Users,dc=cloud", person)
    return tree.add("cn=g,dc=cloud", [(b"objectClass", b"groupOfNames"), (b"cn", b"g"), (b"member", b"uid=Ann")])


def equality(name: str, value: str) -> pureldap.LDAPFilter_equalityMatch:
    """A filter."""
    return pureldap.LDAPFilter_equalityMatch(
        attributeDesc=pureldap.LDAPAttributeDescription(name.encode()),
        assertionValue=pureldap.LDAPAssertionValue(value.encode()),
    )


class LDIFTests(SynchronousTestCase):
    """Entries to text and back."""

    @given(st.lists(pairs, max_size=5))
    @settings(max_examples=200, deadline=None)
    def test_roundTrip(self, entries: list[ldif.Pairs]) -> None:
        """Whatever an entry holds comes back as it was, in order."""
        entries = [[(b"dn", b"x=%d" % n), *each] for n, each in enumerate(entries)]
        self.assertEqual(ldif.parse(ldif.render(entries)), entries)

    @given(st.lists(st.tuples(ids, pairs), max_size=12), st.data())
    @settings(max_examples=200, deadline=None)
    def test_treeRoundTrip(self, wanted: list[tuple[str, ldif.Pairs]], data: st.DataObject) -> None:
        """A tree that was written and loaded is the same tree."""
        tree, places = Tree({}).add("dc=cloud", TOP), ["dc=cloud"]
        for id, more in wanted:
            dn = f"cn={id},{data.draw(st.sampled_from(places))}"
            try:
                tree = tree.add(dn, [(b"objectClass", b"top"), *more])
            except ldaperrors.LDAPEntryAlreadyExists:
                continue
            places.append(dn)
        self.assertEqual(held(load(tree.text())), held(tree))
        self.assertEqual(load(tree.text()).text(), tree.text())

    @given(st.data())
    @settings(max_examples=100, deadline=None)
    def test_cutOff(self, data: st.DataObject) -> None:
        """A text that was cut off is refused, or is the entries before the cut."""
        text = small().text()
        cut = data.draw(st.integers(0, len(text) - 1))
        try:
            tree = load(text[:cut])
        except ldif.Malformed:
            return
        self.assertLessEqual(len(tree), len(small()))

    def test_foldedAndCommented(self) -> None:
        """Text of other tools is read: folded lines, comments, a version, CRLF."""
        text = b"version: 1\r\n\r\n# who\r\n#  is this\r\ndn: dc=cl\r\n oud\r\n"
        text += b"objectClass:top\r\ndescription:: YQ=\r\n =\r\n\r\n\r\n"
        expected = [(b"dn", b"dc=cloud"), (b"objectClass", b"top"), (b"description", b"a")]
        self.assertEqual(ldif.parse(text), [expected])

    def test_malformed(self) -> None:
        """What is no LDIF is refused with the place."""
        for text, place in (
            (b"dn: dc=x\nnonsense\n", "line 2"),
            (b"cn: x\n", "dn"),
            (b"dn:: !\n", "line 1"),
            (b"dn: dc=x\njpegPhoto:< file:///etc/shadow\n", "line 2"),
            (b"dn: dc=x\ncn: x", "cut off"),
        ):
            self.assertIn(place, str(self.assertRaises(ldif.Malformed, ldif.parse, text)))

    def test_noTree(self) -> None:
        """Entries that stand under none, or twice at a place, are refused."""
        for text in (
            b"dn: dc=x\nobjectClass: top\n\ndn: cn=a,dc=y\nobjectClass: top\n",
            b"dn: dc=x\nobjectClass: top\n\ndn: DC=X\nobjectClass: top\n",
            b"dn: nonsense\nobjectClass: top\n",
            b"dn: dc=x\ncn: x\n",
        ):
            self.assertRaises(ldif.Malformed, load, text)


class TreeTests(SynchronousTestCase):
    """Changes, and how they are refused."""

    def found(self, tree: Tree, wanted: object, base: str = "dc=cloud", scope: int = SUBTREE) -> list[str]:
        return [entry.dn for entry in tree.search(base, scope, compile_filter(wanted))]

    def entry(self, tree: Tree, dn: str) -> Entry:
        return tree.search(dn, BASE, lambda _: True)[0]

    def test_refusals(self) -> None:
        """Each change that can't be made is refused with LDAP's own error."""
        tree, ann, group = small(), "uid=ann,ou=users,dc=cloud", "cn=g,dc=cloud"
        for error, change in (
            (ldaperrors.LDAPEntryAlreadyExists, lambda: tree.add("UID=ann, OU=Users,DC=cloud", TOP)),
            (ldaperrors.LDAPNoSuchObject, lambda: tree.add("cn=x,ou=none,dc=cloud", TOP)),
            (ldaperrors.LDAPObjectClassViolation, lambda: tree.add("cn=x,dc=cloud", [(b"cn", b"x")])),
            (ldaperrors.LDAPInvalidDNSyntax, lambda: tree.add("x,dc=cloud", TOP)),
            (ldaperrors.LDAPInvalidDNSyntax, lambda: tree.delete("")),
            (ldaperrors.LDAPNoSuchObject, lambda: tree.delete("cn=x,dc=cloud")),
            (ldaperrors.LDAPNotAllowedOnNonLeaf, lambda: tree.delete("ou=Users,dc=cloud")),
            (ldaperrors.LDAPNoSuchObject, lambda: tree.modify("cn=x,dc=cloud", [])),
            (ldaperrors.LDAPAttributeOrValueExists, lambda: tree.modify(ann, [(ADD, b"MAIL", [b"a@x"])])),
            (ldaperrors.LDAPNoSuchAttribute, lambda: tree.modify(ann, [(DELETE, b"mail", [b"c@x"])])),
            (ldaperrors.LDAPNoSuchAttribute, lambda: tree.modify(ann, [(DELETE, b"sn", [])])),
            (ldaperrors.LDAPNotAllowedOnRDN, lambda: tree.modify(ann, [(REPLACE, b"uid", [b"bob"])])),
            (ldaperrors.LDAPObjectClassViolation, lambda: tree.modify(group, [(DELETE, b"member", [b"uid=Ann"])])),
            (ldaperrors.LDAPNoSuchObject, lambda: tree.search("dc=other", SUBTREE, lambda _: True)),
        ):
            self.assertRaises(error, change)

    def test_modify(self) -> None:
        """All changes of a request are made, in order, in one step."""
        tree = small()
        changes = [
            (ADD, b"mail", [b"c@x"]),
            (DELETE, b"mail", [b"A@x"]),
            (REPLACE, b"sn", [b"s"]),
            (DELETE, b"accessKey", []),
        ]
        changed = self.entry(tree.modify("uid=ann,ou=users,dc=cloud", changes), "uid=Ann,ou=Users,dc=cloud")
        self.assertEqual(changed.values[b"mail"], (b"b@x", b"c@x"))
        self.assertEqual(changed.values[b"sn"], (b"s",))
        self.assertNotIn(b"accesskey", changed.values)

    def test_oldTreeStays(self) -> None:
        """A change leaves the tree that it was made from."""
        tree = small()
        before = held(tree)
        tree.delete("cn=g,dc=cloud").add("cn=h,dc=cloud", TOP).modify("dc=cloud", [(ADD, b"o", [b"x"])])
        self.assertEqual(held(tree), before)

    def test_scopes(self) -> None:
        """A search reaches the base, what is right under it, or all below."""
        anything = pureldap.LDAPFilter_present(b"objectClass")
        self.assertEqual(self.found(small(), anything, scope=BASE), ["dc=cloud"])
        self.assertEqual(self.found(small(), anything, scope=ONE), ["ou=Users,dc=cloud", "cn=g,dc=cloud"])
        self.assertEqual(len(self.found(small(), anything)), 4)
        self.assertEqual(len(self.found(small(), anything, base="OU=users, dc=CLOUD")), 2)

    def test_filters(self) -> None:
        """Filters mean what RFC 4511 says; keys mind case, names don't."""
        ann = ["uid=Ann,ou=Users,dc=cloud"]
        yes, no = equality("UID", "ann"), equality("accesskey", "key")
        self.assertEqual(self.found(small(), yes), ann)
        self.assertEqual(self.found(small(), no), [])
        self.assertEqual(self.found(small(), equality("accesskey", "KEY")), ann)
        self.assertEqual(self.found(small(), equality("uid", "*")), [])
        self.assertEqual(self.found(small(), pureldap.LDAPFilter_or([no, yes])), ann)
        self.assertEqual(self.found(small(), pureldap.LDAPFilter_and([no, yes])), [])
        self.assertEqual(self.found(small(), pureldap.LDAPFilter_and([pureldap.LDAPFilter_not(no), yes])), ann)

    def test_otherFilters(self) -> None:
        """A kind of filter that is not done is refused, not guessed."""
        for text in (
            pureldap.LDAPFilter_substrings(b"cn", [pureldap.LDAPFilter_substrings_initial(b"a")]),
            pureldap.LDAPFilter_greaterOrEqual(pureber.BEROctetString(b"a"), pureber.BEROctetString(b"b")),
        ):
            self.assertRaises(ldaperrors.LDAPInappropriateMatching, compile_filter, text)
