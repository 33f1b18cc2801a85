"""
The way of guests to their files.

As Debian has it, libvirt runs guests as an account of their own.  It gives them
the files that a guest names, for as long as it runs; through the directories
which those are in nobody lets them but us.  They may then enter, and neither
list nor read what is not theirs.

Everything here blocks.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from xml.etree.ElementTree import fromstring

from twisted.logger import Logger

from fabric.errors import DriverFailure

ENTER = 0o011


class Passage:
    """
    @ivar account: the user id that guests have; None when they are root's, or
        this service's own.
    """

    log = Logger()

    def __init__(self, directory: str) -> None:
        """
        @param directory: ours, with all that is below it; absolute.
        """
        self._directory = directory
        self.account: int | None = None

    def learn(self, connection: Any) -> None:
        """
        Ask libvirt whose the guests are; say so when those can't even get to
        our directory.
        """
        label = _label(connection.getCapabilities())
        self.account = None if label in (None, 0, os.geteuid()) else label
        shut = self._shut(os.path.dirname(self._directory))
        if shut:
            self.log.warn(
                "guests run as {account}, who may not enter {directory}: keep the data elsewhere, or let them",
                account=_name(self.account),
                directory=shut,
            )

    def open(self, paths: Iterable[str]) -> None:
        """
        Let guests come to these files, as far as they are in our directory.

        @raise DriverFailure: a directory is another's.
        """
        if self.account is None:
            return
        for path in paths:
            at = os.path.dirname(path)
            while f"{at}/".startswith(f"{self._directory}/"):
                self._let_in(at)
                at = os.path.dirname(at)

    def _let_in(self, directory: str) -> None:
        try:
            if self._closed(directory):
                os.chmod(directory, stat.S_IMODE(os.stat(directory).st_mode) | ENTER)
        except OSError as error:
            raise DriverFailure(
                what=f"guests can't be let into {directory}, which they need: {error.strerror}"
            ) from error

    def _closed(self, directory: str) -> bool:
        found = os.stat(directory)
        return found.st_uid != self.account and found.st_mode & ENTER != ENTER

    def _shut(self, directory: str) -> str:
        """@return: the first directory from here upwards that guests may not enter; empty for none."""
        while self.account is not None and directory != os.path.dirname(directory):
            with suppress(FileNotFoundError):
                if self._closed(directory):
                    return directory
            directory = os.path.dirname(directory)
        return ""


def _label(capabilities: str) -> int | None:
    """@return: the user id of guests, as libvirt's discretionary access control has it; None if it has none."""
    for model in fromstring(capabilities).iterfind("host/secmodel"):
        if model.findtext("model") == "dac":
            owner = (model.findtext("baselabel") or "").partition(":")[0].removeprefix("+")
            return int(owner) if owner.isdigit() else None
    return None


def _name(account: int | None) -> str:
    try:
        return pwd.getpwuid(account or 0).pw_name
    except KeyError:
        return str(account)
