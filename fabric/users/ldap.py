"""
The people of a cloud, in an LDAP directory.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Generator, Iterable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail, gatherResults, inlineCallbacks
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from fabric import errors
from fabric.users import session as wire
from fabric.users.interface import GLOBAL_ROLES, ROLES, Identity, IDirectory, Project, User
from fabric.users.memo import Ages, Memo
from fabric.users.names import Layout, below, first, is_id, leaf, require_id
from fabric.users.session import Change, Entry, Refused, Server, Session, both, equal

_USER = ("uid", "cn", "accessKey", "secretKey", "isNovaAdmin")
_PROJECT = ("cn", "projectManager", "description", "member")
_MEMBERSHIP = ("cn", "projectManager", "objectClass")

T = TypeVar("T")
P = ParamSpec("P")
_Write = Callable[Concatenate["LDAPDirectory", P], Deferred[T]]


def new_access_key() -> str:
    """A fresh access key: 20 of A-Z and 2-7, 100 random bits."""
    return base64.b32encode(os.urandom(13)).decode()[:20]


def new_secret_key() -> str:
    """A fresh secret key: 40 of A-Z a-z 0-9 + /, 240 random bits."""
    return base64.b64encode(os.urandom(30)).decode()


def _write(method: Callable[Concatenate[LDAPDirectory, P], Generator[Deferred[Any], Any, T]]) -> _Write[P, T]:
    """
    Make a method of a generator that changes the directory: what was
    remembered is forgotten, however it ends, and a refusal that it does not
    expect becomes C{Unavailable}.
    """
    steps = inlineCallbacks(method)

    @wraps(method)
    def write(self: LDAPDirectory, /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        def ended(result: Any) -> Any:
            self._forget()
            return result

        return steps(self, *args, **kwargs).addErrback(self._refused).addBoth(ended)

    return write


@implementer(IDirectory)
class LDAPDirectory:
    """
    Users, projects and roles as entries that L{fabric.users.names} describes.

    LDAP changes one entry at a time.  Changes of several entries are made in
    an order that leaves something lawful at every point, and can be repeated.
    That an access key is used once is checked before it is written; to have it
    hold against two administrators at once, let the server check it
    (C{slapo-unique}, as in the example configuration).  A key that two users
    have is refused for both.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        server: Server,
        layout: Layout,
        ages: Ages | None = None,
        endpoint: IStreamClientEndpoint | None = None,
    ) -> None:
        """
        @param endpoint: instead of what C{server.endpoint} says, for tests.
        """
        clock: IReactorTime = reactor
        ages = ages or Ages()
        self._session = Session(reactor, server, endpoint)
        self._layout = layout
        self._identities: Memo[Identity] = Memo(clock, ages)
        self._answers: Memo[Any] = Memo(clock, ages)

    def identify(self, access_key: str) -> Deferred[Identity]:
        """See L{IDirectory}."""
        return self._identities.get(access_key, lambda: self._identify(access_key).addErrback(self._refused))

    def user(self, id: str) -> Deferred[User]:
        """See L{IDirectory}."""
        return self._ask(("user", id), lambda: self._find_user(id).addCallback(lambda found: found[1]))

    def users(self) -> Deferred[list[User]]:
        """See L{IDirectory}."""
        return self._ask(("users",), self._users).addCallback(list)

    def project(self, id: str) -> Deferred[Project]:
        """See L{IDirectory}."""
        return self._ask(("project", id), lambda: self._find_project(id))

    def projects(self, user: str | None) -> Deferred[list[Project]]:
        """See L{IDirectory}."""
        return self._ask(("projects", user), lambda: self._projects(user)).addCallback(list)

    def roles(self, user: str, project: str | None) -> Deferred[frozenset[str]]:
        """See L{IDirectory}."""
        return self._ask(("roles", user, project), lambda: self._roles(user, project))

    @_write
    def create_user(
        self, id: str, access_key: str | None, secret_key: str | None, admin: bool
    ) -> Generator[Deferred[Any], Any, User]:
        """See L{IDirectory}."""
        require_id("id", id)
        access = new_access_key() if access_key is None else access_key
        user = User(id, id, access, new_secret_key() if secret_key is None else secret_key, admin)
        _require_key("access_key", user.access_key)
        _require_key("secret_key", user.secret_key)
        if (yield self._users_where(equal("uid", id))):
            raise errors.AlreadyExists(kind="user", name=id, holder=id)
        yield self._require_free(user.access_key, id)
        attributes = {
            "objectClass": ["top", "person", "organizationalPerson", "inetOrgPerson", "novaUser"],
            "uid": [id],
            "cn": [id],
            "sn": [id],
            "accessKey": [user.access_key],
            "secretKey": [user.secret_key],
            "isNovaAdmin": [_boolean(admin)],
        }
        try:
            yield self._session.add(self._layout.user(id), attributes)
        except Refused as why:
            raise _taken(why, "user", id, user.access_key) from why
        return user

    @_write
    def delete_user(self, id: str) -> Generator[Deferred[Any], Any, None]:
        """See L{IDirectory}."""
        dn, _ = yield self._find_user(id)
        mine = yield self._search(self._layout.projects, equal("member", dn), _MEMBERSHIP)
        for entry in mine:
            if self._is_project(entry) and self._manages(entry, id):
                raise errors.InUse(kind="user", id=id, by=leaf(entry.dn))
        mine += yield self._search(self._layout.roles, equal("member", dn), _MEMBERSHIP)
        for entry in sorted(mine, key=self._is_project):
            yield self._leave(entry.dn, dn)
        yield self._gone(self._session.delete(dn))

    @_write
    def modify_user(
        self, id: str, access_key: str | None, secret_key: str | None, admin: bool | None
    ) -> Generator[Deferred[Any], Any, User]:
        """See L{IDirectory}."""
        dn, user = yield self._find_user(id)
        changes: list[Change] = []
        if access_key is not None and access_key != user.access_key:
            _require_key("access_key", access_key)
            yield self._require_free(access_key, id)
            changes.append((wire.REPLACE, "accessKey", [access_key]))
        if secret_key is not None:
            _require_key("secret_key", secret_key)
            changes.append((wire.REPLACE, "secretKey", [secret_key]))
        if admin is not None:
            changes.append((wire.REPLACE, "isNovaAdmin", [_boolean(admin)]))
        if changes:
            try:
                yield self._session.modify(dn, changes)
            except Refused as why:
                raise _taken(why, "user", id, access_key or "") from why
        return (yield self._find_user(id))[1]

    @_write
    def create_project(
        self, id: str, manager: str, description: str, members: tuple[str, ...]
    ) -> Generator[Deferred[Any], Any, Project]:
        """See L{IDirectory}."""
        require_id("id", id)
        everyone = sorted({manager, *members})
        found = yield gatherResults([self._find_user(user) for user in everyone], consumeErrors=True).addErrback(_first)
        dns = {user: dn for user, (dn, _) in zip(everyone, found, strict=True)}
        attributes = {
            "objectClass": ["top", "groupOfNames", "novaProject"],
            "cn": [id],
            "projectManager": [dns[manager]],
            "member": list(dns.values()),
        }
        if description:
            _require_text("description", description)
            attributes["description"] = [description]
        try:
            yield self._session.add(self._layout.project(id), attributes)
        except Refused as why:
            raise _taken(why, "project", id, "") from why
        return Project(id, manager, description, tuple(everyone))

    @_write
    def modify_project(
        self, id: str, manager: str | None, description: str | None
    ) -> Generator[Deferred[Any], Any, Project]:
        """See L{IDirectory}."""
        project = yield self._find_project(id)
        changes: list[Change] = []
        if manager is not None:
            dn, _ = yield self._find_user(manager)
            changes.append((wire.REPLACE, "projectManager", [dn]))
            if manager not in project.members:
                changes.append((wire.ADD, "member", [dn]))
        if description is not None:
            _require_text("description", description)
            changes.append((wire.REPLACE, "description", [description] if description else []))
        if changes:
            yield self._session.modify(self._layout.project(id), changes)
        return (yield self._find_project(id))

    @_write
    def delete_project(self, id: str) -> Generator[Deferred[Any], Any, None]:
        """See L{IDirectory}."""
        yield self._find_project(id)
        under = yield self._search(self._layout.project(id), equal("objectClass", "groupOfNames"), ("cn",))
        for entry in under:
            if below(entry.dn, self._layout.project(id)):
                yield self._gone(self._session.delete(entry.dn))
        yield self._gone(self._session.delete(self._layout.project(id)))

    @_write
    def add_member(self, project: str, user: str) -> Generator[Deferred[Any], Any, None]:
        """See L{IDirectory}."""
        yield self._find_project(project)
        dn, _ = yield self._find_user(user)
        yield self._join(self._layout.project(project), dn)

    @_write
    def remove_member(self, project: str, user: str) -> Generator[Deferred[Any], Any, None]:
        """See L{IDirectory}."""
        found = yield self._find_project(project)
        if found.manager == user:
            raise errors.InUse(kind="user", id=user, by=project)
        dn, _ = yield self._find_user(user)
        mine = yield self._search(self._layout.project(project), equal("member", dn), ("cn",))
        for entry in sorted(mine, key=lambda entry: -len(entry.dn)):
            yield self._leave(entry.dn, dn)

    @_write
    def add_role(self, user: str, role: str, project: str | None) -> Generator[Deferred[Any], Any, None]:
        """See L{IDirectory}."""
        _require_role(role, project)
        dn, _ = yield self._find_user(user)
        if project is not None:
            yield self._find_project(project)
        elif role == "cloudadmin":
            yield self._session.modify(dn, [(wire.REPLACE, "isNovaAdmin", [_boolean(True)])])
            return
        group = self._layout.role(role, project)
        try:
            yield self._join(group, dn)
        except Refused as why:
            if why.code != wire.NO_SUCH_OBJECT:
                raise
            yield self._make_group(group, role, dn)

    @_write
    def remove_role(self, user: str, role: str, project: str | None) -> Generator[Deferred[Any], Any, None]:
        """See L{IDirectory}."""
        _require_role(role, project)
        dn, _ = yield self._find_user(user)
        if project is not None:
            yield self._find_project(project)
        elif role == "cloudadmin":
            yield self._session.modify(dn, [(wire.REPLACE, "isNovaAdmin", [_boolean(False)])])
            return
        yield self._leave(self._layout.role(role, project), dn)

    def stop(self) -> Deferred[None]:
        """See L{IDirectory}."""
        return self._session.stop()

    @inlineCallbacks
    def prepare(self) -> Generator[Deferred[Any], Any, None]:
        """
        Make the entries that the others stand under, where they are missing.
        Repeating is safe.

        @raise Unavailable: no answer, or the account may not.
        """
        layout = self._layout
        kind, _, name = layout.base.split(",")[0].partition("=")
        top = {"objectClass": ["top", "organizationalUnit"], "ou": [name]}
        if kind.lower() == "dc":
            top = {"objectClass": ["top", "dcObject", "organization"], "dc": [name], "o": [name]}
        try:
            yield self._make(layout.base, top)
            for dn in (layout.users, layout.projects, layout.roles):
                yield self._make(dn, {"objectClass": ["top", "organizationalUnit"], "ou": [leaf(dn)]})
        except Refused as why:
            raise self._unexpected(why) from why

    @inlineCallbacks
    def _identify(self, access_key: str) -> Generator[Deferred[Any], Any, Identity]:
        key, _, wanted = access_key.rpartition(":") if ":" in access_key else (access_key, "", "")
        found = (yield self._users_where(equal("accessKey", key))) if _is_key(key) else []
        found = [(dn, user) for dn, user in found if user.access_key == key]
        if len(found) > 1:
            self.log.error("Access key {key} is refused: {n} users have it", key=key, n=len(found))
        if len(found) != 1 or not found[0][1].secret_key:
            raise errors.NotFound(kind="access key", id=key)
        dn, user = found[0]
        mine, everywhere = yield self._memberships(dn, user)
        project = wanted or self._usual(user, mine)
        if project not in mine:
            yield self._find_project(project)
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
    def _memberships(self, dn: str, user: User) -> Generator[Deferred[Any], Any, Any]:
        """
        @return: the user's roles by project that it is a member of, and those
            held everywhere.
        """
        entries, everywhere = yield gatherResults(
            [self._search(self._layout.projects, equal("member", dn), _MEMBERSHIP), self._global_roles(dn, user)],
            consumeErrors=True,
        ).addErrback(_first)
        mine = {first(e.attributes, "cn"): self._derived(e, user.id) for e in entries if self._is_project(e)}
        folded = {id.lower(): id for id in mine}
        for entry in entries:
            parts = below(entry.dn, self._layout.projects) or ()
            role = leaf(entry.dn)
            if len(parts) == 2 and role in ROLES and leaf(parts[1]) in folded:
                mine[folded[leaf(parts[1])]] |= {role}
        return mine, everywhere

    @inlineCallbacks
    def _global_roles(self, dn: str, user: User) -> Generator[Deferred[Any], Any, frozenset[str]]:
        groups = yield self._search(self._layout.roles, equal("member", dn), ("cn",))
        held = {leaf(entry.dn) for entry in groups if len(below(entry.dn, self._layout.roles) or ()) == 1}
        roles = held & set(GLOBAL_ROLES) - {"cloudadmin"}
        return frozenset(roles | {"cloudadmin"} if user.admin else roles)

    @inlineCallbacks
    def _roles(self, id: str, project: str | None) -> Generator[Deferred[Any], Any, frozenset[str]]:
        dn, user = yield self._find_user(id)
        if project is None:
            return (yield self._global_roles(dn, user))
        yield self._find_project(project)
        mine, _ = yield self._memberships(dn, user)
        return mine.get(project, frozenset()) - {"projectmanager"}

    @inlineCallbacks
    def _users(self) -> Generator[Deferred[Any], Any, list[User]]:
        found = yield self._users_where()
        return sorted((user for _, user in found), key=lambda user: user.id)

    @inlineCallbacks
    def _projects(self, user: str | None) -> Generator[Deferred[Any], Any, list[Project]]:
        wanted = equal("objectClass", "novaProject")
        if user is not None:
            dn, _ = yield self._find_user(user)
            wanted = both(wanted, equal("member", dn))
        entries = yield self._search(self._layout.projects, wanted, _PROJECT, wire.ONE)
        found = [self._as_project(entry) for entry in entries]
        return sorted((each for each in found if is_id(each.id)), key=lambda each: each.id)

    @inlineCallbacks
    def _find_user(self, id: str) -> Generator[Deferred[Any], Any, tuple[str, User]]:
        found = (yield self._users_where(equal("uid", id))) if is_id(id) else []
        for dn, user in found:
            if user.id == id:
                return dn, user
        raise errors.NotFound(kind="user", id=id)

    @inlineCallbacks
    def _find_project(self, id: str) -> Generator[Deferred[Any], Any, Project]:
        if is_id(id):
            wanted = both(equal("objectClass", "novaProject"), equal("cn", id))
            for entry in (yield self._search(self._layout.projects, wanted, _PROJECT, wire.ONE)):
                if first(entry.attributes, "cn") == id:
                    return self._as_project(entry)
        raise errors.NotFound(kind="project", id=id)

    @inlineCallbacks
    def _users_where(self, *filters: Any) -> Generator[Deferred[Any], Any, list[tuple[str, User]]]:
        wanted = both(equal("objectClass", "novaUser"), *filters)
        entries = yield self._search(self._layout.users, wanted, _USER)
        found = [(entry.dn, _as_user(entry)) for entry in entries]
        return [(dn, user) for dn, user in found if is_id(user.id)]

    @inlineCallbacks
    def _search(
        self, base: str, wanted: Any, attributes: Iterable[str], scope: int = wire.SUBTREE
    ) -> Generator[Deferred[Any], Any, list[Entry]]:
        """
        @return: what is found; nothing when there is no C{base}.
        """
        try:
            return (yield self._session.search(base, scope, wanted, tuple(attributes)))
        except Refused as why:
            if why.code != wire.NO_SUCH_OBJECT:
                raise
            return []

    @inlineCallbacks
    def _require_free(self, access_key: str, id: str) -> Generator[Deferred[Any], Any, None]:
        for _, user in (yield self._users_where(equal("accessKey", access_key))):
            if user.id != id:
                raise errors.AlreadyExists(kind="access key", name=access_key, holder=user.id)

    @inlineCallbacks
    def _join(self, group: str, dn: str) -> Generator[Deferred[Any], Any, None]:
        try:
            yield self._session.modify(group, [(wire.ADD, "member", [dn])])
        except Refused as why:
            if why.code != wire.VALUE_EXISTS:
                raise

    @inlineCallbacks
    def _make_group(self, group: str, name: str, dn: str) -> Generator[Deferred[Any], Any, None]:
        try:
            yield self._session.add(group, {"objectClass": ["top", "groupOfNames"], "cn": [name], "member": [dn]})
        except Refused as why:
            if why.code != wire.ENTRY_EXISTS:
                raise
            yield self._join(group, dn)

    @inlineCallbacks
    def _leave(self, group: str, dn: str) -> Generator[Deferred[Any], Any, None]:
        """
        Take somebody out of a group.  A C{groupOfNames} can't be empty, so the
        last one out takes the group away.
        """
        try:
            yield self._session.modify(group, [(wire.DELETE, "member", [dn])])
        except Refused as why:
            if why.code == wire.OBJECT_CLASS_VIOLATION:
                yield self._gone(self._session.delete(group))
            elif why.code not in (wire.NO_SUCH_ATTRIBUTE, wire.NO_SUCH_OBJECT):
                raise

    @inlineCallbacks
    def _gone(self, deletion: Deferred[None]) -> Generator[Deferred[Any], Any, None]:
        try:
            yield deletion
        except Refused as why:
            if why.code != wire.NO_SUCH_OBJECT:
                raise

    @inlineCallbacks
    def _make(self, dn: str, attributes: dict[str, list[str]]) -> Generator[Deferred[Any], Any, None]:
        try:
            yield self._session.search(dn, wire.BASE, equal("objectClass", "top"), ("objectClass",))
            return
        except Refused as why:
            if why.code != wire.NO_SUCH_OBJECT:
                raise
        try:
            yield self._session.add(dn, attributes)
        except Refused as why:
            if why.code != wire.ENTRY_EXISTS:
                raise

    def _ask(self, key: tuple[Any, ...], ask: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        return self._answers.get(key, lambda: ask().addErrback(self._refused))

    def _forget(self) -> None:
        self._identities.forget()
        self._answers.forget()

    def _refused(self, why: Any) -> Any:
        if why.check(Refused):
            return fail(self._unexpected(why.value))
        return why

    def _unexpected(self, why: Refused) -> errors.Unavailable:
        return errors.Unavailable(service="ldap", why=f"the server refused: {why.message or ''} (code {why.code})")

    def _is_project(self, entry: Entry) -> bool:
        return "projectmanager" in entry.attributes and len(below(entry.dn, self._layout.projects) or ()) == 1

    def _manages(self, entry: Entry, id: str) -> bool:
        manager = self._layout.member(first(entry.attributes, "projectmanager"))
        return manager is not None and manager.lower() == id.lower()

    def _derived(self, entry: Entry, id: str) -> frozenset[str]:
        return frozenset({"projectmanager"} if self._manages(entry, id) else ())

    def _as_project(self, entry: Entry) -> Project:
        member = self._layout.member
        named = (member(value.decode("utf-8", "replace")) for value in entry.attributes.get("member", ()))
        return Project(
            id=first(entry.attributes, "cn"),
            manager=member(first(entry.attributes, "projectmanager")) or "",
            description=first(entry.attributes, "description"),
            members=tuple(sorted({id for id in named if id is not None})),
        )


def _as_user(entry: Entry) -> User:
    got = entry.attributes
    id = first(got, "uid")
    admin = first(got, "isnovaadmin").upper() == "TRUE"
    return User(id, first(got, "cn") or id, first(got, "accesskey"), first(got, "secretkey"), admin)


def _boolean(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def _first(why: Any) -> Any:
    """
    Of a gathered failure, the one that came first.
    """
    return why.value.subFailure


def _is_key(text: str) -> bool:
    """
    Whether C{text} can be an access or secret key.
    """
    return 1 <= len(text) <= 128 and text.isascii() and text.isprintable() and " " not in text


def _require_key(name: str, text: str) -> None:
    """
    @raise InvalidValue: C{text} can't be a key.  A secret one is not told.
    """
    if not _is_key(text):
        raise errors.InvalidValue(name=name, value="", why="must be 1 to 128 of printable ASCII without spaces")
    if name == "access_key" and ":" in text:
        raise errors.InvalidValue(name=name, value=text, why="a colon would separate a project")


def _require_text(name: str, text: str) -> None:
    """
    @raise InvalidValue: C{text} can't be stored.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise errors.InvalidValue(name=name, value=repr(text), why="is not Unicode text") from None


def _require_role(role: str, project: str | None) -> None:
    if role not in (ROLES if project is not None else GLOBAL_ROLES):
        where = "in a project" if project is not None else "for the whole cloud"
        raise errors.InvalidValue(name="role", value=role, why=f"no such role to be held {where}")


def _taken(why: Refused, kind: str, id: str, access_key: str) -> Exception:
    if why.code == wire.ENTRY_EXISTS:
        return errors.AlreadyExists(kind=kind, name=id, holder=id)
    if why.code == wire.CONSTRAINT_VIOLATION and access_key:
        return errors.AlreadyExists(kind="access key", name=access_key, holder="")
    return why
