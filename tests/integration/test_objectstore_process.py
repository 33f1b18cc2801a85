"""
C{twistd -n cloud-objectstore} as a process by itself.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.objectstore.links import Signer, image_path
from fabric.testing.ports import free_port
from fabric.testing.processes import SOURCES, await_true

_reactor: Any = reactor

DATA = b"kernel" * 1000
PATH = image_path(hashlib.sha256(DATA).hexdigest())


class ProcessTests(TestCase):
    """
    The service, and those who share its secret.
    """

    timeout = 300

    def setUp(self) -> None:
        """A directory and a port."""
        self.directory = Path(tempfile.mkdtemp(prefix="store-"))
        self.addCleanup(shutil.rmtree, self.directory, True)
        self.port = free_port()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
        command += ["cloud-objectstore", "--data", "data", "--objectstore", f"tcp:{self.port}:interface=127.0.0.1"]
        process = subprocess.Popen(
            [*command, "--set", "objectstore.secret=shared"],
            cwd=self.directory,
            env=os.environ | {"PYTHONPATH": str(SOURCES)},
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        await_true(self._answers, "the object store answers", 60)
        return process

    def _answers(self) -> bool:
        try:
            return self.ask("GET", f"http://127.0.0.1:{self.port}/")[0] == 404
        except OSError:
            return False

    def ask(self, method: str, link: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of an answer."""
        parts = urlsplit(link)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        try:
            connection.request(method, f"{parts.path}?{parts.query}", body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def link(self, method: str, secret: bytes = b"shared", **more: str) -> str:
        """A link by somebody who knows a secret."""
        signer = Signer(lambda: secret, lambda: f"http://127.0.0.1:{self.port}", _reactor)
        return signer.link(method, PATH, 60, **more)

    def test_shared_secret(self) -> Deferred[None]:
        """It believes those who have its secret and nobody else, and has what it took after C{kill -9}."""

        def check() -> None:
            process = self.start()
            self.assertEqual(self.ask("PUT", self.link("PUT", b"other", role="kernel"), DATA)[0], 403)
            self.assertEqual(self.ask("PUT", self.link("PUT", role="kernel"), DATA)[0], 200)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = self.start()
            self.assertEqual(self.ask("GET", self.link("GET")), (200, DATA))
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(30), -signal.SIGTERM)

        return deferToThread(check)
