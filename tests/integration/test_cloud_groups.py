"""
Security groups from request to host: each host is told what it enforces, and
nothing else, whatever dies on the way.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.cloud.access import Caller
from fabric.cloud.enforcement import Enforcement
from fabric.cloud.launch import LaunchSpec
from fabric.cloud.orders import Orders
from fabric.cloud.reports import Reports
from fabric.cloud.rules import Named, Rules, Wanted
from fabric.cloud.volume_orders import VolumeOrders
from fabric.compute.interface import MachineReport
from fabric.errors import AlreadyExists, NotFound
from fabric.faults import NoFaults
from fabric.model.group import SecurityGroup
from fabric.model.instance import GroupName, Instance
from fabric.model.rule import Permission, permission
from fabric.network.interface import GroupOrder
from fabric.store.interface import Stored
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, STRANGER, CloudUnderTest, make_cloud

Test = Generator[Deferred[Any], Any, Any]

SSH = permission(False, "tcp", 22, 22, cidr="192.0.2.0/24")
WEB = permission(False, "tcp", 80, 80, cidr="0.0.0.0/0")


class Killed(BaseException):
    """The process ends here."""


@attrs.define
class KillAt(NoFaults):
    """
    Ends the work at one step.
    """

    step: str

    def reach(self, name: str) -> None:
        """See L{fabric.faults.IFaults.reach}."""
        if name == self.step:
            raise Killed(name)


class HostGroupTests(TestCase):
    """
    A cloud of three hosts that are filled in turn.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Test:
        self.cloud: CloudUnderTest = yield make_cloud(self, ("node1", "node2", "node3"), algorithm="simple")
        self.web: SecurityGroup = yield self.cloud.cloud.groups.create(CALLER, "web", "w")
        self.db: SecurityGroup = yield self.cloud.cloud.groups.create(CALLER, "db", "d")

    @inlineCallbacks
    def launch(self, group: SecurityGroup, count: int = 1, caller: Caller = CALLER, network: str = "") -> Test:
        """Run instances in a group."""
        spec = LaunchSpec(SAMPLE, "m1.tiny", count, count, groups=(group.id,), network=network)
        launched = yield self.cloud.cloud.instances.run(caller, spec)
        return (yield self.cloud.until_state("running", *[each.id for each in launched]))

    def authorize(self, group: SecurityGroup, *wanted: Permission, caller: Caller = CALLER) -> Deferred[Any]:
        """Add rules."""
        return self.cloud.cloud.rules.authorize(caller, Named(group.id), [Wanted(each) for each in wanted])

    @inlineCallbacks
    def on(self, host: str) -> Test:
        """What a host enforces, by group."""
        groups = yield self.cloud.hosts[host].network.groups()
        return {group.id: group for group in groups}

    def until_rules(self, host: str, group: SecurityGroup, *wanted: Permission) -> Deferred[Any]:
        """Wait until a host has just these rules of a group besides the first one."""
        expected = {(each.traffic, each.cidr or each.group) for each in wanted}

        @inlineCallbacks
        def there() -> Test:
            order: GroupOrder | None = (yield self.on(host)).get(group.id)
            if order is None or not order.rules_order:
                return False
            found = {((r.protocol, r.from_port, r.to_port), r.peer or r.group) for r in order.rules if not r.egress}
            return found == expected

        return self.cloud.until(there)

    def until_members(self, host: str, group: SecurityGroup, *instances: Any) -> Deferred[Any]:
        """Wait until a host knows just these as members of a group."""
        wanted = sorted(address for each in instances for port in each.ports for address in port.addresses)

        @inlineCallbacks
        def there() -> Test:
            order = (yield self.on(host)).get(group.id)
            return order is not None and order.members_order and sorted(order.addresses) == wanted

        return self.cloud.until(there)

    @inlineCallbacks
    def test_members_by_ipv6(self) -> Test:
        """Where a network has IPv6, members are known by those addresses, too."""
        range_ = {"cidr": "10.9.0.0/24", "cidr_v6": "fd00:9::/64", "manager": "flatdhcp"}
        network = yield self.cloud.cloud.networks.create(OPERATOR, "sixth", **range_)
        yield self.authorize(self.web, permission(False, "tcp", 80, 80, group=self.db.id))
        [server] = yield self.launch(self.web, network=network.id)
        [client] = yield self.launch(self.db, network=network.id)
        self.assertEqual(len(client.ports[0].addresses), 3)
        yield self.until_members(server.host, self.db, client)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_only_hosts_of_members(self) -> Test:
        """A rule reaches the hosts that run members, at once, and no other host."""
        instances = yield self.launch(self.web, 2)
        hosts = {each.host for each in instances}
        yield self.authorize(self.web, SSH)
        for host in hosts:
            yield self.until_rules(host, self.web, SSH)
        for host in {"node1", "node2", "node3"} - hosts:
            self.assertEqual((yield self.on(host)), {})
        yield self.cloud.cloud.rules.revoke(CALLER, Named(self.web.id), False, [SSH])
        for host in hosts:
            yield self.until_rules(host, self.web)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_ports_know_their_groups(self) -> Test:
        """A machine's port carries its groups, also after they were changed while it runs."""
        [instance] = yield self.launch(self.web)
        network = self.cloud.hosts[instance.host].network
        [port] = yield network.ports()
        self.assertEqual(port.groups, (self.web.id,))
        yield self.cloud.cloud.instances.modify(CALLER, instance.id, groups=(self.db.id,))

        @inlineCallbacks
        def moved() -> Test:
            [port] = yield network.ports()
            return port.groups == (self.db.id,)

        yield self.cloud.until(moved)
        yield self.until_rules(instance.host, self.db)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_members_of_referenced_groups(self) -> Test:
        """Who may reach the db is each member of web, from when it runs until it is gone."""
        [base] = yield self.launch(self.db)
        peer = permission(False, "tcp", 5432, 5432, group=self.web.id)
        yield self.authorize(self.db, peer)
        yield self.until_rules(base.host, self.db, peer)
        yield self.until_members(base.host, self.web)
        one, two = yield self.launch(self.web, 2)
        yield self.until_members(base.host, self.web, one, two)
        yield self.cloud.cloud.instances.modify(CALLER, one.id, groups=(self.db.id,))
        yield self.until_members(base.host, self.web, two)
        yield self.cloud.cloud.instances.terminate(CALLER, [two.id])
        yield self.until_members(base.host, self.web)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_across_owners(self) -> Test:
        """A group may let in another project's members; those may remove theirs all the same."""
        theirs = yield self.cloud.cloud.groups.create(STRANGER, "probes", "p")
        [mine] = yield self.launch(self.web)
        unowned = permission(False, "tcp", 80, 80, group=theirs.id)
        yield self.assertFailure(self.authorize(self.web, unowned), NotFound)
        yield self.authorize(self.web, attrs.evolve(unowned, owner=STRANGER.project))
        [probe] = yield self.launch(theirs, caller=STRANGER)
        yield self.until_members(mine.host, theirs, probe)
        self.assertEqual((yield self.cloud.cloud.rules.referring(STRANGER, [theirs.id])), [(theirs.id, CALLER.project)])
        yield self.cloud.cloud.instances.terminate(STRANGER, [probe.id])
        yield self.cloud.until_state("terminated", probe.id)
        yield self.until_members(mine.host, theirs)
        yield self.cloud.cloud.groups.delete(STRANGER, id=theirs.id)
        [(group, [rule])] = yield self.cloud.cloud.rules.stale(CALLER)
        self.assertEqual((group.id, rule.permission.group), (self.web.id, theirs.id))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_one_of_a_hundred(self) -> Test:
        """Of a hundred who add one rule at once, one does, and the others are told so."""
        outcomes: list[Any] = yield gatherResults(
            [self.authorize(self.web, SSH).addErrback(lambda failure: failure.value) for _ in range(100)]
        )
        refused = [each for each in outcomes if isinstance(each, AlreadyExists)]
        self.assertEqual((len(refused), len(outcomes) - len(refused)), (99, 1))
        [stored] = yield self.cloud.store.read(SecurityGroup, [self.web.id])
        self.assertEqual([rule.permission for rule in stored.record.rules if not rule.permission.egress], [SSH])
        yield self.cloud.sound()

    @inlineCallbacks
    def test_many_at_once(self) -> Test:
        """Fifty who add fifty rules to one group all do, and hosts end with all of them."""
        [instance] = yield self.launch(self.web)
        wanted = [permission(False, "tcp", port, port, cidr="10.0.0.0/8") for port in range(50)]
        yield gatherResults([self.authorize(self.web, each) for each in wanted])
        yield self.until_rules(instance.host, self.web, *wanted)
        yield gatherResults(
            [self.cloud.cloud.rules.revoke(CALLER, Named(self.web.id), False, [each]) for each in wanted]
        )
        yield self.until_rules(instance.host, self.web)
        yield self.cloud.sound()

    def doomed(self, step: str) -> Rules:
        """The verbs in a process that dies at a step."""
        store, queue, faults = self.cloud.store, self.cloud.queue, KillAt(step)
        return Rules(store, Enforcement(store, queue, faults), self.cloud.reactor, faults, 0.2)

    @inlineCallbacks
    def test_killed_after_writing(self) -> Test:
        """A rule whose writer died before telling is told by the sweep."""
        [instance] = yield self.launch(self.web)
        doomed = self.doomed("cloud.rules_written")
        yield self.assertFailure(doomed.authorize(CALLER, Named(self.web.id), [Wanted(SSH)]), Killed)
        yield self.until_rules(instance.host, self.web, SSH)
        yield self.cloud.sound()

        @inlineCallbacks
        def settled() -> Test:
            [stored] = yield self.cloud.store.read(SecurityGroup, [self.web.id])
            return stored.record.review_at == 0.0

        yield self.cloud.until(settled)

    @inlineCallbacks
    def test_killed_before_regrouping(self) -> Test:
        """An instance whose groups were written by somebody who died then gets them by the sweep."""
        [instance] = yield self.launch(self.web)
        [stored] = yield self.cloud.store.read(Instance, [instance.id])
        groups = (GroupName(self.db.id, "db"),)
        changes = {"groups": groups, "groups_order": 1, "regrouped": (self.web.id, self.db.id), "regroup_at": 1.0}
        yield self._write(stored, attrs.evolve(stored.record, **changes))
        yield self.until_rules(instance.host, self.db)
        [port] = yield self.cloud.hosts[instance.host].network.ports()
        self.assertEqual(port.groups, (self.db.id,))

        @inlineCallbacks
        def settled() -> Test:
            [found] = yield self.cloud.get(instance.id)
            return (found.regrouped, found.regroup_at) == ((), 0.0)

        yield self.cloud.until(settled)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_killed_after_a_report(self) -> Test:
        """A report that comes again, because its taker died, has its host told again."""
        [instance] = yield self.launch(self.web)
        yield self.until_rules(instance.host, self.web)
        yield self.cloud.hosts[instance.host].network.apply_groups([])
        store, queue, clock = self.cloud.store, self.cloud.queue, self.cloud.reactor
        orders = Orders(queue, self.cloud.cloud.networks)
        report = MachineReport(instance.id, instance.order, "running")
        for faults in (KillAt("cloud.report_written"), NoFaults()):
            reports = Reports(store, orders, VolumeOrders(queue), Enforcement(store, queue), clock, faults)
            taken = reports.take("r", instance.host, [report])
            yield self.assertFailure(taken, Killed) if isinstance(faults, KillAt) else taken
        yield self.until_rules(instance.host, self.web)

    @inlineCallbacks
    def test_host_that_was_away(self) -> Test:
        """A network worker that comes back knows what changed meanwhile, and forgets what is not its any more."""
        [web] = yield self.launch(self.web)
        [db] = yield self.launch(self.db)
        yield self.until_rules(db.host, self.db)
        yield self.authorize(self.db, permission(False, "-1", group=self.web.id))
        host = self.cloud.hosts[db.host]
        yield self.until_members(db.host, self.web, web)
        yield host.stop()
        stale = GroupOrder("sg-00000000", 1, (), 1, ("10.9.9.9",))
        network = type(host.network)(host.directory + "/network", self.cloud.reactor)
        yield network.start()
        yield network.apply_groups([stale])
        yield network.stop()
        [stored] = yield self.cloud.store.read(SecurityGroup, [self.db.id])
        yield self._write(stored, attrs.evolve(stored.record, rules=()))
        self.cloud.add_host(db.host, directory=host.directory)

        @inlineCallbacks
        def agreed() -> Test:
            groups = yield self.on(db.host)
            wanted = {self.db.id} | ({self.web.id} if web.host == db.host else set())
            return set(groups) == wanted and groups[self.db.id].rules == ()

        yield self.cloud.until(agreed)

    @inlineCallbacks
    def _write(self, stored: Stored[Any], record: Any) -> Test:
        transaction = self.cloud.store.transaction("test")
        transaction.update(stored, record)
        yield self.cloud.store.commit(transaction)

    @inlineCallbacks
    def test_cost(self) -> Test:
        """Adding a rule takes one message to each host of a member, however many members there are."""
        everybody: list[Any] = []
        for more in (1, 12):
            everybody += yield self.launch(self.web, more)
            hosts = {each.host for each in everybody}
            yield self.quiet()
            before = self.cloud.queue.sent
            yield self.authorize(self.web, attrs.evolve(SSH, from_port=more))
            yield self.quiet()
            self.assertEqual(self.cloud.queue.sent - before, len(hosts))

    def quiet(self) -> Deferred[Any]:
        """Wait until nothing more is sent."""
        seen: list[int] = []

        def still() -> bool:
            seen.append(self.cloud.queue.sent)
            return len(seen) > 20 and len(set(seen[-20:])) == 1

        return self.cloud.until(still)
