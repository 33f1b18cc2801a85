"""
The first user and project of a cloud.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric import errors
from fabric.users.interface import User
from fabric.users.ldap import LDAPDirectory


@inlineCallbacks
def bootstrap(
    directory: LDAPDirectory, user: str = "admin", project: str = "admin"
) -> Generator[Deferred[Any], Any, User]:
    """
    See that there are the entries that all others stand under, a user who is
    cloudadmin, and a project that the user is a member of.  What is there
    already keeps its keys and its manager.  Repeating is safe.

    @return: the user, with keys.
    """
    yield directory.prepare()
    try:
        found: User = yield directory.user(user)
    except errors.NotFound:
        found = yield directory.create_user(user, None, None, True)
    if not found.admin:
        found = yield directory.modify_user(user, None, None, True)
    if not (found.access_key and found.secret_key):
        raise errors.InvalidValue(name="user", value=user, why="is in the directory without keys")
    try:
        yield directory.create_project(project, user, "The administrators", ())
    except errors.AlreadyExists:
        yield directory.add_member(project, user)
    return found
