"""
What is sent to the server for a record, and read back: pure functions.

The keys, all within one database (C{F} is a facet, escaped):

  - C{o:KIND:ID}: a hash for each record: C{g} its generation, C{r} the record,
    C{d} what is filed for it, C{s} its place in listings, C{v:NAME} its views,
    and C{s:SCOPE} for each scope that lists it, with the place again.
  - C{x:KIND:SCOPE}: a sorted set of the ids that a scope lists, by place;
    C{x:KIND:SCOPE:F=VALUE}: those of them with one value of a facet;
    C{w:KIND:SCOPE:F}: the values that a facet has there, for wildcards.
  - C{u}: unique name to C{KIND:ID}; C{c}: counters; C{due}: what a sweep must
    look at, by time; C{seq}: the last place given; C{beats}: heartbeats.
  - C{pools}: pool to the record it exists by; C{pool:POOL} its free members;
    C{held:POOL} its held ones with their holders.
  - C{ev} and C{ev:PROJECT}: streams of events.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs
import orjson

from fabric.errors import InvalidValue
from fabric.model.codec import decode, encode
from fabric.model.record import Derived, Record

R = TypeVar("R", bound=Record)

UNFACETED = "~unfaceted:"
"""
Counters C{~unfaceted:KIND:SCOPE} say how many records a scope lists without
their facets.  While there are any, a filter there looks at the records.
"""

_MEMBER = re.compile(r"^[A-Za-z0-9._:/-]+$")


@attrs.frozen
class Filed:
    """
    A record in the form in which it is stored.

    @ivar text: the record, as JSON.
    @ivar derived: all that is filed for it, as JSON.
    @ivar views: its views by name.
    @ivar members: the pools that exist because of it.
    @ivar held: C{(pool, member)} pairs that it holds.
    """

    text: bytes
    derived: bytes
    views: dict[str, bytes]
    members: Mapping[str, tuple[str, ...]]
    held: tuple[tuple[str, str], ...]


def file(record: Record, views: dict[str, bytes]) -> Filed:
    """
    @return: what is to be stored for a record and its rendered views.
    """
    members, derived = record.pool_members(), record.derived()
    return Filed(dump(record), dump_derived(record, derived, views, members), views, members, derived.pools)


def dump(record: Record) -> bytes:
    """
    @return: the record as JSON, with the version of its kind as C{v}.
    """
    data = encode(record)
    data["v"] = record.version
    return orjson.dumps(data)


def load(cls: type[R], text: bytes) -> R:
    """
    @return: the record that L{dump} wrote, by this version or one next to it.
    """
    return decode(cls, orjson.loads(text))


def dump_derived(
    record: Record, derived: Derived, views: Mapping[str, bytes], members: Mapping[str, tuple[str, ...]]
) -> bytes:
    """
    What is filed, as JSON: C{s} scopes with facets, C{l} scopes without, C{f}
    facets, C{u} unique names, C{c} counters, C{p} pool members held, C{t} when
    it is due, C{m} pools that exist by it, C{v} names of views, C{e} event, C{o} its project.

    Facets are filed for all operators' scopes only where no project has the
    record: a project's listings are filtered often, and operators' rarely.
    """
    kind = record.kind
    scopes = list(dict.fromkeys(derived.scopes))
    lists = list(derived.lists)
    if len(scopes) > 1 and "*all" in scopes:
        scopes.remove("*all")
        lists.append("*all")
    scopes = [scope_key(scope) for scope in scopes]
    lists = [key for key in map(scope_key, dict.fromkeys(lists)) if key not in scopes]
    counters = derived.counters
    if lists:
        counters = counters | {f"{UNFACETED}{kind}:{scope}": 1 for scope in lists}
    data: dict[str, Any] = {
        "s": scopes,
        "l": lists,
        "f": [
            f"{name}={value}" if "=" not in name and "%" not in name else f"{facet_key(name)}={value}"
            for name, value in dict.fromkeys(derived.facets)
        ],
        "u": derived.unique,
        "c": counters,
        "p": derived.pools,
        "m": list(members),
        "v": list(views),
        "e": derived.event,
        "o": record.project,
    }
    if derived.due is not None:
        data["t"] = repr(float(derived.due))
    return orjson.dumps(data)


def scope_key(scope: str) -> str:
    """
    @return: a scope as it stands in keys, without colons.
    """
    return scope.replace("%", "%25").replace(":", "%3A") if ":" in scope or "%" in scope else scope


def facet_key(name: str) -> str:
    """
    @return: a facet's name as it stands in keys, without equals signs.
    """
    return name.replace("%", "%25").replace("=", "%3D") if "=" in name or "%" in name else name


def check_members(pool: str, members: tuple[str, ...]) -> None:
    """
    See that members can stand in records and views unescaped.

    @raise InvalidValue: one can't.
    """
    for member in members:
        if not _MEMBER.match(member):
            raise InvalidValue(pool, member, "a member has only letters, digits and . _ : / -")


def wanted(value: str) -> str | list[list[str]]:
    """
    Read a filter's value, in which C{*} stands for any text, C{?} for any one
    character, and a backslash takes the next one literally.

    @return: the plain text; or for one with wildcards its pieces between the
        stars, each a list of the texts between the question marks.
    """
    if "*" not in value and "?" not in value and "\\" not in value:
        return value
    pieces = [[""]]
    characters = iter(value)
    for character in characters:
        if character == "*":
            pieces.append([""])
        elif character == "?":
            pieces[-1].append("")
        else:
            pieces[-1][-1] += next(characters, "\\") if character == "\\" else character
    return pieces[0][0] if len(pieces) == 1 and len(pieces[0]) == 1 else pieces
