"""
What the kernel makes of our texts, and the child processes that bring them.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from fabric.errors import DriverFailure
from fabric.network.linux.conntrack import Conntrack
from fabric.network.linux.host import HostNetwork
from fabric.network.linux.nft import Nft, Tool
from fabric.network.linux.plan import Uplinks
from fabric.network.linux.ruleset import Outside, ruleset
from fabric.network.linux.tables import change, none, presence, whole
from fabric.testing.hostnetworks import crowd
from fabric.testing.namespaces import Namespaces
from tests.unit.network_hosts import hosts

Steps = Generator[Deferred[Any], Any, None]
SIDES = ("--orig-src", "--reply-src")
OUTSIDE = Outside("eth0", "198.51.100.1", uplinks=Uplinks(vlan_interface="eth1"))


class KernelTests(SynchronousTestCase):
    """Texts, given to C{nft} itself."""

    def setUp(self) -> None:
        """A host."""
        self.namespaces = Namespaces()
        self.addCleanup(self.namespaces.remove)
        self.namespaces.make("host")

    def applied(self, *texts: str) -> dict[str, Any]:
        """
        @return: everything that is there after these, by what it is.
        """
        for text in texts:
            done = subprocess.run(
                self.namespaces.command("host", ["nft", "-f", "-"]),
                input=text,
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""), text)
        found: dict[str, Any] = {}
        listed = json.loads(self.namespaces.run("host", ["nft", "-j", "list", "ruleset"]))
        for each in listed["nftables"]:
            [(kind, value)] = each.items()
            if kind in ("set", "map", "chain"):
                value.pop("handle")
                value["elem"] = sorted(map(json.dumps, value.get("elem", ())))
                found[f"{value['table']} {value['name']}"] = value
            if kind == "rule":
                found.setdefault(f"{value['table']} {value['chain']} rules", []).append(value["expr"])
        return found

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(hosts(), hosts())
    def test_change(self, before: HostNetwork, after: HostNetwork) -> None:
        """Changed tables are as those that were loaded whole."""
        first = ruleset(before, OUTSIDE)
        second = ruleset(after, OUTSIDE, first)
        changed = self.applied(whole(first), change(first, second))
        self.assertEqual(changed, self.applied(whole(second)))

    def test_many(self) -> None:
        """A thousand instances are loaded, one on top of the other."""
        text = whole(ruleset(crowd(1000), OUTSIDE))
        found = self.applied(text, text)
        self.assertEqual(len(found["fabric_link holders"]["elem"]), 1000)
        self.assertEqual(self.applied(none()), {})


class NftTests(TestCase):
    """L{Nft}, L{Tool} and L{Conntrack}, with the real reactor."""

    @inlineCallbacks
    def setUp(self) -> Steps:  # type: ignore[override]
        """A host."""
        self.namespaces = Namespaces()
        self.addCleanup(deferToThread, self.namespaces.remove)
        yield deferToThread(self.namespaces.make, "host")
        self.nft = Nft(reactor, self.namespaces.command("host", ["nft"]))

    def listed(self) -> Deferred[str]:
        """What is there."""
        return deferToThread(self.namespaces.run, "host", ["nft", "list", "ruleset"])

    @inlineCallbacks
    def test_checked(self) -> Steps:
        """A check changes nothing, and takes what would be taken."""
        yield self.nft.check(whole(ruleset(crowd(3), OUTSIDE)))
        self.assertEqual((yield self.listed()), "")
        yield self.assertFailure(self.nft.check("add rule inet nothing here accept"), DriverFailure)

    @inlineCallbacks
    def test_gone(self) -> Steps:
        """It is seen when our tables are gone, and nothing changes by looking."""
        yield self.assertFailure(self.nft.check(presence()), DriverFailure)
        yield self.nft.apply(whole(ruleset(crowd(1), OUTSIDE)))
        before = yield self.listed()
        yield self.nft.check(presence())
        self.assertEqual((yield self.listed()), before)
        yield self.nft.apply("flush ruleset")
        yield self.assertFailure(self.nft.check(presence()), DriverFailure)

    @inlineCallbacks
    def test_all_or_nothing(self) -> Steps:
        """Of a text with a mistake nothing is applied, and nft's words are told."""
        error = yield self.assertFailure(self.nft.apply("add table inet a\nadd chain inet b c\n"), DriverFailure)
        self.assertIn("No such file or directory", error.what)
        self.assertEqual((yield self.listed()), "")

    @inlineCallbacks
    def test_in_turn(self) -> Steps:
        """Texts are applied one after the other, also after one that failed."""
        texts = ["add table inet a", "nonsense", "add chain inet a b", "add rule inet a b accept"]
        results = gatherResults(
            [self.nft.apply(text).addErrback(lambda failure: failure.check(DriverFailure)) for text in texts]
        )
        self.assertEqual((yield results), [None, DriverFailure, None, None])
        self.assertIn("accept", (yield self.listed()))

    @inlineCallbacks
    def test_missing(self) -> Steps:
        """A tool that is not there is a failure that names it."""
        error = yield self.assertFailure(Nft(reactor, ["no-such-nft"]).apply(""), DriverFailure)
        self.assertIn("no-such-nft", error.what)

    @inlineCallbacks
    def test_stuck(self) -> Steps:
        """A tool that hangs is killed."""
        yield self.assertFailure(Tool(reactor, ["sleep", "60"], seconds=0.1).run(), DriverFailure)

    @inlineCallbacks
    def test_flows(self) -> Steps:
        """Ending flows is no failure where there are none, or no tool."""
        yield Conntrack(reactor, self.namespaces.command("host", ["conntrack"])).forget([("10.0.0.1", "--orig-src")])
        yield Conntrack(reactor, ["no-such-conntrack"]).forget([("10.0.0.1", "--orig-src")])

    @inlineCallbacks
    def test_flows_of_many(self) -> Steps:
        """The flows of many addresses are ended by one process, and no others."""
        yield deferToThread(self._talk)
        tool = self._logged('exec conntrack "$@"')
        yield Conntrack(reactor, tool).forget([(f"10.1.0.{n}", side) for n in (1, 2) for side in SIDES])
        self.assertEqual((yield deferToThread(self._talking)), {"10.1.0.3"})
        self.assertEqual(self._calls(), ["--load-file"])

    @inlineCallbacks
    def test_flows_one_by_one(self) -> Steps:
        """A tool that is too old for lists ends flows all the same."""
        yield deferToThread(self._talk)
        tool = self._logged('[ $1 = --load-file ] && exit 2; exec conntrack "$@"')
        yield Conntrack(reactor, tool).forget([("10.1.0.1", side) for side in SIDES])
        self.assertEqual((yield deferToThread(self._talking)), {"10.1.0.2", "10.1.0.3"})
        self.assertEqual(self._calls(), ["--load-file", "-D", "-D"])

    def _logged(self, script: str) -> list[str]:
        """@return: a command in the namespace that notes how it is called."""
        self.calls = Path(self.mktemp()).absolute()
        return self.namespaces.command("host", ["sh", "-c", f"echo $1 >> {self.calls}; {script}", "conntrack"])

    def _calls(self) -> list[str]:
        return self.calls.read_text().split()

    def _talk(self) -> None:
        """Have a flow of each of three addresses.  Blocks."""
        rules = "table inet follow { chain sent { type filter hook output priority 0; ct state new accept; }; }"
        self.namespaces.run("host", ["nft", rules])
        for number in (1, 2, 3):
            address = f"10.1.0.{number}"
            self.namespaces.run("host", ["ip", "address", "add", f"{address}/32", "dev", "lo"])
            with self.namespaces.open_socket("host", socket.AF_INET, socket.SOCK_DGRAM) as talker:
                talker.bind((address, 0))
                talker.sendto(b"hello", (address, 9))

    def _talking(self) -> set[str]:
        """@return: who has a flow.  Blocks."""
        return set(re.findall(r"src=(10\.1\.0\.\d)", self.namespaces.run("host", ["conntrack", "-L"])))
