"""
Samples, their medians, and what they are held against.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import attrs


@attrs.frozen
class Sample:
    """
    One round of one cell on one target.

    @ivar cpu_us: server CPU an operation in microseconds, None where the
        server's processes are not ours to count.
    @ivar rate: operations a second.
    """

    cell: str
    target: str
    ops: int
    cpu_us: float | None
    rate: float
    p50_ms: float
    p99_ms: float
    failures: int = 0
    size: int = 0


FIGURES = ("cpu_us", "rate", "p50_ms", "p99_ms", "size")


@attrs.frozen
class Verdict:
    """
    @ivar figure: what was measured, None when it was not.
    @ivar bound: what it may be at most, or at least (C{least}).
    """

    promise: str
    figure: float | None
    bound: float
    least: bool = False
    note: str = ""

    @property
    def word(self) -> str:
        """C{met}, C{missed} or C{not measured}."""
        if self.figure is None:
            return "not measured"
        held = self.figure >= self.bound if self.least else self.figure <= self.bound
        return "met" if held else "MISSED"


@attrs.define
class Results:
    """
    Everything that a run has measured.
    """

    samples: list[Sample] = attrs.field(factory=list)
    facts: dict[str, float] = attrs.field(factory=dict)
    notes: list[str] = attrs.field(factory=list)

    def add(self, sample: Sample) -> None:
        """Take a sample."""
        self.samples.append(sample)

    def median(self, cell: str, target: str, figure: str) -> float | None:
        """The median of the rounds, None where there is none."""
        values = [getattr(sample, figure) for sample in self.samples if (sample.cell, sample.target) == (cell, target)]
        values = [value for value in values if value is not None]
        return statistics.median(values) if values else None

    def ratio(self, over: tuple[str, str], under: tuple[str, str], figure: str = "cpu_us") -> float | None:
        """
        Median of one C{(cell, target)} over that of another.
        """
        above, below = self.median(*over, figure), self.median(*under, figure)
        return above / below if above is not None and below else None

    def rows(self) -> list[tuple[str, str]]:
        """Every C{(cell, target)}, in the order of the first samples."""
        return list(dict.fromkeys((sample.cell, sample.target) for sample in self.samples))


Judge = Callable[[Results], Iterable[Verdict]]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    )


def table(results: Results, verdicts: list[Verdict]) -> str:
    """
    What people read.
    """
    rows = [["cell", "target", "CPU us/op", "op/s", "p50 ms", "p99 ms", "bytes", "failed"]]
    for cell, target in results.rows():
        figures = [_number(results.median(cell, target, figure)) for figure in FIGURES]
        failed = sum(sample.failures for sample in results.samples if (sample.cell, sample.target) == (cell, target))
        rows.append([cell, target, *figures, str(failed)])
    parts = [_aligned(rows)] if len(rows) > 1 else []
    if results.facts:
        parts.append("\n".join(f"{name}: {_number(value)}" for name, value in results.facts.items()))
    if verdicts:
        parts.append(_aligned([["promise", "", "measured", "bound"], *(_promised(verdict) for verdict in verdicts)]))
    return "\n\n".join([*parts, *(f"Note: {note}" for note in results.notes)])


def _promised(verdict: Verdict) -> list[str]:
    sign = ">=" if verdict.least else "<="
    name = verdict.promise + (f" ({verdict.note})" if verdict.note else "")
    return [name, verdict.word, _number(verdict.figure), f"{sign} {_number(verdict.bound)}"]


def document(results: Results, verdicts: list[Verdict]) -> dict[str, Any]:
    """
    What programs read: every sample, the medians and the verdicts.
    """
    return {
        "machine": {
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "medians": [
            {"cell": cell, "target": target} | {figure: results.median(cell, target, figure) for figure in FIGURES}
            for cell, target in results.rows()
        ],
        "facts": results.facts,
        "verdicts": [attrs.asdict(verdict) | {"verdict": verdict.word} for verdict in verdicts],
        "notes": results.notes,
        "samples": [attrs.asdict(sample) for sample in results.samples],
    }
