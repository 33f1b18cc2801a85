"""
The entry point of C{cloud-manage}.

Exit status: 0 done, 1 the answer is no (C{check} found something, a role is not
had), 2 bad usage, 3 refused by the cloud, 4 no cloud there, 5 done but the answer
could not be written, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from fabric.manage.client import Client, Credentials, Refused, Unreachable
from fabric.manage.cloudrc import NoCloud, credentials
from fabric.manage.command import Command
from fabric.manage.commands import commands
from fabric.manage.table import plain

NO, USAGE, REFUSED, ABSENT, UNWRITTEN, INTERRUPTED = 1, 2, 3, 4, 5, 130
_STATUSES = (
    "Exit status: 0 done, 1 the answer is no, 2 bad usage, 3 refused by the cloud, 4 no cloud there, "
    "5 done but the answer could not be written."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command.

    @return: the exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in a locale that lacks a letter, it is shown as \xe9
            stream.reconfigure(errors="backslashreplace")
    try:
        return run(sys.argv[1:] if arguments is None else arguments, os.environ, sys.stdout, sys.stderr)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # as of "| head"
        _close_output()
        return 0
    except OSError as error:
        _close_output()
        return _fail(sys.stderr, f"the answer can't be written: {error.strerror}", UNWRITTEN)


def _close_output() -> None:
    """Nothing more can be written, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: Sequence[str], environment: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    """
    L{main} with its surroundings given.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if not hasattr(given, "command"):
        given.help.print_help(out)
        return USAGE
    try:
        found = credentials(given.data, given.cloudrc, environment)
        command: Command = next(each for each in commands(found) if each.words == given.command)
        result = command.run(Client(found), given)
    except NoCloud as error:
        return _fail(err, str(error), ABSENT)
    except Unreachable as error:
        return _fail(err, str(error), ABSENT)
    except Refused as error:
        asked = f" (request {error.request_id})" if error.request_id else ""
        return _fail(err, f"{error.code}: {error}{asked}", REFUSED)
    print(json.dumps(result, indent=2) if given.json else command.show(result), file=out, flush=True)
    return NO if command.failed(result) else 0


def _fail(err: TextIO, line: str, status: int) -> int:
    print(f"cloud-manage: {plain(line)}", file=err)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "cloud-manage", description="Manage a cloud through its admin door.", epilog=_STATUSES
    )
    parser.add_argument("--data", metavar="DIR", help="data directory of a cloud on this machine (./cloud-data)")
    parser.add_argument("--cloudrc", metavar="FILE", help="a cloudrc file to use in place of the environment")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.set_defaults(help=parser)
    nouns = parser.add_subparsers(metavar="COMMAND")
    groups: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for command in commands(Credentials("", "", "")):
        noun, _, verb = command.words.partition(" ")
        if not verb:
            leaf = nouns.add_parser(noun, help=command.help)
        else:
            if noun not in groups:
                branch = nouns.add_parser(noun, help=f"{noun}s: {_verbs(noun)}")
                branch.set_defaults(help=branch)
                groups[noun] = branch.add_subparsers(metavar="VERB")
            leaf = groups[noun].add_parser(verb, help=command.help, description=command.help.capitalize() + ".")
        for each in command.arguments:
            leaf.add_argument(*each.names, **each.options)
        leaf.set_defaults(command=command.words)
    return parser


def _verbs(noun: str) -> str:
    words = [command.words.split() for command in commands(Credentials("", "", ""))]
    return ", ".join(each[1] for each in words if each[0] == noun)


if __name__ == "__main__":
    sys.exit(main())
