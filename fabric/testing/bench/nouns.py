"""
The cells of volumes, addresses and groups: describing them, beside instances;
and what a rule costs in a group of many members.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence

import attrs

from fabric.testing.bench.cells import NEEDLE, Account, Effort, sized
from fabric.testing.bench.ec2 import Asker
from fabric.testing.bench.report import Results, Verdict
from fabric.testing.bench.targets import Target

FLIGHT = 16
"""Requests under way at once, but for listings of everything: those are one by one."""

LARGE = 1000
"""Items from which on everything is asked for one request after the other."""

RULES = 50
"""Rules that are added, and taken away again, in one round."""


@attrs.frozen
class Noun:
    """
    What an account has many of.

    @ivar plural: of its cells' names.
    @ivar make: action that makes one, and its parameters; C{#} stands for a number.
    @ivar describe: action that lists them.
    @ivar named: parameter of that by which one is asked for, and the element
        that has it in answers.
    @ivar filtered: a filter that few pass, and the element that has its value.
    """

    plural: str
    make: tuple[str, Mapping[str, str]]
    describe: str
    named: tuple[str, str]
    filtered: tuple[str, str]

    def made(self, target: Target, number: int) -> bytes:
        """A request for one more."""
        action, given = self.make
        return target.request(action, **{name: value.replace("#", str(number)) for name, value in given.items()})


NOUNS = (
    Noun(
        "volumes",
        ("CreateVolume", {"AvailabilityZone": "nova", "Size": "1"}),
        "DescribeVolumes",
        ("VolumeId_1", "volumeId"),
        ("size", ""),
    ),
    Noun(
        "addresses",
        ("AllocateAddress", {}),
        "DescribeAddresses",
        ("AllocationId_1", "allocationId"),
        ("public-ip", "publicIp"),
    ),
    Noun(
        "groups",
        ("CreateSecurityGroup", {"GroupName": "group #", "GroupDescription": "of the bench"}),
        "DescribeSecurityGroups",
        ("GroupId_1", "groupId"),
        ("group-name", "groupName"),
    ),
)


@attrs.frozen
class Shelf:
    """
    A cloud with so many of a noun, one of them tagged.
    """

    noun: Noun
    target: Target
    size: int
    id: str
    value: str

    def queries(self) -> dict[str, bytes]:
        """The signed requests of the four kinds of listing."""
        ask, describe = self.target.request, self.noun.describe
        return {
            "all": ask(describe),
            "one": ask(describe, **{self.noun.named[0]: self.id}),
            "filter": ask(describe, Filter_1_Name=self.noun.filtered[0], Filter_1_Value_1=self.value),
            "tag": ask(describe, Filter_1_Name="tag:role", Filter_1_Value_1=NEEDLE),
        }


def stock(target: Target, noun: Noun, size: int) -> Shelf:
    """
    Make so many of a noun; one volume is larger than the others.
    """
    count = size - 1 if noun.plural == "volumes" else size
    outcome = target.drive([noun.made(target, number) for number in range(count)], FLIGHT, 0.0, count)
    if outcome.failures:
        raise RuntimeError(f"{noun.plural} could not be made: {outcome.body[:300]!r}")
    asker = Asker(target)
    if noun.plural == "volumes":
        asker.ask("CreateVolume", AvailabilityZone="nova", Size="2")
        _await_made(asker)
    body = asker.ask(noun.describe).decode()
    ids = list(dict.fromkeys(re.findall(f"<{noun.named[1]}>([^<]+)<", body)))
    if len(ids) < size:
        raise RuntimeError(f"{len(ids)} of {size} {noun.plural} are there")
    needle = ids[size // 2]
    asker.ask("CreateTags", ResourceId_1=needle, Tag_1_Key="role", Tag_1_Value=NEEDLE)
    shown = asker.ask(noun.describe, **{noun.named[0]: needle}).decode()
    element = noun.filtered[1]
    value = re.findall(f"<{element}>([^<]+)<", shown)[0] if element else "2"
    asker.close()
    return Shelf(noun, target, size, needle, value)


def _await_made(asker: Asker, seconds: float = 300.0) -> None:
    ends = time.monotonic() + seconds
    while b"<volumeId>" in asker.ask(
        "DescribeVolumes", Filter_1_Name="status", Filter_1_Value_1="creating", MaxResults="5"
    ):
        if time.monotonic() > ends:
            raise RuntimeError("volumes are still creating")
        time.sleep(0.1)


def describe(
    results: Results, effort: Effort, shelves: Sequence[Shelf], accounts: Sequence[Account], bare: Target
) -> None:
    """
    Every kind of listing at every size, in turn with bytes of the same size
    from memory; and all instances of accounts as large.
    """
    for _ in range(effort.rounds):
        for shelf in shelves:
            for kind, request in shelf.queries().items():
                _measure(results, effort, shelf, bare, kind, request)
        for account in accounts:
            request = account.queries()["all"]
            results.add(account.target.sample(f"instances-all-{account.size}", [request], 1, effort.seconds))


def _measure(results: Results, effort: Effort, shelf: Shelf, bare: Target, kind: str, request: bytes) -> None:
    flight = 1 if kind == "all" and shelf.size >= LARGE else FLIGHT
    cell = f"{shelf.noun.plural}-{kind}-{shelf.size}"
    results.add(shelf.target.sample(cell, [request], flight, effort.seconds))
    wire = shelf.target.wire()
    same = sized(bare, len(wire.ask(request)))
    wire.close()
    results.add(same.sample(cell, [same.request(shelf.noun.describe)], flight, effort.seconds))


def judge_describe(results: Results, effort: Effort, noun: Noun) -> Iterator[Verdict]:
    """What listing was promised to cost: as for instances."""
    name, least, most = noun.plural, effort.least, effort.most
    for size in (least, most):
        ratio = results.ratio((f"{name}-one-{size}", "fabric"), (f"{name}-one-{size}", "bare"))
        yield Verdict(f"CPU of one of {name} over bare signed answer, {size} in account", ratio, 1 / 0.6)
    for kind in ("one", "filter", "tag"):
        ratio = results.ratio((f"{name}-{kind}-{most}", "fabric"), (f"{name}-{kind}-{least}", "fabric"))
        yield Verdict(f"CPU of {name} by {kind}, {most} over {least} in account", ratio, 1.3)
    ratio = results.ratio((f"{name}-all-{most}", "fabric"), ("instances-all-" + str(most), "fabric"))
    yield Verdict(f"CPU an item of {most} {name} over instances", ratio, 1.0)


def rules(results: Results, effort: Effort, accounts: Sequence[Account]) -> None:
    """
    Add rules to the group that all instances of an account are in, and take
    them away again: one call after the other, each for one rule.
    """
    for _ in range(effort.rounds):
        for account in accounts:
            _rules(results, account)


def _rules(results: Results, account: Account) -> None:
    target = account.target
    asker = Asker(target)
    body = asker.ask("DescribeSecurityGroups", Filter_1_Name="group-name", Filter_1_Value_1="default").decode()
    group = re.findall(r"<groupId>(sg-[0-9a-f]+)<", body)[0]
    wire = target.wire()
    for verb in ("Authorize", "Revoke"):
        wire.ask(_rule(target, verb, group, 999))
    wire.close()
    asker.close()
    before = _counted(target)
    for verb in ("Authorize", "Revoke"):
        requests = [_rule(target, verb, group, 1000 + number) for number in range(RULES)]
        cell = f"rule-{verb.lower()}-{account.size}"
        results.add(target.sample(cell, requests, 1, 0.0, RULES, warm=False))
    after = _counted(target)
    for what, count in after.items():
        results.facts[f"{what} a rule, {account.size} members"] = (count - before[what]) / (2 * RULES)


def _rule(target: Target, verb: str, group: str, port: int) -> bytes:
    return target.request(
        f"{verb}SecurityGroupIngress",
        GroupId=group,
        IpPermissions_1_IpProtocol="tcp",
        IpPermissions_1_FromPort=str(port),
        IpPermissions_1_ToPort=str(port),
        IpPermissions_1_IpRanges_1_CidrIp="192.0.2.0/24",
    )


def _counted(target: Target) -> dict[str, float]:
    """Round trips to the store and messages so far, by the service's own count."""
    there = target.endpoint
    with urllib.request.urlopen(f"http://{there.host}:{there.port}/metrics", timeout=30.0) as answer:
        text = answer.read().decode()
    counts = {"round trips": r"^fabric_store_seconds_count\S* (\S+)$", "messages": _APPLIED}
    return {what: sum(map(float, re.findall(pattern, text, re.M))) for what, pattern in counts.items()}


_APPLIED = r'^fabric_call_seconds_count\{\S*method="apply_groups"\S* (\S+)$'


def judge_rules(results: Results, least: int, most: int) -> Iterator[Verdict]:
    """A rule costs the same however many members its group has."""
    for verb in ("authorize", "revoke"):
        ratio = results.ratio((f"rule-{verb}-{most}", "fabric"), (f"rule-{verb}-{least}", "fabric"))
        yield Verdict(f"CPU to {verb} a rule, {most} members over {least}, on one host", ratio, 1.3)
    yield Verdict("messages to hosts a rule, on one host", results.facts.get(f"messages a rule, {most} members"), 1.1)
