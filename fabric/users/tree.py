"""
A directory's entries in memory.

A L{Tree} never changes: a change makes another tree, which shares the entries
that stay.  So a change that could not be written to disk has not happened, and
a search that runs meanwhile sees one state.

No schema is checked but the rules that the client of this package counts on: a
C{groupOfNames} has a member, and an entry has object classes.  Refusals are
ldaptor's errors, so that the server can answer with their codes (RFC 4511).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
from ldaptor.protocols import pureldap
from ldaptor.protocols.ldap import ldaperrors

from fabric.users import ldif
from fabric.users.names import rdns

Key = tuple[str, ...]
"""A DN's parts from the leaf up, lower-case."""

Match = Callable[["Entry"], bool]

ADD, DELETE, REPLACE = 0, 1, 2
BASE, ONE, SUBTREE = 0, 1, 2

_EXACT = frozenset({b"accesskey", b"secretkey", b"userpassword"})
"""Attributes in whose values case matters."""


@attrs.frozen(eq=False)
class Entry:
    """
    @ivar dn: as it was written.
    @ivar names: the attributes' names as they were written, by lower-case name.
    @ivar values: by lower-case name; never empty.
    """

    dn: str
    names: dict[bytes, bytes]
    values: dict[bytes, tuple[bytes, ...]]
    text: bytes = attrs.field(init=False, repr=False)

    @text.default
    def _text(self) -> bytes:
        return ldif.render_entry([(b"dn", self.dn.encode()), *self.pairs()])

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Names and values."""
        for low, values in self.values.items():
            for value in values:
                yield self.names[low], value

    def has(self, name: bytes, value: bytes) -> bool:
        """Whether an attribute has a value, under its rule for case."""
        held = self.values.get(name, ())
        return value in held if name in _EXACT else _fold(value) in map(_fold, held)


def make_entry(dn: str, pairs: Iterable[tuple[bytes, bytes]]) -> Entry:
    """
    An entry of names and values, in which values are not repeated.

    @raise LDAPObjectClassViolation: it lacks what each entry needs.
    """
    names: dict[bytes, bytes] = {}
    values: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        low = name.lower()
        names.setdefault(low, name)
        held = values.setdefault(low, [])
        if value not in held:
            held.append(value)
    entry = Entry(dn, names, {name: tuple(held) for name, held in values.items()})
    if not entry.values.get(b"objectclass"):
        raise ldaperrors.LDAPObjectClassViolation(b"an entry needs an objectClass")
    if entry.has(b"objectclass", b"groupOfNames") and not entry.values.get(b"member"):
        raise ldaperrors.LDAPObjectClassViolation(b"a groupOfNames needs a member")
    return entry


class Tree:
    """
    Entries by their place.
    """

    def __init__(self, entries: dict[Key, Entry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def text(self) -> bytes:
        """The tree as LDIF, each entry after the one that it stands under."""
        return ldif.render(()) + b"".join(entry.text for entry in self._entries.values())

    def add(self, dn: str, pairs: Iterable[tuple[bytes, bytes]]) -> Tree:
        """
        @return: a tree with one more entry.
        @raise LDAPException: there is one, or none that it could stand under.
        """
        key = _key(dn)
        if key in self._entries:
            raise ldaperrors.LDAPEntryAlreadyExists()
        if self._entries and key[1:] not in self._entries:
            raise ldaperrors.LDAPNoSuchObject()
        return Tree({**self._entries, key: make_entry(dn, pairs)})

    def delete(self, dn: str) -> Tree:
        """
        @return: a tree without an entry.
        @raise LDAPException: there is none, or others stand under it.
        """
        key = _key(dn)
        if key not in self._entries:
            raise ldaperrors.LDAPNoSuchObject()
        if any(other[1:] == key for other in self._entries):
            raise ldaperrors.LDAPNotAllowedOnNonLeaf()
        return Tree({other: entry for other, entry in self._entries.items() if other != key})

    def modify(self, dn: str, changes: Iterable[tuple[int, bytes, list[bytes]]]) -> Tree:
        """
        @return: a tree in which all changes were made to an entry.
        @raise LDAPException: one of them can't be made; none was.
        """
        key = _key(dn)
        old = self._entries.get(key)
        if old is None:
            raise ldaperrors.LDAPNoSuchObject()
        pairs = list(old.pairs())
        for kind, name, values in changes:
            pairs = _changed(pairs, kind, name, values)
        entry = make_entry(old.dn, pairs)
        attribute, _, value = key[0].partition("=")
        if not entry.has(attribute.encode(), value.encode()):
            raise ldaperrors.LDAPNotAllowedOnRDN()
        return Tree({**self._entries, key: entry})

    def search(self, base: str, scope: int, match: Match) -> list[Entry]:
        """
        @raise LDAPNoSuchObject: there is no C{base}.
        """
        key = _key(base)
        if key not in self._entries:
            raise ldaperrors.LDAPNoSuchObject()
        if scope == BASE:
            return [entry for entry in [self._entries[key]] if match(entry)]
        depth = len(key)
        return [
            entry
            for place, entry in self._entries.items()
            if place[len(place) - depth :] == key and (scope == SUBTREE or len(place) == depth + 1) and match(entry)
        ]


def load(text: bytes) -> Tree:
    """
    The tree that L{Tree.text} described.

    @raise Malformed: the text is not LDIF, or its entries make no tree.
    """
    tree = Tree({})
    entries: dict[Key, Entry] = tree._entries
    for (_, dn), *pairs in ldif.parse(text):
        try:
            key = _key(dn.decode())
            if key in entries or (entries and key[1:] not in entries):
                raise ldif.Malformed(f"entry {dn!r} is there twice, or stands under none")
            entries[key] = make_entry(dn.decode(), pairs)
        except (ldaperrors.LDAPException, UnicodeDecodeError) as why:
            raise ldif.Malformed(f"entry {dn!r}: {why}") from why
    return tree


def compile_filter(wanted: Any) -> Match:
    """
    What a search's filter says, as a function.

    @param wanted: one of ldaptor's C{LDAPFilter_...}.
    @raise LDAPInappropriateMatching: a kind that is not done here.
    """
    if isinstance(wanted, pureldap.LDAPFilter_and):
        parts = [compile_filter(each) for each in wanted.data]
        return lambda entry: all(part(entry) for part in parts)
    if isinstance(wanted, pureldap.LDAPFilter_or):
        parts = [compile_filter(each) for each in wanted.data]
        return lambda entry: any(part(entry) for part in parts)
    if isinstance(wanted, pureldap.LDAPFilter_not):
        part = compile_filter(wanted.value)
        return lambda entry: not part(entry)
    if isinstance(wanted, pureldap.LDAPFilter_equalityMatch):
        return _equality(bytes(wanted.attributeDesc.value).lower(), bytes(wanted.assertionValue.value))
    if isinstance(wanted, pureldap.LDAPFilter_present):
        name = bytes(wanted.value).lower()
        return lambda entry: name in entry.values
    raise ldaperrors.LDAPInappropriateMatching(type(wanted).__name__.encode())


def _equality(name: bytes, value: bytes) -> Match:
    if name in _EXACT:
        return lambda entry: value in entry.values.get(name, ())
    folded = _fold(value)
    return lambda entry: name in entry.values and folded in map(_fold, entry.values[name])


def _changed(pairs: ldif.Pairs, kind: int, name: bytes, values: list[bytes]) -> ldif.Pairs:
    low = name.lower()
    mine = [value for other, value in pairs if other.lower() == low]
    others = [pair for pair in pairs if pair[0].lower() != low]
    if kind == ADD:
        if any(value in mine for value in values):
            raise ldaperrors.LDAPAttributeOrValueExists()
        mine += values
    elif kind == REPLACE:
        mine = values
    elif kind == DELETE:
        folded = {_fold(value) for value in values}
        left = [value for value in mine if values and _fold(value) not in folded]
        if not mine or len(mine) - len(left) < len(values):
            raise ldaperrors.LDAPNoSuchAttribute()
        mine = left
    else:
        raise ldaperrors.LDAPProtocolError(b"no such change")
    return others + [(name, value) for value in mine]


def _fold(value: bytes) -> bytes:
    return value.lower()


def _key(dn: str) -> Key:
    key = rdns(dn)
    if not key or not all("=" in part[1:] for part in key):
        raise ldaperrors.LDAPInvalidDNSyntax()
    return key
