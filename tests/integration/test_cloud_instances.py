"""
Instances through the whole cloud in one process: queue, scheduler, workers, state.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.cloud.assembly import QUOTAS, Rules
from fabric.cloud.launch import LaunchSpec
from fabric.errors import (
    IdempotencyMismatch,
    InvalidValue,
    NotFound,
    Protected,
    QuotaExceeded,
    WrongState,
)
from fabric.model.host import Stray
from fabric.model.record import ALL
from fabric.settings import Fake
from fabric.store.interface import Query
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, STRANGER, CloudUnderTest, make_cloud

Test = Generator[Deferred[Any], Any, None]


class LaunchTests(TestCase):
    """
    From a request to a running instance.
    """

    @inlineCallbacks
    def test_launch_runs(self) -> Test:
        """A launched instance runs on a host, with an address, and state is sound."""
        cloud: CloudUnderTest = yield make_cloud(self)
        launched = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny", 2, 2))
        self.assertEqual({each.state for each in launched}, {"pending"})
        running = yield cloud.until_state("running", *[each.id for each in launched])
        self.assertEqual({each.host for each in running}, {"node1"})
        addresses = {each.ports[0].address for each in running}
        self.assertEqual(len(addresses), 2)
        for each in running:
            self.assertEqual(each.ports[0].hostname, "ip-" + each.ports[0].address.replace(".", "-"))
        plugged = {plug.address for plug in (yield cloud.hosts["node1"].network.ports())}
        self.assertEqual(plugged, addresses)
        yield cloud.sound()

    @inlineCallbacks
    def test_terminate_leaves_nothing(self) -> Test:
        """A terminated instance gives back address, room and quota, and its host has nothing of it."""
        cloud: CloudUnderTest = yield make_cloud(self)
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        yield cloud.until_state("running", made.id)
        [change] = yield cloud.cloud.instances.terminate(CALLER, [made.id])
        self.assertEqual((change.before, change.after), ("running", "shutting-down"))
        yield cloud.until_state("terminated", made.id)
        host = cloud.hosts["node1"]
        self.assertEqual((yield host.hypervisor.domains()), [])
        self.assertEqual((yield host.network.ports()), [])
        usage = yield cloud.cloud.quotas.usage(CALLER.project)
        self.assertEqual((usage["instances"], usage["cores"], usage["ram"]), (0, 0, 0))
        [(free, members)] = (yield cloud.store.pools()).values()
        self.assertEqual(free, members)
        yield cloud.sound()

    @inlineCallbacks
    def test_client_token_makes_one_launch(self) -> Test:
        """Many launches at once with one token are one launch."""
        cloud: CloudUnderTest = yield make_cloud(self)
        spec = LaunchSpec(SAMPLE, min_count=2, max_count=2, client_token="t", digest_of="same")
        answers = yield gatherResults([cloud.cloud.instances.run(CALLER, spec) for _ in range(10)])
        self.assertEqual(len({each.id for answer in answers for each in answer}), 2)
        self.assertEqual({len(answer) for answer in answers}, {2})
        usage = yield cloud.cloud.quotas.usage(CALLER.project)
        self.assertEqual(usage["instances"], 2)

    @inlineCallbacks
    def test_client_token_with_other_parameters(self) -> Test:
        """A token is refused with other parameters, and serves each project by itself."""
        cloud: CloudUnderTest = yield make_cloud(self)
        run = cloud.cloud.instances.run
        [mine] = yield run(CALLER, LaunchSpec(SAMPLE, client_token="t", digest_of="one"))
        yield self.assertFailure(
            run(CALLER, LaunchSpec(SAMPLE, client_token="t", digest_of="two")), IdempotencyMismatch
        )
        [theirs] = yield run(STRANGER, LaunchSpec(SAMPLE, client_token="t", digest_of="two"))
        self.assertNotEqual(mine.id, theirs.id)

    @inlineCallbacks
    def test_quota_is_never_passed(self) -> Test:
        """Launches at once get what the quota has, and not one more."""
        rules = Rules(quotas=QUOTAS | {"instances": 5}, ready_keys=0)
        cloud: CloudUnderTest = yield make_cloud(self, rules=rules)
        results: list[Any] = []
        launches = [cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, min_count=2, max_count=2)) for _ in range(5)]
        for launch in launches:
            launch.addBoth(results.append)
        yield cloud.until(lambda: len(results) == 5)
        refused = [result for result in results if not isinstance(result, list)]
        self.assertEqual(len(refused), 3)
        for failure in refused:
            self.assertEqual(failure.check(QuotaExceeded), QuotaExceeded)
        usage = yield cloud.cloud.quotas.usage(CALLER.project)
        self.assertEqual(usage["instances"], 4)

    @inlineCallbacks
    def test_between_min_and_max(self) -> Test:
        """A launch takes as many as the quota allows, if that is the least wanted."""
        rules = Rules(quotas=QUOTAS | {"instances": 3}, ready_keys=0)
        cloud: CloudUnderTest = yield make_cloud(self, rules=rules)
        launched = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, min_count=1, max_count=9))
        self.assertEqual(len(launched), 3)

    @inlineCallbacks
    def test_unknown_parts_are_refused(self) -> Test:
        """What a launch names must exist for its project."""
        cloud: CloudUnderTest = yield make_cloud(self)
        run = cloud.cloud.instances.run
        group = yield cloud.cloud.groups.create(STRANGER, "theirs", "of another project")
        for spec in (
            LaunchSpec("ami-0123456789abcdef0"),
            LaunchSpec(SAMPLE, key_name="nobody"),
            LaunchSpec(SAMPLE, group_names=("nobody",)),
            LaunchSpec(SAMPLE, groups=(group.id,)),
            LaunchSpec(SAMPLE, network="net-0123456789abcdef0"),
        ):
            yield self.assertFailure(run(CALLER, spec), NotFound)
        yield self.assertFailure(run(CALLER, LaunchSpec(SAMPLE, "m9.huge")), InvalidValue)
        usage = yield cloud.cloud.quotas.usage(CALLER.project)
        self.assertEqual(usage["instances"], 0)

    @inlineCallbacks
    def test_no_room_ends_with_reasons(self) -> Test:
        """An instance that fits nowhere is terminated, and says why for each host."""
        cloud: CloudUnderTest = yield make_cloud(self, ("a", "b"), Fake(vcpus=1, boot_seconds=0.0))
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.large"))
        [ended] = yield cloud.until_state("terminated", made.id)
        self.assertEqual(ended.reason.code, "Server.InsufficientInstanceCapacity")
        reasons = yield cloud.cloud.hosts.explain(made.id)
        self.assertEqual(set(reasons), {"a", "b"})
        yield cloud.sound()

    @inlineCallbacks
    def test_hosts_are_never_overfilled(self) -> Test:
        """Launches at once fill hosts to the brim and no further."""
        cloud: CloudUnderTest = yield make_cloud(self, ("a", "b"), Fake(vcpus=3, boot_seconds=0.0))
        launches = [cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny")) for _ in range(9)]
        made = [answer[0].id for answer in (yield gatherResults(launches))]

        @inlineCallbacks
        def settled() -> Generator[Any, Any, bool]:
            found = yield cloud.get(*made)
            return all(each.state in ("running", "terminated") for each in found)

        yield cloud.until(settled)
        found = yield cloud.get(*made)
        self.assertEqual(sum(each.state == "running" for each in found), 6)
        yield cloud.sound()

    @inlineCallbacks
    def test_queue_scheduler(self) -> Test:
        """Under C{queue} the first free worker takes an instance."""
        cloud: CloudUnderTest = yield make_cloud(self, ("a", "b"), algorithm="queue")
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        [running] = yield cloud.until_state("running", made.id)
        self.assertIn(running.host, ("a", "b"))

    @inlineCallbacks
    def test_queue_scheduler_without_room(self) -> Test:
        """Under C{queue} an instance that fits nowhere is ended too."""
        cloud: CloudUnderTest = yield make_cloud(self, ("a",), Fake(vcpus=1, boot_seconds=0.0), algorithm="queue")
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.large"))
        [ended] = yield cloud.until_state("terminated", made.id)
        self.assertEqual(ended.reason.code, "Server.InsufficientInstanceCapacity")

    @inlineCallbacks
    def test_failed_spawn_gives_everything_back(self) -> Test:
        """An instance whose host can't boot it ends with the reason, and nothing is held."""
        cloud: CloudUnderTest = yield make_cloud(self, options=Fake(boot_seconds=0.0, fail_next=("spawn",)))
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        [ended] = yield cloud.until_state("terminated", made.id)
        self.assertTrue(ended.reason.code.startswith("Server."))

        @inlineCallbacks
        def free() -> Generator[Any, Any, bool]:
            [(free, members)] = (yield cloud.store.pools()).values()
            return free == members

        yield cloud.until(free)
        yield cloud.sound()


class VerbTests(TestCase):
    """
    What users do with running instances.
    """

    @inlineCallbacks
    def setUp(self) -> Test:
        self.cloud: CloudUnderTest = yield make_cloud(self)
        [made] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        [self.instance] = yield self.cloud.until_state("running", made.id)
        self.verbs = self.cloud.cloud.instances

    @inlineCallbacks
    def test_stop_and_start(self) -> Test:
        """A stopped instance keeps host and address, and starts again."""
        id = self.instance.id
        [change] = yield self.verbs.stop(CALLER, [id])
        self.assertEqual((change.before, change.after), ("running", "stopping"))
        [stopped] = yield self.cloud.until_state("stopped", id)
        self.assertEqual((stopped.host, stopped.ports), (self.instance.host, self.instance.ports))
        self.assertEqual(stopped.reason.code, "Client.UserInitiatedShutdown")
        [change] = yield self.verbs.start(CALLER, [id])
        self.assertEqual((change.before, change.after), ("stopped", "pending"))
        [running] = yield self.cloud.until_state("running", id)
        self.assertIsNone(running.reason)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_reboot_keeps_running(self) -> Test:
        """A rebooted instance stays in state running and boots once more."""
        id = self.instance.id
        before = (yield self.verbs.console_output(CALLER, id)).output
        yield self.verbs.reboot(CALLER, [id])

        @inlineCallbacks
        def grown() -> Generator[Any, Any, bool]:
            console = yield self.verbs.console_output(CALLER, id)
            return len(console.output) > len(before)

        yield self.cloud.until(grown)
        yield self.cloud.until(self.confirmed)
        [instance] = yield self.cloud.get(id)
        self.assertEqual(instance.state, "running")
        yield self.cloud.sound()

    @inlineCallbacks
    def confirmed(self) -> Generator[Any, Any, bool]:
        """Whether nothing waits for a reboot any more."""
        [instance] = yield self.cloud.get(self.instance.id)
        return not instance.waits

    @inlineCallbacks
    def test_strangers_find_nothing(self) -> Test:
        """Every verb on another project's instance says that there is none."""
        ids = [self.instance.id]
        for attempt in (
            self.verbs.get(STRANGER, ids),
            self.verbs.start(STRANGER, ids),
            self.verbs.stop(STRANGER, ids),
            self.verbs.reboot(STRANGER, ids),
            self.verbs.terminate(STRANGER, ids),
            self.verbs.console_output(STRANGER, ids[0]),
            self.verbs.modify(STRANGER, ids[0], source_dest_check=False),
            self.cloud.cloud.tags.create(STRANGER, ids, {"a": "b"}),
        ):
            error = yield self.assertFailure(attempt, NotFound)
            self.assertEqual(error.id, ids[0])

    @inlineCallbacks
    def test_one_bad_id_moves_nothing(self) -> Test:
        """A verb on several instances moves all of them or none."""
        ids = [self.instance.id, "i-0123456789abcdef0"]
        yield self.assertFailure(self.verbs.terminate(CALLER, ids), NotFound)
        [instance] = yield self.cloud.get(self.instance.id)
        self.assertEqual(instance.state, "running")

    @inlineCallbacks
    def test_protection(self) -> Test:
        """A protected instance is not terminated, nor stopped, until the protection is off."""
        id = self.instance.id
        yield self.verbs.modify(CALLER, id, api_termination_disabled=True, api_stop_disabled=True)
        yield self.assertFailure(self.verbs.terminate(CALLER, [id]), Protected)
        yield self.assertFailure(self.verbs.stop(CALLER, [id]), Protected)
        yield self.verbs.modify(CALLER, id, api_termination_disabled=False)
        yield self.verbs.terminate(CALLER, [id])
        yield self.cloud.until_state("terminated", id)

    @inlineCallbacks
    def test_resize_only_while_stopped(self) -> Test:
        """The type changes while the instance is stopped, and quota and room follow."""
        id = self.instance.id
        yield self.assertFailure(self.verbs.modify(CALLER, id, flavor="m1.large"), WrongState)
        yield self.verbs.stop(CALLER, [id])
        yield self.cloud.until_state("stopped", id)
        yield self.verbs.modify(CALLER, id, flavor="m1.large")
        usage = yield self.cloud.cloud.quotas.usage(CALLER.project)
        self.assertEqual(usage["cores"], 4)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_guest_that_stops_itself(self) -> Test:
        """A guest that powers off is stopped, with the guest as the reason."""
        self.cloud.hosts["node1"].hypervisor.halt(self.instance.id)
        [stopped] = yield self.cloud.until_state("stopped", self.instance.id)
        self.assertEqual(stopped.reason.code, "Client.InstanceInitiatedShutdown")

    @inlineCallbacks
    def test_guest_that_ends_itself(self) -> Test:
        """A guest that powers off and is to be terminated then, is."""
        id = self.instance.id
        yield self.verbs.modify(CALLER, id, shutdown_behavior="terminate")
        self.cloud.hosts["node1"].hypervisor.halt(id)
        yield self.cloud.until_state("terminated", id)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_group_in_use_stays(self) -> Test:
        """A group with an instance in it is not deleted."""
        groups = self.cloud.cloud.groups
        group = yield groups.create(CALLER, "web", "web servers")
        yield self.verbs.modify(CALLER, self.instance.id, groups=[group.id])
        error = yield self.assertFailure(groups.delete(CALLER, name="web"), Exception)
        self.assertEqual(type(error).__name__, "InUse")
        default = yield groups.ensure_default(CALLER)
        yield self.verbs.modify(CALLER, self.instance.id, groups=[default.id])
        yield groups.delete(CALLER, name="web")
        yield self.cloud.sound()

    @inlineCallbacks
    def test_tags_are_listed_and_found(self) -> Test:
        """Tags are set, found by filters, listed in pages, and removed."""
        tags, listings = self.cloud.cloud.tags, self.cloud.cloud.listings
        id = self.instance.id
        yield tags.create(CALLER, [id], {"Name": "web", "stage": "test"})
        from fabric.model.instance import Instance

        found = yield listings.records(CALLER, Instance, (("tag:Name", ("w*",)),))
        self.assertEqual([stored.record.id for stored in found.items], [id])
        first = yield tags.page(CALLER, (), limit=1)
        second = yield tags.page(CALLER, (), first.cursor, 1)
        rows = [*first.items, *second.items]
        self.assertEqual(rows, [(id, "instance", "Name", "web"), (id, "instance", "stage", "test")])
        yield tags.delete(CALLER, [id], [("Name", "other"), ("stage", None)])
        left = yield tags.page(CALLER, ())
        self.assertEqual(left.items, [(id, "instance", "Name", "web")])
        yield self.cloud.sound()


class HostTests(TestCase):
    """
    Hosts that come, go, and have what they should not.
    """

    @inlineCallbacks
    def test_lost_guest_is_stopped(self) -> Test:
        """An instance that its host no longer has is stopped when the host says so, and can be started."""
        cloud: CloudUnderTest = yield make_cloud(self)
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        yield cloud.until_state("running", made.id)
        host = cloud.hosts["node1"]
        yield host.hypervisor.destroy(made.id)
        yield host.services[1].worker.adopt()
        [stopped] = yield cloud.until_state("stopped", made.id)
        self.assertEqual(stopped.reason.code, "Server.InstanceLost")
        yield cloud.cloud.instances.start(CALLER, [made.id])
        yield cloud.until_state("running", made.id)
        yield cloud.sound()

    @inlineCallbacks
    def test_stray_is_kept_and_shown(self) -> Test:
        """A machine that state does not know is kept, shown, and its address is not given away."""
        cloud: CloudUnderTest = yield make_cloud(self)
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        [running] = yield cloud.until_state("running", made.id)
        [stored] = yield cloud.store.read(type(running), [made.id])
        forgetting = cloud.store.transaction("test")
        forgetting.delete(stored)
        yield cloud.store.commit(forgetting)
        host = cloud.hosts["node1"]
        yield host.services[1].worker.adopt()

        @inlineCallbacks
        def shown() -> Generator[Any, Any, Any]:
            page = yield cloud.store.records(Stray, Query("stray", (ALL,)))
            return [stored.record for stored in page.items]

        [stray] = yield cloud.until(shown)
        self.assertEqual(stray.name, made.id)
        self.assertTrue(stray.holdings[0].endswith(running.ports[0].address))
        self.assertEqual(len((yield host.hypervisor.domains())), 1)
        yield cloud.sound()

    @inlineCallbacks
    def test_disabled_host_gets_nothing_new(self) -> Test:
        """Nothing new goes to a disabled host, and explain says so."""
        cloud: CloudUnderTest = yield make_cloud(self, ("a", "b"))
        yield cloud.cloud.hosts.set_disabled(OPERATOR, "a", None, True, "repair")
        launches = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny", 4, 4))
        running = yield cloud.until_state("running", *[each.id for each in launches])
        self.assertEqual({each.host for each in running}, {"b"})
        yield self.assertFailure(cloud.cloud.hosts.set_disabled(OPERATOR, "c", None, True), NotFound)

    @inlineCallbacks
    def test_disabled_host_takes_nothing(self) -> Test:
        """Also where the first free host takes what there is, a disabled one takes nothing."""
        cloud: CloudUnderTest = yield make_cloud(self, ("a", "b"), algorithm="queue")
        yield cloud.cloud.hosts.views()
        yield cloud.cloud.hosts.set_disabled(OPERATOR, "a", None, True, "repair")
        made = []
        for _ in range(4):
            made += yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        running = yield cloud.until_state("running", *[each.id for each in made])
        self.assertEqual({each.host for each in running}, {"b"})

    @inlineCallbacks
    def test_disabled_just_now(self) -> Test:
        """A host that is disabled after a scheduler looked at it, and before it claims room, gets nothing."""
        cloud: CloudUnderTest = yield make_cloud(self, ("a",))
        placement = cloud.assembly.placement
        yield placement.hosts()
        yield cloud.cloud.hosts.set_disabled(OPERATOR, "a", "compute", True)
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny"))
        claimed = yield placement.claim("test", {"a": [made.id]})
        self.assertEqual(claimed.placed, [])
        yield cloud.until_state("terminated", made.id)
        yield cloud.sound()

    @inlineCallbacks
    def test_first_free_host_of_its_zone(self) -> Test:
        """Also where the first free host takes what there is, none takes what is to be in another zone."""
        cloud: CloudUnderTest = yield make_cloud(self, ("a",), algorithm="queue")
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny", zone="far"))
        yield cloud.until_state("terminated", made.id)
        self.assertEqual((yield cloud.cloud.hosts.explain(made.id)), {"a": "in zone nova, far wanted"})

    @inlineCallbacks
    def test_terminate_on_a_silent_host_keeps_its_address(self) -> Test:
        """While a host may still run an ended instance, its address is not given away; the host's return frees it."""
        cloud: CloudUnderTest = yield make_cloud(self, rules=Rules(resend_after=0.3, ready_keys=0))
        [made] = yield cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        yield cloud.until_state("running", made.id)
        host = cloud.hosts["node1"]
        yield host.stop()
        yield cloud.cloud.instances.terminate(CALLER, [made.id])
        [(free, members)] = (yield cloud.store.pools()).values()
        self.assertEqual(free, members - 1)
        cloud.add_host("node1", directory=host.directory)
        yield cloud.until_state("terminated", made.id)
        [(free, members)] = (yield cloud.store.pools()).values()
        self.assertEqual(free, members)
        yield cloud.sound()
