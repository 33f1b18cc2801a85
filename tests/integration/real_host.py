"""
The one real host of these tests: L{fabric.testing.realhost}, which the bench uses too.
"""

import atexit
from functools import cache

from fabric.testing.realhost import BOOT, FLOATING, RealHost, until

__all__ = ["BOOT", "FLOATING", "RealHost", "real_host", "until"]


@cache
def real_host() -> RealHost:
    """
    @return: the one host of all tests here; removed at the interpreter's exit.
    """
    host = RealHost()
    atexit.register(host.remove)
    return host
