"""
Networks of operators and of projects, over a real store.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.api.ec2.vpc_views import Picture, vpc
from fabric.cloud.access import Caller
from fabric.cloud.assembly import Assembly, Rules, assemble
from fabric.cloud.launch import LaunchSpec
from fabric.errors import AlreadyExists, InUse, InvalidValue, NotFound, Unavailable
from fabric.model.group import SecurityGroup
from fabric.model.network import Network
from fabric.rpc.local import LocalQueue
from fabric.store.redis import RedisStore
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, STRANGER
from fabric.testing.store import make_store

Test = Generator[Deferred[Any], Any, None]
PLAIN = {"label": "plain", "cidr": "192.168.0.0/24"}


def sent(group: SecurityGroup) -> set[str]:
    """Where a group lets its members send."""
    return {rule.permission.cidr or rule.permission.cidr6 for rule in group.rules if rule.permission.egress}


class NetworksCase(TestCase):
    """
    The cloud's logic without any worker.
    """

    own = False

    @inlineCallbacks
    def setUp(self) -> Test:
        self.store: RedisStore = yield make_store(self)
        self.clock = Clock()
        self.clock.advance(1_000_000)
        rules = Rules(own_networks=self.own, ready_keys=0)
        self.parts: Assembly = assemble(self.store, LocalQueue(self.clock), self.clock, deferToThread, rules)
        self.networks = self.parts.cloud.networks
        yield self.parts.cloud.images.ensure_samples(0.0)

    @inlineCallbacks
    def assertSound(self) -> Test:
        """State agrees with itself, pools too."""
        self.assertEqual((yield self.store.check(False)), [])


class OperatorTests(NetworksCase):
    """
    What operators make.
    """

    @inlineCallbacks
    def test_dhcp(self) -> Test:
        """A network with DHCP may have a range of IPv6."""
        made = yield self.networks.create(OPERATOR, **PLAIN, manager="flatdhcp", cidr_v6="fd00:1::/64")
        self.assertEqual((made.manager, made.bridge, made.gateway), ("flatdhcp", "br100", "192.168.0.1"))
        self.assertEqual((yield self.networks.list(OPERATOR)), [made])
        yield self.networks.delete(OPERATOR, made.id)
        yield self.assertSound()

    @inlineCallbacks
    def test_vlan(self) -> Test:
        """A VLAN is one network's, and has a bridge of its name."""
        made = yield self.networks.create(OPERATOR, **PLAIN, manager="vlan", vlan=7)
        self.assertEqual((made.vlan, made.bridge, made.range), (7, "br7", ""))
        again = self.networks.create(OPERATOR, "other", "192.168.1.0/24", manager="vlan", vlan=7)
        yield self.assertFailure(again, AlreadyExists)
        yield self.networks.delete(OPERATOR, made.id)
        yield self.networks.create(OPERATOR, "other", "192.168.1.0/24", manager="vlan", vlan=7)

    @inlineCallbacks
    def test_bridges(self) -> Test:
        """Each network has a bridge of its own, chosen or given."""
        first = yield self.networks.create(OPERATOR, "one", "192.168.0.0/24")
        second = yield self.networks.create(OPERATOR, "two", "192.168.1.0/24")
        self.assertEqual((first.bridge, second.bridge), ("br100", "br101"))
        third = self.networks.create(OPERATOR, "three", "192.168.2.0/24", bridge="br101")
        yield self.assertFailure(third, AlreadyExists)

    @inlineCallbacks
    def test_apart(self) -> Test:
        """An address that hosts care for is of one network; those of manager flat are others' care."""
        yield self.networks.create(OPERATOR, **PLAIN, manager="flatdhcp")
        for cidr, manager in (("192.168.0.0/16", "flatdhcp"), ("192.168.0.8/29", "flat")):
            inside = self.networks.create(OPERATOR, "other", cidr, manager=manager)
            error = yield self.assertFailure(inside, InvalidValue)
            self.assertEqual((error.name, error.value), ("cidr", cidr))
        yield self.assertFailure(self.networks.create(OPERATOR, **PLAIN, manager="flatdhcp"), AlreadyExists)
        yield self.networks.create(OPERATOR, "one", "10.0.0.0/24")
        yield self.networks.create(OPERATOR, "two", "10.0.0.0/24")

    @inlineCallbacks
    def test_floating(self) -> Test:
        """No floating address is one of a network, and no network has one; those that do stay as they are."""
        ranges = self.parts.cloud.ranges
        yield self.networks.create(OPERATOR, **PLAIN)
        error = yield self.assertFailure(ranges.create(OPERATOR, "public", "192.168.0.128/25"), InvalidValue)
        self.assertEqual(error.why, "it has addresses of network plain, 192.168.0.0/24")
        yield ranges.create(OPERATOR, "public", "192.168.1.0/24")
        for manager in ("flat", "flatdhcp"):
            wider = self.networks.create(OPERATOR, "wide", "192.168.0.0/23", manager=manager)
            yield self.assertFailure(wider, InvalidValue)
            inside = self.networks.create(OPERATOR, "small", "192.168.1.64/26", manager=manager)
            error = yield self.assertFailure(inside, InvalidValue)
            self.assertEqual(error.why, "it has addresses of range public, 192.168.1.0/24")
        yield self.networks.ensure("plain", "192.168.1.0/24")
        yield ranges.ensure("public", "192.168.0.0/24")

    @inlineCallbacks
    def test_apart_by_ipv6(self) -> Test:
        """A range of IPv6 is one network's."""
        yield self.networks.create(OPERATOR, **PLAIN, manager="flatdhcp", cidr_v6="fd00:1::/64")
        again = self.networks.create(OPERATOR, "other", "192.168.1.0/24", manager="flatdhcp", cidr_v6="fd00:1:0::/64")
        error = yield self.assertFailure(again, InvalidValue)
        self.assertEqual((error.name, error.why), ("cidr_v6", "it is network plain's"))
        yield self.networks.create(OPERATOR, "other", "192.168.1.0/24", manager="flatdhcp", cidr_v6="fd00:2::/64")
        yield self.networks.ensure("plain", "192.168.0.0/24", manager="flatdhcp", cidr_v6="fd00:1::/64")

    @inlineCallbacks
    def test_groups_by_ipv6(self) -> Test:
        """Where a project has IPv6, its new groups let members send by it, as by IPv4; elsewhere they don't."""
        groups = self.parts.cloud.groups
        self.assertEqual(sent((yield groups.create(CALLER, "before", "b"))), {"0.0.0.0/0"})
        range_ = {"cidr": "192.168.0.0/24", "manager": "flatdhcp"}
        yield self.networks.create(OPERATOR, "private", cidr_v6="fd00:1::/64", **range_)
        self.assertEqual(sent((yield groups.create(CALLER, "after", "a"))), {"0.0.0.0/0", "::/0"})
        [made] = yield self.parts.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        [default] = yield self.store.read(SecurityGroup, [made.groups[0].id])
        self.assertEqual(sent(default.record), {"0.0.0.0/0", "::/0"})
        self.assertEqual(sent((yield groups.ensure_default(STRANGER))), {"0.0.0.0/0", "::/0"})

    @inlineCallbacks
    def test_gateway(self) -> Test:
        """The gateway's address is no guest's, wherever it is in the range."""
        last = {"cidr": "192.168.0.0/29", "gateway": "192.168.0.6", "manager": "flatdhcp"}
        made = yield self.networks.create(OPERATOR, "last", **last)
        self.assertEqual((yield self.store.pools())[f"fixed:{made.id}"], (4, 4))
        for wrong in ("192.168.1.0", "192.168.1.7"):
            other = self.networks.create(OPERATOR, "other", "192.168.1.0/29", gateway=wrong)
            error = yield self.assertFailure(other, InvalidValue)
            self.assertEqual((error.name, error.value), ("gateway", wrong))
        yield self.assertSound()

    @inlineCallbacks
    def test_projects_range(self) -> Test:
        """What is kept for projects is no network's that is there already, nor anybody's floating address."""
        yield self.networks.create(OPERATOR, **PLAIN, manager="flatdhcp")
        kept = self.networks.projects.ensure_range("projects", "192.168.0.0/16")
        error = yield self.assertFailure(kept, InvalidValue)
        self.assertEqual(error.why, "it has addresses of network plain, 192.168.0.0/24")

    @inlineCallbacks
    def test_senseless(self) -> Test:
        """What does not go together is refused, and says what."""
        for name, wrong in (
            ("manager", {"manager": "carrier-pigeon"}),
            ("vlan", {"vlan": 7}),
            ("vlan", {"manager": "vlan", "vlan": 4095}),
            ("project", {"manager": "vlan"}),
            ("vlan", {"manager": "vlan", "project": "apples"}),
            ("cidr_v6", {"cidr_v6": "fd00:1::/64"}),
            ("cidr_v6", {"manager": "flatdhcp", "cidr_v6": "fd00:1::/48"}),
            ("cidr_v6", {"manager": "flatdhcp", "cidr_v6": "10.0.0.0/24"}),
            ("cidr", {"cidr": ""}),
            ("cidr", {"cidr": "169.254.0.0/16"}),
            ("cidr", {"cidr": "127.0.0.0/16"}),
            ("cidr", {"cidr": "224.0.1.0/24"}),
            ("cidr", {"cidr": "0.0.0.0/16"}),
            ("cidr_v6", {"manager": "flatdhcp", "cidr_v6": "fe80::/64"}),
            ("cidr_v6", {"manager": "flatdhcp", "cidr_v6": "ff02::/64"}),
            ("gateway", {"gateway": "10.0.0.1"}),
            ("dns", {"dns": ["8.8.8.8", "8.8.4"]}),
            ("dns", {"dns": ["ns.example.org"]}),
            ("bridge", {"bridge": "br 7"}),
            ("bridge", {"bridge": "a-bridge-of-rather-many-letters"}),
        ):
            error = yield self.assertFailure(self.networks.create(OPERATOR, **(PLAIN | wrong)), InvalidValue)
            self.assertEqual(error.name, name, wrong)

    @inlineCallbacks
    def test_no_vlans(self) -> Test:
        """Without a range for projects there is no VLAN to take."""
        made = self.networks.create(OPERATOR, "own", manager="vlan", project="apples")
        yield self.assertFailure(made, Unavailable)


class ProjectTests(NetworksCase):
    """
    Each project has a network of its own.
    """

    own = True

    @inlineCallbacks
    def setUp(self) -> Test:
        yield super().setUp()
        for _ in range(2):
            yield self.networks.projects.ensure_range("projects", "10.0.0.0/16", size=256, first_vlan=100, vlans=3)

    @inlineCallbacks
    def launch(self, caller: Caller) -> Generator[Deferred[Any], Any, Network]:
        """Launch; gives the network."""
        [made] = yield self.parts.cloud.instances.run(caller, LaunchSpec(SAMPLE))
        found = yield self.networks.by_id([made.ports[0].network])
        return found[made.ports[0].network]  # type: ignore[no-any-return]

    @inlineCallbacks
    def test_first_launch(self) -> Test:
        """The first launch gives the project a VLAN, a bridge and a range; the next one is in the same."""
        first = yield self.launch(CALLER)
        self.assertEqual((first.manager, first.project, first.vlan), ("vlan", "apples", 100))
        self.assertEqual((first.bridge, first.cidr, first.gateway), ("br100", "10.0.0.0/24", "10.0.0.1"))
        self.assertEqual((yield self.launch(CALLER)), first)
        second = yield self.launch(STRANGER)
        self.assertEqual((second.project, second.vlan, second.cidr), ("pears", 101, "10.0.1.0/24"))
        pools = yield self.store.pools()
        kept = {name.partition(":")[0]: levels for name, levels in pools.items() if not name.startswith("fixed:")}
        self.assertEqual(kept, {"vlan": (1, 3), "subnet": (1, 3)})
        yield self.assertSound()

    @inlineCallbacks
    def test_many_at_once(self) -> Test:
        """However many launch for the first time at once, each project gets one, and none is lost."""
        callers = [Caller("someone", name, CALLER.roles, "req-test") for name in ("a", "b", "c") for _ in range(3)]
        made = yield gatherResults([self.launch(caller) for caller in callers])
        self.assertEqual(len({network.id for network in made}), 3)
        self.assertEqual({network.vlan for network in made}, {100, 101, 102})
        self.assertEqual(len({network.cidr for network in made}), 3)
        yield self.assertSound()

    @inlineCallbacks
    def test_none_left(self) -> Test:
        """When no VLAN is left the launch is refused; one that is given back goes to the next project."""
        networks = []
        for name in ("a", "b", "c"):
            networks.append((yield self.networks.projects.own("req-test", name)).record)
        yield self.assertFailure(self.launch(CALLER), Unavailable)
        yield self.networks.delete(OPERATOR, networks[1].id)
        made = yield self.launch(CALLER)
        self.assertEqual((made.vlan, made.cidr), (networks[1].vlan, networks[1].cidr))
        yield self.assertSound()

    @inlineCallbacks
    def test_deleted_in_use(self) -> Test:
        """A network that instances are in is not deleted, nor its VLAN given away."""
        [stored] = [(yield self.networks.projects.own("req-test", "apples"))]
        instances = yield self.parts.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        self.assertEqual(instances[0].ports[0].network, stored.record.id)
        yield self.assertFailure(self.networks.delete(OPERATOR, stored.record.id), InUse)

    @inlineCallbacks
    def test_operator_chooses(self) -> Test:
        """An operator may give a project its network beforehand, with a VLAN of their choice."""
        made = yield self.networks.create(OPERATOR, "fruit", manager="vlan", project="apples", vlan=102)
        self.assertEqual((made.label, made.vlan, made.cidr), ("fruit", 102, "10.0.0.0/24"))
        self.assertEqual((yield self.launch(CALLER)), made)
        again = self.networks.create(OPERATOR, "more", manager="vlan", project="apples")
        yield self.assertFailure(again, AlreadyExists)
        taken = self.networks.create(OPERATOR, "more", manager="vlan", project="pears", vlan=102)
        yield self.assertFailure(taken, AlreadyExists)

    @inlineCallbacks
    def test_kept_for_projects(self) -> Test:
        """What is kept for projects is not made into other networks by hand."""
        for wrong in ({"vlan": 101, "cidr": "192.168.0.0/24"}, {"vlan": 7, "cidr": "10.0.9.0/24"}):
            made = self.networks.create(OPERATOR, "odd", manager="vlan", **wrong)
            yield self.assertFailure(made, InvalidValue)
        yield self.assertFailure(self.networks.create(OPERATOR, "odd", "10.0.9.0/24", manager="flatdhcp"), InvalidValue)
        yield self.assertFailure(self.parts.cloud.ranges.create(OPERATOR, "odd", "10.0.9.0/24"), InvalidValue)

    @inlineCallbacks
    def test_of_others(self) -> Test:
        """A project neither sees nor launches in another's network."""
        theirs = yield self.launch(STRANGER)
        spec = LaunchSpec(SAMPLE, network=theirs.id)
        yield self.assertFailure(self.parts.cloud.instances.run(CALLER, spec), NotFound)
        self.assertEqual((yield self.networks.visible(CALLER)), [])

    @inlineCallbacks
    def test_picture(self) -> Test:
        """EC2's picture of the project's network is its own network, before those that all may use."""
        yield self.networks.create(OPERATOR, **PLAIN)
        own = yield self.launch(CALLER)
        visible = yield self.networks.visible(CALLER)
        self.assertEqual(visible[0].id, own.id)
        picture = Picture("apples", tuple(visible), ("nova",), {}, "novalocal")
        self.assertEqual(vpc(picture)["CidrBlock"], own.cidr)

    @inlineCallbacks
    def test_senseless_range(self) -> Test:
        """A range for projects that can't be meant is refused."""
        for name, wrong in (
            ("vlan_network_size", {"size": 100}),
            ("vlan_network_size", {"size": 4}),
            ("vlan_start", {"first_vlan": 5000}),
            ("cidr", {"cidr": "fd00::/64"}),
            ("reserved", {"reserved": 255}),
        ):
            options = {"label": "x", "cidr": "10.9.0.0/16"} | wrong
            error = yield self.assertFailure(self.networks.projects.ensure_range(**options), InvalidValue)
            self.assertEqual(error.name, name)
