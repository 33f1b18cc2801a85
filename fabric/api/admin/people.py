"""
Admin actions on people: users, projects, members and roles.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.admin.registry import action
from fabric.cloud.access import Caller
from fabric.cloud.images import SAMPLE_OWNER
from fabric.errors import InvalidValue, NotFound
from fabric.users.interface import IDirectory, Project, User

Result = Generator[Deferred[Any], Any, Any]
Change = Callable[..., Deferred[None]]


class PeopleActions:
    """
    Answers from the directory.  Secret keys are shown only by
    C{RegisterUser}, C{ModifyUser} and C{GenerateCredentials}.
    """

    def __init__(self, directory: IDirectory) -> None:
        self._directory = directory

    @action
    @inlineCallbacks
    def DescribeUsers(self, caller: Caller) -> Result:
        """Every user."""
        users = yield self._directory.users()
        return [_user(user) for user in users]

    @action
    @inlineCallbacks
    def RegisterUser(
        self, caller: Caller, id: str, access_key: str | None = None, secret_key: str | None = None, admin: bool = False
    ) -> Result:
        """Make a user; keys that are not given are made too."""
        user = yield self._directory.create_user(id, access_key, secret_key, admin)
        return _user(user, secret=True)

    @action
    @inlineCallbacks
    def ModifyUser(
        self,
        caller: Caller,
        id: str,
        access_key: str | None = None,
        secret_key: str | None = None,
        admin: bool | None = None,
    ) -> Result:
        """Change a user's keys, or whether the user is an admin."""
        user = yield self._directory.modify_user(id, access_key, secret_key, admin)
        return _user(user, secret=secret_key is not None)

    @action
    def DeregisterUser(self, caller: Caller, id: str) -> Deferred[None]:
        """Remove a user who manages no project."""
        return self._directory.delete_user(id)

    @action
    @inlineCallbacks
    def GenerateCredentials(self, caller: Caller, user: str, project: str | None = None) -> Result:
        """A user's keys, for the file that a client sources."""
        found: User = yield self._directory.user(user)
        if project is not None:
            whole: Project = yield self._directory.project(project)
            if user not in whole.members and not found.admin:
                raise NotFound("member", f"{user} in project {project}")
        access_key = f"{found.access_key}:{project}" if project else found.access_key
        return {"user": user, "project": project, "access_key": access_key, "secret_key": found.secret_key}

    @action
    @inlineCallbacks
    def DescribeProjects(self, caller: Caller, user: str | None = None) -> Result:
        """Every project, or those of which a user is a member."""
        projects = yield self._directory.projects(user)
        return [_project(project) for project in projects]

    @action
    @inlineCallbacks
    def RegisterProject(
        self,
        caller: Caller,
        id: str,
        manager: str,
        description: str = "",
        members: list[str] = [],  # noqa: B006
    ) -> Result:
        """Make a project; its manager is a member."""
        if id == SAMPLE_OWNER:
            raise InvalidValue("id", id, "the name under which the cloud's own images stand")
        project = yield self._directory.create_project(id, manager, description, tuple(members))
        return _project(project)

    @action
    @inlineCallbacks
    def ModifyProject(
        self, caller: Caller, id: str, manager: str | None = None, description: str | None = None
    ) -> Result:
        """Give a project another manager or description."""
        project = yield self._directory.modify_project(id, manager, description)
        return _project(project)

    @action
    def DeregisterProject(self, caller: Caller, id: str) -> Deferred[None]:
        """Remove a project and its roles; what it runs is not touched."""
        return self._directory.delete_project(id)

    @action
    def ModifyProjectMember(self, caller: Caller, project: str, user: str, operation: str) -> Deferred[None]:
        """C{add} or C{remove} a member."""
        return _add_or_remove(operation, self._directory.add_member, self._directory.remove_member)(project, user)

    @action
    @inlineCallbacks
    def DescribeUserRoles(self, caller: Caller, user: str, project: str | None = None) -> Result:
        """Roles in a project, or those held everywhere."""
        roles = yield self._directory.roles(user, project)
        return sorted(roles)

    @action
    def ModifyUserRole(
        self, caller: Caller, user: str, role: str, operation: str, project: str | None = None
    ) -> Deferred[None]:
        """C{add} or C{remove} a role, in a project or everywhere."""
        return _add_or_remove(operation, self._directory.add_role, self._directory.remove_role)(user, role, project)


def _add_or_remove(operation: str, add: Change, remove: Change) -> Change:
    if operation not in ("add", "remove"):
        raise InvalidValue("operation", operation, "add or remove")
    return add if operation == "add" else remove


def _user(user: User, secret: bool = False) -> dict[str, Any]:
    shown = attrs.asdict(user)
    if not secret:
        del shown["secret_key"]
    return shown


def _project(project: Project) -> dict[str, Any]:
    return attrs.asdict(project) | {"members": list(project.members)}
