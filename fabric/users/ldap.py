"""
The people of a cloud, in an LDAP directory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail, inlineCallbacks
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fabric import errors
from fabric.users import session as wire
from fabric.users.interface import GLOBAL_ROLES, ROLES, Identity, IDirectory, Project, User
from fabric.users.keys import new_access_key, new_secret_key, require_key
from fabric.users.memo import Ages, Memo
from fabric.users.names import Layout, below, leaf, require_id
from fabric.users.questions import MEMBERSHIP, Questions
from fabric.users.session import Change, Refused, Server, Session, equal

_LONGEST = 200
"""Longest access key with project, in characters; longer ones are not even remembered as unknown."""

T = TypeVar("T")
P = ParamSpec("P")
_Write = Callable[Concatenate["LDAPDirectory", P], Deferred[T]]


def _write(method: Callable[Concatenate[LDAPDirectory, P], Generator[Deferred[Any], Any, T]]) -> _Write[P, T]:
    """
    Make a method of a generator that changes the directory.  When it is done,
    what was remembered is forgotten; when it failed, and may have changed
    something, all is asked again but still known should the server be lost.
    A refusal that the method does not expect becomes C{Unavailable}.
    """
    steps = inlineCallbacks(method)

    @wraps(method)
    def write(self: LDAPDirectory, /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        def done(result: T) -> T:
            about = args[0] if args else next(iter(kwargs.values()), "")
            self.log.info("{change} {about}", change=method.__name__, about=about)
            self._identities.forget()
            self._answers.forget()
            return result

        def failed(why: Failure) -> Any:
            self._identities.expire()
            self._answers.expire()
            return self._refused(why)

        return steps(self, *args, **kwargs).addCallbacks(done, failed)

    return write


@implementer(IDirectory)
class LDAPDirectory:
    """
    Users, projects and roles as entries that L{fabric.users.names} describes.

    LDAP changes one entry at a time.  Changes of several entries are made in
    an order that leaves something lawful at every point, and can be repeated.
    That nobody else has an access key is looked up before it is written and
    after, when it is taken back: of two administrators who give one key at
    once, at most one succeeds.  A key that two users have nevertheless is
    refused for both.
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
        self._questions = Questions(self._session, layout)
        self._layout = layout
        self._identities: Memo[Identity] = Memo(clock, ages)
        self._answers: Memo[Any] = Memo(clock, ages)

    def identify(self, access_key: str) -> Deferred[Identity]:
        """See L{IDirectory}."""
        if len(access_key) > _LONGEST:
            return fail(errors.NotFound(kind="access key", id=access_key[:_LONGEST]))
        return self._identities.get(access_key, lambda: self._questions.identify(access_key).addErrback(self._refused))

    def user(self, id: str) -> Deferred[User]:
        """See L{IDirectory}."""
        return self._ask(("user", id), lambda: self._questions.user(id))

    def users(self) -> Deferred[list[User]]:
        """See L{IDirectory}."""
        return self._ask(("users",), self._questions.users).addCallback(list)

    def project(self, id: str) -> Deferred[Project]:
        """See L{IDirectory}."""
        return self._ask(("project", id), lambda: self._questions.find_project(id))

    def projects(self, user: str | None) -> Deferred[list[Project]]:
        """See L{IDirectory}."""
        return self._ask(("projects", user), lambda: self._questions.projects(user)).addCallback(list)

    def roles(self, user: str, project: str | None) -> Deferred[frozenset[str]]:
        """See L{IDirectory}."""
        return self._ask(("roles", user, project), lambda: self._questions.roles(user, project))

    @_write
    def create_user(
        self, id: str, access_key: str | None, secret_key: str | None, admin: bool
    ) -> Generator[Deferred[Any], Any, User]:
        """See L{IDirectory}."""
        require_id("id", id)
        access = new_access_key() if access_key is None else access_key
        user = User(id, id, access, new_secret_key() if secret_key is None else secret_key, admin)
        require_key("access_key", user.access_key)
        require_key("secret_key", user.secret_key)
        if (yield self._questions.users_where(equal("uid", id))):
            raise errors.AlreadyExists(kind="user", name=id, holder=id)
        yield self._require_free(user.access_key, id)
        try:
            yield self._session.add(self._layout.user(id), _person(user))
        except Refused as why:
            raise _taken(why, "user", id, user.access_key) from why
        try:
            yield self._require_free(user.access_key, id)
        except errors.AlreadyExists:
            yield self._gone(self._session.delete(self._layout.user(id)))
            raise
        return user

    @_write
    def delete_user(self, id: str) -> Generator[Deferred[Any], Any, None]:
        """See L{IDirectory}."""
        dn, _ = yield self._questions.find_user(id)
        mine = yield self._questions.search(self._layout.projects, equal("member", dn), MEMBERSHIP)
        for entry in mine:
            if self._questions.is_project(entry) and self._questions.manages(entry, dn):
                raise errors.InUse(kind="user", id=id, by=leaf(entry.dn))
        mine += yield self._questions.search(self._layout.roles, equal("member", dn), MEMBERSHIP)
        for entry in sorted(mine, key=self._questions.is_project):
            yield self._leave(entry.dn, dn)
        yield self._gone(self._session.delete(dn))

    @_write
    def modify_user(
        self, id: str, access_key: str | None, secret_key: str | None, admin: bool | None
    ) -> Generator[Deferred[Any], Any, User]:
        """See L{IDirectory}."""
        user: User
        dn, user = yield self._questions.find_user(id)
        changes: list[Change] = []
        if access_key is not None and access_key != user.access_key:
            require_key("access_key", access_key)
            yield self._require_free(access_key, id)
            changes.append((wire.REPLACE, "accessKey", [access_key]))
        if secret_key is not None:
            require_key("secret_key", secret_key)
            changes.append((wire.REPLACE, "secretKey", [secret_key]))
        if admin is not None:
            changes.append((wire.REPLACE, "isNovaAdmin", [_boolean(admin)]))
        if not changes:
            return user
        try:
            yield self._session.modify(dn, changes)
            if access_key is not None and access_key != user.access_key:
                yield self._require_free(access_key, id)
        except Refused as why:
            raise _taken(why, "user", id, access_key or "") from why
        except errors.AlreadyExists:
            yield self._session.modify(dn, [(wire.REPLACE, "accessKey", [user.access_key] if user.access_key else [])])
            raise
        _, user = yield self._questions.find_user(id)
        return user

    @_write
    def create_project(
        self, id: str, manager: str, description: str, members: tuple[str, ...]
    ) -> Generator[Deferred[Any], Any, Project]:
        """See L{IDirectory}."""
        require_id("id", id)
        dns = {}
        for user in sorted({manager, *members}):
            dns[user], _ = yield self._questions.find_user(user)
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
        return Project(id, manager, description, tuple(dns))

    @_write
    def modify_project(
        self, id: str, manager: str | None, description: str | None
    ) -> Generator[Deferred[Any], Any, Project]:
        """See L{IDirectory}."""
        project: Project = yield self._questions.find_project(id)
        changes: list[Change] = []
        if manager is not None:
            dn, _ = yield self._questions.find_user(manager)
            changes.append((wire.REPLACE, "projectManager", [dn]))
            if manager not in project.members:
                changes.append((wire.ADD, "member", [dn]))
        if description is not None:
            _require_text("description", description)
            changes.append((wire.REPLACE, "description", [description] if description else []))
        if changes:
            yield self._session.modify(self._layout.project(id), changes)
        project = yield self._questions.find_project(id)
        return project

    @_write
    def delete_project(self, id: str) -> Generator[Deferred[Any], Any, None]:
        """See L{IDirectory}."""
        yield self._questions.find_project(id)
        under = yield self._questions.search(self._layout.project(id), equal("objectClass", "groupOfNames"), ("cn",))
        for entry in under:
            if below(entry.dn, self._layout.project(id)):
                yield self._gone(self._session.delete(entry.dn))
        yield self._gone(self._session.delete(self._layout.project(id)))

    @_write
    def add_member(self, project: str, user: str) -> Generator[Deferred[Any], Any, None]:
        """See L{IDirectory}."""
        yield self._questions.find_project(project)
        dn, _ = yield self._questions.find_user(user)
        yield self._join(self._layout.project(project), dn)

    @_write
    def remove_member(self, project: str, user: str) -> Generator[Deferred[Any], Any, None]:
        """See L{IDirectory}."""
        found = yield self._questions.find_project(project)
        if found.manager == user:
            raise errors.InUse(kind="user", id=user, by=project)
        dn, _ = yield self._questions.find_user(user)
        mine = yield self._questions.search(self._layout.project(project), equal("member", dn), ("cn",))
        for entry in sorted(mine, key=lambda entry: -len(entry.dn)):
            yield self._leave(entry.dn, dn)

    @_write
    def add_role(self, user: str, role: str, project: str | None) -> Generator[Deferred[Any], Any, None]:
        """See L{IDirectory}."""
        _require_role(role, project)
        dn, _ = yield self._questions.find_user(user)
        if project is not None:
            yield self._questions.find_project(project)
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
        dn, _ = yield self._questions.find_user(user)
        if project is not None:
            yield self._questions.find_project(project)
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
    def _require_free(self, access_key: str, id: str) -> Generator[Deferred[Any], Any, None]:
        for _, user in (yield self._questions.users_where(equal("accessKey", access_key))):
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
        Take somebody out of a role or project.  A C{groupOfNames} can't be
        empty, so the last one out takes a role's group away.  (One who comes
        in just between is put out too; LDAP knows no better way.)

        @raise InUse: nobody else is in the project.
        """
        try:
            yield self._session.modify(group, [(wire.DELETE, "member", [dn])])
        except Refused as why:
            if why.code in (wire.NO_SUCH_ATTRIBUTE, wire.NO_SUCH_OBJECT):
                return
            if why.code != wire.OBJECT_CLASS_VIOLATION:
                raise
            if len(below(group, self._layout.projects) or ()) == 1:
                raise errors.InUse(kind="user", id=leaf(dn), by=leaf(group)) from why
            yield self._gone(self._session.delete(group))

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

    def _refused(self, why: Failure) -> Any:
        error = why.value
        return Failure(self._unexpected(error)) if isinstance(error, Refused) else why

    def _unexpected(self, why: Refused) -> errors.Unavailable:
        return errors.Unavailable(service="ldap", why=f"the server refused: {why.message or ''} (code {why.code})")


def _person(user: User) -> dict[str, list[str]]:
    return {
        "objectClass": ["top", "person", "organizationalPerson", "inetOrgPerson", "novaUser"],
        "uid": [user.id],
        "cn": [user.name],
        "sn": [user.name],
        "accessKey": [user.access_key],
        "secretKey": [user.secret_key],
        "isNovaAdmin": [_boolean(user.admin)],
    }


def _boolean(value: bool) -> str:
    return "TRUE" if value else "FALSE"


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
