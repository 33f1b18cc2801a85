"""
Tests for L{fabric.network.linux.driver} over parts that only remember.
"""

from __future__ import annotations

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, inlineCallbacks, succeed
from twisted.trial.unittest import TestCase

from fabric.errors import DriverFailure, NotFound
from fabric.faults import NoFaults
from fabric.network.groups import HostGroups
from fabric.network.interface import device_name
from fabric.network.linux.driver import LinuxNetwork
from fabric.network.linux.plan import bridge
from fabric.testing.network import NETWORK, OTHER, PEERS, WEB, floating, plug

DHCP = attrs.evolve(NETWORK, manager="flatdhcp")


class Parts:
    """
    Links, DHCP and filters that remember; each fails while C{broken} has its
    name, or that of a bridge.
    """

    def __init__(self):
        self.broken = set()
        self.bridges = {}
        self.unsound = set()
        self.joined = {}
        self.served = {}
        self.restarted = []
        self.filtered = []
        self.answers = []
        self.held = None

    def open(self, v6):
        """As links."""
        if "open" in self.broken:
            raise DriverFailure("no")

    def close(self):
        """As links."""

    def made(self):
        """As links."""
        return {}

    def ensure(self, *arguments):
        """As links or as leases."""
        return self.serve(*arguments) if len(arguments) > 1 else self.link(*arguments)

    def link(self, wanted):
        """Have a bridge."""
        if wanted.name in self.broken:
            raise DriverFailure(f"{wanted.name} is broken")
        new = wanted.network not in self.bridges
        self.bridges[wanted.network] = wanted
        if "uplink" in self.broken:
            raise DriverFailure("there is no uplink")
        self.unsound.discard(wanted.network)
        return new

    def finish(self, wanted):
        """As links."""

    def join(self, wanted, taps):
        """As links."""
        self.joined[wanted.network] = list(taps)

    def intact(self, wanted):
        """As links."""
        return wanted.network not in self.unsound

    def serve(self, networks, ports, anew, in_thread):
        """Have DHCP."""
        failures = {}
        for network in networks:
            if "dhcp" in self.broken:
                failures[network.id] = DriverFailure("no dnsmasq")
            else:
                self.served[network.id] = sorted(port.mac for port in ports if port.network == network.id)
                self.restarted += [network.id] if network.id in anew else []
        return succeed(failures)

    def remove(self, network):
        """As links and as leases."""
        if "links" in self.broken:
            raise DriverFailure("the kernel says no")
        self.bridges.pop(network, None)
        self.served.pop(network, None)

    def left(self):
        """As leases."""
        return []

    def let_go(self):
        """As leases."""

    def answer_for(self, device, addresses):
        """As links."""
        self.answers.append((device, sorted(addresses)))

    def verify(self):
        """As filters."""
        return succeed(None)

    def apply(self, host):
        """As filters."""
        if "filters" in self.broken:
            return fail(DriverFailure("nft says no"))
        self.filtered.append(host)
        if self.held is not None:
            return self.held
        return succeed(None)


class LeasesOf:
    """The part of L{Parts} that is DHCP: C{remove} is a Deferred's there."""

    def __init__(self, parts):
        self.ensure, self.left, self.let_go = parts.serve, parts.left, parts.let_go
        self._parts = parts

    def remove(self, network):
        """Have none."""
        if "files" in self._parts.broken:
            return fail(OSError(13, "Permission denied"))
        return succeed(self._parts.served.pop(network, None))


class DriverTests(TestCase):
    """
    Order, company and failure of verbs.
    """

    timeout = 20

    @inlineCallbacks
    def setUp(self):
        """Have a driver."""
        self.parts = Parts()
        self.driver = self.made(self.mktemp())
        yield self.driver.start()
        self.addCleanup(lambda: self.driver.stop())

    def made(self, directory, **options):
        """A driver over a directory."""
        return LinuxNetwork(directory, reactor, self.parts, LeasesOf(self.parts), self.parts, **options)

    @inlineCallbacks
    def test_together(self):
        """Fifty launches at once are two changes of the filters, not fifty."""
        yield self.driver.express(DHCP)
        before = len(self.parts.filtered)
        self.parts.held = Deferred()
        verbs = [self.driver.plug([plug(number)]) for number in range(1, 51)]
        while len(self.parts.filtered) == before:
            yield self.turn()
        self.parts.held, held = None, self.parts.held
        held.callback(None)
        yield gatherResults(verbs)
        self.assertLessEqual(len(self.parts.filtered) - before, 2)
        self.assertEqual(len(self.parts.served[DHCP.id]), 50)

    def turn(self):
        """A turn of the reactor."""
        turned = Deferred()
        reactor.callLater(0, turned.callback, None)
        return turned

    @inlineCallbacks
    def test_repeated(self):
        """What is so already costs the filters nothing."""
        yield self.driver.express(DHCP)
        yield self.driver.plug([plug(1)])
        before = len(self.parts.filtered)
        for _ in range(3):
            yield self.driver.express(DHCP)
            yield self.driver.plug([plug(1)])
        self.assertEqual(len(self.parts.filtered), before)

    @inlineCallbacks
    def test_each_its_own(self):
        """Of verbs that are done together only the one that can't be fails."""
        verbs = [self.driver.express(NETWORK), self.driver.plug([plug(1, OTHER)]), self.driver.plug([plug(2)])]
        yield verbs[0]
        yield self.assertFailure(verbs[1], NotFound)
        yield verbs[2]
        self.assertEqual((yield self.driver.ports()), [plug(2)])

    @inlineCallbacks
    def test_refused_bridge(self):
        """A network whose bridge can't be had is not there, and is in nobody's way."""
        self.parts.broken.add(OTHER.bridge)
        good, bad = self.driver.express(NETWORK), self.driver.express(OTHER)
        yield good
        yield self.assertFailure(bad, DriverFailure)
        self.assertEqual((yield self.driver.networks()), [NETWORK])
        yield self.driver.plug([plug(1)])
        yield self.assertFailure(self.driver.plug([plug(1, OTHER)]), NotFound)
        self.parts.broken.clear()
        yield self.driver.express(OTHER)
        self.assertEqual(set(self.parts.bridges), {NETWORK.id, OTHER.id})

    @inlineCallbacks
    def test_refused_change(self):
        """A network that can't be had as it is wanted now is as it was, with its ports."""
        yield self.driver.express(DHCP)
        yield self.driver.plug([plug(1)])
        self.parts.broken.add("br-new")
        yield self.assertFailure(self.driver.express(attrs.evolve(DHCP, bridge="br-new")), DriverFailure)
        self.assertEqual((yield self.driver.networks()), [DHCP])
        self.assertEqual(self.parts.bridges[DHCP.id], bridge(DHCP, self.driver._uplinks))
        self.assertEqual((yield self.driver.ports()), [plug(1)])

    @inlineCallbacks
    def test_senseless(self):
        """An order that no host can carry out fails, and changes nothing."""
        yield self.assertFailure(self.driver.express(attrs.evolve(NETWORK, bridge="a/b")), DriverFailure)
        self.assertEqual((yield self.driver.networks()), [])

    @inlineCallbacks
    def test_no_dhcp(self):
        """Where DHCP can't be had the launch fails, and succeeds when it can again."""
        self.parts.broken.add("dhcp")
        yield self.assertFailure(self.driver.express(DHCP), DriverFailure)
        self.parts.broken.clear()
        yield self.driver.express(DHCP)
        self.parts.broken.add("dhcp")
        yield self.assertFailure(self.driver.plug([plug(1)]), DriverFailure)
        self.parts.broken.clear()
        yield self.driver.plug([plug(1)])
        self.assertEqual(self.parts.served[DHCP.id], [plug(1).mac])

    @inlineCallbacks
    def test_no_filters(self):
        """What was not filtered has failed, and is filtered when it is repeated, though state is the same."""
        yield self.driver.express(NETWORK)
        self.parts.broken.add("filters")
        yield self.assertFailure(self.driver.plug([plug(1)]), DriverFailure)
        self.parts.broken.clear()
        yield self.driver.plug([plug(1)])
        self.assertEqual(list(self.parts.filtered[-1].ports.values()), [plug(1)])

    @inlineCallbacks
    def test_no_filters_for_groups(self):
        """An order about groups that was not enforced has not succeeded when it comes again, until it is."""
        groups = HostGroups(self.driver, NoFaults())
        yield self.driver.express(NETWORK)
        yield self.driver.plug([plug(1)])
        self.parts.broken.add("filters")
        for _ in range(2):
            yield self.assertFailure(groups.apply([WEB], 0, "r"), DriverFailure)
            yield self.assertFailure(groups.regroup({plug(1).instance: (5, (WEB.id,))}, "r"), DriverFailure)
        self.parts.broken.clear()
        yield groups.apply([WEB], 0, "r")
        self.assertEqual(list(self.parts.filtered[-1].groups), [WEB.id])

    @inlineCallbacks
    def test_torn_down(self):
        """A bridge that is no longer sound is made again when it is next expressed."""
        yield self.driver.express(NETWORK)
        self.parts.unsound.add(NETWORK.id)
        yield self.driver.express(NETWORK)
        self.assertEqual(self.parts.unsound, set())

    @inlineCallbacks
    def tear_down(self):
        """Have a bridge with a port, and then none."""
        yield self.driver.express(DHCP)
        yield self.driver.plug([plug(1)])
        self.parts.bridges.clear()
        self.parts.unsound.add(DHCP.id)
        self.parts.joined.clear()
        self.parts.restarted.clear()

    @inlineCallbacks
    def assert_connected(self):
        """Once it can be had, the bridge that is made in place of another has its taps and a DHCP server of its own."""
        self.parts.broken.clear()
        for _ in range(2):
            yield self.driver.express(DHCP)
        self.assertIn(device_name(plug(1).mac), self.parts.joined[DHCP.id])
        self.assertEqual(self.parts.restarted, [DHCP.id])

    @inlineCallbacks
    def test_torn_down_without_uplink(self):
        """A bridge that was made again in two tries has its guests again, and DHCP."""
        yield self.tear_down()
        self.parts.broken.add("uplink")
        yield self.assertFailure(self.driver.express(DHCP), DriverFailure)
        yield self.assert_connected()

    @inlineCallbacks
    def test_torn_down_without_filters(self):
        """A bridge that was made again before something else failed has DHCP when that is mended."""
        for part in ("filters", "dhcp"):
            yield self.tear_down()
            self.parts.broken.add(part)
            yield self.assertFailure(
                gatherResults([self.driver.express(DHCP), self.driver.plug([plug(2)])], consumeErrors=True), FirstError
            )
            self.parts.broken.clear()
            yield self.driver.unplug([plug(2).instance])
            yield self.assert_connected()

    @inlineCallbacks
    def test_killed_before_joining(self):
        """The next process connects guests to a bridge that the last one had just made."""
        directory = self.mktemp()
        first = self.made(directory)
        yield first.start()
        yield first.express(DHCP)
        yield first.plug([plug(1)])
        yield first.stop()
        self.parts.joined.clear()
        second = self.made(directory)
        yield second.start()
        yield second.stop()
        self.assertEqual(self.parts.joined, {DHCP.id: [device_name(plug(1).mac)]})

    @inlineCallbacks
    def test_restarted(self):
        """The next process has everything made, before it takes orders."""
        directory = self.mktemp()
        first = self.made(directory)
        yield first.start()
        yield first.express(DHCP)
        yield first.plug([plug(1)])
        yield first.apply_groups([WEB, PEERS])
        yield first.associate([floating(1)])
        yield first.stop()
        self.parts.__init__()
        second = self.made(directory, public_interface="pub0")
        yield second.start()
        yield second.stop()
        self.assertEqual(set(self.parts.bridges), {DHCP.id})
        self.assertEqual(self.parts.served, {DHCP.id: [plug(1).mac]})
        self.assertEqual(list(self.parts.filtered[-1].groups), [WEB.id, PEERS.id])
        self.assertEqual(self.parts.answers, [("pub0", [floating(1).public])])

    @inlineCallbacks
    def test_answers_first_and_last(self):
        """The host has a floating address only while that leads somewhere: from after the filters to before them."""
        driver = self.made(self.mktemp(), public_interface="pub0")
        yield driver.start()
        self.addCleanup(driver.stop)
        yield driver.associate([floating(1)])
        self.parts.broken.add("filters")
        yield self.assertFailure(driver.associate([floating(2)]), DriverFailure)
        self.assertEqual(self.parts.answers[-1], ("pub0", [floating(1).public]))
        yield self.assertFailure(driver.disassociate([floating(1).public]), DriverFailure)
        self.assertEqual(self.parts.answers[-1], ("pub0", []))

    @inlineCallbacks
    def test_not_removed(self):
        """A network that can't be taken away keeps no other from anything, and goes when it can."""
        for part in ("files", "links"):
            yield self.driver.express(DHCP)
            yield self.driver.express(OTHER)
            self.parts.broken.add(part)
            yield self.assertFailure(self.driver.retire(OTHER.id), DriverFailure)
            yield self.driver.plug([plug(1)])
            self.assertEqual((yield self.driver.networks()), [DHCP])
            self.assertIn(OTHER.id, self.parts.bridges)
            self.parts.broken.clear()
            yield self.driver.unplug([plug(1).instance])
            self.assertEqual(set(self.parts.bridges), {DHCP.id})

    @inlineCallbacks
    def test_left_over_stays(self):
        """What an earlier process left, and that can't be taken away, keeps no other from starting."""
        self.parts.made = lambda: {OTHER.id: []}
        self.parts.broken.add("links")
        driver = self.made(self.mktemp())
        yield driver.start()
        self.addCleanup(driver.stop)
        yield driver.express(DHCP)

    @inlineCallbacks
    def test_killed_before_flows_ended(self):
        """The next process ends the flows of addresses that went, and the one after that does so no more."""
        directory = self.mktemp()
        killed = self.made(directory)
        yield killed.start()
        yield killed.express(NETWORK)
        yield killed.plug([plug(1), plug(2)])
        self.parts.held = held = Deferred()
        self.addCleanup(killed.stop)
        self.addCleanup(held.callback, None)
        killed.unplug([plug(1).instance])
        while self.parts.filtered[-1].ports.keys() != {plug(2).mac}:
            yield self.turn()
        self.parts.held = None
        ends = []
        for _ in range(2):
            following = self.made(directory)
            yield following.start()
            yield following.stop()
            ends.append({address for address, side in self.parts.filtered[-1].ending})
        self.assertEqual(ends, [{plug(1).address}, set()])

    @inlineCallbacks
    def test_flows_end_once(self):
        """Flows of an address that another has at once end with the old ones, and not with what comes next."""
        yield self.driver.express(NETWORK)
        yield self.driver.associate([floating(1)])
        yield self.driver.associate([attrs.evolve(floating(1), private=floating(2).private)])
        self.assertEqual({address for address, side in self.parts.filtered[-1].ending}, {floating(1).public})
        yield self.driver.associate([floating(3)])
        self.assertEqual(self.parts.filtered[-1].ending, ())

    @inlineCallbacks
    def test_broken_at_start(self):
        """A network that can't be made at the start keeps nobody else's from being made."""
        directory = self.mktemp()
        first = self.made(directory)
        yield first.start()
        yield first.express(NETWORK)
        yield first.express(OTHER)
        yield first.stop()
        self.parts.__init__()
        self.parts.broken.add(NETWORK.bridge)
        second = self.made(directory)
        yield second.start()
        self.assertEqual(set(self.parts.bridges), {OTHER.id})
        self.parts.broken.clear()
        yield second.express(NETWORK)
        self.assertEqual(set(self.parts.bridges), {NETWORK.id, OTHER.id})
        yield second.stop()
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    @inlineCallbacks
    def test_no_kernel(self):
        """A host that can't have networks says so at the start."""
        self.parts.broken.add("open")
        yield self.assertFailure(self.made(self.mktemp()).start(), DriverFailure)

    @inlineCallbacks
    def test_kernel_mended(self):
        """One that could not, and was mended, starts when that is tried again."""
        driver = self.made(self.mktemp())
        self.parts.broken.add("open")
        yield self.assertFailure(driver.start(), DriverFailure)
        self.parts.broken.clear()
        yield driver.start()
        self.addCleanup(driver.stop)
        yield driver.express(NETWORK)
        self.assertIn(NETWORK.id, self.parts.bridges)
