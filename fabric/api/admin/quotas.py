"""
Admin actions on what projects may use.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.admin.registry import action
from fabric.cloud.access import Caller
from fabric.cloud.quotas import Quotas
from fabric.users.interface import IDirectory

Result = Generator[Deferred[Any], Any, Any]


class QuotaActions:
    """
    Limits of the projects that there are: a misspelled one is told of, and
    does not get limits that nobody will ever meet.
    """

    def __init__(self, quotas: Quotas, directory: IDirectory) -> None:
        self._quotas = quotas
        self._directory = directory

    @action
    @inlineCallbacks
    def DescribeQuota(self, caller: Caller, project: str) -> Result:
        """A project's limits and what it uses of them."""
        yield self._directory.project(project)
        limits = yield self._quotas.limits(project)
        usage = yield self._quotas.usage(project)
        return {name: {"limit": limit, "used": usage.get(name, 0)} for name, limit in limits.items()}

    @action
    @inlineCallbacks
    def ModifyQuota(self, caller: Caller, project: str, limits: dict[str, int]) -> Result:
        """Change limits; a negative one returns to the default."""
        yield self._directory.project(project)
        yield self._quotas.set(caller, project, limits)
