"""
Named fault points: places where a rehearsal may end the process.

A service calls C{reach("compute.spawned")} right after the step of that name.
In a rehearsal the point is armed by settings, and reaching it is a C{kill -9}
from within.  Unarmed, which is always but for tests, it costs one set lookup.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

from zope.interface import Interface, implementer


class IFaults(Interface):
    """
    Where a service tells how far it has come.
    """

    def reach(name: str) -> None:
        """
        A step is done.  May not return.

        @param name: C{room.step}, listed in C{doc/operations.rst}.
        """


@implementer(IFaults)
class NoFaults:
    """
    The one for every day: nothing is armed.
    """

    def reach(self, name: str) -> None:
        """Do nothing."""


@implementer(IFaults)
class ArmedFaults:
    """
    Kill this process, as C{kill -9} would, when an armed point is reached;
    the last that it writes to its standard error is which.
    """

    def __init__(self, points: Iterable[str]) -> None:
        self._points = frozenset(points)

    def reach(self, name: str) -> None:
        """End the process at once when C{name} is armed."""
        if name in self._points:
            os.write(2, f"killed at {name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
