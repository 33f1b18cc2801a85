"""
The command C{scripts/bench}.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from fabric.testing.bench import cells, filters, nouns, queues, rack, stage
from fabric.testing.bench.cells import QUICK, Account, Effort
from fabric.testing.bench.report import Results, Verdict, document, table
from fabric.testing.bench.stage import Stage
from fabric.testing.bench.targets import Target

Group = Callable[["Run"], None]


class Run:
    """
    One run: the groups that were asked for, one after the other.
    """

    def __init__(self, effort: Effort, servers: Stage, say: Callable[[str], None]) -> None:
        self.effort = effort
        self.servers = servers
        self.results = Results()
        self.verdicts: list[Verdict] = []
        self.say = say
        self._accounts: dict[int, Account] = {}

    def account(self, size: int) -> Account:
        """Our own cloud with so many instances."""
        if size not in self._accounts:
            self._accounts[size], seconds = cells.fill(self.servers.cloud(f"size-{size}"), size)
            self.results.facts[f"seconds to launch {size} until all run"] = seconds
            self.say(f"  {size} instances run after {seconds:.1f} s")
        return self._accounts[size]

    def judge(self, verdicts: Iterator[Verdict]) -> None:
        """Take verdicts."""
        self.verdicts += verdicts

    def idle(self) -> None:
        """Nobody asks for anything."""
        cells.idle(self.results, self.effort, self.servers.cloud("idle"))
        self.judge(cells.judge_idle(self.results))

    def queue(self) -> None:
        """Round trips through RabbitMQ."""
        counts = {1: 500, 64: max(2000, round(self.effort.seconds * 2000))}
        queues.round_trips(self.results, self.effort.rounds, self.servers.broker(), counts)
        self.results.notes.append("the C client has no binding that could be installed without a compiler: left out")
        self.judge(queues.judge(self.results))

    def describe(self) -> None:
        """Listings."""
        accounts = [self.account(size) for size in self.effort.sizes]
        for size in self.effort.sizes:
            if size <= cells.PEER_MOST:
                accounts += [cells.fill(peer, size)[0] for peer in self.servers.peers(str(size))]
        cells.describe(self.results, self.effort, accounts, self.servers.bare())
        self.judge(cells.judge_describe(self.results, self.effort))
        if 10000 in self.effort.sizes:
            self._judge_many()

    def many(self) -> None:
        """Ten thousand at once."""
        self.account(10000)
        self._judge_many()

    def _judge_many(self) -> None:
        seconds = self.results.facts["seconds to launch 10000 until all run"]
        self.judge(iter([Verdict("seconds until 10,000 instances run", seconds, 15.0)]))

    def cycles(self) -> None:
        """Launch and terminate."""
        targets: list[Target] = [self.servers.cloud("cycles"), *self.servers.peers("cycles")]
        cells.cycles(self.results, self.effort, targets, (1, 10, 100))
        self.judge(cells.judge_cycles(self.results))

    def keys(self) -> None:
        """Key pairs."""
        cells.key_pairs(self.results, self.effort, [self.servers.cloud("cycles"), *self.servers.peers("cycles")])

    def stall(self) -> None:
        """One client's long listing beside another's short one."""
        cells.stall(self.results, self.effort, self.account(self.effort.most))
        self.judge(cells.judge_stall(self.results))

    def volumes(self) -> None:
        """Listing volumes."""
        self._noun("volumes")

    def addresses(self) -> None:
        """Listing addresses."""
        self._noun("addresses")

    def groups(self) -> None:
        """Listing groups; then a rule in one of few and one of many members."""
        self._noun("groups")
        few, many = self.account(self.effort.least), self.account(cells.PEER_MOST)
        nouns.rules(self.results, self.effort, [few, many])
        self.judge(nouns.judge_rules(self.results, few.size, many.size))

    def _noun(self, plural: str) -> None:
        [noun] = [each for each in nouns.NOUNS if each.plural == plural]
        sizes = (self.effort.least, self.effort.most)
        shelves = [nouns.stock(self.servers.cloud(f"{plural}-{size}"), noun, size) for size in sizes]
        self.say(f"  {plural} are there")
        nouns.describe(self.results, self.effort, shelves, [self.account(self.effort.most)], self.servers.bare())
        self.judge(nouns.judge_describe(self.results, self.effort, noun))

    def ports(self) -> None:
        """Ports of a host's real network."""
        if os.geteuid() != 0:
            self.results.notes.append("ports: left out, since network namespaces need root")
            return
        from fabric.testing.bench import ports  # needs what only real hosts have

        ports.measure(self.results, self.servers.reactor, self.say)
        self.judge(ports.judge(self.results))

    def rules(self) -> None:
        """Packet filters of a host."""
        if os.geteuid() != 0:
            self.results.notes.append("rules: left out, since network namespaces need root")
            return
        filters.measure(self.results, self.effort, self.servers.reactor)
        self.judge(filters.judge(self.results))

    def boot(self) -> None:
        """Real guests, until they answer."""
        if os.geteuid() != 0:
            self.results.notes.append("boot: left out, since a host in a namespace needs root")
            return
        from fabric.testing.bench import boot  # needs what only real hosts have

        boot.measure(self.results, 3 * self.effort.rounds, self.say)
        self.judge(boot.judge(self.results))

    def rack(self) -> None:
        """What only services in their own processes can show."""
        rack.measure(self.results, self.effort, self.servers)
        self.judge(cells.judge_accepted(self.results))
        self.judge(cells.judge_doors(self.results))


GROUPS: dict[str, Group] = {
    "idle": Run.idle,
    "queue": Run.queue,
    "describe": Run.describe,
    "stall": Run.stall,
    "cycles": Run.cycles,
    "keys": Run.keys,
    "volumes": Run.volumes,
    "addresses": Run.addresses,
    "groups": Run.groups,
    "ports": Run.ports,
    "rules": Run.rules,
    "boot": Run.boot,
    "rack": Run.rack,
}
"""Every group, in the order in which a whole run takes them."""

MORE: dict[str, Group] = {"many": Run.many}
"""Groups that a whole run has inside others."""


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="What an operation costs, beside its peers.")
    parser.add_argument(
        "groups", nargs="*", metavar="CELL", help=f"of: {', '.join(GROUPS | MORE)}; all if none is named"
    )
    parser.add_argument("--quick", action="store_true", help="one short round; figures are rough")
    parser.add_argument("--rounds", type=int, help="rounds of which the median is shown")
    parser.add_argument("--seconds", type=float, help="length of one round of one cell")
    parser.add_argument("--sizes", help="instances in the accounts, as 10,1000")
    parser.add_argument("--json", metavar="FILE", help="write all samples, medians and verdicts there")
    parser.add_argument("--moto", metavar="PATH", default="", help="moto_server, to be measured beside")
    parser.add_argument("--url", help="measure this EC2 in place of one started here")
    parser.add_argument("--access-key", default="", help="for --url")
    parser.add_argument("--secret-key", default="", help="for --url")
    parser.add_argument("--pid", type=int, help="for --url: root of its process tree, on this machine")
    options = parser.parse_args(arguments)
    for name in options.groups:
        if name not in GROUPS | MORE:
            parser.error(f"no cell is called {name}")
    return options


def _effort(options: argparse.Namespace) -> Effort:
    base = QUICK if options.quick else Effort()
    sizes = tuple(int(size) for size in options.sizes.split(",")) if options.sizes else base.sizes
    return Effort(
        options.rounds or base.rounds, options.seconds or base.seconds, sizes, base.flights, base.idle_seconds
    )


def measure(options: argparse.Namespace, reactor: Any) -> int:
    """
    Measure, print the table, write the file; blocks.

    @return: 0 when all promises that were measured are met, else 3.
    """
    outside = stage.external(options.url, options.access_key, options.secret_key, options.pid) if options.url else None
    servers = Stage(reactor, options.moto, outside)
    run = Run(_effort(options), servers, lambda line: print(line, file=sys.stderr, flush=True))
    try:
        for name in options.groups or GROUPS:
            run.say(name)
            (GROUPS | MORE)[name](run)
    finally:
        servers.stop()
        print(table(run.results, run.verdicts))
        if options.json:
            Path(options.json).write_text(json.dumps(document(run.results, run.verdicts), indent=1))
    return 3 if any(verdict.word == "MISSED" for verdict in run.verdicts) else 0


def main(arguments: list[str]) -> int:
    """
    Run the reactor for the servers, and the cells in a thread beside it.

    @return: the exit status; 1 when a cell broke down.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    options = _options(arguments)
    status = [1]

    def begin() -> None:
        measured = deferToThread(measure, options, reactor)
        measured.addCallback(lambda code: status.insert(0, code))
        measured.addErrback(lambda failure: failure.printTraceback(sys.stderr))
        measured.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    return status[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
