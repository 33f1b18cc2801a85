"""
No step is left out: what the sources name as a fault point, a kill test rehearses.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.rehearsing import LISTS, fault_points


class FaultPointsTests(SynchronousTestCase):
    """
    The lists of the kill tests, beside the sources.
    """

    def test_each_is_rehearsed(self) -> None:
        """Each point is in one list, and no list has one that the sources do not."""
        listed = sorted(point for points in LISTS.values() for point in points)
        self.assertEqual(listed, fault_points())
