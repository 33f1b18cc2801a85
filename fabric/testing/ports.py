"""
Ports of 127.0.0.1 for the servers of tests.
"""

from __future__ import annotations

import random
import socket
from typing import ClassVar

FIRST, LAST = 10_000, 32_000
"""Linux gives none of these to connections that leave the choice to it."""


class Ports:
    """
    Those of this process: nobody else who asks here gets them while it lives,
    also when the server that had one is killed and started again.
    """

    _held: ClassVar[dict[int, socket.socket]] = {}

    @classmethod
    def take(cls) -> int:
        """
        @return: a TCP port that nobody has.
        """
        while True:
            port = random.randint(FIRST, LAST)
            mark = socket.socket(socket.AF_UNIX)
            try:
                # An abstract name: it goes with the process, whatever that dies of.
                mark.bind(f"\0fabric-test-port-{port}")
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            except OSError:
                mark.close()
                continue
            cls._held[port] = mark
            return port


def free_port() -> int:
    """
    A TCP port of 127.0.0.1 that nobody has, and no other test gets.
    """
    return Ports.take()
