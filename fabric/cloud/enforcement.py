"""
What hosts are told of security groups.

A host enforces two things of a group: its rules, where members run, and the
addresses of its members, where another group's rule is about it.  The first is
sent when rules change, to the hosts that an index names; the second when members
come and go, to the hosts of the groups that refer to it.  C{doc/groups.rst} says
why this is enough.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.logger import Logger
from twisted.python.failure import Failure

from fabric.cloud.orders import WAIT
from fabric.errors import FabricError
from fabric.faults import IFaults, NoFaults
from fabric.model.codec import encode
from fabric.model.group import SecurityGroup, address_facet, host_facet, referring
from fabric.model.instance import Instance
from fabric.network.interface import GroupOrder, INetworkWorker, RuleOrder
from fabric.rpc.interface import Address, Context, IQueue
from fabric.store.interface import IStore, Query

Place = tuple[str, str]


@attrs.define
class _Refresh:
    """
    One group's members being told of.

    @ivar hosts: those that are to get its rules, too.
    @ivar waiting: who waits for the next turn.
    """

    hosts: set[str] = attrs.field(factory=set)
    waiting: list[Deferred[None]] = attrs.field(factory=list)


class Enforcement:
    """
    Reads what hosts are to enforce, and sends it.

    What is sent carries the store's time from before it was read.  A host
    keeps the newest of each thing: it then has everything that was written
    up to that time, and whatever was written later is sent by its writer.
    """

    log = Logger()

    def __init__(self, store: IStore, queue: IQueue, faults: IFaults | None = None) -> None:
        self._store = store
        self._queue = queue
        self._faults = faults or NoFaults()
        self._next: dict[Place, _Refresh] = {}
        self._running: set[Place] = set()

    def rules(self, request_id: str, group: SecurityGroup, before: SecurityGroup | None = None) -> Deferred[None]:
        """
        Tell the hosts of a group's members its rules.

        @param before: what it was: hosts have the members of the groups that
            its rules were about; None to send them all.
        @return: fires when it is sent, or when that failed and is logged: the
            sweep sends it again.
        """
        known = () if before is None else before.peers
        sent = self._rules(request_id, group, [peer for peer in group.peers if peer not in known])
        return sent.addErrback(self._unsent, request_id, group.id)

    def regrouped(self, request_id: str, instance: Instance) -> Deferred[None]:
        """
        Tell an instance's host of its groups, and all hosts that it concerns
        of their members.

        @return: as of L{rules}.
        """
        return self._regrouped(request_id, instance).addErrback(self._unsent, request_id, instance.id)

    @inlineCallbacks
    def members(self, request_id: str, groups: Mapping[Place, set[str]]) -> Generator[Deferred[Any], Any, None]:
        """
        Members of groups came or went: tell those that must know.

        @param groups: C{(project, id)} of each, with the hosts that have a
            new one and so need its rules.
        @raise FabricError: it could not be sent.
        """
        turns = [self._turn(request_id, place, hosts) for place, hosts in groups.items()]
        yield gatherResults(turns, consumeErrors=True).addErrback(_first)

    @inlineCallbacks
    def host(self, request_id: str, host: str) -> Generator[Deferred[Any], Any, None]:
        """
        Tell a host all that it is to enforce; it drops the rest.
        """
        at = (yield self._store.values("instance", [])).at
        ids = yield self._groups_of(host)
        found = yield self._store.read(SecurityGroup, ids)
        groups = [stored.record for stored in found if stored is not None]
        orders = {group.id: _rules_of(group, at) for group in groups}
        yield self._add_members(orders, {place for group in groups for place in _peers(group)})
        yield self._cast(request_id, host, list(orders.values()), at)
        self._faults.reach("cloud.groups_adopted")

    @inlineCallbacks
    def _rules(self, request_id: str, group: SecurityGroup, peers: Sequence[str]) -> Generator[Any, Any, None]:
        read = yield self._store.values("instance", [(group.project, host_facet(group.id))])
        [hosts] = read.found
        if not hosts:
            return
        [stored] = yield self._store.read(SecurityGroup, [group.id])
        if stored is None:
            return
        orders = {group.id: _rules_of(stored.record, read.at)}
        yield self._add_members(orders, {place for place in _peers(stored.record) if place[1] in peers})
        yield self._to_hosts(request_id, hosts, list(orders.values()))
        self._faults.reach("cloud.rules_sent")

    @inlineCallbacks
    def _regrouped(self, request_id: str, instance: Instance) -> Generator[Deferred[Any], Any, None]:
        if instance.host:
            port = {
                "instance": instance.id,
                "order": instance.groups_order,
                "groups": [group.id for group in instance.groups],
            }
            yield self._remote(request_id, instance.host).regroup([port])
            self._faults.reach("cloud.regrouped")
        now = {group.id for group in instance.groups}
        host = {instance.host} if instance.host else set()
        yield self.members(
            request_id, {(instance.project, id): host if id in now else set() for id in {*now, *instance.regrouped}}
        )

    def _turn(self, request_id: str, place: Place, hosts: Iterable[str]) -> Deferred[None]:
        """
        Refresh one group now, or, while that is being done, once more after it
        for all who asked meanwhile: what was read may be too old for them.
        """
        done: Deferred[None] = Deferred()
        turn = self._next.setdefault(place, _Refresh())
        turn.hosts.update(hosts)
        turn.waiting.append(done)
        if place not in self._running:
            self._run(request_id, place)
        return done

    def _run(self, request_id: str, place: Place) -> None:
        turn = self._next.pop(place)
        self._running.add(place)

        def over(result: Failure | None) -> None:
            self._running.discard(place)
            if place in self._next:
                self._run(request_id, place)
            for done in turn.waiting:
                done.callback(result)  # an errback, when it is a Failure

        self._refresh(request_id, place, turn.hosts).addBoth(over)

    @inlineCallbacks
    def _refresh(self, request_id: str, place: Place, newly: set[str]) -> Generator[Deferred[Any], Any, None]:
        project, id = place
        at = (yield self._store.values("instance", [])).at
        found = {group.id: group for group in (yield self._concerned(id))}
        users = [group for group in found.values() if id in group.peers]
        group = found.get(id) if newly else None
        peers = sorted(set(_peers(group)) - {place}) if group else []
        places = [(project, address_facet(id)), *[(owner, address_facet(peer)) for owner, peer in peers]]
        places += [(user.project, host_facet(user.id)) for user in users]
        read = yield self._store.values("instance", places)
        own, *others = [
            GroupOrder(peer, members_order=read.at, addresses=tuple(addresses))
            for peer, addresses in zip([id, *[peer for _, peer in peers]], read.found, strict=False)
        ]
        concerned = {host for hosts in read.found[1 + len(peers) :] for host in hosts}
        yield self._to_hosts(request_id, concerned - newly, [own])
        if group:
            own = own if group in users else GroupOrder(id)
            rules = attrs.evolve(own, rules_order=at, rules=_rules_of(group, at).rules)
            yield self._to_hosts(request_id, newly, [rules, *others])
        self._faults.reach("cloud.members_sent")

    @inlineCallbacks
    def _add_members(self, orders: dict[str, GroupOrder], peers: set[Place]) -> Generator[Deferred[Any], Any, None]:
        wanted = sorted(peers)
        if not wanted:
            return
        read = yield self._store.values("instance", [(project, address_facet(id)) for project, id in wanted])
        for (_, id), addresses in zip(wanted, read.found, strict=True):
            order = orders.get(id, GroupOrder(id))
            orders[id] = attrs.evolve(order, members_order=read.at, addresses=tuple(addresses))

    @inlineCallbacks
    def _concerned(self, id: str) -> Generator[Deferred[Any], Any, list[SecurityGroup]]:
        """A group, and those with rules about it."""
        groups: list[SecurityGroup] = []
        cursor = ""
        while True:
            page = yield self._store.records(SecurityGroup, Query("group", (referring(id),), cursor=cursor))
            groups += [stored.record for stored in page.items]
            cursor = page.cursor
            if not cursor:
                return groups

    @inlineCallbacks
    def _groups_of(self, host: str) -> Generator[Deferred[Any], Any, list[str]]:
        ids: dict[str, None] = {}
        cursor = ""
        while True:
            query = Query("instance", ("host:" + host,), cursor=cursor, limit=500)
            page = yield self._store.records(Instance, query)
            for stored in page.items:
                if stored.record.live:
                    ids.update((group.id, None) for group in stored.record.groups)
            cursor = page.cursor
            if not cursor:
                return list(ids)

    @inlineCallbacks
    def _to_hosts(self, request_id: str, hosts: Iterable[str], groups: list[GroupOrder]) -> Generator[Any, Any, None]:
        shapes = [encode(group) for group in groups]
        yield gatherResults(
            [self._remote(request_id, host).apply_groups(shapes, 0) for host in hosts], consumeErrors=True
        ).addErrback(_first)

    def _cast(self, request_id: str, host: str, groups: list[GroupOrder], whole: int) -> Deferred[None]:
        sent: Deferred[None] = self._remote(request_id, host).apply_groups([encode(group) for group in groups], whole)
        return sent

    def _remote(self, request_id: str, host: str) -> Any:
        return self._queue.caster(INetworkWorker, Address("network", host), Context(request_id, WAIT))

    def _unsent(self, failure: Failure, request_id: str, id: str) -> None:
        failure.trap(FabricError)
        self.log.warn(
            "{request_id}: what changed of {id} was not sent to all hosts and will be again: {error}",
            request_id=request_id,
            id=id,
            error=failure.value,
        )


def _first(failure: Failure) -> Failure:
    """The failure of the first send that failed, out of C{gatherResults}'s own."""
    inner = getattr(failure.value, "subFailure", None)
    return inner if isinstance(inner, Failure) else failure


def _peers(group: SecurityGroup) -> list[Place]:
    """C{(project, id)} of each group that its rules are about."""
    return [(rule.permission.owner, rule.permission.group) for rule in group.rules if rule.permission.group]


def _rules_of(group: SecurityGroup, at: int) -> GroupOrder:
    rules = (rule.permission for rule in group.rules)
    return GroupOrder(
        group.id,
        at,
        tuple(
            RuleOrder(each.egress, each.protocol, each.from_port, each.to_port, each.cidr or each.cidr6, each.group)
            for each in rules
        ),
    )
