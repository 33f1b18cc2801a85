"""
Dead letters: casts that kept failing, or that no worker could read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

from fabric.rpc.interface import Address, IListener

OnDead = Callable[[Address, str, dict[str, Any], str], Deferred[None]]
"""
Takes the address, the method, its arguments and the reason; the letter is taken
off the queue when the Deferred fires, and is offered again when it fails.
"""


@attrs.frozen
class DeadLetter:
    """
    A cast that was given up.
    """

    address: Address
    method: str
    arguments: dict[str, Any]
    reason: str


class IDeadLetters(Interface):
    """
    Where a queue's dead letters can be taken from; each queue provides it.
    """

    def listen_dead(callback: OnDead) -> Deferred[IListener]:
        """
        Hand every dead letter, also those that wait already, to C{callback},
        so that what the message was about can be marked as failed.
        """
