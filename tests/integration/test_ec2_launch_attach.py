"""
Volumes of a launch that are made while their instance still boots.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.catalog import ec2_actions
from fabric.cloud.assembly import QUOTAS, Rules
from fabric.model.instance import Instance
from fabric.testing.cloud import QUICK, make_cloud
from tests.integration.test_ec2_volumes import StorageCase
from tests.unit.ec2_stage import ENDPOINT, REGION, compiled, views

Steps = Generator[Deferred[Any], Any, Any]


class SlowBootTests(StorageCase):
    """A guest that boots for longer than a volume takes to be made."""

    @inlineCallbacks
    def setUp(self) -> Steps:
        """A sweep that sends nothing again while the test runs."""
        rules = Rules(ready_keys=0, resend_after=600.0, quotas=QUOTAS | {"volumes": 12})
        options = attrs.evolve(QUICK, slow=("spawn=0.7",))
        self.whole = yield make_cloud(self, options=options, rules=rules, views=views())
        self.cloud, self.store = self.whole.cloud, self.whole.store
        self.registry = ec2_actions(self.cloud, views(), REGION, ENDPOINT)
        self.requests, self.answers = compiled(tuple(self.registry.names()))

    @inlineCallbacks
    def test_attached_when_up(self) -> Steps:
        """They are attached as soon as it runs, not at some later look."""
        disks = [{"DeviceName": f"/dev/sd{letter}", "Ebs": {"VolumeSize": 1}} for letter in "fg"]
        [id] = yield self.run_instances(BlockDeviceMappings=disks)

        @inlineCallbacks
        def there() -> Steps:
            [stored] = yield self.store.read(Instance, [id])
            return [disk.state for disk in stored.record.disks] == ["attached", "attached"]

        yield self.whole.until(there)
        yield self.whole.sound()
