"""
What a guest shows by itself: its screen, and the password that it made.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.cloud.instances import CONSOLE_SECONDS, Instances
from fabric.compute.interface import IComputeWorker
from fabric.errors import NotFound, WrongState
from fabric.rpc.interface import Address, Context, IQueue

_PASSWORD = re.compile(rb"<Password>\s*([A-Za-z0-9+/=\s]{1,4096}?)\s*</Password>")


@attrs.frozen
class Password:
    """
    @ivar data: base64 of the password, encrypted for the instance's key pair;
        empty while the guest has not printed one.
    @ivar timestamp: when it was looked for, in seconds since the epoch.
    """

    data: str
    timestamp: float


class Guests:
    """
    Asks hosts about guests.
    """

    def __init__(self, instances: Instances, queue: IQueue) -> None:
        self._instances = instances
        self._queue = queue

    @inlineCallbacks
    def password(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, Password]:
        """
        The last password that the guest printed to its console, as EC2Config
        does between C{<Password>} and C{</Password>}.

        @raise NotFound: the instance is not the caller's.
        """
        console = yield self._instances.console_output(caller, id)
        found = _PASSWORD.findall(console.output)
        data = b"".join(found[-1].split()).decode("ascii") if found else ""
        return Password(data, console.timestamp)

    @inlineCallbacks
    def screenshot(self, caller: Caller, id: str, wake: bool = False) -> Generator[Deferred[Any], Any, bytes]:
        """
        A picture, PNG or JPEG, of what the guest's display shows.

        @param wake: whether to press a key first, for a display that sleeps.
        @raise NotFound: the instance is not the caller's.
        @raise WrongState: it does not run.
        """
        [instance] = yield self._instances.get(caller, [id])
        if instance.state != "running":
            raise WrongState("instance", id, instance.state, ["running"])
        address = Address("compute", instance.host)
        remote = self._queue.caller(IComputeWorker, address, Context(caller.request_id, CONSOLE_SECONDS))
        try:
            answer = yield remote.screenshot(id, wake)
        except (NotFound, WrongState):
            raise WrongState("instance", id, "stopped", ["running"]) from None
        return base64.b64decode(answer["image"])
