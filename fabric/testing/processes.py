"""
Real C{twistd} processes for tests: started, asked whether they are well, killed.

Everything here blocks; a test calls it by C{deferToThread}.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2]
PATIENCE = 180.0
"""Seconds within which a process must be well."""


def await_true(probe: Callable[[], bool], what: str, seconds: float = PATIENCE, pause: float = 0.05) -> None:
    """
    Look again and again.

    @raise AssertionError: it was still not so after C{seconds}.
    """
    ends = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(pause)


def healthy(port: int) -> bool:
    """
    Whether a service says on C{/health} that it is well.
    """
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=3.0) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


class TwistdProcess:
    """
    One C{twistd} service.

    @ivar name: what tests call it, as C{cloud-api.1}.
    @ivar port: where its C{/health} is.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        directory: Path,
        port: int,
        settings: Mapping[str, str],
        within: Sequence[str] = (),
    ) -> None:
        """
        @param arguments: the service's name and its options.
        @param within: a command that runs another, as C{ip netns exec NAME}.
        @param directory: where its log is, and where it is started.
        @param settings: C{{"section.key": text}}.
        """
        self.name = name
        self.port = port
        self._arguments = arguments
        self._within = tuple(within)
        self._directory = directory
        self._settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        """The process's id; only while it was started."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """All that it has written, over all of its lives."""
        return self._directory / f"{self.name}.log"

    def start(self, extra: Mapping[str, str] | None = None) -> None:
        """
        Start it; does not wait until it is well.

        @param extra: settings of this life only, as C{faults}.
        """
        assert not self.alive, f"{self.name} runs already"
        settings = self._settings | dict(extra or {})
        options = [part for path, text in settings.items() for part in ("--set", f"{path}={text}")]
        twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FABRIC_")}
        environment["PYTHONPATH"] = str(SOURCES)
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*self._within, *twistd, *self._arguments, *options],
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def await_well(self, seconds: float = PATIENCE) -> None:
        """
        Wait for its C{/health}.

        @raise AssertionError: it ended, or is not well in time; with the end
            of its log.
        """
        try:
            await_true(lambda: not self.alive or healthy(self.port), f"{self.name} is well", seconds)
            assert self.alive, f"{self.name} ended"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None

    def tail(self, size: int = 4000) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-size:].decode(errors="replace") if self.log.exists() else ""

    def kill(self) -> None:
        """C{kill -9}.  Nothing when it does not run."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def stop(self, seconds: float = PATIENCE) -> int:
        """
        End it as systemd would, by SIGTERM, then by SIGKILL.

        @return: its exit status.
        """
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                return self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def await_end(self, seconds: float = PATIENCE) -> None:
        """
        Wait until it has ended, by itself or by a fault point.
        """
        await_true(lambda: not self.alive, f"{self.name} has ended", seconds, 0.02)
