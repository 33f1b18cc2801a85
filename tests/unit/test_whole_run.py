"""
What the command that runs all tests says at its end.
"""

from __future__ import annotations

import io
import runpy
import time
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.reporter import TreeReporter
from twisted.trial.unittest import SynchronousTestCase, TestSuite

COMMAND = Path(__file__).parents[2] / "scripts" / "test"


def outcome(*broken: str) -> str:
    """What trial writes about a passing test and these, each an expression."""

    class Sample(SynchronousTestCase):
        def passes(self) -> None:
            pass

    for number, expression in enumerate(broken):
        setattr(Sample, f"fails{number}", lambda self, expression=expression: eval(expression, {"self": self}))
    stream = io.StringIO()
    reporter = TreeReporter(stream)
    TestSuite([Sample("passes"), *(Sample(f"fails{number}") for number in range(len(broken)))]).run(reporter)
    reporter.done()
    return stream.getvalue()


class BusyTests(SynchronousTestCase):
    """A machine that does much else."""

    @given(st.just(0.3))
    def test_slow_example(self, seconds: float) -> None:
        """An example that takes long is no failure."""
        time.sleep(seconds)


class SummaryTests(SynchronousTestCase):
    """The summary of what failed."""

    def setUp(self) -> None:
        """The command's own functions."""
        self.command: dict[str, Any] = runpy.run_path(str(COMMAND))

    def told(self, output: str) -> list[str]:
        """The summary's lines."""
        lines: list[str] = self.command["summary_of"](self.command["failures"](output))
        return lines

    def test_passed(self) -> None:
        """There is nothing to say of tests that passed."""
        self.assertEqual(self.told(outcome()), [])

    def test_failed(self) -> None:
        """A test that failed is named, with the lines that end in the exception."""
        lines = self.told(outcome("{}['gone']", "self.assertEqual(1, 2)"))
        named = [line for line in lines if line.startswith("FAILED ")]
        self.assertEqual([line.rpartition(".")[2] for line in named], ["fails1", "fails0"])
        self.assertTrue(any("KeyError: 'gone'" in line for line in lines), lines)
        self.assertTrue(any("1 != 2" in line for line in lines), lines)

    def test_own_lines(self) -> None:
        """Of where it failed what is ours is told, not what the test library called in itself."""
        lines = self.told(outcome("self.assertEqual(1, 2)"))
        self.assertIn(__file__, "".join(lines))
        self.assertNotIn("/unittest/", "".join(lines))

    def test_long_reason(self) -> None:
        """Of a long reason the beginning is told, which names the exception, and the end."""
        lines = self.told(outcome("self.fail('\\n'.join(map(str, range(99))))"))
        self.assertIn("FailTest: 0", lines[1])
        self.assertEqual(lines[-1], "  98")

    def test_skipped(self) -> None:
        """A test that was skipped is named, with why."""
        lines = self.told(outcome("self.skipTest('no such tool')"))
        self.assertRegex(lines[0], r"^FAILED .*\.fails0$")
        self.assertEqual(lines[1:], ["  no such tool"])

    def test_short(self) -> None:
        """However much failed, and however long the reasons are, the summary ends within a screen."""
        lines = self.told(outcome(*(f"self.fail('{number}' + 'x\\n' * 99 + 'y' * 9999)" for number in range(30))))
        self.assertLess(len(lines), 40)
        self.assertLess(max(map(len, lines)), 201)
        self.assertEqual(lines[-1], "... and 20 more")
