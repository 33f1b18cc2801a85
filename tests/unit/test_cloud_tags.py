"""
Tests for L{fabric.cloud.tags} that need no store.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fabric.cloud.access import Caller
from fabric.cloud.tags import Tags
from fabric.errors import InvalidValue

ANN = Caller("ann", "apples", frozenset({"projectmanager"}), "req-1")


class CursorTests(SynchronousTestCase):
    """
    Cursors come back from clients, who may change them.
    """

    def test_tampered(self) -> None:
        """A cursor that no page ended with is refused before state is asked."""
        store: Any = None
        for cursor in ("-1|0|", "0|-3|", "-9|0|", "x|0|", "0", "0|1", "²|0|", "0x1|0|"):
            failure = self.failureResultOf(Tags(store).page(ANN, (), cursor), InvalidValue)
            self.assertEqual(failure.value.name, "NextToken")
