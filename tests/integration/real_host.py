"""
The one real host of these tests: L{fabric.testing.realhost}, which the bench uses too.
"""

from fabric.testing.realhost import BOOT, FLOATING, RealHost, until

__all__ = ["BOOT", "FLOATING", "RealHost", "until"]
