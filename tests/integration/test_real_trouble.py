"""
What happens to real guests behind the cloud's back.

It is told within seconds, so nothing else is tested beside this.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.real_host import real_host, until

SOON = 2.0
"""Seconds."""

TRIES = 3
"""How often a guest is hurt until it is told of soon: a machine that stands still once is no fault."""


class TroubleTests(SynchronousTestCase):
    """
    What happens to guests behind the cloud's back.
    """

    def setUp(self) -> None:
        """One guest that runs; it need not have booted."""
        self.host = real_host()
        self.made = self.host.launch()["InstanceId"]
        self.addCleanup(self.host.terminate, self.made)

    def stopped_soon(self, hurt: Callable[[], Any]) -> None:
        """When it was hurt, the instance is stopped within two seconds, with a reason."""
        seconds = []
        for _ in range(TRIES):
            hurt()
            began = time.monotonic()
            found = until(self._stopped, "it is stopped", pause=0.05)
            seconds.append(time.monotonic() - began)
            self.assertTrue(found["StateReason"]["Message"])
            if seconds[-1] <= SOON:
                return
            self.host.ec2.start_instances(InstanceIds=[self.made])
            self.host.until_state(self.made, "running")
        self.fail(f"stopped after {seconds} seconds")

    def _stopped(self) -> dict[str, dict[str, str]] | None:
        found = self.host.instance(self.made)
        return found if found["State"]["Name"] == "stopped" else None

    def test_killed(self) -> None:
        """A guest whose process is killed is stopped within two seconds, with a reason."""
        self.stopped_soon(lambda: os.kill(self.host.libvirtd.pid_of(self.made), signal.SIGKILL))

    def test_destroyed(self) -> None:
        """So is one that somebody destroyed by virsh."""
        self.stopped_soon(lambda: self.host.libvirtd.virsh("destroy", self.made))

    def test_libvirtd_restarts_under_load(self) -> None:
        """libvirtd killed while guests are launched and ended: nothing is lost."""
        ec2 = self.host.ec2
        more = ec2.run_instances(ImageId=self.host.image, MinCount=2, MaxCount=2, InstanceType="m1.tiny")["Instances"]
        ids = [each["InstanceId"] for each in more]
        self.addCleanup(self.host.terminate, *ids)
        self.host.libvirtd.kill()
        ec2.terminate_instances(InstanceIds=ids[:1])
        self.host.libvirtd.start()
        self.host.until_state(ids[0], "terminated")
        self.host.until_state(ids[1], "running")
        self.assertEqual(self.host.instance(self.made)["State"]["Name"], "running")
        domains = set(self.host.libvirtd.virsh("list", "--name").split())
        self.assertEqual(domains, {self.made, ids[1]})

    def test_unknown_image_file(self) -> None:
        """An image whose file is no disk is refused before anything is made of it."""
        with self.assertRaises(ClientError) as caught:
            self.host.launch(ImageId="ami-00000000000000001")
        self.assertEqual(caught.exception.response["Error"]["Code"], "InvalidAMIID.NotFound")
