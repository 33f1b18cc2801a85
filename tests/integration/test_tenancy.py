"""
What one project can do to another's things by naming them: nothing, and it
can't tell that they are there.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.cloud.launch import LaunchSpec
from fabric.errors import NotFound
from fabric.model.group import SecurityGroup
from fabric.model.image import Image
from fabric.model.instance import Instance
from fabric.model.keypair import KeyPair
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, STRANGER, make_cloud

Steps = Generator[Deferred[Any], Any, None]


class TenancyTests(TestCase):
    """
    Alice's project has one of each; Bob's has nothing.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Steps:  # type: ignore[override]
        self.under_test = yield make_cloud(self)
        self.cloud = self.under_test.cloud
        self.group = yield self.cloud.groups.create(CALLER, "web", "of alice", {"purpose": "secret-plan"})
        self.key, _ = yield self.cloud.key_pairs.create(CALLER, "key", "ed25519", {"purpose": "secret-plan"})
        (self.instance,) = yield self.cloud.instances.run(
            CALLER, LaunchSpec(SAMPLE, flavor="m1.small", tags={"purpose": "secret-plan"}, client_token="token")
        )
        yield self.under_test.until_state("running", self.instance.id)

    def missing(self, asked: Deferred[Any]) -> Deferred[Any]:
        """See that it is refused as what is not there."""
        return self.assertFailure(asked, NotFound)

    @inlineCallbacks
    def test_instances(self) -> Steps:
        """An instance of another project can't be read, changed or ended."""
        instances, id = self.cloud.instances, self.instance.id
        yield self.missing(instances.get(STRANGER, [id]))
        yield self.missing(instances.start(STRANGER, [id]))
        yield self.missing(instances.stop(STRANGER, [id], False))
        yield self.missing(instances.reboot(STRANGER, [id]))
        yield self.missing(instances.terminate(STRANGER, [id]))
        yield self.missing(instances.console_output(STRANGER, id))
        yield self.missing(instances.modify(STRANGER, id, user_data="x"))
        (there,) = yield self.under_test.get(id)
        self.assertEqual(there.state, "running")

    @inlineCallbacks
    def test_ids_are_not_shown(self) -> Steps:
        """Another project's id is answered as one that never was."""
        why = yield self.missing(self.cloud.instances.terminate(STRANGER, [self.instance.id]))
        never = yield self.missing(self.cloud.instances.terminate(STRANGER, ["i-00000000000000009"]))
        self.assertEqual((why.kind, why.id), (never.kind, self.instance.id))

    @inlineCallbacks
    def test_groups_and_keys(self) -> Steps:
        """A group or key pair of another project can't be removed or launched with, by id or name."""
        yield self.missing(self.cloud.groups.delete(STRANGER, id=self.group.id))
        yield self.missing(self.cloud.groups.delete(STRANGER, name="web"))
        yield self.missing(self.cloud.key_pairs.delete(STRANGER, id=self.key.id))
        self.assertIsNone((yield self.cloud.key_pairs.delete(STRANGER, name="key")))
        for spec in (
            LaunchSpec(SAMPLE, flavor="m1.small", key_name="key"),
            LaunchSpec(SAMPLE, flavor="m1.small", groups=(self.group.id,)),
            LaunchSpec(SAMPLE, flavor="m1.small", group_names=("web",)),
        ):
            yield self.missing(self.cloud.instances.run(STRANGER, spec))
        yield self.missing(self.cloud.instances.modify(CALLER, self.instance.id, groups=["sg-00000000000000009"]))

    @inlineCallbacks
    def test_tokens(self) -> Steps:
        """A client token is its project's own."""
        spec = LaunchSpec(SAMPLE, flavor="m1.small", client_token="token")
        (other,) = yield self.cloud.instances.run(STRANGER, spec)
        self.assertNotEqual(other.id, self.instance.id)

    @inlineCallbacks
    def test_tags(self) -> Steps:
        """Tags go on what is one's own: not on another's things, nor on images that all may use."""
        for id in (self.instance.id, self.group.id, self.key.id, SAMPLE):
            yield self.missing(self.cloud.tags.create(STRANGER, [id], {"a": "b"}))
            yield self.missing(self.cloud.tags.delete(STRANGER, [id], []))

    @inlineCallbacks
    def test_listings(self) -> Steps:
        """No filter, wildcard, id or cursor lists what is another's."""
        for cls, id in ((Instance, self.instance.id), (SecurityGroup, self.group.id), (KeyPair, self.key.id)):
            yield self.missing(self.cloud.listings.records(STRANGER, cls, ids=[id]))
            yield self.missing(self.cloud.listings.views(STRANGER, cls, ids=[id]))
            for filters in (
                (),
                (("tag-value", ("secret*",)),),
                (("tag-key", ("*",)),),
                (("tag-value", ("secret-plan",)),),
            ):
                for cursor in ("", "0", "0.0", "1", "0.5"):
                    page = yield self.cloud.listings.records(STRANGER, cls, filters, cursor=cursor)
                    self.assertEqual(page.items, [], (cls, filters, cursor))
        for filters in ((), (("value", ("*",)),), (("resource-id", (self.instance.id,)),), (("resource-id", ("*",)),)):
            for cursor in ("", "0|0|", "1|0|0"):
                try:
                    page = yield self.cloud.tags.page(STRANGER, filters, cursor)
                except NotFound:
                    continue
                self.assertEqual(page.items, [], (filters, cursor))
        self.assertNotEqual((yield self.cloud.tags.page(CALLER, ())).items, [])

    @inlineCallbacks
    def test_private_images(self) -> Steps:
        """An image, kernel or ramdisk that is another's own can't be listed or launched."""
        transaction = self.under_test.store.transaction("test")
        parts = (("ami", "machine"), ("aki", "kernel"), ("ari", "ramdisk"))
        ids = [prefix + "-0000000000000000a" for prefix, _ in parts]
        for id, (_, kind) in zip(ids, parts, strict=True):
            transaction.create(Image(id, CALLER.project, "own-" + id, "own/" + id, type=kind))
        yield self.under_test.store.commit(transaction)
        for spec in (
            LaunchSpec(ids[0], flavor="m1.small"),
            LaunchSpec(SAMPLE, flavor="m1.small", kernel=ids[1]),
            LaunchSpec(SAMPLE, flavor="m1.small", ramdisk=ids[2]),
        ):
            yield self.missing(self.cloud.instances.run(STRANGER, spec))
        yield self.missing(self.cloud.images.get(STRANGER, ids))
        page = yield self.cloud.listings.records(STRANGER, Image)
        self.assertEqual({stored.record.public for stored in page.items}, {True})

    @inlineCallbacks
    def test_networks(self) -> Steps:
        """A network made for one project is not another's to launch on."""
        network = yield self.cloud.networks.create(OPERATOR, "own", "10.77.0.0/28", project=CALLER.project)
        yield self.missing(
            self.cloud.instances.run(STRANGER, LaunchSpec(SAMPLE, flavor="m1.small", network=network.id))
        )
        (own,) = yield self.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, flavor="m1.small", network=network.id))
        self.assertEqual(own.ports[0].network, network.id)
