"""
What answers at the topic C{scheduler}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Interface


class ISchedulerWorker(Interface):
    """
    Chooses hosts.
    """

    def schedule(instances: list[str]) -> Deferred[None]:
        """
        Cast: find a host for each pending instance that has none, claim its
        room and addresses, and order it from the host.  Those placed already
        are skipped, so repeating is safe.
        """
