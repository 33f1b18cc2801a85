"""
Instance types: those that every cloud has, and what operators make of them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.cloud.retry import until_written
from fabric.errors import AlreadyExists, InvalidValue, NotFound
from fabric.model.flavor import BUILT_IN, Flavor, InstanceType
from fabric.model.pattern import is_pattern
from fabric.model.record import ALL
from fabric.store.interface import IStore, Query, Stored

LONGEST_NAME = 64

_LEAST = {"vcpus": 1, "memory_mb": 1, "disk_gb": 0, "ephemeral_gb": 0, "gpus": 0}
_MOST = 1 << 30


class Flavors:
    """
    Makes, lists and removes types.
    """

    def __init__(self, store: IStore) -> None:
        self._store = store

    @inlineCallbacks
    def all(self) -> Generator[Deferred[Any], Any, dict[str, Flavor]]:
        """
        Every type by name, sorted.
        """
        found = dict(BUILT_IN)
        cursor = ""
        while True:
            page = yield self._store.records(InstanceType, Query("flavor", (ALL,), cursor=cursor))
            for record in (stored.record for stored in page.items):
                if record.flavor is None:
                    found.pop(record.id, None)
                else:
                    found[record.id] = record.flavor
            cursor = page.cursor
            if not cursor:
                return dict(sorted(found.items()))

    @inlineCallbacks
    def get(self, name: str) -> Generator[Deferred[Any], Any, Flavor]:
        """
        @raise InvalidValue: no such type.
        """
        [stored] = yield self._store.read(InstanceType, [name])
        return chosen(name, stored)

    def create(self, caller: Caller, flavor: Flavor) -> Deferred[Flavor]:
        """
        Make a type.  One that was removed can be made again, otherwise.

        @raise AlreadyExists: there is a type of that name.
        @raise InvalidValue: its name or a number can't be.
        """
        return until_written(lambda: self._write(caller, flavor.name, flavor))

    def delete(self, caller: Caller, name: str) -> Deferred[Flavor]:
        """
        Let nothing more be launched of a type.  Instances keep theirs.

        @return: what it was.
        @raise NotFound: no such type.
        """
        return until_written(lambda: self._write(caller, name, None))

    @inlineCallbacks
    def _write(self, caller: Caller, name: str, flavor: Flavor | None) -> Generator[Deferred[Any], Any, Flavor]:
        if flavor is not None:
            _check(flavor)
        [stored] = yield self._store.read(InstanceType, [name])
        before = stored.record.flavor if stored else BUILT_IN.get(name)
        if flavor is not None and before is not None:
            raise AlreadyExists("flavor", name, name)
        if flavor is None and before is None:
            raise NotFound("flavor", name)
        transaction = self._store.transaction(caller.request_id)
        record = InstanceType(name, flavor=flavor)
        if stored is None:
            transaction.create(record)
        elif flavor is None and name not in BUILT_IN:
            transaction.delete(stored)
        else:
            transaction.update(stored, record)
        yield self._store.commit(transaction)
        return flavor or before  # type: ignore[return-value]


def chosen(name: str, stored: Stored[InstanceType] | None) -> Flavor:
    """
    The type of a name, given what the store says of it.

    @raise InvalidValue: there is none.
    """
    flavor = stored.record.flavor if stored else BUILT_IN.get(name)
    if flavor is None:
        raise InvalidValue("InstanceType", name, "not an instance type of this cloud")
    return flavor


def _check(flavor: Flavor) -> None:
    name = flavor.name
    usable = name.isascii() and name.isprintable() and not is_pattern(name) and not set(name) & set(" ,:'\"<>&/")
    if not name or len(name) > LONGEST_NAME or not usable:
        raise InvalidValue("name", name, f"up to {LONGEST_NAME} letters, digits, dots and dashes")
    for field, least in _LEAST.items():
        value = getattr(flavor, field)
        if not least <= value <= _MOST:
            raise InvalidValue(field, str(value), f"a number from {least} to {_MOST}")
