"""
Random histories of one instance between its user, its host and its guest, where every
message may come late, twice and out of turn: orders, reports, and the news of a
guest that ends by itself.  In the end state is as the host is.
"""

from __future__ import annotations

import tempfile

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.cloud.instances import Instances
from fabric.cloud.reports import reported
from fabric.compute.interface import MachineReport
from fabric.errors import WrongState
from fabric.model.codec import decode, encode
from fabric.settings import Fake
from fabric.testing.compute import machine
from tests.unit.test_compute_worker import CONTEXT, Host
from tests.unit.test_model_instance import instance

RESEND_AFTER = 30.0

which = st.integers(0, 4)
step = st.one_of(
    st.tuples(st.just("user"), st.sampled_from(["start", "stop", "reboot"])),
    st.tuples(st.just("order"), which),
    st.tuples(st.just("report"), which),
    st.tuples(st.just("in_turn")),
    st.tuples(st.just("guest"), st.sampled_from(["crash", "halt", "kill"])),
    st.tuples(st.just("sweep")),
)


class History:
    """
    State on the one side, a host with its worker on the other, and between
    them messages that may be taken in any order and any number of times.
    """

    def __init__(self, directory):
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.host = Host(self.clock, directory, Fake(boot_seconds=0, stop_seconds=0))
        nobody = [None] * 6
        self.verbs = Instances(*nobody, clock=self.clock, faults=None, resend_after=RESEND_AFTER)
        self.instance = instance(id=machine(1).id)
        self.orders = []
        self.reports = []
        self.taken = 0
        self.send()
        self.do_in_turn()

    def send(self):
        """The order that state waits for is on its way."""
        verb = {"pending": "run", "running": "reboot", "stopping": "stop"}[self.instance.state]
        self.orders.append((verb, self.instance.order))

    def do_user(self, verb):
        """The user asks for something, and gets it or not."""
        before = self.instance
        move = {"start": self.verbs._started, "stop": self.verbs._stopped, "reboot": self.verbs._rebooted}[verb]
        try:
            self.instance = move(before, self.clock.seconds())
        except WrongState:
            return
        if self.instance.order > before.order:
            self.send()

    def do_order(self, back):
        """One of the last orders arrives, perhaps not for the first time."""
        verb, order = self.orders[-1 - back % len(self.orders)]
        worker, brief = self.host.worker, {"id": machine(1).id, "order": order}
        whole = encode(machine(1, order))
        {
            "run": lambda: worker.run([whole], context=CONTEXT),
            "reboot": lambda: worker.reboot([whole], False, context=CONTEXT),
            "stop": lambda: worker.stop([brief], False, context=CONTEXT),
        }[verb]()
        self.settle()

    def do_guest(self, deed):
        """Something happens to the guest."""
        getattr(self.host.hypervisor, deed)(machine(1).id)
        self.settle()

    def settle(self):
        """Gather what the host says."""
        self.host.settle()
        told = [decode(MachineReport, each) for _, cast in self.host.controller.casts for each in cast]
        self.host.controller.casts.clear()
        self.reports += told

    def do_report(self, back):
        """One of the last reports is taken, perhaps not for the first time."""
        if self.reports:
            self.take(self.reports[-1 - back % len(self.reports)])

    def do_in_turn(self):
        """The first reports that were not taken in turn are."""
        while self.taken < len(self.reports):
            self.taken += 1
            self.take(self.reports[self.taken - 1])

    def take(self, report):
        """What a report makes of state."""
        self.instance = reported(self.instance, report, self.clock.seconds(), RESEND_AFTER)

    def do_sweep(self):
        """What state waits for is ordered again."""
        if self.instance.waits:
            self.send()

    def finish(self, backwards):
        """Each message that was not lost has come at last, though in another order; so has what the sweep sends."""
        while True:
            late = self.reports[self.taken :]
            self.taken = len(self.reports)
            for report in reversed(late) if backwards else late:
                self.take(report)
            if not self.instance.waits and self.taken == len(self.reports):
                return
            self.do_sweep()
            self.do_order(0)

    def runs(self):
        """Whether the guest does."""
        return any(domain.state == "running" for domain in self.host.hypervisor.domains().result)


class NewsHistoryTests(SynchronousTestCase):
    """
    What holds after every history.
    """

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(step, min_size=5, max_size=30), st.booleans())
    def test_histories(self, steps, backwards):
        """State is as the host is, and nothing that comes once more changes that."""
        with tempfile.TemporaryDirectory() as directory:
            history = History(directory + "/host")
            for name, *arguments in steps:
                getattr(history, "do_" + name)(*arguments)
            history.finish(backwards)
            self.assertEqual(history.instance.state, "running" if history.runs() else "stopped")
            for report in [*history.reports, *reversed(history.reports)]:
                history.take(report)
            self.assertEqual(history.instance.state, "running" if history.runs() else "stopped")
            history.host.network.stop()
            history.host.hypervisor.stop()
