"""
The C{aws} command's own program, kept ready: each line in is a JSON list of
arguments, each line out the status and what was written.

Run by the interpreter of the C{aws} command, whose start, and reading of EC2's
model, would take most of a test's time otherwise.  The program is written for
one command, so each is carried out in a child that has all that was read.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

WARMING = ["--endpoint-url", "http://127.0.0.1:9", "ec2", "describe-regions"]
"""Reads everything, and is answered by nobody."""


def carried_out(driver: Any, arguments: list[str]) -> list[Any]:
    """
    @return: the status and what was written to each stream.
    """
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = driver.main(arguments)
        except SystemExit as ended:
            status = ended.code
    return [status, out.getvalue(), err.getvalue()]


def main() -> None:
    """
    Serve until the end of the input.
    """
    from awscli.clidriver import create_clidriver

    driver = create_clidriver()
    carried_out(driver, WARMING)
    while line := sys.stdin.readline():
        child = os.fork()
        if not child:
            sys.stdout.write(json.dumps(carried_out(driver, json.loads(line))) + "\n")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
