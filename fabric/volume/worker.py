"""
The volume worker: what one host stores for guests.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger
from zope.interface import implementer

from fabric.faults import IFaults, NoFaults
from fabric.model.codec import decode, encode
from fabric.rpc.interface import Context
from fabric.volume.interface import IVolumeDriver, IVolumeWorker, VolumeOrder

NOBODY = Context()
"""The context of work that no message asked for."""


@implementer(IVolumeWorker)
class VolumeWorker:
    """
    See L{IVolumeWorker}.  The driver's typed errors are the caller's.
    """

    log = Logger()

    def __init__(self, host: str, driver: IVolumeDriver, faults: IFaults | None = None) -> None:
        self._host = host
        self._driver = driver
        self._faults = faults or NoFaults()

    @inlineCallbacks
    def create(self, volume: dict[str, Any], context: Context = NOBODY) -> Generator[Deferred[Any], Any, str]:
        """See L{IVolumeWorker.create}."""
        order = decode(VolumeOrder, volume)
        yield self._driver.create(order)
        self._faults.reach("volume.created")
        self.log.info("{request_id}: {id} is here", request_id=context.request_id, id=order.id)
        return self._host

    @inlineCallbacks
    def delete(self, id: str, context: Context = NOBODY) -> Generator[Deferred[Any], Any, None]:
        """See L{IVolumeWorker.delete}."""
        yield self._driver.delete(id)
        self._faults.reach("volume.deleted")
        self.log.info("{request_id}: {id} is gone", request_id=context.request_id, id=id)

    @inlineCallbacks
    def describe_volumes(self, context: Context = NOBODY) -> Generator[Deferred[Any], Any, list[dict[str, Any]]]:
        """See L{IVolumeWorker.describe_volumes}."""
        volumes = yield self._driver.volumes()
        return [encode(volume) for volume in volumes]
