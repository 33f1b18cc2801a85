"""
The scheduler's algorithms, and its worker over a placement that it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from fabric.faults import NoFaults
from fabric.model.flavor import Flavor
from fabric.model.host import Capacity
from fabric.model.placement_group import Membership
from fabric.rpc.interface import Context
from fabric.scheduler.algorithms import ALGORITHMS, Room, fits, told
from fabric.scheduler.groups import NOBODY
from fabric.scheduler.interface import Claimed, HostView, IPlacement, ISchedulerWorker, Wanted
from fabric.scheduler.rooms import Rooms
from fabric.scheduler.worker import SchedulerWorker

TINY = Flavor("tiny", 1, 512, 1)


def host(name: str, vcpus: int = 4, used: int = 0, zone: str = "nova", **changes: bool) -> HostView:
    """A host with so many processors, some of them promised."""
    load = {"vcpus": used, "memory_mb": used * 512, "disk_gb": used, "instances": used}
    return HostView(name, zone, Capacity(vcpus, vcpus * 512, vcpus), load, **changes)


@implementer(IPlacement)
class Placement:
    """
    Placement over a list of hosts, which refuses claims on those in C{full}.
    """

    def __init__(self, hosts: list[HostView], pending: list[str], flavor: Flavor = TINY, zone: str = "") -> None:
        self.host_views = hosts
        self.pending = {id: Wanted(id, flavor, zone) for id in pending}
        self.full: set[str] = set()
        self.groups: dict[str, dict[str, dict[int, int]]] = {}
        self.placed: dict[str, str] = {}
        self.refused: dict[str, Mapping[str, str]] = {}
        self.refusals: list[Sequence[str]] = []
        self.offered: list[str] = []

    def wanted(self, ids: Sequence[str]) -> Deferred[list[Wanted]]:
        """Those that are not placed."""
        return succeed([self.pending[id] for id in ids if id in self.pending])

    def hosts(self) -> Deferred[list[HostView]]:
        """All of them."""
        return succeed(self.host_views)

    def members(
        self, groups: Sequence[Membership], hosts: Sequence[str]
    ) -> Deferred[dict[str, dict[str, dict[int, int]]]]:
        """As was told."""
        return succeed({group.group: self.groups.get(group.group, {}) for group in groups})

    def claim(self, request_id: str, choice: Mapping[str, Sequence[str]]) -> Deferred[Claimed]:
        """Place on hosts that are not full; a full one is seen as such afterwards."""
        full, placed = {}, []
        for name, ids in choice.items():
            if name in self.full:
                full[name] = "full"
                self.host_views = [view for view in self.host_views if view.name != name] + [host(name, 4, 4)]
                continue
            for id in ids:
                self.placed[id] = name
                placed.append(id)
        return succeed(Claimed(placed, full))

    def refuse(self, request_id: str, ids: Sequence[str], reasons: Mapping[str, str]) -> Deferred[None]:
        """Note the reasons."""
        self.refusals.append(ids)
        self.refused.update((id, reasons) for id in ids)
        return succeed(None)

    def offer(self, request_id: str, ids: Sequence[str]) -> Deferred[None]:
        """Note them."""
        self.offered += ids
        return succeed(None)


class AlgorithmTests(SynchronousTestCase):
    """
    Each algorithm by itself.
    """

    def test_simple_takes_the_least_loaded(self) -> None:
        """C{simple} chooses the host with the most processors left."""
        rooms = [Room.of(host("a", used=3)), Room.of(host("b", used=1)), Room.of(host("c", used=2))]
        self.assertEqual(ALGORITHMS["simple"](Wanted("i", TINY), rooms).name, "b")

    def test_zone_spreads(self) -> None:
        """C{zone} chooses from the zone with the fewest instances."""
        rooms = [
            Room.of(host("a", used=1, zone="x")),
            Room.of(host("b", used=2, zone="y")),
            Room.of(host("c", zone="x")),
        ]
        self.assertEqual(ALGORITHMS["zone"](Wanted("i", TINY), rooms).name, "c")

    def test_chance_takes_one_of_those_given(self) -> None:
        """C{chance} chooses among the hosts that fit."""
        rooms = [Room.of(host("a")), Room.of(host("b"))]
        self.assertIn(ALGORITHMS["chance"](Wanted("i", TINY), rooms), rooms)

    def test_reasons(self) -> None:
        """A host that is no choice says why."""
        wanted = Wanted("i", TINY, "nova")
        for view, word in (
            (host("a", alive=False), "alive"),
            (host("a", disabled=True), "disabled"),
            (host("a", zone="x"), "zone"),
            (host("a", used=4), "vcpus"),
        ):
            self.assertIn(word, fits(wanted, view, Room.of(view)))
        good = host("a")
        self.assertEqual(fits(wanted, good, Room.of(good)), "")

    def test_gpus(self) -> None:
        """GPUs are taken from a host as they are promised, and asked of it only by who wants some."""
        wanted = Wanted("i", attrs.evolve(TINY, gpus=1))
        plain = host("a")
        equipped = attrs.evolve(plain, capacity=attrs.evolve(plain.capacity, gpus=2), load={"gpus": 1})
        self.assertEqual(fits(wanted, plain, Room.of(plain)), "0 GPUs free, 1 wanted")
        room = Room.of(equipped)
        self.assertEqual(fits(wanted, equipped, room), "")
        room.take(wanted)
        self.assertEqual(fits(wanted, equipped, room), "0 GPUs free, 1 wanted")
        lost = attrs.evolve(plain, load={"gpus": 1})
        self.assertEqual(fits(Wanted("i", TINY), lost, Room.of(lost)), "")

    def test_features(self) -> None:
        """A type that requires something goes to hosts that have it."""
        wanted = Wanted("i", attrs.evolve(TINY, requires=("avx2", "gpu")))
        plain = host("a")
        equipped = attrs.evolve(plain, capacity=attrs.evolve(plain.capacity, features=("aes", "avx2", "gpu")))
        self.assertEqual(fits(wanted, plain, Room.of(plain)), "has no avx2, gpu")
        self.assertEqual(fits(wanted, equipped, Room.of(equipped)), "")


class Walked(list[HostView]):
    """
    Hosts that count how often all of them are looked at.
    """

    walks = 0

    def __iter__(self) -> Iterator[HostView]:
        self.walks += 1
        return super().__iter__()


class RoomsTests(SynchronousTestCase):
    """
    L{Rooms}.
    """

    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.tuples(st.integers(0, 4), st.sampled_from("xy"), st.booleans()), max_size=6),
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from(("", "x", "y")), st.integers(0, 9)), max_size=12),
    )
    def test_fitting(self, hosts: list[tuple[int, str, bool]], wishes: list[tuple[int, str, int]]) -> None:
        """Whatever was promised since, those rooms fit that would if each host were looked at again; others say why."""
        views = [host(f"h{n}", 4, used, zone, alive=alive) for n, (used, zone, alive) in enumerate(hosts)]
        rooms, left = Rooms(views), {view.name: Room.of(view) for view in views}
        for vcpus, zone, which in wishes:
            wanted = Wanted("i", attrs.evolve(TINY, vcpus=vcpus), zone)
            fitting = rooms.fitting(wanted, NOBODY)
            self.assertEqual(fitting, [left[view.name] for view in views if not fits(wanted, view, left[view.name])])
            others = {view.name for view in views} - {room.name for room in fitting}
            self.assertEqual(rooms.reasons(wanted, NOBODY).keys(), others)
            if fitting:
                chosen = fitting[which % len(fitting)]
                rooms.take(wanted, chosen)
                left[chosen.name].take(wanted)

    def test_told(self) -> None:
        """Of many hosts some reasons are told, each kind of them, and how many hosts there are besides."""
        reasons = {f"h{n}": "full" for n in range(1000)} | {"x": "disabled by an operator"}
        some = told(reasons)
        self.assertEqual((len(some), some["x"], some["951 other hosts"]), (51, "disabled by an operator", "as these"))
        self.assertEqual(told({"a": "full"}), {"a": "full"})

    def test_looked_at_once(self) -> None:
        """However many instances of a kind are placed, all hosts are looked at once."""
        views = Walked(host(f"h{n}", 40) for n in range(10))
        rooms = Rooms(views)
        before = views.walks
        for _ in range(100):
            rooms.take(Wanted("i", TINY), rooms.fitting(Wanted("i", TINY), NOBODY)[0])
        self.assertEqual(views.walks - before, 1)


class WorkerTests(SynchronousTestCase):
    """
    L{SchedulerWorker}.
    """

    def schedule(self, placement: Placement, algorithm: str = "simple") -> SchedulerWorker:
        """Schedule what is pending."""
        worker = SchedulerWorker(placement, algorithm, Clock(), NoFaults())
        self.successResultOf(worker.schedule(list(placement.pending), context=Context("req")))
        return worker

    def test_interface(self) -> None:
        """The worker provides its interface, and so does the placement of these tests."""
        placement = Placement([], [])
        verifyObject(IPlacement, placement)
        verifyObject(ISchedulerWorker, SchedulerWorker(placement, "simple", Clock(), NoFaults()))

    def test_batch_is_spread(self) -> None:
        """A batch counts its own promises while it is placed."""
        placement = Placement([host("a"), host("b")], ["i-1", "i-2", "i-3", "i-4"])
        self.schedule(placement)
        self.assertEqual(sorted(placement.placed.values()), ["a", "a", "b", "b"])

    def test_lost_race_tries_the_next_host(self) -> None:
        """A host that turns out to be full is replaced by another."""
        placement = Placement([host("a", used=2), host("b")], ["i-1"])
        placement.full = {"b"}
        self.schedule(placement)
        self.assertEqual(placement.placed, {"i-1": "a"})

    def test_no_host_says_why(self) -> None:
        """An instance without a host ends with a reason for each host."""
        placement = Placement([host("a", used=4), host("b", disabled=True)], ["i-1"])
        self.schedule(placement)
        self.assertEqual(set(placement.refused["i-1"]), {"a", "b"})

    def test_more_than_fits_is_refused_singly(self) -> None:
        """Of a batch that does not fit, what fits is placed."""
        placement = Placement([host("a", vcpus=2)], ["i-1", "i-2", "i-3"])
        self.schedule(placement)
        self.assertEqual(len(placement.placed), 2)
        self.assertEqual(len(placement.refused), 1)

    def test_never_ends(self) -> None:
        """Where a host looks free and every claim on it is refused, it is left to the sweep after a while."""
        placement = Placement([host("a")], ["i"])
        placement.claim = lambda request_id, choice: succeed(Claimed([], {"a": "full"}))  # type: ignore[method-assign]
        worker = SchedulerWorker(placement, "simple", Clock(), NoFaults())
        self.successResultOf(worker.schedule(["i"], Context("req")))
        self.assertEqual((placement.placed, placement.refused), ({}, {}))

    def test_refused_together(self) -> None:
        """Those of a batch that are refused for the same reasons are ended by one write."""
        placement = Placement([host("a", vcpus=2)], ["i-1", "i-2", "i-3", "i-4"])
        self.schedule(placement)
        self.assertEqual((len(placement.placed), placement.refusals), (2, [["i-3", "i-4"]]))

    def test_queue_offers(self) -> None:
        """C{queue} makes no choice: the first free worker takes it."""
        placement = Placement([host("a")], ["i-1"])
        self.schedule(placement, "queue")
        self.assertEqual((placement.offered, placement.placed), (["i-1"], {}))

    def test_repeat_is_harmless(self) -> None:
        """What is placed already is not placed again."""
        placement = Placement([host("a")], ["i-1"])
        worker = self.schedule(placement)
        placement.pending = {}
        self.successResultOf(worker.schedule(["i-1"], context=Context("req")))
        self.assertEqual(placement.placed, {"i-1": "a"})
