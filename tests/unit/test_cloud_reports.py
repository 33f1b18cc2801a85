"""
What one report makes of one instance.
"""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fabric.cloud.reports import reported
from fabric.compute.interface import MachineReport
from fabric.model.instance import Migration, moved
from tests.unit.test_model_instance import instance


def take(of, *reports):
    """The instance after reports."""
    for report in reports:
        of = reported(of, report, 100.0, 30.0)
    return of


def running(order):
    """That an order brought it up."""
    return MachineReport("i-0", order, "running")


def ended(after):
    """That its guest ended by itself, as this order had left it."""
    return MachineReport("i-0", 0, "stopped", "Client.InstanceInitiatedShutdown", after=after)


class NewsTests(SynchronousTestCase):
    """
    News of guests that ended.
    """

    def setUp(self):
        """An instance that was started by order 3."""
        self.started = take(instance(order=3), running(3))

    def test_ended(self):
        """The guest ends: so does the instance's running."""
        self.assertEqual(self.started.state, "running")
        self.assertEqual(take(self.started, ended(3)).state, "stopped")

    def test_before_the_start(self):
        """That it ended before it was started again is old news, however late it comes."""
        pending = instance(order=3, started=True)
        self.assertEqual(take(pending, ended(2)), pending)
        self.assertEqual(take(self.started, ended(2), ended(1)), self.started)

    def test_before_the_reboot(self):
        """So is that it ended before it was rebooted, whether or not that was confirmed."""
        rebooting = moved(self.started, "reboot", 0.0, order=4, booted=4, rebooting_since=1.0)
        self.assertEqual(take(rebooting, ended(3)), rebooting)
        rebooted = take(rebooting, running(4))
        self.assertEqual(take(rebooted, ended(3)), rebooted)
        self.assertEqual(take(rebooted, ended(4)).state, "stopped")

    def test_overtakes_the_start(self):
        """That it ended may be told before that it was brought up; then it comes up no more."""
        over = take(instance(order=3), ended(3))
        self.assertEqual((over.state, over.started), ("stopped", True))
        self.assertEqual(take(over, running(3)).state, "stopped")

    def test_ends_with_its_guest(self):
        """One that is to be terminated when it shuts itself down is, also if it did before anybody heard of it."""
        over = take(instance(order=3, shutdown_behavior="terminate"), ended(3))
        self.assertEqual((over.state, over.order), ("shutting-down", 4))

    def test_other_orders_lost(self):
        """An order that does not bring it up, and that its host may never have had, makes no news old."""
        suspended = attrs.evolve(self.started, order=4)
        self.assertEqual(take(suspended, ended(3)).state, "stopped")

    def test_moved_meanwhile(self):
        """That it ended counts while it is moved, too, and it is stopped where it comes to."""
        moving = attrs.evolve(self.started, order=4, migration=Migration("other", 4, 1.0))
        over = take(moving, ended(3))
        self.assertEqual((over.state, over.host, over.migration), ("stopped", "h", moving.migration))
        there = take(over, MachineReport("i-0", 4, "moved"))
        self.assertEqual((there.state, there.host, there.migration), ("stopped", "other", None))
        self.assertEqual(take(moving, ended(2)), moving)

    def test_number_not_known(self):
        """News without a number, as hosts of the version before tell it, is believed."""
        self.assertEqual(take(self.started, ended(0)).state, "stopped")
        old = attrs.evolve(self.started, booted=0)
        self.assertEqual(take(old, ended(3)).state, "stopped")


class RebootTests(SynchronousTestCase):
    """
    What confirms a reboot.
    """

    def setUp(self):
        """An instance that is being rebooted by order 4."""
        self.rebooting = instance(state="running", order=4, booted=4, rebooting_since=1.0, review_at=31.0)

    def test_waits(self):
        """It is looked at until the reboot is confirmed, and its state is the same all the while."""
        self.assertEqual(self.rebooting.derived().due, 31.0)
        done = take(self.rebooting, running(4))
        self.assertEqual((done.state, done.rebooting_since, done.derived().due), ("running", 0.0, None))

    def test_older(self):
        """What answers an older order confirms nothing."""
        self.assertEqual(take(self.rebooting, running(3)), self.rebooting)

    def test_not_done(self):
        """A reboot that could not be begun is over, and one after which it does not run stopped it."""
        refused = take(self.rebooting, MachineReport("i-0", 4, "failed"))
        self.assertEqual((refused.state, refused.rebooting_since), ("running", 0.0))
        down = take(self.rebooting, MachineReport("i-0", 4, "stopped", "Server.InternalError"))
        self.assertEqual((down.state, down.rebooting_since), ("stopped", 0.0))

    def test_stopped_instead(self):
        """One that is stopped or terminated is rebooted no more."""
        for verb in ("stop", "terminate"):
            self.assertEqual(moved(self.rebooting, verb, 0.0, order=5).rebooting_since, 0.0)
