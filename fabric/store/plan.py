"""
A transaction as the commit script takes it, and what the script answers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence

import attrs
import orjson

from fabric import errors
from fabric.model.record import Record
from fabric.store.filing import Filed, check_members, file, load
from fabric.store.interface import Committed, IViews, Stored, Transaction

_PLACEHOLDER = re.compile(rb"~take-[0-9a-f]{24}-[0-9]+~-?")

KEPT = 100_000
"""About how many events are kept of all projects together."""

KEPT_OF_PROJECT = 1000
"""About how many events are kept of one project."""


@attrs.define
class Taking(Transaction):
    """
    A transaction that can take from pools.

    @ivar nonce: makes its placeholders unguessable.
    """

    nonce: str = attrs.field(factory=lambda: os.urandom(12).hex())

    def take(self, pool: str) -> str:
        """See L{Transaction.take}."""
        placeholder = f"~take-{self.nonce}-{len(self.takes)}~"
        self.takes.append((placeholder, pool))
        return placeholder


@attrs.frozen
class Plan:
    """
    @ivar arguments: of the script.
    @ivar placeholders: in the order in which the script answers members.
    """

    arguments: list[bytes]
    placeholders: list[str]
    filed: list[Filed]
    takers: list[bool]


def plan(transaction: Transaction, views: IViews) -> Plan:
    """
    @raise errors.InvalidValue: a new pool's member can't be one.
    @raise ValueError: one record is written twice.
    """
    filed = [file(record, views.render(record)) for record, _ in transaction.puts]
    _refuse_twice(transaction)
    prefixes = {placeholder.rpartition("-")[0] + "-" for placeholder, _ in transaction.takes}
    marks = [prefix.encode() for prefix in prefixes]
    takers = [any(mark in item.text for mark in marks) for item in filed] if marks else [False] * len(filed)
    takes, placeholders = _takes(transaction, filed)
    data = {
        "request": transaction.request_id,
        "puts": [
            (record.kind, record.id, generation, int(taker), list(item.views))
            for (record, generation), item, taker in zip(transaction.puts, filed, takers, strict=True)
        ],
        "deletes": transaction.deletes,
        "limits": transaction.limits,
        "takes": takes,
        "prefixes": list(prefixes),
        "needs": transaction.needs,
        "unused": transaction.unused,
        "pools": _pools(transaction, filed),
        "keep": KEPT,
        "keep_project": KEPT_OF_PROJECT,
    }
    arguments = [orjson.dumps(data)]
    for item in filed:
        arguments += (item.text, item.derived, *item.views.values())
    return Plan(arguments, placeholders, filed, takers)


def _refuse_twice(transaction: Transaction) -> None:
    refs = [(record.kind, record.id) for record, _ in transaction.puts]
    refs += [(kind, id) for kind, id, _ in transaction.deletes]
    if len(set(refs)) != len(refs):
        raise ValueError("a transaction writes one record twice")


def _takes(
    transaction: Transaction, filed: Sequence[Filed]
) -> tuple[list[tuple[str, list[str], list[str]]], list[str]]:
    if not transaction.takes:
        return [], []
    by_pool: dict[str, list[str]] = {}
    for placeholder, pool in transaction.takes:
        by_pool.setdefault(pool, []).append(placeholder)
    named = {pair for item in filed for pair in item.held if pair[1][:1] != "~"}
    takes = [
        (pool, placeholders, [member for where, member in named if where == pool])
        for pool, placeholders in by_pool.items()
    ]
    return takes, [placeholder for placeholders in by_pool.values() for placeholder in placeholders]


def _pools(transaction: Transaction, filed: Sequence[Filed]) -> list[tuple[str, str, tuple[str, ...]]]:
    pools = []
    for (record, generation), item in zip(transaction.puts, filed, strict=True):
        if generation == 0:
            for pool, members in item.members.items():
                check_members(pool, members)
                pools.append((pool, f"{record.kind}:{record.id}", members))
    return pools


def committed(transaction: Transaction, sent: Plan, reply: Sequence[bytes]) -> Committed:
    """
    @return: what a script's answer says.
    @raise errors.FabricError: it was a refusal.
    """
    if reply[0] != b"ok":
        raise refusal(reply)
    taken = {name: member.decode() for name, member in zip(sent.placeholders, reply[1:], strict=True)}
    raw = {name.encode(): member.encode() for name, member in taken.items()}
    records = [
        Stored(_with_members(record, item, raw) if taker else record, generation + 1)
        for (record, generation), item, taker in zip(transaction.puts, sent.filed, sent.takers, strict=True)
    ]
    return Committed(taken, records)


def _with_members(record: Record, item: Filed, taken: Mapping[bytes, bytes]) -> Record:
    def member(found: re.Match[bytes]) -> bytes:
        placeholder = found[0]
        if placeholder.endswith(b"-"):
            return taken[placeholder[:-1]].replace(b".", b"-").replace(b":", b"-")
        return taken[placeholder]

    text = _PLACEHOLDER.sub(lambda found: member(found) if found[0].rstrip(b"-") in taken else found[0], item.text)
    return load(type(record), text)


def refusal(reply: Sequence[bytes]) -> errors.FabricError:
    """
    @return: the error of a script's answer C{{name, field, ...}}.
    """
    name, *fields = [part.decode() for part in reply]
    return _REFUSALS[name](*fields)


_REFUSALS: Mapping[str, Callable[..., errors.FabricError]] = {
    "NotFound": errors.NotFound,
    "AlreadyExists": errors.AlreadyExists,
    "Conflict": errors.Conflict,
    "PoolEmpty": lambda pool, wanted: errors.PoolEmpty(pool, int(wanted)),
    "MemberTaken": errors.MemberTaken,
    "InUse": errors.InUse,
    "LimitExceeded": lambda counter, *numbers: errors.LimitExceeded(counter, *map(int, numbers)),
}
