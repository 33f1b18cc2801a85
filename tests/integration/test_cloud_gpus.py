"""
GPUs through the whole cloud in one process: counted, placed, given, and given back.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric.cloud.assembly import Rules
from fabric.cloud.launch import LaunchSpec
from fabric.compute.fake import GPU
from fabric.errors import InvalidValue, WrongState
from fabric.model.flavor import Flavor
from fabric.model.instance import Instance
from fabric.settings import Fake
from fabric.testing.cloud import CALLER, OPERATOR, SAMPLE, CloudUnderTest, make_cloud

Test = Generator[Deferred[Any], Any, None]
QUICK = Rules(ready_keys=0, resend_after=0.5)
NO_HOST = "Server.InsufficientInstanceCapacity"


class GpuTests(TestCase):
    """
    A host C{a} with one GPU, and types that want some.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Test:
        """Bring it up."""
        options = Fake(gpus=1, boot_seconds=0.0, stop_seconds=0.0)
        self.cloud: CloudUnderTest = yield make_cloud(self, ("a",), options, rules=QUICK)
        self.instances = self.cloud.cloud.instances
        for name, count, requires in (
            ("g1.one", 1, ()),
            ("g1.kind", 1, (GPU,)),
            ("g1.other", 1, ("gpu:10de:1db4",)),
            ("g1.two", 2, ()),
        ):
            yield self.cloud.cloud.flavors.create(OPERATOR, Flavor(name, 1, 512, 1, requires=requires, gpus=count))

    @inlineCallbacks
    def launch(self, flavor: str, state: str = "running") -> Generator[Deferred[Any], Any, Instance]:
        """One instance, once it is so."""
        [made] = yield self.instances.run(CALLER, LaunchSpec(SAMPLE, flavor))
        [instance] = yield self.cloud.until_state(state, made.id)
        return instance  # type: ignore[no-any-return]

    @inlineCallbacks
    def refused(self, flavor: str) -> Generator[Deferred[Any], Any, str]:
        """@return: why host C{a} was not chosen."""
        ended = yield self.launch(flavor, "terminated")
        self.assertEqual(ended.reason.code, NO_HOST)
        return (yield self.cloud.cloud.hosts.explain(ended.id))["a"]  # type: ignore[no-any-return]

    @inlineCallbacks
    def promised(self) -> Generator[Deferred[Any], Any, int]:
        """How many of the host's GPUs are."""
        [view] = [each for each in (yield self.cloud.cloud.hosts.services()) if each.service.id == "compute.a"]
        return view.load["gpus"]  # type: ignore[no-any-return]

    @inlineCallbacks
    def test_one_each(self) -> Test:
        """A GPU is one instance's: the second has no capacity, others come, and what ends gives it back."""
        first = yield self.launch("g1.kind")
        self.assertEqual((yield self.promised()), 1)
        self.assertEqual((yield self.refused("g1.one")), "0 GPUs free, 1 wanted")
        yield self.launch("m1.tiny")
        yield self.instances.terminate(CALLER, [first.id])
        yield self.cloud.until_state("terminated", first.id)
        self.assertEqual((yield self.promised()), 0)
        yield self.launch("g1.one")
        yield self.cloud.sound()

    @inlineCallbacks
    def test_launches_at_once(self) -> Test:
        """Of many that are launched together as many run as there are GPUs."""
        made = yield self.instances.run(CALLER, LaunchSpec(SAMPLE, "g1.one", 3, 3))
        ids = [each.id for each in made]

        @inlineCallbacks
        def settled() -> Generator[Deferred[Any], Any, Any]:
            states = [each.state for each in (yield self.cloud.get(*ids))]
            return "pending" not in states and sorted(states)

        found = yield self.cloud.until(settled)
        self.assertEqual(found, ["running", "terminated", "terminated"])
        self.assertEqual((yield self.promised()), 1)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_never_there(self) -> Test:
        """What no host has, of that kind or so many, is refused with the reason."""
        self.assertEqual((yield self.refused("g1.other")), "has no gpu:10de:1db4")
        self.assertEqual((yield self.refused("g1.two")), "1 GPUs free, 2 wanted")

    @inlineCallbacks
    def test_kept_while_stopped(self) -> Test:
        """One that is stopped keeps its GPU, and has it when it is started."""
        first = yield self.launch("g1.one")
        yield self.instances.stop(CALLER, [first.id], False)
        yield self.cloud.until_state("stopped", first.id)
        self.assertEqual((yield self.refused("g1.one")), "0 GPUs free, 1 wanted")
        yield self.instances.start(CALLER, [first.id])
        yield self.cloud.until_state("running", first.id)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_resized(self) -> Test:
        """A stopped one becomes a type with GPUs if its host has them free, of the kind; and gives them back."""
        first = yield self.launch("g1.one")
        plain = yield self.launch("m1.tiny")
        yield self.instances.stop(CALLER, [plain.id], False)
        yield self.cloud.until_state("stopped", plain.id)
        for name in ("g1.one", "g1.other"):
            error = yield self.assertFailure(self.instances.modify(CALLER, plain.id, flavor=name), InvalidValue)
            self.assertIn("its host has no", str(error))
        yield self.instances.terminate(CALLER, [first.id])
        yield self.cloud.until_state("terminated", first.id)
        for name, promised in (("g1.kind", 1), ("m1.tiny", 0), ("g1.one", 1)):
            yield self.instances.modify(CALLER, plain.id, flavor=name)
            self.assertEqual((yield self.promised()), promised)
        yield self.instances.start(CALLER, [plain.id])
        yield self.cloud.until_state("running", plain.id)
        yield self.cloud.sound()

    @inlineCallbacks
    def test_not_moved_while_it_runs(self) -> Test:
        """One that runs with a GPU is neither moved nor put to disk; stopped, it is moved to a host that has one."""
        made = yield self.launch("g1.one")
        self.cloud.add_host("b", Fake(gpus=1, boot_seconds=0.0, stop_seconds=0.0))
        yield self.cloud.until(lambda: self.cloud.cloud.hosts.alive().addCallback(lambda alive: "b" in alive))
        for refused in (
            self.cloud.cloud.migrations.migrate(OPERATOR, made.id),
            self.cloud.cloud.care.suspend(OPERATOR, made.id),
        ):
            error = yield self.assertFailure(refused, WrongState)
            self.assertEqual(error.found, "running with GPUs")
        [departure] = yield self.cloud.cloud.migrations.evacuate(OPERATOR, "a")
        self.assertEqual((departure.destination, departure.why), ("", "it is running with GPUs"))
        yield self.instances.stop(CALLER, [made.id], False)
        yield self.cloud.until_state("stopped", made.id)
        yield self.cloud.cloud.migrations.migrate(OPERATOR, made.id)

        @inlineCallbacks
        def there() -> Generator[Deferred[Any], Any, bool]:
            [instance] = yield self.cloud.get(made.id)
            return instance.host == "b" and instance.migration is None

        yield self.cloud.until(there)
        self.assertEqual((yield self.promised()), 0)
        yield self.instances.start(CALLER, [made.id])
        yield self.cloud.until_state("running", made.id)
        counters = yield self.cloud.store.counters(["load:a:gpus", "load:b:gpus"])
        self.assertEqual(counters, {"load:a:gpus": 0, "load:b:gpus": 1})
        yield self.cloud.sound()
