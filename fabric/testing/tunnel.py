"""
A way from this machine's loopback into a network namespace, for clients that
can't be moved there.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress

from fabric.testing.namespaces import Namespaces

CHUNK = 65536


class Tunnel:
    """
    What connects to C{port} here talks to that port of a namespace's loopback.
    Threads of their own carry it, for as long as the test's process lives.
    """

    def __init__(self, namespaces: Namespaces, name: str, port: int) -> None:
        self._namespaces = namespaces
        self._name = name
        self._port = port
        self._door = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        far = self._namespaces.open_socket(self._name, socket.AF_INET, socket.SOCK_STREAM)
        with near, far, suppress(OSError):
            far.connect(("127.0.0.1", self._port))
            while True:
                ready, _, _ = select.select((near, far), (), ())
                for one in ready:
                    data = one.recv(CHUNK)
                    if not data:
                        return
                    (far if one is near else near).sendall(data)
