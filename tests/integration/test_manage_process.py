"""
C{cloud-manage} as a process, against C{twistd -n cloud}.
"""

from __future__ import annotations

import json
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.processes import SOURCES
from tests.integration.test_tap_process import Process


class ManageProcessTests(TestCase):
    """
    The two commands together.
    """

    timeout = 300

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cloud-"))
        self.addCleanup(shutil.rmtree, self.directory, True)

    def manage(self, *words: str) -> Any:
        """Run it to its end."""
        return subprocess.run(
            [sys.executable, "-m", "fabric.manage.main", "--data", "data", *words],
            cwd=self.directory,
            env={"PYTHONPATH": str(SOURCES)},
            capture_output=True,
            text=True,
        )

    def test_finds_the_cloud(self) -> Deferred[None]:
        """It finds the cloud by its data directory, which is private; when the cloud has ended it says so."""

        def check() -> None:
            (self.directory / "data").mkdir(mode=0o755)
            process = Process(self.directory)
            try:
                process.well()
                self.assertEqual(stat.S_IMODE(process.data.stat().st_mode), 0o700)
                hosts = json.loads(self.manage("--json", "host", "list").stdout)
                self.assertIn("compute", {host["topic"] for host in hosts})
                self.assertEqual(self.manage("check").stdout, "all agrees\n")
                self.assertEqual(self.manage("user", "delete", "nobody").returncode, 3)
                self.assertEqual(self.manage("quota", "set", "admin", "instances=5").returncode, 0)
            finally:
                process.end(signal.SIGTERM)
            ended = self.manage("host", "list")
            self.assertEqual((ended.returncode, ended.stdout), (4, ""))
            self.assertIn("Is the cloud running?", ended.stderr)

        return deferToThread(check)
