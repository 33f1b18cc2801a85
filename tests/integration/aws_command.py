"""
The C{aws} command: each time by itself, or kept running for many commands.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import IO, Any

RESIDENT = Path(__file__).with_name("aws_resident.py")


def aws_command() -> str:
    """
    Where the C{aws} command is: C{FABRIC_TEST_AWS}, or what C{scripts/test}
    installed beside the sources.
    """
    here = Path(__file__).resolve().parents[2] / ".venv-awscli" / "bin" / "aws"
    return os.environ.get("FABRIC_TEST_AWS") or str(here)


class AwsFailed(Exception):
    """
    The command ended with an error.

    @ivar code: EC2's, or empty when it did not get so far.
    """

    def __init__(self, text: str) -> None:
        Exception.__init__(self, text)
        self.code = text.partition("An error occurred (")[2].partition(")")[0]


class AwsCommand:
    """
    C{aws ec2} with an account.  Blocks.
    """

    def __init__(self, url: str, access_key: str, secret_key: str) -> None:
        self._common = ["--endpoint-url", url, "--output", "json", "ec2"]
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": "nova",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_PAGER": "",
        }
        self._resident: subprocess.Popen[str] | None = None

    def once(self, *arguments: str) -> dict[str, Any]:
        """
        By the command itself, as a user types it.

        @raise AwsFailed: it ended with an error.
        """
        argv = [aws_command(), *self._common, *arguments]
        done = subprocess.run(argv, env=self._environment, capture_output=True, text=True, timeout=240)
        return _answer(done.returncode, done.stdout, done.stderr)

    def ask(self, *arguments: str) -> dict[str, Any]:
        """
        The same by one process for all.

        @return: what it wrote, or nothing when it wrote nothing.
        @raise AwsFailed: it ended with an error.
        """
        if self._resident is None:
            self._resident = self._start()
        to, answers = self._resident.stdin, self._resident.stdout
        assert to is not None and answers is not None
        to.write(json.dumps([*self._common, *arguments]) + "\n")
        to.flush()
        return _answer(*json.loads(_line(answers)))

    def close(self) -> None:
        """End that process."""
        if self._resident is not None:
            self._resident.communicate(timeout=240)
            self._resident = None

    def _start(self) -> subprocess.Popen[str]:
        argv = [str(Path(aws_command()).with_name("python")), str(RESIDENT)]
        return subprocess.Popen(argv, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(stream: IO[str]) -> str:
    line = stream.readline()
    assert line, "the resident aws command ended"
    return line


def _answer(status: int, out: str, err: str) -> dict[str, Any]:
    if status:
        raise AwsFailed(err.strip())
    answer: dict[str, Any] = json.loads(out) if out.strip() else {}
    return answer
