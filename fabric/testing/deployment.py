"""
A whole cloud of real processes: all in one, or every service by itself.

Everything here blocks; a test calls it by C{deferToThread}.  Each process ends
with the test, by L{AllInOne.stop} or L{Deployment.stop} or, when a test broke
down, at the interpreter's exit.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from fabric.testing.processes import TwistdProcess, free_port

BRISK = {
    "controller.report_interval": "0.5",
    "controller.service_down_time": "3",
    "controller.sweep_interval": "0.3",
    "controller.resend_seconds": "1.5",
    "compute.adopt_interval": "5",
    "fake.boot_seconds": "0.05",
    "fake.stop_seconds": "0.02",
}
"""Settings for tests: what an operator waits minutes for happens in seconds."""


def credentials(cloudrc: Path) -> dict[str, str]:
    """
    What a C{cloudrc} exports, values unquoted.
    """
    found = {}
    for line in cloudrc.read_text().splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "export":
            words = words[1:]
        for word in words:
            name, equals, value = word.partition("=")
            if equals:
                found[name] = value
    return found


class AllInOne:
    """
    C{twistd -n cloud} on a port and a directory of its own.

    @ivar process: the one process; Redis is its child.
    @ivar port: of the EC2 door.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        """
        @param directory: where logs and data go; the data are in C{data}.
        """
        self.port = free_port()
        self.data = directory / "data"
        directory.mkdir(parents=True, exist_ok=True)
        arguments = ["cloud", "--data", str(self.data), "--ec2", f"tcp:{self.port}:interface=127.0.0.1"]
        self.process = TwistdProcess("cloud", arguments, directory, self.port, settings or {})

    def start(self, extra: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it is well; again after an end."""
        self.process.start(extra)
        self.process.await_well()

    @property
    def access_key(self) -> str:
        """The administrator's."""
        return credentials(self.data / "cloudrc")["AWS_ACCESS_KEY_ID"]

    @property
    def secret_key(self) -> str:
        """The administrator's."""
        return credentials(self.data / "cloudrc")["AWS_SECRET_ACCESS_KEY"]

    def kill(self) -> None:
        """C{kill -9}; its child ends by itself."""
        self.process.kill()

    def stop(self) -> None:
        """End it in peace."""
        self.process.stop()
