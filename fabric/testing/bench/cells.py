"""
The cells of the API: describing, launching, key pairs, and idling.

Each group is a function that measures round after round, target after target,
into L{Results}; C{judge_*} says what the promises make of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import attrs

from fabric.testing.bench.ec2 import Asker
from fabric.testing.bench.load import Background, Plan
from fabric.testing.bench.processes import cpu_seconds, memory_bytes
from fabric.testing.bench.report import Results, Sample, Verdict
from fabric.testing.bench.targets import Target, sampled

NEEDLE = "needle"
"""The tag that one instance of an account has."""

PEER_MOST = 1000
"""Peers that need seconds for a listing are asked for no more instances than this at once."""


@attrs.frozen
class Effort:
    """
    How long to measure.

    @ivar seconds: one round of one cell on one target.
    @ivar sizes: instances in the account.
    @ivar flights: requests under way at once.
    """

    rounds: int = 3
    seconds: float = 2.0
    sizes: tuple[int, ...] = (10, 100, 1000, 10000)
    flights: tuple[int, ...] = (1, 16, 64)
    idle_seconds: float = 30.0

    @property
    def least(self) -> int:
        """The smallest account."""
        return self.sizes[0]

    @property
    def most(self) -> int:
        """The largest account."""
        return self.sizes[-1]


QUICK = Effort(rounds=1, seconds=0.7, sizes=(10, 1000), flights=(1, 16, 64), idle_seconds=8.0)


@attrs.frozen
class Account:
    """
    A target with so many instances, one of them tagged and one stopped.
    """

    target: Target
    size: int
    tagged: str
    stopped: str

    def queries(self) -> dict[str, bytes]:
        """The signed requests of the four kinds of listing."""
        ask = self.target.request
        return {
            "all": ask("DescribeInstances"),
            "one": ask("DescribeInstances", InstanceId_1=self.tagged),
            "state": ask("DescribeInstances", Filter_1_Name="instance-state-name", Filter_1_Value_1="stopped"),
            "tag": ask("DescribeInstances", Filter_1_Name="tag:role", Filter_1_Value_1=NEEDLE),
        }


def fill(target: Target, size: int) -> tuple[Account, float]:
    """
    Make an account of a target's.

    @return: it, and the seconds from the first launch until all ran.
    """
    asker = Asker(target)
    seconds = asker.fill(size)
    ids = asker.require(size, "running")
    asker.ask("CreateTags", ResourceId_1=ids[size // 2], Tag_1_Key="role", Tag_1_Value=NEEDLE)
    asker.stop([ids[size // 3]])
    asker.await_none("stopping", "", 0.05)
    asker.close()
    return Account(target, size, ids[size // 2], ids[size // 3]), seconds


def _rounds(effort: Effort) -> Iterator[int]:
    yield from range(effort.rounds)


def describe(results: Results, effort: Effort, accounts: Sequence[Account], bare: Target) -> None:
    """
    Every kind of listing at every size and so many at once, in turn with bytes
    of the same size from memory.
    """
    for _ in _rounds(effort):
        for account in accounts:
            for kind, request in account.queries().items():
                for flight in effort.flights:
                    _describe(results, effort, account, bare, f"describe-{kind}-{account.size}-{flight}", request)


def _describe(results: Results, effort: Effort, account: Account, bare: Target, cell: str, request: bytes) -> None:
    flight = int(cell.rpartition("-")[2])
    target = account.target
    if target.name != "fabric" and (account.size > PEER_MOST or flight * account.size > PEER_MOST):
        return
    sample = target.sample(cell, [request], flight, effort.seconds)
    results.add(sample)
    if target.name == "fabric":
        same = sized(bare, len(_one_body(target, request)))
        results.add(same.sample(cell, [same.request("DescribeInstances")], flight, effort.seconds))


def _one_body(target: Target, request: bytes) -> bytes:
    wire = target.wire()
    try:
        return wire.ask(request)
    finally:
        wire.close()


def sized(bare: Target, size: int) -> Target:
    """
    The yardstick, sending bodies of a size.
    """
    return Target(bare.name, attrs.evolve(bare.endpoint, path=f"/{size}"), bare.roots)


def judge_describe(results: Results, effort: Effort) -> Iterator[Verdict]:
    """What listing was promised to cost."""
    for flight in effort.flights[1:2]:
        for size in (effort.least, effort.most):
            cell = f"describe-one-{size}-{flight}"
            ratio = results.ratio((cell, "fabric"), (cell, "bare"))
            yield Verdict(f"CPU of describe-one over bare signed answer, {size} in account", ratio, 1 / 0.6)
        for kind in ("one", "state", "tag"):
            ratio = results.ratio(
                (f"describe-{kind}-{effort.most}-{flight}", "fabric"),
                (f"describe-{kind}-{effort.least}-{flight}", "fabric"),
            )
            yield Verdict(f"CPU of describe-{kind}, {effort.most} over {effort.least} in account", ratio, 1.3)
        for kind in ("state", "tag"):
            cell = f"describe-{kind}-{effort.most}-{flight}"
            ratio = results.ratio((cell, "fabric"), (cell, "bare"))
            yield Verdict(f"CPU of describe-{kind} with one match over bare, {effort.most} in account", ratio, 1 / 0.6)
    cell = f"describe-all-1000-{effort.flights[0]}"
    yield Verdict("CPU of describing 1,000 over bare", results.ratio((cell, "fabric"), (cell, "bare")), 5.0)
    ratio = results.ratio(
        (f"describe-one-{effort.least}-64", "fabric"), (f"describe-one-{effort.least}-16", "fabric"), "rate"
    )
    yield Verdict("throughput at 64 in flight over 16", ratio, 0.9, least=True)


def cycles(results: Results, effort: Effort, targets: Sequence[Target], counts: Sequence[int]) -> None:
    """
    Launch so many in one call until all run, then terminate until all are gone;
    server CPU an instance, that of looking subtracted at its own cost.
    """
    for target in targets:
        fill(target, 1)
    for _ in _rounds(effort):
        for target in targets:
            try:
                _cycles_of(results, effort, target, counts)
            except (ValueError, RuntimeError, OSError) as error:
                if target.name == "fabric":
                    raise
                results.notes.append(f"{target.name} broke down in a cycle: {str(error).splitlines()[0]}")


def _cycles_of(results: Results, effort: Effort, target: Target, counts: Sequence[int]) -> None:
    asker = Asker(target)
    look = _look_cost(target, asker)
    for count in counts:
        _cycles(results, target, asker, count, look, max(2, round(effort.seconds * 100 / count / 2)))
    asker.close()


def _look_cost(target: Target, asker: Asker) -> float:
    request = asker.poll_request("pending", "r-00000000000000000")
    sample = target.sample("look", [request], 1, 0.0, 200)
    return (sample.cpu_us or 0.0) / 1e6


def _cycles(results: Results, target: Target, asker: Asker, count: int, look: float, repeats: int) -> None:
    pause = 0.005 if count == 1 else 0.02
    spent = {"run": 0.0, "terminate": 0.0}
    took: dict[str, list[float]] = {"run": [], "terminate": []}

    def phase(name: str, act: Callable[[], str], state: str) -> None:
        before, begun, asker.polls = target.cpu() or 0.0, time.perf_counter(), 0
        reservation = act()
        asker.await_none(state, reservation, pause)
        took[name].append(time.perf_counter() - begun)
        spent[name] += (target.cpu() or 0.0) - before - asker.polls * look

    for _ in range(min(repeats, 40)):
        made: list[tuple[str, list[str]]] = []

        def launch(made: list[tuple[str, list[str]]] = made) -> str:
            made.append(asker.run(count))
            return made[0][0]

        def end(made: list[tuple[str, list[str]]] = made) -> str:
            asker.terminate(made[0][1])
            return made[0][0]

        phase("run", launch, "pending")
        asker.require(count, "running", made[0][0])
        phase("terminate", end, "shutting-down")
        asker.require(count, "terminated", made[0][0])
    for name, seconds in took.items():
        ordered = sorted(seconds)
        ops = count * len(ordered)
        cpu = max(0.0, spent[name]) / ops * 1e6 if target.roots else None
        middle, last = ordered[len(ordered) // 2], ordered[-1]
        results.add(Sample(f"{name}-{count}", target.name, ops, cpu, ops / sum(ordered), middle * 1e3, last * 1e3))


def judge_cycles(results: Results) -> Iterator[Verdict]:
    """What launching was promised to cost."""
    yield Verdict(
        "CPU ms an instance, 100 in one call through to running",
        _scaled(results.median("run-100", "fabric", "cpu_us")),
        1.0,
        note="all services and Redis together",
    )


def _scaled(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1e3


def key_pairs(results: Results, effort: Effort, targets: Sequence[Target]) -> None:
    """
    Create, describe and delete; creation is paced, as the pool of ready keys
    refills behind it and is counted too.
    """
    for number in _rounds(effort):
        for target in targets:
            names = [f"bench-{number}-{index}" for index in range(30)]
            made = [target.request("CreateKeyPair", KeyName=name) for name in names]
            results.add(target.sample("key-create", made, 1, 0.0, len(made), warm=False))
            asked = [target.request("DescribeKeyPairs", KeyName_1=name) for name in names]
            results.add(target.sample("key-describe", asked, 16, effort.seconds))
            ended = [target.request("DeleteKeyPair", KeyName=name) for name in names]
            results.add(target.sample("key-delete", ended, 1, 0.0, len(ended), warm=False))


def stall(results: Results, effort: Effort, account: Account) -> None:
    """
    Describe one, alone and while another client lists all in a loop.
    """
    target, queries = account.target, account.queries()
    for _ in _rounds(effort):
        results.add(target.sample("describe-one-alone", [queries["one"]], 1, effort.seconds))
        there = target.endpoint
        lister = Background(Plan(there.host, there.port, (queries["all"],), 1, effort.seconds + 2.0))
        time.sleep(1.0)
        sample = target.sample("describe-one-beside-lister", [queries["one"]], 1, effort.seconds)
        results.add(sample)
        results.add(sampled("lister", target.name, lister.result(), None))


def judge_stall(results: Results) -> Iterator[Verdict]:
    """Nobody waits for another's long listing."""
    ratio = results.ratio(("describe-one-beside-lister", "fabric"), ("describe-one-alone", "fabric"), "p99_ms")
    yield Verdict("p99 of describe-one beside a lister, over alone", ratio, 10.0)


def idle(results: Results, effort: Effort, target: Target) -> None:
    """
    What a cloud costs that nobody asks for anything.
    """
    time.sleep(15.0)
    before, begun = cpu_seconds(target.roots), time.perf_counter()
    time.sleep(effort.idle_seconds)
    used = (cpu_seconds(target.roots) - before) / (time.perf_counter() - begun)
    results.facts["idle, % of a core"] = used * 100
    results.facts["idle, MB of memory"] = memory_bytes(target.roots) / 1e6


def judge_idle(results: Results) -> Iterator[Verdict]:
    """It may stay on a laptop."""
    yield Verdict("idle all-in-one, % of a core", results.facts.get("idle, % of a core"), 2.0)
    yield Verdict("idle all-in-one, MB", results.facts.get("idle, MB of memory"), 150.0)


def accepted(results: Results, effort: Effort, front: Target, account: Account) -> None:
    """
    What answering RunInstances costs, beside describing one: with no scheduler
    alive, so that only the accepting is counted, its state durable and its
    order with the broker.

    @param front: counts the doors and Redis.
    """
    asker = Asker(front)
    queries = attrs.evolve(account, target=front).queries()
    for _ in _rounds(effort):
        results.add(front.sample("front-describe-one", [queries["one"]], 16, effort.seconds))
        results.add(front.sample("front-run-instances", [asker.run_request(1)], 16, effort.seconds))
    asker.close()


def judge_accepted(results: Results) -> Iterator[Verdict]:
    """What accepting was promised to cost."""
    ratio = results.ratio(("front-run-instances", "fabric"), ("front-describe-one", "fabric"))
    yield Verdict("CPU of RunInstances until answered, over describe-one", ratio, 4.0, note="doors and Redis")


def doors(results: Results, effort: Effort, targets: Sequence[Target], account: Account) -> None:
    """
    One door process, and two of them at once.

    @param targets: the doors of one cloud; all of them count the same processes.
    """
    for _ in _rounds(effort):
        for used in (targets[:1], targets):
            before = targets[0].cpu() or 0.0
            flight, seconds = 64 // len(used), effort.seconds * 2
            loads = [_one_in_loop(each, account, flight, seconds) for each in used]
            outcomes = [load.result() for load in loads]
            cpu = ((targets[0].cpu() or 0.0) - before) / sum(outcome.count for outcome in outcomes) * 1e6
            parts = [sampled(f"doors-{len(used)}", "fabric", outcome, cpu) for outcome in outcomes]
            results.add(attrs.evolve(parts[0], ops=sum(p.ops for p in parts), rate=sum(p.rate for p in parts)))


def _one_in_loop(door: Target, account: Account, in_flight: int, seconds: float) -> Background:
    request = attrs.evolve(account, target=door).queries()["one"]
    return Background(Plan(door.endpoint.host, door.endpoint.port, (request,), in_flight, seconds))


def judge_doors(results: Results) -> Iterator[Verdict]:
    """More processes mean more requests."""
    ratio = results.ratio(("doors-2", "fabric"), ("doors-1", "fabric"), "rate")
    yield Verdict("throughput of two door processes over one", ratio, 1.7, least=True, note="wall clock")
