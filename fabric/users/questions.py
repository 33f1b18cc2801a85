"""
What is asked of an LDAP directory about people.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.logger import Logger

from fabric import errors
from fabric.users import session as wire
from fabric.users.interface import GLOBAL_ROLES, ROLES, Identity, Project, User
from fabric.users.keys import is_key
from fabric.users.names import Layout, below, first, is_id, leaf, rdns
from fabric.users.session import Entry, Refused, Session, both, equal

_USER = ("cn", "accessKey", "secretKey", "isNovaAdmin")
_PROJECT = ("projectManager", "description", "member")
MEMBERSHIP = ("projectManager", "cn")


class Questions:
    """
    Each is asked of the server; nothing is remembered here.  What the server
    refuses for other reasons than that a thing is missing is raised as
    L{Refused}.
    """

    log = Logger()

    def __init__(self, session: Session, layout: Layout) -> None:
        self._session = session
        self._layout = layout

    @inlineCallbacks
    def identify(self, access_key: str) -> Generator[Deferred[Any], Any, Identity]:
        """See L{fabric.users.interface.IDirectory.identify}."""
        key, _, wanted = access_key.rpartition(":") if ":" in access_key else (access_key, "", "")
        found = (yield self.users_where(equal("accessKey", key))) if is_key(key) else []
        found = [(dn, user) for dn, user in found if user.access_key == key]
        if len(found) > 1:
            self.log.error("Access key {key} is refused: {n} users have it", key=key, n=len(found))
        if len(found) != 1 or not found[0][1].secret_key:
            raise errors.NotFound(kind="access key", id=key)
        dn, user = found[0]
        mine, everywhere = yield self.memberships(dn, user)
        project = wanted or self._usual(user, mine)
        if project not in mine:
            yield self.find_project(project)
            if "cloudadmin" not in everywhere:
                raise errors.Denied(who=user.id, what=f"act in project {project}")
        roles = everywhere | mine.get(project, frozenset())
        return Identity(user.id, project, roles, user.access_key, user.secret_key)

    def _usual(self, user: User, mine: dict[str, frozenset[str]]) -> str:
        """
        The project of one who names none.
        """
        if user.id in mine or (user.admin and not mine):
            return user.id
        if not mine:
            raise errors.Denied(who=user.id, what="act without being in a project")
        return min(mine)

    @inlineCallbacks
    def memberships(self, dn: str, user: User) -> Generator[Deferred[Any], Any, Any]:
        """
        @return: the roles of a user by project that it is a member of, and the
            roles held everywhere.  Roles where it is no member don't count.
        """
        asked: list[Deferred[Any]] = [
            self.search(self._layout.projects, equal("member", dn), MEMBERSHIP),
            self._global_roles(dn, user),
        ]
        entries, everywhere = yield gatherResults(asked, consumeErrors=True).addErrback(_first)
        # What can't be an id is nobody's project: it could be taken for another word where projects are named.
        mine = {leaf(e.dn): self._derived(e, dn) for e in entries if self.is_project(e) and is_id(leaf(e.dn))}
        folded = {id.lower(): id for id in mine}
        for entry in entries:
            parts = below(entry.dn, self._layout.projects) or ()
            role = leaf(entry.dn)
            if len(parts) == 2 and role in ROLES and leaf(parts[1]) in folded:
                mine[folded[leaf(parts[1])]] |= {role}
        return mine, everywhere

    @inlineCallbacks
    def _global_roles(self, dn: str, user: User) -> Generator[Deferred[Any], Any, frozenset[str]]:
        groups = yield self.search(self._layout.roles, equal("member", dn), ("cn",))
        held = {leaf(entry.dn) for entry in groups if len(below(entry.dn, self._layout.roles) or ()) == 1}
        roles = held & set(GLOBAL_ROLES) - {"cloudadmin"}
        return frozenset(roles | {"cloudadmin"} if user.admin else roles)

    @inlineCallbacks
    def roles(self, id: str, project: str | None) -> Generator[Deferred[Any], Any, frozenset[str]]:
        """Roles held in a project, or everywhere with None."""
        dn, user = yield self.find_user(id)
        if project is None:
            everywhere: frozenset[str] = yield self._global_roles(dn, user)
            return everywhere
        yield self.find_project(project)
        mine: dict[str, frozenset[str]]
        mine, _ = yield self.memberships(dn, user)
        return mine.get(project, frozenset()) - {"projectmanager"}

    @inlineCallbacks
    def users(self) -> Generator[Deferred[Any], Any, list[User]]:
        """All users, by id."""
        found = yield self.users_where()
        return sorted((user for _, user in found), key=lambda user: user.id)

    @inlineCallbacks
    def projects(self, user: str | None) -> Generator[Deferred[Any], Any, list[Project]]:
        """All projects, or those of a member, by id."""
        wanted = equal("objectClass", "novaProject")
        if user is not None:
            dn, _ = yield self.find_user(user)
            wanted = both(wanted, equal("member", dn))
        entries = yield self.search(self._layout.projects, wanted, _PROJECT, wire.ONE)
        found = [self._as_project(entry) for entry in entries]
        return sorted((each for each in found if is_id(each.id)), key=lambda each: each.id)

    @inlineCallbacks
    def user(self, id: str) -> Generator[Deferred[Any], Any, User]:
        """@raise NotFound: no such user."""
        user: User
        _, user = yield self.find_user(id)
        return user

    @inlineCallbacks
    def find_user(self, id: str) -> Generator[Deferred[Any], Any, tuple[str, User]]:
        """A user and its DN.  @raise NotFound: no such user, or no one such."""
        found = (yield self.users_where(equal("uid", id))) if is_id(id) else []
        exact: list[tuple[str, User]] = [(dn, user) for dn, user in found if user.id == id]
        if len(exact) > 1:
            self.log.error("User {id} is refused: it stands at {n} places", id=id, n=len(exact))
        if len(exact) != 1:
            raise errors.NotFound(kind="user", id=id)
        return exact[0]

    @inlineCallbacks
    def find_project(self, id: str) -> Generator[Deferred[Any], Any, Project]:
        """@raise NotFound: no such project."""
        if is_id(id):
            wanted = both(equal("objectClass", "novaProject"), equal("cn", id))
            for entry in (yield self.search(self._layout.projects, wanted, _PROJECT, wire.ONE)):
                if leaf(entry.dn) == id:
                    return self._as_project(entry)
        raise errors.NotFound(kind="project", id=id)

    @inlineCallbacks
    def users_where(self, *filters: Any) -> Generator[Deferred[Any], Any, list[tuple[str, User]]]:
        """The users that all filters match, with their DNs."""
        wanted = both(equal("objectClass", "novaUser"), *filters)
        entries = yield self.search(self._layout.users, wanted, _USER)
        named = [(self._layout.member(entry.dn), entry) for entry in entries]
        return [(entry.dn, _as_user(id, entry)) for id, entry in named if id is not None]

    @inlineCallbacks
    def search(
        self, base: str, wanted: Any, attributes: Iterable[str], scope: int = wire.SUBTREE
    ) -> Generator[Deferred[Any], Any, list[Entry]]:
        """
        @return: what is found; nothing when there is no C{base}.
        """
        try:
            found: list[Entry] = yield self._session.search(base, scope, wanted, tuple(attributes))
            return found
        except Refused as why:
            if why.code != wire.NO_SUCH_OBJECT:
                raise
            return []

    def is_project(self, entry: Entry) -> bool:
        """Whether an entry is a project, and not the group of a role."""
        return "projectmanager" in entry.attributes and len(below(entry.dn, self._layout.projects) or ()) == 1

    def manages(self, entry: Entry, dn: str) -> bool:
        """Whether the user at C{dn} manages the project."""
        return rdns(first(entry.attributes, "projectmanager")) == rdns(dn)

    def _derived(self, entry: Entry, dn: str) -> frozenset[str]:
        return frozenset({"projectmanager"} if self.manages(entry, dn) else ())

    def _as_project(self, entry: Entry) -> Project:
        member = self._layout.member
        named = (member(value.decode("utf-8", "replace")) for value in entry.attributes.get("member", ()))
        return Project(
            id=leaf(entry.dn),
            manager=member(first(entry.attributes, "projectmanager")) or "",
            description=first(entry.attributes, "description"),
            members=tuple(sorted({id for id in named if id is not None})),
        )


def _as_user(id: str, entry: Entry) -> User:
    got = entry.attributes
    admin = first(got, "isnovaadmin").upper() == "TRUE"
    return User(id, first(got, "cn") or id, first(got, "accesskey"), first(got, "secretkey"), admin)


def _first(why: Any) -> Any:
    """
    Of a gathered failure, the one that came first.
    """
    return why.value.subFailure
