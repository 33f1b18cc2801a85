"""
What a queue tells whoever counts and times its messages.
"""

from __future__ import annotations

from typing import Protocol


class QueueMetrics(Protocol):
    """
    Takes one observation for each call made and each message worked on.  An
    outcome is C{ok} or the name of the error's class.
    """

    def call(self, topic: str, method: str, outcome: str, seconds: float) -> None:
        """A call or a cast has its answer; C{seconds} after it was made."""

    def handled(self, topic: str, method: str, outcome: str, seconds: float) -> None:
        """A worker here is done with a message; it took C{seconds}."""
