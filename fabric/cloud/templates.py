"""
Launch templates and their versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.quotas import Quotas, counter, quota_error
from fabric.cloud.retry import until_written
from fabric.errors import AlreadyExists, IdempotencyMismatch, LimitExceeded, NotFound
from fabric.ids import new_id
from fabric.model.template import (
    MOST_VERSIONS,
    LaunchTemplate,
    LaunchTemplateVersion,
    token_name,
    unique_name,
    version_id,
    version_token_name,
)
from fabric.store.interface import IStore, Page, Query, Stored, Want

LATEST, DEFAULT = "$Latest", "$Default"

BATCH = 500
"""Versions that one write removes."""

Versioned = tuple[LaunchTemplate, LaunchTemplateVersion]


@attrs.frozen
class Named:
    """
    A template by id or by name.
    """

    id: str = ""
    name: str = ""

    def want(self, caller: Caller) -> Want:
        """What to gather to know it."""
        if self.id:
            return Want(LaunchTemplate, id=self.id)
        return Want(LaunchTemplate, name=unique_name(caller.project, self.name))

    def missing(self) -> NotFound:
        """The error when it is not there."""
        return NotFound("launch_template", self.id) if self.id else NotFound("launch_template_name", self.name)


class Templates:
    """
    Makes, changes and removes templates.
    """

    def __init__(self, store: IStore, quotas: Quotas, clock: IReactorTime) -> None:
        self._store = store
        self._quotas = quotas
        self._clock = clock

    @inlineCallbacks
    def create(
        self,
        caller: Caller,
        name: str,
        data: str,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        token: str = "",
        digest_of: str = "",
    ) -> Generator[Deferred[Any], Any, LaunchTemplate]:
        """
        Make a template with version 1.  Repeating with the same token gives
        the same template.

        @param data: JSON.
        @param digest_of: the request as text, without the token.
        @raise AlreadyExists: the project has a template of that name.
        @raise QuotaExceeded: it has as many templates as it may.
        @raise IdempotencyMismatch: the token was used with another request.
        """
        now = self._clock.seconds()
        template = LaunchTemplate(
            new_id("launch_template"),
            caller.project,
            name,
            now,
            caller.user,
            client_token=token,
            token_digest=_digest(digest_of) if token else "",
            tags=dict(tags or {}),
        )
        limits = yield self._quotas.limits(caller.project)
        transaction = self._store.transaction(caller.request_id)
        transaction.create(template)
        transaction.create(self._version(caller, template, 1, data, description))
        if "launch_templates" in limits:
            transaction.limit(counter(caller.project, "launch_templates"), limits["launch_templates"])
        try:
            yield self._store.commit(transaction)
        except AlreadyExists as error:
            again = yield self._again(LaunchTemplate, token and token_name(caller.project, token), digest_of)
            if again is None:
                raise AlreadyExists("launch_template", name, error.holder) from None
            return again.record  # type: ignore[no-any-return]
        except LimitExceeded as error:
            raise quota_error(error) from None
        return template

    def add_version(
        self,
        caller: Caller,
        named: Named,
        data: str,
        description: str = "",
        token: str = "",
        digest_of: str = "",
    ) -> Deferred[Versioned]:
        """
        Make a version.  Repeating with the same token gives the same one.

        @raise NotFound: the template is not the caller's.
        @raise LimitExceeded: it has as many versions as it may.
        @raise IdempotencyMismatch: the token was used with another request.
        """
        return until_written(lambda: self._add(caller, named, data, description, token, digest_of))

    @inlineCallbacks
    def _add(
        self, caller: Caller, named: Named, data: str, description: str, token: str, digest_of: str
    ) -> Generator[Deferred[Any], Any, Versioned]:
        stored = yield self._find(caller, named)
        template: LaunchTemplate = stored.record
        number = template.next
        version = self._version(caller, template, number, data, description, token, digest_of)
        changed = attrs.evolve(template, latest=number, next=number + 1)
        transaction = self._store.transaction(caller.request_id)
        transaction.update(stored, changed)
        transaction.create(version)
        transaction.limit(f"uses:launch_template:{template.id}", MOST_VERSIONS)
        try:
            yield self._store.commit(transaction)
        except AlreadyExists:
            name = token and version_token_name(caller.project, token)
            again = yield self._again(LaunchTemplateVersion, name, digest_of)
            if again is None:
                raise
            return template, again.record
        return changed, version

    @inlineCallbacks
    def _again(self, cls: Any, name: str, digest_of: str) -> Generator[Deferred[Any], Any, Stored[Any] | None]:
        """What a client token made before, None for nothing."""
        if not name:
            return None
        [stored] = yield self._store.resolve(cls, [name])
        if stored is not None and stored.record.token_digest != _digest(digest_of):
            raise IdempotencyMismatch(stored.record.client_token)
        return stored  # type: ignore[no-any-return]

    @inlineCallbacks
    def get(self, caller: Caller, named: Named) -> Generator[Deferred[Any], Any, LaunchTemplate]:
        """
        @raise NotFound: it is not the caller's; of kind C{launch_template}
            with an id, of kind C{launch_template_name} with a name.
        """
        stored = yield self._find(caller, named)
        return stored.record  # type: ignore[no-any-return]

    @inlineCallbacks
    def versions(
        self, caller: Caller, named: Named, asked: Sequence[str]
    ) -> Generator[Deferred[Any], Any, list[Versioned]]:
        """
        Versions by number, C{$Latest} or C{$Default}, each once, in the order
        asked for.

        @raise NotFound: the template as of L{get}; of kind
            C{launch_template_version} with id C{TEMPLATE VERSION}.
        """
        template = yield self.get(caller, named)
        numbers = [number_of(template, text) for text in asked]
        unique = list(dict.fromkeys(numbers))
        found = yield self._store.read(LaunchTemplateVersion, [version_id(template.id, number) for number in unique])
        for number, stored in zip(unique, found, strict=True):
            if stored is None:
                raise _no_version(template, str(number))
        return [(template, stored.record) for stored in found]

    @inlineCallbacks
    def listed(self, templates: Sequence[str]) -> Generator[Deferred[Any], Any, dict[str, LaunchTemplate]]:
        """
        Templates by id, those that are there; for versions that were listed.
        """
        unique = list(dict.fromkeys(templates))
        found = yield self._store.read(LaunchTemplate, unique)
        return {stored.record.id: stored.record for stored in found if stored is not None}

    @inlineCallbacks
    def of_all(
        self, caller: Caller, asked: Sequence[str], cursor: str, limit: int | None
    ) -> Generator[Deferred[Any], Any, Page]:
        """
        A page of L{Versioned}: the latest or default versions (C{asked}) of
        every template of the project.
        """
        query = Query("launch_template", (caller.project,), cursor=cursor, limit=limit)
        page = yield self._store.records(LaunchTemplate, query)
        pairs = [
            (stored.record, number)
            for stored in page.items
            for number in dict.fromkeys(number_of(stored.record, text) for text in asked)
        ]
        ids = [version_id(template.id, number) for template, number in pairs]
        found = yield self._store.read(LaunchTemplateVersion, ids)
        items = [(template, stored.record) for (template, _), stored in zip(pairs, found, strict=True) if stored]
        return Page(items, page.cursor)

    def set_default(self, caller: Caller, named: Named, version: str) -> Deferred[LaunchTemplate]:
        """
        Have another version be the default.

        @raise NotFound: as of L{versions}.
        """
        return until_written(lambda: self._set_default(caller, named, version))

    @inlineCallbacks
    def _set_default(self, caller: Caller, named: Named, version: str) -> Generator[Deferred[Any], Any, LaunchTemplate]:
        stored = yield self._find(caller, named)
        template: LaunchTemplate = stored.record
        number = number_of(template, version)
        changed = attrs.evolve(template, default=number)
        transaction = self._store.transaction(caller.request_id)
        transaction.need("launch_template_version", version_id(template.id, number))
        transaction.update(stored, changed)
        try:
            yield self._store.commit(transaction)
        except NotFound as error:
            if error.kind != "launch_template_version":
                raise
            raise _no_version(template, version) from None
        return changed

    def delete(self, caller: Caller, named: Named) -> Deferred[LaunchTemplate]:
        """
        Remove a template with all of its versions.

        @raise NotFound: as of L{get}.
        """
        return until_written(lambda: self._delete(caller, named))

    @inlineCallbacks
    def _delete(self, caller: Caller, named: Named) -> Generator[Deferred[Any], Any, LaunchTemplate]:
        """
        Many versions go in several writes; the default one and the template
        itself go in the last, so that what is left in between is whole.
        """
        while True:
            stored = yield self._find(caller, named)
            template: LaunchTemplate = stored.record
            query = Query(
                "launch_template_version", (caller.project,), (("template", (template.id,)),), limit=BATCH + 1
            )
            page = yield self._store.records(LaunchTemplateVersion, query)
            if len(page.items) <= BATCH:
                break
            some = [each for each in page.items if each.record.number not in (template.default, template.latest)]
            yield self._remove(caller, some[:BATCH])
        yield self._remove(caller, [stored, *page.items])
        return template

    def _remove(self, caller: Caller, gone: Sequence[Stored[Any]]) -> Deferred[Any]:
        transaction = self._store.transaction(caller.request_id)
        for stored in gone:
            transaction.delete(stored)
        return self._store.commit(transaction)

    def delete_versions(
        self, caller: Caller, named: Named, asked: Sequence[str]
    ) -> Deferred[tuple[LaunchTemplate, list[int], list[tuple[int, str]]]]:
        """
        Remove versions; the default one is not removed.

        @return: the template, the numbers that were removed, and those that
            were not with the reason: C{missing} or C{default}.
        @raise NotFound: the template is not the caller's.
        """
        return until_written(lambda: self._delete_versions(caller, named, asked))

    @inlineCallbacks
    def _delete_versions(
        self, caller: Caller, named: Named, asked: Sequence[str]
    ) -> Generator[Deferred[Any], Any, tuple[LaunchTemplate, list[int], list[tuple[int, str]]]]:
        stored = yield self._find(caller, named)
        template: LaunchTemplate = stored.record
        numbers = list(dict.fromkeys(number_of(template, text) for text in asked))
        found = yield self._store.read(LaunchTemplateVersion, [version_id(template.id, each) for each in numbers])
        gone: list[Stored[LaunchTemplateVersion]] = []
        left: list[tuple[int, str]] = []
        for number, version in zip(numbers, found, strict=True):
            if version is None or number == template.default:
                left.append((number, "missing" if version is None else "default"))
            else:
                gone.append(version)
        deleted = [version.record.number for version in gone]
        if gone:
            latest = yield self._latest_without(template, frozenset(deleted))
            template = attrs.evolve(template, latest=latest)
            transaction = self._store.transaction(caller.request_id)
            transaction.update(stored, template)
            for version in gone:
                transaction.delete(version)
            yield self._store.commit(transaction)
        return template, deleted, left

    @inlineCallbacks
    def _latest_without(self, template: LaunchTemplate, deleted: frozenset[int]) -> Generator[Deferred[Any], Any, int]:
        """The highest number that is left; the default version always is."""
        latest = template.latest
        while latest in deleted:
            before = [number for number in range(latest - 1, max(0, latest - 1 - BATCH), -1) if number not in deleted]
            found = yield self._store.read(LaunchTemplateVersion, [version_id(template.id, each) for each in before])
            there = [number for number, version in zip(before, found, strict=True) if version is not None]
            if there:
                return there[0]
            latest = max(1, latest - 1 - BATCH)
            if latest <= template.default:
                return template.default
        return latest

    def _version(
        self,
        caller: Caller,
        template: LaunchTemplate,
        number: int,
        data: str,
        description: str,
        token: str = "",
        digest_of: str = "",
    ) -> LaunchTemplateVersion:
        return LaunchTemplateVersion(
            version_id(template.id, number),
            caller.project,
            template.id,
            number,
            self._clock.seconds(),
            caller.user,
            data,
            description,
            token,
            _digest(digest_of) if token else "",
        )

    @inlineCallbacks
    def _find(self, caller: Caller, named: Named) -> Generator[Deferred[Any], Any, Stored[LaunchTemplate]]:
        [stored] = yield self._store.gather([named.want(caller)])
        if stored is None or stored.record.project != caller.project:
            raise named.missing()
        return stored  # type: ignore[no-any-return]


def number_of(template: LaunchTemplate, text: str) -> int:
    """
    @param text: a number, C{$Latest}, C{$Default}, or nothing for the default.
    @raise NotFound: it is no version's.
    """
    if text in ("", DEFAULT):
        return template.default
    if text == LATEST:
        return template.latest
    if not text.isdecimal() or not 0 < len(text) < 10:
        raise _no_version(template, text)
    return int(text)


def _no_version(template: LaunchTemplate, text: str) -> NotFound:
    return NotFound("launch_template_version", f"{template.id} {text}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
