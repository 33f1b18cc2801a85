"""
Admin actions on guests of any project.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.admin.registry import action
from fabric.cloud.access import Caller
from fabric.cloud.cloud import Cloud

Result = Generator[Deferred[Any], Any, Any]


class GuestActions:
    """
    Answers from the cloud's logic.
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @action
    def PauseInstance(self, caller: Caller, instance: str) -> Deferred[None]:
        """Have a guest stand still, in its host's memory."""
        return self._cloud.care.pause(caller, instance)

    @action
    def UnpauseInstance(self, caller: Caller, instance: str) -> Deferred[None]:
        """Have a paused guest go on."""
        return self._cloud.care.unpause(caller, instance)

    @action
    def SuspendInstance(self, caller: Caller, instance: str) -> Deferred[None]:
        """Have a guest's memory on its host's disk."""
        return self._cloud.care.suspend(caller, instance)

    @action
    def ResumeInstance(self, caller: Caller, instance: str) -> Deferred[None]:
        """Have a suspended guest go on where it was."""
        return self._cloud.care.resume(caller, instance)

    @action
    def RescueInstance(self, caller: Caller, instance: str) -> Deferred[None]:
        """Boot a guest from a new disk of its image, its own disk as the second."""
        return self._cloud.care.rescue(caller, instance)

    @action
    def UnrescueInstance(self, caller: Caller, instance: str) -> Deferred[None]:
        """Boot a rescued guest from its own disk again."""
        return self._cloud.care.unrescue(caller, instance)

    @action
    def DescribeInstanceUse(self, caller: Caller, instance: str) -> Deferred[dict[str, Any]]:
        """What a guest used since it was booted."""
        return self._cloud.care.statistics(caller, instance)

    @action
    @inlineCallbacks
    def GetInstanceConsole(self, caller: Caller, instance: str) -> Result:
        """The last 64 KiB of a guest's serial console."""
        console = yield self._cloud.care.console(caller, instance)
        return {"output": console.output.decode(errors="replace"), "read_at": console.timestamp}
