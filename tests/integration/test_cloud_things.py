"""
Key pairs, groups, networks, quotas and the sweep, over a real store.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Generator
from typing import Any

import attrs
from cryptography.hazmat.primitives import serialization
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from fabric.cloud.access import TABLE, Caller, permit, permit_admin
from fabric.cloud.assembly import QUOTAS, Assembly, Rules, assemble
from fabric.cloud.keypairs import make_ed25519, make_rsa, read_public
from fabric.cloud.launch import LaunchSpec
from fabric.errors import AlreadyExists, Denied, InUse, InvalidValue, NotFound, QuotaExceeded, TokenSpent
from fabric.model.host import Capacity
from fabric.model.instance import LIFECYCLE, Instance
from fabric.model.reservation import Reservation
from fabric.rpc.interface import Address
from fabric.rpc.local import LocalQueue
from fabric.store.redis import RedisStore
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, STRANGER
from fabric.testing.store import make_store

Test = Generator[Deferred[Any], Any, None]


class ThingTests(TestCase):
    """
    The cloud's logic without any worker, on a clock of its own.
    """

    @inlineCallbacks
    def setUp(self) -> Test:
        self.store: RedisStore = yield make_store(self)
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.queue = LocalQueue(self.clock)
        rules = Rules(quotas=QUOTAS | {"key_pairs": 2, "groups": 2}, ready_keys=0)
        self.parts: Assembly = assemble(self.store, self.queue, self.clock, deferToThread, rules)
        self.cloud = self.parts.cloud

    @inlineCallbacks
    def test_key_pair_names_are_a_projects_own(self) -> Test:
        """A name is taken once in each project, and strangers can't remove it."""
        pairs = self.cloud.key_pairs
        pair, private = yield pairs.create(CALLER, "k", "ed25519")
        self.assertIn("PRIVATE KEY", private)
        yield self.assertFailure(pairs.create(CALLER, "k", "ed25519"), AlreadyExists)
        yield pairs.create(STRANGER, "k", "ed25519")
        yield self.assertFailure(pairs.delete(STRANGER, id=pair.id), NotFound)
        self.assertEqual((yield pairs.delete(CALLER, name="k")), pair.id)
        self.assertIsNone((yield pairs.delete(CALLER, name="k")))

    @inlineCallbacks
    def test_key_pair_quota(self) -> Test:
        """A project gets no more key pairs than its quota."""
        pairs = self.cloud.key_pairs
        yield pairs.create(CALLER, "a", "ed25519")
        yield pairs.create(CALLER, "b", "ed25519")
        error = yield self.assertFailure(pairs.create(CALLER, "c", "ed25519"), QuotaExceeded)
        self.assertEqual((error.resource, error.limit), ("key_pairs", 2))

    @inlineCallbacks
    def test_group_quota_and_default(self) -> Test:
        """The default group is there when asked for, once, and can't be removed."""
        groups = self.cloud.groups
        default = yield groups.ensure_default(CALLER)
        self.assertEqual((yield groups.ensure_default(CALLER)), default)
        yield self.assertFailure(groups.delete(CALLER, id=default.id), InvalidValue)
        yield groups.create(CALLER, "web", "w")
        yield self.assertFailure(groups.create(CALLER, "web", "w"), AlreadyExists)
        yield self.assertFailure(groups.create(CALLER, "db", "d"), QuotaExceeded)
        yield self.assertFailure(groups.delete(STRANGER, id=default.id), NotFound)

    @inlineCallbacks
    def test_network_ranges(self) -> Test:
        """A network's range and gateway must make sense, and its label is taken once."""
        networks = self.cloud.networks
        for cidr, gateway in (("10.0.0.1/24", None), ("10.0.0.0/8", None), ("x", None), ("10.0.0.0/24", "10.1.0.1")):
            yield self.assertFailure(networks.create(OPERATOR, "n", cidr, gateway), InvalidValue)
        made = yield networks.create(OPERATOR, "n", "10.0.0.0/29")
        yield self.assertFailure(networks.create(OPERATOR, "n", "10.2.0.0/29"), AlreadyExists)
        self.assertEqual((yield self.store.pools()), {"fixed:" + made.id: (5, 5)})
        yield networks.delete(OPERATOR, made.id)
        self.assertEqual((yield self.store.pools()), {})

    @inlineCallbacks
    def test_network_in_use_stays(self) -> Test:
        """A network that an instance is to have an address of is not deleted."""
        yield self._ready()
        yield self.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        [network] = yield self.cloud.networks.list(OPERATOR)
        yield self.assertFailure(self.cloud.networks.delete(OPERATOR, network.id), InUse)

    @inlineCallbacks
    def test_quota_of_a_project(self) -> Test:
        """A project's own limit overrides the default until it is taken back."""
        quotas = self.cloud.quotas
        yield quotas.set(OPERATOR, "apples", {"instances": 1})
        self.assertEqual((yield quotas.limits("apples"))["instances"], 1)
        yield quotas.set(OPERATOR, "apples", {"instances": -1})
        self.assertEqual((yield quotas.limits("apples"))["instances"], QUOTAS["instances"])
        yield self.assertFailure(quotas.set(OPERATOR, "apples", {"wishes": 3}), InvalidValue)

    @inlineCallbacks
    def test_quotas_set_at_once(self) -> Test:
        """Of several operators who change a project's limits at once, none loses what he set, nor has to repeat it."""
        quotas = self.cloud.quotas
        names = ("instances", "cores", "volumes", "addresses")
        for limit in (7, 8):  # first there is nothing to change, then there is
            yield gatherResults([quotas.set(OPERATOR, "apples", {name: limit}) for name in names], consumeErrors=True)
            limits = yield quotas.limits("apples")
            self.assertEqual([limits[name] for name in names], [limit] * len(names))

    @inlineCallbacks
    def test_unsent_launch_is_sent_by_the_sweep(self) -> Test:
        """A launch that no scheduler heard of is offered again and again."""
        yield self._ready()
        yield self.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        self.clock.advance(0)
        before = (yield self.queue.depths())["scheduler"]
        self.clock.advance(31)
        yield self.parts.sweep.turn()
        self.clock.advance(0)
        after = (yield self.queue.depths())["scheduler"]
        self.assertEqual((before, after), (1, 2))

    @inlineCallbacks
    def test_neither_address_nor_room(self) -> Test:
        """Where addresses are short, and the host has no room either, the scheduler is told to look elsewhere."""
        yield self.cloud.networks.ensure("private", "10.0.0.0/29")
        yield self.cloud.images.ensure_samples(0.0)
        yield self.cloud.hosts.report("compute", "node1", "nova", 0.0, Capacity(1, 100_000, 1000))
        made = yield self.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, "m1.tiny", 8, 8))
        claimed = yield self.parts.placement.claim("req", {"node1": [each.id for each in made]})
        self.assertEqual(list(claimed.full), ["node1"])

    @inlineCallbacks
    def test_client_token_outlives_instances(self) -> Test:
        """A token whose instances were terminated so long ago that they are forgotten launches nothing, and says so."""
        yield self._ready()
        spec = LaunchSpec(SAMPLE, client_token="t", digest_of="same")
        [made] = yield self.cloud.instances.run(CALLER, spec)
        yield self.cloud.instances.terminate(CALLER, [made.id])
        [stored] = yield self.store.read(Instance, [made.id])
        forgetting = self.store.transaction("test")
        forgetting.delete(stored)
        yield self.store.commit(forgetting)
        yield self.assertFailure(self.cloud.instances.run(CALLER, spec), TokenSpent)

    @inlineCallbacks
    def test_stuck_launch_ends(self) -> Test:
        """A launch for which no host ever came ends with a reason, and is forgotten an hour later with its token."""
        yield self._ready()
        [made] = yield self.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, client_token="t"))
        self.clock.advance(LIFECYCLE.deadlines["pending"].seconds + 1)
        yield self.parts.sweep.turn()
        [stored] = yield self.store.read(Instance, [made.id])
        found = (stored.record.state, stored.record.reason.code)
        self.assertEqual(found, ("terminated", "Server.InsufficientInstanceCapacity"))
        self.clock.advance(3601)
        yield self.parts.sweep.turn()
        self.assertEqual((yield self.store.read(Instance, [made.id])), [None])
        self.clock.advance(3601)
        yield self.parts.sweep.turn()
        self.assertEqual((yield self.store.read(Reservation, [made.reservation])), [None])
        yield self.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, client_token="t"))
        self.assertEqual((yield self.store.check(False)), [])

    @inlineCallbacks
    def test_dead_letter_ends_the_launch(self) -> Test:
        """When the order to run an instance is given up, the instance ends with the reason."""
        yield self._ready()
        [made] = yield self.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        [stored] = yield self.store.read(Instance, [made.id])
        placing = self.store.transaction("test")
        placing.update(stored, attrs.evolve(stored.record, host="h", on_host=True))
        yield self.store.commit(placing)
        machines = [{"id": made.id, "order": 1}]
        yield self.parts.dead_letters.take(Address("compute", "h"), "run", {"machines": machines}, "it broke")
        [stored] = yield self.store.read(Instance, [made.id])
        self.assertEqual(stored.record.state, "terminated")
        self.assertIn("it broke", stored.record.reason.message)

    @inlineCallbacks
    def test_dead_letter_of_nonsense(self) -> Test:
        """A letter that is no order of ours is taken, and not kept in the way of others."""
        nonsense: list[Any] = [None, "x", [None], [{}], [{"id": "i-1", "order": "x"}], [{"id": ["i-1"], "order": 1}]]
        for machines in nonsense:
            yield self.parts.dead_letters.take(Address("compute", "node1"), "run", {"machines": machines}, "x")
        yield self.parts.dead_letters.take(Address("compute", "node1"), "run", {}, "x")

    @inlineCallbacks
    def _ready(self) -> Test:
        yield self.cloud.networks.ensure("private", "10.0.0.0/24")
        yield self.cloud.images.ensure_samples(0.0)


class KeyTests(SynchronousTestCase):
    """
    Keys and their fingerprints.
    """

    def test_rsa(self) -> None:
        """A made RSA key is PEM, and its fingerprint is the SHA-1 of its PKCS#8 form."""
        material = make_rsa()
        key: Any = serialization.load_pem_private_key(material.private.encode(), None)
        self.assertEqual(key.key_size, 2048)
        form = (serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.assertEqual(material.fingerprint, hashlib.sha1(key.private_bytes(*form)).digest().hex(":"))
        self.assertTrue(material.private.startswith("-----BEGIN RSA PRIVATE KEY-----"))

    def test_import_of_what_was_made(self) -> None:
        """The public half of a made key can be imported, as a line, with a comment, or as PEM."""
        material = make_ed25519()
        for form in (material.public, material.public + " me@home\n"):
            self.assertEqual(read_public(form.encode()), ("ed25519", material.public, material.fingerprint))
        rsa = make_rsa()
        public: Any = serialization.load_ssh_public_key(rsa.public.encode())
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        kind, line, fingerprint = read_public(pem)
        self.assertEqual((kind, line, len(fingerprint)), ("rsa", rsa.public, 47))

    def test_what_is_no_key(self) -> None:
        """Anything else is refused."""
        for data in (b"", b"ssh-rsa", b"ssh-rsa AAAA", b"hello", base64.b64encode(b"x" * 40), b"\xff\xfe"):
            self.assertRaises(InvalidValue, read_public, data)


class AccessTests(SynchronousTestCase):
    """
    The role table.
    """

    def test_roles(self) -> None:
        """Each role may do what its row says and no more."""
        developer = Caller("u", "p", frozenset({"developer"}))
        network = Caller("u", "p", frozenset({"netadmin"}))
        machines = Caller("u", "p", frozenset({"sysadmin"}))
        permit(developer, "DescribeInstances")
        permit(developer, "CreateKeyPair")
        permit(network, "CreateSecurityGroup")
        permit(machines, "RunInstances")
        for caller, action in (
            (developer, "RunInstances"),
            (network, "TerminateInstances"),
            (machines, "CreateSecurityGroup"),
        ):
            self.assertRaises(Denied, permit, caller, action)

    def test_cloudadmin_may_everything(self) -> None:
        """A cloudadmin may do whatever the table names."""
        root = Caller("r", "p", frozenset({"cloudadmin"}))
        for action in TABLE:
            permit(root, action)
        permit_admin(root, "RegisterUser")

    def test_admin_actions(self) -> None:
        """Auditors may look; nobody without a role may even that."""
        permit_admin(Caller("a", "p", frozenset({"itsec"})), "DescribeUsers")
        self.assertRaises(Denied, permit_admin, Caller("a", "p", frozenset({"itsec"})), "RegisterUser")
        self.assertRaises(Denied, permit_admin, Caller("a", "p", frozenset({"projectmanager"})), "DescribeUsers")
