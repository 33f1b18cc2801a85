"""
People: users, projects and roles.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

ROLES = ("cloudadmin", "itsec", "sysadmin", "netadmin", "developer")
GLOBAL_ROLES = ("cloudadmin", "itsec")
"""Those that may be held for the whole cloud, without a project."""


@attrs.frozen
class User:
    """
    @ivar id: the login name.
    @ivar admin: whether the user has cloudadmin everywhere.
    """

    id: str
    name: str
    access_key: str
    secret_key: str = attrs.field(repr=False)
    admin: bool = False


@attrs.frozen
class Project:
    """
    @ivar id: the project's name.
    @ivar manager: a user's id, always a member.
    """

    id: str
    manager: str
    description: str = ""
    members: tuple[str, ...] = ()


@attrs.frozen
class Identity:
    """
    Who asks, in which project, with which roles: what a door needs.

    @ivar roles: the union of global roles, those held in the project, and
        C{projectmanager} for its manager.
    """

    user: str
    project: str
    roles: frozenset[str]
    access_key: str
    secret_key: str = attrs.field(repr=False)


class IDirectory(Interface):
    """
    The people of a cloud.  Answers are memoised for some seconds; a change
    made through this object is seen through it at once.  Every method may
    fail with L{fabric.errors.Unavailable}.
    """

    def identify(access_key: str) -> Deferred[Identity]:
        """
        @param access_key: C{KEY} or C{KEY:PROJECT} (split at the last colon).
            Without a project: the one named like the user if there is one,
            else the first, by name, that the user is a member of.
        @raise NotFound: no such key, or no such project.
        @raise Denied: the user is not a member (cloudadmins need not be).
        """

    def user(id: str) -> Deferred[User]:
        """@raise NotFound: no such user."""

    def users() -> Deferred[list[User]]:
        """All users, by id."""

    def create_user(id: str, access_key: str | None, secret_key: str | None, admin: bool) -> Deferred[User]:
        """
        Keys that are None are made.

        @raise AlreadyExists: the id or the access key is taken.
        @raise InvalidValue: the id is not C{[A-Za-z0-9._-]{1,64}}.
        """

    def delete_user(id: str) -> Deferred[None]:
        """
        Also takes the user out of projects and roles.

        @raise NotFound: no such user.
        @raise InUse: the user manages a project.
        """

    def modify_user(id: str, access_key: str | None, secret_key: str | None, admin: bool | None) -> Deferred[User]:
        """Change what is not None."""

    def project(id: str) -> Deferred[Project]:
        """@raise NotFound: no such project."""

    def projects(user: str | None) -> Deferred[list[Project]]:
        """All, or those of which a user is a member, by id."""

    def create_project(id: str, manager: str, description: str, members: tuple[str, ...]) -> Deferred[Project]:
        """
        @raise AlreadyExists: the id is taken.
        @raise NotFound: a user does not exist.
        """

    def modify_project(id: str, manager: str | None, description: str | None) -> Deferred[Project]:
        """Change what is not None; a new manager becomes a member."""

    def delete_project(id: str) -> Deferred[None]:
        """With its roles.  @raise NotFound: no such project."""

    def add_member(project: str, user: str) -> Deferred[None]:
        """Repeating is safe."""

    def remove_member(project: str, user: str) -> Deferred[None]:
        """
        With the roles there.  Repeating is safe.

        @raise InUse: the user manages the project.
        """

    def roles(user: str, project: str | None) -> Deferred[frozenset[str]]:
        """Roles held in a project, or globally with None."""

    def add_role(user: str, role: str, project: str | None) -> Deferred[None]:
        """
        Repeating is safe.

        @raise InvalidValue: no such role, or not one to be held globally.
        """

    def remove_role(user: str, role: str, project: str | None) -> Deferred[None]:
        """Repeating is safe."""

    def stop() -> Deferred[None]:
        """Close connections."""
