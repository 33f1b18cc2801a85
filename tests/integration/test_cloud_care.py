"""
What operators do to guests, and what users see of it: nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.cloud.assembly import Rules
from fabric.cloud.launch import LaunchSpec
from fabric.errors import DriverFailure, NotFound, WrongState
from fabric.model.codec import encode
from fabric.model.instance import Instance
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, CloudUnderTest, make_cloud

Test = Generator[Deferred[Any], Any, None]
QUICK = Rules(ready_keys=0, resend_after=0.5)


class CareTests(TestCase):
    """
    One instance.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Test:
        """Launch it."""
        self.cloud: CloudUnderTest = yield make_cloud(self, rules=QUICK)
        self.care = self.cloud.cloud.care
        self.host = self.cloud.hosts["node1"]
        [made] = yield self.cloud.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, shutdown_behavior="terminate"))
        self.id = made.id
        yield self.cloud.until_state("running", self.id)

    @inlineCallbacks
    def guest(self) -> Generator[Deferred[Any], Any, tuple[str, str]]:
        """The state and condition that the host knows."""
        [domain] = yield self.host.hypervisor.domains()
        return domain.state, domain.condition

    @inlineCallbacks
    def told_all(self) -> Generator[Deferred[Any], Any, Instance]:
        """The instance after its host told all that it has, and state was made to agree."""
        domains = yield self.host.hypervisor.domains()
        yield self.cloud.assembly.worker.adopt("node1", [encode(domain) for domain in domains])
        [instance] = yield self.cloud.get(self.id)
        return instance

    @inlineCallbacks
    def restarted(self) -> Test:
        """The host's services end and others start over the same guests."""
        yield self.host.stop()
        self.host = self.cloud.add_host("node1", directory=self.host.directory)
        yield self.cloud.until(lambda: self.host.hypervisor.domains())

    @inlineCallbacks
    def test_not_lost(self) -> Test:
        """A guest in any condition is running for its user, also when its host tells all, or begins anew."""
        for verb, found in (
            (self.care.pause, ("running", "paused")),
            (self.care.unpause, ("running", "")),
            (self.care.suspend, ("stopped", "suspended")),
            (self.care.resume, ("running", "")),
            (self.care.rescue, ("running", "rescue")),
            (self.care.unrescue, ("running", "")),
        ):
            for _ in range(2):
                yield verb(OPERATOR, self.id)
                self.assertEqual((yield self.guest()), found)
            instance = yield self.told_all()
            self.assertEqual((instance.state, instance.reason), ("running", None))
            yield self.restarted()
            instance = yield self.told_all()
            self.assertEqual((instance.state, (yield self.guest())), ("running", found))
        yield self.cloud.sound()

    @inlineCallbacks
    def test_user_stops(self) -> Test:
        """Its user stops and starts a guest in any condition; then it is in none."""
        for verb in (self.care.pause, self.care.suspend, self.care.rescue):
            yield verb(OPERATOR, self.id)
            yield self.cloud.cloud.instances.stop(CALLER, [self.id])
            yield self.cloud.until_state("stopped", self.id)
            yield self.cloud.cloud.instances.start(CALLER, [self.id])
            yield self.cloud.until_state("running", self.id)
            self.assertEqual((yield self.guest()), ("running", ""))

    @inlineCallbacks
    def test_user_reboots(self) -> Test:
        """Its user reboots a guest that stands still, or is on disk."""
        for verb in (self.care.pause, self.care.suspend):
            yield verb(OPERATOR, self.id)
            yield self.cloud.cloud.instances.reboot(CALLER, [self.id])

            @inlineCallbacks
            def awake() -> Generator[Deferred[Any], Any, bool]:
                [instance] = yield self.cloud.get(self.id)
                return not instance.rebooting_since and (yield self.guest()) == ("running", "")

            yield self.assertFailure(self.care.suspend(OPERATOR, self.id), WrongState)
            yield self.cloud.until(awake)

    @inlineCallbacks
    def test_user_terminates(self) -> Test:
        """Its user ends a guest that is on disk, and nothing is left."""
        yield self.care.suspend(OPERATOR, self.id)
        yield self.cloud.cloud.instances.terminate(CALLER, [self.id])
        yield self.cloud.until_state("terminated", self.id)
        self.assertEqual((yield self.host.hypervisor.domains()), [])
        yield self.cloud.sound()

    @inlineCallbacks
    def test_refused(self) -> Test:
        """What does not fit is refused, and changes nothing."""
        yield self.assertFailure(self.care.pause(OPERATOR, "i-0123456789abcdef0"), NotFound)
        yield self.care.suspend(OPERATOR, self.id)
        yield self.assertFailure(self.care.pause(OPERATOR, self.id), WrongState)
        yield self.assertFailure(self.care.statistics(OPERATOR, self.id), WrongState)
        self.assertEqual((yield self.guest()), ("stopped", "suspended"))
        yield self.cloud.cloud.instances.stop(CALLER, [self.id])
        yield self.cloud.until_state("stopped", self.id)
        verbs: tuple[Callable[..., Deferred[Any]], ...] = (
            *(self.care.pause, self.care.unpause, self.care.suspend, self.care.resume),
            *(self.care.rescue, self.care.unrescue, self.care.statistics),
        )
        for verb in verbs:
            yield self.assertFailure(verb(OPERATOR, self.id), WrongState)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_rescue_fails(self) -> Test:
        """A rescue that fails is told, and the guest runs on if it does."""
        self.host.hypervisor.rehearsal.tell("rescue fail")
        yield self.assertFailure(self.care.rescue(OPERATOR, self.id), DriverFailure)
        self.assertEqual((yield self.guest()), ("running", ""))
        yield self.care.rescue(OPERATOR, self.id)
        self.assertEqual((yield self.guest()), ("running", "rescue"))

    @inlineCallbacks
    def test_killed_from_outside(self) -> Test:
        """One that somebody stops on its host is stopped, for a reason of the cloud; its user asked for no end."""
        self.host.hypervisor.kill(self.id)
        [instance] = yield self.cloud.until_state("stopped", self.id)
        self.assertEqual(instance.reason.code, "Server.InternalError")
        self.assertIn("from outside", instance.reason.message)

    @inlineCallbacks
    def test_halted(self) -> Test:
        """One that shuts itself down does what its user wants then."""
        self.host.hypervisor.halt(self.id)
        [instance] = yield self.cloud.until_state("terminated", self.id)
        self.assertEqual(instance.reason.code, "Client.InstanceInitiatedShutdown")
