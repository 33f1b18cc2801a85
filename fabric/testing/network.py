"""
The contract of L{INetworkDriver}, as tests that every driver passes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface.verify import verifyObject

from fabric.errors import NotFound
from fabric.network.interface import Floating, GroupOrder, INetworkDriver, NetworkOrder, Plug, RuleOrder

Steps = Generator[Deferred[Any], Any, None]

NETWORK = NetworkOrder("net-00000000000000001", "10.0.0.0/24", "10.0.0.1", bridge="br-test1")
OTHER = NetworkOrder("net-00000000000000002", "10.0.1.0/24", "10.0.1.1", bridge="br-test2")


def plug(number: int, network: NetworkOrder = NETWORK) -> Plug:
    """
    @return: a port of a machine, both made from C{number}.
    """
    address = network.cidr.replace(".0/24", f".{number + 1}")
    mac = f"02:00:00:00:{0 if network.id == NETWORK.id else 1:02x}:{number:02x}"
    return Plug(f"i-{number:017x}", network.id, mac, address, f"host-{number}")


def floating(number: int, order: int = 1) -> Floating:
    """
    @return: a floating address that leads to the port of L{plug}.
    """
    port = plug(number)
    return Floating(f"203.0.113.{number}", port.address, port.instance, port.network, port.mac, order)


WEB = GroupOrder(
    "sg-00000000000000001",
    5,
    (
        RuleOrder(False, "tcp", 80, 81, "0.0.0.0/0"),
        RuleOrder(False, "tcp", 80, 81, "::/0"),
        RuleOrder(False, "icmp", 8, -1, "10.0.0.0/8"),
        RuleOrder(True, "-1", -1, -1, "0.0.0.0/0"),
        RuleOrder(False, "udp", 53, 53, group="sg-00000000000000002"),
        RuleOrder(False, "47", -1, -1, group="sg-00000000000000003"),
    ),
)
"""A group's rules, one of each sort; it is about L{PEERS} and about a group that is not known."""

PEERS = GroupOrder("sg-00000000000000002", members_order=7, addresses=("10.0.0.2", "10.0.0.3"))
"""A group's members."""


class NetworkDriverContract:
    """
    Mix with L{twisted.trial.unittest.TestCase} and say how a driver is made.
    """

    driver: INetworkDriver

    def make_driver(self) -> INetworkDriver:
        """
        @return: a driver that is not started, over this test's one place:
            called again, it gives one that finds what the first left.
        """
        raise NotImplementedError

    def lose_reply(self, driver: INetworkDriver, verb: str) -> None:
        """
        Have the driver do C{verb} once without an answer.  Where that can't be
        had, do nothing: then the verb is merely repeated.
        """

    @inlineCallbacks
    def setUp(self) -> Steps:
        """Start a driver."""
        self.driver = self.make_driver()
        yield self.driver.start()
        self.addCleanup(lambda: self.driver.stop())  # type: ignore[attr-defined]

    @inlineCallbacks
    def assertPorts(self, *expected: Plug) -> Steps:
        """These ports are plugged and no others."""
        ports = yield self.driver.ports()
        self.assertEqual(sorted(ports, key=_key), sorted(expected, key=_key))  # type: ignore[attr-defined]

    @inlineCallbacks
    def assertNetworks(self, *expected: NetworkOrder) -> Steps:
        """These networks are expressed and no others."""
        networks = yield self.driver.networks()
        self.assertEqual(sorted(networks, key=lambda n: str(n.id)), list(expected))  # type: ignore[attr-defined]

    def test_interface(self) -> None:
        """The driver provides INetworkDriver."""
        verifyObject(INetworkDriver, self.driver)

    @inlineCallbacks
    def test_express(self) -> Steps:
        """A network that was expressed is there; twice is as once."""
        for _ in range(2):
            yield self.driver.express(NETWORK)
            yield self.assertNetworks(NETWORK)
        yield self.driver.express(OTHER)
        yield self.assertNetworks(NETWORK, OTHER)

    @inlineCallbacks
    def test_express_changed(self) -> Steps:
        """A network expressed differently is changed, and keeps its ports."""
        changed = attrs.evolve(NETWORK, gateway="10.0.0.254")
        yield self.driver.express(NETWORK)
        yield self.driver.plug([plug(1)])
        yield self.driver.express(changed)
        yield self.assertNetworks(changed)
        yield self.assertPorts(plug(1))

    @inlineCallbacks
    def test_plug(self) -> Steps:
        """Ports that were plugged are there; twice is as once."""
        yield self.driver.express(NETWORK)
        for _ in range(2):
            yield self.driver.plug([plug(1), plug(2)])
            yield self.assertPorts(plug(1), plug(2))

    @inlineCallbacks
    def test_plug_nothing(self) -> Steps:
        """Plugging and unplugging nothing is nothing."""
        yield self.driver.plug([])
        yield self.driver.unplug([])
        yield self.assertPorts()

    @inlineCallbacks
    def test_plug_changed(self) -> Steps:
        """A port plugged with another address or MAC is changed."""
        yield self.driver.express(NETWORK)
        yield self.driver.plug([plug(1), plug(2)])
        changed = attrs.evolve(plug(1), address="10.0.0.99", mac="02:00:00:00:00:99")
        yield self.driver.plug([changed])
        yield self.assertPorts(changed, plug(2))

    @inlineCallbacks
    def test_plug_two_networks(self) -> Steps:
        """A machine may have a port on each network."""
        yield self.driver.express(NETWORK)
        yield self.driver.express(OTHER)
        yield self.driver.plug([plug(1), plug(1, OTHER)])
        yield self.assertPorts(plug(1), plug(1, OTHER))

    @inlineCallbacks
    def test_plug_unknown_network(self) -> Steps:
        """Plugging into a network that is not there is NotFound, and plugs none of the ports."""
        yield self.driver.express(NETWORK)
        yield self.assertFailure(self.driver.plug([plug(1), plug(1, OTHER)]), NotFound)  # type: ignore[attr-defined]
        yield self.assertPorts()

    @inlineCallbacks
    def test_unplug(self) -> Steps:
        """All ports of an instance that was unplugged are gone; others stay; twice is as once."""
        yield self.driver.express(NETWORK)
        yield self.driver.express(OTHER)
        yield self.driver.plug([plug(1), plug(1, OTHER), plug(2)])
        for _ in range(2):
            yield self.driver.unplug([plug(1).instance, "i-00000000000000099"])
            yield self.assertPorts(plug(2))

    @inlineCallbacks
    def test_retire(self) -> Steps:
        """A network that was retired is gone with its ports; others stay; twice is as once."""
        yield self.driver.express(NETWORK)
        yield self.driver.express(OTHER)
        yield self.driver.plug([plug(1), plug(1, OTHER), plug(2)])
        for _ in range(2):
            yield self.driver.retire(NETWORK.id)
            yield self.assertNetworks(OTHER)
            yield self.assertPorts(plug(1, OTHER))

    @inlineCallbacks
    def assertFloating(self, *expected: Floating) -> Steps:
        """These floating addresses are here and no others."""
        found = yield self.driver.floating()
        self.assertEqual(sorted(found, key=lambda f: str(f.public)), list(expected))  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_associate(self) -> Steps:
        """A floating address leads where it was last told to; twice is as once."""
        yield self.driver.express(NETWORK)
        yield self.driver.plug([plug(1), plug(2)])
        for _ in range(2):
            yield self.driver.associate([floating(1), floating(2)])
            yield self.assertFloating(floating(1), floating(2))
        moved = attrs.evolve(floating(2, 2), public=floating(1).public)
        yield self.driver.associate([moved])
        yield self.assertFloating(moved, floating(2))
        yield self.assertPorts(plug(1), plug(2))

    @inlineCallbacks
    def test_associate_before_plug(self) -> Steps:
        """A floating address may come before its port, and stays when the port goes."""
        yield self.driver.associate([floating(1)])
        yield self.driver.express(NETWORK)
        yield self.driver.plug([plug(1)])
        yield self.driver.unplug([plug(1).instance])
        yield self.assertFloating(floating(1))

    @inlineCallbacks
    def test_disassociate(self) -> Steps:
        """A floating address that was taken away is gone; others stay; twice is as once."""
        yield self.driver.express(NETWORK)
        yield self.driver.associate([floating(1), floating(2)])
        for _ in range(2):
            yield self.driver.disassociate([floating(1).public, "203.0.113.99"])
            yield self.assertFloating(floating(2))
        yield self.driver.associate([])
        yield self.driver.disassociate([])
        yield self.assertFloating(floating(2))

    @inlineCallbacks
    def assertGroups(self, *expected: GroupOrder) -> Steps:
        """These security groups are here and no others."""
        found = yield self.driver.groups()
        self.assertEqual(sorted(found, key=lambda g: str(g.id)), list(expected))  # type: ignore[attr-defined]

    @inlineCallbacks
    def test_apply_groups(self) -> Steps:
        """The groups are those that were applied last; twice is as once; ports stay."""
        yield self.assertGroups()
        yield self.driver.express(NETWORK)
        yield self.driver.plug([attrs.evolve(plug(1), groups=(WEB.id,)), plug(2)])
        for _ in range(2):
            yield self.driver.apply_groups([WEB, PEERS])
            yield self.assertGroups(WEB, PEERS)
        changed = attrs.evolve(WEB, rules_order=6, rules=WEB.rules[:1])
        more = attrs.evolve(PEERS, members_order=8, addresses=())
        yield self.driver.apply_groups([more, changed])
        yield self.assertGroups(changed, more)
        yield self.driver.apply_groups([PEERS])
        yield self.assertGroups(PEERS)
        yield self.driver.apply_groups([])
        yield self.assertGroups()
        yield self.assertPorts(attrs.evolve(plug(1), groups=(WEB.id,)), plug(2))

    @inlineCallbacks
    def test_groups_of_ports(self) -> Steps:
        """A port is in the groups that it was last plugged with, known here or not."""
        yield self.driver.express(NETWORK)
        yield self.driver.apply_groups([WEB])
        for groups in ((WEB.id,), ("sg-00000000000000009", WEB.id), ()):
            port = attrs.evolve(plug(1), groups=groups, groups_order=len(groups))
            yield self.driver.plug([port])
            yield self.assertPorts(port)

    @inlineCallbacks
    def test_restart(self) -> Steps:
        """A driver finds what another one left, stopped properly or not."""
        yield self.driver.express(NETWORK)
        yield self.driver.plug([plug(1), plug(2)])
        yield self.driver.associate([floating(1), floating(2)])
        yield self.driver.stop()
        self.driver = self.make_driver()
        yield self.driver.start()
        yield self.driver.unplug([plug(2).instance])
        yield self.driver.apply_groups([WEB, PEERS])
        self.addCleanup(self.driver.stop)  # type: ignore[attr-defined]
        self.driver = self.make_driver()
        yield self.driver.start()
        yield self.assertNetworks(NETWORK)
        yield self.assertPorts(plug(1))
        yield self.assertFloating(floating(1), floating(2))
        yield self.assertGroups(WEB, PEERS)

    @inlineCallbacks
    def test_lost_reply(self) -> Steps:
        """Each verb is repeated safely after its answer was lost."""
        for verb, act, ports in (
            ("express", lambda: self.driver.express(NETWORK), []),
            ("plug", lambda: self.driver.plug([plug(1)]), [plug(1)]),
            ("associate", lambda: self.driver.associate([floating(1)]), [plug(1)]),
            ("disassociate", lambda: self.driver.disassociate([floating(1).public]), [plug(1)]),
            ("apply_groups", lambda: self.driver.apply_groups([WEB]), [plug(1)]),
            ("unplug", lambda: self.driver.unplug([plug(1).instance]), []),
            ("retire", lambda: self.driver.retire(NETWORK.id), []),
        ):
            self.lose_reply(self.driver, verb)
            yield act().addErrback(lambda failure: None)
            yield act()
            yield self.assertPorts(*ports)
        yield self.assertNetworks()
        yield self.assertGroups(WEB)


def _key(port: Plug) -> tuple[str, str]:
    return port.instance, port.network
