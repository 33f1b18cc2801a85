"""
Fencing: a host that is silent is made dead for sure, before its guests are
started elsewhere.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, inlineCallbacks
from twisted.logger import Logger
from zope.interface import Interface, implementer

from fabric.cloud.evacuation import Evacuation
from fabric.cloud.hosts import Hosts
from fabric.cloud.retry import until_written
from fabric.errors import DriverFailure
from fabric.faults import IFaults
from fabric.model.host import Service
from fabric.store.interface import IStore

AT_ONCE = 16
"""Hosts that are fenced, and cleared, at the same time: many die together, with what feeds a rack."""


class IFence(Interface):
    """
    Cuts hosts off.
    """

    def fence(host: str) -> Deferred[bool]:
        """
        Make sure that nothing runs on a host any more: that its power is off.
        Repeating must be safe.

        @return: whether that is so; False where nobody can tell, when the
            host's guests stay where they are.
        @raise DriverFailure: it could not be done; to be tried again.
        """


@implementer(IFence)
class NoFence:
    """
    Nobody can tell: dead hosts keep what they have until they are back.
    """

    @inlineCallbacks
    def fence(self, host: str) -> Generator[Deferred[Any], Any, bool]:
        """See L{IFence.fence}."""
        yield from ()
        return False


class Fencing:
    """
    Looks for hosts of which every service is silent, has each fenced, notes
    that, and has what it had started elsewhere.  Any number of controllers may
    do so at once.
    """

    log = Logger()

    def __init__(self, store: IStore, hosts: Hosts, evacuation: Evacuation, fence: IFence, faults: IFaults) -> None:
        self._store = store
        self._hosts = hosts
        self._evacuation = evacuation
        self._fence = fence
        self._faults = faults

    @inlineCallbacks
    def turn(self) -> Generator[Deferred[Any], Any, None]:
        """
        One look at all hosts.  One that can't be fenced, or takes its time,
        keeps no other waiting.

        @raise Exception: the first thing that went wrong, after all hosts were
            dealt with.
        """
        services = yield self._hosts.records()
        talking = {service.host for service in services if service.alive}
        silent = [each for each in services if each.topic == "compute" and each.host not in talking]
        slots = DeferredSemaphore(AT_ONCE)
        done = yield DeferredList([slots.run(self._clear, each) for each in silent], consumeErrors=True)
        for well, result in done:
            if not well:
                result.raiseException()

    @inlineCallbacks
    def _clear(self, service: Service) -> Generator[Deferred[Any], Any, None]:
        """
        Have a host fenced, if it is not, and then what it had started elsewhere.
        """
        if service.fenced or (yield self._fenced(service.id, service.host)):
            yield self._evacuation.evacuate("fencing", service.host)

    @inlineCallbacks
    def _fenced(self, id: str, host: str) -> Generator[Deferred[Any], Any, bool]:
        try:
            dead = yield self._fence.fence(host)
        except DriverFailure as error:
            self.log.error("{host} is silent and could not be fenced: {error}", host=host, error=error)
            return False
        if not dead:
            return False
        self.log.warn("{host} is silent and was fenced: what it had is started elsewhere", host=host)
        self._faults.reach("cloud.fenced")
        return (yield until_written(lambda: self._note(id)))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _note(self, id: str) -> Generator[Deferred[Any], Any, bool]:
        """
        @return: whether the host is still silent.
        """
        [stored] = yield self._store.read(Service, [id])
        if stored is None or stored.record.alive:
            return False
        if not stored.record.fenced:
            transaction = self._store.transaction("fencing")
            transaction.update(stored, attrs.evolve(stored.record, fenced=True))
            yield self._store.commit(transaction)
            self._faults.reach("cloud.fence_written")
        return True
