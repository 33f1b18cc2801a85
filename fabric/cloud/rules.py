"""
The rules of security groups.

A group's rules are part of its record, so that they are written, limited and
compared with what is there in one script.  What changes is told to the hosts
once it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.enforcement import Enforcement
from fabric.cloud.groups import DEFAULT, default_group, sends_v6, unique_name
from fabric.cloud.launch import RESEND_AFTER
from fabric.cloud.listings import Filters
from fabric.cloud.retry import until_written
from fabric.errors import AlreadyExists, InvalidValue, NotFound, QuotaExceeded
from fabric.faults import IFaults
from fabric.model.group import SecurityGroup, referring, rule_name
from fabric.model.rule import MOST, Permission, Rule, described, meant, new_rule
from fabric.store.interface import IStore, Page, Query, Stored, Want

ATTEMPTS = 200
"""As many may write rules of one group at once."""

Row = tuple[SecurityGroup, Rule]


@attrs.frozen
class Named:
    """
    A group of the caller's, by id or by name.
    """

    id: str = ""
    name: str = ""

    def want(self, project: str) -> Want:
        """What to read."""
        if self.id:
            return Want(SecurityGroup, id=self.id)
        return Want(SecurityGroup, name=unique_name(project, self.name))


@attrs.frozen
class Wanted:
    """
    A rule as somebody asks for it.

    @ivar permission: its group may be named by id or by name, and is the
        caller's own unless there is an owner.
    """

    permission: Permission
    description: str = ""


Change = Callable[[Stored[SecurityGroup], Sequence[Any]], tuple[tuple[Rule, ...], list[Rule]]]


class Rules:
    """
    Verbs on the rules of a group.  Each is one write: all of it, or nothing.
    """

    def __init__(
        self,
        store: IStore,
        enforcement: Enforcement,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._enforcement = enforcement
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    def authorize(
        self, caller: Caller, target: Named, wanted: Sequence[Wanted], tags: Mapping[str, str] | None = None
    ) -> Deferred[tuple[SecurityGroup, list[Rule]]]:
        """
        Add rules.

        @return: the group and its new rules.
        @raise NotFound: the group, or one that a rule is about.
        @raise AlreadyExists: of kind C{rule}: there is such a rule.
        @raise InvalidValue: two are the same, or one can't be meant.
        @raise QuotaExceeded: of C{rules}: a direction would have too many.
        """

        def added(stored: Stored[SecurityGroup], peers: Sequence[Any]) -> tuple[tuple[Rule, ...], list[Rule]]:
            new = [
                new_rule(_resolved(caller, each.permission, peer), described(each.description), dict(tags or {}))
                for each, peer in zip(wanted, peers, strict=True)
            ]
            if len({rule.permission for rule in new}) < len(new):
                why = "The same permission must not appear multiple times"
                raise InvalidValue(name="permission", value="", why=why)
            rules = (*stored.record.rules, *new)
            _check(rules, new)
            return rules, new

        return self._write(caller, target, [each.permission for each in wanted], added)

    def revoke(
        self, caller: Caller, target: Named, egress: bool, wanted: Sequence[Permission] = (), ids: Sequence[str] = ()
    ) -> Deferred[tuple[SecurityGroup, list[Rule]]]:
        """
        Remove rules of one direction, by what they let pass or by their ids.

        @return: the group and the rules that it had.
        @raise NotFound: the group; or of kind C{rule} or C{permission}.
        """

        def without(stored: Stored[SecurityGroup], peers: Sequence[Any]) -> tuple[tuple[Rule, ...], list[Rule]]:
            gone = _found(stored.record, egress, wanted, ids)
            there = {rule.id for rule in gone}
            return tuple(rule for rule in stored.record.rules if rule.id not in there), gone

        return self._write(caller, target, (), without)

    def modify(
        self, caller: Caller, target: Named, changes: Mapping[str, Wanted]
    ) -> Deferred[tuple[SecurityGroup, list[Rule]]]:
        """
        Put other rules in place of some, by id; each keeps id, tags and
        direction.

        @raise NotFound: the group, one that a rule is about, or a rule.
        @raise AlreadyExists: there is such a rule.
        """
        order = list(changes)

        def changed(stored: Stored[SecurityGroup], peers: Sequence[Any]) -> tuple[tuple[Rule, ...], list[Rule]]:
            by_id = {rule.id: rule for rule in stored.record.rules}
            _check_ids(order, by_id)
            new: dict[str, Rule] = {}
            for id, peer in zip(order, peers, strict=True):
                old, wanted = by_id[id], changes[id]
                permission = attrs.evolve(wanted.permission, egress=old.permission.egress)
                if permission.group and permission.group == old.permission.group:
                    permission = attrs.evolve(permission, owner=old.permission.owner)
                permission = _resolved(caller, permission, peer)
                new[id] = attrs.evolve(old, permission=permission, description=described(wanted.description))
            rules = tuple(new.get(rule.id, rule) for rule in stored.record.rules)
            _check(rules, list(new.values()))
            return rules, list(new.values())

        return self._write(caller, target, [changes[id].permission for id in order], changed)

    def describe(
        self,
        caller: Caller,
        target: Named,
        egress: bool,
        wanted: Sequence[Wanted] = (),
        ids: Mapping[str, str] | None = None,
    ) -> Deferred[tuple[SecurityGroup, list[Rule]]]:
        """
        Give rules of one direction other descriptions; "" for none.

        @param ids: descriptions by the rules' ids.
        @raise NotFound: as of L{revoke}.
        """

        def told(stored: Stored[SecurityGroup], peers: Sequence[Any]) -> tuple[tuple[Rule, ...], list[Rule]]:
            texts = dict(ids or {})
            _found(stored.record, egress, (), list(texts))
            for each in wanted:
                for rule in _found(stored.record, egress, [each.permission], ()):
                    texts[rule.id] = each.description
            new = {
                rule.id: attrs.evolve(rule, description=described(texts[rule.id]))
                for rule in stored.record.rules
                if rule.id in texts
            }
            return tuple(new.get(rule.id, rule) for rule in stored.record.rules), list(new.values())

        return self._write(caller, target, (), told)

    @inlineCallbacks
    def page(
        self,
        caller: Caller,
        filters: Filters = (),
        passes: Callable[[Row], bool] = lambda row: True,
        cursor: str = "",
        limit: int | None = None,
    ) -> Generator[Deferred[Any], Any, Page]:
        """
        A page of C{(group, rule)}.

        @param filters: of groups.
        @param passes: a test of each.
        """
        offset, _, place = cursor.partition("|")
        if cursor and not offset.isdecimal():
            raise InvalidValue("NextToken", cursor, "not a token of this listing")
        skip = int(offset or 0)
        items: list[Row] = []
        while True:
            query = Query("group", (caller.project,), tuple(filters), cursor=place)
            page = yield self._store.records(SecurityGroup, query)
            rows = [(each.record, rule) for each in page.items for rule in each.record.rules]
            rows = [row for row in rows if passes(row)]
            room = None if limit is None else limit - len(items)
            if room is not None and len(rows) - skip > room:
                return Page([*items, *rows[skip : skip + room]], f"{skip + room}|{place}")
            items += rows[skip:]
            skip, place = 0, page.cursor
            if not place:
                return Page(items, "")

    @inlineCallbacks
    def get(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Row]]:
        """
        @raise NotFound: of kind C{rule}; it names all that are not there or
            not the caller's.
        """
        found = yield self._store.resolve(SecurityGroup, [rule_name(id) for id in ids])
        rows: list[Row] = []
        missing: list[str] = []
        for id, stored in zip(ids, found, strict=True):
            if stored is None or stored.record.project != caller.project:
                missing.append(id)
            else:
                rows += [(stored.record, rule) for rule in stored.record.rules if rule.id == id]
        if missing:
            raise NotFound("rule", ", ".join(missing))
        return rows

    @inlineCallbacks
    def referring(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[tuple[str, str]]]:
        """
        @return: C{(group, project)} of each other project with rules about
            one of these groups.
        @raise NotFound: some are not the caller's.
        """
        found = yield self._store.read(SecurityGroup, ids)
        missing = [
            id for id, each in zip(ids, found, strict=True) if each is None or each.record.project != caller.project
        ]
        if missing:
            raise NotFound("group", ", ".join(missing))
        pairs: dict[tuple[str, str], None] = {}
        for id in ids:
            for group in (yield self._all((referring(id),))):
                if group.project != caller.project:
                    pairs[id, group.project] = None
        return list(pairs)

    @inlineCallbacks
    def stale(self, caller: Caller) -> Generator[Deferred[Any], Any, list[tuple[SecurityGroup, tuple[Rule, ...]]]]:
        """
        @return: the caller's groups with rules about groups that are gone,
            and those rules.
        """
        groups = yield self._all((caller.project,))
        foreign = {
            rule.permission.group: None
            for group in groups
            for rule in group.rules
            if rule.permission.group and rule.permission.owner != caller.project
        }
        found = yield self._store.read(SecurityGroup, list(foreign))
        gone = {id for id, stored in zip(foreign, found, strict=True) if stored is None}
        rows = [(group, tuple(rule for rule in group.rules if rule.permission.group in gone)) for group in groups]
        return [row for row in rows if row[1]]

    @inlineCallbacks
    def _all(self, scopes: tuple[str, ...]) -> Generator[Deferred[Any], Any, list[SecurityGroup]]:
        groups: list[SecurityGroup] = []
        cursor = ""
        while True:
            page = yield self._store.records(SecurityGroup, Query("group", scopes, cursor=cursor))
            groups += [stored.record for stored in page.items]
            cursor = page.cursor
            if not cursor:
                return groups

    @inlineCallbacks
    def _write(
        self, caller: Caller, target: Named, permissions: Sequence[Permission], change: Change
    ) -> Generator[Deferred[Any], Any, tuple[SecurityGroup, list[Rule]]]:
        before, group, rules = yield until_written(
            lambda: self._write_once(caller, target, permissions, change), ATTEMPTS
        )
        if _allowed(group.rules) != _allowed(before.rules):
            self._faults.reach("cloud.rules_written")
            self._enforcement.rules(caller.request_id, group, before)
        return group, rules

    @inlineCallbacks
    def _write_once(
        self, caller: Caller, target: Named, permissions: Sequence[Permission], change: Change
    ) -> Generator[Deferred[Any], Any, tuple[SecurityGroup, SecurityGroup, list[Rule]]]:
        wants = [_peer(caller, permission) for permission in permissions]
        stored, *found = yield self._store.gather([target.want(caller.project), *[want for want in wants if want]])
        if stored is None and target == Named(name=DEFAULT):
            yield self._make_default(caller)
            return (yield self._write_once(caller, target, permissions, change))  # type: ignore[no-any-return]
        if stored is None or stored.record.project != caller.project:
            raise NotFound("group", target.id or target.name)
        peers = iter(found)
        rules, about = change(stored, [next(peers) if want else None for want in wants])
        before: SecurityGroup = stored.record
        after = attrs.evolve(before, rules=rules)
        if after == before:
            return before, before, about
        if _allowed(rules) != _allowed(before.rules):
            review_at = self._clock.seconds() + self._resend_after
            after = attrs.evolve(after, review_at=review_at)
        transaction = self._store.transaction(caller.request_id)
        transaction.update(stored, after)
        for peer in after.peers:
            if peer != after.id and peer not in before.peers:
                transaction.need("group", peer)
        yield self._store.commit(transaction)
        return before, after, about

    @inlineCallbacks
    def _make_default(self, caller: Caller) -> Generator[Deferred[Any], Any, None]:
        """Have the project's default group, which is as good as there for whoever names it."""
        v6 = yield sends_v6(self._store, caller.project)
        transaction = self._store.transaction(caller.request_id)
        transaction.create(default_group(caller.project, self._clock.seconds(), v6))
        with suppress(AlreadyExists):
            yield self._store.commit(transaction)


def _peer(caller: Caller, permission: Permission) -> Want | None:
    """What to read of the group that a rule is about."""
    if permission.group:
        return Want(SecurityGroup, id=permission.group)
    if permission.group_name:
        return Want(SecurityGroup, name=unique_name(permission.owner or caller.project, permission.group_name))
    return None


def _resolved(caller: Caller, permission: Permission, peer: Stored[SecurityGroup] | None) -> Permission:
    """The permission with its group's id, name and owner."""
    if not (permission.group or permission.group_name):
        return permission
    if peer is None or peer.record.project != (permission.owner or caller.project):
        raise NotFound("group", permission.group or permission.group_name)
    record = peer.record
    return attrs.evolve(permission, group=record.id, owner=record.project, group_name=record.name)


def _allowed(rules: Sequence[Rule]) -> list[Permission]:
    """What hosts need to know of rules."""
    return [rule.permission for rule in rules]


def _check(rules: Sequence[Rule], new: Sequence[Rule]) -> None:
    """See that the new ones are neither there already nor too many."""
    ids = {rule.id for rule in new}
    there = {rule.permission: rule.id for rule in rules if rule.id not in ids}
    for rule in new:
        holder = there.get(rule.permission)
        if holder is not None:
            raise AlreadyExists("rule", str(rule.permission), holder)
        there[rule.permission] = rule.id
    for egress in {rule.permission.egress for rule in new}:
        count = sum(rule.permission.egress == egress for rule in rules)
        if count > MOST:
            raise QuotaExceeded("rules", MOST, count - len(new), count)


def _found(group: SecurityGroup, egress: bool, wanted: Sequence[Permission], ids: Sequence[str]) -> list[Rule]:
    """The rules of one direction that somebody means."""
    rules = [rule for rule in group.rules if rule.permission.egress == egress]
    by_id = {rule.id: rule for rule in rules}
    _check_ids(ids, by_id)
    found = {id: by_id[id] for id in ids}
    for permission in wanted:
        matching = [rule for rule in rules if meant(permission, rule.permission)]
        if not matching:
            raise NotFound("permission", str(permission))
        found.update((rule.id, rule) for rule in matching)
    return list(found.values())


def _check_ids(ids: Sequence[str], there: Mapping[str, Rule]) -> None:
    missing = [id for id in ids if id not in there]
    if missing:
        raise NotFound("rule", ", ".join(missing))
