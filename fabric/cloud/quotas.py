"""
Quotas: a project's limits, kept by the store's counters.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.cloud.retry import until_written
from fabric.errors import AlreadyExists, Conflict, InvalidValue, LimitExceeded, QuotaExceeded
from fabric.model.quota import RESOURCES, Quota
from fabric.store.interface import IStore, Stored


class Quotas:
    """
    @ivar defaults: the limit of each resource where a project has no own.
    """

    def __init__(self, store: IStore, defaults: Mapping[str, int]) -> None:
        self._store = store
        self.defaults = dict(defaults)

    @inlineCallbacks
    def limits(self, project: str) -> Generator[Deferred[Any], Any, dict[str, int]]:
        """
        Every resource's limit for a project.
        """
        [stored] = yield self._store.read(Quota, [project])
        return self.of(stored)

    def of(self, stored: Stored[Quota] | None) -> dict[str, int]:
        """
        The limits that a quota record, or none, gives.
        """
        return self.defaults | (dict(stored.record.limits) if stored else {})

    @inlineCallbacks
    def usage(self, project: str) -> Generator[Deferred[Any], Any, dict[str, int]]:
        """
        How much of each resource a project has now.
        """
        names = {counter(project, resource): resource for resource in RESOURCES}
        values = yield self._store.counters(list(names))
        return {resource: values[name] for name, resource in names.items()}

    def set(self, caller: Caller, project: str, limits: Mapping[str, int]) -> Deferred[None]:
        """
        Change some of a project's limits; a negative one returns to the
        default.  What exceeds a new limit stays; repeating is safe.

        @raise InvalidValue: no such resource.
        """
        for resource in limits:
            if resource not in RESOURCES:
                return fail(InvalidValue("resource", resource, f"one of {', '.join(RESOURCES)}"))
        return until_written(lambda: self._set_once(caller, project, limits))

    @inlineCallbacks
    def _set_once(self, caller: Caller, project: str, limits: Mapping[str, int]) -> Generator[Deferred[Any], Any, None]:
        [stored] = yield self._store.read(Quota, [project])
        merged = (dict(stored.record.limits) if stored else {}) | dict(limits)
        record = Quota(project, project, {name: limit for name, limit in merged.items() if limit >= 0})
        transaction = self._store.transaction(caller.request_id)
        if stored:
            transaction.update(stored, record)
        else:
            transaction.create(record)
        try:
            yield self._store.commit(transaction)
        except AlreadyExists as error:
            raise Conflict(error.kind, project) from None


def counter(project: str, resource: str) -> str:
    """
    The name of the counter that a quota limits.
    """
    return f"quota:{project}:{resource}"


def quota_error(error: LimitExceeded) -> QuotaExceeded:
    """
    What a passed limit of a quota counter means to a user.
    """
    return QuotaExceeded(error.counter.rsplit(":", 1)[1], error.limit, error.used, error.wanted)
