"""
Random histories of a compute host: orders that come twice, late and out of
turn, a driver that fails and loses answers, guests that crash, and workers that
are killed.  In the end the host is as the last order to each machine says.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.model.codec import encode
from fabric.settings import Fake
from fabric.testing.compute import machine
from tests.unit.test_compute_worker import CONTEXT, Host

VERBS = {"run": {"running", "failed", "stopped"}, "reboot": {"running", "failed", "stopped"}}
VERBS |= {"stop": {"stopped", "failed"}, "terminate": {"gone", "failed"}}
"""Each verb, and what may be reported of it."""

numbers = st.integers(0, 1)
step = st.one_of(
    st.tuples(st.just("order"), numbers, st.sampled_from(sorted(VERBS))),
    st.tuples(st.just("deliver"), st.integers(0, 3)),
    st.tuples(st.just("deliver"), st.integers(0, 3)),
    st.tuples(st.just("latest"), numbers),
    st.tuples(
        st.just("mishap"),
        st.sampled_from(["spawn", "shut_down", "reboot", "destroy", "capture", "plug", "unplug", "express"]),
        st.sampled_from(["fail", "lose", "hang", "slow 3"]),
    ),
    st.tuples(st.just("pass"), st.sampled_from([0.01, 1.0, 10.0])),
    st.tuples(st.just("guest"), st.sampled_from(["crash", "halt"]), numbers),
    st.tuples(st.just("copy"), numbers, st.sampled_from([0.0, 3.0])),
    st.tuples(st.just("kill")),
)

quiet_step = st.one_of(
    st.tuples(st.just("guest"), st.sampled_from(["crash", "halt"]), st.just(0)),
    st.tuples(st.just("copy"), st.just(0), st.sampled_from([0.0, 3.0])),
    st.tuples(st.just("order"), st.just(0), st.sampled_from(["run", "reboot", "stop"])),
    st.tuples(st.just("latest"), st.just(0)),
    st.tuples(st.just("pass"), st.sampled_from([1.0, 10.0])),
)
"""What happens to one machine while nothing fails."""


class History:
    """
    One host through its life, and what the controller ordered of it.
    """

    def __init__(self, directory, boot_seconds):
        self.directory = directory
        self.options = Fake(boot_seconds=boot_seconds, stop_seconds=boot_seconds / 2)
        self.orders = []
        self.newest = {}
        self.reports = []
        self.believed = {}
        self.copies = 0
        self.start(1_000_000)

    def start(self, now):
        """A new worker process over what the last one left."""
        clock = Clock()
        clock.advance(now)
        self.host = Host(clock, self.directory, self.options)
        self.carried_out = {}
        self.host.settle()

    def act(self, step):
        """Do one step of the history."""
        getattr(self, "do_" + step[0])(*step[1:])
        self.host.clock.pump([0.001] * 10)
        self.collect()
        self.look()

    def look(self):
        """See that no old order undid a newer one."""
        for domain in self.host.hypervisor.domains().result:
            newest = self.carried_out.get(domain.id, 0)
            if domain.order < newest:
                raise AssertionError(f"{domain} after order {newest}")
            self.carried_out[domain.id] = domain.order

    def running(self):
        """The machines that run."""
        return {domain.id for domain in self.host.hypervisor.domains().result if domain.state == "running"}

    def do_order(self, number, verb):
        """The controller decides something; its message may come later, or never."""
        order = self.newest[number][1] + 1 if number in self.newest else 1
        self.newest[number] = (number, order, verb)
        self.orders.append(self.newest[number])

    def do_deliver(self, back):
        """One of the last messages arrives, perhaps not for the first time."""
        if self.orders:
            self.send(*self.orders[-1 - back % len(self.orders)])

    def do_latest(self, number):
        """The last message about a machine arrives."""
        if number in self.newest:
            self.send(*self.newest[number])

    def do_mishap(self, verb, kind):
        """Something will go wrong."""
        network = verb in ("plug", "unplug", "express")
        (self.host.network if network else self.host.hypervisor).rehearsal.tell(f"{verb} {kind}")

    def do_pass(self, seconds):
        """Time passes."""
        self.host.settle(seconds)

    def do_guest(self, deed, number):
        """A guest crashes or halts."""
        self.host.hypervisor.rehearsal.tell(f"{deed} {machine(number).id}")

    def do_copy(self, number, seconds):
        """A machine's disk is to become an image: an order that says nothing of whether it runs."""
        self.copies += 1
        if seconds:
            self.do_mishap("capture", f"slow {seconds}")
        order = {"id": machine(number).id, "image": f"ami-{self.copies}"}
        self.host.worker.capture([order], context=CONTEXT).addErrback(self.reports.append)

    def do_kill(self):
        """The worker's process ends without a word, and another one starts."""
        self.end()
        self.start(self.host.clock.seconds())

    def end(self):
        """The process is no more, nor are its files open; its clock stands still."""
        self.host.network.stop()
        self.host.hypervisor.stop()

    def send(self, number, order, verb):
        """Deliver an order."""
        worker, whole = self.host.worker, encode(machine(number, order))
        brief = {"id": machine(number).id, "order": order}
        sent = {
            "run": lambda: worker.run([whole], context=CONTEXT),
            "reboot": lambda: worker.reboot([whole], False, context=CONTEXT),
            "stop": lambda: worker.stop([brief], False, context=CONTEXT),
            "terminate": lambda: worker.terminate([brief], context=CONTEXT),
        }[verb]()
        sent.addErrback(lambda failure: self.reports.append(failure))

    def collect(self):
        """Take in what was reported."""
        reports = [report for _, cast in self.host.controller.casts for report in cast]
        for report in reports:
            if report["state"] == "gone":
                self.carried_out[report["id"]] = max(self.carried_out.get(report["id"], 0), report["order"] + 1)
        self.reports += reports
        for domains in self.host.controller.adopted:
            self.believed = {domain["id"]: domain["state"] == "running" for domain in domains}
        for report in reports:
            self.believed[report["id"]] = {"running": True, "failed": None}.get(report["state"], False)
        self.host.controller.casts.clear()
        self.host.controller.adopted.clear()

    def finish(self):
        """All mishaps are over, and the controller's sweep sends the newest orders again."""
        self.host.hypervisor.rehearsal.forget()
        self.host.network.rehearsal.forget()
        self.host.settle(4000)
        self.host.settle(4000)
        self.collect()
        self.seen = [(id, runs, id in self.running()) for id, runs in self.believed.items() if runs is not None]
        self.host.worker.adopt()
        self.collect()
        self.last = {}
        for number, order, verb in self.newest.values():
            self.send(number, order, verb)
        self.host.settle(100)
        self.host.settle(100)
        count = len(self.reports)
        self.collect()
        self.last = {report["id"]: report for report in self.reports[count:]}


class HistoryTests(SynchronousTestCase):
    """
    What holds after every history.
    """

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(step, min_size=15, max_size=60), st.sampled_from([0.0, 2.0]))
    def test_histories(self, steps, boot_seconds):
        """The host is as the last orders say, and its reports tell the truth."""
        self.live_through(steps, boot_seconds)

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(quiet_step, min_size=2, max_size=12), st.sampled_from([0.0, 2.0]))
    def test_quiet_histories(self, steps, boot_seconds):
        """Where nothing fails, the controller knows at any time of rest which guests run, without asking."""
        self.live_through([("order", 0, "run"), ("latest", 0), ("pass", 10.0), *steps], boot_seconds)

    def live_through(self, steps, boot_seconds):
        """Live through a history on a new host."""
        with tempfile.TemporaryDirectory() as directory:
            history = History(directory + "/host", boot_seconds)
            try:
                self.check(history, steps)
            finally:
                history.end()

    def check(self, history, steps):
        """Live through a history, and see what it leads to."""
        for step in steps:
            history.act(step)
        history.finish()
        self.check_reports(history)
        for id, told, true in history.seen:
            self.assertEqual((id, told), (id, true))
        domains = {domain.id: domain for domain in history.host.hypervisor.domains().result}
        plugged = {port.instance for port in history.host.network.ports().result}
        self.assertEqual(set(history.last), {machine(number).id for number in history.newest})
        for number, order, verb in history.newest.values():
            id = machine(number).id
            self.check_machine(domains.get(id), id in plugged, history.last[id], order, verb)

    def check_reports(self, history):
        """Each report answers an order that was given, with something that it may lead to."""
        verbs = defaultdict(set)
        for number, order, verb in history.orders:
            verbs[machine(number).id, order] |= VERBS[verb]
        for report in history.reports:
            self.assertIsInstance(report, dict)
            if report["order"]:
                self.assertIn(report["state"], verbs[report["id"], report["order"]])

    def check_machine(self, domain, plugged, report, order, verb):
        """What was reported last of a machine is how it is."""
        self.assertEqual(report["order"], order)
        state = report["state"]
        self.assertIn(state, VERBS[verb])
        if state == "running":
            self.assertEqual((domain.state, domain.order, plugged), ("running", order, True))
        elif state == "stopped":
            self.assertTrue(domain is None or domain.state != "running", domain)
        elif state == "gone" or not report["addresses"]:
            self.assertEqual((domain, plugged), (None, False))
        else:
            self.assertIn(verb, ("run", "reboot"))
