"""
The command line of the services.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.python import usage

from fabric import settings
from fabric.settings import BadSettings, Settings


class ServiceOptions(usage.Options):
    """
    Options that every service has: short names for settings that differ
    between services on one host, and C{--set} for all others.

    @ivar settings: after parsing, all settings of the process.
    @ivar shorthands: the setting behind each option.
    """

    shorthands = {
        "data": "data_dir",
        "host": "host",
        "zone": "zone",
        "queue": "queue.url",
        "store": "store.url",
        "ldap": "ldap.url",
        "operations": "operations.endpoint",
    }
    optParameters = [
        ["settings", "c", None, "A TOML file of settings; see etc/fabric.toml."],
        ["data", "d", None, "Directory of the embedded parts and fake drivers."],
        ["host", None, None, "This host's name in the cloud."],
        ["zone", None, None, "This host's availability zone."],
        ["queue", None, None, "The queue's URL."],
        ["store", None, None, "The store's URL."],
        ["ldap", None, None, "The directory's URL."],
        ["operations", None, None, "Endpoint of /health and /metrics."],
    ]
    settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self._assigned: list[tuple[str, str]] = []

    def opt_set(self, text: str) -> None:
        """Set any setting, as section.key=value; may be repeated."""
        path, equals, value = text.partition("=")
        if not equals:
            raise usage.UsageError(f"--set needs section.key=value, not {text}")
        self._assigned.append((path.strip(), value))

    def postOptions(self) -> None:
        """
        Load the settings.

        @raise SystemExit: with one line, when they can't be meant.
        """
        short = [(path, self[name]) for name, path in self.shorthands.items() if self[name] is not None]
        file = self["settings"] or os.environ.get(settings.FILE_VARIABLE)
        try:
            self.settings = settings.load(file, os.environ, [*short, *self._assigned])
        except BadSettings as failure:
            raise SystemExit(f"{self.command()}: {failure}") from None

    def command(self) -> str:
        """
        The service's name, for messages.
        """
        return getattr(self.parent, "subCommand", None) or os.path.basename(sys.argv[0])

    def twistd(self, name: str) -> Any:
        """
        The value of one of C{twistd}'s own options, None where it has none.
        """
        return None if self.parent is None else self.parent.get(name)


class DoorOptions(ServiceOptions):
    """
    Options of a service that has a door.
    """

    shorthands = {**ServiceOptions.shorthands, "ec2": "api.endpoint"}
    optParameters = [["ec2", None, None, "Endpoint of the EC2 door."]]
