"""
What a compute worker does besides bringing machines up and down: it passes
disks, captures, moves and operators' wishes on to who carries these out, and answers
questions.
"""

from __future__ import annotations

import base64
from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.interface import ICloudWorker
from fabric.compute.captures import Captures
from fabric.compute.care import Care
from fabric.compute.disks import Disks
from fabric.compute.driver import IComputeDriver
from fabric.compute.interface import Domain
from fabric.compute.machines import Machines
from fabric.compute.migrations import Migrations
from fabric.compute.reporter import WAIT
from fabric.model.codec import encode
from fabric.rpc.interface import Address, Context, IQueue
from fabric.turns import Turns

NOBODY = Context()
"""The context of work that no message asked for."""


class Answers:
    """
    The base of L{fabric.compute.worker.ComputeWorker}, which gives it its parts.
    """

    _host: str
    _driver: IComputeDriver
    _queue: IQueue
    _clock: IReactorTime
    _turns: Turns
    _machines: Machines
    _disks: Disks
    _captures: Captures
    _care: Care
    _migrations: Migrations

    def attach_disks(self, disks: list[dict[str, Any]], context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.attach_disks}."""
        return self._disks.carry_out(disks, context, self._disks.attach)

    def detach_disks(self, disks: list[dict[str, Any]], context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.detach_disks}."""
        return self._disks.carry_out(disks, context, self._disks.detach)

    def copy_disk(self, volume: str, place: dict[str, str], context: Context = NOBODY) -> Deferred[dict[str, str]]:
        """See L{IComputeWorker.copy_disk}."""
        return maybeDeferred(self._disks.copy, volume, place)

    def capture(self, machines: list[dict[str, Any]], context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.capture}."""
        return self._captures.carry_out(machines, context)

    def migrate(self, orders: list[dict[str, Any]], context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.migrate}."""
        return self._migrations.carry_out(orders, context)

    def receive(self, machine: dict[str, Any], context: Context = NOBODY) -> Deferred[dict[str, str]]:
        """See L{IComputeWorker.receive}."""
        return self._migrations.receive(machine, context)

    def give_up(self, machine: str, order: int, context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.give_up}."""
        return self._migrations.give_up(machine, order, context)

    def pause(self, id: str, context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.pause}."""
        return self._care.pause(id)

    def unpause(self, id: str, context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.unpause}."""
        return self._care.unpause(id)

    def suspend(self, id: str, order: int, context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.suspend}."""
        return self._care.suspend(id, order)

    def resume(self, id: str, order: int, context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.resume}."""
        return self._care.resume(id, order)

    def rescue(self, machine: dict[str, Any], context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.rescue}."""
        return self._care.rescue(machine, context)

    def unrescue(self, machine: dict[str, Any], context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.unrescue}."""
        return self._care.unrescue(machine, context)

    def statistics(self, id: str, context: Context = NOBODY) -> Deferred[dict[str, Any]]:
        """See L{IComputeWorker.statistics}."""
        return self._care.statistics(id)

    def claim(self, instances: list[str], context: Context = NOBODY) -> Deferred[None]:
        """See L{IComputeWorker.claim}."""
        cloud: ICloudWorker = self._queue.caster(ICloudWorker, Address("cloud"), Context(context.request_id, WAIT))
        return cloud.place(self._host, instances)

    @inlineCallbacks
    def console_output(self, id: str, context: Context = NOBODY) -> Generator[Deferred[Any], Any, dict[str, Any]]:
        """See L{IComputeWorker.console_output}."""
        output = yield self._driver.console_output(id)
        return {"output": base64.b64encode(output).decode("ascii"), "timestamp": self._clock.seconds()}

    def screenshot(self, id: str, wake: bool, context: Context = NOBODY) -> Deferred[dict[str, Any]]:
        """See L{IComputeWorker.screenshot}."""
        shot: Deferred[Any] = self._driver.screenshot(id, wake)
        return shot.addCallback(lambda image: {"image": base64.b64encode(image).decode("ascii")})

    @inlineCallbacks
    def describe_machines(self, context: Context = NOBODY) -> Generator[Deferred[Any], Any, list[dict[str, Any]]]:
        """See L{IComputeWorker.describe_machines}."""
        domains = yield self._domains()
        return [encode(domain) for domain in domains]

    @inlineCallbacks
    def _domains(self) -> Generator[Deferred[Any], Any, list[Domain]]:
        """
        What there is.  One that is down while an order about it is being
        carried out may be so for a moment only: what becomes of it is reported.
        """
        found = yield self._driver.domains()
        return [self._settled(domain) for domain in found]

    def _settled(self, domain: Domain) -> Domain:
        before = self._machines.get(domain.id)
        if before is None or before.state != "running" or not self._turns.busy(domain.id):
            return domain
        return attrs.evolve(domain, state=before.state, condition=before.condition)
