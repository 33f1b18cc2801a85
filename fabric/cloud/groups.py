"""
Security groups: names and ids.  What they let pass is in L{fabric.cloud.rules}.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.quotas import Quotas, counter, quota_error
from fabric.errors import AlreadyExists, Conflict, InvalidValue, LimitExceeded, NotFound
from fabric.ids import new_id
from fabric.model.group import SecurityGroup
from fabric.model.network import Network
from fabric.model.record import PUBLIC
from fabric.model.rule import opening_rules
from fabric.store.interface import IStore, Query, Stored, Want

DEFAULT = "default"
"""The group that each project has, and that launches without a group get."""


class Groups:
    """
    Makes and removes groups.
    """

    def __init__(self, store: IStore, quotas: Quotas, clock: IReactorTime) -> None:
        self._store = store
        self._quotas = quotas
        self._clock = clock

    @inlineCallbacks
    def create(
        self, caller: Caller, name: str, description: str, tags: Mapping[str, str] | None = None
    ) -> Generator[Deferred[Any], Any, SecurityGroup]:
        """
        @raise AlreadyExists: the project has a group of that name.
        @raise QuotaExceeded: it has as many groups as it may.
        """
        v6 = yield sends_v6(self._store, caller.project)
        group = _new(caller.project, name, description, self._clock.seconds(), tags, v6)
        limits = yield self._quotas.limits(caller.project)
        transaction = self._store.transaction(caller.request_id)
        transaction.create(group)
        transaction.limit(counter(caller.project, "groups"), limits["groups"])
        try:
            yield self._store.commit(transaction)
        except AlreadyExists as error:
            raise AlreadyExists("group", name, error.holder) from None
        except LimitExceeded as error:
            raise quota_error(error) from None
        return group

    @inlineCallbacks
    def ensure_default(self, caller: Caller) -> Generator[Deferred[Any], Any, SecurityGroup]:
        """
        The project's default group, made where it has none yet.
        """
        stored = yield self._find(caller, "", DEFAULT)
        if stored is not None:
            return stored.record  # type: ignore[no-any-return]
        v6 = yield sends_v6(self._store, caller.project)
        group = default_group(caller.project, self._clock.seconds(), v6)
        transaction = self._store.transaction(caller.request_id)
        transaction.create(group)
        try:
            yield self._store.commit(transaction)
        except AlreadyExists:
            stored = yield self._find(caller, "", DEFAULT)
            if stored is None:
                raise
            return stored.record  # type: ignore[no-any-return]
        return group

    @inlineCallbacks
    def delete(self, caller: Caller, id: str = "", name: str = "") -> Generator[Deferred[Any], Any, SecurityGroup]:
        """
        Remove a group, named by id or by name.

        @raise NotFound: the project has no such group.
        @raise InvalidValue: it is the default group.
        @raise InUse: an instance is in it, or another group's rule is about it.
        """
        stored = yield self._find(caller, id, name)
        if stored is None:
            raise NotFound("group", id or name)
        group: SecurityGroup = stored.record
        if group.name == DEFAULT:
            raise InvalidValue("group", DEFAULT, "the default group can't be deleted")
        transaction = self._store.transaction(caller.request_id)
        transaction.delete(stored)
        transaction.idle("group", group.id)
        try:
            yield self._store.commit(transaction)
        except Conflict:
            return (yield self.delete(caller, id, name))  # type: ignore[no-any-return]
        return group

    @inlineCallbacks
    def _find(self, caller: Caller, id: str, name: str) -> Generator[Deferred[Any], Any, Stored[SecurityGroup] | None]:
        want = Want(SecurityGroup, id=id) if id else Want(SecurityGroup, name=unique_name(caller.project, name))
        [stored] = yield self._store.gather([want])
        if stored is None or stored.record.project != caller.project:
            return None
        return stored  # type: ignore[no-any-return]


def unique_name(project: str, name: str) -> str:
    """
    The unique name under which the store finds a project's group.
    """
    return f"group:{project}:{name}"


@inlineCallbacks
def sends_v6(store: IStore, project: str) -> Generator[Deferred[Any], Any, bool]:
    """
    Whether a network that a project may use has IPv6.
    """
    cursor = ""
    while True:
        page = yield store.records(Network, Query("network", (project, PUBLIC), cursor=cursor))
        if any(stored.record.cidr_v6 for stored in page.items):
            return True
        cursor = page.cursor
        if not cursor:
            return False


def default_group(project: str, now: float, v6: bool) -> SecurityGroup:
    """
    @param v6: as L{opening_rules} has it.
    @return: a new default group for a project.
    """
    return _new(project, DEFAULT, "default group", now, v6=v6)


def _new(
    project: str, name: str, description: str, now: float, tags: Mapping[str, str] | None = None, v6: bool = False
) -> SecurityGroup:
    id = new_id("group")
    rules = opening_rules(id, project, name, name == DEFAULT, v6)
    return SecurityGroup(id, project, name, description, now, rules, tags=dict(tags or {}))
