"""
Where the people stand in the directory's tree, and what their entries look
like.

The names are those that the first Nova used (C{accessKey}, C{secretKey},
C{isNovaAdmin}, C{projectManager}), so that its directories can be read::

    <base>
      ou=Users      uid=ann            inetOrgPerson, novaUser
      ou=Groups     cn=web             groupOfNames, novaProject
                      cn=sysadmin        groupOfNames: who is sysadmin in web
      ou=Roles      cn=itsec           groupOfNames: who is itsec everywhere

A user's DN begins with C{uid=}, a project's and a role's with C{cn=}; what
stands there is the id.  People who stand otherwise are not seen.

That somebody is cloudadmin everywhere is said by C{isNovaAdmin}, alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import attrs

from fabric import errors

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Attributes = Mapping[str, Iterable[bytes]]
"""The attributes of an entry, by lower-case name."""


def is_id(text: str) -> bool:
    """
    Whether C{text} can be the id of a user or project.  Nothing in such an id
    has a meaning in a DN, so DNs are made of them without escapes.
    """
    return _ID.fullmatch(text) is not None


def require_id(name: str, text: str) -> None:
    """@raise InvalidValue: C{text} can't be an id."""
    if not is_id(text):
        raise errors.InvalidValue(name=name, value=text, why="must be 1 to 64 of A-Z a-z 0-9 . _ -")


def rdns(dn: str) -> tuple[str, ...]:
    """
    The parts of a DN (RFC 4514) from the leaf up, lower-case: equal for two
    spellings of one DN, as far as case and spaces go.
    """
    parts, start, position = [], 0, 0
    while position < len(dn):
        if dn[position] == "\\":
            position += 1
        elif dn[position] == ",":
            parts.append(dn[start:position].strip().lower())
            start = position + 1
        position += 1
    parts.append(dn[start:].strip().lower())
    return tuple(parts) if dn.strip() else ()


def leaf(dn: str) -> str:
    """
    The value of a DN's first part, in the case that it was written.
    """
    return dn.partition("=")[2].split(",", 1)[0].strip()


def below(dn: str, base: str) -> tuple[str, ...] | None:
    """
    The parts of C{dn} under C{base}, from the leaf up; None when it is
    elsewhere.
    """
    parts, root = rdns(dn), rdns(base)
    if parts[len(parts) - len(root) :] != root or len(parts) < len(root):
        return None
    return parts[: len(parts) - len(root)]


def first(attributes: Attributes, name: str) -> str:
    """
    The first value of an attribute as text, C{""} when there is none.
    """
    for value in attributes.get(name, ()):
        return value.decode("utf-8", "replace")
    return ""


@attrs.frozen
class Layout:
    """
    The DNs of the subtrees.

    @ivar base: the entry that all others stand under.
    @ivar users: where users are looked for, at any depth, and made.
    @ivar projects: where projects stand, with their roles under them.
    @ivar roles: where the roles held for the whole cloud stand.
    """

    base: str = "dc=cloud"
    users: str = attrs.field()
    projects: str = attrs.field()
    roles: str = attrs.field()

    @users.default
    def _users(self) -> str:
        return f"ou=Users,{self.base}"

    @projects.default
    def _projects(self) -> str:
        return f"ou=Groups,{self.base}"

    @roles.default
    def _roles(self) -> str:
        return f"ou=Roles,{self.base}"

    def user(self, id: str) -> str:
        """The DN of a user made here."""
        return f"uid={id},{self.users}"

    def project(self, id: str) -> str:
        """The DN of a project."""
        return f"cn={id},{self.projects}"

    def role(self, role: str, project: str | None) -> str:
        """The DN of the group of those who hold a role."""
        return f"cn={role},{self.roles if project is None else self.project(project)}"

    def member(self, dn: str) -> str | None:
        """The id of the user that a DN names, None when it is no user's."""
        if below(dn, self.users) and dn[:4].lower() == "uid=" and is_id(leaf(dn)):
            return leaf(dn)
        return None
