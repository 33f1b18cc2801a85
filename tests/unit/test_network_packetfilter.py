"""
The packet filters that are applied follow those that are wanted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import DriverFailure
from fabric.network.linux.conntrack import Conntrack, Side, forgotten, parted
from fabric.network.linux.nft import Nft
from fabric.network.linux.packetfilter import PacketFilter
from fabric.network.linux.ruleset import Outside, ruleset
from fabric.network.linux.tables import change, none, presence, whole
from fabric.testing.hostnetworks import crowd, joined

OUTSIDE = Outside("eth0")
FEW = crowd(2)
MORE = joined(FEW, [2])
MOST = joined(MORE, [3])


class Transactions:
    """
    Takes texts as nft does.

    @ivar texts: what was given.
    @ivar answers: what comes of the next ones; success when none is left.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.answers: list[Deferred[None]] = []
        self.checked: list[str] = []

    def apply(self, text: str) -> Deferred[None]:
        """Take one."""
        self.texts.append(text)
        return self.answers.pop(0) if self.answers else succeed(None)

    def check(self, text: str) -> Deferred[None]:
        """Whether one could be taken."""
        self.checked.append(text)
        return self.answers.pop(0) if self.answers else succeed(None)


class Flows:
    """Remembers whose flows were to end."""

    def __init__(self) -> None:
        self.ended: list[Side] = []

    def forget(self, addresses: Iterable[Side]) -> Deferred[None]:
        """End these."""
        self.ended += addresses
        return succeed(None)


def began(address: str) -> list[Side]:
    """The flows of a port."""
    return [(address, "--orig-src"), (address, "--reply-src")]


def led(address: str) -> list[Side]:
    """The flows of a floating address."""
    return [(address, "--orig-dst"), (address, "--reply-dst")]


class PacketFilterTests(SynchronousTestCase):
    """L{PacketFilter}."""

    def setUp(self) -> None:
        """One that has applied nothing."""
        self.nft = Transactions()
        self.flows = Flows()
        self.filter = PacketFilter(cast(Nft, self.nft), OUTSIDE, cast(Conntrack, self.flows))
        self.few = ruleset(FEW, OUTSIDE)
        self.more = ruleset(MORE, OUTSIDE, self.few)

    def refuse(self) -> None:
        """Have the next text refused."""
        self.nft.answers.append(fail(DriverFailure(what="refused")))

    def test_first_whole(self) -> None:
        """The first time everything is loaded, whatever was there."""
        self.successResultOf(self.filter.apply(FEW))
        self.assertEqual(self.nft.texts, [whole(self.few)])

    def test_then_change(self) -> None:
        """After that only what changes, and nothing for nothing."""
        self.successResultOf(self.filter.apply(FEW))
        self.successResultOf(self.filter.apply(MORE))
        self.successResultOf(self.filter.apply(MORE))
        self.successResultOf(self.filter.apply(attrs.evolve(MORE)))
        self.assertEqual(self.nft.texts[1:], [change(self.few, self.more)])

    def test_change_refused(self) -> None:
        """When a change is refused, everything is loaded."""
        self.successResultOf(self.filter.apply(FEW))
        self.refuse()
        self.successResultOf(self.filter.apply(MORE))
        self.assertEqual(self.nft.texts[2], whole(self.more))

    def test_whole_refused(self) -> None:
        """When everything is refused too, the caller knows, and the next time everything is loaded."""
        self.successResultOf(self.filter.apply(FEW))
        self.refuse()
        self.refuse()
        self.failureResultOf(self.filter.apply(MORE), DriverFailure)
        self.successResultOf(self.filter.apply(MORE))
        self.assertEqual(self.nft.texts[3], whole(self.more))

    def test_at_once(self) -> None:
        """What is wanted while a transaction is under way comes in one more."""
        first: Deferred[None] = Deferred()
        self.nft.answers.append(first)
        results = [self.filter.apply(host) for host in (FEW, MORE, MOST)]
        for result in results:
            self.assertNoResult(result)
        first.callback(None)
        for result in results:
            self.successResultOf(result)
        self.assertEqual(len(self.nft.texts), 2)

    def test_removed(self) -> None:
        """After removing, everything is loaded again."""
        self.successResultOf(self.filter.apply(FEW))
        self.successResultOf(self.filter.remove())
        self.successResultOf(self.filter.apply(FEW))
        self.assertEqual(self.nft.texts[1:], [none(), whole(self.few)])

    def test_verified(self) -> None:
        """What somebody removed is loaded again; nothing before the first time, and nothing when all is well."""
        self.successResultOf(self.filter.verify())
        self.assertEqual(self.nft.checked, [])
        self.successResultOf(self.filter.apply(FEW))
        self.successResultOf(self.filter.verify())
        self.assertEqual((self.nft.checked, len(self.nft.texts)), ([presence()], 1))
        self.refuse()
        self.successResultOf(self.filter.verify())
        self.assertEqual(self.nft.texts[1:], [whole(self.few)])

    def test_verified_later(self) -> None:
        """What was refused is tried again, and not what was removed."""
        self.refuse()
        self.failureResultOf(self.filter.apply(FEW), DriverFailure)
        self.successResultOf(self.filter.verify())
        self.assertEqual(self.nft.texts, [whole(self.few)] * 2)
        self.successResultOf(self.filter.remove())
        self.successResultOf(self.filter.verify())
        self.assertEqual(self.nft.texts[2:], [none()])

    def test_flows_end(self) -> None:
        """Flows end once of what a host says, when it is filtered so; whoever removes the filters ends no others."""
        after = parted(MORE, FEW)
        self.assertEqual(after.ending, (*began("10.0.0.4"), *led("203.0.0.4")))
        self.successResultOf(self.filter.apply(after))
        self.assertEqual(self.flows.ended, list(after.ending))
        self.successResultOf(self.filter.apply(after))
        self.refuse()
        self.successResultOf(self.filter.verify())
        self.assertEqual((len(self.nft.texts), self.flows.ended), (2, list(after.ending)))

    def test_flows_end_later(self) -> None:
        """Flows end of what went with a transaction that was refused, when one is taken, by whomever."""
        self.successResultOf(self.filter.apply(MORE))
        self.refuse()
        self.refuse()
        after = parted(MORE, FEW)
        self.failureResultOf(self.filter.apply(after), DriverFailure)
        self.assertEqual(self.flows.ended, [])
        self.successResultOf(self.filter.verify())
        self.assertEqual(self.flows.ended, list(after.ending))

    def test_flows_still_to_end(self) -> None:
        """What was to end and has not is to end with what comes next, each once."""
        after = parted(MORE, FEW)
        self.assertEqual(parted(after, attrs.evolve(after, floating={})).ending[: len(after.ending)], after.ending)
        self.assertEqual(len(parted(attrs.evolve(MORE, ending=after.ending), FEW).ending), len(after.ending))
        self.assertIs(parted(after, after), after)

    def test_flows_stay(self) -> None:
        """Flows stay of what stays, also when its groups or its floating address's order change."""
        [port, _] = FEW.ports.values()
        [floating, _] = FEW.floating.values()
        after = attrs.evolve(
            FEW,
            ports=FEW.ports | {port.mac: attrs.evolve(port, groups=())},
            floating=FEW.floating | {floating.public: attrs.evolve(floating, order=7)},
        )
        self.assertEqual(forgotten(FEW, after), [])

    def test_flows_moved(self) -> None:
        """Flows end of a floating address that leads elsewhere, and of an address that another port has."""
        [port, _] = FEW.ports.values()
        [floating, _] = FEW.floating.values()
        other = attrs.evolve(port, mac="02:00:00:00:00:99")
        ports = {mac: each for mac, each in FEW.ports.items() if mac != port.mac} | {other.mac: other}
        floated = FEW.floating | {floating.public: attrs.evolve(floating, private="10.0.0.99")}
        after = attrs.evolve(FEW, ports=ports, floating=floated)
        self.assertEqual(forgotten(FEW, after), [*began(port.address), *led(floating.public)])
