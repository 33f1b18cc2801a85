"""
What L{fabric.network.linux.driver} leaves on a host after any history: tools
that fail before or after they have acted, kills in the midst of them, and
somebody else who takes things away.
"""

from __future__ import annotations

import copy
import os
import shutil

import attrs
from hypothesis import example, given, note, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import DriverFailure, NotFound
from fabric.network.interface import Floating, GroupOrder, NetworkOrder, Plug, RuleOrder, device_name
from fabric.network.linux.driver import VERIFY_SECONDS, LinuxNetwork
from fabric.network.linux.leases import Leases
from fabric.network.linux.links import Links
from fabric.network.linux.netlink import Link
from fabric.network.linux.packetfilter import PacketFilter
from fabric.network.linux.plan import Uplinks
from fabric.network.linux.ruleset import Outside
from tests.unit.network_hosts import Tables

ONE = NetworkOrder("net-1", "10.0.0.0/24", "10.0.0.1", "flatdhcp", "br100", cidr_v6="fd00:1::/64")
NETWORKS = (
    ONE,
    attrs.evolve(ONE, bridge="br101", dns=("192.0.2.1",)),
    NetworkOrder("net-2", "10.0.1.0/24", "10.0.1.1", "vlan", "br200", vlan=200),
    NetworkOrder("net-3", "10.0.2.0/24", "10.0.2.1", "flat", "br0"),
    NetworkOrder("net-4", "10.0.3.0/24", "10.0.3.1", "vlan", "br200", vlan=200),
)
"""One of them in two ways, and two that the cloud gave the same VLAN, one after the other."""
IDS = sorted({network.id for network in NETWORKS})
UPLINKS = Uplinks(vlan_interface="eth9")


class Killed(BaseException):
    """The process ends here."""


class World:
    """
    A host: its links, DHCP servers and filters, which outlive the driver.

    @ivar mishap: what comes of which of the next changes: C{before}, C{after}
        or C{kill}.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.mishap: tuple[int, str] | None = None
        self.links: dict[int, Link] = {}
        self.given: dict[int, dict[str, str]] = {}
        self.tables = Tables()
        self.servers: dict[str, tuple[int, tuple[str, ...], str, str]] = {}
        self._index = 0
        for name in ("eth9", "br-foreign"):
            link = self.make(name, "" if name == "eth9" else "bridge")
            self.links[link.index] = attrs.evolve(link, up=True)

    def changes(self, act, *arguments):
        """Carry out what changes the host, or not."""
        left, how = self.mishap or (0, "")
        self.mishap = (left - 1, how) if left > 1 else None
        if left == 1 and how == "before":
            raise DriverFailure("not done")
        result = act(*arguments)
        if left == 1 and how == "kill":
            raise Killed
        if left == 1:
            raise DriverFailure("done, and yet failed")
        return result

    def make(self, name, kind, address="02:ff:00:00:00:00", **settings):
        """A link that is there from now on."""
        assert name not in {link.name for link in self.links.values()}
        self._index += 1
        held = {"link": settings.get("link", 0)} | ({"id": settings["vlan_id"]} if "vlan_id" in settings else {})
        self.links[self._index] = link = Link(self._index, name, kind, "", address, 1500, 0, False, held)
        self.given[self._index] = {}
        return link

    def drop(self, index):
        """A link that is there no more."""
        if self.links.pop(index, None) is None:
            return
        del self.given[index]
        for other in [link for link in self.links.values() if link.settings["link"] == index]:
            self.drop(other.index)
        for other in [link for link in self.links.values() if link.master == index]:
            self.links[other.index] = attrs.evolve(other, master=0)

    def named(self, name):
        """A link."""
        return next((link for link in self.links.values() if link.name == name), None)

    def shape(self):
        """
        Everything about links but their numbers.
        """
        names = {0: ""} | {index: link.name for index, link in self.links.items()}
        return {
            link.name: (
                link.kind,
                link.alias,
                link.mac,
                link.up,
                names[link.master],
                names[link.settings["link"]],
                sorted(self.given[link.index]),
            )
            for link in self.links.values()
        }


class Kernel:
    """L{fabric.network.linux.netlink.Netlink} over a L{World}."""

    def __init__(self, world):
        self.world = world

    def open(self):
        """As Netlink."""

    close = open

    def find(self, name):
        """As Netlink."""
        return self.world.named(name)

    def all(self):
        """As Netlink."""
        return list(self.world.links.values())

    def add(self, name, kind, **settings):
        """As Netlink."""
        return self.world.changes(lambda: self.world.make(name, kind, **settings))

    def change(self, link, **settings):
        """As Netlink."""
        fields = {"ifalias": "alias", "address": "mac", "state": "up"}
        named = {
            fields.get(name, name): value == "up" if name == "state" else value for name, value in settings.items()
        }

        def act():
            self.world.links[link.index] = attrs.evolve(self.world.links[link.index], **named)

        self.world.changes(act)

    def remove(self, link):
        """As Netlink."""
        self.world.changes(self.world.drop, link.index)

    def addresses(self, link):
        """As Netlink."""
        return dict(self.world.given[link.index])

    def add_address(self, link, address, label=""):
        """As Netlink."""
        self.world.changes(self.world.given[link.index].__setitem__, address, label)

    def remove_address(self, link, address):
        """As Netlink."""
        self.world.changes(self.world.given[link.index].pop, address)


class NoSysctls:
    """Settings of nobody."""

    def set(self, name, value):
        """As Sysctls."""


class TheLinks(Links):
    """Those of the L{World}."""

    def open(self, v6=False):
        """Nothing to load."""

    def release(self, leases):
        """Nothing is sent."""
        self._netlink.world.changes(lambda: None)


class Servers:
    """
    L{fabric.network.linux.dnsmasq.Dnsmasqs} of one process.
    """

    def __init__(self, world):
        self._world = world
        self._known = set()

    def ensure(self, server, reread, anew):
        """As Dnsmasqs."""
        return attempt(self._world.changes, self._ensure, server, reread, anew)

    def _ensure(self, server, reread, anew):
        there = self._world.servers.get(server.network)
        same = there is not None and there[1] == server.arguments and not anew
        bridge = self._world.named(server.bridge)
        if not same and bridge is None:
            raise DriverFailure(f"unknown interface {server.bridge}")
        if not same or reread or server.network not in self._known:
            texts = [text(path) for path in (server.hosts, server.names)]
            self._world.servers[server.network] = (there[0] if same else bridge.index, server.arguments, *texts)
        self._known.add(server.network)

    def remove(self, server):
        """As Dnsmasqs."""
        return attempt(self._world.changes, self._remove, server)

    def _remove(self, server):
        self._world.servers.pop(server.network, None)
        for path in (server.hosts, server.names):
            if os.path.exists(path):
                os.unlink(path)

    def let_go(self):
        """As Dnsmasqs."""


class Nft:
    """L{fabric.network.linux.nft.Nft} over a L{World}."""

    def __init__(self, world):
        self._world = world

    def apply(self, text):
        """As Nft."""
        return attempt(self._world.changes, self._apply, text)

    def _apply(self, text):
        tables = copy.deepcopy(self._world.tables)
        try:
            tables.apply(text)
        except (AssertionError, KeyError) as error:
            raise DriverFailure(f"refused: {error!r}") from error
        self._world.tables = tables

    def check(self, text):
        """Whether our tables are there."""
        return succeed(None) if self._world.tables.chains else fail(DriverFailure("no such table"))


def text(path):
    """What is in a file; dnsmasq takes one that is not there for an empty one."""
    if not os.path.exists(path):
        return ""
    with open(path) as file:
        return file.read()


def attempt(call, *arguments):
    """What comes of it, as a Deferred; of one that is killed in it nothing ever does."""
    try:
        return succeed(call(*arguments))
    except Killed:
        return Deferred()
    except Exception:
        return fail()


class AtRest(Clock):
    """A reactor that stays."""

    def addSystemEventTrigger(self, *arguments):
        """It does not end."""


class NoThreads:
    """What begins and ends nothing."""

    started = True
    joined = False

    def start(self):
        """Nothing."""

    stop = start


class Driver(LinuxNetwork):
    """One process's, that calls in its own thread."""

    def __init__(self, world):
        self.clock = AtRest()
        links = TheLinks(Kernel(world), NoSysctls())
        leases = Leases(os.path.join(world.directory, "dhcp"), Servers(world), links, 1500)
        filters = PacketFilter(Nft(world), Outside("eth9", uplinks=UPLINKS))
        super().__init__(world.directory, self.clock, links, leases, filters, UPLINKS)
        self._threads = NoThreads()

    def _in_thread(self, call, *arguments):
        return attempt(call, *arguments)


def port(number, network):
    """A port of a machine."""
    address = NETWORKS[[each.id for each in NETWORKS].index(network)].cidr.replace("0/24", str(number + 1))
    groups = ("sg-a",) if number % 2 else ("sg-a", "sg-b")
    mac = f"02:00:00:0{network[-1]}:00:{number:02x}"
    return Plug(f"i-{number}", network, mac, address, f"host-{number}", groups)


def group(id, first):
    """A group that is about the other."""
    rules = (RuleOrder(False, "tcp", first, 99, "0.0.0.0/0"), RuleOrder(False, "-1", -1, -1, group="sg-b"))
    return GroupOrder(id, first, rules, first, ("10.0.0.2",))


_numbers = st.integers(1, 3)
_groups = st.builds(group, st.sampled_from(("sg-a", "sg-b")), st.integers(1, 3))
_floating = st.builds(
    lambda public, number: Floating(
        f"203.0.113.{public}", f"10.0.0.{number + 1}", "i", "net-1", port(number, "net-1").mac
    ),
    _numbers,
    _numbers,
)
steps = st.lists(
    st.tuples(st.just("express"), st.sampled_from(NETWORKS))
    | st.tuples(st.just("express"), st.sampled_from(NETWORKS))
    | st.tuples(st.just("retire"), st.sampled_from(IDS))
    | st.tuples(st.just("plug"), st.lists(st.builds(port, _numbers, st.sampled_from(IDS)), min_size=1, max_size=2))
    | st.tuples(st.just("plug"), st.lists(st.builds(port, _numbers, st.just("net-1")), min_size=1, max_size=2))
    | st.tuples(st.just("unplug"), st.lists(_numbers.map("i-{}".format), min_size=1, max_size=2))
    | st.tuples(st.just("associate"), st.lists(_floating, min_size=1, max_size=2))
    | st.tuples(st.just("disassociate"), st.lists(_numbers.map("203.0.113.{}".format), min_size=1, max_size=2))
    | st.tuples(st.just("apply_groups"), st.lists(_groups, max_size=2, unique_by=lambda each: each.id))
    | st.tuples(st.just("mishap"), st.tuples(st.integers(1, 12), st.sampled_from(("before", "after", "kill"))))
    | st.tuples(st.just("mishap"), st.tuples(st.integers(1, 12), st.sampled_from(("before", "after", "kill"))))
    | st.tuples(st.just("somebody"), st.sampled_from(("br100", "br200", "vlan200", "br0", "filters")))
    | st.tuples(st.sampled_from(("restart", "wait")), st.none()),
    max_size=25,
)


class HistoryTests(SynchronousTestCase):
    """
    In the end there is what a new host would have of it.
    """

    @given(steps)
    @example([("mishap", (2, "before")), ("express", ONE)])
    @example([("mishap", (2, "after")), ("express", NETWORKS[2])])
    @example([("express", ONE), ("mishap", (1, "kill")), ("somebody", "br100"), ("express", ONE)])
    @example([("express", ONE), ("mishap", (4, "kill")), ("somebody", "br100"), ("express", ONE)])
    @example([("express", ONE), ("mishap", (2, "before")), ("plug", [port(1, "net-1")])])
    @settings(deadline=None, max_examples=100)
    def test_history(self, history):
        """The next verbs mend what went wrong, and nothing of anybody else's was touched."""
        self.world = World(self.mktemp())
        self.started()
        for verb, argument in history:
            note(f"{verb} {argument}")
            own = getattr(self, "do_" + verb, None)
            own(argument) if own else self.do(verb, argument)
        self.world.mishap = None
        self.mended()
        fresh = World(self.mktemp())
        os.makedirs(fresh.directory)
        if os.path.exists(os.path.join(self.world.directory, "network.json")):
            shutil.copy(os.path.join(self.world.directory, "network.json"), fresh.directory)
        found, self.world = self.world, fresh
        self.started()
        self.connect()
        self.assertEqual(found.shape(), fresh.shape())
        self.assertEqual(found.tables.sets, fresh.tables.sets)
        self.assertEqual(found.tables.chains, fresh.tables.chains)
        self.assertEqual(self.served(found), self.served(fresh))
        self.assertEqual(self.files(found), self.files(fresh))

    def started(self):
        """Have another process; one that was killed or refused while it came up is followed by one more."""
        for _ in range(3):
            self.driver = Driver(self.world)
            results = []
            self.driver.start().addBoth(results.append)
            if results == [None]:
                return
        self.fail(f"does not come up: {results}")

    def do(self, verb, argument):
        """Have a verb done; what is killed in it is followed by another process."""
        done = getattr(self.driver, verb)(argument)
        if not done.called:
            self.started()
            return
        results = []
        done.addBoth(results.append)
        if results[0] is not None:
            self.assertIsNotNone(results[0].check(DriverFailure, NotFound), results[0])
        self.connect()

    def do_mishap(self, mishap):
        """Something will go wrong."""
        self.world.mishap = mishap

    def do_somebody(self, name):
        """Somebody else takes something away."""
        if name == "filters":
            self.world.tables = Tables()
        elif self.world.named(name):
            self.world.drop(self.world.named(name).index)

    def do_restart(self, _):
        """The process ends in peace, and there is another."""
        self.driver._leases.let_go()
        self.started()

    def do_wait(self, _):
        """Half a minute goes by."""
        self.driver.clock.advance(VERIFY_SECONDS)

    def connect(self):
        """The guests of today's ports have taps in their bridges, and no others do, as libvirt sees to."""
        wanted = {device_name(each.mac): each for each in self.driver._host.ports.values()}
        for link in list(self.world.links.values()):
            if link.name.startswith("tap") and link.name not in wanted:
                self.world.drop(link.index)
        for name, each in wanted.items():
            bridge = self.world.named(self.driver._host.networks[each.network].bridge)
            if bridge and not self.world.named(name):
                tap = self.world.make(name, "tun")
                self.world.links[tap.index] = attrs.evolve(tap, master=bridge.index)

    def mended(self):
        """Every network is asked for once more, and one that is not there to go."""
        self.driver.clock.advance(VERIFY_SECONDS)
        self.successResultOf(self.driver.retire("net-0"))
        for network in list(self.driver._host.networks.values()):
            self.successResultOf(self.driver.express(network))
        self.connect()

    def served(self, world):
        """What DHCP servers there are, on which bridges."""
        names = {index: link.name for index, link in world.links.items()}
        return {
            network: (
                names.get(index),
                [each.replace(os.path.abspath(world.directory), "") for each in arguments],
                *texts,
            )
            for network, (index, arguments, *texts) in world.servers.items()
        }

    def files(self, world):
        """What is left in the directory of leases; an empty file says as much as none."""
        directory = os.path.join(world.directory, "dhcp")
        names = os.listdir(directory) if os.path.exists(directory) else []
        return {name: text(os.path.join(directory, name)) for name in names if text(os.path.join(directory, name))}
